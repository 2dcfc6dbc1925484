"""Frames and arrays: what goes over the two pipes between edgeconv and its agent.

A frame is ``b"ECV1"``, the length of its header (4 bytes) and of its body (8 bytes), big-endian, then
both. The header is one JSON object, the body raw bytes. Arrays lie in the body one behind another, as the
header's list ``arrays`` describes them: name, dtype, shape and length in bytes. Numbers are little-endian
and in C order; strings (dtype ``string``) are each a length of 4 bytes and that many bytes. Nothing that is
read is ever executed or unpickled, and every length is bounded before memory is taken for it.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from typing import Any, Dict, Protocol, Sequence, Tuple

MAGIC = b"ECV1"
PROTOCOL = 1
"""Version of the protocol; the greeting has it, and the two sides must agree."""
LARGEST_HEADER = 4 << 20
LARGEST_BODY = 1 << 30
CHUNK = 4 << 20
"""Bytes of a file that go in one frame."""
_HEAD = struct.Struct(">4sIQ")
_LENGTH = struct.Struct("<I")
_DTYPES = frozenset(
    [
        "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
        "float16", "float32", "float64", "complex64", "complex128", "string",
    ]
)  # fmt: skip
_LARGEST_RANK = 32
_SMALL = 1 << 16
_LITTLE = sys.byteorder == "little"
_names: dict[Any, str] = {}
"""Names of numpy's dtypes as they were met: asking numpy each time costs microseconds."""
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _no_number(text: str) -> Any:
    raise ValueError("%s is no JSON" % text)


_decode = json.JSONDecoder(parse_constant=_no_number).decode

Header = Dict[str, Any]
Named = Sequence[Tuple[str, Any]]


class Source(Protocol):
    """Where frames are read from: at most ``size`` bytes, none at the end only."""

    def read(self, size: int) -> bytes: ...


class Sink(Protocol):
    """Where frames are written to: all of ``data``, at the latest with ``flush``."""

    def write(self, data: bytes) -> object: ...

    def flush(self) -> None: ...


class WireError(Exception):
    """The other side sent what is no frame of this protocol, or one that is too large."""


class NoMemoryError(Exception):
    """A frame that was read to its end and thrown away, as there was no memory for its body."""

    def __init__(self, header: Header) -> None:
        super().__init__("no memory for the body of a frame")
        self.header = header


def frame(header: Header, body: Sequence[bytes] = ()) -> list[bytes]:
    """What to write for one frame; ``body`` is the parts that the body is made of.

    Raises:
        WireError: header or body is larger than the protocol allows, or the header is no JSON.
    """
    try:
        text = _encode(header).encode()
    except ValueError as error:  # infinities, which JSON has not
        raise WireError("a header that is no JSON") from error
    size = 0
    for part in body:
        size += len(part)
    if len(text) > LARGEST_HEADER or size > LARGEST_BODY:
        raise WireError("a message of %d + %d bytes is larger than the protocol allows" % (len(text), size))
    head = _HEAD.pack(MAGIC, len(text), size) + text
    if size <= _SMALL:  # one call for what is small: a round trip is what counts there
        return [b"".join([head, *body])]
    return [head, *body]


def write_frame(stream: Sink, header: Header, body: Sequence[bytes] = ()) -> None:
    """Send one frame; see :func:`frame`.

    Raises:
        WireError: it is none.
        OSError: the pipe is broken.
    """
    for part in frame(header, body):
        stream.write(part)
    stream.flush()


def read_frame(stream: Source) -> tuple[Header, bytearray] | None:
    """Receive one frame: header and body; ``None`` at the end of the stream between two frames.

    Raises:
        WireError: no frame, too large, cut short, or a header that is no JSON object.
        NoMemoryError: there is none for the body; the stream is at the next frame.
    """
    head = _read(stream, _HEAD.size)
    if not head:
        return None
    if len(head) < _HEAD.size:
        raise WireError("the stream ended within a frame")
    magic, header_size, body_size = _HEAD.unpack(head)
    if magic != MAGIC:
        raise WireError("something else than a frame: %r" % bytes(head[:40]))
    if header_size > LARGEST_HEADER or body_size > LARGEST_BODY:
        raise WireError("a frame of %d + %d bytes" % (header_size, body_size))
    text = _read(stream, header_size)
    if len(text) < header_size:
        raise WireError("the stream ended within a frame")
    try:
        header = _decode(text.decode())
    except (ValueError, RecursionError) as error:
        raise WireError("a header that is no JSON") from error
    if not isinstance(header, dict):
        raise WireError("a header that is no JSON object")
    body = bytearray()
    if body_size:
        try:
            body = _read(stream, body_size)
        except _DroppedError as dropped:
            _drop(stream, body_size - dropped.read)
            raise NoMemoryError(header) from None
        if len(body) < body_size:
            raise WireError("the stream ended within a frame")
    return header, body


