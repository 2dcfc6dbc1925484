"""Walks the protobuf wire format of an ONNX file: to recognise one, and to read it without its weights.

A parsed model of 100 MB is a copy of 100 MB. Here only what lies around the weights is copied, so that a
description costs the same for a large model as for a small one. Field numbers are those of the published
ONNX schema.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

Bytes = bytes | mmap.mmap | memoryview

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 90
_MAX_FIELDS = 4_000_000
KEPT_BYTES = 4096
"""Tensors up to this size keep their values: shapes and axes are among them."""

_MODEL_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_GRAPH_FIELDS = {1, 2, 5, 10, 11, 12, 13, 14, 15, 16}
_NODE_FIELDS = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
_GRAPH, _OPSET_IMPORT, _IR_VERSION = 7, 8, 1

# Which fields of a message hold messages of interest.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_TENSOR_DATA = {4, 5, 6, 7, 9, 10, 11}
_RAW_DATA = 9
# Bits of an element by data type code; 8 (string) has none and 0 is undefined.
ELEMENT_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128,
    16: 16, 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip


class WireError(ValueError):
    """The bytes are no protobuf message, or end within one."""


class _Walker:
    """Walks messages of one file with a budget of fields."""

    def __init__(self, data: Bytes) -> None:
        self.data = data
        self.left = _MAX_FIELDS

    def varint(self, position: int, end: int) -> tuple[int, int]:
        """Value and the position behind it."""
        value = shift = 0
        while True:
            if position >= end:
                raise WireError(f"a number at byte {position} has no end")
            byte = self.data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
            shift += 7
            if shift > 63:
                raise WireError(f"a number of more than 64 bits at byte {position}")

    def fields(self, begin: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
        """Number, wire type, start of the tag, start and end of the value of each field."""
        position = begin
        while position < end:
            self.left -= 1
            if self.left < 0:
                raise WireError(f"more than {_MAX_FIELDS} fields")
            start = position
            tag, position = self.varint(position, end)
            number, kind = tag >> 3, tag & 7
            if number == 0:
                raise WireError(f"no field at byte {start}")
            if kind == _LENGTH:
                length, position = self.varint(position, end)
            elif kind == _VARINT:
                length = self.varint(position, end)[1] - position
            elif kind in (_FIXED32, _FIXED64):
                length = 4 if kind == _FIXED32 else 8
            else:
                raise WireError(f"wire type {kind} at byte {start}")
            if position + length > end:
                raise WireError(
                    f"field {number} at byte {start} ends {position + length - end} bytes too late"
                )
            yield number, kind, start, position, position + length
            position += length


def looks_like_model(data: Bytes) -> float:
    """How sure it is that these bytes are an ONNX model, 0 to 1; a truncated one is at 0.7."""
    walker = _Walker(data)
    size = len(data)
    seen: set[int] = set()
    position = 0
    try:
        while position < size:
            walker.left -= 1
            tag, value = walker.varint(position, size)
            number, kind = tag >> 3, tag & 7
            if _MODEL_FIELDS.get(number, kind) != kind or (number not in _MODEL_FIELDS and number < 27):
                return 0.0
            if kind == _LENGTH:
                length, value = walker.varint(value, size)
                if number == _GRAPH and not _looks_like_graph(walker, value, min(value + length, size)):
                    return 0.0
                seen.add(number)
                if value + length > size:
                    return 0.7 if {_GRAPH, _IR_VERSION} <= seen else 0.0
                position = value + length
            elif kind == _VARINT:
                content, position = walker.varint(value, size)
                if number == _IR_VERSION and not 1 <= content < 10_000:
                    return 0.0
                seen.add(number)
            else:
                return 0.0
    except WireError:
        return 0.7 if {_GRAPH, _IR_VERSION} <= seen else 0.0
    if _GRAPH not in seen:
        return 0.0
    if {_IR_VERSION, _OPSET_IMPORT} <= seen:
        return 1.0
    return 0.7 if seen & {_IR_VERSION, _OPSET_IMPORT} else 0.0


def _looks_like_graph(walker: _Walker, begin: int, end: int) -> bool:
    if begin >= end:
        return True
    tag, position = walker.varint(begin, end)
    if tag & 7 != _LENGTH or tag >> 3 not in _GRAPH_FIELDS:
        return False
    if tag >> 3 != 1:
        return True
    length, position = walker.varint(position, end)
    if length == 0 or position >= end:
        return True
    inner, _ = walker.varint(position, end)
    return inner & 7 == _LENGTH and inner >> 3 in _NODE_FIELDS


def without_weights(data: Bytes) -> bytes:
    """The same model without the values of its large tensors; all else is kept byte by byte.

    Raises:
        WireError: truncated or corrupt, or a tensor has not the bytes that its shape and type need.
    """
    walker = _Walker(data)
    return _slimmed(walker, "model", 0, len(data), 0)


def _slimmed(walker: _Walker, kind: str, begin: int, end: int, depth: int) -> bytes:
    if depth > _MAX_DEPTH:
        raise WireError(f"messages are nested more than {_MAX_DEPTH} deep")
    if kind == "tensor":
        return _slimmed_tensor(walker, begin, end)
    children = _CHILDREN[kind]
    pieces: list[bytes] = []
    kept = begin
    for number, wire, start, value, after in walker.fields(begin, end):
        child = children.get(number)
        if child is None or wire != _LENGTH or after - value <= KEPT_BYTES:
            continue
        content = _slimmed(walker, child, value, after, depth + 1)
        pieces += (bytes(walker.data[kept:start]), _varint((number << 3) | _LENGTH), _varint(len(content)))
        pieces.append(content)
        kept = after
    pieces.append(bytes(walker.data[kept:end]))
    return b"".join(pieces)


def _slimmed_tensor(walker: _Walker, begin: int, end: int) -> bytes:
    pieces: list[bytes] = []
    elements, data_type, raw = 1, 0, -1
    name = ""
    external = False
    kept = begin
    for number, wire, start, value, after in walker.fields(begin, end):
        if number in _TENSOR_DATA:
            pieces.append(bytes(walker.data[kept:start]))
            kept = after
            raw = after - value if number == _RAW_DATA else raw
        elif number == 1 and wire == _VARINT:
            elements *= walker.varint(value, after)[0]
        elif number == 1:
            while value < after:
                walker.left -= 1
                dimension, value = walker.varint(value, after)
                elements *= dimension
        elif number == 2 and wire == _VARINT:
            data_type = walker.varint(value, after)[0]
        elif number == 8:
            name = bytes(walker.data[value:after][:200]).decode("utf-8", "replace")
        elif number == 14 and wire == _VARINT:
            external = walker.varint(value, after)[0] == 1
    pieces.append(bytes(walker.data[kept:end]))
    bits = ELEMENT_BITS.get(data_type)
    if raw >= 0 and not external and bits is not None and raw != (elements * bits + 7) // 8:
        raise WireError(
            f"tensor {name!r} has {raw} bytes where its shape and type need {(elements * bits + 7) // 8}"
        )
    return b"".join(pieces)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append((value & 0x7F) | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
