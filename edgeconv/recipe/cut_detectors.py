"""Detectors cut in front of their post-processing by what their graph does, whatever it is named.

The whole model becomes a frozen graph first, proven like any. That graph is cut
(``surgery/post_processing``), and what is asked for is made of its first part; the second part becomes a
function in NumPy beside it.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeconv.errors import EdgeconvError, UsageError
from edgeconv.execution.events import Event, Listener
from edgeconv.execution.manifest import ArtifactRecord, FailureRecord, Manifest, read_manifest, write_manifest
from edgeconv.execution.plan import BackEndPlan, Plan
from edgeconv.execution.stage import Stage
from edgeconv.execution.workers import WorkerPool
from edgeconv.formats.base import Artifact, Contract, contract_from_json, tensor_from_json, to_json
from edgeconv.formats.registry import format_named, identify, sha256_of
from edgeconv.recipe.back_ends import has_named_ends
from edgeconv.recipe.contracts import describe_source
from edgeconv.recipe.inputs import InputMaker, gate_tolerances
from edgeconv.recipe.loop import run_in_own_loop
from edgeconv.recipe.planning import plan_nodes
from edgeconv.recipe.preloading import worker_modules
from edgeconv.recipe.request import DEFAULT_TARGETS, ConversionRequest, Target

_FIND = "edgeconv.front_ends.back_end_stage:find"
_FROZEN = Target("frozen_graph", "fp32")
_AFTER_CUT = frozenset({"tflite", "onnx", "ort"})

Whole = Callable[[ConversionRequest, Listener], tuple[Manifest, Path]]
"""Converts a model without a cut."""
CarryOut = Callable[[ConversionRequest, Listener, Callable[[Path], Plan], str], tuple[Manifest, Path]]
"""Carries out a plan that is made when the folder for inputs is known."""


def is_cut_by_structure(request: ConversionRequest) -> bool:
    """Whether ``--postprocessing cut`` was asked for, and no names and no file tell where and with what."""
    if request.postprocessing != "cut":
        return False
    part = identify(request.model)
    if request.graph is not None:
        return True
    description = describe_source(part, request.model, tags=request.tags, signature=request.signature)
    return not has_named_ends(request, part, description)


def cut_by_structure(
    request: ConversionRequest, listener: Listener, whole: Whole, carry_out: CarryOut
) -> tuple[Manifest, Path]:
    """What is asked for, cut in front of the post-processing, with that beside it.

    Raises:
        UsageError: there is nothing to cut off, or no clear place.
    """
    with tempfile.TemporaryDirectory(prefix="edgeconv-whole-") as folder:
        frozen, source = _frozen(request, listener, whole, Path(folder))
        if frozen is None or frozen.gate.verdict == "fail":
            # Said as any run says it: what failed, and where its log is.
            return whole(dataclasses.replace(request, to=(_FROZEN,), postprocessing="keep"), listener)
        plan_with = _planned(request, frozen, source, Path(folder), request.to or _defaults())
        manifest, output = carry_out(request, listener, plan_with, "frozen_graph")
    return _said(manifest, output, [f"the whole as a frozen graph: {frozen.gate.verdict}"]), output


def cut_where_refused(
    request: ConversionRequest,
    manifest: Manifest,
    folder: Path,
    listener: Listener,
    whole: Whole,
    carry_out: CarryOut,
) -> Manifest:
    """The manifest with those artifacts of a detector made by cutting that could not be made whole."""
    made = {record.id for record in manifest.artifacts}
    failed = [failure for failure in manifest.failures if failure.artifact not in made]
    missing = dict.fromkeys(f.artifact for f in failed if (f.artifact or "").split(".")[0] in _AFTER_CUT)
    if not missing or request.outputs or manifest.front_end is not None or not _detects(request):
        return manifest
    targets = tuple(
        Target(*each.split(".", 1)) for each in missing if each is not None and _asked(request, each)
    )
    if not targets:
        return manifest
    with tempfile.TemporaryDirectory(prefix="edgeconv-whole-") as place:
        try:
            frozen, source = _frozen(request, listener, whole, Path(place))
            if frozen is None or frozen.gate.verdict == "fail":
                return manifest
            plan_with = _planned(request, frozen, source, Path(place), targets)
            listener(Event("note", text="what was refused is tried again without the post-processing"))
            kept = dataclasses.replace(request, output=folder, to=targets)
            cut, _ = carry_out(kept, listener, plan_with, "frozen_graph")
        except UsageError:
            return manifest  # there is nothing to cut off
    return _joined(manifest, cut, folder, failed)


def _joined(first: Manifest, second: Manifest, folder: Path, failed: list[FailureRecord]) -> Manifest:
    """Both runs as one: what the second made takes the place of what failed in the first."""
    made = {record.id for record in second.artifacts}
    notes = []
    for identifier in sorted(made):
        reason = next(f.reason for f in failed if f.artifact == identifier)
        why = reason.splitlines()[0]
        notes.append(f"{identifier}: refused with its post-processing ({why}); it ends in front of that now")
    # The second run took the place of the logs of the first.
    left = [_without_lost_files(f, folder) for f in first.failures if f.artifact not in made]
    joined = first.model_copy(
        update={
            "artifacts": [*first.artifacts, *second.artifacts],
            "failures": [*left, *(f for f in second.failures if f.artifact in made)],
            "back_end": second.back_end if made else None,
        }
    )
    joined.source.notes.extend([*second.source.notes, *notes] if made else [])
    written = read_manifest(folder)
    mine = {record.id for record in joined.artifacts}
    others = [record for record in written.artifacts if record.id not in mine]
    write_manifest(folder, joined.model_copy(update={"artifacts": [*joined.artifacts, *others]}))
    return joined


def _without_lost_files(failure: FailureRecord, folder: Path) -> FailureRecord:
    kept = {
        name: path if path and (folder / path).exists() else None
        for name, path in (("log", failure.log), ("repro", failure.repro))
    }
    return failure.model_copy(update=kept)


def _frozen(
    request: ConversionRequest, listener: Listener, whole: Whole, folder: Path
) -> tuple[ArtifactRecord | None, Manifest]:
    """The record of the whole model as a frozen graph in ``folder``; ``None`` where it cannot be had."""
    asked = dataclasses.replace(
        request, to=(_FROZEN,), output=folder, postprocessing="keep", calibration=None
    )
    manifest, _ = whole(asked, listener)
    return next((r for r in manifest.artifacts if r.id == _FROZEN.id), None), manifest


def _planned(
    request: ConversionRequest,
    frozen: ArtifactRecord,
    source: Manifest,
    folder: Path,
    targets: tuple[Target, ...],
) -> Callable[[Path], Plan]:
    """Makes the plan of the first part of a frozen graph.

    Raises:
        UsageError: there is nothing to cut off, or no clear place.
    """
    path, contract = folder / frozen.path, contract_from_json(frozen.contract)
    assert contract is not None
    found = _found(path, contract, folder)
    cut = tuple(tensor_from_json(spec) for spec in found["cut"])
    behind = set(found["given"])
    beside = tuple(spec for spec in contract.outputs if spec.name not in behind)
    fed = set(found["needed"])
    inputs = tuple(spec for spec in contract.inputs if spec.name in fed)
    rest = dataclasses.replace(contract, inputs=inputs, outputs=_each_once((*cut, *beside)))
    everything = dataclasses.replace(contract, outputs=_each_once((*cut, *contract.outputs)))
    back_end = BackEndPlan(
        {},
        everything,
        cut=cut,
        inputs=tuple(tensor_from_json(spec) for spec in found["inputs"]),
        given=tuple(found["given"]),
    )
    part = format_named("frozen_graph")
    origin = Artifact(
        Path(source.source.path),
        source.source.format,
        "fp32",
        source.source.sha256,
        contract_from_json(source.source.contract) if source.source.contract else None,
    )

    def plan_with(inputs_folder: Path) -> Plan:
        maker = InputMaker(request, inputs_folder, None)
        maker.check(rest)
        options = {"keep_weights": True} if request.keep_weights else {}
        return Plan(
            source=Artifact(path, part.name, "fp32", sha256_of(path, part), rest),
            nodes=plan_nodes((part.name, "fp32"), targets, options, gate_tolerances(request.tolerance)),
            wanted=tuple(target.id for target in targets),
            open_options={},
            option_sha256={},
            probes=maker.probes,
            calibration=maker.calibration,
            back_end=back_end,
            notes=tuple(source.source.notes),
            origin=origin,
        )

    return plan_with


def _found(path: Path, contract: Contract, folder: Path) -> dict[str, Any]:
    stage = Stage(
        name="find the post-processing",
        call=_FIND,
        payload={"path": str(path), "contract": to_json(contract)},
        preload=worker_modules(("tensorflow",)),
        log=folder / "find.log",
    )

    async def work() -> dict[str, Any]:
        async with WorkerPool(jobs=1) as pool:
            return (await pool.run(stage)).value

    return run_in_own_loop(work)


def _each_once(specs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The specs without those of a tensor that came before."""
    seen: dict[str, Any] = {}
    for spec in specs:
        seen.setdefault(spec.inner_name if ":" in spec.inner_name else f"{spec.inner_name}:0", spec)
    return tuple(seen.values())


def _said(manifest: Manifest, folder: Path, notes: list[str]) -> Manifest:
    for document in (manifest, read_manifest(folder)):
        document.source.notes.extend(notes)
        if document is not manifest:
            write_manifest(folder, document)
    return manifest


def _defaults() -> tuple[Target, ...]:
    return tuple(Target(name, "fp32") for name in DEFAULT_TARGETS)


def _asked(request: ConversionRequest, identifier: str) -> bool:
    return any(target.id == identifier for target in request.to or _defaults())


def _detects(request: ConversionRequest) -> bool:
    """Whether a model drops overlapping boxes, as far as its description tells."""
    try:
        part = identify(request.model)
        described = describe_source(part, request.model, tags=request.tags, signature=request.signature)
    except EdgeconvError:
        return False
    return any(finding.code == "object-detection" for finding in described.findings)
