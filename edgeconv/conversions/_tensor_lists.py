"""Fixing the shape of the list elements that recurrent layers keep, where the batch is fixed.

before:  Const([-1, 4]) ─element_shape─▶ TensorListReserve
after:   Const([1, 4])  ─element_shape─▶ TensorListReserve

A model that was traced with an open batch has the -1 as a constant, so that fixing the input alone does
not reach it; and TFLite takes lists of a fixed element shape only.
"""

from __future__ import annotations

from typing import Any

_LIST_OPS = {
    "TensorListReserve": 0,
    "EmptyTensorList": 0,
    "TensorListFromTensor": 1,
    "TensorListStack": 1,
    "TensorListGetItem": 2,
}
"""Op type to the position of its element shape."""


def with_fixed_lists(graph: bytes, batch: int) -> bytes:
    """The serialized GraphDef with the open first dimension of all list elements set to ``batch``."""
    from tensorflow.core.framework import graph_pb2

    graph_def = graph_pb2.GraphDef()
    graph_def.ParseFromString(graph)
    _fix(graph_def.node, batch)
    for function in graph_def.library.function:
        _fix(function.node_def, batch)
    return bytes(graph_def.SerializeToString())


def _fix(nodes: Any, batch: int) -> None:
    import tensorflow as tf

    constants = {node.name: node for node in nodes if node.op == "Const"}
    fixed: set[str] = set()
    for node in list(nodes):
        position = _LIST_OPS.get(node.op)
        if position is None or len(node.input) <= position:
            continue
        name = node.input[position].split(":")[0]
        if name not in constants or name in fixed:
            continue
        value = tf.make_ndarray(constants[name].attr["value"].tensor)
        if value.ndim == 1 and value.size > 1 and value[0] == -1 and (value[1:] >= 0).all():
            value[0] = batch
            constants[name].attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
            fixed.add(name)
