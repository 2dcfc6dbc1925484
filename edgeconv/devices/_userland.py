"""Userlands on disk: built, found, checked, removed. Each is whole or not there.

CACHE/devices/NAME/edgeconv-board.json    what it was made of, and a digest of its files
CACHE/devices/NAME/root/                  the tree
CACHE/devices/NAME/root/opt/edgeconv/     the runtimes, a folder a distribution
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeconv.devices import _emulated_qemu as qemu_user
from edgeconv.devices import _userland_wheels as wheels
from edgeconv.devices._emulated_boards import Board, InstalledRuntime, site_of
from edgeconv.devices._userland_apt import PrivateApt, host_sources, sources_for, unpack
from edgeconv.devices._userland_errors import explained_disk_errors, run
from edgeconv.devices.shipping import agent_file
from edgeconv.environments.store import discard, locked
from edgeconv.errors import UnavailableError
from edgeconv.paths import cache_folder

_STAMP = "edgeconv-board.json"
_TRYING = 2
_TRY_SECONDS = 300.0
_HIDDEN = ("sys/class/thermal", "sys/class/hwmon", "sys/class/drm", "usr/local/lib", "etc/ld.so.conf.d")


@dataclass(frozen=True, slots=True)
class Built:
    """A userland that is there.

    Attributes:
        board: what it was to be.
        folder: where it lies.
        current: whether it is what this release of edgeconv would make.
        stamp: what was noted when it was made: ``python``, ``qemu``, ``packages``, ``seconds``, ``bytes``.
    """

    board: Board
    folder: Path
    current: bool
    stamp: dict[str, Any]

    @property
    def root(self) -> Path:
        """Its tree."""
        return self.folder / "root"


def default_root() -> Path:
    """Where boards lie: ``devices`` in edgeconv's cache folder."""
    return cache_folder() / "devices"


