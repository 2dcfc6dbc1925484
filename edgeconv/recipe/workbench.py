"""What the surgery commands share: a frozen graph to begin with, stages, gates, results in their place."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeconv.errors import ConversionError, EdgeconvError, UsageError
from edgeconv.execution import atomic
from edgeconv.execution.cache import tool_version
from edgeconv.execution.events import Event, Listener
from edgeconv.execution.manifest import FILE_NAME, ArtifactRecord, GateRecord, Manifest, SourceRecord
from edgeconv.execution.publish import host_facts
from edgeconv.execution.stage import Limits, Stage, StageResult
from edgeconv.execution.workers import WorkerPool
from edgeconv.formats.base import Contract, Shape, contract_from_json, to_json
from edgeconv.formats.registry import format_named, identify, sha256_of
from edgeconv.recipe.contracts import describe_source, require_ranks, source_contract
from edgeconv.recipe.convert import OF_TRAINING, convert, model_name
from edgeconv.recipe.inputs import gate_tolerances, probes_for
from edgeconv.recipe.loop import run_in_own_loop
from edgeconv.recipe.preloading import worker_modules
from edgeconv.recipe.request import ConversionRequest, Target
from edgeconv.runtimes.registry import runtime_for

_GATE = "edgeconv.comparison.stage:gate"
_FILE_SUFFIXES = (".pb", ".onnx", ".tflite", ".keras", ".h5", ".hdf5", ".npy")


@dataclass(frozen=True, slots=True)
class SurgeryRequest:
    """What all surgery commands take.

    Attributes:
        model: file, folder or checkpoint prefix.
        output: file or folder to write; by the command's own rule beside the caller where ``None``.
        data: samples for the gates instead of seeded probes.
        shapes: input name to the shape that is pinned.
        inputs, outputs: tensors where the whole model begins and ends; empty to take what it says.
        extra: further fields of ``ConversionRequest`` that the command line filled.
    """

    model: Path
    output: Path | None = None
    data: Path | None = None
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    signature: str | None = None
    tags: tuple[str, ...] | None = None
    tolerance: tuple[str, ...] = ()
    checkpoint: Path | None = None
    model_builder: str | None = None
    trust: bool = False
    seed: int = 0
    use_cache: bool = True
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Whole:
    """The model that surgery begins with.

    Attributes:
        path: of its frozen graph (or ONNX file).
        format: of that.
        contract: its inputs and outputs.
        identifier: ``source``, or ``frozen_graph.fp32`` where it was made of the source.
        record: of the frozen graph that was made, with its gate; ``None`` where the source is one.
    """

    path: Path
    format: str
    contract: Contract
    identifier: str
    record: ArtifactRecord | None = None

    def to_json(self) -> dict[str, Any]:
        """As stages take it."""
        return {"path": str(self.path), "format": self.format, "contract": to_json(self.contract)}


@dataclass(frozen=True, slots=True)
class Made:
    """An artifact that surgery made, in the scratch folder."""

    id: str
    format: str
    path: Path
    contract: Contract
    value: Mapping[str, Any]
    seconds: float
    peak_rss_bytes: int
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As stages take it."""
        return {
            "path": str(self.path),
            "format": self.format,
            "contract": to_json(self.contract),
            "runtime": runtime_for(self.format).name,
        }


