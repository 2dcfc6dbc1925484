"""``edgeconv freeze``, ``thaw``, ``extract`` and ``split``: what they make, and how it is proven."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeconv.errors import UsageError
from edgeconv.execution import atomic
from edgeconv.execution.events import Listener
from edgeconv.execution.manifest import ArtifactRecord, GateRecord, Manifest
from edgeconv.formats.base import Contract, contract_from_json, to_json
from edgeconv.formats.registry import identify
from edgeconv.recipe.contracts import StatesContract, pin_shapes, require_ranks
from edgeconv.recipe.convert import convert, model_name
from edgeconv.recipe.request import ConversionRequest, Target
from edgeconv.recipe.workbench import (
    Made,
    SurgeryRequest,
    Whole,
    Workbench,
    at_work,
    checked_target,
    finished,
    frozen_whole,
    is_folder,
    manifest_path,
    record_of,
    scratch_folder,
    step_of,
    suffix_of,
)

_PARTS = "edgeconv.conversions._graph_parts"
_VARIABLES = "edgeconv.conversions._variables"
PART_FORMATS = ("frozen_graph", "saved_model")


def freeze(
    request: SurgeryRequest, keep_trainable: Sequence[str], listener: Listener
) -> tuple[Manifest, Path]:
    """Freeze a model whole, or all of it but the variables that match.

    Args:
        request: the call.
        keep_trainable: patterns of variables that stay variables; empty to freeze all.
        listener: is told of each step.

    Returns:
        The manifest, and where the result lies.

    Raises:
        UsageError: the call is wrong, or a pattern matches no variable.
        ConversionError: the model could not be frozen.
    """
    if keep_trainable:
        return variables_of(
            request,
            listener,
            default=".partly-frozen",
            conversion="partial_freezing",
            candidates=None,
            trainable=tuple(keep_trainable),
            others="constant",
            flag="--keep-trainable",
        )
    target = request.output
    if target is not None:
        target = checked_target(request, ".pb")
    with scratch_folder() as scratch:
        folder = target or Path(f"{model_name(request.model)}.edgeconv")
        single = target is not None and not is_folder(target)
        manifest, made = convert(
            conversion_request(request, scratch / "frozen" if single else folder), listener
        )
        if single and target is not None and manifest.artifacts:
            record = manifest.artifact("frozen_graph.fp32")
            atomic.make_writable_folder(target.absolute().parent)
            with atomic.explained_disk_errors(target.parent):
                atomic.copy_into_place(made / record.path, target)
                kept = record.model_copy(update={"path": target.name})
                steps = [step_of(r) for r in manifest.artifacts if r is not record]
                manifest = Manifest.model_validate(
                    {**manifest.to_json(), "artifacts": [kept], "steps": steps}
                )
                atomic.write_text(manifest_path(target), manifest.model_dump_json(by_alias=True, indent=1))
            folder = target
    return manifest, folder


def conversion_request(request: SurgeryRequest, output: Path) -> ConversionRequest:
    """The request of the frozen graph."""
    shared = {f.name for f in dataclasses.fields(SurgeryRequest)} & {
        f.name for f in dataclasses.fields(ConversionRequest)
    }
    values = {name: getattr(request, name) for name in shared - {"output"}}
    return ConversionRequest(output=output, to=(Target("frozen_graph", "fp32"),), **values)


def thaw(request: SurgeryRequest, variables: Sequence[str], listener: Listener) -> tuple[Manifest, Path]:
    """Make variables again of a frozen graph's weights.

    Args:
        request: the call.
        variables: patterns of constants that become variables; empty for those that are weights by what
            reads them.
        listener: is told of each step.

    Returns:
        The manifest, and the folder: a SavedModel, with a checkpoint under the variables' own names in it.

    Raises:
        UsageError: the call is wrong, a pattern matches no constant, or no constant is a weight.
        ConversionError: TensorFlow cannot import the graph.
    """
    return variables_of(
        request,
        listener,
        default=".thawed",
        conversion="thawing",
        candidates=None,
        trainable=tuple(variables) or None,
        others="variable",
        flag="--variables",
        checkpoint=True,
    )


def extract(
    request: SurgeryRequest, inputs: Sequence[str], outputs: Sequence[str], to: str | None, listener: Listener
) -> tuple[Manifest, Path]:
    """Take a part of a model out, between tensors.

    Args:
        request: the call; its own ``inputs`` and ``outputs`` are not used.
        inputs: names or patterns of tensors where the part begins; empty for the model's own.
        outputs: the same for its end.
        to: format of the part; ``None`` to tell it by the output's name.
        listener: is told of each step.

    Returns:
        The manifest, and where the part lies.

    Raises:
        UsageError: the call is wrong, or the outputs need more than the inputs; names the way.
    """
    part = identify(request.model)
    if not inputs and not outputs:
        raise UsageError(
            "no tensor is named, so the part would be the whole",
            hint="say where it begins and ends: --inputs TENSOR --outputs TENSOR",
        )
    onnx = part.name == "onnx"
    kind = _kind_of_part(request, to, ("onnx",) if onnx else PART_FORMATS)
    target = checked_target(request, f".part{suffix_of(kind)}")
    with scratch_folder() as scratch:
        whole = _onnx_whole(request) if onnx else _whole_for(request, outputs, scratch, listener)
        stages = "edgeconv.conversions._onnx_parts" if onnx else _PARTS
        preload = ("onnx",) if onnx else ("tensorflow",)

        async def work(bench: Workbench) -> tuple[list[tuple[Made, Path]], list[ArtifactRecord]]:
            named = {
                **whole.to_json(),
                "inputs": list(inputs),
                "outputs": list(outputs),
                "trust": request.trust,
            }
            told = await bench.run("part", "resolve", f"{stages}:resolve", named, preload)
            tensors = _pinned(_contract(told.value), request)
            notes = [f"the part lies between {_names(tensors.inputs)} and {_names(tensors.outputs)}"]
            if unneeded := told.value["unneeded"]:
                notes.append(f"left out, as no output of the part needs it: {', '.join(unneeded)}")
            probes = bench.probes(whole.contract)
            made, record = await _part(
                bench, whole, tensors, kind, "part", probes, notes, stages, target.name
            )
            return [(made, target)], [record]

        results, records = at_work(request, scratch, listener, work)
        folder = is_folder(target)
        records = [r.model_copy(update={"path": "." if folder else target.name}) for r in records]
        return finished(request, target, results, records, whole), target


def split(
    request: SurgeryRequest, at: Sequence[str], to: str | None, listener: Listener
) -> tuple[Manifest, Path]:
    """Cut a model in two at tensors, and prove the two, one behind the other, equal to the whole.

    Args:
        request: the call.
        at: names or patterns of the tensors of the cut.
        to: format of both parts.
        listener: is told of each step.

    Returns:
        The manifest, and the folder with ``NAME.head…`` and ``NAME.tail…``.

    Raises:
        UsageError: the call is wrong, or the cut does not separate the model; names the way round it.
    """
    kind = to or "frozen_graph"
    if kind not in PART_FORMATS:
        raise UsageError(f"a part cannot be a {kind}", hint=f"it can be: {', '.join(PART_FORMATS)}")
    target = checked_target(request, ".split")
    if not is_folder(target):
        raise UsageError("two parts need a folder", where=str(target), hint="name one with -o")
    name, suffix = model_name(request.model), suffix_of(kind)
    with scratch_folder() as scratch:
        whole = frozen_whole(request, scratch, listener)

        async def work(bench: Workbench) -> tuple[list[Made], list[ArtifactRecord]]:
            named = {**whole.to_json(), "at": list(at), "trust": request.trust}
            told = (await bench.run("cut", "resolve", f"{_PARTS}:split", named)).value
            head, tail = (_contract({"contract": told[side]}) for side in ("head", "tail"))
            probes = bench.probes(whole.contract)
            seen = await bench.observe(whole, probes)
            between = f"cut at {_names(head.outputs)}"
            parts, records = [], []
            for side, tensors in (("head", head), ("tail", tail)):
                file = f"{name}.{side}{suffix}"
                made, record = await _part(bench, whole, tensors, kind, side, probes, [between], _PARTS, file)
                parts.append(made)
                records.append(record)
            composed = await bench.run(
                "head and tail",
                "gate",
                "edgeconv.comparison.parts:gate_composed",
                {
                    "head": parts[0].to_json(),
                    "tail": parts[1].to_json(),
                    "whole_contract": to_json(whole.contract),
                    "probes": str(probes),
                    "reference_observation": str(seen),
                    "reference": whole.identifier,
                    "tolerance": bench.tolerance(),
                },
            )
            verdict = bench.verdict(composed)
            said = f"fed with what the head gives, it gives what the whole model gives: {verdict.verdict}"
            # The tail's gate is the composed one: that it is right alone is then said by the head's.
            alone = records[1].gate
            gate = verdict.model_copy(update={"notes": [*verdict.notes, said]})
            if verdict.verdict == "pass" and alone.verdict != "pass":
                gate = alone
            records[1] = records[1].model_copy(update={"gate": gate})
            return parts, records

        parts, records = at_work(request, scratch, listener, work)
        gathered = scratch / target.name
        gathered.mkdir()
        for made, record in zip(parts, records, strict=True):
            shutil.move(made.path, gathered / record.path)
        both = dataclasses.replace(parts[0], path=gathered)
        return finished(request, target, [(both, target)], records, whole), target


async def _part(
    bench: Workbench,
    whole: Whole,
    tensors: Contract,
    kind: str,
    node: str,
    probes: Path,
    notes: Sequence[str],
    stages: str,
    file: str,
) -> tuple[Made, ArtifactRecord]:
    """Write the part between tensors and prove it against the whole."""
    payload = {**whole.to_json(), "contract": to_json(tensors), "trust": bench.request.trust}
    onnx = whole.format == "onnx"
    suffix = suffix_of("onnx" if onnx else "frozen_graph")
    preload = ("onnx",) if onnx else ("tensorflow",)
    made = await bench.make(
        node,
        "onnx" if onnx else "frozen_graph",
        f"{stages}:extract",
        payload,
        bench.scratch / f"{node}{suffix}",
        preload,
    )
    if kind == "saved_model":
        graph = {"path": str(made.path), "contract": to_json(made.contract), "trust": bench.request.trust}
        told = await bench.make(
            node,
            kind,
            f"{_VARIABLES}:with_variables",
            {**graph, "candidates": [], "trainable": None, "others": "constant"},
            bench.scratch / f"{node}.saved_model",
        )
        made = told
    made = dataclasses.replace(made, notes=(*notes, *made.notes))
    gate = await bench.gate_part(made, whole, tensors, probes)
    return made, record_of(made, gate, "extraction", whole.identifier, file)


def variables_of(
    request: SurgeryRequest,
    listener: Listener,
    *,
    default: str,
    conversion: str,
    candidates: Sequence[str] | None,
    trainable: Sequence[str] | None,
    others: str,
    flag: str,
    checkpoint: bool = False,
    more: Mapping[str, Any] | None = None,
) -> tuple[Manifest, Path]:
    """A SavedModel with variables of a model's frozen graph, proven equal and trainable."""
    target = checked_target(request, default)
    if not is_folder(target):
        raise UsageError(
            "a model with variables is a SavedModel, which is a folder",
            where=str(target),
            hint="name a folder with -o",
        )
    with scratch_folder() as scratch:
        whole = frozen_whole(request, scratch, listener)
        require_ranks(whole.contract)

        async def work(bench: Workbench) -> tuple[Made, ArtifactRecord, dict[str, Any]]:
            made = await bench.make(
                "saved_model.fp32",
                "saved_model",
                f"{_VARIABLES}:with_variables",
                {
                    **whole.to_json(),
                    "candidates": candidates,
                    "trainable": trainable,
                    "others": others,
                    "flag": flag,
                    "checkpoint": checkpoint,
                    "trust": request.trust,
                    **(more or {}),
                },
                scratch / "made",
            )
            probes = bench.probes(whole.contract)
            seen = await bench.observe(whole, probes)
            gate = await bench.gate(made, whole, probes, seen)
            step = await bench.run(
                made.id,
                "train",
                f"{_VARIABLES}:training_step",
                {"path": str(made.path), "contract": to_json(made.contract), "probes": str(probes)},
            )
            variables = made.value["variables"]
            gate, training = _with_training(gate, variables, step.value)
            notes = (*_told_variables(variables, training), *made.notes)
            made = dataclasses.replace(made, notes=notes)
            record = record_of(made, gate, conversion, whole.identifier, ".")
            return made, record, {"variables": variables, "training": training}

        made, record, more = at_work(request, scratch, listener, work)
        record = ArtifactRecord.model_validate({**record.model_dump(by_alias=True), **more})
        return finished(request, target, [(made, target)], [record], whole), target


