"""``--postprocessing cut``: a detector that ends where its post-processing begins, and that beside it."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from edgeconv.detection.back_end import parameters_of
from edgeconv.errors import EdgeconvError, UsageError
from edgeconv.execution.manifest import (
    ArtifactRecord,
    BackEndRecord,
    GateRecord,
    Manifest,
    read_manifest,
    write_manifest,
)
from edgeconv.execution.plan import SOURCE, BackEndPlan, Plan
from edgeconv.execution.stage import Stage
from edgeconv.execution.workers import WorkerPool
from edgeconv.formats.base import Description, Format, TensorSpec, to_json
from edgeconv.formats.graph_detection import ROLES, last_part
from edgeconv.formats.registry import file_sha256
from edgeconv.recipe.contracts import StatesContract, source_contract
from edgeconv.recipe.detection import pipeline_for
from edgeconv.recipe.request import ConversionRequest

_STAGE = "edgeconv.front_ends.back_end_stage:make"
_AT_THE_CUT = ("raw_detection_boxes", "raw_detection_scores")


def cut_off(
    request: ConversionRequest, part: Format, description: Description
) -> tuple[ConversionRequest, BackEndPlan | None]:
    """The request with what the post-processing takes as its outputs, and the plan of what stands beside.

    What is taken are the boxes and scores of all anchors, decoded and converted, as every export of the
    Object Detection API since 2019 names them.

    Raises:
        UsageError: there are no such tensors, no ``pipeline.config``, or a post-processing that is not known.
    """
    if request.postprocessing != "cut":
        return request, None
    known = _tensors(description)
    boxes, scores, detections = _named_ends(request, part, known)
    if boxes is None or scores is None or not detections:
        raise UsageError(
            "it is not clear where the post-processing of this model begins",
            where=str(request.model),
            why=f"it has no {' and '.join(_AT_THE_CUT)} beside its detections",
            hint="name the tensors in front of it with --outputs, or keep it: --postprocessing keep",
        )
    if request.outputs:
        raise UsageError(
            "--postprocessing cut chooses the outputs, and --outputs names others",
            hint="leave one of the two out",
        )
    pipeline = pipeline_for(request, description)
    if pipeline is None:
        raise UsageError(
            "the numbers of the post-processing are in pipeline.config, and none is beside the model",
            where=str(request.model),
            hint="name it: --pipeline-config FILE",
        )
    whole = source_contract(
        part,
        description,
        signature=request.signature,
        inputs=request.inputs,
        outputs=(boxes.name, scores.name, *detections),
        shapes=request.shapes,
    )
    columns = scores.shape[-1] if scores.shape else None
    parameters = parameters_of(pipeline, boxes.name, scores.name, columns)
    plan = BackEndPlan(parameters, whole)
    return dataclasses.replace(request, outputs=(boxes.name, scores.name)), plan


def has_named_ends(request: ConversionRequest, part: Format, description: Description) -> bool:
    """Whether a detector is cut by :func:`cut_off`: its raw tensors have names, its numbers a file."""
    if request.outputs:
        return True  # which is refused there
    boxes, scores, detections = _named_ends(request, part, _tensors(description))
    pipeline = pipeline_for(request, description)
    if boxes is None or scores is None or not detections or pipeline is None:
        return False
    try:
        parameters_of(pipeline, boxes.name, scores.name, None)
    except UsageError:
        return False
    return True


def _named_ends(
    request: ConversionRequest, part: Format, known: list[TensorSpec]
) -> tuple[TensorSpec | None, TensorSpec | None, list[str]]:
    boxes, scores = (_at_the_cut(name, known, part, request) for name in _AT_THE_CUT)
    return (
        boxes,
        scores,
        [s.name for s in known if any(p.fullmatch(last_part(s.name)) for p in ROLES.values())],
    )


async def supply(plan: Plan, folder: Path, name: str, pool: WorkerPool, manifest: Manifest) -> Manifest:
    """Write ``NAME.back_end.py`` beside the artifacts, prove it on the source, and say so in the manifest."""
    planned, opener = plan.back_end, plan.nodes[SOURCE].opener
    if planned is None or opener is None or plan.source.contract is None or planned.whole is None:
        return manifest
    whole = planned.whole
    if planned.parameters:
        whole = dataclasses.replace(whole, inputs=plan.source.contract.inputs)
    path = folder / f"{name}.back_end.py"
    log = folder / f".{name}.back_end.log"
    stage = Stage(
        name="post-processing",
        call=_STAGE,
        payload={
            "artifact": to_json(dataclasses.replace(plan.source, contract=whole)),
            "runtime": opener.runtime,
            "options": dict(plan.open_options),
            "probes": str(plan.probes(whole).path),
            "parameters": dict(planned.parameters),
            "cut": to_json(planned.cut),
            "inputs": to_json(planned.inputs),
            "given": list(planned.given),
            "artifacts": [_opened(plan, folder, record) for record in manifest.artifacts],
            "title": name,
            "destination": str(path),
        },
        preload=opener.preload,
        log=log,
    )
    made: dict[str, Any] = {"composed": {}, "data": None}
    try:
        made = (await pool.run(stage)).value
        verdict: dict[str, Any] = {**made["verdict"], "reference": SOURCE}
    except EdgeconvError as error:
        verdict = {"verdict": "fail", "reference": SOURCE, "reason": str(error), "hint": error.hint}
    finally:
        log.unlink(missing_ok=True)
    record = BackEndRecord(
        path=path.name,
        sha256=file_sha256(path) if path.is_file() else None,
        data=made["data"],
        parameters=dict(planned.parameters),
        inputs=to_json((*planned.cut, *planned.inputs)),
        outputs=list(planned.given),
        gate=GateRecord.model_validate(verdict),
        composed={
            each: GateRecord.model_validate({**said, "reference": SOURCE})
            for each, said in made["composed"].items()
        },
    )
    said = said_of(record, _names(planned))
    for document in (manifest, read_manifest(folder)):
        document.back_end = record
        document.source.notes.extend(said)
        if document is not manifest:
            write_manifest(folder, document)
    return manifest


def said_of(record: BackEndRecord, taken: tuple[str, ...]) -> list[str]:
    """What a person is told of a back end: what it takes, and how its proofs ended."""

    def ended(gate: GateRecord) -> str:
        return f"{gate.verdict}{f', {gate.reason}' if gate.reason else ''}"

    cut = f"the post-processing was cut off; {record.path} does it from {', '.join(taken)}"
    lines = [f"{cut}: {ended(record.gate)}"]
    if record.composed:
        each = "; ".join(f"{name} {ended(gate)}" for name, gate in sorted(record.composed.items()))
        lines.append(f"{record.path} behind the artifacts, against the whole source: {each}")
    return lines


def _opened(plan: Plan, folder: Path, record: ArtifactRecord) -> dict[str, Any]:
    opener = plan.nodes[record.id].opener
    return {
        "id": record.id,
        "path": str(folder / record.path),
        "runtime": opener.runtime if opener else None,
        "contract": record.contract,
        "precision": record.precision,
    }


def _at_the_cut(
    name: str, known: list[TensorSpec], part: Format, request: ConversionRequest
) -> TensorSpec | None:
    """The tensor of that name: an output, or an inner one of a graph that has no signature."""
    found = next((spec for spec in known if last_part(spec.name) == name), None)
    if found is None and isinstance(part, StatesContract):
        with contextlib.suppress(UsageError):
            contract = part.contract(request.model, None, [name])
            found = contract.outputs[0] if contract is not None else None
    return found


def _names(planned: BackEndPlan) -> tuple[str, ...]:
    if planned.parameters:
        return str(planned.parameters["boxes"]), str(planned.parameters["scores"])
    return tuple(spec.name for spec in (*planned.cut, *planned.inputs))


def _tensors(description: Description) -> list[TensorSpec]:
    if description.signatures:
        chosen = [s for s in description.signatures if s.name == "serving_default"] or description.signatures
        return list(chosen[0].outputs)
    return [candidate.tensor for candidate in description.candidates if candidate.role == "output"]
