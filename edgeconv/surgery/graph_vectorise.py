"""A map over a batch as one computation for the whole batch.

before:  x: [?,128,64,3] ─▶ TensorArrayScatterV3 ─▶ loop: Read(i) ─▶ ReverseV2(axis 2) ─▶ Write(i)
after:   x ─▶ ReverseV2(axis 3)

A loop is a map if it counts from 0 to the number of elements, reads its lists at the counter, writes them at
the counter, and carries nothing else from one trip to the next. Each op of the body is then applied to all
elements at once, with its axes shifted by one; an op for which that is not known to be the same is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeconv.formats.graph_reading import split_reference
from edgeconv.surgery.graph import short
from edgeconv.surgery.graph_loops_emitter import Emitter
from edgeconv.surgery.graph_loops_frames import ENTER, MERGE, SWITCH, Frame
from edgeconv.surgery.graph_tensor_arrays import Array, Cannot, Handle, kind

if TYPE_CHECKING:
    from edgeconv.surgery.graph_unroll import Scope, Unroller

_UNARY = frozenset(
    {"Identity", "Cast", "Neg", "Abs", "Exp", "Expm1", "Log", "Log1p", "Sqrt", "Rsqrt", "Square", "Relu",
     "Relu6", "Elu", "Selu", "LeakyRelu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Floor", "Ceil", "Round",
     "Rint", "Sign", "Reciprocal", "Inv", "LogicalNot", "ZerosLike", "OnesLike", "StopGradient", "Sin", "Cos",
     "Erf", "IsNan", "IsFinite", "IsInf", "CheckNumerics"}
)  # fmt: skip
_BROADCAST = frozenset(
    {"Add", "AddV2", "Sub", "Mul", "Div", "RealDiv", "FloorDiv", "FloorMod", "Mod", "Maximum", "Minimum",
     "Pow", "SquaredDifference", "DivNoNan", "MulNoNan", "Less", "LessEqual", "Greater", "GreaterEqual",
     "Equal", "NotEqual", "LogicalAnd", "LogicalOr", "SelectV2", "TruncateDiv", "TruncateMod", "BitwiseAnd"}
)  # fmt: skip
_REDUCTIONS = frozenset({"Sum", "Mean", "Max", "Min", "Prod", "All", "Any"})
_RESIZES = frozenset({"ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea"})
_LAST_AXIS = frozenset({"Softmax", "LogSoftmax"})


@dataclass(frozen=True)
class Rows:
    """One value a trip, stacked along a new first axis; ``reference`` is to all of them."""

    reference: str


class Counter:
    """The number of the trip."""


def run_as_map(unroller: Unroller, frame: Frame, scope: Scope, first: dict[str, Any]) -> dict[str, Any]:
    """What the loop variables are after all trips, if the loop is a map.

    Args:
        unroller: that evaluates what stays the same.
        frame: the loop.
        scope: around the loop.
        first: merge to what its variable is at first.

    Raises:
        Cannot: it is no map, or an op of its body cannot be applied to a batch.
    """
    return _Map(unroller, frame, scope, first).run()


class _Map:
    def __init__(self, unroller: Unroller, frame: Frame, scope: Scope, first: dict[str, Any]) -> None:
        from edgeconv.surgery.graph_unroll import Scope

        self.unroller, self.frame, self.first = unroller, frame, first
        self.graph, self.emitter = unroller.graph, scope.emitter
        self.shared = Scope(frame.path, scope, scope.emitter, prefix=scope.prefix)
        self.known: dict[str, Any] = {}
        self.counters = {merge for merge in frame.merges if self._counts(merge)}
        self.count = self._bound(frame.condition)
        self.prefix = scope.prefix

    def run(self) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for merge in self.counters:
            self.known[merge] = Counter()
        lists = []
        for merge, (_, later) in self.frame.merges.items():
            if merge in self.counters:
                result[merge] = self.count
            elif isinstance(self.first[merge], Array):
                lists.append(merge)
            elif self._behind(later) == merge:
                self.known[merge] = result[merge] = self.first[merge]
            else:
                raise Cannot(
                    f"'{merge}' carries a value from one trip of '{self.frame.path[-1]}' to the next"
                )
        for merge in lists:
            result[merge] = self._written(merge)
        return result

    # What kind of loop it is.

    def _behind(self, reference: str) -> str:
        """The merge behind switches and identities, or the reference itself."""
        while True:
            node = self.graph.node(reference)
            if node is None or node.op not in ("Identity", *SWITCH):
                return short(reference)
            reference = self.graph.data_inputs(node)[0]

    def _counts(self, merge: str) -> bool:
        _, later = self.frame.merges[merge]
        if not isinstance(self.first[merge], str):
            return False
        start = self.emitter.value(self.first[merge])
        node = self.graph.node(self.graph.origin(later))
        if (
            start is None
            or start.ndim != 0
            or start.item() != 0
            or node is None
            or node.op not in ("Add", "AddV2")
        ):
            return False
        inputs = self.graph.data_inputs(node)
        sides = [self._behind(reference) for reference in inputs]
        if merge not in sides:
            return False
        step = self._constant(inputs[1 - sides.index(merge)])
        return step is not None and step.size == 1 and step.item() == 1

    def _constant(self, reference: str) -> Any | None:
        """The value of what stays the same, if it is known."""
        if split_reference(reference)[0] in self.frame.variant:
            return None
        value = self.unroller.value(reference, self.shared)
        return self.emitter.value(value) if isinstance(value, str) else None

    def _bound(self, condition: str) -> str:
        """The reference to the number of trips, of ``i < n`` or several of them for the same n."""
        todo, bounds = [condition], []
        while todo:
            node = self.graph.node(self.graph.origin(todo.pop()))
            inputs = self.graph.data_inputs(node) if node is not None else []
            if node is not None and node.op == "LogicalAnd":
                todo += inputs
            elif node is not None and node.op == "Less" and self._behind(inputs[0]) in self.counters:
                bounds.append(self.unroller.value(inputs[1], self.shared))
            else:
                raise Cannot(f"how often the loop '{self.frame.path[-1]}' goes round depends on the data")
        texts = {self._size(bound) for bound in bounds if isinstance(bound, str)}
        if len(texts) != 1 or len(bounds) != sum(isinstance(bound, str) for bound in bounds):
            raise Cannot(f"the loop '{self.frame.path[-1]}' ends for more than one reason")
        return str(bounds[0])

    def _size(self, reference: str) -> str:
        """What a number of elements is the size of: ``#x`` for the first size of x, else itself."""
        graph = self.emitter.graph
        origin = graph.origin(reference)
        node = graph.node(origin)
        if node is not None and node.op == "StridedSlice":
            shape, begin, end, strides = graph.data_inputs(node)
            of = graph.node(graph.origin(shape))
            first = [self.emitter.value(each) for each in (begin, end, strides)]
            known = [None if value is None else value.tolist() for value in first]
            if of is not None and of.op == "Shape" and known == [[0], [1], [1]]:
                return f"#{graph.origin(graph.data_inputs(of)[0])}"
        return origin

    def _spans(self, array: Array) -> bool:
        """Whether a list has as many elements as the loop has trips."""
        wanted = self._size(self.count)
        if self._size(array.handle.size) == wanted and not array.handle.grows:
            return True
        return bool(array.whole) and wanted == f"#{self.emitter.graph.origin(array.whole)}"

    # The body.

    def _written(self, merge: str) -> Array:
        before: Array = self.first[merge]
        _, later = self.frame.merges[merge]
        node = self.graph.node(self.graph.origin(later))
        if self._behind(later) == merge:
            return before
        if node is None or kind(node.op) != "TensorArrayWrite":
            raise Cannot(f"the loop '{self.frame.path[-1]}' does not write one element a trip")
        _, index, value, flow = self.graph.data_inputs(node)
        if self._behind(flow) != merge or self._behind(index) not in self.counters or not self._spans(before):
            raise Cannot(f"'{node.name}' does not write the elements in their order")
        rows = self.value(value)
        if not isinstance(rows, Rows):
            raise Cannot(f"'{node.name}' writes the same for all elements")
        return Array(before.handle, rows.reference)

    def value(self, reference: str) -> Any:
        """What a reference of the body is for all trips: :class:`Rows`, or what is the same in all."""
        todo = [short(reference)]
        while todo:
            each = todo[-1]
            if each in self.known:
                todo.pop()
                continue
            name = split_reference(each)[0]
            if name not in self.frame.variant:
                self.known[each] = self.unroller.value(each, self.shared)
                continue
            node = self.graph.nodes[name]
            if node.op in MERGE or node.op in ENTER:
                raise Cannot(f"'{name}' is a branch or loop inside of a map")
            inputs = self.graph.data_inputs(node)
            needs = inputs[:1] if node.op in SWITCH else inputs
            missing = [need for need in needs if need not in self.known]
            if missing:
                todo += missing
                continue
            outputs = self._apply(node, [self.known[need] for need in needs])
            for port, output in enumerate(outputs):
                self.known[short(f"{name}:{port}")] = output
        return self.known[short(reference)]

    def _apply(self, node: Any, values: Sequence[Any]) -> list[Any]:
        if node.op in SWITCH:
            if node.name not in self.unroller.frames.loop_switches:
                raise Cannot(f"'{node.name}' is a branch inside of a map")
            return [values[0], values[0]]
        if kind(node.op) == "TensorArrayRead":
            return [self._read(node, values)]
        if node.op == "Identity":
            return [values[0]]
        values = [self._numbers() if isinstance(value, Counter) else value for value in values]
        if kind(node.op) or any(isinstance(value, Array | Handle) for value in values):
            raise Cannot(f"'{node.name}' does something else than a map does")
        if not any(isinstance(value, Rows) for value in values):
            made = self.emitter.emit_all(node.op, self.prefix + node.name, values, dict(node.attr))
            return list(made)
        rule = _RULES.get(node.op)
        if rule is None:
            raise Cannot(f"'{node.name}' ({node.op}) is not applied to a whole batch")
        return [
            Rows(output) if isinstance(output, str) else output.invariant
            for output in rule(_Op(self.emitter, node, list(values), self.prefix))
        ]

    def _numbers(self) -> Rows:
        """The numbers of all trips."""
        import numpy
        import tensorflow as tf

        zero, one = (self.emitter.constant(numpy.int32(value)) for value in (0, 1))
        return Rows(self.emitter.emit("Range", f"{self.prefix}trips", [zero, self.count, one], Tidx=tf.int32))

    def _read(self, node: Any, values: Sequence[Any]) -> Rows:
        _, index, array = values
        if not isinstance(array, Array) or not isinstance(index, Counter):
            raise Cannot(f"'{node.name}' does not read the elements in their order")
        if not array.whole or array.elements or not self._spans(array):
            raise Cannot(f"'{node.name}' reads a list that may have another length")
        return Rows(array.whole)


