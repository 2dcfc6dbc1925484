"""Frozen graph to ONNX in fp32: tf2onnx on the graph without its weights, the weights put in afterwards.

tf2onnx by itself copies the weights for each of its passes (6.5 GB for a ResNet50) and leaves broken
files behind in known cases; what is done about each is in the modules beside this one. Where the quick
way does not work for a graph, the weights stay in; where tf2onnx's optimiser fails, it is left out. A graph
that tf2onnx refuses is rewritten for it (``_target_graph``) and tried again; the plain way comes first, since
tf2onnx makes LSTM and GRU of the loops that it knows. Maps over a batch are rewritten at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeconv.conversions._target_graph import TargetGraph, needs_rewriting, rewritten
from edgeconv.conversions._tf2onnx_run import OnnxTarget
from edgeconv.conversions.base import Conversion, ConversionJob, ConversionResult
from edgeconv.errors import ConversionError, UsageError
from edgeconv.formats.base import Contract
from edgeconv.surgery.changes import places

DEFAULT_OPSET = 17
OPSETS = range(13, 19)


def convert(job: ConversionJob) -> ConversionResult:
    """See :data:`CONVERSION`; raises UsageError for inputs of unknown rank."""
    from edgeconv.conversions import _tf2onnx_graph as graphs

    contract = job.source.contract
    if contract is None:
        raise UsageError(
            "the frozen graph has no contract", where=str(job.source.path), hint="say --outputs TENSOR"
        )
    if not contract.outputs:
        raise UsageError(
            "the contract has no outputs", where=str(job.source.path), hint="say --outputs TENSOR"
        )
    graphs.checked_inputs(contract, job.source.path)
    first = None
    if needs_rewriting(job.source.path.read_bytes(), "onnx first"):
        first = next(_rewritten(contract, job, "onnx first"), None)
    try:
        return _converted(job, contract) if first is None else _of(first, job)
    except ConversionError as error:
        refused = error
    for target in ("onnx", "onnx in float32"):
        if target == "onnx in float32" and not _no_kernel(refused):
            continue
        for graph in _rewritten(contract, job, target):
            try:
                return _of(graph, job)
            except ConversionError as error:
                refused = error
    raise refused


def _no_kernel(error: ConversionError) -> bool:
    """Whether ONNX Runtime has the op, but not for this type."""
    return "NOT_IMPLEMENTED" in f"{error.what} {error.why}"


def _rewritten(contract: Contract, job: ConversionJob, target: str) -> Iterator[TargetGraph]:
    from edgeconv.conversions._tf2onnx_graph import read_graph

    data = read_graph(job.source.path).SerializeToString()
    return (found for found in rewritten(data, contract, str(job.source.path), target) if found.effective)


def _of(target: TargetGraph, job: ConversionJob) -> ConversionResult:
    """Convert a graph that was rewritten; a refusal of it is said about the source."""
    path = job.scratch / "rewritten.pb"
    path.write_bytes(target.data)
    source = replace(job.source, path=path, contract=target.contract)
    try:
        result = _converted(replace(job, source=source), target.contract)
    except ConversionError as error:
        error.where = (error.where or "").replace(str(path), str(job.source.path)) or None
        raise
    return replace(result, notes=(*target.notes, *result.notes))


def _converted(job: ConversionJob, contract: Contract) -> ConversionResult:
    from edgeconv.conversions import _onnx_files as files
    from edgeconv.conversions._tf2onnx_run import UnsupportedOpsError

    inside = files.named_apart(contract)
    opset = checked_opset(job)
    failures: list[ConversionError] = []
    for apart, optimise in ((True, True), (False, True), (False, False)):
        try:
            notes = _attempt(inside, job, OnnxTarget(opset, optimise), weights_apart=apart)
            break
        except UnsupportedOpsError:
            raise
        except ConversionError as error:
            failures.append(error)
            files.remove(job.destination)
    else:
        raise failures[0]
    if failures:
        notes.append(f"the quick way failed and a slower one was taken: {failures[0]}"[:300])
    found = files.contract_in_file(inside, job.destination)
    return ConversionResult(files.under_names_of(contract, found), tuple(notes))


def checked_opset(job: ConversionJob) -> int:
    """The opset that the user asks for, or the default; UsageError if tf2onnx cannot write it."""
    opset = int(job.options.get("opset", DEFAULT_OPSET))
    if opset not in OPSETS:
        raise UsageError(
            f"opset {opset} cannot be written", hint=f"choose one from {OPSETS.start} to {OPSETS.stop - 1}"
        )
    return opset


def _attempt(contract: Contract, job: ConversionJob, target: OnnxTarget, *, weights_apart: bool) -> list[str]:
    """One way through tf2onnx, from the file to the file; returns the notes."""
    from edgeconv.conversions import _tf2onnx_graph as graphs
    from edgeconv.conversions._tf2onnx_inline import inline_calls
    from edgeconv.conversions._tf2onnx_rewrites import rewrite_ops
    from edgeconv.conversions._tf2onnx_run import convert_graph
    from edgeconv.conversions._tf2onnx_weights import take_weights

    path = job.source.path
    graph = graphs.read_graph(path)
    inlined = inline_calls(graph)
    graph, inputs, outputs = graphs.with_contract(graph, contract, path)
    rewritten = rewrite_ops(graph)
    weights = take_weights(graph) if weights_apart else {}
    graph = graphs.compacted(graph)
    model = convert_graph(graph, [*inputs, *weights], outputs, target, path)
    del graph
    logical = {spec.name: f"{node}:0" for spec, node in zip(contract.inputs, inputs, strict=True)}
    logical |= {spec.name: f"{node}:0" for spec, node in zip(contract.outputs, outputs, strict=True)}
    write(
        model, {f"{name}:0": weights.pop(name) for name in list(weights)}, contract, logical, job.destination
    )
    notes = [f"{inlined} function calls were inlined"] if inlined else []
    return notes + [f"{op} was rewritten {places(count)}" for op, count in sorted(rewritten.items())]


def write(
    model: Any, weights: dict[str, Any], contract: Contract, tensors: dict[str, str], destination: Path
) -> None:
    """Simplify ``model``, give it its weights and its interface, write it and prove that it loads.

    Args:
        model: ModelProto, some of whose graph inputs are weights.
        weights: name of such an input to its array.
        contract: of the new file.
        tensors: logical name to present name.
        destination: the file.
    """
    from edgeconv.conversions import _onnx_files as files
    from edgeconv.surgery.onnx_fold_constants import fold_constants
    from edgeconv.surgery.onnx_fuse_batch_norm import fuse_batch_norm
    from edgeconv.surgery.onnx_initializers import take_initializers, write_model
    from edgeconv.surgery.onnx_name_interface import name_constant_outputs, name_interface
    from edgeconv.surgery.onnx_remove_unused import remove_unused

    constants = take_initializers(model)
    constants.update(weights)
    name_interface(model, constants, contract, tensors)
    remove_unused(model, constants)
    fold_constants(model, constants)
    fuse_batch_norm(model, constants)
    name_constant_outputs(model, constants)
    remove_unused(model, constants)
    model.ir_version = files.IR_VERSION
    write_model(model, constants, destination)
    files.prove_loads(destination)


CONVERSION = Conversion(
    name="onnx_from_frozen_graph",
    source="frozen_graph",
    target="onnx",
    precisions=("fp32",),
    convert=convert,
    preload=("tensorflow",),
    tools=("tensorflow", "tf2onnx", "onnx", "onnxruntime"),
    options=("opset",),
)
