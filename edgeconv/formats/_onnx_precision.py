"""Tells the precision of an ONNX or ORT graph from its ops and the element types of their weights."""

from __future__ import annotations

from edgeconv.formats._onnx_graph import Graph, Node

# Inputs that are weights, of the ops whose weights decide the precision.
_WEIGHTS = {
    "Conv": (1,),
    "FusedConv": (1,),
    "NhwcFusedConv": (1,),
    "ConvTranspose": (1,),
    "DeformConv": (1,),
    "Gemm": (0, 1),
    "FusedGemm": (0, 1),
    "MatMul": (0, 1),
    "FusedMatMul": (0, 1),
    "Einsum": (0, 1),
    "LSTM": (1, 2),
    "GRU": (1, 2),
    "RNN": (1, 2),
    "Attention": (1,),
}
_INTEGER_OPS = {"QLinearConv", "QLinearMatMul", "QGemm", "QAttention", "QLinearConvTranspose"}
_DYNAMIC_OPS = {
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
    "DynamicQuantizeLSTM",
    "MatMulNBits",
    "MatMulBnb4",
    "MatMulFpQ4",
}
_FROM_INTEGERS = {"DequantizeLinear"}
_SEEN_THROUGH = {"Identity", "Transpose", "Reshape", "Cast", "Squeeze", "Unsqueeze", "Flatten"}
_NARROW = {"int8", "uint8", "int4", "uint4", "int2", "uint2"}
_WIDE = {"int16", "uint16"}
_HALF = {"float16", "bfloat16"}


def precision_of(graph: Graph) -> tuple[str, str | None]:
    """Precision and, where it is quantized, the style.

    Returns:
        One of ``fp32``, ``fp16``, ``dynamic``, ``int8``, ``int16x8``, ``mixed``; and ``QDQ`` (float ops
        between DequantizeLinear and QuantizeLinear), ``QOperator`` (integer ops) or ``None``.
    """
    kinds: set[str] = set()
    styles: set[str] = set()
    _collect(graph, {}, {}, kinds, styles)
    if not kinds:
        kinds = _by_constants(graph)
    style = styles.pop() if len(styles) == 1 else ("QDQ and QOperator" if styles else None)
    if len(kinds) == 1:
        return kinds.pop(), style
    for leading in ("dynamic", "fp16"):
        if kinds == {leading, "fp32"}:
            return leading, style
    return ("mixed" if kinds else "fp32"), style


def _collect(
    graph: Graph,
    outer_producers: dict[str, Node],
    outer_types: dict[str, str],
    kinds: set[str],
    styles: set[str],
) -> None:
    producers = {**outer_producers, **{output: node for node in graph.nodes for output in node.outputs}}
    types = {**outer_types, **{name: constant.dtype for name, constant in graph.constants.items()}}
    for node in graph.nodes:
        for body in node.subgraphs.values():
            _collect(body, producers, types, kinds, styles)
        if node.op in _INTEGER_OPS:
            kinds.add("int8")
            styles.add("QOperator")
        elif node.op in _DYNAMIC_OPS:
            kinds.add("dynamic")
            styles.add("QOperator")
        elif node.op in _WEIGHTS:
            kind, quantized = _float_op(node, producers, types)
            if kind is not None:
                kinds.add(kind)
                if quantized:
                    styles.add("QDQ")


def _float_op(node: Node, producers: dict[str, Node], types: dict[str, str]) -> tuple[str | None, bool]:
    """Kind of an op that computes in float, and whether integers are dequantized for it."""
    weights: set[str] = set()
    data: set[str] = set()
    for position, name in enumerate(node.inputs):
        stored = _stored(name, producers, types) if name else None
        if stored is None:
            continue
        dtype, constant = stored
        if constant and position in _WEIGHTS[node.op]:
            weights.add(dtype)
        elif not constant:
            data.add(dtype)
    if not weights:
        return None, False
    if weights & (_NARROW | _WIDE):
        if data & _WIDE:
            return "int16x8", True
        return ("int8" if data & _NARROW else "dynamic"), True
    return ("fp16" if weights & _HALF else "fp32"), False


def _stored(name: str, producers: dict[str, Node], types: dict[str, str]) -> tuple[str, bool] | None:
    """Element type in which a tensor is stored before it is dequantized, and whether it is a constant."""
    dequantized = False
    for _ in range(8):
        if name in types:
            return types[name], True
        producer = producers.get(name)
        if producer is None or not producer.inputs:
            return None
        if producer.op == "QuantizeLinear" and dequantized:
            # The type of the zero point is the type it quantizes to; without one it is uint8.
            zero_point = producer.inputs[2] if len(producer.inputs) > 2 else ""
            return types.get(zero_point, "uint8"), False
        if producer.op in _FROM_INTEGERS:
            dequantized = True
            zero_point = producer.inputs[2] if len(producer.inputs) > 2 else ""
            source = producer.inputs[0]
            if source not in producers and source not in types:
                # A quantized input of the model itself.
                return types.get(zero_point, "uint8"), False
        elif producer.op not in _SEEN_THROUGH:
            if dequantized:
                return "uint8", False
            return None
        name = producer.inputs[0]
    return None


def _by_constants(graph: Graph) -> set[str]:
    floats = {constant.dtype for constant in graph.constants.values()} | {
        dtype for dtype, _ in graph.types.values()
    }
    return {"fp16"} if floats & _HALF and "float32" not in floats else {"fp32"}
