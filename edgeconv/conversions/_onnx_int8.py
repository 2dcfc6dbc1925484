"""Static int8 quantization of an ONNX model by ONNX Runtime's quantizer, in QDQ form.

Weights are int8, symmetric, one scale a channel; activations are uint8 with a zero point. Inputs and outputs
stay float32. What is quantized is decided here; ONNX Runtime's quantizer writes it down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeconv.errors import ConversionError

FLOAT_OPS = frozenset(
    {
        "Softmax",
        "LayerNormalization",
        "InstanceNormalization",
        "BatchNormalization",
        "CumSum",
        "TopK",
        "ArgMax",
    }
)
"""Quantizable, but little work and much accuracy: a softmax over a thousand classes in steps of 1/255."""

_FUSED_ACTIVATIONS = ("Relu", "Clip")


def quantize_int8(path: Path, samples: Sequence[Mapping[str, Any]], scratch: Path) -> tuple[Any, list[str]]:
    """Quantize the model at ``path``.

    Args:
        path: ONNX, fp32.
        samples: input name to float or integer array with batch dimension; at least one.
        scratch: an empty folder.

    Returns:
        The quantized ModelProto with its weights, and notes: which ops stayed float.

    Raises:
        ConversionError: nothing in the model can be quantized, or the quantizer fails; names the op.
    """
    import onnx
    from onnxruntime.quantization import QuantType, registry
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    from edgeconv.conversions._onnx_ranges import tensor_ranges

    prepared = _prepared(path, scratch)
    model = onnx.load(str(prepared), load_external_data=False)
    supported = (set(registry.QLinearOpsRegistry) | set(registry.QDQRegistry)) - FLOAT_OPS
    present = {node.op_type for node in model.graph.node}
    if not present & {"Conv", "ConvTranspose", "Gemm", "MatMul"}:
        raise ConversionError(
            "nothing in the model can be quantized",
            where=str(path),
            why=f"it has no convolution or matrix product, only {', '.join(sorted(present)[:12])}",
            hint="keep it in fp32, or try --to tflite:int8",
        )
    excluded = _unquantizable(model)
    wanted, copied = _tensors(model, supported)
    ranges: dict[str, Any] = dict(tensor_ranges(prepared, wanted, samples, scratch))
    for tensor, source in copied:
        ranges[tensor] = ranges[source]
    onnx.load_external_data_for_model(model, str(scratch))
    try:
        quantizer = QDQQuantizer(
            model,
            True,
            False,
            QuantType.QInt8,
            QuantType.QUInt8,
            TensorsData(CalibrationMethod.MinMax, ranges),
            [],
            sorted(excluded),
            sorted(supported),
            {"WeightSymmetric": True, "ActivationSymmetric": False},
        )
        quantizer.quantize_model()
    except ConversionError:
        raise
    except Exception as error:
        raise ConversionError(
            "ONNX Runtime's quantizer failed",
            where=str(path),
            why=f"{type(error).__name__}: {str(error)[:400]}",
            hint="keep it in fp32, or try --to tflite:int8",
        ) from error
    result = quantizer.model.model
    return result, _notes(model, supported, excluded)


def _prepared(path: Path, scratch: Path) -> Path:
    """A file with the model after ONNX Runtime's portable optimisations, with the shape of each tensor."""
    import onnx
    import onnxruntime

    from edgeconv.conversions._onnx_files import refusal

    optimised = scratch / "prepared.onnx"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(optimised)
    # Weights beside the file, so that it may be of any size.
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_file_name", "prepared.data"
    )
    try:
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise refusal(str(error), path, "ONNX Runtime refuses the model") from error
    inferred = scratch / "inferred.onnx"
    onnx.shape_inference.infer_shapes_path(str(optimised), str(inferred), data_prop=True)
    model = onnx.load(str(inferred), load_external_data=False)
    for index, node in enumerate(model.graph.node):
        # The quantizer excludes nodes by name, and names of its own are made from these.
        node.name = node.name or f"{node.op_type}_{index}"
    inferred.write_bytes(model.SerializeToString())
    return inferred


def _unquantizable(model: Any) -> set[str]:
    """Names of nodes whose quantized form ONNX Runtime does not have or gets wrong."""
    known = {t.name: len(t.dims) for t in model.graph.initializer}
    integers = _integer_tensors(model)
    excluded: set[str] = set()
    for node in model.graph.node:
        if any(name in integers for name in (*node.input[:1], *node.output)):
            excluded.add(node.name)
        if node.op_type == "ConvTranspose" and any(a.name == "group" and a.i > 1 for a in node.attribute):
            # Weights are (in, out / groups): one scale an output channel has no axis.
            excluded.add(node.name)
        if node.op_type in ("Add", "Mul") and all(name in known for name in node.input):
            excluded.add(node.name)
    return excluded


def _integer_tensors(model: Any) -> set[str]:
    from onnx import TensorProto

    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    found = {value.name for value in values if value.type.tensor_type.elem_type not in floats}
    return found | {t.name for t in model.graph.initializer if t.data_type not in floats}


def _tensors(model: Any, supported: set[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Tensors to measure, and pairs of a tensor and another whose range it takes.

    The input of a Relu or Clip is quantized with the range of its output, so it is not measured.
    """
    from onnx import TensorProto

    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*model.graph.value_info, *model.graph.input, *model.graph.output)
    }
    weights = {tensor.name for tensor in model.graph.initializer}
    uses = Counter(name for node in model.graph.node for name in node.input)
    outputs = {value.name for value in model.graph.output}
    copied: list[tuple[str, str]] = []
    measured: dict[str, None] = {}
    for node in model.graph.node:
        if node.op_type not in supported:
            continue
        for name in (*node.input, *node.output):
            if name and name not in weights and types.get(name) == TensorProto.FLOAT:
                measured[name] = None
    for node in model.graph.node:
        source, result = (*node.input[:1], *node.output[:1])[:2] if node.input else ("", "")
        alone = node.op_type in _FUSED_ACTIVATIONS and uses[source] == 1 and source not in outputs
        if alone and source in measured and result in measured:
            del measured[source]
            copied.append((source, result))
    # A chain (Relu behind Clip) takes its range from the end.
    return list(measured), copied[::-1]


def _notes(model: Any, supported: set[str], excluded: set[str]) -> list[str]:
    stayed = Counter(
        node.op_type
        for node in model.graph.node
        if (node.op_type not in supported or node.name in excluded) and node.op_type not in _BOOKKEEPING
    )
    if not stayed:
        return []
    listed = ", ".join(f"{count} {op}" for op, count in sorted(stayed.items()))
    return [f"computed in float: {listed}"]


_BOOKKEEPING = frozenset({"Shape", "Cast", "Constant", "ConstantOfShape", "Identity", "Range", "Size"})
