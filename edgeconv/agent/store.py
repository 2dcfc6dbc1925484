"""Files on the device, by the SHA-256 of their content, so that what is there is never sent twice.

    ROOT/files/HASH            whole files, verified when they came; the only thing that outlives an agent
    ROOT/sessions/PID-N/       of one running agent: files that are arriving, artifacts under their own names

A session folder is locked by the kernel for as long as its agent lives. Whoever starts removes the folders
whose agents are gone, however they went.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile

from .errors import AgentError

_HASH = re.compile(r"[0-9a-f]{64}")


class Store:
    """The folder ``root`` and this agent's session in it; made when it is first needed."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(os.path.expanduser(root))
        self._session: str | None = None
        self._lock: int | None = None
        self._arriving: dict[str, tuple[str, int]] = {}

    def missing(self, hashes: list[str]) -> list[str]:
        """Those of ``hashes`` that are not here."""
        return [sha for sha in hashes if not os.path.isfile(self._file(sha))]

    def put(self, sha: str, size: int, offset: int, data: bytes | bytearray) -> int:
        """Take one part of a file, in order, and return how many bytes are here; the last part completes it.

        Raises:
            AgentError: a part out of order (``usage``), the disk is full (``space``), or the whole has
                another hash (``refused``).
        """
        final = self._file(sha)
        if os.path.isfile(final):
            return size
        path, have = self._arriving.get(sha, ("", 0))
        if offset == 0:
            path, have = os.path.join(self.session(), sha), 0
        if offset != have or have + len(data) > size:
            raise AgentError("usage", "a part of a file at %d, not at %d" % (offset, have))
        try:
            if offset == 0:
                self._room_for(size)
            with open(path, "ab" if offset else "wb") as stream:
                stream.write(data)
                if have + len(data) == size:
                    stream.flush()
                    os.fsync(stream.fileno())  # a board may lose its power: what has the name is whole
        except OSError as error:
            self._arriving.pop(sha, None)
            with contextlib.suppress(OSError):
                os.remove(path)
            raise self._full(error) from error
        have += len(data)
        self._arriving[sha] = (path, have)
        if have == size:
            del self._arriving[sha]
            if _sha256(path) != sha:
                os.remove(path)
                raise AgentError("refused", "a file did not arrive as it was sent", "try it again")
            try:
                os.makedirs(os.path.dirname(final), exist_ok=True)
                os.replace(path, final)
            except OSError as error:
                raise self._full(error) from error
        return have

    def lay_out(self, files: dict[str, str]) -> str:
        """A folder in which the files lie under their relative names; the files are those of ``put``.

        Raises:
            AgentError: a name that leaves the folder, or a file that is not here (``usage``).
        """
        try:
            folder = tempfile.mkdtemp(dir=self.session())
        except OSError as error:
            raise self._full(error) from error
        try:
            for name, sha in files.items():
                self._place(folder, name, self._file(sha))
        except BaseException:
            self.remove(folder)
            raise
        return folder

    def _place(self, folder: str, name: str, source: str) -> None:
        target = os.path.normpath(os.path.join(folder, name))
        if os.path.isabs(name) or "\0" in name or not target.startswith(folder + os.sep):
            raise AgentError("usage", "a file's name leaves its folder: %.200r" % name)
        if not os.path.isfile(source):
            raise AgentError("usage", "the file %s was not sent" % os.path.basename(source)[:12])
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
        except OSError as error:
            if isinstance(error, (FileExistsError, NotADirectoryError)):
                raise AgentError("usage", "a file's name is that of a folder too: %.200r" % name) from error
            raise self._full(error) from error
        try:
            os.link(source, target)
        except FileExistsError as error:
            raise AgentError("usage", "two files have the name %.200r" % name) from error
        except OSError:
            try:
                shutil.copyfile(source, target)
            except IsADirectoryError as error:
                raise AgentError("usage", "a file's name is that of a folder too: %.200r" % name) from error
            except OSError as error:
                raise self._full(error) from error

    def remove(self, folder: str) -> None:
        """Remove a folder of :meth:`lay_out`."""
        if self._session is not None and folder.startswith(self._session + os.sep):
            shutil.rmtree(folder, ignore_errors=True)

    def session(self) -> str:
        """This agent's own folder."""
        if self._session is None:
            sessions = os.path.join(self.root, "sessions")
            try:
                os.makedirs(sessions, exist_ok=True)
                self._sweep(sessions)
                folder = tempfile.mkdtemp(prefix="%d-" % os.getpid(), dir=sessions)
            except OSError as error:
                raise self._full(error) from error
            self._lock = os.open(folder, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._session = folder
        return self._session

    def close(self) -> None:
        """Remove the session."""
        if self._session is not None:
            shutil.rmtree(self._session, ignore_errors=True)
            self._session = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _sweep(self, sessions: str) -> None:
        for name in os.listdir(sessions):
            folder = os.path.join(sessions, name)
            with contextlib.suppress(OSError):
                descriptor = os.open(folder, os.O_RDONLY)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(descriptor)

    def _file(self, sha: str) -> str:
        if not _HASH.fullmatch(sha):
            raise AgentError("usage", "no SHA-256: %.80r" % (sha,))
        return os.path.join(self.root, "files", sha)

    def _room_for(self, size: int) -> None:
        free = shutil.disk_usage(self.session()).free
        if free < size:
            raise OSError(errno.ENOSPC, "%d MB are needed and %d MB are free" % (size >> 20, free >> 20))

    def _full(self, error: OSError) -> AgentError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return AgentError(
                "space",
                "the disk is full in %s (%s)" % (self.root, error.strerror),
                "free some space there, or name another folder for this device's store",
            )
        return AgentError("unavailable", "cannot write to %s (%s)" % (self.root, error.strerror))


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for part in iter(lambda: stream.read(1 << 20), b""):
            digest.update(part)
    return digest.hexdigest()