@dataclass(frozen=True)
class _Same:
    """An output that is the same for all trips."""

    invariant: str


@dataclass
class _Op:
    """One op of the body and its inputs, of which some are :class:`Rows`."""

    emitter: Emitter
    node: Any
    values: list[Any]
    prefix: str

    def rank(self, index: int = 0) -> int:
        """Number of axes of one element."""
        shape = self.shape(index)
        return len(shape)

    def shape(self, index: int = 0) -> tuple[int | None, ...]:
        """Shape of one element."""
        value = self.values[index]
        shape = self.emitter.shape(value.reference if isinstance(value, Rows) else value)
        if shape is None:
            raise Cannot(f"the rank of what '{self.node.name}' takes is not known")
        return shape[1:] if isinstance(value, Rows) else shape

    def known(self, index: int) -> Any:
        """The value of an input that must be the same for all trips, and known."""
        value = self.values[index]
        found = None if isinstance(value, Rows) else self.emitter.value(value)
        if found is None:
            raise Cannot(f"'{self.node.name}' has an argument that is not known")
        return found

    def text(self, index: int) -> str:
        value = self.values[index]
        return value.reference if isinstance(value, Rows) else value

    def only_first_rows(self) -> None:
        if not isinstance(self.values[0], Rows) or any(isinstance(value, Rows) for value in self.values[1:]):
            raise Cannot(f"'{self.node.name}' has arguments that differ from element to element")

    def emit(self, inputs: Sequence[str], op: str = "", **changed: Any) -> list[str]:
        from tensorflow.core.framework import attr_value_pb2

        from edgeconv.surgery.graph import set_attribute

        attributes = dict(self.node.attr)
        for key, value in changed.items():
            attributes[key] = attr_value_pb2.AttrValue()
            set_attribute(attributes[key], value)
        return self.emitter.emit_all(op or self.node.op, self.prefix + self.node.name, inputs, attributes)

    def like(self, index: int, value: Any) -> str:
        """A constant of the dtype of an input."""
        import numpy

        return self.emitter.constant(numpy.asarray(value, self.known(index).dtype))


