"""What one measurement is, and its JSON: the one form that ``bench`` writes and ``history`` keeps.

A *measurement* is one artifact in one setting (device, runtime, threads, accelerator) over several launches,
each a fresh process. Measurements of one run were made in turns and share its ``run`` and the numbers of
their launches: launch n of one was made beside launch n of the other.

All times are whole nanoseconds of the device's monotonic clock unless a name says ``seconds``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from edgeconv.errors import UsageError

VERSION = 1
"""Of the JSON; a file of a later one is refused."""
KIND = "edgeconv-measurements"
MOST_BYTES = 1 << 30
LEAST_TRUSTED = 6
"""Launches, of which a distribution-free interval at 95 % can be made."""

Nanoseconds = npt.NDArray[np.int64]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Artifact:
    """What was measured.

    Attributes:
        path: as it was given.
        sha256: of the file; of a folder that of the hashes and names of all its files.
        bytes: of all its files.
        format: registered name (``tflite``).
        precision: ``fp32``, ``int8``, …; ``None`` where the file does not tell.
    """

    path: str
    sha256: str
    bytes: int
    format: str
    precision: str | None = None


@dataclass(frozen=True)
class DeviceFacts:
    """Where it was measured.

    Attributes:
        name: of the device.
        kind: how it is reached (``local``, ``ssh``, ``emulated``).
        emulated: whether its times say nothing of a real board; never compared with real ones.
        target: the target it is said to be.
        facts: what its agent said of it (``edgeconv devices probe --json``).
    """

    name: str
    kind: str
    emulated: bool = False
    target: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """How it was run.

    Attributes:
        runtime: name.
        version: of the runtime.
        threads: asked for.
        accelerator: asked for; ``None`` left it to the runtime.
        placement: where the ops ran (:class:`edgeconv.runtimes.base.Placement` as a mapping); ``None`` where
            the runtime does not tell.
    """

    runtime: str
    version: str
    threads: int = 1
    accelerator: str | None = None
    placement: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Spoiled:
    """One reason not to trust a launch.

    Attributes:
        kind: ``heat``, ``throttle``, ``frequency`` or ``load``.
        what: what was seen, for a person.
    """

    kind: str
    what: str


@dataclass(frozen=True)
class LaunchRecord:
    """One fresh process.

    Attributes:
        number: of the launch within its run; launches of one number were made one after the other.
        place: its place among those of its number.
        load_seconds: loading the model, the runtime's library not included.
        first_ns: the first inference after loading.
        warm: samples of the warm-up, shape (n,).
        samples: shape (bursts, samples of a burst).
        columns: of each burst, shape (bursts,): see :data:`edgeconv.agent.measure.COLUMNS`.
        steady: whether the samples had settled when the first burst began.
        readings: of the sensors, see :meth:`edgeconv.agent.sensors.Sensors.read`.
        nanoseconds: of all bursts with what lies between them.
        peak_bytes: most memory the process had; ``None`` where the system does not tell.
        import_bytes: what it had before the model was loaded, the runtime's library included.
        quiet: whether no heartbeat ran beside the inferences.
        spoiled: reasons not to trust it; such launches are kept and not counted.
        cooled_seconds: how long was waited before it for the device to cool down.
    """

    number: int
    place: int
    load_seconds: float
    first_ns: int | None
    warm: Nanoseconds
    samples: Nanoseconds
    columns: Mapping[str, Nanoseconds]
    steady: bool
    readings: tuple[Mapping[str, Any], ...]
    nanoseconds: int
    peak_bytes: int | None = None
    import_bytes: int | None = None
    quiet: bool = True
    spoiled: tuple[Spoiled, ...] = ()
    cooled_seconds: float = 0.0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LaunchRecord) and _plain(self) == _plain(other)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Measurement:
    """One artifact in one setting, over several launches.

    Attributes:
        run: made once a run of the harness; measurements that have it in common were made in turns.
        at: when the run began, UTC, ISO 8601.
        artifact: what.
        device: where.
        setting: how.
        launches: in the order they were made.
        overhead_ns: what the null model seemed to take there, the median of each of its launches.
        edgeconv: its version.
        commit: of the user's repository where there is one; ``-dirty`` at its end where files differed.
    """

    run: str
    at: str
    artifact: Artifact
    device: DeviceFacts
    setting: Setting
    launches: tuple[LaunchRecord, ...]
    overhead_ns: tuple[float, ...]
    edgeconv: str
    commit: str | None = None

    @property
    def trusted(self) -> tuple[LaunchRecord, ...]:
        """The launches that count: those that nothing spoiled, or all where that leaves too few.

        Below :data:`LEAST_TRUSTED` no interval could be made of them, and where most were spoiled the few
        others are no sample of anything.
        """
        kept = tuple(launch for launch in self.launches if not launch.spoiled)
        return kept if len(kept) >= min(LEAST_TRUSTED, len(self.launches)) else self.launches

    @property
    def label(self) -> str:
        """One line that tells it from others of its run."""
        setting = self.setting
        threads = f", {setting.threads} threads" if setting.threads != 1 else ""
        accelerator = f", {setting.accelerator}" if setting.accelerator else ""
        place = f"{setting.runtime} {setting.version} on {self.device.name}"
        return f"{Path(self.artifact.path).name} ({place}{threads}{accelerator})"


def to_json(measurements: Iterable[Measurement]) -> str:
    """The measurements as one JSON object, an array a line."""
    content = {KIND: VERSION, "measurements": [_plain(each) for each in measurements]}
    return json.dumps(content, indent=None, separators=(",", ":"), allow_nan=False) + "\n"


def as_mapping(measurement: Measurement) -> dict[str, Any]:
    """One measurement as plain JSON values."""
    plain: dict[str, Any] = _plain(measurement)
    return plain


def from_json(text: str, where: str = "measurements") -> tuple[Measurement, ...]:
    """Read what :func:`to_json` wrote.

    Args:
        text: the JSON.
        where: what errors call the place.

    Raises:
        UsageError: it is no such JSON, or of a later version.
    """
    try:
        content = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UsageError("it is no JSON", where=where, why=str(error)) from error
    version = content.get(KIND) if isinstance(content, dict) else None
    if type(version) is not int or version < 1:
        raise UsageError(
            "it holds no measurements", where=where, hint="make some: edgeconv bench MODEL --output FILE.json"
        )
    if version > VERSION:
        raise UsageError(
            f"its version is {version}; this edgeconv reads up to {VERSION}",
            where=where,
            hint="use the edgeconv that wrote it, or a later one",
        )
    return tuple(from_mapping(each, where) for each in _list(content.get("measurements"), where))


def from_mapping(content: Any, where: str = "measurements") -> Measurement:
    """One measurement of plain JSON values.

    Raises:
        UsageError: a field is missing or of another type.
    """
    return _read(Measurement, content, where)


def write(path: Path, measurements: Iterable[Measurement]) -> None:
    """Write a file of measurements.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        path.write_text(to_json(measurements))
    except OSError as error:
        raise UsageError("it cannot be written", where=str(path), why=str(error)) from error