def _with_training(
    gate: GateRecord, variables: Sequence[dict[str, Any]], step: dict[str, Any]
) -> tuple[GateRecord, dict[str, Any]]:
    """The verdict with what one training step showed: it must move variables that are to be trained only."""
    wanted = {v["name"] for v in variables if v["trainable"]}
    astray = sorted(set(step["moved"]) - wanted)
    problem = None
    if step.get("error"):
        problem = f"the model cannot be differentiated: {step['error']}"
    elif astray:
        problem = f"a training step moved variables that are not to be trained: {', '.join(astray[:5])}"
    elif wanted and not step["moved"]:
        problem = "a training step moved nothing: no output depends on the variables by a gradient"
    elif wanted and not step["changed"] > 0:
        problem = "a training step moved variables, but no output changed"
    if problem is None:
        return gate, step
    if gate.verdict == "pass":
        hint = "leave out what lies behind the op without a gradient, or choose other variables"
        gate = gate.model_copy(update={"verdict": "fail", "reason": problem, "hint": hint})
    return gate, {**step, "problem": problem}


def _told_variables(variables: Sequence[dict[str, Any]], step: dict[str, Any]) -> list[str]:
    trained = [v["name"] for v in variables if v["trainable"]]
    fixed = [v["name"] for v in variables if not v["trainable"]]
    notes = [f"{len(trained)} trainable variables: {_some(trained)}"]
    if fixed:
        notes.append(f"{len(fixed)} variables that are not trained: {_some(fixed)}")
    if step.get("problem") is None and trained:
        notes.append(
            f"a training step moved {len(step['moved'])} of them and nothing else, "
            f"and changed an output by {step['changed']:.3g}"
        )
    if without := step["without_gradient"]:
        notes.append(f"no gradient reached {len(without)} of them on this input: {_some(without)}")
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "") or "none"


