"""``edgeconv compare``: the gate by itself, between any two artifacts."""

from __future__ import annotations

import dataclasses
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeconv.comparison.tensor_sources.base import source_kinds
from edgeconv.devices.base import RuntimeChoice
from edgeconv.devices.registry import find_device
from edgeconv.devices.session import Ran, runtimes_for
from edgeconv.errors import ExitCode, UsageError
from edgeconv.execution.cache import tool_version
from edgeconv.execution.manifest import GateRecord
from edgeconv.execution.stage import Limits, Stage
from edgeconv.execution.workers import WorkerPool
from edgeconv.formats.base import Artifact, Description, Shape, to_json
from edgeconv.formats.registry import identify
from edgeconv.recipe.beside import contract_beside, is_bare
from edgeconv.recipe.contracts import describe_source, source_contract
from edgeconv.recipe.convert import convert
from edgeconv.recipe.inputs import gate_tolerances, probes_for
from edgeconv.recipe.loop import run_in_own_loop
from edgeconv.recipe.on_devices import OnDevice, devices_asked, on_devices, summary
from edgeconv.recipe.preloading import worker_modules
from edgeconv.recipe.request import ConversionRequest, Target
from edgeconv.runtimes.base import Runtime
from edgeconv.runtimes.registry import runtime_for

_GATE = "edgeconv.comparison.stage:gate"
_LOCATE = "edgeconv.comparison.locate_stage:locate"


@dataclass(frozen=True, slots=True)
class ComparisonRequest:
    """A call of ``edgeconv compare``.

    Attributes:
        reference, candidate: the two artifacts.
        data: samples in place of seeded probes.
        output_map, input_map: reference name to candidate name.
        options: what is needed to open either (``signature``, ``tags``, ``model_builder``,
            ``custom_objects``, ``trust``).
        locate: whether to find the first tensor that diverges.
        devices: names of those that the candidate is run on; here where there are none.
        runtime: that runs it there (``tflite-runtime==2.14.0``); the device's own choice where ``None``.
        threads: intra-op threads there.
        accelerator: of the runtime there.
    """

    reference: Path
    candidate: Path
    data: Path | None = None
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    tolerance: tuple[str, ...] = ()
    output_map: Mapping[str, str] = field(default_factory=dict)
    input_map: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    locate: bool = False
    devices: tuple[str, ...] = ()
    runtime: str | None = None
    threads: int = 1
    accelerator: str | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the gate said, and where the two part if that was asked and found.

    Attributes:
        gate: the verdict; that of the first device that failed where there are devices.
        precision: of the candidate; its tolerance counts.
        divergence: the first tensor that diverges.
        reference_ran: where the reference was run.
        devices: one entry a device that was asked for.
    """

    gate: GateRecord
    precision: str
    divergence: dict[str, Any] | None = None
    reference_ran: Ran | None = None
    devices: tuple[OnDevice, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the candidate equals the reference within the tolerance, on every device."""
        return self.exit_code == ExitCode.OK

    @property
    def exit_code(self) -> ExitCode:
        """What the command line exits with; the worst of all devices."""
        if self.devices:
            return max(one.exit_code for one in self.devices)
        return ExitCode.OK if self.gate.verdict == "pass" else ExitCode.VERDICT_FAILED

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        document = {"precision": self.precision, **self.gate.model_dump(mode="json", by_alias=True)}
        if self.devices:
            document["reference_ran"] = to_json(self.reference_ran)
            document["devices"] = [one.to_json() for one in self.devices]
        return document if self.divergence is None else {**document, "divergence": self.divergence}


@dataclass(frozen=True, slots=True)
class _Side:
    artifact: Artifact
    ranges: Mapping[str, Sequence[float]]
    steps: Mapping[str, float]
    runtime: str
    ran: Ran
    preload: tuple[str, ...]
    options: Mapping[str, Any]


