"""Infers shapes in a graph that does not state them: a frozen graph keeps only those of its placeholders.

Only what is certain is inferred, for the ops that image and audio models are made of; everything else is
``None``, so that a number that hangs on it is left out rather than guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from edgeconv.formats._graph_values import values_of
from edgeconv.formats._graph_view import GraphView
from edgeconv.formats.base import Shape

_SAME = frozenset(
    {
        "Identity",
        "Relu",
        "Relu6",
        "LeakyRelu",
        "Elu",
        "Selu",
        "Sigmoid",
        "Tanh",
        "Softmax",
        "LogSoftmax",
        "BiasAdd",
    }
    | {
        "FusedBatchNorm",
        "FusedBatchNormV2",
        "FusedBatchNormV3",
        "Rsqrt",
        "Sqrt",
        "Square",
        "Abs",
        "Neg",
        "Exp",
    }
    | {"Log", "Softplus", "Softsign", "LRN", "StopGradient", "CheckNumerics", "Cast", "Floor", "Round", "Erf"}
    | {"ReadVariableOp", "PlaceholderWithDefault", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxArgs"}
    | {"FakeQuantWithMinMaxVarsPerChannel", "PreventGradient", "Reciprocal", "ZerosLike", "OnesLike"}
)
_BROADCAST = frozenset(
    {
        "Add",
        "AddV2",
        "Sub",
        "Mul",
        "RealDiv",
        "Div",
        "Maximum",
        "Minimum",
        "SquaredDifference",
        "Pow",
        "FloorDiv",
    }
)
_REDUCE = frozenset({"Mean", "Sum", "Max", "Min", "Prod"})


class Shapes:
    """Shapes of the tensors of one graph, by node and port, inferred on demand."""

    def __init__(self, view: GraphView) -> None:
        self._view = view
        self._known: dict[str, Shape | None] = {}

    def infer(self, names: Iterable[str]) -> None:
        """Infer the first output of each of ``names``, inputs before their consumers."""
        for name in self._sorted(names):
            self._known[name] = self._infer(name)

    def of(self, name: str, port: int = 0) -> Shape | None:
        """Shape of a tensor; ``None`` where it is not known."""
        if name not in self._view.nodes:
            return None
        stated = self._view.shape(name, port)
        if stated is not None or port != 0:
            return stated
        return self._known.get(name)

    def _sorted(self, names: Iterable[str]) -> list[str]:
        """The nodes with their inputs before them; loops are entered anywhere."""
        wanted = set(names)
        done: set[str] = set()
        order: list[str] = []
        for start in wanted:
            stack = [(start, False)]
            while stack:
                name, ready = stack.pop()
                if ready:
                    order.append(name)
                    continue
                if name in done or name not in wanted:
                    continue
                done.add(name)
                stack.append((name, True))
                stack.extend((source, False) for source, _ in self._view.data_inputs(name))
        return order

    def _infer(self, name: str) -> Shape | None:
        node = self._view.nodes[name]
        inputs = [self.of(source, port) for source, port in self._view.data_inputs(name)]
        if not inputs:
            return None
        if node.op in _SAME:
            return inputs[0]
        if node.op in _BROADCAST:
            return broadcast(inputs[0], inputs[1]) if len(inputs) == 2 else None
        if node.op in _REDUCE:
            return self._reduced(node, inputs)
        rule = _RULES.get(node.op)
        return None if rule is None else rule(self, node, inputs)

    def values(self, node: Any, index: int) -> list[int | None] | None:
        """The small integers that an input of ``node`` holds, as far as they are known."""
        sources = self._view.data_inputs(node.name)
        return values_of(self._view, *sources[index], self.of) if index < len(sources) else None

    def constant(self, node: Any, index: int) -> list[int] | None:
        """The small integers that an input of ``node`` holds; ``None`` if one of them is not known."""
        found = self.values(node, index)
        known = [value for value in found or () if value is not None]
        return known if found is not None and len(known) == len(found) else None

    def _reduced(self, node: Any, inputs: list[Shape | None]) -> Shape | None:
        axes = self.constant(node, 1)
        shape = inputs[0]
        if shape is None or axes is None or any(not -len(shape) <= a < len(shape) for a in axes):
            return None
        drop = {axis % len(shape) for axis in axes} if shape else set()
        if node.attr["keep_dims"].b:
            return tuple(1 if i in drop else size for i, size in enumerate(shape))
        return tuple(size for i, size in enumerate(shape) if i not in drop)


def broadcast(one: Shape | None, two: Shape | None) -> Shape | None:
    """Shape of an elementwise op of two tensors; ``None`` where it is not certain."""
    if one is None or two is None:
        return None
    width = max(len(one), len(two))
    padded_one = (1,) * (width - len(one)) + one
    padded_two = (1,) * (width - len(two)) + two
    found: list[int | None] = []
    for a, b in zip(padded_one, padded_two, strict=True):
        if a == 1:
            found.append(b)
        elif b == 1 or a == b:
            found.append(a)
        elif a is None or b is None:
            found.append(b if a is None else a)
        else:
            return None
    return tuple(found)


def _window(size: int | None, kernel: int, stride: int, dilation: int, padding: bytes) -> int | None:
    if size is None or stride <= 0:
        return None
    if padding == b"SAME":
        return -(-size // stride)
    if padding == b"VALID":
        return max(0, -(-(size - (kernel - 1) * dilation) // stride))
    return None


def _spatial(node: Any, shape: Shape | None, kernel: tuple[int, int], channels: int | None) -> Shape | None:
    """Output shape of a sliding window over two dimensions in either layout."""
    if shape is None or len(shape) != 4:
        return None
    strides, dilations = list(node.attr["strides"].list.i), list(node.attr["dilations"].list.i) or [1] * 4
    if len(strides) != 4 or len(dilations) != 4:
        return None
    first = node.attr["data_format"].s == b"NCHW"
    axes = (2, 3) if first else (1, 2)
    padding = node.attr["padding"].s
    height, width = (
        _window(shape[axis], size, strides[axis], dilations[axis], padding)
        for axis, size in zip(axes, kernel, strict=True)
    )
    return (shape[0], channels, height, width) if first else (shape[0], height, width, channels)


def _convolution(shapes: Shapes, node: Any, inputs: list[Shape | None]) -> Shape | None:
    kernel = inputs[1] if len(inputs) > 1 else None
    if kernel is None or len(kernel) != 4 or kernel[0] is None or kernel[1] is None:
        return None
    channels = kernel[3]
    if node.op == "DepthwiseConv2dNative":
        channels = None if kernel[2] is None or kernel[3] is None else kernel[2] * kernel[3]
    return _spatial(node, inputs[0], (kernel[0], kernel[1]), channels)


def _pool(shapes: Shapes, node: Any, inputs: list[Shape | None]) -> Shape | None:
    size = list(node.attr["ksize"].list.i)
    shape = inputs[0]
    if len(size) != 4 or shape is None or len(shape) != 4:
        return None
    first = node.attr["data_format"].s == b"NCHW"
    kernel = (size[2], size[3]) if first else (size[1], size[2])
    return _spatial(node, shape, kernel, shape[1 if first else 3])


def _transposed(shapes: Shapes, node: Any, inputs: list[Shape | None]) -> Shape | None:
    sizes = shapes.values(node, 0)
    return None if sizes is None else tuple(sizes)


def _matmul(shapes: Shapes, node: Any, inputs: list[Shape | None]) -> Shape | None:
    one, two = (*inputs, None)[:2]
    batched = node.op != "MatMul"
    left, right = ("adj_x", "adj_y") if batched else ("transpose_a", "transpose_b")
    if one is None or two is None or len(one) < 2 or len(two) < 2:
        return None
    rows = one[-1] if node.attr[left].b else one[-2]
    columns = two[-2] if node.attr[right].b else two[-1]
    lead = broadcast(one[:-2], two[:-2])
    return None if lead is None else (*lead, rows, columns)


def _reshape(shapes: Shapes, node: Any, inputs: list[Shape | None]) -> Shape | None:
    wanted = shapes.values(node, 1)
    shape = inputs[0]
    if wanted is None or wanted.count(-1) > 1:
        return None
    if -1 not in wanted:
        return tuple(wanted)
    if shape is None:
        return tuple(None if size == -1 else size for size in wanted)
    # An open batch on both sides cancels out.
    before, after = list(shape), [size for size in wanted if size != -1]
    if None in before and None in after:
        before.remove(None)
        after.remove(None)
    if None in before or None in after:
        return tuple(None if size == -1 else size for size in wanted)
    total, rest = 1, 1
    for size in before:
        total *= size or 0
    for size in after:
        rest *= size or 0
    if rest == 0 or total % rest:
        return None
    return tuple(total // rest if size == -1 else size for size in wanted)


def _concat(shapes: Shapes, node: Any, inputs: list[Shape | None]) -> Shape | None:
    at = len(inputs) - 1 if node.op == "ConcatV2" else 0
    axes = shapes.constant(node, at)
    parts = inputs[:-1] if node.op == "ConcatV2" else inputs[1:]
    if not axes or len(axes) != 1 or not parts:
        return None
    known = [part for part in parts if part is not None]
    if len(known) != len(parts) or len({len(part) for part in known}) != 1 or not known[0]:
        return None
    axis = axes[0] % len(known[0])
    sizes = [part[axis] for part in known]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    return tuple(total if i == axis else size for i, size in enumerate(known[0]))


def _pad(shapes: Shapes, node: Any, inputs: list[Shape | None]) -> Shape | None:
    pads, shape = shapes.constant(node, 1), inputs[0]
    if pads is None or shape is None or len(pads) != 2 * len(shape):
        return None
    return tuple(
        None if size is None else size + pads[2 * i] + pads[2 * i + 1] for i, size in enumerate(shape)
    )


def _squeeze(shapes: Shapes, node: Any, inputs: list[Shape | None]) -> Shape | None:
    shape, dims = inputs[0], list(node.attr["squeeze_dims"].list.i)
    if shape is None or (not dims and None in shape):
        return None
    drop = {d % len(shape) for d in dims} if dims else {i for i, size in enumerate(shape) if size == 1}
    return tuple(size for i, size in enumerate(shape) if i not in drop)


def _expand(shapes: Shapes, node: Any, inputs: list[Shape | None]) -> Shape | None:
    axes, shape = shapes.constant(node, 1), inputs[0]
    if shape is None or not axes or not -len(shape) - 1 <= axes[0] <= len(shape):
        return None
    axis = axes[0] % (len(shape) + 1)
    return (*shape[:axis], 1, *shape[axis:])


def _transpose(shapes: Shapes, node: Any, inputs: list[Shape | None]) -> Shape | None:
    order, shape = shapes.constant(node, 1), inputs[0]
    if shape is None or order is None or sorted(order) != list(range(len(shape))):
        return None
    return tuple(shape[axis] for axis in order)


def _resized(shapes: Shapes, node: Any, inputs: list[Shape | None]) -> Shape | None:
    size, shape = shapes.constant(node, 1), inputs[0]
    if shape is None or size is None or len(size) != 2 or len(shape) != 4:
        return None
    return (shape[0], size[0], size[1], shape[3])


_RULES: dict[str, Callable[[Shapes, Any, list[Shape | None]], Shape | None]] = {
    "Conv2D": _convolution,
    "DepthwiseConv2dNative": _convolution,
    "MaxPool": _pool,
    "AvgPool": _pool,
    "Conv2DBackpropInput": _transposed,
    "MatMul": _matmul,
    "BatchMatMul": _matmul,
    "BatchMatMulV2": _matmul,
    "Reshape": _reshape,
    "ConcatV2": _concat,
    "Concat": _concat,
    "Pad": _pad,
    "PadV2": _pad,
    "MirrorPad": _pad,
    "Squeeze": _squeeze,
    "ExpandDims": _expand,
    "Transpose": _transpose,
    "ResizeBilinear": _resized,
    "ResizeNearestNeighbor": _resized,
}