def _same(op: _Op) -> list[Any]:
    return list(op.emit([op.text(index) for index in range(len(op.values))]))


def _last_axis(op: _Op) -> list[Any]:
    if op.rank() < 1:
        raise Cannot(f"'{op.node.name}' has no axis")
    return _same(op)


def _broadcast(op: _Op) -> list[Any]:
    rank = max(op.rank(index) for index in range(len(op.values)))
    inputs = []
    for index, value in enumerate(op.values):
        text = op.text(index)
        if isinstance(value, Rows):
            # New axes go between the batch and the element's own.
            for _ in range(rank - op.rank(index)):
                text = _expanded(op, text, 1)
        inputs.append(text)
    return list(op.emit(inputs))


def _expanded(op: _Op, text: str, axis: int) -> str:
    import numpy
    import tensorflow as tf

    where = op.emitter.constant(numpy.int32(axis))
    dtype = op.emitter.dtype(text)
    return op.emitter.emit("ExpandDims", f"{op.node.name}/axis", [text, where], T=dtype, Tdim=tf.int32)


def _axes(op: _Op, index: int, extra: int = 0) -> list[int]:
    """Axes of an element, as axes of the batch."""
    rank = op.rank() + extra
    return [int(axis) % rank + 1 if rank else 1 for axis in op.known(index).reshape(-1)]


