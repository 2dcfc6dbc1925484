"""Compute in float32 what a graph computes in float64, between ends that stay float64.

TFLite has kernels for float64 in ``Cast`` and next to nothing else; phones and boards compute in float32.

    before    x: float64 ─▶ MatMul(float64) ─▶ Softmax(float64) ─▶ y: float64
    after     x: float64 ─▶ Cast ─▶ MatMul(float32) ─▶ Softmax(float32) ─▶ Cast ─▶ y: float64

Inputs keep their names and dtypes; an output keeps its dtype, and ``graph.outputs`` says the tensor that
gives it now. What the graph computes changes by the rounding of float32: the gate behind the arrow judges
that as it judges fp32 against any reference.
"""

from __future__ import annotations

from typing import Any

from edgeconv.formats.graph_reading import split_reference
from edgeconv.surgery.changes import Change
from edgeconv.surgery.graph import Graph, full

_PLACEHOLDERS = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault")
_BITS = frozenset({"Bitcast", "DecodeRaw", "DecodePaddedRaw"})
"""Ops that look at the bytes of a number: of another width they mean something else."""
NAME = "float64_to_float32"


def rewrite(graph: Graph) -> list[Change]:
    """Narrow every float64 tensor between the inputs and the outputs.

    Returns nothing where there is none but in the ends, and leaves the graph alone where it could not be
    done exactly but for rounding: a constant beyond the range of float32, an op that looks at the bytes of a
    number, a constant whose value is not in the graph.
    """
    import tensorflow as tf
    from tensorflow.core.framework import types_pb2

    double, single = types_pb2.DT_DOUBLE, types_pb2.DT_FLOAT
    bodies = [node for function in graph.graph_def.library.function for node in function.node_def]
    concerned = [node for node in (*graph.graph_def.node, *bodies) if _mentions(node, double)]
    if all(node.op in (*_PLACEHOLDERS, "Cast") for node in concerned) or not all(
        _can(graph, node) for node in concerned
    ):
        return []
    ends = [node for node in concerned if node.op in _PLACEHOLDERS]
    end_names = {node.name for node in ends}
    dtypes = _output_dtypes(graph)
    for node in concerned:
        if node.name not in end_names:
            _narrow(node, double, single)
    for function in graph.graph_def.library.function:
        for argument in (*function.signature.input_arg, *function.signature.output_arg):
            if argument.type == double:
                argument.type = single
    for node in ends:
        if node.attr["dtype"].type == double:
            readers = list(graph.readers_of(node.name))
            cast = _cast(graph, node.name, tf.float64, tf.float32)
            for reader, index in readers:
                inputs = list(reader.input)
                inputs[index] = cast
                graph.set_inputs(reader, inputs)
    graph.outputs = [
        _cast(graph, reference, tf.float32, tf.float64)
        if dtypes[reference] == double and split_reference(reference)[0] not in end_names
        else reference
        for reference in graph.outputs
    ]
    message = f"{len(concerned)} ops compute in float32 instead of float64; inputs and outputs stay float64"
    return [Change(NAME, message)]


def _mentions(node: Any, dtype: int) -> bool:
    return any(
        value.type == dtype or dtype in value.list.type or value.tensor.dtype == dtype
        for value in node.attr.values()
    )


def _can(graph: Graph, node: Any) -> bool:
    import numpy
    import tensorflow as tf

    if node.op in _BITS or node.name in graph.values:
        return False
    if node.op != "Const":
        return True
    value = numpy.asarray(tf.make_ndarray(node.attr["value"].tensor))
    finite = numpy.isfinite(value)
    return value.dtype != numpy.float64 or bool(
        numpy.all(abs(value[finite]) <= numpy.finfo(numpy.float32).max)
    )


def _output_dtypes(graph: Graph) -> dict[str, int]:
    """Dtype of each output of the graph, as TensorFlow infers it."""
    import tensorflow as tf

    bare = type(graph.graph_def)()
    bare.CopyFrom(graph.graph_def)
    for node in bare.node:
        node.ClearField("device")
    imported = tf.Graph()
    with imported.as_default():
        tf.import_graph_def(bare, name="")
    return {
        reference: int(imported.get_tensor_by_name(full(reference)).dtype.base_dtype.as_datatype_enum)
        for reference in graph.outputs
    }


def _narrow(node: Any, double: int, single: int) -> None:
    import tensorflow as tf

    for value in node.attr.values():
        if value.type == double:
            value.type = single
        if double in value.list.type:
            value.list.type[:] = [single if each == double else each for each in value.list.type]
        if value.tensor.dtype == double:
            value.tensor.CopyFrom(tf.make_tensor_proto(tf.make_ndarray(value.tensor).astype("float32")))


def _cast(graph: Graph, reference: str, old: Any, new: Any) -> str:
    name = f"{reference.replace(':', '_')}/{new.name}"
    return graph.add("Cast", name, [reference], SrcT=old, DstT=new, Truncate=False)
