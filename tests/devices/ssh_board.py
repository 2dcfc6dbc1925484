"""A board over SSH for tests: a real OpenSSH server on loopback whose login lands in the arm64 userland.

    with ssh_board.running(tree, folder) as board:
        subprocess.run(["ssh", "-F", board.config, "board", "uname -m"])      # aarch64

The server and all that it starts are ARM programs. They run in a user namespace with its own binfmt_misc,
which a kernel from 6.7 on gives anybody (no root, nothing of the host changed); else, as root, in a chroot
where the host has binfmt for arm64 already. Where neither is, the test skips and says why. The board lives in
namespaces of its own, whose first process is killed at the end: nothing that a test starts there outlives it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from devices import boards

from edgeconv.devices._emulated_boards import find_board, site_of
from edgeconv.devices._emulated_qemu import find_qemu
from edgeconv.devices._userland import Built

PACKAGES = (
    "base-files",
    "bash",
    "coreutils",
    "dash",
    "findutils",
    "grep",
    "hostname",
    "openssh-server",
    "procps",
    "sed",
    "tar",
)
RUNTIMES = ("litert==2.3.0", "onnxruntime==1.31.1")
USER = "pi"
_READY_SECONDS = 60.0
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_ELF = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"


@dataclass(frozen=True)
class SshBoard:
    """A board that runs.

    Attributes:
        port: of its SSH server on 127.0.0.1.
        config: a file for ``ssh -F`` in which the board is the host ``board``.
        key: the private key that it takes.
        known_hosts: a file with its host key.
        tree: its root, seen from here; ``tree / "home/pi"`` is the home of its user.
        process: of this machine; killing it is pulling the board's plug.
        seconds: from the start until the server answered.
    """

    port: int
    config: Path
    key: Path
    known_hosts: Path
    tree: Path
    process: subprocess.Popen[bytes]
    seconds: float

    @property
    def home(self) -> Path:
        """The home folder of its user, seen from here."""
        return self.tree / "home" / USER

    def run(self, command: str, *, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command line there."""
        ssh = ["ssh", "-F", str(self.config), "board", command]
        return subprocess.run(ssh, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)

    def stop(self) -> None:
        """Pull the plug: everything there ends at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def tree(base: Path) -> Built:
    """The userland of the board with a server in it; made if it is not there.

    Args:
        base: see :func:`boards.folder`.
    """
    board = boards.with_packages(find_board("rpi4-emulated"), "ssh-board", PACKAGES, RUNTIMES)
    return boards.built(board, base)


def missing() -> str | None:
    """Why no such board can run here; ``None`` where one can."""
    for program in ("unshare", "ssh", "ssh-keygen"):
        if shutil.which(program) is None:
            return f"'{program}' is not installed (tools/system-packages installs it)"
    if not _namespaces() and not _chroot():
        return "user namespaces get no binfmt_misc of this kernel (it takes 6.7), and root has none for arm64"
    return None


@contextlib.contextmanager
def running(built: Built, folder: Path, *, python: bool = True) -> Iterator[SshBoard]:
    """Start a board and end it.

    Args:
        built: see :func:`tree`; it is not changed.
        folder: an empty one for this board's disk and keys.
        python: whether there is a Python on it.
    """
    reason = missing()
    if reason is not None:
        pytest.skip(f"no board over SSH can run here: {reason}")
    root = folder / "root"
    _furnish(built, root, python)
    port = _free_port()
    _keys(folder, root, port)
    process = _start(built, root, port, folder / "sshd.log")
    board = SshBoard(port, folder / "config", folder / "id", folder / "known_hosts", root, process, 0.0)
    try:
        seconds = _wait(board, folder / "sshd.log")
        yield SshBoard(port, board.config, board.key, board.known_hosts, root, process, seconds)
    finally:
        board.stop()
        shutil.rmtree(root, ignore_errors=True)


def _furnish(built: Built, root: Path, python: bool) -> None:
    """A disk of the board's own: the tree's files by hard links, and what no maintainer script made."""
    subprocess.run(["cp", "-al", str(built.root), str(root)], check=True)
    for name in ("proc", "dev", "run/sshd", "tmp", "root", f"home/{USER}/.ssh", "etc/ssh", "var/empty"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.rmtree(root / "proc")
    (root / "proc").mkdir()
    (root / "tmp").chmod(0o1777)
    sites = [f"/{site_of(name, version)}" for name, version in built.board.userland.wheels()]
    packages = root / f"usr/local/lib/python{built.board.userland.python}/dist-packages"
    _write(packages / "runtimes.pth", "\n".join(sites) + "\n")
    _write(root / "etc/passwd", f"root:x:0:0::/root:/bin/bash\n{USER}:*:1000:1000::/home/{USER}:/bin/bash\n")
    _write(root / "etc/group", f"root:x:0:\n{USER}:x:1000:\n")
    _write(root / "etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n")
    _write(root / "etc/hostname", "board\n")
    (root / "bin/sh").unlink(missing_ok=True)
    (root / "bin/sh").symlink_to("dash")
    if not python:
        for path in (root / "usr/bin").glob("python*"):
            path.unlink()


def _keys(folder: Path, root: Path, port: int) -> None:
    for path, comment in ((folder / "id", "test"), (root / "etc/ssh/host_key", "board")):
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
        subprocess.run(make, check=True, stdin=subprocess.DEVNULL)
    login = root / "home" / USER / ".ssh"
    _write(login / "authorized_keys", (folder / "id.pub").read_text())
    for each in (login.parent, login):
        each.chmod(0o700)
    host_key = (root / "etc/ssh/host_key.pub").read_text().rsplit(" ", 1)[0]
    _write(folder / "known_hosts", f"[127.0.0.1]:{port} {host_key}\n")
    _write(
        folder / "config",
        f"""Host board
    HostName 127.0.0.1
    Port {port}
    User {USER}
    IdentityFile {folder / "id"}
    IdentitiesOnly yes
    UserKnownHostsFile {folder / "known_hosts"}
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    PasswordAuthentication no
""",
    )
    _write(
        root / "etc/ssh/sshd_config",
        f"""ListenAddress 127.0.0.1
