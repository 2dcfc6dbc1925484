"""What is recorded, as plain frozen data: the one form between those who measure and the tables."""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from edgeconv.history.samples import Samples
from edgeconv.history.tables import KEY_LENGTH


def new_id() -> str:
    """A key for something that happened."""
    return uuid.uuid4().hex


def key_of(*parts: Any) -> str:
    """The key of a thing of the world: the beginning of a SHA-256 over what makes it this one."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def clean(value: Any) -> Any:
    r"""What every database and JSON can hold: NUL, lone surrogates and non-finite numbers replaced.

    >>> clean({"name\0": [float("nan"), 1.5, "\ud800"]})
    {'name\ufffd': [None, 1.5, '\ufffd']}
    """
    if isinstance(value, str):
        return "".join("\ufffd" if c == "\0" or 0xD800 <= ord(c) <= 0xDFFF else c for c in value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {clean(str(key)): clean(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(inner) for inner in value]
    return value


@dataclass(frozen=True, slots=True)
class ArtifactEntry:
    """An artifact: ``name`` is its file's, ``bytes`` those of all its files."""

    sha256: str
    name: str
    format: str
    bytes: int
    precision: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceEntry:
    """A device: ``facts`` (JSON) make it this one of all of its name; nothing that changes daily."""

    name: str
    kind: str = "local"
    target: str | None = None
    emulated: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Its key."""
        return key_of(self.name, self.kind, self.emulated, clean(self.facts))


@dataclass(frozen=True, slots=True)
class RuntimeEntry:
    """A runtime, its version, and the accelerator it was asked for."""

    name: str
    version: str | None = None
    accelerator: str | None = None

    @property
    def id(self) -> str:
        """Its key."""
        return key_of(self.name, self.version, self.accelerator)


@dataclass(frozen=True, slots=True)
class RunEntry:
    """One call of edgeconv.

    Attributes:
        time: when it began; with a time zone.
        host: name of the machine that called.
        tools: distribution to version.
        git_commit, git_branch, git_dirty: of the person's repository, where there is one.
        command: what was typed.
        id: random.
    """

    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    host: str = ""
    tools: Mapping[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    git_branch: str | None = None
    git_dirty: bool | None = None
    command: str = ""
    id: str = field(default_factory=new_id)


@dataclass(frozen=True, slots=True)
class Number:
    """A number with its interval; ``unit`` is ``ns``, ``bytes``, ``1/s``, or ``1`` of a ratio."""

    value: float
    low: float | None = None
    high: float | None = None
    unit: str = "ns"


@dataclass(frozen=True, slots=True)
class MeasurementEntry:
    """One artifact measured on one device.

    Attributes:
        artifact, device, runtime, threads: what was measured where.
        label: the model's name over time; that of the artifact's file if empty.
        values: metric to number: ``typical``, ``floor``, ``load``, ``first``, ``memory``, ``bytes``.
        reference: the frozen artifact that was measured in the same launches, if there was one.
        ratios: metric to the ratio artifact / reference in those launches.
        samples: (launch, name) to int64 samples of any shape; launch -1 for what is of no launch.
        marks: reasons to doubt it.
        context: anything else (JSON).
        time: when it was measured.
        id: random.
    """

    artifact: ArtifactEntry
    device: DeviceEntry
    runtime: RuntimeEntry
    threads: int = 1
    label: str = ""
    values: Mapping[str, Number] = field(default_factory=dict)
    reference: ArtifactEntry | None = None
    ratios: Mapping[str, Number] = field(default_factory=dict)
    samples: Mapping[tuple[int, str], Samples] = field(default_factory=dict)
    marks: Sequence[str] = ()
    context: Mapping[str, Any] = field(default_factory=dict)
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    id: str = field(default_factory=new_id)


@dataclass(frozen=True, slots=True)
class VerdictEntry:
    """A candidate beside its baseline.

    Attributes:
        verdict: ``regressed``, ``ok``, ``improved`` or ``inconclusive``.
        quantity: ``latency``, ``load``, ``memory`` or ``bytes``.
        details: the whole decision (JSON).
    """

    baseline: ArtifactEntry
    candidate: ArtifactEntry
    device: DeviceEntry
    baseline_runtime: RuntimeEntry
    candidate_runtime: RuntimeEntry
    verdict: str
    quantity: str = "latency"
    label: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    id: str = field(default_factory=new_id)