def found(board: Board, base: Path | None = None) -> Built | None:
    """The userland of a board if it is there, without a look at its files."""
    folder = (base or default_root()) / board.folder
    try:
        stamp = json.loads((folder / _STAMP).read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(stamp, dict):
        return None
    return Built(board, folder, stamp.get("key") == board.sha256, stamp)


def required(board: Board, base: Path | None = None) -> Built:
    """The userland of a board, with all its files.

    Raises:
        UnavailableError: it is not there, damaged, or of another release; names the command that makes it.
    """
    built = found(board, base)
    create = f"edgeconv devices create {board.name}"
    if built is None:
        raise UnavailableError(f"the emulated board '{board.name}' is not here", hint=f"make it: {create}")
    if not built.current:
        raise UnavailableError(
            f"the emulated board '{board.name}' was made by another release of edgeconv, of other parts",
            where=str(built.folder),
            hint=f"make it anew: {create}",
        )
    if _digest(built.root) != built.stamp.get("files"):
        raise UnavailableError(
            f"the emulated board '{board.name}' is damaged: files were changed or are missing",
            where=str(built.folder),
            hint=f"make it anew: edgeconv devices remove {board.name}; {create}",
        )
    return built


def build(
    board: Board,
    base: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
    *,
    cached: bool = True,
) -> Built:
    """Make the userland of a board; one that is there and whole is left as it is.

    Args:
        board: which.
        base: where boards lie; :func:`default_root` where ``None``.
        say: takes a line of progress.
        cached: take wheels that this machine's pip has fetched before.

    Raises:
        UnavailableError: no apt, no pip, no network, no space, a runtime that does not run there, or a kernel
            on which qemu does not run.
    """
    base = base or default_root()
    with explained_disk_errors():
        base.mkdir(parents=True, exist_ok=True)
        with locked(base, board.folder):
            try:
                return required(board, base)
            except UnavailableError:
                pass
            fresh = Path(tempfile.mkdtemp(dir=base, prefix=f".{board.folder}."))
            try:
                stamp = _make(board, fresh, say, cached)
                (fresh / _STAMP).write_text(json.dumps(stamp, indent=1) + "\n")
                target = base / board.folder
                discard(target)
                fresh.chmod(0o755)
                fresh.rename(target)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    return Built(board, target, True, stamp)


def remove(board: Board, base: Path | None = None) -> bool:
    """Remove a board with all that is in it; returns whether there was one."""
    base = base or default_root()
    if not base.is_dir():
        return False
    with locked(base, board.folder):
        folder = base / board.folder
        there = folder.is_dir()
        discard(folder)
    return there


def _make(board: Board, fresh: Path, say: Callable[[str], None], cached: bool) -> dict[str, Any]:
    began = time.monotonic()
    root, scratch = fresh / "root", fresh / "scratch"
    userland = board.userland
    for folder in (root, scratch / "wheels"):
        folder.mkdir(parents=True)
    # Packages, wheels and qemu come from different places: what one waits for, the other uses.
    with ThreadPoolExecutor(3) as pool:
        emulator = pool.submit(qemu_user.find_qemu, userland.architecture, say)
        packages = pool.submit(_packages, board, scratch / "apt", root, say)
        sites = pool.submit(_sites, board, scratch / "wheels", root, say, cached)
        qemu = _result_of(emulator, packages, sites)
    _furnish(board, root)
    say(f"trying {len(userland.runtimes)} runtimes")
    tried = _try_runtimes(board, root, qemu)
    shutil.rmtree(scratch)
    return {
        "board": board.name,
        "key": board.sha256,
        "files": _digest(root),
        "bytes": sum(path.lstat().st_size for path in root.rglob("*") if not path.is_dir()),
        "python": tried[0]["python"],
        "qemu": qemu_user.version(qemu),
        "packages": packages.result(),
        "seconds": round(time.monotonic() - began, 1),
        "created": int(time.time()),
    }


def _result_of(emulator: Future[Path], *others: Future[Any]) -> Path:
    for each in others:
        each.result()
    return emulator.result()


def _packages(board: Board, scratch: Path, root: Path, say: Callable[[str], None]) -> dict[str, str]:
    userland = board.userland
    say(f"fetching packages of Debian {userland.suite} for {userland.architecture}")
    apt = PrivateApt(
        scratch, userland.architecture, userland.suite, sources_for(userland.suite, host_sources())
    )
    files = apt.download(userland.packages)
    say(f"unpacking {len(files)} packages")
    unpack(files, root)
    return {name: version.replace("%3a", ":") for name, version, _ in (f.stem.split("_") for f in files)}


def _sites(board: Board, scratch: Path, root: Path, say: Callable[[str], None], cached: bool) -> None:
    userland = board.userland
    pins = userland.wheels()
    if not pins:
        return
    say(f"fetching {len(pins)} wheels of the runtimes")
    files = wheels.download(pins, userland.python, userland.platforms(), scratch, cached=cached)
    for (name, version), path in files.items():
        wheels.unpack(path, root / site_of(name, version))
        path.unlink()


def _furnish(board: Board, root: Path) -> None:
    """What a board has beside its packages, and what keeps the host's own out of sight."""
    for path, target in board.userland.links.items():
        link = root / path
        if not link.is_symlink():
            link.symlink_to(target)
    major = board.userland.python.partition(".")[0]
    python = root / "usr" / "bin" / f"python{major}"
    if not python.exists():
        raise UnavailableError(f"Debian {board.userland.suite} came without a Python {board.userland.python}")
    for name in (*_HIDDEN, f"usr/local/lib/python{board.userland.python}/dist-packages"):
        (root / name).mkdir(parents=True, exist_ok=True)
    # The C library takes a path to a library from here before it looks anywhere else.
    (root / "etc" / "ld.so.cache").touch()
    (root / "tmp").mkdir(exist_ok=True)
    cpus = dict.fromkeys(("online", "possible", "present"), f"0-{board.cores - 1}\n")
    # qemu 7.2 shows its programs the host's own, over which ARM libraries fall at the first look.
    for path, text in {
        "proc/cpuinfo": board.cpuinfo(),
        "proc/device-tree/model": f"{board.model}\0",
        **{f"sys/devices/system/cpu/{name}": text for name, text in cpus.items()},
        **{f"sys/devices/system/cpu/cpu{core}/cpu_capacity": "1024\n" for core in range(board.cores)},
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


_TRY = """
import importlib, json, os, sys
from importlib import metadata
asked = json.loads(sys.argv[1])
module = importlib.import_module(asked['module'])
import numpy
with open('/proc/self/maps') as stream:
    fields = [line.split(None, 5) for line in stream]
mapped = [each[5].strip() for each in fields if len(each) == 6]
loaded = [getattr(each, '__file__', None) for each in list(sys.modules.values())]
try:
    version = metadata.version(asked['distribution'])
except metadata.PackageNotFoundError:
    version = getattr(module, '__version__', None)
print('\\n' + json.dumps({
    'python': '.'.join(map(str, sys.version_info[:3])), 'version': version,
    'files': sorted({each for each in loaded + mapped + sys.path if each and each[0] == '/'}),
}))
"""


def _try_runtimes(board: Board, root: Path, qemu: Path) -> list[dict[str, Any]]:
    """Import every runtime there, and start the agent; what Python compiles of it stays in the tree."""
    with ThreadPoolExecutor(_TRYING) as pool:
        tried = [pool.submit(_try, board, root, qemu, each) for each in board.userland.runtimes]
        agent = pool.submit(_python, board, root, qemu, None, [str(agent_file().path)])
        answers = [each.result() for each in tried]
        if agent.result().returncode != 0:
            raise _not_running(
                f"the agent on '{board.name}'", agent.result().stdout, agent.result().returncode
            )
    return answers


def _python(
    board: Board, root: Path, qemu: Path, runtime: InstalledRuntime | None, arguments: list[str]
) -> subprocess.CompletedProcess[str]:
    own = qemu_user.variables(board, root, runtime, compiling=True)
    clean = ["env", "-i", *(f"{name}={value}" for name, value in own.items() if value is not None)]
    return run([*clean, *qemu_user.command(root, qemu, arguments)], seconds=_TRY_SECONDS)


def _try(board: Board, root: Path, qemu: Path, runtime: InstalledRuntime) -> dict[str, Any]:
    asked = {"module": runtime.module, "distribution": next(iter(runtime.wheels), runtime.name)}
    ran = _python(board, root, qemu, runtime, ["-c", _TRY, json.dumps(asked)])
    where = f"{runtime.id} on '{board.name}'"
    try:
        answer = json.loads(ran.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        answer = None
    if ran.returncode != 0 or not isinstance(answer, dict):
        raise _not_running(where, ran.stdout, ran.returncode)
    strangers = [path for path in answer["files"] if not path.startswith(f"{root}/")]
    if strangers:
        raise UnavailableError(
            f"a library of this machine was taken in place of the board's: {strangers[0]}", where=where
        )
    if answer["version"] not in (None, runtime.version):
        raise UnavailableError(f"it is {answer['version']}, and {runtime.version} was asked for", where=where)
    return answer


def _not_running(where: str, said: str, code: int) -> UnavailableError:
    last = " | ".join(line.strip() for line in said.splitlines()[-3:] if line.strip())[:400]
    if "address space" in said:
        return UnavailableError(
            "qemu cannot lay out the memory of a program here",
            where=where,
            why=last,
            hint="lift the limit on virtual memory (ulimit -v unlimited), or set vm.mmap_min_addr to 65536",
        )
    if "Function not implemented" in said or "Operation not permitted" in said:
        return UnavailableError(
            "this kernel, or what confines this process, does not let qemu run",
            where=where,
            why=last,
            hint="run it outside of the container, or with a seccomp profile that allows 'personality'",
        )
    how = f"ended with {code}" if code >= 0 else f"died of signal {-code}"
    return UnavailableError(f"it does not run there: Python {how}", where=where, why=last or None)


def _digest(root: Path) -> str:
    """Of the names and sizes of all files and the targets of all links under a tree."""
    lines: list[str] = []
    pending = [str(root)]
    while pending:
        folder = pending.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            return ""
        for entry in entries:
            if entry.is_symlink():
                lines.append(f"{entry.path} -> {os.readlink(entry.path)}")  # noqa: PTH115 - thousands of them
            elif entry.is_dir():
                pending.append(entry.path)
            else:
                lines.append(f"{entry.path} {entry.stat().st_size}")
    prefix = len(str(root))
    return hashlib.sha256("\n".join(sorted(line[prefix:] for line in lines)).encode()).hexdigest()
