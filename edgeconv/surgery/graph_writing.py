"""Writing a GraphDef to disk node by node, so that no second copy of the weights is ever in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeconv.errors import ConversionError

PROTO_LIMIT = (1 << 31) - 1
_NODE_TAG = b"\x0a"  # field 1 of GraphDef: repeated NodeDef, length-delimited


def write_graph(
    graph_def: Any, destination: Path, constants: Mapping[str, Callable[[], Any]], sizes: int, path: str
) -> None:
    """Write ``graph_def``; a node named in ``constants`` gets the value that its function gives.

    Args:
        graph_def: the graph; nodes named in ``constants`` are Const without a value.
        destination: the file.
        constants: node name to a function that reads its value as ``numpy.ndarray``.
        sizes: bytes of all those values together.
        path: of the source, for errors.

    Raises:
        ConversionError: the graph is above the 2 GB that a protocol buffer can hold.
    """
    import tensorflow as tf
    from tensorflow.core.framework import graph_pb2, node_def_pb2

    total = sizes + graph_def.ByteSize()
    if total > PROTO_LIMIT:
        raise ConversionError(
            f"the frozen graph would have {total / 1e9:.1f} GB and a GraphDef can hold 2 GB",
            where=path,
            why="protocol buffers end there",
            hint="convert straight from the SavedModel, or split the model",
        )
    with destination.open("wb") as stream:
        for node in graph_def.node:
            if node.name in constants:
                value = constants[node.name]()
                filled = node_def_pb2.NodeDef()
                filled.CopyFrom(node)
                filled.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
                data = filled.SerializeToString()
                del value, filled
            else:
                data = node.SerializeToString()
            stream.write(_NODE_TAG + _varint(len(data)))
            stream.write(data)
        rest = graph_pb2.GraphDef()
        rest.versions.CopyFrom(graph_def.versions)
        rest.library.CopyFrom(graph_def.library)
        stream.write(rest.SerializeToString())


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)