def read(path: Path) -> tuple[Measurement, ...]:
    """Read a file of measurements.

    Raises:
        UsageError: it is none, or too large.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"it is larger than {MOST_BYTES >> 30} GiB", where=str(path))
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("it cannot be read", where=str(path), why=str(error)) from error
    return from_json(text, str(path))


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    return value


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise UsageError("a list is missing", where=where)
    return value


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError("an object is missing", where=where)
    return value


def _scalar(kind: type, *, optional: bool = False) -> Callable[[Any, str], Any]:
    def convert(value: Any, where: str) -> Any:
        if value is None and optional:
            return None
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:
            raise UsageError(f"{value!r:.60} is no {kind.__name__}", where=where)
        return value

    return convert


def _array(dimensions: int) -> Callable[[Any, str], Nanoseconds]:
    def convert(value: Any, where: str) -> Nanoseconds:
        try:
            found = np.array(_list(value, where))
            if not found.size:
                found = found.astype(np.int64)
        except (ValueError, OverflowError) as error:
            raise UsageError("its numbers are no array", where=where, why=str(error)) from error
        if found.dtype != np.int64 or found.ndim != dimensions:
            raise UsageError(f"it is no array of whole numbers of {dimensions} dimensions", where=where)
        return found

    return convert


def _many(convert: Callable[[Any, str], _T]) -> Callable[[Any, str], tuple[_T, ...]]:
    return lambda value, where: tuple(
        convert(each, f"{where}[{place}]") for place, each in enumerate(_list(value, where))
    )


def _columns(value: Any, where: str) -> dict[str, Nanoseconds]:
    convert = _array(1)
    return {name: convert(each, f"{where}.{name}") for name, each in _mapping(value, where).items()}


_BY_ANNOTATION: dict[str, Callable[[Any, str], Any]] = {
    "str": _scalar(str),
    "str | None": _scalar(str, optional=True),
    "int": _scalar(int),
    "int | None": _scalar(int, optional=True),
    "float": _scalar(float),
    "bool": _scalar(bool),
    "tuple[float, ...]": _many(_scalar(float)),
    "Mapping[str, Any]": _mapping,
    "Mapping[str, Any] | None": lambda value, where: None if value is None else _mapping(value, where),
    "tuple[Mapping[str, Any], ...]": _many(_mapping),
    "Mapping[str, Nanoseconds]": _columns,
    "Artifact": lambda value, where: _read(Artifact, value, where),
    "DeviceFacts": lambda value, where: _read(DeviceFacts, value, where),
    "Setting": lambda value, where: _read(Setting, value, where),
    "tuple[Spoiled, ...]": _many(lambda value, where: _read(Spoiled, value, where)),
    "tuple[LaunchRecord, ...]": _many(lambda value, where: _read(LaunchRecord, value, where)),
}
_DIMENSIONS = {"warm": 1, "samples": 2}


def _read(kind: type[_T], value: Any, where: str) -> _T:
    """A dataclass of what JSON has for it; fields that it does not know are passed over."""
    content = _mapping(value, where)
    found = {}
    for each in fields(kind):  # type: ignore[arg-type]
        place = f"{where}.{each.name}"
        if each.name not in content:
            raise UsageError("it is missing", where=place)
        annotation = str(each.type)
        convert = (
            _array(_DIMENSIONS[each.name]) if annotation == "Nanoseconds" else _BY_ANNOTATION[annotation]
        )
        found[each.name] = convert(content[each.name], place)
    return kind(**found)
