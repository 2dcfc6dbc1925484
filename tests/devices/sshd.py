"""A real OpenSSH server on loopback, with a home, a PATH and a login shell of its own for each test."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from edgeconv.devices._ssh_settings import SshSettings
from edgeconv.devices.ssh import SshDevice

TOOLS = ("sh", "bash", "dash", "grep", "rm", "cat", "env", "uname", "true")


@dataclass
class Board:
    """One server, and what logs in to it."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    devices: list[SshDevice] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def store(self) -> Path:
        return self.home / ".cache" / "edgeconv-agent"

    def device(self, **settings: Any) -> SshDevice:
        """The device, with the key and the known host of this board, if the settings say nothing else."""
        given = {"host": "127.0.0.1", "config": str(self.folder / "ssh_config"), **settings}
        self.devices.append(SshDevice("board", SshSettings.model_validate(given)))
        return self.devices[-1]

    def processes(self) -> list[psutil.Process]:
        """What was started by a login, and still runs: neither servers nor their children by role."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("EDGECONV_TEST_BOARD") == str(self.folder):
                    found.append(process)
        return found

    def none_left(self) -> bool:
        """Whether what a login started has ended, which may take a moment."""
        for _ in range(100):
            if not self.processes():
                return True
            time.sleep(0.1)
        return False

    def partial(self) -> list[Path]:
        """Files on the board that are not whole ones under their hash."""
        files = [path for path in self.store.rglob("*") if path.is_file()]
        whole = (self.store / "agents", self.store / "files")
        return [path for path in files if path.parent not in whole or len(path.stem) != 64]


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def key(path: Path) -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True, timeout=30
    )
    return path


@contextlib.contextmanager
def serving(
    folder: Path,
    *,
    shell: str | None = None,
    pythons: Mapping[str, Path | str] | None = None,
    path: bool = True,
) -> Iterator[Board]:
    """Run a server with its files in ``folder``.

    Args:
        folder: an empty one.
        shell: what runs the commands in place of the login shell.
        pythons: names on the PATH there to interpreters; ``python3`` of this machine where ``None``.
        path: whether the PATH there has only a few tools and ``pythons``.
    """
    sshd = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if sshd is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no OpenSSH server here: apt-get install openssh-server")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    home, tools = folder / "home", folder / "bin"
    home.mkdir()
    tools.mkdir()
    for tool in TOOLS:
        if found := shutil.which(tool):
            (tools / tool).symlink_to(found)
    for name, target in ({"python3": "/usr/bin/python3"} if pythons is None else pythons).items():
        (tools / name).write_text(f'#!/bin/sh\nexec "{target}" "$@"\n')
        (tools / name).chmod(0o755)
    port = free_port()
    host, user = key(folder / "host_key"), key(folder / "user_key")
    (folder / "authorized").write_text(user.with_suffix(".pub").read_text())
    kind, public, *_ = host.with_suffix(".pub").read_text().split()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {public}\n")
    lines = [
        "ListenAddress 127.0.0.1",
        f"HostKey {host}",
        f"AuthorizedKeysFile {folder / 'authorized'}",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        f"PidFile {folder / 'pid'}",
        "PermitUserEnvironment no",
        f"SetEnv HOME={home} EDGECONV_TEST_BOARD={folder} BASH_ENV={home / '.bashrc'}"
        + (f" PATH={tools}" if path else ""),
    ]
    if shell:
        (folder / "shell").write_text(f'#!/bin/sh\ncd\nexec {shell} -c "$SSH_ORIGINAL_COMMAND"\n')
        (folder / "shell").chmod(0o755)
        lines.append(f"ForceCommand {folder / 'shell'}")
    (folder / "sshd_config").write_text("\n".join(lines) + "\n")
    (folder / "ssh_config").write_text(
        f"Host *\n  Port {port}\n  IdentityFile {user}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder / 'known_hosts'}\n  GlobalKnownHostsFile none\n"
    )
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen(
            [sshd, "-D", "-e", "-p", str(port), "-f", str(folder / "sshd_config")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    board = Board(folder, port, process)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None:
                pytest.skip("the OpenSSH server does not start: " + (folder / "sshd.log").read_text()[-300:])
            time.sleep(0.05)
        yield board
    finally:
        for device in board.devices:
            device.disconnect()
        connections = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        for each in [*connections, *board.processes()]:
            with contextlib.suppress(psutil.Error):
                each.send_signal(signal.SIGKILL)
        process.kill()
        process.wait()