class Workbench:
    """Stages in workers, for one surgery; :func:`at_work` makes one."""

    def __init__(self, request: SurgeryRequest, scratch: Path, pool: WorkerPool, listener: Listener) -> None:
        self.request = request
        self.scratch = scratch
        self.listener = listener
        self._pool = pool

    async def run(
        self,
        node: str,
        step: str,
        call: str,
        payload: Mapping[str, Any],
        preload: Sequence[str] = ("tensorflow",),
    ) -> StageResult:
        """Run one stage; ``node`` and ``step`` are for what is said on the way."""
        self.listener(Event("started", node, step, ""))
        stage = Stage(
            name=f"{step} {node}",
            call=call,
            payload=payload,
            preload=worker_modules(preload),
            log=self.scratch / f"{len(list(self.scratch.iterdir()))}.log",
        )
        try:
            result = await self._pool.run(stage)
        except EdgeconvError as error:
            said = self._in_users_words(error)
            self.listener(Event("failed", node, step, str(said)))
            raise said from error
        self.listener(Event("done", node, step, "", result.seconds))
        return result

    async def make(
        self,
        node: str,
        kind: str,
        call: str,
        payload: Mapping[str, Any],
        path: Path,
        preload: Sequence[str] = ("tensorflow",),
    ) -> Made:
        """Run a stage that writes an artifact to ``path``."""
        result = await self.run(node, "convert", call, {**payload, "destination": str(path)}, preload)
        contract = contract_from_json(result.value["contract"])
        assert contract is not None
        return Made(
            node, kind, path, contract, result.value, result.seconds, result.peak_rss_bytes,
            tuple(result.value.get("notes", ())),
        )  # fmt: skip

    def probes(self, contract: Contract) -> Path:
        """Inputs of the gates for a model of this contract: samples of the user's, or seeded ones."""
        require_ranks(contract)
        return probes_for(contract, self.request.data, None, self.request.seed, self.scratch).path

    def tolerance(self, precision: str = "fp32") -> dict[str, Any]:
        """Of the gates, with what the user said."""
        return gate_tolerances(self.request.tolerance)[precision]

    async def observe(self, whole: Whole, probes: Path) -> Path:
        """Run the whole on the probes; the file of what it gave."""
        observation = self.scratch / "whole.npz"
        runtime = runtime_for(whole.format)
        await self.run(
            whole.identifier,
            "gate",
            _GATE,
            {
                "artifact": {
                    "path": str(whole.path),
                    "format": whole.format,
                    "contract": to_json(whole.contract),
                },
                "runtime": runtime.name,
                "options": self._trusted(),
                "probes": str(probes),
                "observation": str(observation),
                "reference": None,
            },
            runtime.preload,
        )
        return observation

    async def gate(self, made: Made, whole: Whole, probes: Path, seen: Path) -> GateRecord:
        """Compare an artifact of the same inputs and outputs with the whole."""
        runtime = runtime_for(made.format)
        result = await self.run(
            made.id,
            "gate",
            _GATE,
            {
                "artifact": made.to_json(),
                "runtime": runtime.name,
                "options": self._trusted(),
                "probes": str(probes),
                "observation": str(self.scratch / f"{made.id}.npz"),
                "reference": whole.identifier,
                "reference_contract": to_json(whole.contract),
                "reference_observation": str(seen),
                "tolerance": self.tolerance(),
            },
            runtime.preload,
        )
        return self.verdict(result)

    async def gate_part(self, made: Made, whole: Whole, tensors: Contract, probes: Path) -> GateRecord:
        """Compare a part with the whole at the tensors between which it lies."""
        runtime = runtime_for(made.format)
        result = await self.run(
            made.id,
            "gate",
            "edgeconv.comparison.parts:gate_part",
            {
                "whole": whole.to_json(),
                "part": made.to_json(),
                "runtime": runtime.name,
                "options": self._trusted(),
                "tensors": to_json(tensors),
                "probes": str(probes),
                "part_probes": str(self.scratch / f"{made.id}-probes.npz"),
                "observation": str(self.scratch / f"{made.id}.npz"),
                "reference": whole.identifier,
                "tolerance": self.tolerance(),
            },
            runtime.preload,
        )
        return self.verdict(result)

    @staticmethod
    def verdict(result: StageResult) -> GateRecord:
        """The gate's record of a stage that judged."""
        took = {"seconds": round(result.seconds, 3), "peak_rss_bytes": result.peak_rss_bytes}
        return GateRecord.model_validate({**result.value["verdict"], **took})

    def _in_users_words(self, error: EdgeconvError) -> EdgeconvError:
        """The error without names of files that nobody but us knows."""

        def told(text: str | None) -> str | None:
            return text and re.sub(
                rf"{re.escape(str(self.scratch))}\S*?(?=[\s,:'\"]|$)", self.request.model.name, text
            )

        return type(error)(
            told(error.what) or "", where=told(error.where), why=told(error.why), hint=told(error.hint)
        )

    def _trusted(self) -> dict[str, Any]:
        return {"trust": True} if self.request.trust else {}


