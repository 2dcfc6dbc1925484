"""Programs of a userland under qemu's user-mode emulation, without root and without binfmt.

``qemu -L ROOT`` looks up each absolute path under ROOT first, and takes the host's where ROOT has none. What
must not come from the host is kept from it: Python and its packages are named by full paths in the tree,
the loader's cache there is empty, and there is no ``PATH`` that programs could be started from. What Python
writes by such a full path lies in the tree as well, and outside of it nothing is written.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import filelock

from edgeconv.devices._emulated_boards import Board, InstalledRuntime
from edgeconv.devices._userland_apt import PrivateApt, host_sources, sources_for, unpack
from edgeconv.devices._userland_errors import explained_disk_errors, run
from edgeconv.errors import UnavailableError
from edgeconv.paths import cache_folder

_PROGRAMS = {"arm64": "qemu-aarch64", "armhf": "qemu-arm"}
_HOSTS = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64el", "riscv64": "riscv64", "s390x": "s390x"}
_SUITE = "bookworm"
"""Of the package that is fetched where this machine has no qemu: its binaries are static, so that any host
runs them, and it is the version that all else was tried with."""


def find_qemu(architecture: str, say: Callable[[str], None] | None = None) -> Path:
    """The emulator of an architecture: this machine's own, else that of Debian, kept in the cache.

    Args:
        architecture: Debian's name of what is emulated.
        say: takes a line of progress; where ``None``, nothing is fetched.

    Raises:
        UnavailableError: it is not here and cannot be had, or was not to be fetched.
    """
    name = _PROGRAMS[architecture]
    for program in (f"{name}-static", name):
        here = shutil.which(program)
        if here is not None:
            return Path(here)
    folder = cache_folder() / "devices" / ".qemu"
    fetched = folder / "usr" / "bin" / f"{name}-static"
    if fetched.exists():
        return fetched
    if say is None:
        raise UnavailableError(
            f"{name} is not here, which runs programs of this board",
            hint="make the board anew, which fetches it, or install the package qemu-user-static",
        )
    say("fetching qemu")
    _fetch(folder)
    return fetched


def command(root: Path, qemu: Path, arguments: Sequence[str]) -> tuple[str, ...]:
    """How Python of a userland is started with these arguments."""
    return (str(qemu), "-L", str(root), str(root / "usr" / "bin" / "python3"), *arguments)


def variables(
    board: Board, root: Path, runtime: InstalledRuntime | None, *, compiling: bool = False
) -> dict[str, str | None]:
    """The environment of such a program: nothing of this process's own, ``None`` for what is removed.

    Args:
        board: what is emulated.
        root: of its userland.
        runtime: whose distributions Python is to see; ``None`` for none.
        compiling: let Python keep the compiled form of what it imports, in the tree.
    """
    sites = [str(root / site) for site in runtime.sites()] if runtime is not None else []
    own = {
        # Under qemu 7.2's default, 'max', some int8 kernels compute something else and nothing says so.
        "QEMU_CPU": board.qemu_cpu,
        "PYTHONPATH": os.pathsep.join(sites),
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "LC_ALL": "C.UTF-8",
        # A program that is not in the tree would be started from the host, and as the host's.
        "PATH": "/nonexistent",
        "HOME": "/nonexistent",
        "TMPDIR": tempfile.gettempdir(),
        "EDGECONV_AGENT_ROOT": str(root),
        "ORT_DISABLE_TELEMETRY": "1",
        **({} if compiling else {"PYTHONDONTWRITEBYTECODE": "1"}),
    }
    removed: dict[str, str | None] = dict.fromkeys(os.environ, None)
    return {**removed, **own}


def version(qemu: Path) -> str:
    """Its version, ``7.2.22``.

    Raises:
        UnavailableError: it does not run.
    """
    ran = run([str(qemu), "--version"], seconds=60)
    words = ran.stdout.split()
    if ran.returncode != 0 or "version" not in words[:-1]:
        raise UnavailableError(
            "qemu does not run here", where=str(qemu), why=ran.stdout.strip()[:200] or None
        )
    return words[words.index("version") + 1]


def _fetch(folder: Path) -> None:
    host = _HOSTS.get(platform.machine())
    if host is None:
        raise UnavailableError(
            f"there is no qemu to fetch for a host of the kind {platform.machine()}",
            hint="install qemu's user-mode emulation so that qemu-aarch64-static is found",
        )
    with explained_disk_errors():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder.with_suffix(".lock")):
            if folder.exists():
                return
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".qemu.") as scratch:
                apt = PrivateApt(Path(scratch) / "apt", host, _SUITE, sources_for(_SUITE, host_sources()))
                package = apt.download_alone("qemu-user-static")
                unpack([package], Path(scratch) / "root")
                (Path(scratch) / "root").rename(folder)