def _whole_for(request: SurgeryRequest, outputs: Sequence[str], scratch: Path, listener: Listener) -> Whole:
    """The whole that a part is taken from; of a graph with no clear end, up to the outputs named."""
    try:
        return frozen_whole(request, scratch, listener)
    except UsageError:
        part = identify(request.model)
        if part.name != "frozen_graph" or not isinstance(part, StatesContract) or not outputs:
            raise
        contract = part.contract(request.model, None, list(outputs))
        if contract is None:
            raise
        return Whole(request.model.absolute(), part.name, pin_shapes(contract, request.shapes), "source")


def _onnx_whole(request: SurgeryRequest) -> Whole:
    from edgeconv.recipe.contracts import describe_source, source_contract

    part = identify(request.model)
    contract = source_contract(part, describe_source(part, request.model), shapes=request.shapes)
    assert contract is not None
    return Whole(request.model.absolute(), part.name, contract, "source")


def _kind_of_part(request: SurgeryRequest, to: str | None, known: tuple[str, ...]) -> str:
    if to is not None:
        if to not in known:
            raise UsageError(f"a part of this model cannot be a {to}", hint=f"it can be: {', '.join(known)}")
        return to
    if len(known) == 1 or request.output is None:
        return known[0]
    return "saved_model" if is_folder(request.output) else "frozen_graph"


def _pinned(tensors: Contract, request: SurgeryRequest) -> Contract:
    shapes = {n: s for n, s in request.shapes.items() if n in {spec.name for spec in tensors.inputs}}
    return pin_shapes(tensors, shapes)


def _contract(told: Any) -> Contract:
    contract = contract_from_json(told["contract"])
    assert contract is not None
    return contract


def _names(specs: Sequence[Any]) -> str:
    return ", ".join(f"'{spec.name}'" for spec in specs) or "nothing"
