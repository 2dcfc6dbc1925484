"""``edgeconv regress``: which artifacts are pairs, and what they are fed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeconv.devices.base import Device, RuntimeChoice
from edgeconv.devices.registry import find_device
from edgeconv.devices.session import Wish
from edgeconv.errors import EdgeconvError, UsageError
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.formats.registry import identify
from edgeconv.latency.bench import device_facts
from edgeconv.latency.decisions import Policy
from edgeconv.latency.records import DeviceFacts
from edgeconv.latency.regress import Comparison, Thresholds, compare
from edgeconv.latency.sources import BASELINE, CANDIDATE, Side, look_at
from edgeconv.recipe.beside import artifact_of, contract_beside

_SUFFIXES = (".tflite", ".onnx", ".ort", ".pb")
_VARIANTS = 2


@dataclass(frozen=True)
class RegressionRequest:
    """What ``edgeconv regress`` was asked for.

    Attributes:
        baseline: file, or folder of artifacts; ``None`` where ``baseline_name`` says it.
        candidate: file, or folder.
        baseline_name: of a baseline in the history.
        policy: of the latency.
        thresholds: of the rest.
        device: name.
        runtime, baseline_runtime, candidate_runtime: ``NAME[==VERSION]``; the first is for both.
        threads, accelerator: of the runtime.
        data: samples in place of seeded probes.
        emulated_anyway: also where times say nothing of a real board.
        culprit: find what slowed down where one regressed.
        record: keep verdicts and samples in the history.
        store: where the history is.
        seed: of all that is drawn.
        command: what was typed.
    """

    candidate: Path
    baseline: Path | None = None
    baseline_name: str | None = None
    policy: Policy = field(default_factory=Policy)
    thresholds: Thresholds = field(default_factory=Thresholds)
    device: str = "local"
    runtime: str | None = None
    baseline_runtime: str | None = None
    candidate_runtime: str | None = None
    threads: int = 1
    accelerator: str | None = None
    data: Path | None = None
    emulated_anyway: bool = False
    culprit: bool = False
    record: bool = False
    store: str | None = None
    seed: int | None = None
    command: str = ""


@dataclass(frozen=True)
class Unmatched:
    """An artifact of one folder that the other lacks."""

    path: Path
    side: str


def regress(
    request: RegressionRequest, say: Callable[[str], None] = lambda text: None
) -> tuple[list[Comparison], list[Unmatched]]:
    """Judge every pair; see :func:`edgeconv.latency.regress.compare`.

    Raises:
        UsageError: nothing to compare, or an emulated device.
        UnavailableError: the device or a runtime is not there.
    """
    device = find_device(request.device)
    if device.emulated and not request.emulated_anyway:
        raise UsageError(
            f"'{device.name}' is emulated, and its times say nothing of a real board",
            why="an emulator slows some instructions a hundred times and others not at all, so that even the "
            "order of two artifacts may be another one",
            hint="measure on the board ('edgeconv devices add NAME ssh USER@HOST'), or see what the emulator "
            "says all the same with --emulated-anyway",
        )
    pairs, unmatched = find_pairs(request)
    # As bench says it, so that what the two of them keep of one device is of one device.
    where = device_facts(device) if request.record else None
    found = []
    for name, baseline, candidate in pairs:
        say(f"{name}: opening both")
        sides = [
            _side(path, device, request, runtime)
            for path, runtime in (
                (baseline, request.baseline_runtime),
                (candidate, request.candidate_runtime),
            )
        ]
        after = _culprit if request.culprit else None
        one = compare(
            name,
            sides[0],
            sides[1],
            request.policy,
            request.thresholds,
            pairs=len(pairs),
            seed=request.seed,
            say=say,
            after=after,
        )
        if where is not None:
            _record(one, where, request)
        found.append(one)
    return found, unmatched


def find_pairs(request: RegressionRequest) -> tuple[list[tuple[str, Path, Path]], list[Unmatched]]:
    """Name, baseline and candidate of each pair; artifacts of folders are matched by their file names.

    Raises:
        UsageError: a file is missing, or nothing matches.
    """
    candidate = _there(request.candidate)
    if request.baseline_name is not None:
        return _against_named(request.baseline_name, candidate, request.store), []
    if request.baseline is None:
        raise UsageError("a baseline is missing", hint="edgeconv regress BASELINE CANDIDATE")
    baseline = _there(request.baseline)
    before, now = artifacts_in(baseline), artifacts_in(candidate)
    if before is None and now is None:
        return [(candidate.name, baseline, candidate)], []
    if before is None or now is None:
        raise UsageError(
            "one is a folder of artifacts and the other is one artifact",
            where=f"{baseline} and {candidate}",
            hint="give two artifacts, or two folders whose artifacts have the same names",
        )
    names = [name for name in now if name in before]
    unmatched = [Unmatched(now[name], CANDIDATE) for name in now if name not in before]
    unmatched += [Unmatched(before[name], BASELINE) for name in before if name not in now]
    if not names:
        raise UsageError(
            "no artifact of one folder has the name of one of the other",
            where=f"{baseline} and {candidate}",
            why=f"{', '.join(before) or 'none'}; {', '.join(now) or 'none'}",
        )
    return [(name, before[name], now[name]) for name in names], unmatched


def artifacts_in(path: Path) -> dict[str, Path] | None:
    """The artifacts of a folder by name, those that runtimes of devices open; ``None`` for one artifact."""
    if path.is_file():
        return None
    found = {
        file.relative_to(path).as_posix(): file
        for file in sorted(path.rglob("*"))
        if file.suffix in _SUFFIXES and file.is_file() and file.suffix != ".pb"
    }
    if not found:
        try:
            identify(path)
        except EdgeconvError:
            return {}
        return None
    return found


def _against_named(name: str, candidate: Path, store: str | None) -> list[tuple[str, Path, Path]]:
    from edgeconv.history import baseline_artifact

    inside = artifacts_in(candidate)
    wanted = {candidate.name: candidate} if inside is None else inside
    pairs = []
    for key, path in wanted.items():
        pairs.append((key, baseline_artifact(name, path.name, store=store), path))
    return pairs


def _there(path: Path) -> Path:
    if not path.exists():
        raise UsageError("there is no such file", where=str(path))
    return path


def _side(path: Path, device: Device, request: RegressionRequest, own_runtime: str | None) -> Side:
    part = identify(path)
    chosen = own_runtime or request.runtime
    runtime = RuntimeChoice.parse(chosen) if chosen else None
    wish = Wish(runtime, request.threads, request.accelerator)
    contract = contract_beside(path)
    return look_at(path, part.name, device, wish, _inputs_of(request), contract)


def _inputs_of(
    request: RegressionRequest,
) -> Callable[[Contract | None, tuple[TensorSpec, ...]], Sequence[Mapping[str, Any]]]:
    """Seeded probes of batch 1, or the user's samples; the same for both where they take the same."""

    def make(contract: Contract | None, inputs: tuple[TensorSpec, ...]) -> Sequence[Mapping[str, Any]]:
        from edgeconv.comparison.probes import make_probes
        from edgeconv.comparison.samples import load_samples

        known = Contract(inputs=inputs, outputs=())
        if request.data is not None:
            return load_samples(request.data, known, limit=_VARIANTS)
        return [probe.inputs for probe in make_probes(known, seed=0, count=_VARIANTS)[:_VARIANTS]]

    return make


def _culprit(way: Any, found: Comparison) -> Any:
    if found.verdict != "regressed":
        return None
    from edgeconv.recipe.culprits import find_culprit

    return find_culprit(way, found)


def _record(one: Comparison, where: DeviceFacts, request: RegressionRequest) -> None:
    import dataclasses

    from edgeconv.history import record_decision
    from edgeconv.latency.records import Setting

    sides = {BASELINE: one.baseline, CANDIDATE: one.candidate}
    artifacts = {name: artifact_of(side.path) for name, side in sides.items()}
    settings = {
        name: Setting(
            side.runtime.name, side.runtime.version or "", side.threads, side.accelerator, side.placement
        )
        for name, side in sides.items()
    }
    record_decision(
        [one.decision],
        artifacts,
        where,
        settings,
        one.launches,
        details={
            "pair": one.name,
            "way": one.way,
            "clock": "thread" if one.plan.processor_time else "wall",
            "quantities": [dataclasses.asdict(each) for each in one.quantities],
            "verdict": one.verdict,
        },
        command=request.command,
        store=request.store,
    )
