"""A bounds-checked reader of FlatBuffers tables, for files that nobody vouches for.

The FlatBuffers runtime for Python verifies nothing: an offset of a damaged file leads it anywhere. Here
every access is checked against the size of the file, and a budget bounds the work, so that a hostile file
whose vectors point at one another ends in :class:`FlatbufferError` and not in a long loop. Slots are the
positions of fields in their table's schema, counted from 0.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_UINT32 = struct.Struct("<I")
_INT32 = struct.Struct("<i")
_UINT16 = struct.Struct("<H")

MAX_VISITS = 6_000_000
"""Tables, strings and vector entries that one file may ask for; the largest real models need a tenth."""

MAX_NUMBERS = 1 << 22
"""Entries of one list of numbers; the longest real ones are scales of a vocabulary, some 100,000."""


class FlatbufferError(ValueError):
    """An offset, length or string lies outside the file or is not what it must be."""


class Buffer:
    """The bytes of one FlatBuffers file.

    Args:
        data: anything that has the buffer protocol; kept, never copied.
        visits: how many tables, strings and vector entries may be read, at most :data:`MAX_VISITS`; by
            default what an honest file of this size can hold, each of them takes some bytes of its own.
    """

    __slots__ = ("data", "size", "visits")

    def __init__(self, data: bytes | mmap.mmap | memoryview, visits: int | None = None) -> None:
        self.data = data
        self.size = len(data)
        self.visits = min(MAX_VISITS, 10_000 + self.size // 2) if visits is None else visits

    @property
    def identifier(self) -> bytes:
        """The four bytes that name the schema."""
        return bytes(self.data[4:8])

    def root(self) -> Table:
        """The root table.

        Raises:
            FlatbufferError: the file is too small for one or its offset is wild.
        """
        if self.size < 8:
            raise FlatbufferError(f"only {self.size} bytes long")
        return Table(self, self.unsigned(0))

    def spend(self, visits: int) -> None:
        """Take from the budget of visits; FlatbufferError where it is used up."""
        self.visits -= visits
        if self.visits < 0:
            raise FlatbufferError("its tables refer to one another without end")

    def unsigned(self, position: int) -> int:
        """The uint32 at ``position``; FlatbufferError outside the file."""
        return int(self.unpack(_UINT32, position))

    def unpack(self, kind: struct.Struct, position: int) -> int | float:
        """One number at ``position``; FlatbufferError outside the file."""
        if position < 0 or position + kind.size > self.size:
            raise FlatbufferError(f"an offset leads to byte {position} of {self.size}")
        value: int | float = kind.unpack_from(self.data, position)[0]
        return value

    def text(self, position: int) -> str:
        """The string whose length prefix is at ``position``.

        Bytes that are no UTF-8 are kept as backslash escapes: names are labels, and one odd label does
        not make a model unreadable.
        """
        length = self.unsigned(position)
        begin = position + 4
        # A string ends in a zero byte that is not counted.
        if begin + length + 1 > self.size or self.data[begin + length] != 0:
            raise FlatbufferError(f"a string of {length} bytes at byte {position} has no end")
        self.spend(1 + length // 256)
        return bytes(self.data[begin : begin + length]).decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class Vector:
    """Where a vector lies: byte position of its first entry, and how many there are."""

    position: int
    length: int


class Table:
    """One table of a FlatBuffers file.

    All readers raise :class:`FlatbufferError` where the file is damaged, and give the default where the
    field is absent.
    """

    __slots__ = ("_vtable", "_vtable_size", "buffer", "position")

    def __init__(self, buffer: Buffer, position: int) -> None:
        buffer.spend(1)
        self.buffer = buffer
        self.position = position
        self._vtable = position - int(buffer.unpack(_INT32, position))
        self._vtable_size = int(buffer.unpack(_UINT16, self._vtable))
        if self._vtable_size < 4 or self._vtable_size % 2 or self._vtable + self._vtable_size > buffer.size:
            raise FlatbufferError(f"no table at byte {position}")

    def field(self, slot: int) -> int:
        """Byte position of a field's value, 0 where the field is absent."""
        entry = 4 + 2 * slot
        if entry + 2 > self._vtable_size:
            return 0
        offset = int(self.buffer.unpack(_UINT16, self._vtable + entry))
        return self.position + offset if offset else 0

    def integer(self, slot: int, kind: str = "i", default: int = 0) -> int:
        """A scalar field; ``kind`` is its :mod:`struct` letter."""
        position = self.field(slot)
        return int(self.buffer.unpack(struct.Struct("<" + kind), position)) if position else default

    def boolean(self, slot: int) -> bool:
        """A boolean field, False where absent."""
        return self.integer(slot, "B") != 0

    def string(self, slot: int) -> str | None:
        """A string field."""
        position = self.field(slot)
        return self.buffer.text(position + self.buffer.unsigned(position)) if position else None

    def table(self, slot: int) -> Table | None:
        """A field that is another table."""
        position = self.field(slot)
        return Table(self.buffer, position + self.buffer.unsigned(position)) if position else None

    def vector(self, slot: int, entry_size: int) -> Vector | None:
        """Where a vector field lies, checked to be within the file as a whole."""
        position = self.field(slot)
        if not position:
            return None
        begin = position + self.buffer.unsigned(position)
        length = self.buffer.unsigned(begin)
        if begin + 4 + length * entry_size > self.buffer.size:
            raise FlatbufferError(f"a vector of {length * entry_size} bytes at byte {begin} has no end")
        return Vector(begin + 4, length)

    def numbers(self, slot: int, kind: str) -> tuple[Any, ...]:
        """A vector of scalars whose :mod:`struct` letter is ``kind``; empty where absent."""
        vector = self.vector(slot, struct.calcsize("<" + kind))
        if vector is None:
            return ()
        if vector.length > MAX_NUMBERS:
            raise FlatbufferError(f"a list of {vector.length} numbers at byte {vector.position}")
        self.buffer.spend(1 + vector.length // 16)
        return struct.unpack_from(f"<{vector.length}{kind}", self.buffer.data, vector.position)

    def tables(self, slot: int) -> list[Table]:
        """A vector of tables; empty where absent."""
        return [Table(self.buffer, position) for position in self._references(slot)]

    def strings(self, slot: int) -> list[str]:
        """A vector of strings; empty where absent."""
        return [self.buffer.text(position) for position in self._references(slot)]

    def _references(self, slot: int) -> list[int]:
        vector = self.vector(slot, 4)
        if vector is None:
            return []
        self.buffer.spend(vector.length)
        offsets = struct.unpack_from(f"<{vector.length}I", self.buffer.data, vector.position)
        return [vector.position + 4 * index + offset for index, offset in enumerate(offsets)]


def map_file(path: Path) -> mmap.mmap | bytes:
    """The bytes of a file without copying them; an empty file gives ``b""`` (which cannot be mapped).

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        if stream.seek(0, 2) == 0:
            return b""
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