def compare(request: ComparisonRequest) -> Comparison:
    """Run both on the same inputs and judge the candidate, output by output.

    A device that breaks does not stop the others; its error is in the comparison.

    Raises:
        UsageError: a path, name or shape is wrong, or the mapping of names is ambiguous.
        ConversionError: one of the two cannot be run here.
    """
    request = _with_device(request)
    with tempfile.TemporaryDirectory(prefix="edgeconv-") as folder:
        scratch = Path(folder)
        inside = _visible(request, scratch) if request.locate else None
        return run_in_own_loop(lambda: _compare(request, scratch, inside))


async def _compare(request: ComparisonRequest, scratch: Path, inside: dict[str, Any] | None) -> Comparison:
    reference = _side(request.reference, request, pinned=True)
    candidate = _side(request.candidate, request, pinned=False)
    async with WorkerPool(limits=request.limits) as pool:
        for side in (reference, candidate):
            pool.warm(side.preload)
        contract = reference.artifact.contract or candidate.artifact.contract
        if contract is None:
            raise UsageError(
                "neither of the two says what its inputs and outputs are",
                hint="compare with an artifact that does (a SavedModel, TFLite or ONNX file)",
            )
        ranges = _ranges(reference, candidate, request.input_map)
        probes = probes_for(contract, request.data, None, request.seed, scratch, ranges=ranges)
        first = await pool.run(
            _stage("run the reference", reference, probes.path, scratch / "reference.npz", {})
        )
        tolerances = gate_tolerances(request.tolerance)
        tolerance = tolerances.get(candidate.artifact.precision, tolerances["int8"])
        judged: dict[str, Any] = {
            "reference": request.reference.name,
            "reference_contract": to_json(reference.artifact.contract) or first.value["contract"],
            "reference_observation": str(scratch / "reference.npz"),
            "tolerance": tolerance,
            "output_map": dict(request.output_map),
            "input_map": dict(request.input_map),
            "steps": dict(candidate.steps),
        }
        if request.devices:
            there = dataclasses.replace(candidate, preload=worker_modules(()))
            judged["fewer_where_slow"] = probes.made_up
            wish = {
                "runtime": request.runtime,
                "threads": request.threads,
                "accelerator": request.accelerator,
            }
            devices = await on_devices(
                {name: {"name": name, **wish} for name in request.devices},
                lambda number, device: _stage(
                    f"run the candidate on {device['name']}",
                    there,
                    probes.path,
                    scratch / f"candidate-{number}.npz",
                    {**judged, "device": device},
                ),
            )
            return Comparison(summary(devices), candidate.artifact.precision, None, reference.ran, devices)
        second = await pool.run(
            _stage("run the candidate", candidate, probes.path, scratch / "candidate.npz", judged)
        )
        gate = GateRecord.model_validate(second.value["verdict"])
        divergence = None
        if request.locate:
            seen = {
                "reference": inside
                or {**to_json(reference.artifact), "contract": judged["reference_contract"]},
                "candidate": {**to_json(candidate.artifact), "contract": second.value["contract"]},
                "probes": str(probes.path),
                "probes_contract": judged["reference_contract"],
                "tolerance": tolerance,
                "outputs": {o.reference_name: o.name for o in gate.outputs if o.name and o.reference_name},
                "input_map": dict(request.input_map),
            }
            divergence = (await pool.run(_locate_stage(seen, scratch))).value
    return Comparison(gate, candidate.artifact.precision, divergence, reference.ran)


def _with_device(request: ComparisonRequest) -> ComparisonRequest:
    """The request with its devices checked: what only a device knows means this machine's agent.

    Raises:
        UsageError: a device is not known, the runtime does not open the candidate, or ``locate`` is asked.
    """
    devices = devices_asked(request.devices, request.runtime, request.threads, request.accelerator)
    if not devices:
        return request
    if request.locate:
        raise UsageError(
            "tensors inside of an artifact can be seen here only", hint="leave --device and --runtime out"
        )
    runtime = RuntimeChoice.parse(request.runtime) if request.runtime is not None else None
    runtimes_for(identify(request.candidate).name, runtime)
    for name in devices:
        find_device(name)
    return dataclasses.replace(request, devices=devices)


