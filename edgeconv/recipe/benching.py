"""``edgeconv bench``: which cases are measured, and what the models are fed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeconv.devices.base import RuntimeChoice
from edgeconv.devices.registry import find_device
from edgeconv.devices.session import Wish, runtimes_for
from edgeconv.errors import UsageError
from edgeconv.formats.base import Contract, Description, TensorSpec
from edgeconv.formats.registry import identify
from edgeconv.latency.bench import BenchRun, Case, Effort, MakeInputs
from edgeconv.latency.bench import run as measure
from edgeconv.latency.profile import Profiled, profile
from edgeconv.latency.records import Artifact
from edgeconv.recipe.beside import artifact_of, contract_beside, is_bare
from edgeconv.recipe.contracts import describe_source, source_contract

_VARIANTS = 4
_Described = tuple[Artifact, Contract | None, dict[str, Any], MakeInputs, Description]


@dataclass(frozen=True)
class BenchRequest:
    """A call of ``edgeconv bench``.

    Attributes:
        artifacts: files or folders, measured in turns.
        devices: names; this machine where there are none.
        runtime: ``NAME`` or ``NAME==VERSION``; the device's own choice where ``None``.
        threads: each number is measured.
        accelerator: of the runtime.
        effort: launches, seconds, limits.
        data: samples in place of seeded probes.
        shapes: input name to its full shape, where the model leaves it open.
        seed: of the probes and of the order.
        options: what else opening needs (``signature``, ``inputs``, ``outputs``).
        with_profile: also the time of every op.
        record: what is measured is going to be kept in the history, so that the frozen reference of each
            format, where one is set there, is measured beside it.
        store: where the history is.
    """

    artifacts: tuple[Path, ...]
    devices: tuple[str, ...] = ()
    runtime: str | None = None
    threads: tuple[int, ...] = (1,)
    accelerator: str | None = None
    effort: Effort = field(default_factory=Effort)
    data: Path | None = None
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    with_profile: bool = False
    record: bool = False
    store: str | None = None


@dataclass(frozen=True)
class Benched:
    """What was measured.

    Attributes:
        run: measurements, and cases that broke.
        ops: of each measurement, op type to count, as the file has them.
        profiles: of each measurement; ``None`` where none was asked for.
        references: SHA-256 of the frozen references that were measured beside what was asked for, and that
            nothing asked for is compared with.
        unreferenced: formats that were to be kept with ratios, and for which no reference is set.
    """

    run: BenchRun
    ops: tuple[Mapping[str, int], ...]
    profiles: tuple[Profiled | None, ...]
    references: frozenset[str] = frozenset()
    unreferenced: tuple[str, ...] = ()


def bench(request: BenchRequest, say: Callable[[str], None] = lambda text: None) -> Benched:
    """Measure all artifacts in all settings; see :func:`edgeconv.latency.bench.run`.

    Raises:
        UsageError: a path, device, runtime or number of threads is wrong.
        EdgeconvError: nothing could be measured.
    """
    if not request.artifacts:
        raise UsageError("no artifact was given", hint="edgeconv bench model.tflite")
    devices = [find_device(name) for name in dict.fromkeys(request.devices or ("local",))]
    choice = RuntimeChoice.parse(request.runtime) if request.runtime is not None else None
    described = {path: _described(path, request) for path in dict.fromkeys(request.artifacts)}
    for path, (artifact, *_) in described.items():
        try:
            runtimes_for(artifact.format, choice)
        except UsageError as error:
            raise UsageError(error.what, where=str(path), hint=error.hint) from error
    beside, unreferenced = _references([each[0] for each in described.values()], request)
    described.update(beside)
    cases = [
        Case(
            artifact, path, contract, device, Wish(choice, threads, request.accelerator, options), make_inputs
        )
        for path, (artifact, contract, options, make_inputs, _) in described.items()
        for device in devices
        for threads in dict.fromkeys(request.threads)
    ]
    run = measure(cases, request.effort, say)
    broken = {id(each.case) for each in run.broken}
    left = [case for case in cases if id(case) not in broken]
    profiles: list[Profiled | None] = [None] * len(left)
    if request.with_profile:
        for place, case in enumerate(left):
            if case.path in beside:
                continue
            say(f"profile of {case.path.name} on {case.device.name}")
            profiles[place] = profile(case, seconds=request.effort.seconds)
    ops = tuple(described[case.path][4].ops for case in left)
    references = frozenset(each[0].sha256 for each in beside.values())
    return Benched(run, ops, tuple(profiles), references, unreferenced)


def keep(benched: Benched, *, store: str | None = None, command: str = "") -> tuple[list[str], str]:
    """Write what was measured into the history, with the ratios to the references measured beside it.

    Returns:
        The keys of the measurements, in their order, and where the history is (without a password).

    Raises:
        UnavailableError: the store cannot be reached.
    """
    from edgeconv.history import record_measurements
    from edgeconv.history.location import locate

    keys = record_measurements(benched.run.measurements, store=store, command=command)
    return keys, str(locate(store))


def _references(
    artifacts: Sequence[Artifact], request: BenchRequest
) -> tuple[dict[Path, _Described], tuple[str, ...]]:
    """The frozen reference of each format to be kept, unless it is one of the artifacts anyway.

    Samples, shapes and a signature that are given are those of the artifacts and not of the reference.

    Returns:
        The references, and the formats for which none is set.
    """
    if not request.record:
        return {}, ()
    from edgeconv.history import reference_artifact

    own = replace(request, data=None, shapes={}, options={})
    found, lacking = {}, []
    for name in dict.fromkeys(each.format for each in artifacts):
        path = reference_artifact(name, store=request.store)
        if path is None:
            lacking.append(name)
            continue
        described = _described(path, own)
        if described[0].sha256 not in {each.sha256 for each in artifacts}:
            found[path] = described
    return found, tuple(lacking)


def _described(path: Path, request: BenchRequest) -> _Described:
    part = identify(path)
    given = dict(request.options)
    description = describe_source(part, path, signature=given.get("signature"))
    inputs, outputs = given.pop("inputs", ()), given.pop("outputs", ())
    contract = contract_beside(path) if not inputs and not outputs and is_bare(part) else None
    contract = contract or source_contract(
        part,
        description,
        signature=given.get("signature"),
        inputs=inputs,
        outputs=outputs,
        as_it_is=True,
    )
    ranges = description.metadata.get("input_ranges", {})
    return artifact_of(path, description), contract, given, _inputs_of(request, ranges), description


def _inputs_of(request: BenchRequest, ranges: Mapping[str, Sequence[float]]) -> MakeInputs:
    """Inputs for one artifact; the same ones each time, so that launches differ in nothing else."""
    kept: list[Sequence[Mapping[str, Any]]] = []

    def make(contract: Contract | None, inputs: tuple[TensorSpec, ...]) -> Sequence[Mapping[str, Any]]:
        if not kept:
            kept.append(_made(Contract(inputs, contract.outputs if contract else ()), request, ranges))
        return kept[0]

    return make


def _made(
    contract: Contract, request: BenchRequest, ranges: Mapping[str, Sequence[float]]
) -> Sequence[Mapping[str, Any]]:
    from edgeconv.comparison.probes import make_probes, probes_from_samples, ranges_of_quantized
    from edgeconv.comparison.samples import load_samples

    if request.data is not None:
        samples = load_samples(request.data, contract, limit=_VARIANTS)
        return [probe.inputs for probe in probes_from_samples(samples, contract)]
    names = {spec.name for spec in contract.inputs}
    known = dict(ranges_of_quantized(contract))
    known.update({name: (low, high) for name, (low, high) in ranges.items() if name in names})
    shapes = {name: shape for name, shape in request.shapes.items() if name in names}
    probes = make_probes(contract, seed=request.seed, count=_VARIANTS, ranges=known, shapes=shapes)
    return [probe.inputs for probe in probes[:_VARIANTS]]
