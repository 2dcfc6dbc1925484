"""Reads what TensorFlow's checkpoints list: names, types, shapes, and where the bytes lie.

Format V2 (a *tensor bundle*) is ``PREFIX.index``, a sorted string table from tensor name to
``BundleEntryProto`` with the header at the empty key, and ``PREFIX.data-SHARD-of-SHARDS``. Format V1 is one
sorted string table a shard, with ``SavedTensorSlices`` at the empty key and the values behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeconv.errors import InvalidModelError
from edgeconv.formats._model_bytes import check_file
from edgeconv.formats._sstable import read_table
from edgeconv.formats._tensor_types import dtype_name, shape_of
from edgeconv.formats._tensorflow_protos import parse_binary, tensorflow_protos
from edgeconv.formats.base import Shape

OBJECT_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
_SLICE_KEY = b"\0"
"""Keys of the parts of a partitioned variable begin with it; the variable itself has an entry beside them."""
_NEWEST_BUNDLE = 1
_MOST_SHARDS = 100_000


@dataclass(frozen=True, slots=True)
class CheckpointVariable:
    """One tensor of a checkpoint."""

    name: str
    dtype: str
    shape: Shape | None


@dataclass(frozen=True, slots=True)
class Extent:
    """Where the bytes of a tensor lie."""

    shard: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class BundleIndex:
    """What ``PREFIX.index`` says."""

    path: Path
    shards: int
    variables: tuple[CheckpointVariable, ...]
    extents: dict[str, Extent]
    ends: dict[int, int]
    """The least size each shard must have."""

    @property
    def prefix(self) -> Path:
        """The name of the checkpoint: the path without ``.index``."""
        return self.path.with_name(self.path.name.removesuffix(".index"))

    def shard_path(self, number: int) -> Path:
        """The file of shard ``number``."""
        return self.path.with_name(f"{self.prefix.name}.data-{number:05d}-of-{self.shards:05d}")


def read_index(path: Path) -> BundleIndex:
    """The index of a V2 checkpoint.

    Raises:
        InvalidModelError: missing, a Git LFS pointer, truncated or corrupt.
    """
    check_file(path)
    protos = tensorflow_protos()
    header: Any = None
    variables: list[CheckpointVariable] = []
    extents: dict[str, Extent] = {}
    ends: dict[int, int] = {}
    for key, value in read_table(path):
        if header is None:
            header = _header(key, value, path)
            continue
        entry = parse_binary(protos.BundleEntryProto, value, path, "checkpoint's index")
        if not 0 <= entry.shard_id < header.num_shards or entry.offset < 0 or entry.size < 0:
            raise _corrupt(path, "an entry lies outside the shards")
        if entry.size:
            ends[entry.shard_id] = max(ends.get(entry.shard_id, 0), entry.offset + entry.size)
        if key.startswith(_SLICE_KEY):
            continue
        try:
            name = key.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _corrupt(path, "the name of a tensor is no text") from error
        extents[name] = Extent(entry.shard_id, entry.offset, entry.size)
        variables.append(CheckpointVariable(name, dtype_name(entry.dtype), shape_of(entry.shape)))
    if header is None:
        raise _corrupt(path, "it has no header")
    return BundleIndex(path, header.num_shards, tuple(variables), extents, ends)


def check_shards(index: BundleIndex) -> list[Path]:
    """The shards of a V2 checkpoint, each there and long enough.

    Raises:
        InvalidModelError: one is missing, a Git LFS pointer, or truncated; names it.
    """
    found = []
    for number in range(index.shards):
        shard = index.shard_path(number)
        needed = index.ends.get(number, 0)
        if not shard.is_file():
            raise InvalidModelError(
                f"the checkpoint's data shard '{shard.name}' is missing",
                where=str(index.path),
                why=f"the index lists {len(index.variables)} tensors, and their values are in it",
                hint=f"copy '{shard.name}' beside '{index.path.name}'",
            )
        size = check_file(shard) if needed else shard.stat().st_size
        if size < needed:
            raise InvalidModelError(
                f"the checkpoint's data shard has {size} bytes where the index needs {needed}",
                where=str(shard),
                why="it is truncated, or belongs to another index",
                hint="copy the whole checkpoint again",
            )
        found.append(shard)
    return found


def read_object_graph(index: BundleIndex) -> Any | None:
    """The ``TrackableObjectGraph`` of an object-based checkpoint; ``None`` in a name-based one.

    Raises:
        InvalidModelError: it does not decode.
    """
    extent = index.extents.get(OBJECT_GRAPH_KEY)
    if extent is None:
        return None
    shard = index.shard_path(extent.shard)
    with shard.open("rb") as stream:
        stream.seek(extent.offset)
        data = stream.read(extent.size)
    # A string tensor is stored as the lengths (varints), a checksum of them, and the bytes.
    length, position = 0, 0
    while position < min(len(data), 10):
        length |= (data[position] & 0x7F) << (7 * position)
        position += 1
        if data[position - 1] < 0x80:
            break
    start = position + 4
    if start + length > len(data):
        raise _corrupt(shard, "the object graph lies outside its tensor")
    kind = tensorflow_protos().TrackableObjectGraph
    return parse_binary(kind, data[start : start + length], shard, "checkpoint's object graph")


def read_v1_variables(shards: Iterable[Path]) -> tuple[CheckpointVariable, ...]:
    """The tensors that the shards of a V1 checkpoint list, without their values.

    Raises:
        InvalidModelError: truncated or corrupt.
    """
    found: dict[str, CheckpointVariable] = {}
    kind = tensorflow_protos().SavedTensorSlices
    for path in shards:
        check_file(path)
        key, value = next(read_table(path, first_only=True), (None, b""))
        if key != b"":
            raise _corrupt(path, "it does not begin with a list of tensors")
        for tensor in parse_binary(kind, value, path, "checkpoint's list of tensors").meta.tensor:
            shape = shape_of(tensor.shape)
            found[tensor.name] = CheckpointVariable(tensor.name, dtype_name(tensor.type), shape)
    return tuple(found[name] for name in sorted(found))


def is_shard_name(name: str) -> re.Match[str] | None:
    """Matches the file name of a shard: V2 ``PREFIX.data-N-of-M`` or V1 ``PREFIX-N-of-M``."""
    return re.fullmatch(r"(?P<prefix>.+?)(?P<v2>\.data)?-\d{5}-of-(?P<count>\d{5})", name)


def _header(key: bytes, value: bytes, path: Path) -> Any:
    if key != b"":
        raise InvalidModelError(
            "this table is no index of a checkpoint",
            where=str(path),
            why="its first entry is no header",
            hint="check that this is the '.index' file of a checkpoint",
        )
    header = parse_binary(tensorflow_protos().BundleHeaderProto, value, path, "checkpoint's header")
    if header.version.min_consumer > _NEWEST_BUNDLE:
        raise InvalidModelError(
            f"the checkpoint has version {header.version.min_consumer} of its format",
            where=str(path),
            why=f"versions up to {_NEWEST_BUNDLE} are known",
            hint="save it again with TensorFlow 2.21",
        )
    if header.endianness != 0:
        raise InvalidModelError(
            "the checkpoint is big-endian", where=str(path), hint="save it again on a little-endian machine"
        )
    if not 0 < header.num_shards <= _MOST_SHARDS:
        raise _corrupt(path, f"it claims to have {header.num_shards} shards")
    return header


def _corrupt(path: Path, why: str) -> InvalidModelError:
    return InvalidModelError(
        "the checkpoint is truncated or corrupt", where=str(path), why=why, hint="copy the checkpoint again"
    )
