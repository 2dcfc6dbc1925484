"""Files and folders that are either whole or not there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from edgeconv.errors import ConversionError, UsageError

_HALF_WRITTEN = re.compile(r"\..+\.[a-z0-9_]{8}")
_YOUNG_SECONDS = 60.0
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NO_FOLDER = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.ENOENT, errno.ELOOP)


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by a file with this text, atomically and durably."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def copy_into_place(source: Path, target: Path) -> None:
    """Copy a file or folder to ``target`` so that ``target`` is never seen half-written.

    What was at ``target`` before is replaced. A folder cannot be replaced in one step on POSIX: the old
    one is renamed away first, so that for a moment there is none, but never a mixture.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with temporary_beside(target) as fresh:
        if source.is_dir():
            shutil.copytree(source, fresh)
        else:
            shutil.copyfile(source, fresh)
        sync(fresh)
        move_into_place(fresh, target)


def move_into_place(source: Path, target: Path) -> None:
    """Rename ``source`` (on the same file system) to ``target``, replacing what is there."""
    if target.is_dir() and not target.is_symlink():
        with temporary_beside(target) as old:
            target.rename(old)
            source.rename(target)
    else:
        source.replace(target)
    _sync_entry(target.parent)


@contextlib.contextmanager
def temporary_beside(target: Path) -> Iterator[Path]:
    """A path in the folder of ``target`` for something temporary; removed at the end if still there."""
    holder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    held = os.open(holder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield holder / target.name
    finally:
        shutil.rmtree(holder, ignore_errors=True)
        os.close(held)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs left half-written in a folder; what a live one is writing stays.

    Half-written are the hidden names that :func:`write_text` and :func:`temporary_beside` make. Those of
    a folder are held by a lock that the kernel gives back when its holder dies; as the lock is taken a
    moment after the folder is made, young ones are left alone.
    """
    for path in folder.glob(".*"):
        with contextlib.suppress(OSError):
            if _HALF_WRITTEN.fullmatch(path.name) and time.time() - path.stat().st_mtime > _YOUNG_SECONDS:
                if path.is_dir():
                    _remove_unheld(path)
                else:
                    path.unlink()


def _remove_unheld(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Flush a file, or all files under a folder, to the disk."""
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            _sync_entry(file)


@contextlib.contextmanager
def explained_disk_errors(where: Path) -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written into an error for a person.

    Raises:
        ConversionError: the disk is full.
        UsageError: nothing may be written there.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise no_space(str(where)) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise _not_writable(where, error) from error
        raise


def no_space(where: str) -> ConversionError:
    """The error of a full disk."""
    return ConversionError(
        "no space left on the disk",
        where=where,
        hint="free some space, or move the cache with EDGECONV_CACHE_DIR or the output with -o;"
        " then run the same command again: finished parts are kept",
    )


def make_writable_folder(folder: Path) -> None:
    """Make the folder if it is not there, and try that files can be made in it.

    Raises:
        UsageError: it cannot be made or written.
        ConversionError: the disk is full.
    """
    with explained_disk_errors(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            if error.errno not in _NO_FOLDER:
                raise
            raise _not_writable(folder, error) from error


def _not_writable(folder: Path, error: OSError) -> UsageError:
    taken = folder.exists() and not folder.is_dir()
    return UsageError(
        "this is a file, not a folder" if taken else "this folder cannot be written",
        where=str(folder),
        why=None if taken else error.strerror,
        hint="choose another one with -o, or with EDGECONV_CACHE_DIR for the cache",
    )


def _sync_entry(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems have no fsync of folders
            raise
    finally:
        os.close(descriptor)
