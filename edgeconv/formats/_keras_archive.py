"""Opens what Keras files are made of: HDF5 files, and zip archives with an HDF5 file in them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edgeconv.errors import InvalidModelError
from edgeconv.formats import _hdf5_reader
from edgeconv.formats._tensor_types import FLOATS

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ZIP_MAGIC = b"PK\x03\x04"
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_JSON_LIMIT = 256 * 2**20
_SECONDS = 60
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


@dataclass(frozen=True, slots=True)
class Hdf5Contents:
    """What is in an HDF5 file: text attributes of the root and of ``model_weights``, and the weights."""

    attributes: Mapping[str, str | None]
    weights_attributes: Mapping[str, str | None]
    has_model_weights: bool
    weights: tuple[Weight, ...]


def hdf5_offset(head: bytes) -> int | None:
    """Where in the head the HDF5 signature stands: at 0, or at 512, 1024, … behind a user block."""
    for offset in (0, 512, 1024, 2048):
        if head[offset : offset + 8] == HDF5_MAGIC:
            return offset
    return None


def read_hdf5(path: Path, where: Path, offset: int = 0, size: int = 0) -> Hdf5Contents:
    """What is in the HDF5 file at ``path``, or in ``size`` bytes of it from ``offset`` on.

    A process of its own reads it, because the HDF5 library can crash on a damaged file.

    Raises:
        InvalidModelError: truncated or corrupt; ``where`` is the file it names.
    """
    command = [sys.executable, "-P", str(Path(_hdf5_reader.__file__)), str(path), str(offset), str(size)]
    try:
        result = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise _damaged(where, f"reading its list of contents took more than {_SECONDS} s") from error
    if result.returncode < 0:
        raise _damaged(where, "it crashes the HDF5 library")
    try:
        found = json.loads(result.stdout)
    except ValueError as error:
        lines = result.stderr.decode("utf-8", errors="replace").strip().splitlines()
        raise _damaged(where, lines[-1][:160] if lines else "it could not be read") from error
    if "error" in found:
        raise _damaged(where, found["error"])
    return Hdf5Contents(
        attributes=found["attributes"],
        weights_attributes=found["weights_attributes"],
        has_model_weights=found["has_model_weights"],
        weights=tuple(Weight(name, dtype, tuple(shape)) for name, dtype, shape in found["weights"]),
    )


def _damaged(where: Path, why: str) -> InvalidModelError:
    return InvalidModelError(
        "the HDF5 file is truncated" if "truncated" in why else "the HDF5 file is truncated or corrupt",
        where=str(where),
        why=why,
        hint="copy or save the model again",
    )


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


def read_weights(archive: zipfile.ZipFile, path: Path) -> Hdf5Contents:
    """What is in the weights file of the archive; it is unpacked only where it is compressed.

    Raises:
        InvalidModelError: truncated or corrupt, or its size is impossible.
    """
    info = archive.getinfo(WEIGHTS)
    if info.compress_type == zipfile.ZIP_STORED:
        with path.open("rb") as stream:
            stream.seek(info.header_offset)
            header = stream.read(30)
        if len(header) < 30 or not header.startswith(ZIP_MAGIC):
            raise InvalidModelError(
                f"'{WEIGHTS}' lies outside the archive", where=str(path), hint="copy the model again"
            )
        names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        return read_hdf5(path, path, info.header_offset + 30 + names, info.file_size)
    # Deflate gives at most about a thousandfold.
    if info.file_size > 1032 * max(info.compress_size, 1) + 1024:
        raise InvalidModelError(
            f"'{WEIGHTS}' claims an impossible size", where=str(path), hint="do not use this model"
        )
    with archive.open(WEIGHTS) as packed, tempfile.NamedTemporaryFile(suffix=".h5") as unpacked:
        shutil.copyfileobj(packed, unpacked, 2**20)
        unpacked.flush()
        return read_hdf5(Path(unpacked.name), path)


def is_parameter(weight: Weight) -> bool:
    """Whether a stored array is a weight of the model, not the state of a seed, counter or optimiser."""
    parts = weight.path.split("/")
    if parts[0] in ("optimizer", "optimizer_weights", "_optimizer"):
        return False
    if any(part.startswith("seed_generator") for part in parts):
        return False
    return weight.dtype in FLOATS or weight.dtype in ("int8", "uint8", "int4", "|V2")


def _first_line(error: BaseException) -> str | None:
    text = str(error).strip().splitlines()
    return text[0][:160] if text else None