Port {port}
HostKey /etc/ssh/host_key
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
MaxSessions 100
SetEnv QEMU_CPU={find_board("rpi4-emulated").qemu_cpu} ORT_DISABLE_TELEMETRY=1 LC_ALL=C.UTF-8
Subsystem sftp /usr/lib/openssh/sftp-server
""",
    )


def _start(built: Built, root: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
    qemu = find_qemu("arm64")
    register = f":edgeconv-arm64:M::{_ELF}:{_MASK}:{qemu}:FP"
    inner = ["/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/sshd_config"]
    cpuinfo = built.root / "proc/cpuinfo"
    steps = [
        "set -e",
        f"mount -t proc proc {shlex.quote(str(root / 'proc'))}",
        f"mount --bind {shlex.quote(str(cpuinfo))} {shlex.quote(str(root / 'proc/cpuinfo'))}",
        f"mount --rbind /dev {shlex.quote(str(root / 'dev'))}",
        "hostname board",
    ]
    if _namespaces():
        steps.insert(1, f"mount -t binfmt_misc none {_BINFMT}")
        steps.insert(2, f"printf %s {shlex.quote(register)} > {_BINFMT}/register")
        namespaces = ["--user", "--map-root-user"]
        login = ["unshare", "--user", "--map-user=1000", "--map-group=1000", f"--root={root}", "--wd=/"]
    else:
        namespaces, login = [], ["unshare", f"--root={root}", "--wd=/"]
        subprocess.run(["chown", "-R", "1000:1000", str(root / "home" / USER)], check=True)
    # The first process of the namespace stays: with its end all others end, however deaf they are to signals.
    steps.append(shlex.join([*login, *inner]) + " & wait")
    outer = ["unshare", *namespaces, "--mount", "--uts", "--pid", "--fork", "--kill-child=SIGKILL"]
    with log.open("wb") as stream:
        return subprocess.Popen(
            [*outer, "sh", "-c", "\n".join(steps)],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "QEMU_CPU": built.board.qemu_cpu},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait(board: SshBoard, log: Path) -> float:
    began = time.monotonic()
    while time.monotonic() - began < _READY_SECONDS:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", board.port), 5) as talk:
            talk.settimeout(30)
            if talk.recv(4) == b"SSH-":
                return time.monotonic() - began
        if board.process.poll() is not None:
            break
        time.sleep(0.02)
    raise AssertionError(f"the board did not come up: {log.read_text(errors='replace')[-2000:]}")


def _write(path: Path, text: str) -> None:
    # Never through a hard link into the tree that all boards of the session share.
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text)


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def _namespaces() -> bool:
    """Whether anybody gets a user namespace with a binfmt_misc of its own here."""
    try_it = f"mount -t binfmt_misc none {_BINFMT} && test -w {_BINFMT}/register"
    command = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "sh", "-c", try_it]
    return subprocess.run(command, capture_output=True).returncode == 0


def _chroot() -> bool:
    if os.geteuid() != 0 or not _BINFMT.is_dir():
        return False
    entries = [
        path.read_text(errors="replace") for path in _BINFMT.iterdir() if path.name.startswith("qemu-aarch64")
    ]
    return any(
        "enabled" in each and "flags: " in each and "F" in each.partition("flags: ")[2] for each in entries
    )
