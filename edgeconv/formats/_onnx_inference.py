"""Works out the shapes of an ONNX model at batch 1."""

from __future__ import annotations

from typing import Any

# Ops of ONNX Runtime's own domain, which the inference of ONNX does not know: the standard op that gives the
# same shapes from some of their inputs. None takes all inputs.
_TWINS: dict[str, tuple[str, tuple[int, ...] | None]] = {
    "QuantizeLinear": ("QuantizeLinear", None),
    "DequantizeLinear": ("DequantizeLinear", None),
    "QLinearAdd": ("Add", (0, 3)),
    "QLinearMul": ("Mul", (0, 3)),
    "QLinearSigmoid": ("Identity", (0,)),
    "QLinearLeakyRelu": ("Identity", (0,)),
    "QLinearSoftmax": ("Identity", (0,)),
    "QLinearAveragePool": ("AveragePool", (0,)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,)),
    "QGemm": ("Gemm", (0, 3)),
    "FusedConv": ("Conv", (0, 1)),
    "FusedGemm": ("Gemm", (0, 1)),
    "DynamicQuantizeMatMul": ("MatMul", (0, 1)),
    "MatMulIntegerToFloat": ("MatMul", (0, 1)),
    "Gelu": ("Identity", (0,)),
    "FastGelu": ("Identity", (0,)),
    "QuickGelu": ("Identity", (0,)),
    "BiasGelu": ("Identity", (0,)),
    "LayerNormalization": ("Identity", (0,)),
    "SkipLayerNormalization": ("Identity", (0,)),
    "SkipSimplifiedLayerNormalization": ("Identity", (0,)),
}


def at_batch_one(model: Any) -> Any:
    """A copy of a model with local functions inlined, its free leading input dimensions set to 1, and all
    shapes that follow.

    The values of large tensors may be missing; those of small ones (shapes, axes) take part.

    Returns:
        A new ``onnx.ModelProto``; where the inference fails its shapes are those that the file states.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if copy.functions:
        from onnx import inliner

        try:
            copy = inliner.inline_local_functions(copy)
        except Exception:
            # What the C++ library cannot inline stays a call, which has no known shape.
            return copy
    _fix_batch(copy.graph)
    _put_twins(copy.graph)
    for data_propagation in (True, False):
        try:
            return onnx.shape_inference.infer_shapes(copy, data_prop=data_propagation)
        except Exception:
            # The library raises RuntimeError, ValidationError, InferenceError and others, by the op.
            continue
    return copy


def _fix_batch(graph: Any) -> None:
    initializers = {tensor.name for tensor in graph.initializer}
    batch_names: set[str] = set()
    for info in graph.input:
        if info.name in initializers or info.type.WhichOneof("value") != "tensor_type":
            continue
        dims = info.type.tensor_type.shape.dim
        if len(dims) and not dims[0].dim_value > 0:
            if dims[0].dim_param:
                batch_names.add(dims[0].dim_param)
            dims[0].dim_value = 1
    # Stated shapes further on would contradict the 1; the free ones are worked out anew.
    for info in (*graph.value_info, *graph.output, *graph.input):
        if info.type.WhichOneof("value") != "tensor_type":
            continue
        for dimension in info.type.tensor_type.shape.dim:
            if dimension.HasField("dim_param"):
                if dimension.dim_param in batch_names:
                    dimension.dim_value = 1
                else:
                    dimension.ClearField("dim_param")


def _put_twins(graph: Any) -> None:
    for node in graph.node:
        if node.domain == "com.microsoft":
            if node.op_type == "QLinearConcat":
                # Scale and zero point of the output, then three inputs to each tensor.
                _become(node, "Concat", tuple(range(2, len(node.input), 3)))
            elif node.op_type in _TWINS:
                _become(node, *_TWINS[node.op_type])
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _put_twins(attribute.g)
            for body in attribute.graphs:
                _put_twins(body)


def _become(node: Any, op: str, positions: tuple[int, ...] | None) -> None:
    node.op_type, node.domain = op, ""
    if positions is not None:
        names = list(node.input)
        del node.input[:]
        node.input.extend(names[position] for position in positions if position < len(names))
    if op == "Identity":
        del node.attribute[:]
        del node.output[1:]