def record_of(made: Made, gate: GateRecord, conversion: str, from_: str, path: str) -> ArtifactRecord:
    """The manifest's record of an artifact that lies at ``path``, relative to the manifest."""
    return ArtifactRecord.model_validate(
        {
            "id": made.id,
            "format": made.format,
            "precision": "fp32",
            "path": path,
            "sha256": made.value["sha256"],
            "bytes": made.value["bytes"],
            "from": from_,
            "conversion": conversion,
            "contract": to_json(made.contract),
            "seconds": round(made.seconds, 3),
            "peak_rss_bytes": made.peak_rss_bytes,
            "notes": list(made.notes),
            "gate": gate,
        }
    )


@contextmanager
def scratch_folder() -> Any:
    """An empty folder that goes at the end."""
    with tempfile.TemporaryDirectory(prefix="edgeconv-") as name:
        yield Path(name)


def at_work(request: SurgeryRequest, scratch: Path, listener: Listener, work: Any) -> Any:
    """Run ``work(workbench)``, a coroutine function, with workers."""

    async def whole() -> Any:
        async with WorkerPool(limits=request.limits) as pool:
            pool.warm(worker_modules(("tensorflow",)))
            return await work(Workbench(request, scratch, pool, listener))

    return run_in_own_loop(whole)


def frozen_whole(request: SurgeryRequest, scratch: Path, listener: Listener) -> Whole:
    """The model as a frozen graph for inference: itself if it is one, else made of it and proven.

    Raises:
        UsageError: the model, a name or a shape is wrong.
        ConversionError: the frozen graph could not be made, or its gate did not pass.
    """
    part = identify(request.model)
    description = describe_source(part, request.model, tags=request.tags)
    trained = {finding.code for finding in description.findings} & OF_TRAINING or request.checkpoint
    if part.name == "frozen_graph" and not trained:
        contract = source_contract(
            part,
            description,
            inputs=request.inputs,
            outputs=request.outputs,
            shapes=request.shapes,
        )
        assert contract is not None
        return Whole(request.model.absolute(), part.name, contract, "source")
    manifest, folder = convert(
        ConversionRequest(
            model=request.model,
            output=scratch / "frozen",
            to=(Target("frozen_graph", "fp32"),),
            data=request.data,
            shapes=request.shapes,
            inputs=request.inputs,
            outputs=request.outputs,
            signature=request.signature,
            tags=request.tags,
            tolerance=request.tolerance,
            checkpoint=request.checkpoint,
            model_builder=request.model_builder,
            # Names and weights as the source has them: they are what surgery is about.
            keep_weights=True,
            trust=request.trust,
            seed=request.seed,
            use_cache=request.use_cache,
            limits=request.limits,
        ),
        listener,
    )
    for failure in manifest.failures:
        if failure.superseded_by is None:
            raise ConversionError(
                "the frozen graph that surgery begins with could not be made",
                where=str(request.model),
                why=failure.reason,
                hint=failure.hint,
            )
    record = manifest.artifact("frozen_graph.fp32")
    if record.gate.verdict != "pass":
        raise ConversionError(
            f"the frozen graph that surgery begins with is not proven: its gate says {record.gate.verdict}",
            where=str(request.model),
            why=record.gate.reason,
            hint=record.gate.hint or f"see more: edgeconv convert {request.model} --to frozen_graph",
        )
    contract = contract_from_json(record.contract)
    assert contract is not None
    return Whole(folder / record.path, record.format, contract, record.id, record)


