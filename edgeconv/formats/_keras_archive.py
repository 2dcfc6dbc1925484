"""Opens what Keras files are made of: HDF5 files, and zip archives with an HDF5 file in them."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from edgeconv.errors import InvalidModelError
from edgeconv.formats._tensor_types import FLOATS

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ZIP_MAGIC = b"PK\x03\x04"
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_JSON_LIMIT = 256 * 2**20
_MOST_OBJECTS = 1_000_000
# What h5py raises on damaged files, seen by flipping bytes of real ones.
HDF5_ERRORS = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
)
_ZIP_ERRORS = (zipfile.BadZipFile, zipfile.LargeZipFile, OSError, ValueError, NotImplementedError, zlib.error)
_ZIP_MORE = (RuntimeError, EOFError, KeyError, OverflowError, UnicodeDecodeError)


@dataclass(frozen=True, slots=True)
class Weight:
    """One stored weight: its path in the file, element type and shape."""

    path: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count


def hdf5_offset(head: bytes) -> int | None:
    """Where in the head the HDF5 signature stands: at 0, or at 512, 1024, … behind a user block."""
    for offset in (0, 512, 1024, 2048):
        if head[offset : offset + 8] == HDF5_MAGIC:
            return offset
    return None


@contextmanager
def open_hdf5(source: Path | BinaryIO, where: Path) -> Iterator[Any]:
    """An open ``h5py.File``.

    Raises:
        InvalidModelError: truncated or corrupt.
    """
    import h5py

    try:
        with h5py.File(source if not isinstance(source, Path) else str(source), "r") as file:
            yield file
    except HDF5_ERRORS as error:
        cut = "truncated" in str(error)
        raise InvalidModelError(
            "the HDF5 file is truncated" if cut else "the HDF5 file is truncated or corrupt",
            where=str(where),
            why=_first_line(error),
            hint="copy or save the model again",
        ) from error


def text_attribute(file: Any, name: str) -> str | None:
    """A text attribute of a group, written as bytes or text; ``None`` if it is absent or no text."""
    if name not in file.attrs:
        return None
    value = file.attrs[name]
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return value if isinstance(value, str) else None


def weights_below(group: Any, prefix: str = "") -> Iterator[Weight]:
    """All data sets below a group. Links are not followed out of the file, and each object counts once.

    Raises:
        ValueError: there are absurdly many.
    """
    import h5py

    seen: set[Any] = set()
    todo = [(prefix, group)]
    while todo:
        path, current = todo.pop()
        for name in current:
            link = current.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                continue
            child = current[name]
            info = h5py.h5o.get_info(child.id)
            if (info.fileno, info.addr) in seen:
                continue
            seen.add((info.fileno, info.addr))
            if len(seen) > _MOST_OBJECTS:
                raise ValueError("it holds more objects than any model")
            inner = f"{path}/{name}" if path else str(name)
            if isinstance(child, h5py.Dataset):
                yield Weight(inner, str(child.dtype), tuple(int(size) for size in child.shape or ()))
            elif isinstance(child, h5py.Group):
                todo.append((inner, child))


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """An open zip archive of which no member leads out of it.

    Raises:
        InvalidModelError: truncated, corrupt, or a member's name leads out of the archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                pure = PurePosixPath(name.replace("\\", "/"))
                if pure.is_absolute() or ".." in pure.parts or (pure.parts and ":" in pure.parts[0]):
                    raise InvalidModelError(
                        f"the member {name!r} leads out of the archive",
                        where=str(path),
                        why="Keras never writes such a name",
                        hint="do not use this model",
                    )
            yield archive
    except (*_ZIP_ERRORS, *_ZIP_MORE) as error:
        raise InvalidModelError(
            "the zip archive is truncated or corrupt",
            where=str(path),
            why=_first_line(error),
            hint="copy or save the model again",
        ) from error


def json_member(archive: zipfile.ZipFile, name: str, where: Path) -> dict[str, Any]:
    """The JSON object in a member of the archive.

    Raises:
        InvalidModelError: absent, too large, or no JSON object.
    """
    if name not in archive.namelist():
        raise InvalidModelError(
            f"the archive has no '{name}'", where=str(where), hint="copy or save the model again"
        )
    info = archive.getinfo(name)
    if info.file_size > _JSON_LIMIT:
        raise InvalidModelError(
            f"'{name}' unpacks to {info.file_size} bytes", where=str(where), hint="do not use this model"
        )
    with archive.open(name) as stream:
        return parse_json(stream.read(_JSON_LIMIT), name, where)


def parse_json(data: bytes | str, name: str, where: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InvalidModelError: it is none; ``name`` says what it should have been.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidModelError(
            f"the {name} is no JSON",
            where=str(where),
            why=_first_line(error),
            hint="copy or save the model again",
        ) from error
    if not isinstance(value, dict):
        raise InvalidModelError(
            f"the {name} is no JSON object", where=str(where), hint="copy or save the model again"
        )
    return value


@contextmanager
def open_weights(archive: zipfile.ZipFile, path: Path) -> Iterator[BinaryIO]:
    """The weights file in the archive, seekable, without unpacking it where it is stored as it is.

    Raises:
        InvalidModelError: its bytes lie outside the archive, or it is too large to unpack.
    """
    info = archive.getinfo(WEIGHTS)
    if info.compress_type != zipfile.ZIP_STORED:
        # Deflate gives at most about a thousandfold.
        if info.file_size > 1032 * max(info.compress_size, 1) + 1024:
            raise InvalidModelError(
                f"'{WEIGHTS}' claims an impossible size", where=str(path), hint="do not use this model"
            )
        import tempfile

        with archive.open(WEIGHTS) as packed, tempfile.TemporaryFile() as unpacked:
            while chunk := packed.read(2**20):
                unpacked.write(chunk)
            unpacked.seek(0)
            yield unpacked
        return
    with path.open("rb") as stream:
        stream.seek(info.header_offset)
        header = stream.read(30)
        if len(header) < 30 or not header.startswith(ZIP_MAGIC):
            raise InvalidModelError(
                f"'{WEIGHTS}' lies outside the archive", where=str(path), hint="copy the model again"
            )
        start = info.header_offset + 30 + int.from_bytes(header[26:28], "little")
        start += int.from_bytes(header[28:30], "little")
        yield io.BufferedReader(_Window(stream, start, info.file_size))


def is_parameter(weight: Weight) -> bool:
    """Whether a stored array is a weight of the model, not the state of a seed, counter or optimiser."""
    parts = weight.path.split("/")
    if parts[0] in ("optimizer", "optimizer_weights", "_optimizer"):
        return False
    if any(part.startswith("seed_generator") for part in parts):
        return False
    return weight.dtype in FLOATS or weight.dtype in ("int8", "uint8", "int4", "|V2")


class _Window(io.RawIOBase):
    """A part of a file as a file of its own."""

    def __init__(self, stream: BinaryIO, start: int, size: int) -> None:
        self._stream, self._start, self._size, self._position = stream, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._size - self._position))
        self._stream.seek(self._start + self._position)
        data = self._stream.read(count)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)


def _first_line(error: BaseException) -> str | None:
    text = str(error).strip().splitlines()
    return text[0][:160] if text else None
