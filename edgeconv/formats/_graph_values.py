"""Evaluates the small integer tensors that a graph computes shapes with: Keras's Flatten, for one.

``Reshape(x, Pack([StridedSlice(Shape(x)), -1]))`` has a shape that is known although no constant says it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeconv.formats._graph_view import GraphView
from edgeconv.formats._tensor_types import shape_of
from edgeconv.formats.base import Shape

Values = list[int | None]
"""A tensor of rank 0 or 1; ``None`` for an element that is not known."""
_LARGEST = 64
"""Constants of more elements are weights, not shapes, and are not read."""
_MOST_NODES = 128


def values_of(
    view: GraphView,
    name: str,
    port: int,
    shape: Callable[[str, int], Shape | None],
    walked: dict[str, Values | None] | None = None,
) -> Values | None:
    """The elements of a small integer tensor; ``None`` where not even their number is known.

    Args:
        view: the graph.
        name: the node.
        port: its output.
        shape: tells the shapes known so far.
        walked: what was found for nodes already walked through, each of which is walked once.
    """
    walked = {} if walked is None else walked
    if name in walked:
        return walked[name]
    if name not in view.nodes or port != 0 or len(walked) > _MOST_NODES:
        return None
    walked[name] = None  # while it is being walked through, so that a loop ends
    walked[name] = _evaluate(view, name, shape, walked)
    return walked[name]


def _evaluate(
    view: GraphView,
    name: str,
    shape: Callable[[str, int], Shape | None],
    walked: dict[str, Values | None],
) -> Values | None:
    node = view.nodes[name]
    if node.op == "Const":
        constant = integers(node.attr["value"].tensor)
        return None if constant is None else list(constant)
    sources = view.data_inputs(name)
    if node.op == "Shape" and sources:
        known = shape(*sources[0])
        return None if known is None else list(known)

    def operand(index: int) -> Values | None:
        return values_of(view, *sources[index], shape, walked) if index < len(sources) else None

    if node.op in ("Identity", "Cast"):
        return operand(0)
    if node.op == "Pack":
        parts = [operand(index) for index in range(len(sources))]
        return [part[0] if part is not None and len(part) == 1 else None for part in parts]
    if node.op == "ConcatV2":
        joined: Values = []
        for index in range(len(sources) - 1):
            part = operand(index)
            if part is None:
                return None
            joined += part
        return joined
    if node.op == "Prod":
        return _product(operand(0))
    if node.op == "StridedSlice":
        return _slice(node, *(operand(index) for index in range(4)))
    return None


def integers(tensor: Any) -> list[int] | None:
    """The values of a small int32 or int64 ``TensorProto``; ``None`` for anything else."""
    if tensor.dtype not in (3, 9):
        return None
    count = 1
    for size in shape_of(tensor.tensor_shape) or ():
        count *= size or 0
    if count > _LARGEST:
        return None
    width = 4 if tensor.dtype == 3 else 8
    if tensor.tensor_content:
        data = tensor.tensor_content
        if len(data) != count * width:
            return None
        return [
            int.from_bytes(data[i : i + width], "little", signed=True) for i in range(0, len(data), width)
        ]
    values = [int(v) for v in (tensor.int_val if tensor.dtype == 3 else tensor.int64_val)]
    if not values:
        return [0] * count
    return values + [values[-1]] * (count - len(values)) if len(values) <= count else None


def _product(values: Values | None) -> Values | None:
    if values is None or len(values) > _LARGEST:
        return None
    total = 1
    for value in values:
        if value is None:
            return [None]
        total *= value
    return [total]


def _slice(
    node: Any, values: Values | None, begin: Values | None, end: Values | None, strides: Values | None
) -> Values | None:
    """One element or range of a vector; with other masks or strides the result is not known."""
    if values is None or begin is None or end is None or strides is None:
        return None
    if len(begin) != 1 or len(end) != 1 or strides != [1] or begin[0] is None or end[0] is None:
        return None
    if node.attr["ellipsis_mask"].i or node.attr["new_axis_mask"].i:
        return None
    if node.attr["shrink_axis_mask"].i:
        return [values[begin[0]]] if -len(values) <= begin[0] < len(values) else None
    start = None if node.attr["begin_mask"].i else begin[0]
    stop = None if node.attr["end_mask"].i else end[0]
    return values[start:stop]
