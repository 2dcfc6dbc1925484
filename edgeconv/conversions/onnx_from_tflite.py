"""TFLite in fp32 to ONNX by tf2onnx's TFLite front end: the way for graphs that the other one cannot take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeconv.conversions._tf2onnx_run import OnnxTarget
from edgeconv.conversions.base import Conversion, ConversionJob, ConversionResult
from edgeconv.errors import ConversionError, UsageError


def convert(job: ConversionJob) -> ConversionResult:
    """See :data:`CONVERSION`; raises ConversionError where an input or output is not in the file."""
    from edgeconv.conversions import _onnx_files as files
    from edgeconv.conversions._tf2onnx_run import UnsupportedOpsError, convert_tflite
    from edgeconv.conversions.onnx_from_frozen_graph import checked_opset, write

    contract = job.source.contract
    if contract is None:
        raise UsageError("the TFLite file has no contract", where=str(job.source.path))
    opset = checked_opset(job)
    inside = files.named_apart(contract)
    failure: ConversionError | None = None
    for optimise in (True, False):
        try:
            model = convert_tflite(job.source.path, OnnxTarget(opset, optimise))
            present = {value.name for value in (*model.graph.input, *model.graph.output)}
            logical: dict[str, str] = {}
            for spec in inside.inputs:
                logical[spec.name] = _present(spec.inner_name, present, job.source.path)
            for spec in inside.outputs:
                name = _present(spec.inner_name, present, job.source.path)
                logical[spec.name] = _copied(model, name) if name in logical.values() else name
            write(model, {}, inside, logical, job.destination)
            break
        except UnsupportedOpsError:
            raise
        except ConversionError as error:
            failure = failure or error
            files.remove(job.destination)
    else:
        assert failure is not None
        raise failure
    found = files.under_names_of(contract, files.contract_in_file(inside, job.destination))
    return ConversionResult(found, ("made from the TFLite file",))


def _copied(model: Any, name: str) -> str:
    """A tensor of its own with the same values: ONNX takes no tensor in two roles."""
    copy = f"{name}/copy_{len(model.graph.node)}"
    model.graph.node.add(op_type="Identity", name=copy, input=[name], output=[copy])
    return copy


def _present(name: str, present: set[str], path: Path) -> str:
    """The name in the ONNX graph of a tensor of the TFLite file."""
    for candidate in (name, f"{name}:0", name.removesuffix(":0")):
        if candidate in present:
            return candidate
    raise ConversionError(
        f"'{name}' was lost in the conversion",
        where=str(path),
        why=f"the graph has {', '.join(sorted(present))}",
        hint="try the route from the frozen graph",
    )


CONVERSION = Conversion(
    name="onnx_from_tflite",
    source="tflite",
    target="onnx",
    precisions=("fp32",),
    convert=convert,
    cost=10.0,
    preload=("tensorflow",),
    tools=("tensorflow", "tf2onnx", "onnx", "onnxruntime"),
    options=("opset",),
)
