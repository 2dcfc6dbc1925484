"""What went wrong while a userland was made, for a person."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from edgeconv.errors import UnavailableError

_STEP_SECONDS = 900.0
_NO_NETWORK = re.compile(
    r"Temporary failure (in name resolution|resolving)|Name or service not known|Could not resolve|"
    r"Failed to establish a new connection|Network is unreachable|Connection (refused|timed out|aborted)|"
    r"Unable to connect|Could not connect|ConnectTimeout|ReadTimeout|ProxyError|SSLError|No route to host"
)
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded|have enough free space")
_NO_PACKAGE = re.compile(r"Unable to locate package (\S+)|No matching distribution found for (\S+)")
_NO_RELEASE = re.compile(r"does not have a Release file|404 +Not Found")


def run(
    command: Sequence[str],
    *,
    variables: Mapping[str, str] | None = None,
    stdin: IO[bytes] | None = None,
    cwd: Path | None = None,
    seconds: float = _STEP_SECONDS,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, all that it says in ``stdout``, in English.

    Raises:
        UnavailableError: it cannot be started or takes too long.
    """
    try:
        return subprocess.run(
            list(command),
            env={**os.environ, "LC_ALL": "C.UTF-8", **(variables or {})},
            stdin=stdin or subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=cwd,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(
            f"'{Path(command[0]).name}' took more than {seconds / 60:.0f} minutes and was stopped",
            why="the network is slow or does not answer",
            hint="run the same command again",
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise full_disk() from error
        raise UnavailableError(f"'{command[0]}' cannot be run", why=str(error)) from error


def explained(what: str, said: str) -> UnavailableError:
    """The error for what a tool said.

    Args:
        what: that cannot be had or made, as the beginning of a sentence.
        said: everything it printed.
    """
    if _NO_SPACE.search(said):
        return full_disk()
    if _NO_NETWORK.search(said):
        return UnavailableError(
            f"{what} cannot be had: the network does not answer",
            why=_last(said),
            hint="connect this machine, or set the proxy that apt and pip are to use; then run it again",
        )
    missing = _NO_PACKAGE.search(said)
    if missing is not None:
        return UnavailableError(
            f"{what} cannot be had: there is no {missing[1] or missing[2]}", why=_last(said)
        )
    if _NO_RELEASE.search(said):
        return UnavailableError(
            f"{what} cannot be had: this machine's mirror does not have it, or no longer",
            why=_last(said),
            hint="take a newer suite, or a mirror that has this one in apt's sources",
        )
    return UnavailableError(f"{what} cannot be had", why=_last(said))


def full_disk() -> UnavailableError:
    """The error of a full disk."""
    return UnavailableError(
        "no space left on the disk",
        hint="free some space (a board takes about half a gigabyte), or move the cache: EDGECONV_CACHE_DIR",
    )


@contextmanager
def explained_disk_errors() -> Iterator[None]:
    """Turn the error of a full disk into one for a person.

    Raises:
        UnavailableError: the disk is full, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise full_disk() from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UnavailableError(
                "the cache cannot be written",
                where=error.filename,
                why=error.strerror,
                hint="move it: EDGECONV_CACHE_DIR",
            ) from error
        raise


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    marked = [line for line in lines if re.match(r"(E|ERROR|error|tar|dpkg-deb)\b", line)]
    return " | ".join((marked or lines)[-3:])[:500]