def finished(
    request: SurgeryRequest,
    target: Path,
    results: Sequence[tuple[Made, Path]],
    records: Sequence[ArtifactRecord],
    whole: Whole,
    more: Mapping[str, Any] | None = None,
) -> Manifest:
    """Put what was made in its place, and write the manifest beside or into it.

    Args:
        request: the call.
        target: the file or folder that the user asked for.
        results: each artifact with the path it gets.
        records: of the artifacts, in the same order.
        whole: what the surgery began with.
        more: further fields of the manifest.
    """
    part = identify(request.model)
    proven = [] if whole.record is None else [step_of(whole.record)]
    manifest = Manifest.model_validate(
        {
            "source": SourceRecord(
                path=str(request.model.absolute()),
                format=part.name,
                sha256=sha256_of(request.model, part),
                contract=to_json(whole.contract),
            ),
            "tools": {t: tool_version(t) for t in ("edgeconv", "numpy", "tensorflow")},
            "host": host_facts(),
            "artifacts": list(records),
            "failures": [],
            **({"steps": proven} if proven else {}),
            **(more or {}),
        }
    )
    folder = target if is_folder(target) else target.parent
    atomic.make_writable_folder(folder if folder != target else target.parent)
    with atomic.explained_disk_errors(folder):
        for made, path in results:
            if is_folder(path) and path == target:
                # The manifest goes in with it, so that both come into being at once.
                atomic.write_text(made.path / FILE_NAME, _json(manifest))
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.copy_into_place(made.path, path)
        if not any(path == target and is_folder(path) for _, path in results):
            atomic.write_text(manifest_path(target), _json(manifest))
    return manifest


def manifest_path(target: Path) -> Path:
    """Where the manifest of a result lies: in its folder, or beside its file under the file's name."""
    return target / FILE_NAME if is_folder(target) else target.with_name(f"{target.name}.{FILE_NAME}")


def is_folder(target: Path) -> bool:
    """Whether a result of that name is a folder."""
    return target.suffix.lower() not in _FILE_SUFFIXES


def checked_target(request: SurgeryRequest, default: str) -> Path:
    """The path to write to, which holds nothing of somebody else's.

    Args:
        request: with the path that the user gave, if any.
        default: what comes behind the model's name otherwise (``.part.pb``).

    Raises:
        UsageError: a folder with other things is there, or it is the model itself.
    """
    target = request.output or Path(f"{model_name(request.model)}{default}")
    if target.exists() and request.model.exists() and target.samefile(request.model):
        raise UsageError(
            "the result would take the place of the model",
            where=str(target),
            hint="choose another one with -o",
        )
    if target.is_dir():
        ours = (FILE_NAME, "saved_model.pb")
        inside = [child.name for child in target.iterdir()]
        if not is_folder(target):
            raise UsageError(
                "this is a folder, not a file", where=str(target), hint="choose another one with -o"
            )
        if inside and not any(name in inside for name in ours):
            raise UsageError(
                "the folder holds other things, which the result would take the place of",
                where=str(target),
                why=f"it has {', '.join(sorted(inside)[:4])}",
                hint=f"name one that is not there yet: -o {target / 'out'}",
            )
    elif target.exists() and is_folder(target):
        raise UsageError("this is a file, not a folder", where=str(target), hint="choose another one with -o")
    return target


def suffix_of(kind: str) -> str:
    """Suffix of artifacts of a format, ``.saved_model`` for folders."""
    return format_named(kind).suffix or f".{kind}"


def step_of(record: ArtifactRecord) -> dict[str, Any]:
    """What the manifest keeps of an artifact on the way, which itself is not kept."""
    document = record.model_dump(by_alias=True, mode="json")
    return {name: document[name] for name in ("id", "from", "conversion", "sha256", "notes", "gate")}


def _json(manifest: Manifest) -> str:
    import json

    return json.dumps(manifest.to_json(), indent=1) + "\n"
