"""Unpacks snappy's raw format, in which TF1 checkpoints of format V1 keep their blocks.

A stream is the length of the plain data as a varint, then elements: the two low bits of a tag say
literal or copy, and how far back and how long the copy is.
"""

from __future__ import annotations


class SnappyError(ValueError):
    """The data is no snappy stream."""


def decompress(data: bytes, limit: int) -> bytes:
    """The plain bytes of the snappy stream ``data``.

    Raises:
        SnappyError: corrupt, or longer than ``limit``.
    """
    expected, position = _length(data)
    # An element of three bytes gives at most 64: a stream that promises more lies.
    if expected > limit or expected > 64 * len(data):
        raise SnappyError("the stated length is impossible")
    out = bytearray()
    while position < len(data):
        tag = data[position]
        position += 1
        if tag & 3 == 0:
            length, position = _literal_length(data, position, tag >> 2)
            if position + length > len(data):
                raise SnappyError("a literal is cut off")
            out += data[position : position + length]
            position += length
        else:
            length, offset, position = _copy(data, position, tag)
            if not 0 < offset <= len(out):
                raise SnappyError("a copy reaches before the beginning")
            start = len(out) - offset
            if offset >= length:
                out += out[start : start + length]
            else:  # the copy overlaps what it writes: a repeated pattern
                pattern = bytes(out[start:])
                out += (pattern * (length // offset + 1))[:length]
        if len(out) > expected:
            raise SnappyError("there is more data than stated")
    if len(out) != expected:
        raise SnappyError("there is less data than stated")
    return bytes(out)


def _length(data: bytes) -> tuple[int, int]:
    value = 0
    for position in range(min(5, len(data))):
        value |= (data[position] & 0x7F) << (7 * position)
        if data[position] < 0x80:
            return value, position + 1
    raise SnappyError("the length is cut off")


def _literal_length(data: bytes, position: int, code: int) -> tuple[int, int]:
    if code < 60:
        return code + 1, position
    width = code - 59
    if position + width > len(data):
        raise SnappyError("the length of a literal is cut off")
    return int.from_bytes(data[position : position + width], "little") + 1, position + width


def _copy(data: bytes, position: int, tag: int) -> tuple[int, int, int]:
    kind = tag & 3
    width = {1: 1, 2: 2, 3: 4}[kind]
    if position + width > len(data):
        raise SnappyError("a copy is cut off")
    offset = int.from_bytes(data[position : position + width], "little")
    if kind == 1:
        return 4 + ((tag >> 2) & 7), ((tag >> 5) << 8) | offset, position + 1
    return (tag >> 2) + 1, offset, position + width
