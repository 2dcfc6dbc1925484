"""Where the time of one inference goes, op by op, and what share of it is outside the delegate or provider.

ONNX Runtime has a profiler of its own, which counts whole microseconds. Neither LiteRT's nor
tflite-runtime's Python has one. There the file is *cut*: copies that end after op 1, 2, … are loaded beside
one another in one process and timed in alternating bursts, and what a longer one takes more is the time of
the ops in between. Where a delegate would fuse over a cut, that is charged to the op after it; differences
below the noise are shown as 0.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.devices.base import RuntimeChoice
from edgeconv.devices.client import SILENCE_SECONDS, AgentClient
from edgeconv.devices.session import DeviceSession
from edgeconv.errors import EdgeconvError
from edgeconv.latency.bench import Case
from edgeconv.latency.cutting import cut_after

_RUNS = 50
_AT_ONCE = 14
_ROUNDS = 30
_BURST = 3
_MOST_SECONDS = 120


@dataclass(frozen=True)
class OpTime:
    """One op, or several in a row that were not told apart.

    Attributes:
        name: of the node, or kinds of the ops.
        op: kind.
        by: accelerator that ran it; ``None`` where several did.
        ns: of one inference, the median.
    """

    name: str
    op: str
    by: str | None
    ns: float


@dataclass(frozen=True)
class Profiled:
    """The time of every op.

    Attributes:
        how: what told it, for a person.
        ops: in the order of running.
        outside: share of the time outside the accelerator asked for; ``None`` where times are not known.
        asked: that accelerator.
        reason: why there are no times, where there are none.
    """

    how: str
    ops: tuple[OpTime, ...]
    outside: float | None
    asked: str
    reason: str | None = None

    def by_kind(self) -> list[tuple[str, float, int]]:
        """Kind of op, nanoseconds of all of that kind, and how many; the slowest first."""
        found: dict[str, list[float]] = {}
        for op in self.ops:
            found.setdefault(op.op, []).append(op.ns)
        rows = [(kind, sum(times), len(times)) for kind, times in found.items()]
        return sorted(rows, key=lambda row: -row[1])


def profile(case: Case, *, seconds: float = 5.0) -> Profiled:
    """The time of every op of a case; says why where it cannot be known.

    Args:
        case: artifact and setting.
        seconds: what cutting may take, about.
    """
    try:
        return _profile(case, seconds)
    except EdgeconvError as error:
        return Profiled("", (), None, case.wish.accelerator or "", str(error))


def _profile(case: Case, seconds: float) -> Profiled:
    with DeviceSession(case.device, case.path, case.artifact.format, case.contract, case.wish) as session:
        inputs = case.make_inputs(case.contract, session.inputs)[0]
        took = float(np.median(session.time(inputs, 3))) / 1e9
        runs = max(3, min(_RUNS, int(seconds / max(took, 1e-9))))
        told = session.profile(inputs, runs)
        asked = case.wish.accelerator or ("xnnpack" if case.artifact.format == "tflite" else "cpu")
        if told is None:
            return Profiled("", (), None, asked, f"{session.runtime.name} does not tell its ops")
        nodes = told["nodes"]
        if all(node["ns"] is not None for node in nodes):
            ops = tuple(
                OpTime(str(node["name"]), str(node["op"]), str(node["by"]), float(np.median(node["ns"])))
                for node in nodes
                if node["ns"]
            )
            return Profiled(str(told["how"]), ops, _outside(ops, asked), asked)
        arrays = session.arrays_for(inputs)
        version = case.wish.runtime.version if case.wish.runtime is not None else None
        runtime = RuntimeChoice(session.runtime.name, version)
    if runtime.name not in ("litert", "tflite-runtime"):
        return Profiled("", (), None, asked, f"{runtime.name} tells no times")
    return _by_cutting(case, nodes, runtime, arrays, asked, took, seconds)


def _outside(ops: Sequence[OpTime], asked: str) -> float | None:
    total = sum(op.ns for op in ops)
    return sum(op.ns for op in ops if op.by != asked) / total if total else None


def _by_cutting(
    case: Case,
    nodes: Sequence[Mapping[str, Any]],
    runtime: RuntimeChoice,
    arrays: Sequence[tuple[str, Any]],
    asked: str,
    took: float,
    seconds: float,
) -> Profiled:
    count = len(nodes)
    # Copies are on average half the model, and each runs in every round.
    most = max(2, int(seconds / max(took / 2 * _ROUNDS * _BURST, 1e-6)))
    cuts = sorted({round(count * part / min(count, most)) for part in range(1, min(count, most) + 1)})
    ends = [0.0]
    with tempfile.TemporaryDirectory(prefix="edgeconv-profile-") as folder:
        data = case.path.read_bytes()
        for first in range(0, len(cuts), _AT_ONCE):
            chosen = cuts[first : first + _AT_ONCE]
            # The last cut of the request before is measured again: its own difference is to that.
            again = cuts[first - 1 : first] if first else []
            paths = []
            for cut in (*again, *chosen):
                paths.append(Path(folder) / f"{cut}.tflite")
                if not paths[-1].exists():
                    paths[-1].write_bytes(cut_after(data, cut))
            levels = _levels(case, runtime, paths, arrays)
            shift = ends[-1] - levels[0] if again else 0.0
            ends += [level + shift for level in levels[len(again) :]]
    ops = []
    for begin, end, before, after in zip([0, *cuts[:-1]], cuts, ends[:-1], ends[1:], strict=True):
        part = nodes[begin:end]
        kinds = list(dict.fromkeys(str(node["op"]) for node in part))
        by = {str(node["by"]) for node in part}
        name = f"op {begin}" if end - begin == 1 else f"ops {begin} to {end - 1}"
        ops.append(
            OpTime(name, "+".join(kinds), by.pop() if len(by) == 1 else None, max(0.0, after - before))
        )
    how = f"{len(cuts)} copies of the file, cut after one op each, in alternating bursts"
    mixed = any(op.by is None for op in ops)
    return Profiled(how, tuple(ops), None if mixed else _outside(ops, asked), asked)


def _levels(
    case: Case, runtime: RuntimeChoice, paths: Sequence[Path], arrays: Sequence[tuple[str, Any]]
) -> list[float]:
    """What each copy takes in one process: the median over rounds of a burst's least sample, ns."""
    options: dict[str, Any] = {"threads": case.wish.threads}
    if case.wish.accelerator is not None:
        options["accelerator"] = case.wish.accelerator
    places = {name: place for place, (name, _) in enumerate(arrays)}
    with AgentClient(case.device, runtime) as client:
        opened = [client.open(runtime.name, case.artifact.format, path, (path,), options) for path in paths]
        fields = {
            "models": [each.number for each in opened],
            "inputs": [[places]] * len(opened),
            "burst": _BURST,
            "rounds": _ROUNDS,
            "seconds": _MOST_SECONDS,
            "warm_seconds": 1,
        }
        silence = SILENCE_SECONDS * (20 if case.device.emulated else 1)
        _, told = client.ask("measure", fields, arrays, silence=silence)
    samples = dict(told)["ns"]
    return [float(np.median(each.min(axis=1))) for each in samples]