def _side(path: Path, request: ComparisonRequest, *, pinned: bool) -> _Side:
    part = identify(path)
    description = describe_source(part, path, tags=request.options.get("tags"))
    contract = contract_beside(path) if is_bare(part) and not (pinned and request.shapes) else None
    contract = contract or source_contract(
        part,
        description,
        signature=request.options.get("signature") if _has(description, request) else None,
        shapes=request.shapes if pinned else {},
        as_it_is=True,
    )
    precision = str(description.metadata.get("precision", "fp32"))
    runtime = runtime_for(part.name)
    options = {**request.options, **({"signature": contract.signature} if contract else {})}
    return _Side(
        Artifact(path.absolute(), part.name, precision, "", contract),
        description.metadata.get("input_ranges", {}),
        description.metadata.get("output_steps", {}),
        runtime.name,
        Ran(
            None,
            runtime.name,
            tool_version(runtime.tools[0]) if runtime.tools else None,
            machine=platform.machine(),
        ),
        worker_modules(runtime.preload),
        {name: value for name, value in options.items() if value is not None},
    )


def _here(runtime: Runtime) -> Ran:
    version = tool_version(runtime.tools[0]) if runtime.tools else None
    return Ran(None, runtime.name, version, machine=platform.machine())


def _ranges(reference: _Side, candidate: _Side, input_map: Mapping[str, str]) -> dict[str, Sequence[float]]:
    """What the inputs can carry on both sides, by the reference's names."""
    contract = reference.artifact.contract or candidate.artifact.contract
    theirs = candidate.artifact.contract
    ranges: dict[str, Sequence[float]] = dict(reference.ranges)
    names = [spec.name for spec in contract.inputs] if contract else []
    only = theirs.inputs[0].name if theirs is not None and len(theirs.inputs) == 1 else None
    for name in names:
        partner = input_map.get(name, only if len(names) == 1 and only is not None else name)
        if partner in candidate.ranges:
            ranges[name] = candidate.ranges[partner]
    return ranges


def _has(description: Description, request: ComparisonRequest) -> bool:
    """Whether the signature the user named is one of this side; it need not be one of both."""
    return request.options.get("signature") in {signature.name for signature in description.signatures}


def _stage(name: str, side: _Side, probes: Path, observation: Path, judged: Mapping[str, Any]) -> Stage:
    return Stage(
        name=name,
        call=_GATE,
        payload={
            "artifact": to_json(side.artifact),
            "runtime": side.runtime,
            "options": dict(side.options),
            "probes": str(probes),
            "observation": str(observation),
            "reference": None,
            **judged,
        },
        preload=side.preload,
        log=observation.with_suffix(".log"),
    )


def _visible(request: ComparisonRequest, scratch: Path) -> dict[str, Any] | None:
    """The reference as its frozen graph, where the tensors inside it cannot be seen otherwise."""
    part = identify(request.reference)
    if part.name in source_kinds():
        return None
    options = {name: value for name, value in request.options.items() if value is not None}
    manifest, folder = convert(
        ConversionRequest(
            model=request.reference,
            output=scratch / "reference",
            to=(Target("frozen_graph", "fp32"),),
            shapes=request.shapes,
            signature=options.get("signature"),
            tags=tuple(options["tags"]) if "tags" in options else None,
            model_builder=options.get("model_builder"),
            custom_objects=options.get("custom_objects"),
            trust=bool(options.get("trust")),
        ),
        lambda event: None,
    )
    if not manifest.passed:
        raise UsageError(
            f"the tensors inside a {part.name} can be seen in its frozen graph only, which could not be made",
            where=str(request.reference),
            hint=f"see why: edgeconv convert {request.reference} --to frozen_graph",
        )
    record = manifest.artifact("frozen_graph.fp32")
    return {"path": str(folder / record.path), "format": record.format, "contract": record.contract}


def _locate_stage(payload: Mapping[str, Any], scratch: Path) -> Stage:
    return Stage(
        name="locate the first diverging tensor",
        call=_LOCATE,
        payload=payload,
        preload=worker_modules(runtime_for(payload["reference"]["format"]).preload),
        log=scratch / "locate.log",
    )