def _reverse(op: _Op) -> list[Any]:
    op.only_first_rows()
    if op.node.op == "Reverse":
        return list(op.emit([op.text(0), op.like(1, [False, *op.known(1)])]))
    return list(op.emit([op.text(0), op.like(1, _axes(op, 1))]))


def _expand_dims(op: _Op) -> list[Any]:
    op.only_first_rows()
    axis = _axes(op, 1, extra=1)[0]
    return list(op.emit([op.text(0), op.like(1, axis)]))


def _squeeze(op: _Op) -> list[Any]:
    rank = op.rank()
    axes = [axis % rank for axis in op.node.attr["squeeze_dims"].list.i]
    if not axes:
        if None in op.shape():
            raise Cannot(f"'{op.node.name}' may take any axis away")
        axes = [axis for axis, size in enumerate(op.shape()) if size == 1]
    if not axes:
        return [op.text(0)]
    return list(op.emit([op.text(0)], squeeze_dims=[axis + 1 for axis in axes]))


def _transpose(op: _Op) -> list[Any]:
    op.only_first_rows()
    return list(op.emit([op.text(0), op.like(1, [0, *(int(axis) + 1 for axis in op.known(1))])]))


def _reduce(op: _Op) -> list[Any]:
    op.only_first_rows()
    return list(op.emit([op.text(0), op.like(1, _axes(op, 1))]))


def _resize(op: _Op) -> list[Any]:
    op.only_first_rows()
    shape = op.shape()
    if len(shape) != 4 or shape[0] != 1:
        raise Cannot(f"'{op.node.name}' resizes several images at once")
    images = op.emitter.emit(
        "Squeeze", f"{op.node.name}/images", [op.text(0)], T=op.node.attr["T"], squeeze_dims=[1]
    )
    return [_expanded(op, op.emit([images, op.text(1)])[0], 1)]


