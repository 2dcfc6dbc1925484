"""What was measured when, on what: the store of measurements, verdicts, baselines and reference artifacts.

The functions here are what other rooms call; each opens the store that ``EDGECONV_HISTORY`` or its argument
``store`` names (the path of a file, or a URL of PostgreSQL), and the database's libraries are imported only
then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeconv.latency.channels import Launch
    from edgeconv.latency.decisions import Decision
    from edgeconv.latency.records import Artifact, DeviceFacts, Measurement, Setting

__all__ = ["baseline_artifact", "record_decision", "record_measurements", "reference_artifact"]


def baseline_artifact(name: str, like: str | None = None, *, store: str | None = None) -> Path:
    """The artifact that was named with ``edgeconv history set-baseline NAME``, as a file (or folder).

    Args:
        name: of the baseline.
        like: file name of the candidate, where the name stands for several models.
        store: where the history is.

    Raises:
        UsageError: there is none of that name, or its file was not kept.
        UnavailableError: the store cannot be reached.
    """
    from edgeconv.history.naming import fetch, find_baseline
    from edgeconv.history.store import open_store

    with open_store(store) as opened:
        found = find_baseline(opened, name, like)
        return fetch(opened, found.sha256, found.file_name)


def reference_artifact(format_name: str, *, store: str | None = None) -> Path | None:
    """The frozen reference artifact of a format, to be measured beside others; ``None`` where none is set.

    Raises:
        UsageError: its file was not kept.
        UnavailableError: the store cannot be reached.
    """
    from edgeconv.history.naming import fetch, references
    from edgeconv.history.store import open_store

    with open_store(store) as opened:
        for one in references(opened):
            if one.name == format_name:
                return fetch(opened, one.sha256, one.file_name)
    return None


def record_measurements(
    measurements: Sequence[Measurement], *, store: str | None = None, command: str = ""
) -> list[str]:
    """Keep what ``bench`` measured; gives the keys. Ratios are kept where a reference was measured beside.

    Raises:
        UsageError: a measurement that cannot be kept.
        UnavailableError: the store cannot be reached.
    """
    from edgeconv.history import measured
    from edgeconv.history.naming import reference_hashes
    from edgeconv.history.store import open_store

    with open_store(store) as opened:
        return measured.record_measurements(
            opened, measurements, references=reference_hashes(opened), command=command
        )


def record_decision(
    decisions: Sequence[Decision],
    artifacts: Mapping[str, Artifact],
    device: DeviceFacts,
    settings: Mapping[str, Setting],
    launches: Sequence[Launch] = (),
    *,
    quantity: str = "latency",
    reference: str | None = None,
    details: Mapping[str, Any] | None = None,
    command: str = "",
    store: str | None = None,
) -> str:
    """Keep what ``regress`` decided, and with ``launches`` the samples; gives the key of the run.

    See :func:`edgeconv.history.decided.record_decisions`; ``artifacts`` and ``settings`` are by the names of
    the models in decisions and launches, ``reference`` is the name of the one that is the frozen reference;
    without it the one whose artifact was set as one, if there is one.

    Raises:
        UsageError: nothing is said of a model.
        UnavailableError: the store cannot be reached.
    """
    from edgeconv.history.decided import record_decisions
    from edgeconv.history.naming import reference_hashes
    from edgeconv.history.store import open_store

    with open_store(store) as opened:
        if reference is None:
            frozen = reference_hashes(opened)
            reference = next((name for name, one in artifacts.items() if one.sha256 in frozen), None)
        return record_decisions(
            opened,
            decisions,
            artifacts,
            device,
            settings,
            launches,
            quantity=quantity,
            reference=reference,
            details=details,
            command=command,
        )
