"""Reading the bytes of a model file, with the refusals that every format needs."""

from __future__ import annotations

from pathlib import Path

from edgeconv.errors import InvalidModelError

LFS_HEAD = b"version https://git-lfs.github.com/spec/"
PROTO_LIMIT = 2**31 - 1
"""No protocol buffer is larger than this; neither is a GraphDef or a SavedModel's ``saved_model.pb``."""


def read_file(path: Path, limit: int = PROTO_LIMIT) -> bytes:
    """All bytes of the file at ``path``.

    Raises:
        InvalidModelError: missing, unreadable, empty, a Git LFS pointer, or larger than ``limit`` bytes.
    """
    size = check_file(path)
    if size > limit:
        raise InvalidModelError(
            f"the file has {size} bytes, more than the {limit} that a file of its kind can have",
            where=str(path),
            why="no such file is written by TensorFlow",
            hint="check that this is the model",
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def check_file(path: Path) -> int:
    """The size of a file of which at least the beginning is a model's.

    Raises:
        InvalidModelError: missing, unreadable, empty, or a Git LFS pointer.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(len(LFS_HEAD))
            size = stream.seek(0, 2)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not head:
        raise InvalidModelError("the file is empty", where=str(path), hint="copy the model again")
    if head == LFS_HEAD:
        raise InvalidModelError(
            "this is a Git LFS pointer, not the model itself",
            where=str(path),
            hint="run 'git lfs pull' in its repository, then try again",
        )
    return size


def total_size(files: list[Path]) -> int:
    """Bytes on disk of all ``files``."""
    return sum(file.stat().st_size for file in files if file.is_file())


def read_head(path: Path, count: int = 4096) -> bytes:
    """The first bytes of a file; empty where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(count)
    except OSError:
        return b""


def _unreadable(path: Path, error: OSError) -> InvalidModelError:
    if isinstance(error, FileNotFoundError):
        return InvalidModelError("the file is missing", where=str(path), hint="copy the whole model again")
    return InvalidModelError(
        "the file cannot be read", where=str(path), why=error.strerror, hint="check its permissions"
    )
