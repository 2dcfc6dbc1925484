"""Counts the multiply-accumulates of an ONNX graph whose shapes are those of batch 1."""

from __future__ import annotations

import math
from collections.abc import Callable

from edgeconv.formats._onnx_graph import Dimensions, Graph, Node
from edgeconv.formats._onnx_loops import rounds_of

Shape = Callable[[int], tuple[int, ...]]


class UnknownMacsError(ValueError):
    """The count cannot be told; the message names the op and why."""


# Ops that multiply, though how often hangs on more than the shapes looked at here.
_UNCOUNTED = {
    "Attention",
    "GroupQueryAttention",
    "MultiHeadAttention",
    "QAttention",
    "PackedAttention",
    "QOrderedAttention",
    "LongformerAttention",
    "DecoderMaskedMultiHeadAttention",
    "MoE",
    "QMoE",
    "BeamSearch",
    "GreedySearch",
    "LinearAttention",
    "STFT",
    "DFT",
}


def count_macs(graph: Graph) -> int:
    """Multiply-accumulates of one run.

    Raises:
        UnknownMacsError: a shape, the rounds of a loop or an op is not known.
    """
    return _count(graph, {})


def _count(graph: Graph, outer: dict[str, Dimensions | None]) -> int:
    shapes = dict(outer)
    shapes.update((name, dims) for name, (_, dims) in graph.types.items())
    shapes.update((name, constant.dims) for name, constant in graph.constants.items())
    return sum(_node_macs(graph, node, shapes) for node in graph.nodes)


def _node_macs(graph: Graph, node: Node, shapes: dict[str, Dimensions | None]) -> int:
    def shape_of(name: str) -> tuple[int, ...]:
        dims = shapes.get(name)
        if dims is None or None in dims:
            raise UnknownMacsError(f"{node.qualified} has a shape that is not fixed ('{name}')")
        return tuple(dimension or 0 for dimension in dims)

    def taken(position: int) -> tuple[int, ...]:
        return shape_of(node.inputs[position])

    def given(position: int) -> tuple[int, ...]:
        return shape_of(node.outputs[position])

    if node.subgraphs:
        return _control_flow_macs(graph, node, shapes)
    if node.op in _UNCOUNTED:
        raise UnknownMacsError(f"{node.qualified} cannot be counted")
    rule = _RULES.get(node.op)
    if rule is None:
        return 0
    try:
        return rule(node, taken, given)
    except (IndexError, TypeError, KeyError):
        raise UnknownMacsError(f"{node.qualified} has unexpected inputs") from None


def _control_flow_macs(graph: Graph, node: Node, shapes: dict[str, Dimensions | None]) -> int:
    counts = {name: _count(body, shapes) for name, body in node.subgraphs.items()}
    most = max(counts.values())
    if not most or node.op == "If":
        return most
    if node.op == "Loop":
        rounds = rounds_of(graph, node, next(iter(node.subgraphs.values())))
        if rounds is not None:
            return most * rounds
    if node.op == "Scan":
        scanned = int(node.attributes.get("num_scan_inputs", 1))
        dims = shapes.get(node.inputs[-scanned]) if 0 < scanned <= len(node.inputs) else None
        if dims and dims[0] is not None and "scan_input_axes" not in node.attributes:
            return most * dims[0]
    raise UnknownMacsError(f"the rounds of a {node.qualified} are not constant")


def _convolution(weights: int) -> Callable[[Node, Shape, Shape], int]:
    return lambda node, taken, given: math.prod(given(0)) * math.prod(taken(weights)[1:])


def _transposed_convolution(node: Node, taken: Shape, given: Shape) -> int:
    return math.prod(taken(0)) * math.prod(taken(1)[1:])


def _gemm(node: Node, taken: Shape, given: Shape) -> int:
    return math.prod(given(0)) * taken(0)[0 if node.attributes.get("transA") else 1]


def _matmul(node: Node, taken: Shape, given: Shape) -> int:
    transposed = node.attributes.get("transA")
    return math.prod(given(0)) * taken(0)[-2 if transposed else -1]


def _block_matmul(node: Node, taken: Shape, given: Shape) -> int:
    return math.prod(taken(0)) * int(node.attributes["N"])


def _recurrent(node: Node, taken: Shape, given: Shape) -> int:
    # Whatever the layout, the first two dimensions are steps and batch.
    return math.prod(taken(0)[:2]) * (math.prod(taken(1)) + math.prod(taken(2)))


def _einsum(node: Node, taken: Shape, given: Shape) -> int:
    equation = str(node.attributes["equation"]).replace(" ", "")
    terms = equation.split("->")[0].split(",")
    if "..." in equation or len(terms) > 2:
        raise UnknownMacsError("Einsum cannot be counted")
    if len(terms) == 1:
        return 0
    sizes: dict[str, int] = {}
    for position, term in enumerate(terms):
        for letter, dimension in zip(term, taken(position), strict=True):
            sizes[letter] = max(sizes.get(letter, 1), dimension)
    return math.prod(sizes.values())


_RULES: dict[str, Callable[[Node, Shape, Shape], int]] = {
    "Conv": _convolution(1),
    "FusedConv": _convolution(1),
    "NhwcFusedConv": _convolution(1),
    "ConvInteger": _convolution(1),
    "DeformConv": _convolution(1),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed_convolution,
    "ConvTransposeWithDynamicPads": _transposed_convolution,
    "Gemm": _gemm,
    "FusedGemm": _gemm,
    "QGemm": _gemm,
    "MatMul": _matmul,
    "FusedMatMul": _matmul,
    "FusedMatMulActivation": _matmul,
    "TransposeMatMul": _matmul,
    "MatMulInteger": _matmul,
    "MatMulInteger16": _matmul,
    "MatMulIntegerToFloat": _matmul,
    "DynamicQuantizeMatMul": _matmul,
    "QLinearMatMul": _matmul,
    "MatMulNBits": _block_matmul,
    "MatMulBnb4": _block_matmul,
    "MatMulFpQ4": _matmul,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "DynamicQuantizeLSTM": _recurrent,
    "Einsum": _einsum,
}
