"""Reads the sorted string tables that TensorFlow's checkpoints are kept in.

A table is a file of blocks. A block is a run of entries, each with the length of the prefix its key shares
with the key before, the rest of the key and the value; then an array of restart points; then one byte
for the compression and a masked CRC-32C of it all. The last 48 bytes say where the block is that lists
the others. This is LevelDB's table format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO

from edgeconv.errors import InvalidModelError
from edgeconv.formats._snappy import SnappyError, decompress

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5
_BLOCK_LIMIT = 2**31
_NONE, _SNAPPY = 0, 1


def is_table(path: Path) -> bool:
    """Whether the file at ``path`` ends as a sorted string table does. Raises nothing."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            if size < _FOOTER_BYTES:
                return False
            stream.seek(size - 8)
            return bool(struct.unpack("<Q", stream.read(8))[0] == _MAGIC)
    except OSError:
        return False


def read_table(path: Path, first_only: bool = False) -> Iterator[tuple[bytes, bytes]]:
    """The entries (key, value) of the table at ``path`` in key order.

    Args:
        path: the table.
        first_only: stop after the first block; a V1 checkpoint has its list of tensors there and
            gigabytes of values behind it.

    Raises:
        InvalidModelError: truncated, or a checksum or bound is wrong.
    """
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            for _, handle in _entries(_read_block(stream, _index_handle(stream, size), size)):
                offset, length, _ = _handle(handle, 0)
                yield from _entries(_read_block(stream, (offset, length), size))
                if first_only:
                    return
    except _TableError as error:
        raise InvalidModelError(
            "the checkpoint's table is truncated or corrupt",
            where=str(path),
            why=str(error),
            hint="copy the checkpoint again",
        ) from error
    except OSError as error:
        raise InvalidModelError(
            "the checkpoint's table cannot be read", where=str(path), why=error.strerror
        ) from error


class _TableError(Exception):
    """What is wrong with the table; becomes the reason of an InvalidModelError."""


def _index_handle(stream: BinaryIO, size: int) -> tuple[int, int]:
    if size < _FOOTER_BYTES:
        raise _TableError(f"it has {size} bytes, less than a footer")
    stream.seek(size - _FOOTER_BYTES)
    footer = stream.read(_FOOTER_BYTES)
    if struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise _TableError("the magic number at its end is missing")
    _, _, position = _handle(footer, 0)
    offset, length, _ = _handle(footer, position)
    return offset, length


def _read_block(stream: BinaryIO, handle: tuple[int, int], size: int) -> bytes:
    offset, length = handle
    if length > _BLOCK_LIMIT or offset + length + _TRAILER_BYTES > size - _FOOTER_BYTES:
        raise _TableError("a block lies outside the file")
    stream.seek(offset)
    data = stream.read(length + _TRAILER_BYTES)
    if len(data) != length + _TRAILER_BYTES:
        raise _TableError("a block is cut off")
    (stored,) = struct.unpack("<I", data[-4:])
    if unmask(stored) != crc32c(data[:-4]):
        raise _TableError("the checksum of a block is wrong")
    compression = data[length]
    if compression == _NONE:
        return data[:length]
    if compression == _SNAPPY:
        try:
            return decompress(data[:length], _BLOCK_LIMIT)
        except SnappyError as error:
            raise _TableError(f"a compressed block does not unpack: {error}") from error
    raise _TableError(f"a block has the unknown compression {compression}")


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(block) < 4:
        raise _TableError("a block is too short")
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise _TableError("a block's restart points lie outside of it")
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        rest, position = _varint(block, position)
        length, position = _varint(block, position)
        if shared > len(key) or position + rest + length > end:
            raise _TableError("an entry lies outside its block")
        key = key[:shared] + block[position : position + rest]
        position += rest
        yield key, block[position : position + length]
        position += length


def _handle(data: bytes, position: int) -> tuple[int, int, int]:
    offset, position = _varint(data, position)
    length, position = _varint(data, position)
    return offset, length, position


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if position >= len(data):
            raise _TableError("a number is cut off")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _TableError("a number is too long")


def unmask(stored: int) -> int:
    """The CRC-32C behind a stored one: LevelDB rotates it and adds a constant, so that a checksum of
    data that holds checksums stays a good one."""
    rotated = (stored - 0xA282EAD8) & 0xFFFFFFFF
    return ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """The Castagnoli CRC-32 of ``data`` (RFC 3720, appendix B.4)."""
    table = _crc_table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = (number >> 1) ^ (0x82F63B78 if number & 1 else 0)
        table.append(number)
    return tuple(table)
