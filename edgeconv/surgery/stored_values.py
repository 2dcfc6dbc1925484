"""Constants whose values stay where they are stored until somebody needs them.

A rewrite works on a graph of some kilobytes, whatever the size of the weights: a constant left out of the
graph is a ``Const`` node without its ``value``, and its value a function that reads it.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LARGE = 1 << 16
"""Bytes of a node in a file from which its value is left there."""
_NODES, _BYTES = 1, 2
_READABLE = frozenset("bfiuc")


@dataclass(frozen=True, slots=True)
class StoredValue:
    """A constant's value as a function, with its size.

    Attributes:
        read: gives the value as ``numpy.ndarray``.
        bytes: of that array.
        shape: of that array; ``None`` where it is not known without reading it.
    """

    read: Callable[[], Any]
    bytes: int
    shape: tuple[int, ...] | None = None

    def __call__(self) -> Any:
        """The value as ``numpy.ndarray``."""
        return self.read()


def read_apart(path: Path) -> tuple[Any, dict[str, StoredValue]] | None:
    """A binary GraphDef without the values of its large constants, and these by the names of their nodes.

    The file stays mapped as long as one of the values does.

    Returns:
        ``None`` where the file is no binary GraphDef, or an unusual one (it may be text).
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework import graph_pb2, node_def_pb2

    with path.open("rb") as stream:
        try:
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (ValueError, OSError):  # an empty file, or no regular one
            return None
    whole = memoryview(data)
    values: dict[str, StoredValue] = {}
    light = bytearray()
    try:
        for number, begin, payload, end in _fields(data):
            if number != _NODES or end - payload < LARGE:
                light += whole[begin:end]
                continue
            node = node_def_pb2.NodeDef.FromString(bytes(whole[payload:end]))
            if not _is_array(node):
                light += whole[begin:end]
                continue
            values[node.name] = StoredValue(_reader(whole[payload:end]), _size(node), _shape(node))
            del node.attr["value"]
            written = node.SerializeToString()
            light += bytes([_NODES << 3 | _BYTES]) + _varint(len(written)) + written
        graph_def = graph_pb2.GraphDef.FromString(bytes(light))
    except (ValueError, IndexError, DecodeError):
        return None
    return (graph_def, values) if graph_def.node else None


def sizes_of(values: Mapping[str, StoredValue]) -> int:
    """Bytes of all values together."""
    return sum(value.bytes for value in values.values())


def _is_array(node: Any) -> bool:
    import tensorflow as tf

    if node.op != "Const" or "value" not in node.attr:
        return False
    try:
        return tf.as_dtype(node.attr["dtype"].type).as_numpy_dtype(0).dtype.kind in _READABLE
    except (TypeError, AttributeError, ValueError):
        return False


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(int(dimension.size) for dimension in node.attr["value"].tensor.tensor_shape.dim)


def _size(node: Any) -> int:
    import tensorflow as tf

    return math.prod(_shape(node)) * int(tf.as_dtype(node.attr["dtype"].type).size)


def _reader(payload: memoryview) -> Callable[[], Any]:
    def read() -> Any:
        import tensorflow as tf
        from tensorflow.core.framework import node_def_pb2

        node = node_def_pb2.NodeDef.FromString(bytes(payload))
        return tf.make_ndarray(node.attr["value"].tensor)

    return read


def _fields(data: mmap.mmap) -> Iterator[tuple[int, int, int, int]]:
    """Number, begin, begin of the payload and end of each field of a message.

    Raises:
        ValueError, IndexError: no wire format, or truncated.
    """
    position, size = 0, len(data)
    while position < size:
        begin = position
        key, position = _read_varint(data, position)
        length = 0
        if key & 7 == _BYTES:
            length, position = _read_varint(data, position)
        elif key & 7 == 0:
            _, position = _read_varint(data, position)
        else:
            raise ValueError("a GraphDef has no fields of fixed size")
        if position + length > size:
            raise ValueError("truncated")
        yield key >> 3, begin, position, position + length
        position += length


def _read_varint(data: mmap.mmap, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("no varint")


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)