def pack(arrays: Named) -> tuple[list[Header], list[bytes]]:
    """Descriptions and bytes of named arrays (``numpy.ndarray``; strings as arrays of bytes or str).

    Raises:
        WireError: a dtype that the protocol does not carry.
    """
    import numpy as np

    described: list[Header] = []
    parts: list[bytes] = []
    for name, value in arrays:
        array = np.asarray(value)
        kind = array.dtype
        dtype = _names.get(kind)
        if dtype is None:
            dtype = "string" if kind.kind in "SUO" else kind.name
            if dtype not in _DTYPES:
                raise WireError("arrays of %s cannot be sent" % dtype)
            _names[kind] = dtype
        if dtype == "string":
            data = b"".join([_LENGTH.pack(len(item)) + item for item in map(_text, array.ravel().tolist())])
        else:
            if kind.byteorder == ">" or (kind.byteorder == "=" and not _LITTLE):
                array = array.astype(kind.newbyteorder("<"))
            data = array.tobytes()
        described.append({"name": name, "dtype": dtype, "shape": list(array.shape), "bytes": len(data)})
        parts.append(data)
    return described, parts


def unpack(described: Any, body: bytearray) -> list[tuple[str, Any]]:
    """Named arrays from their descriptions and the body of a frame, in that order.

    Numeric arrays are views of ``body`` and may be written to.

    Raises:
        WireError: descriptions that do not fit the body, or are none.
    """
    if not isinstance(described, list):
        raise WireError("arrays without a description")
    found: list[tuple[str, Any]] = []
    offset = 0
    for entry in described:
        name, dtype, shape, size = _entry(entry)
        if offset + size > len(body):
            raise WireError("array '%s' is longer than the message" % name)
        count = math.prod(shape)
        try:
            if dtype == "string":
                array = _strings(memoryview(body)[offset : offset + size], count, name).reshape(shape)
            else:
                array = _numbers(body, dtype, shape, count, offset, size, name)
        except ValueError as error:  # numpy's own bounds of shapes without elements
            raise WireError("array '%s' has an impossible shape" % name) from error
        found.append((name, array))
        offset += size
    if offset != len(body):
        raise WireError("the message has %d bytes that belong to no array" % (len(body) - offset))
    return found


def _numbers(
    body: bytearray, dtype: str, shape: tuple[int, ...], count: int, offset: int, size: int, name: str
) -> Any:
    import numpy as np

    kind = np.dtype(dtype)
    if count * kind.itemsize != size:
        raise WireError("array '%s' has %d bytes and should have %d" % (name, size, count * kind.itemsize))
    if not size:
        return np.empty(shape, kind)
    if _LITTLE:
        return np.frombuffer(body, kind, count, offset).reshape(shape)
    return np.frombuffer(body, kind.newbyteorder("<"), count, offset).reshape(shape).astype(kind)


def _entry(entry: Any) -> tuple[str, str, tuple[int, ...], int]:
    if not isinstance(entry, dict):
        raise WireError("an array without a description")
    name, dtype, shape, size = (entry.get(key) for key in ("name", "dtype", "shape", "bytes"))
    whole = isinstance(shape, list) and len(shape) <= _LARGEST_RANK and all(map(_is_size, shape))
    known = isinstance(dtype, str) and dtype in _DTYPES
    if not (isinstance(name, str) and known and whole and _is_size(size)):
        raise WireError("an array with a wrong description: %.200r" % (entry,))
    return name, str(dtype), tuple(shape or ()), int(size or 0)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_BODY


def _strings(data: memoryview, count: int, name: str) -> Any:
    import numpy as np

    if count * _LENGTH.size > len(data):
        raise WireError("array '%s' has fewer strings than it says" % name)
    items = np.empty(count, dtype=object)
    offset = 0
    for index in range(count):
        if offset + _LENGTH.size > len(data):
            raise WireError("array '%s' has fewer strings than it says" % name)
        (length,) = _LENGTH.unpack_from(data, offset)
        offset += _LENGTH.size
        if offset + length > len(data):
            raise WireError("array '%s' has a string that is longer than the message" % name)
        items[index] = bytes(data[offset : offset + length])
        offset += length
    if offset != len(data):
        raise WireError("array '%s' has more strings than it says" % name)
    return items


def _text(item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    if not isinstance(item, str):
        raise WireError("arrays of %s objects cannot be sent" % type(item).__name__)
    try:
        return item.encode()
    except UnicodeEncodeError as error:
        raise WireError("text with half a character cannot be sent") from error


class _DroppedError(Exception):
    """There was no memory after ``read`` bytes."""

    def __init__(self, read: int) -> None:
        super().__init__()
        self.read = read


def _read(stream: Source, size: int) -> bytearray:
    """``size`` bytes, fewer only at the end of the stream; memory grows with what really arrives."""
    have = 0
    try:
        data = bytearray()
        while have < size:
            part = stream.read(min(size - have, CHUNK))
            if not part:
                break
            have += len(part)
            data += part
        return data
    except MemoryError:
        data = bytearray()
        raise _DroppedError(have) from None


def _drop(stream: Source, size: int) -> None:
    while size > 0:
        part = stream.read(min(size, 1 << 16))
        if not part:
            raise WireError("the stream ended within a frame")
        size -= len(part)