def _strided_slice(op: _Op) -> list[Any]:
    op.only_first_rows()
    attributes = op.node.attr
    if attributes["ellipsis_mask"].i and op.known(1).size == 0:
        raise Cannot(f"'{op.node.name}' takes no slice")
    masks = {name: attributes[name].i << 1 for name in ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask")}
    masks |= {name: (attributes[name].i << 1) | 1 for name in ("begin_mask", "end_mask")}
    parts = [op.like(index, [first, *op.known(index)]) for index, first in ((1, 0), (2, 0), (3, 1))]
    return list(op.emit([op.text(0), *parts], **masks))


def _slice(op: _Op) -> list[Any]:
    op.only_first_rows()
    return list(op.emit([op.text(0), op.like(1, [0, *op.known(1)]), op.like(2, [-1, *op.known(2)])]))


def _reshape(op: _Op) -> list[Any]:
    import math

    op.only_first_rows()
    wanted = [int(size) for size in op.known(1)]
    if -1 in wanted:
        shape = op.shape()
        rest = math.prod(size for size in wanted if size != -1)
        if None in shape or not rest:
            raise Cannot(f"'{op.node.name}' gives a size that depends on the element")
        wanted[wanted.index(-1)] = math.prod(size or 0 for size in shape) // rest
    return list(op.emit([op.text(0), op.like(1, [-1, *wanted])]))


def _pad(op: _Op) -> list[Any]:
    op.only_first_rows()
    rest = [op.text(index) for index in range(2, len(op.values))]
    return list(op.emit([op.text(0), op.like(1, [[0, 0], *op.known(1).tolist()]), *rest]))


def _pack(op: _Op) -> list[Any]:
    if not all(isinstance(value, Rows) for value in op.values):
        raise Cannot(f"'{op.node.name}' joins elements with what is the same for all")
    axis = op.node.attr["axis"].i % (op.rank() + 1) + 1
    return list(op.emit([op.text(index) for index in range(len(op.values))], axis=axis))


def _concat(op: _Op) -> list[Any]:
    if not all(isinstance(value, Rows) for value in op.values[:-1]):
        raise Cannot(f"'{op.node.name}' joins elements with what is the same for all")
    last = len(op.values) - 1
    inputs = [op.text(index) for index in range(last)]
    return list(op.emit([*inputs, op.like(last, _axes(op, last)[0])]))


def _unpack(op: _Op) -> list[Any]:
    return list(op.emit([op.text(0)], axis=op.node.attr["axis"].i % op.rank() + 1))


def _split(op: _Op) -> list[Any]:
    axis = int(op.known(0)) % op.rank(1) + 1
    return list(op.emit([op.like(0, axis), op.text(1)]))


def _mat_mul(op: _Op) -> list[Any]:
    attributes = {"adj_x": op.node.attr["transpose_a"].b, "adj_y": op.node.attr["transpose_b"].b}
    made = op.emitter.emit(
        "BatchMatMulV2", op.prefix + op.node.name, [op.text(0), op.text(1)], T=op.node.attr["T"], **attributes
    )
    return [made]


def _shape(op: _Op) -> list[Any]:
    import numpy
    import tensorflow as tf

    shape = op.shape()
    if None in shape:
        raise Cannot(f"'{op.node.name}' gives the shape of one element, which is not known")
    dtype = tf.as_dtype(op.node.attr["out_type"].type or tf.int32).as_numpy_dtype
    value = {"Shape": list(shape), "Rank": len(shape), "Size": int(numpy.prod([s or 0 for s in shape]))}
    return [_Same(op.emitter.constant(numpy.asarray(value[op.node.op], dtype)))]


_RULES: dict[str, Callable[[_Op], list[Any]]] = {
    **dict.fromkeys(_UNARY, _same),
    **dict.fromkeys(_BROADCAST, _broadcast),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(_RESIZES, _resize),
    **dict.fromkeys(_LAST_AXIS, _last_axis),
    **dict.fromkeys(("Reverse", "ReverseV2"), _reverse),
    **dict.fromkeys(("Pad", "PadV2", "MirrorPad"), _pad),
    **dict.fromkeys(("Shape", "Rank", "Size"), _shape),
    "ExpandDims": _expand_dims,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "StridedSlice": _strided_slice,
    "Slice": _slice,
    "Reshape": _reshape,
    "Pack": _pack,
    "ConcatV2": _concat,
    "Unpack": _unpack,
    "Split": _split,
    "MatMul": _mat_mul,
}
