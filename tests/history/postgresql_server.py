"""A real PostgreSQL server in a folder of its own, on a socket there and on no port."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


def programs() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``; Debian has them outside of the path."""
    candidates = [*Path("/usr/lib/postgresql").glob("*/bin")]
    if found := shutil.which("initdb"):
        candidates.append(Path(found).resolve().parent)
    whole = [each for each in candidates if (each / "initdb").is_file() and (each / "pg_ctl").is_file()]
    return max(whole, key=lambda each: each.parts, default=None)


def unprivileged() -> str | None:
    """Whom the server runs as, which refuses to run as root: the user, or one of the system's."""
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid()).pw_name
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return None


@contextlib.contextmanager
def server() -> Iterator[str]:
    """A running server; gives the URL of its empty database ``history``."""
    folder, user, binaries = Path(tempfile.mkdtemp(prefix="edgeconv-pg-")), unprivileged(), programs()
    assert user is not None
    assert binaries is not None
    as_user = {"user": user, "cwd": folder} if os.getuid() == 0 else {"cwd": folder}

    def call(program: str, *arguments: str) -> None:
        command = [str(binaries / program), *arguments]
        with (folder / "log").open("a") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log, timeout=120, **as_user)

    try:
        if os.getuid() == 0:
            shutil.chown(folder, user)
        data = str(folder / "data")
        call("initdb", "-D", data, "-U", "edgeconv", "--auth=trust", "--encoding=UTF8", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=40"
        call("pg_ctl", "-D", data, "-w", "-o", options, "-l", str(folder / "server.log"), "start")
        try:
            call("createdb", "-h", str(folder), "-U", "edgeconv", "history")
            yield f"postgresql://edgeconv@/history?host={folder}"
        finally:
            call("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
