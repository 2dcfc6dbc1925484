"""What comes of a node: made, gated, settled, failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeconv.errors import EdgeconvError, GateFailedError
from edgeconv.execution.plan import Attempt, Node
from edgeconv.execution.stage import Stage
from edgeconv.formats.base import Artifact


@dataclass(frozen=True, slots=True)
class Made:
    """An artifact that exists, not yet proven.

    ``replaced`` are the tensors of what it was made from that are meant to compute something else now, as
    JSON takes them (``edgeconv.surgery.changes.Replaced``).
    """

    artifact: Artifact
    attempt: Attempt | None = None
    bytes: int = 0
    seconds: float = 0.0
    peak_rss_bytes: int = 0
    cached: bool = False
    notes: tuple[str, ...] = ()
    replaced: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class FrontEndMade:
    """A front end that was written and compared with the source's own tensors at the cut.

    Attributes:
        value: what the stage returned.
        folder: where its files are.
    """

    value: dict[str, Any]
    folder: Path

    @property
    def at_cut(self) -> Path:
        """The probes as the source itself has them at the cut."""
        return self.folder / str(self.value["cut_probes"]["file"])

    @property
    def by_function(self) -> Path | None:
        """The probes as the written function gives them; ``None`` where there is none."""
        probes = self.value["front_end_probes"]
        return None if probes is None else self.folder / str(probes["file"])

    @property
    def sha256(self) -> str:
        """Of both sets of probes."""
        other = self.value["front_end_probes"]
        return f"{self.value['cut_probes']['sha256']} {other['sha256'] if other else None}"


@dataclass(frozen=True, slots=True)
class Gated:
    """What a gate said, and where the outputs it saw are kept for the next gate."""

    verdict: dict[str, Any]
    observation: Path | None
    key: str
    cached: bool = False

    @property
    def passed(self) -> bool:
        """Whether every output passed."""
        return bool(self.verdict["verdict"] == "pass")

    def nearer_to_a_pass_than(self, other: Gated) -> bool:
        """A gate that could say nothing is better than one that failed."""
        return (other.verdict["verdict"], self.verdict["verdict"]) == ("fail", "skipped")

    def as_error(self, node: Node) -> GateFailedError:
        """The verdict as the reason of a failed attempt."""
        reason = self.verdict.get("reason") or f"the gate says {self.verdict['verdict']}"
        return GateFailedError(reason, where=node.id, hint=self.verdict.get("hint"))


@dataclass(frozen=True, slots=True)
class Failure:
    """One attempt that did not give a proven artifact; ``follows`` where it was not begun for another's."""

    node: str
    conversion: str
    error: EdgeconvError
    stage: Stage | None
    superseded_by: str | None = None
    follows: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """The end of a node: what stands, if anything, and what its gate said."""

    node: Node
    made: Made | None
    gate: Gated | None
    error: EdgeconvError | None = None

    @property
    def usable(self) -> bool:
        """Whether others may be built on it."""
        return self.made is not None and self.gate is not None and self.gate.verdict["verdict"] != "fail"


def skipped(reference: str, reason: str, hint: str | None = None) -> Gated:
    """A gate that could say nothing, and why."""
    verdict: dict[str, Any] = {
        "verdict": "skipped",
        "reference": reference,
        "inputs": [],
        "outputs": [],
        "reason": reason,
        "hint": hint,
    }
    return Gated(verdict, None, "")
