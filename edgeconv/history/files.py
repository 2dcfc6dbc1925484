"""Kept artifacts by the hash of their bytes: in a folder beside the store, or in the database itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from edgeconv.errors import UsageError
from edgeconv.execution import atomic
from edgeconv.formats.registry import file_sha256
from edgeconv.history.tables import FilePart

if TYPE_CHECKING:
    from edgeconv.history.location import Location

PART_BYTES = 4 << 20


class Files(Protocol):
    """Where the bytes of kept files lie."""

    def put(self, session: Session, sha256: str, source: Path) -> None:
        """Keep a file; nothing is done where it is kept already."""
        ...

    def has(self, session: Session, sha256: str) -> bool:
        """Whether it is kept."""
        ...

    def read(self, session: Session, sha256: str) -> Iterator[bytes]:
        """Its bytes, piece by piece."""
        ...

    def keep_only(self, session: Session, wanted: set[str], *, remove: bool) -> int:
        """Remove all others (or only count them); gives how many."""
        ...


def files_of(location: Location) -> Files:
    """Where the files of a store lie."""
    return FolderFiles(location.files) if location.files is not None else TableFiles()


class FolderFiles:
    """One file an artifact's file, named by its hash, in folders named by the first two digits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, sha256: str) -> Path:
        if len(sha256) != 64 or not all(digit in "0123456789abcdef" for digit in sha256):
            raise UsageError(f"'{sha256[:80]}' is no SHA-256")  # it would be a path of somebody's choice
        return self.folder / sha256[:2] / sha256

    def put(self, session: Session, sha256: str, source: Path) -> None:
        """Copied so that a reader sees the whole file or none."""
        path = self._path(sha256)
        if path.is_file():
            return
        with atomic.explained_disk_errors(self.folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.copy_into_place(source, path)

    def has(self, session: Session, sha256: str) -> bool:
        """Whether the file is there."""
        return self._path(sha256).is_file()

    def read(self, session: Session, sha256: str) -> Iterator[bytes]:
        """The file, in pieces."""
        try:
            with self._path(sha256).open("rb") as stream:
                while piece := stream.read(PART_BYTES):
                    yield piece
        except FileNotFoundError as error:
            raise _gone(sha256, str(self.folder)) from error

    def keep_only(self, session: Session, wanted: set[str], *, remove: bool) -> int:
        """Files that nothing needs any more."""
        if not self.folder.is_dir():
            return 0
        found = [path for path in self.folder.glob("[0-9a-f][0-9a-f]/*") if path.name not in wanted]
        if remove:
            for path in found:
                path.unlink(missing_ok=True)
        return len(found)


class TableFiles:
    """In pieces in the table ``file_parts``, for a server that several machines share."""

    def put(self, session: Session, sha256: str, source: Path) -> None:
        """Within the session's transaction: all of it or nothing."""
        if self.has(session, sha256):
            return
        with source.open("rb") as stream:
            for number, piece in enumerate(iter(lambda: stream.read(PART_BYTES), b"")):
                _add_part(session, sha256, number, piece)
            if stream.tell() == 0:
                _add_part(session, sha256, 0, b"")

    def has(self, session: Session, sha256: str) -> bool:
        """Whether its first piece is there; pieces come together."""
        return session.get(FilePart, (sha256, 0)) is not None

    def read(self, session: Session, sha256: str) -> Iterator[bytes]:
        """Its pieces in order."""
        if not self.has(session, sha256):
            raise _gone(sha256, "the database")
        number = 0
        while (piece := session.get(FilePart, (sha256, number))) is not None:
            yield piece.data
            session.expunge(piece)
            number += 1

    def keep_only(self, session: Session, wanted: set[str], *, remove: bool) -> int:
        """Rows that nothing needs any more."""
        there = set(session.scalars(select(FilePart.sha256).where(FilePart.part == 0)))
        if remove and there - wanted:
            session.execute(delete(FilePart).where(FilePart.sha256.in_(there - wanted)))
        return len(there - wanted)


def _add_part(session: Session, sha256: str, number: int, piece: bytes) -> None:
    from edgeconv.history.store import insert_new

    insert_new(session, FilePart, [{"sha256": sha256, "part": number, "data": piece}])


def write_file(files: Files, session: Session, sha256: str, path: Path) -> None:
    """Write a kept file, and hold it to its hash.

    Raises:
        UsageError: it is not there any more, or was changed.
    """
    digest = hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        for piece in files.read(session, sha256):
            digest.update(piece)
            stream.write(piece)
    if digest.hexdigest() != sha256:
        path.unlink()
        raise UsageError(
            "a kept artifact was changed on the disk",
            where=sha256,
            hint="set the baseline anew from its file",
        )


def unchanged(path: Path, sha256: str) -> bool:
    """Whether a file is there and has that hash."""
    return path.is_file() and file_sha256(path) == sha256


def _gone(sha256: str, where: str) -> UsageError:
    return UsageError(
        f"the file {sha256[:12]} is not kept any more",
        where=where,
        hint="set the baseline or the reference anew from its file",
    )
