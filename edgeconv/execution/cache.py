"""A store of what stages made, by everything that decided it.

An entry is a folder named by its key. It holds the files a stage wrote and ``entry.json`` with what the
stage returned and the SHA-256 of each file. Entries come into being by one rename, so that a reader sees a
whole entry or none; two runs that need the same entry are kept apart by a lock on its key, which the
kernel gives back when its holder dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import machine, python_version
from typing import Any

import filelock

from edgeconv.execution import atomic

_LAYOUT = 2
_ROOMS = ("formats", "runtimes", "surgery", "comparison", "quantization", "conversions", "front_ends")
_LOCK_POLL_SECONDS = 0.1


def key_of(parts: Mapping[str, Any], tools: tuple[str, ...]) -> str:
    """The key of a result: SHA-256 over everything that decides it.

    Args:
        parts: hashes of the inputs, options, names; anything ``json.dumps`` takes.
        tools: distributions whose versions decide the result.
    """
    whole = {
        "layout": _LAYOUT,
        "parts": parts,
        "tools": {tool: tool_version(tool) for tool in sorted(set(tools))},
        "code": code_sha256(),
        "python": python_version(),
        "machine": machine(),
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


@cache
def tool_version(distribution: str) -> str | None:
    """The installed version of a distribution, ``None`` where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


@cache
def code_sha256() -> str:
    """SHA-256 over the code of all rooms that decide what a stage writes.

    All of it and not just the module of the arrow: a helper that changes changes the outcome, and a key
    that is too narrow is a wrong answer waiting.
    """
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for room in _ROOMS:
        for file in sorted((root / room).rglob("*.py")):
            digest.update(f"{file.relative_to(root)}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """One result in the cache.

    Attributes:
        folder: where it lies.
        value: what the stage returned.
        files: name of each file the stage wrote to its SHA-256.
        stamps: name of each file to its size in bytes and time of change in nanoseconds.
    """

    folder: Path
    value: dict[str, Any]
    files: dict[str, str]
    stamps: dict[str, list[int]]

    def file(self, name: str) -> Path:
        """The path of a file or folder that the stage wrote under that name."""
        return self.folder / name

    def intact(self) -> bool:
        """Whether every file still has the hash it was written with. Reads them all."""
        return _hashes(self.folder) == self.files

    def looks_intact(self) -> bool:
        """Whether no file was touched since, by size and time; where one was, by its hash.

        Enough to say that a result is there. Who reads its files asks :meth:`intact` first.
        """
        return _stamps(self.folder) == self.stamps or self.intact()


class Cache:
    """The store under one folder, made if it is not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries = folder / "entries"
        self._locks = folder / "locks"
        self._staging = folder / "staging"
        self.inputs = folder / "inputs"
        for part in (self._entries, self._locks, self._staging, self.inputs):
            atomic.make_writable_folder(part)
        self._remove_orphans()

    def find(self, key: str) -> Entry | None:
        """The entry of that key, ``None`` if there is none or it cannot be read. Files are not hashed."""
        folder = self._entries / key
        try:
            data = json.loads((folder / "entry.json").read_text())
            return Entry(folder, data["value"], data["files"], data["stamps"])
        except (OSError, ValueError, KeyError):
            return None

    def drop(self, key: str) -> None:
        """Remove an entry, if it is there."""
        folder = self._entries / key
        if folder.exists():
            with atomic.temporary_beside(folder) as old, contextlib.suppress(FileNotFoundError):
                folder.rename(old)

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder on the cache's file system; removed at the end if it was not published."""
        with atomic.explained_disk_errors(self._staging):
            folder = self._staging / uuid.uuid4().hex
            # Held before the folder is there: a run that starts in between takes nothing away but the lock's
            # file, which is then made again.
            lock = filelock.FileLock(self._staging / f"{folder.name}.lock", thread_local=False)
            lock.acquire()
            folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)

    def publish(self, key: str, staged: Path, value: dict[str, Any]) -> Entry:
        """Make an entry of a staged folder; of two that publish the same key the first wins."""
        with atomic.explained_disk_errors(self._folder):
            files = _hashes(staged)
            atomic.sync(staged)
            record = {"value": value, "files": files, "stamps": _stamps(staged)}
            atomic.write_text(staged / "entry.json", json.dumps(record))
            try:
                staged.rename(self._entries / key)
            except OSError:
                existing = self.find(key)
                if existing is None:  # a broken entry is in the way
                    self.drop(key)
                    staged.rename(self._entries / key)
        entry = self.find(key)
        if entry is None:
            raise FileNotFoundError(self._entries / key)
        return entry

    @contextlib.asynccontextmanager
    async def lock(self, key: str) -> AsyncIterator[None]:
        """Hold the key against other runs, waiting for them without blocking this one."""
        lock = filelock.FileLock(self._locks / f"{key}.lock", thread_local=False)
        while True:
            try:
                with atomic.explained_disk_errors(self._locks):
                    lock.acquire(blocking=False)
                break
            except filelock.Timeout:
                await asyncio.sleep(_LOCK_POLL_SECONDS)
        try:
            yield
        finally:
            lock.release()

    def _remove_orphans(self) -> None:
        """Remove the staging folders of runs that were killed: nobody holds their lock any more."""
        for path in self._staging.glob("*.lock"):
            lock = filelock.FileLock(path, thread_local=False)
            with contextlib.suppress(filelock.Timeout, OSError):
                lock.acquire(blocking=False)
                for left in self._staging.glob(f"{path.stem}*"):  # the folder, its scratch and its log
                    shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
                lock.release()
        for folder in (self._entries, self.inputs):
            atomic.remove_leftovers(folder)


def _hashes(folder: Path) -> dict[str, str]:
    from edgeconv.formats.registry import file_sha256

    return {name: file_sha256(file) for name, file in _files(folder)}


def _stamps(folder: Path) -> dict[str, list[int]]:
    stats = ((name, file.stat()) for name, file in _files(folder))
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats}


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file != folder / "entry.json":
            yield file.relative_to(folder).as_posix(), file
