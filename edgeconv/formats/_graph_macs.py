"""Multiply-accumulates of a graph, counted where all shapes that matter are known."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from edgeconv.formats._graph_shapes import Shapes
from edgeconv.formats._graph_view import SHAPES_ATTRIBUTE, GraphView
from edgeconv.formats._tensor_types import shape_of
from edgeconv.formats.base import Shape

_CONVOLUTIONS = frozenset({"Conv2D", "Conv3D"})
_DEPTHWISE = frozenset({"DepthwiseConv2dNative"})
_TRANSPOSED = frozenset({"Conv2DBackpropInput", "Conv3DBackpropInputV2"})
_PRODUCTS = frozenset({"MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"})
_UNCOUNTED = frozenset(
    {
        "Einsum",
        "SparseMatMul",
        "SparseTensorDenseMatMul",
        "LSTMBlockCell",
        "BlockLSTM",
        "BlockLSTMV2",
        "GRUBlockCell",
    }
    | {"CudnnRNN", "CudnnRNNV2", "CudnnRNNV3", "QuantizedConv2D", "QuantizedMatMul", "XlaConv", "XlaDot"}
)
"""Ops that multiply in ways that are not counted here: with one of them the total is unknown."""
_COUNTED = _CONVOLUTIONS | _DEPTHWISE | _TRANSPOSED | _PRODUCTS

ShapeOf = Callable[[int], Shape | None]


def multiply_accumulates(view: GraphView, names: Iterable[str]) -> int | None:
    """Multiply-accumulates of one inference at batch 1 of the nodes ``names`` and the functions they call.

    Convolutions and matrix products count, elementwise ops do not. An open first dimension is one; with
    any other open dimension, a product inside a loop, or an op that is not counted, the result is ``None``.
    """
    chosen = [name for name in names if name in view.nodes]
    shapes = Shapes(view)
    shapes.infer(chosen)
    looped = _loop_bodies(view)
    total = 0
    for name in chosen:
        node = view.nodes[name]
        sources = view.data_inputs(name)
        if node.op in _COUNTED and name in looped:
            return None

        def shape(index: int, sources: list[tuple[str, int]] = sources) -> Shape | None:
            return shapes.of(*sources[index]) if index < len(sources) else None

        count = _count(node, shapes.of(name), shape)
        if count is None:
            return None
        total += count
    for function, calls in _calls(view, chosen).items():
        inner = _function_macs(view.functions[function])
        if inner is None or (inner and calls is None):
            return None
        total += inner * (calls or 0)
    return total


def _count(node: Any, output: Shape | None, shape: ShapeOf) -> int | None:
    """Multiply-accumulates of one node; 0 for ops without products, ``None`` where unknown."""
    if node.op in _UNCOUNTED:
        return None
    if node.op not in _COUNTED:
        return 0
    if node.op in _PRODUCTS:
        left = shape(0)
        flag = "transpose_a" if node.op == "MatMul" else "adj_x"
        if left is None or len(left) < 2:
            return None
        return _product(output, left[-2] if node.attr[flag].b else left[-1])
    kernel = shape(1)
    if kernel is None or None in kernel or len(kernel) < 4:
        return None
    sizes = [size or 0 for size in kernel]
    window = 1
    for size in sizes[:-2]:
        window *= size
    if node.op in _TRANSPOSED:
        # Each element of what is transposed touches the whole window for each output channel.
        return _product(shape(2), window * sizes[-2])
    # The kernel's third dimension is the channels of one group, so that grouped convolutions count right.
    return _product(output, window * (1 if node.op in _DEPTHWISE else sizes[-2]))


def _product(shape: Shape | None, factor: int | None) -> int | None:
    if shape is None or factor is None or None in shape[1:]:
        return None
    total = factor
    for index, size in enumerate(shape):
        total *= 1 if index == 0 and size is None else size or 0
    return total


def _loop_bodies(view: GraphView) -> set[str]:
    """Nodes of TF1 while-loops that run more than once, how often nobody knows beforehand."""
    turns = [name for name, node in view.nodes.items() if node.op in ("NextIteration", "RefNextIteration")]
    return view.downstream(turns) & view.upstream(turns, control=False) if turns else set()


def _calls(view: GraphView, names: list[str]) -> dict[str, int | None]:
    """How often each function is called; ``None`` where a loop or branch decides."""
    counts: dict[str, int | None] = {}
    todo: list[tuple[Any, int | None, int]] = [(view.nodes[name], 1, 0) for name in names]
    steps = 0
    while todo:
        node, times, depth = todo.pop()
        steps += 1
        if steps > 1_000_000:
            return dict.fromkeys(counts)
        direct = node.op in view.functions or node.op in ("PartitionedCall", "StatefulPartitionedCall")
        for name in dict.fromkeys(_functions_of(node)):
            if name not in view.functions:
                continue
            before = counts.get(name, 0)
            often = times if direct else None
            counts[name] = None if often is None or before is None else before + often
            if depth < 64:
                todo.extend((inner, often, depth + 1) for inner in view.functions[name].node_def)
    return counts


def _functions_of(node: Any) -> Iterable[str]:
    yield node.op
    for key, value in node.attr.items():
        # The gradient function is carried along, not called.
        if key.startswith("_") or key == "gradient_op_type":
            continue
        if value.WhichOneof("value") == "func":
            yield value.func.name
        elif value.WhichOneof("value") == "list":
            for function in value.list.func:
                yield function.name


def _function_macs(function: Any) -> int | None:
    """Multiply-accumulates of a function's body from the shapes its nodes state."""
    stated = {
        node.name: [shape_of(shape) for shape in node.attr[SHAPES_ATTRIBUTE].list.shape]
        for node in function.node_def
        if SHAPES_ATTRIBUTE in node.attr
    }
    arguments: dict[str, Shape | None] = {}
    for index, argument in enumerate(function.signature.input_arg):
        attributes = function.arg_attr[index].attr if index in function.arg_attr else {}
        listed = attributes[SHAPES_ATTRIBUTE].list.shape if SHAPES_ATTRIBUTE in attributes else []
        arguments[argument.name] = shape_of(listed[0]) if listed else None

    def tensor(text: str) -> Shape | None:
        name, _, rest = text.partition(":")
        if not rest and name in arguments:
            return arguments[name]
        port = rest.rpartition(":")[2]
        shapes = stated.get(name, [])
        return shapes[int(port)] if port.isdigit() and int(port) < len(shapes) else None

    total = 0
    for node in function.node_def:
        sources = [text for text in node.input if not text.startswith("^")]

        def shape(index: int, sources: list[str] = sources) -> Shape | None:
            return tensor(sources[index]) if index < len(sources) else None

        count = _count(node, (stated.get(node.name) or [None])[0], shape)
        if count is None:
            return None
        total += count
    return total
