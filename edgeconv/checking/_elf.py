"""Which symbol versions a shared library asks of libc and libstdc++, read from its bytes alone.

The layout is that of the System V ABI and its GNU version needs (``DT_VERNEED``: a chain of libraries, each
with a chain of version names). Only the dynamic segment is read, which no linker or stripper takes away.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

_MACHINES = {3: "i686", 40: "armv7l", 62: "x86_64", 183: "aarch64"}
_FAMILIES = ("GLIBC", "GLIBCXX", "CXXABI")
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NEEDED, _DT_STRTAB, _DT_VERNEED, _DT_VERNEEDNUM = 1, 5, 0x6FFFFFFE, 0x6FFFFFFF
_WEAK = 2
_MOST = 4096

Numbers = tuple[int, ...]


class ElfError(ValueError):
    """The bytes are no shared library that this reader knows, or are damaged."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What one library asks for.

    Attributes:
        machine: as ``platform.machine()`` says it.
        libraries: names of the libraries that it links to.
        newest: family (``GLIBC``, ``GLIBCXX``, ``CXXABI``) to the newest version that a symbol asks for;
            weak references are left out, since the loader goes on without them.
    """

    machine: str
    libraries: tuple[str, ...]
    newest: dict[str, Numbers]


def needs_of(data: bytes) -> Needs:
    """Read the needs of one ELF file.

    Raises:
        ElfError: it is none, of an unknown architecture, big-endian, or an offset of it leads outside.
    """
    try:
        return _needs(data)
    except (struct.error, IndexError) as error:
        raise ElfError(f"an offset leads outside of the file: {error}") from error


def _needs(data: bytes) -> Needs:
    if data[:4] != b"\x7fELF" or data[5] != 1:
        raise ElfError("no little-endian ELF file")
    wide = data[4] == 2
    (code,) = struct.unpack_from("<H", data, 18)
    if code not in _MACHINES:
        raise ElfError(f"architecture {code} is not known")
    segments = _segments(data, wide)

    def offset_of(address: int) -> int:
        for kind, offset, virtual, size in segments:
            if kind == _PT_LOAD and virtual <= address < virtual + size:
                return offset + address - virtual
        raise ElfError(f"address {address:#x} lies in no segment")

    entries = _dynamic(data, wide, segments)
    tags = dict(entries)
    if _DT_STRTAB not in tags:
        return Needs(_MACHINES[code], (), {})
    strings = offset_of(tags[_DT_STRTAB])

    def text(index: int) -> str:
        end = data.find(b"\0", strings + index, strings + index + _MOST)
        if end < 0:
            raise ElfError("a name has no end")
        return data[strings + index : end].decode("ascii", "backslashreplace")

    libraries = tuple(text(value) for tag, value in entries if tag == _DT_NEEDED)
    newest: dict[str, Numbers] = {}
    if _DT_VERNEED in tags:
        for name in _version_names(data, offset_of(tags[_DT_VERNEED]), tags.get(_DT_VERNEEDNUM, 0), text):
            family, _, numbers = name.partition("_")
            if family in _FAMILIES and re.fullmatch(r"\d+(\.\d+)*", numbers):
                newest[family] = max(newest.get(family, ()), numbers_of(numbers))
    return Needs(_MACHINES[code], libraries, newest)


def numbers_of(version: str) -> Numbers:
    """The numbers of a version, so that versions can be compared.

    >>> numbers_of("2.9") < numbers_of("2.17")
    True
    """
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _segments(data: bytes, wide: bool) -> list[tuple[int, int, int, int]]:
    """Kind, file offset, address and size in the file of each segment."""
    (start,) = struct.unpack_from("<Q" if wide else "<I", data, 32 if wide else 28)
    size, count = struct.unpack_from("<HH", data, 54 if wide else 42)
    found = []
    for number in range(count):
        at = start + number * size
        if wide:
            kind, _, offset, virtual, _, length = struct.unpack_from("<IIQQQQ", data, at)
        else:
            kind, offset, virtual, _, length = struct.unpack_from("<IIIII", data, at)
        found.append((kind, offset, virtual, length))
    return found


def _dynamic(data: bytes, wide: bool, segments: list[tuple[int, int, int, int]]) -> list[tuple[int, int]]:
    entry = struct.Struct("<qQ" if wide else "<iI")
    found: list[tuple[int, int]] = []
    for kind, offset, _, size in segments:
        if kind != _PT_DYNAMIC:
            continue
        for number in range(min(size // entry.size, _MOST)):
            tag, value = entry.unpack_from(data, offset + number * entry.size)
            if tag == 0:
                break
            found.append((tag, value))
    return found


def _version_names(data: bytes, at: int, count: int, text: object) -> list[str]:
    assert callable(text)
    names = []
    for _ in range(min(count, _MOST)):
        _, auxiliaries, _, first, following = struct.unpack_from("<HHIII", data, at)
        inner = at + first
        for _ in range(min(auxiliaries, _MOST)):
            _, flags, _, name, step = struct.unpack_from("<IHHII", data, inner)
            if not flags & _WEAK:
                names.append(text(name))
            if step == 0:
                break
            inner += step
        if following == 0:
            break
        at += following
    return names
