"""New nodes of a graph, with what is known of every tensor while they are made: shape, dtype, value.

Unrolling a loop is running it with what is known and writing down what is not. Each node that is written
down is created a second time in a ``tf.Graph`` beside, where TensorFlow's own shape functions say the shape
of what it gives; and what depends on constants only, or on sizes that are known, is computed at once instead.
Constants of many elements are placeholders there, so that weights are not copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeconv.formats.graph_reading import split_reference
from edgeconv.surgery.graph import Graph, full, set_attribute, short

FOLDED_ELEMENTS = 4096
"""A tensor of more elements is not computed ahead; sizes, indices and predicates are far smaller."""

_OPAQUE = ("Enter", "RefEnter", "Exit", "RefExit", "NextIteration", "RefNextIteration", "LoopCond")
_NEVER_FOLDED = frozenset(
    {"Const", "Placeholder", "PlaceholderWithDefault", "Switch", "RefSwitch", "Merge", "RefMerge", "NoOp"}
)
_PARTIAL = frozenset(
    {"Identity", "StridedSlice", "Pack", "ConcatV2", "GatherV2", "Gather", "Squeeze", "ExpandDims", "Cast",
     "Slice", "Reshape", "Prod"}
)  # fmt: skip
"""Ops that are followed where only a part of a shape is known."""


class Emitter:
    """Adds nodes to a :class:`Graph` and knows about its tensors.

    References are those of the graph. An emitter for the body of a function has a graph of its own.

    Attributes:
        graph: that is added to.
        mirror: ``tf.Graph`` with the same nodes under the same names.
        written: name of a list to the shapes of the elements that were written to it at open indices.
    """

    def __init__(self, graph: Graph) -> None:
        import tensorflow as tf

        self.graph = graph
        self.mirror = tf.Graph()
        self.written: dict[str, list[tuple[int | None, ...]]] = {}
        self._tensors: dict[str, Any] = {}
        self._values: dict[str, Any] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    # Knowing.

    def tensor(self, reference: str) -> Any:
        """The ``tf.Tensor`` of the mirror for a reference, made on demand with all it needs."""
        wanted = short(reference)
        if wanted not in self._tensors:
            self._reflect(split_reference(wanted)[0])
        return self._tensors[wanted]

    def shape(self, reference: str) -> tuple[int | None, ...] | None:
        """The static shape; ``None`` for an unknown rank, and in it for an unknown size."""
        shape = self.tensor(reference).shape
        return None if shape.rank is None else tuple(shape.as_list())

    def dtype(self, reference: str) -> Any:
        """The ``tf.DType`` of a reference."""
        return self.tensor(reference).dtype.base_dtype

    def value(self, reference: str) -> Any | None:
        """``numpy.ndarray`` of a reference whose value is known; else ``None``."""
        import numpy

        found = self.partial(reference)
        if found is None or found.dtype != object or self.dtype(reference) == "string":
            return found
        if any(item is None for item in found.flat):
            return None
        return numpy.asarray(found.tolist(), self.dtype(reference).as_numpy_dtype)

    def partial(self, reference: str) -> Any | None:
        """Like :meth:`value`; where a part is known, an array of objects with ``None`` for the rest."""
        self.tensor(reference)
        return self._values.get(short(reference))

    # Making.

    def constant(self, value: Any) -> str:
        """The reference to a constant of this ``numpy.ndarray``; one node for equal values."""
        import numpy

        array = numpy.ascontiguousarray(value) if numpy.ndim(value) else numpy.asarray(value)
        key = (array.dtype.str, array.shape, array.tobytes() if array.dtype != object else b"")
        if array.dtype == object or key not in self._constants:
            self._constants[key] = self.graph.add_constant(f"loop/const_{len(self._constants)}", array)
        return self._constants[key]

    def emit(self, op: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node, or the constant that it would give, and return the reference to its first output.

        Args:
            op: op type.
            name: wished for.
            inputs: references to data.
            attributes: as in :meth:`Graph.add`.
        """
        from tensorflow.core.framework import attr_value_pb2

        values: dict[str, Any] = {}
        for key, value in attributes.items():
            values[key] = attr_value_pb2.AttrValue()
            set_attribute(values[key], value)
        return self.emit_all(op, name, inputs, values)[0]

    def emit_all(self, op: str, name: str, inputs: Sequence[str], attributes: Mapping[str, Any]) -> list[str]:
        """As :meth:`emit`, with ``AttrValue`` attributes; returns the references to all outputs."""
        kept = {key: value for key, value in attributes.items() if not key.startswith("_")}
        folded = self._folded(op, inputs, kept)
        if folded is not None:
            return [self.constant(value) for value in folded]
        reference = self.graph.add(op, name, inputs, **kept)
        self._reflect(reference)
        count = len(self.mirror.get_operation_by_name(reference).outputs)
        return [short(f"{reference}:{port}") for port in range(count)]

    # The mirror.

    def _reflect(self, name: str) -> None:
        todo = [name]
        while todo:
            name = todo[-1]
            if name in self._tensors:
                todo.pop()
                continue
            node = self.graph.nodes[name]
            opaque = node.op in _OPAQUE or node.op.startswith("TensorArray")
            missing = [] if opaque else [
                source
                for reference in self.graph.data_inputs(node)
                if (source := split_reference(reference)[0]) not in self._tensors
            ]  # fmt: skip
            if missing:
                todo.extend(missing)
                continue
            todo.pop()
            self._create(node, opaque)

    def _create(self, node: Any, opaque: bool) -> None:
        import tensorflow as tf

        if node.op == "Const":
            self._create_constant(node)
            return
        operation = None
        if not opaque:
            inputs = [self._tensors[reference] for reference in self.graph.data_inputs(node)]
            attributes = {key: value for key, value in node.attr.items() if not key.startswith("_")}
            try:
                with self.mirror.as_default():
                    operation = self.mirror._create_op_internal(
                        node.op, inputs, name=node.name + "/", attrs=attributes, compute_device=False
                    )
            except (ValueError, TypeError, tf.errors.OpError):
                operation = None  # its functions are elsewhere, or it is wrong: nothing is known of it
        if operation is None:
            with self.mirror.as_default():
                for port, dtype in enumerate(output_types(node)):
                    tensor = tf.compat.v1.placeholder(dtype, name=f"{node.name}/" if port == 0 else None)
                    self._tensors[short(f"{node.name}:{port}")] = tensor
            self._tensors.setdefault(node.name, None)
            return
        self._tensors.setdefault(node.name, None)
        for tensor in operation.outputs:
            self._tensors[short(f"{node.name}:{tensor.value_index}")] = tensor
        known = self._evaluated(node.op, self.graph.data_inputs(node), node.attr)
        for port, value in enumerate(known or ()):
            self._values[short(f"{node.name}:{port}")] = value

    def _create_constant(self, node: Any) -> None:
        import tensorflow as tf

        proto = node.attr["value"].tensor
        sizes = [d.size for d in proto.tensor_shape.dim]
        count = 1
        for size in sizes:
            count *= size
        small = node.name not in self.graph.values and count <= FOLDED_ELEMENTS
        with self.mirror.as_default():
            if small:
                value = tf.make_ndarray(proto)
                self._values[node.name] = value
                self._tensors[node.name] = self.mirror._create_op_internal(
                    "Const",
                    [],
                    [tf.as_dtype(node.attr["dtype"].type)],
                    name=node.name + "/",
                    attrs={"dtype": node.attr["dtype"], "value": node.attr["value"]},
                    compute_device=False,
                ).outputs[0]
            else:
                self._tensors[node.name] = tf.compat.v1.placeholder(
                    node.attr["dtype"].type, sizes, name=node.name + "/"
                )

    # Computing ahead.

    def _folded(self, op: str, inputs: Sequence[str], attributes: Mapping[str, Any]) -> list[Any] | None:
        """The outputs of a node that is not made yet, where all of them are known and small."""
        import numpy

        found = self._evaluated(op, inputs, attributes)
        if found is None:
            return None
        result = []
        for value in found:
            if value is None:
                return None
            if value.dtype == object:
                if any(not isinstance(item, (int, numpy.integer)) for item in value.flat):
                    return None
                dtype = attributes.get("out_type", attributes.get("T", attributes.get("DstT")))
                value = numpy.asarray(value.tolist(), _numpy_dtype(dtype))
            result.append(value)
        return result

    def _evaluated(self, op: str, inputs: Sequence[str], attributes: Mapping[str, Any]) -> list[Any] | None:
        import numpy

        if op in _NEVER_FOLDED:
            return None
        if op in ("Shape", "ShapeN"):
            return [self._sizes(reference) for reference in inputs]
        if op in ("Size", "Rank"):
            shape = self.shape(inputs[0])
            if shape is None or (op == "Size" and None in shape):
                return None
            dtype = _numpy_dtype(attributes.get("out_type")) if op == "Size" else numpy.int32
            return [
                numpy.asarray(
                    len(shape) if op == "Rank" else int(numpy.prod([size or 0 for size in shape])), dtype
                )
            ]
        if op == "LogicalAnd" and any(v is not None and not v.any() for v in map(self.value, inputs)):
            return [numpy.zeros((), bool)] if all(self.shape(r) == () for r in inputs) else None
        if op == "LogicalOr" and any(v is not None and v.all() for v in map(self.value, inputs)):
            return [numpy.ones((), bool)] if all(self.shape(r) == () for r in inputs) else None
        known = [self.partial(reference) for reference in inputs]
        if not inputs or any(value is None for value in known):
            return None
        exact = [self.value(reference) for reference in inputs]
        if all(value is not None for value in exact):
            return computed(op, exact, attributes)
        if op in _PARTIAL:
            return _partly(op, known, attributes)
        return None

    def _sizes(self, reference: str) -> Any | None:
        import numpy

        shape = self.shape(reference)
        if shape is None:
            return None
        sizes = numpy.empty(len(shape), object)
        sizes[:] = shape
        return sizes


