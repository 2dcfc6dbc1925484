"""``edgeconv layers``: freeze and unfreeze layers of a Keras file or SavedModel, proven equal as it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeconv.errors import UsageError
from edgeconv.execution.events import Listener
from edgeconv.execution.manifest import ArtifactRecord, GateRecord, Manifest
from edgeconv.formats.layers import keras_config, layers_in
from edgeconv.formats.registry import identify
from edgeconv.recipe.contracts import describe_source, source_contract
from edgeconv.recipe.surgery import variables_of
from edgeconv.recipe.workbench import (
    Made,
    SurgeryRequest,
    Whole,
    Workbench,
    at_work,
    checked_target,
    finished,
    is_folder,
    record_of,
    scratch_folder,
)
from edgeconv.surgery.keras_layers import decided, leaves

_STAGES = "edgeconv.conversions._keras_layers"


def change_layers(
    request: SurgeryRequest,
    freeze: Sequence[str],
    unfreeze: Sequence[str],
    first: int,
    listener: Listener,
) -> tuple[Manifest, Path]:
    """Save a model with other layers frozen.

    Args:
        request: the call; a Keras file gives a Keras file where ``output`` has its suffix, else a SavedModel.
        freeze, unfreeze: patterns on the names of layers.
        first: so many layers from the front are frozen.
        listener: is told of each step.

    Returns:
        The manifest, and where the result lies.

    Raises:
        UsageError: the call is wrong, or a pattern matches no layer.
        ConversionError: the model cannot be written.
    """
    part = identify(request.model)
    suffix = request.model.suffix if part.name == "keras" else ""
    target = checked_target(request, f".layers{suffix}")
    if part.name != "keras":
        flags = {layer.name: bool(layer.trainable) for layer in layers_in(request.model, request.tags)}
        wanted = decided(flags, freeze, unfreeze, first, str(request.model))
        return _saved_model(request, target, wanted, listener)
    config = keras_config(request.model)
    wanted = decided(leaves(config), freeze, unfreeze, first, str(request.model))
    if is_folder(target):
        return _saved_model(request, target, wanted, listener)
    return _keras_file(request, target, wanted, listener)


def _keras_file(
    request: SurgeryRequest, target: Path, wanted: dict[str, bool], listener: Listener
) -> tuple[Manifest, Path]:
    part = identify(request.model)
    contract = source_contract(part, describe_source(part, request.model), shapes=request.shapes)
    if contract is None:
        raise UsageError("the model does not say what its inputs are", where=str(request.model))
    whole = Whole(request.model.absolute(), part.name, contract, "source")
    same_kind = {".h5": ".h5", ".hdf5": ".h5"}.get(request.model.suffix, request.model.suffix)
    if target.suffix == ".keras" and same_kind == ".h5":
        raise UsageError(
            "an HDF5 file stays one, as its weights are not touched",
            where=str(target),
            hint=f"name it -o {target.with_suffix('.h5')}",
        )
    options = {"trust": True} if request.trust else {}

    async def work(bench: Workbench) -> tuple[Made, ArtifactRecord]:
        made = await bench.make(
            "keras.fp32",
            "keras",
            f"{_STAGES}:write",
            {**whole.to_json(), "wanted": wanted},
            bench.scratch / f"made{target.suffix}",
        )
        probes = bench.probes(contract)
        seen = await bench.observe(whole, probes)
        gate = await bench.gate(made, whole, probes, seen)
        told = await bench.run(
            made.id, "reload", f"{_STAGES}:loaded_flags", {"path": str(made.path), "options": options}
        )
        gate, notes = _with_flags(gate, wanted, told.value["trained"])
        made = dataclasses.replace(made, notes=notes)
        return made, record_of(made, gate, "layers", "source", target.name)

    with scratch_folder() as scratch:
        made, record = at_work(request, scratch, listener, work)
        return finished(request, target, [(made, target)], [record], whole), target


def _with_flags(
    gate: GateRecord, wanted: dict[str, bool], trained: dict[str, bool]
) -> tuple[GateRecord, tuple[str, ...]]:
    """The verdict with what Keras says of the file: layers with weights must be trained as asked."""
    by_name: dict[str, list[bool]] = {}
    for name, flag in wanted.items():
        by_name.setdefault(name.rpartition("/")[2], []).append(flag)
    wrong = sorted(n for n, flag in trained.items() if by_name.get(n) and flag not in by_name[n])
    frozen = [name for name, flag in trained.items() if not flag]
    listed = ": " + ", ".join(frozen[:6]) + (" …" if len(frozen) > 6 else "") if frozen else ""
    count = len(trained) - len(frozen)
    note = f"loaded again, {count} layers with weights are trainable and {len(frozen)} are frozen{listed}"
    if wrong and gate.verdict == "pass":
        reason = f"loaded again, these layers are not as asked: {', '.join(wrong[:5])}"
        gate = gate.model_copy(update={"verdict": "fail", "reason": reason})
    return gate, (note,)


def _saved_model(
    request: SurgeryRequest, target: Path, wanted: dict[str, bool], listener: Listener
) -> tuple[Manifest, Path]:
    request = dataclasses.replace(request, output=target)
    frozen = [name for name, flag in wanted.items() if not flag]
    trained = [name for name, flag in wanted.items() if flag]
    chosen: dict[str, Any] = {"frozen_layers": frozen, "trained_layers": trained}
    return variables_of(
        request,
        listener,
        default=".layers",
        conversion="layers",
        candidates=None,
        trainable=None,
        others="variable",
        flag="--freeze",
        more=chosen,
    )