def output_types(node: Any) -> list[Any]:
    """The ``tf.DType`` of each output of a NodeDef, from the op's definition and the node's attributes."""
    import tensorflow as tf
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(node.op)
    if definition is None:
        return []
    types: list[Any] = []
    defaults = {attribute.name: attribute.default_value for attribute in definition.attr}

    def attribute(name: str) -> Any:
        return node.attr[name] if name in node.attr else defaults[name]

    for output in definition.output_arg:
        if output.type_list_attr:
            types.extend(attribute(output.type_list_attr).list.type)
            continue
        count = attribute(output.number_attr).i if output.number_attr else 1
        types.extend([output.type or attribute(output.type_attr).type] * count)
    return [tf.as_dtype(each) for each in types]


def computed(op: str, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> list[Any] | None:
    """What TensorFlow gives for an op on these arrays; ``None`` where it must not or cannot be run ahead."""
    import tensorflow as tf
    from tensorflow.python.eager import context, execute
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(op)
    if definition is None or definition.is_stateful or any(a.type == "func" for a in definition.attr):
        return None
    flat: list[Any] = []
    for attribute in definition.attr:
        given = attributes.get(attribute.name)
        if given is None:
            if not attribute.HasField("default_value"):
                return None
            given = attribute.default_value
        try:
            flat += [attribute.name, _python(attribute.type, given)]
        except KeyError:
            return None
    count = len(output_types(_node(op, attributes)))
    try:
        with context.eager_mode(), tf.device("CPU:0"):
            tensors = [tf.constant(value) for value in inputs]
            outputs = execute.quick_execute(op, count, tensors, tuple(flat), context.context())
            result = [output.numpy() for output in outputs]
    except Exception:  # whatever the kernel says: it is not computed ahead then
        return None
    import numpy

    arrays = [numpy.asarray(value) for value in result]
    return arrays if all(array.size <= FOLDED_ELEMENTS for array in arrays) else None


def _node(op: str, attributes: Mapping[str, Any]) -> Any:
    from tensorflow.core.framework import node_def_pb2

    node = node_def_pb2.NodeDef(op=op)
    for key, value in attributes.items():
        node.attr[key].CopyFrom(value)
    return node


def _python(kind: str, value: Any) -> Any:
    if kind.startswith("list("):
        fields = {"list(int)": "i", "list(float)": "f", "list(bool)": "b", "list(type)": "type",
                  "list(string)": "s"}  # fmt: skip
        return list(getattr(value.list, fields[kind]))
    if kind == "shape":
        import tensorflow as tf

        return tf.TensorShape(value.shape)
    return getattr(value, {"int": "i", "float": "f", "bool": "b", "type": "type", "string": "s"}[kind])


def _numpy_dtype(attribute: Any) -> Any:
    import numpy
    import tensorflow as tf

    return numpy.int32 if attribute is None else tf.as_dtype(attribute.type).as_numpy_dtype


def _partly(op: str, known: Sequence[Any], attributes: Mapping[str, Any]) -> list[Any] | None:
    """Ops that move elements, on elements of which some are unknown: positions are moved instead."""
    import numpy

    if op in ("Identity", "Cast"):
        return [known[0].astype(object)] if op == "Identity" or known[0].dtype == object else None
    if op == "Prod":
        return None
    # Each element is given a number, TensorFlow moves the numbers, and the elements are put in their place.
    pool: list[Any] = []
    data = range(len(known)) if op == "Pack" else range(len(known) - 1) if op == "ConcatV2" else range(1)
    numbered = []
    for index, value in enumerate(known):
        if index not in data:
            if value.dtype == object and any(item is None for item in value.flat):
                return None
            numbered.append(value.astype(numpy.int32) if value.dtype == object else value)
            continue
        numbered.append(
            numpy.arange(len(pool), len(pool) + value.size, dtype=numpy.int32).reshape(value.shape)
        )
        pool.extend(value.astype(object).flat)
    changed = {key: _type_int32(key, value, known) for key, value in attributes.items()}
    moved = computed(op, numbered, changed)
    if moved is None:
        return None
    result = numpy.empty(moved[0].shape, object)
    for position, number in numpy.ndenumerate(moved[0]):
        result[position] = pool[int(number)]
    return [result]


def _type_int32(key: str, value: Any, known: Sequence[Any]) -> Any:
    """Types of data are those of the numbers; those of indices follow what they were turned into."""
    import numpy
    import tensorflow as tf
    from tensorflow.core.framework import attr_value_pb2

    if not value.type:
        return value
    changed = attr_value_pb2.AttrValue()
    changed.type = tf.int32.as_datatype_enum
    if key in ("Index", "Tindices", "Tidx", "Tdim", "Tshape", "Taxis"):
        indices = [v for v in known[1:] if v.dtype != object and v.dtype in (numpy.int32, numpy.int64)]
        changed.type = tf.as_dtype(indices[0].dtype).as_datatype_enum if indices else changed.type
    return changed


def reference_of(node: str, port: int) -> str:
    """A reference in short form."""
    return short(f"{node}:{port}")


def same(one: str, other: str) -> bool:
    """Whether two references are the same tensor."""
    return full(one) == full(other)
