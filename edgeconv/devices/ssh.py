"""A board over SSH, by the system's own ``ssh``: the user's configuration, keys and known hosts all hold.

Nothing has to be on the board but an SSH server and Python. Host keys are checked as the user's configuration
says; nothing here weakens that. A connection is kept open for a minute, in a private folder, so that the next
command does not log in again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeconv.devices import _bootstrap
from edgeconv.devices._ssh_errors import explained
from edgeconv.devices.base import Device, RuntimeChoice, Start
from edgeconv.devices.settings import checked
from edgeconv.devices.shipping import agent_file
from edgeconv.errors import DeviceError, UnavailableError

if TYPE_CHECKING:
    from edgeconv.devices._ssh_settings import SshSettings

STORE = "~/.cache/edgeconv-agent"
"""Where a board keeps what is sent to it, if its settings name no other folder."""
_CONNECT_SECONDS = 10
_REAP_SECONDS = 15.0
_LONGEST_SOCKET = 104 - 18  # what all systems allow, without what ssh appends while it makes one
_OPTIONS = {
    "BatchMode": "yes",  # a question would never be seen; what needs one becomes an error that says so
    "ConnectTimeout": str(_CONNECT_SECONDS),
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
    # What a person may have for their own logins, and what would get in the way of the two pipes.
    "RemoteCommand": "none",
    "PermitLocalCommand": "no",
    "ClearAllForwardings": "yes",
    "ForwardX11": "no",
    "ForwardAgent": "no",
}


class SshDevice:
    """See :class:`edgeconv.devices.base.Device`."""

    kind = "ssh"
    emulated = False
    shares_files = False

    def __init__(self, name: str, settings: SshSettings) -> None:
        self.name = name
        self.host = settings.host
        self.target = settings.target
        self.python = settings.python
        self.pythons: Mapping[str, str] = settings.runtimes
        self.about = f"{settings.host} over SSH"
        self.store = settings.store or STORE
        self._login: list[str] = []
        for flag, value in (("-F", settings.config), ("-i", settings.identity), ("-p", settings.port)):
            if value is not None:
                self._login += [flag, str(value) if flag == "-p" else str(Path(str(value)).expanduser())]

    @property
    def where(self) -> str:
        """What errors call it."""
        return f"device '{self.name}' ({self.host})"

    def start(self, runtime: RuntimeChoice | None) -> Start:
        """``ssh`` with the line that begins the agent there; see ``_bootstrap``."""
        agent = agent_file()
        python = self.python_for(runtime)
        line = _bootstrap.begin(
            agent.sha256, len(agent.data), self.store, _bootstrap.PYTHONS if python is None else (python,)
        )
        return Start(
            self.command(line),
            where=self.where,
            agent=agent.data,
            explain=self._explained,
            reap=lambda pid: self._reap(pid, agent.sha256),
        )

    def runtimes(self) -> tuple[RuntimeChoice, ...]:
        """Those that have a Python of their own there, as the settings say."""
        return tuple(RuntimeChoice.parse(key) for key in self.pythons)

    def python_for(self, runtime: RuntimeChoice | None) -> str | None:
        """The Python that has this runtime, as the settings say; ``None``: the one on the board's PATH."""
        if runtime is not None:
            for key in (str(runtime), runtime.name):
                if key in self.pythons:
                    return self.pythons[key]
        return self.python

    def command(self, line: str) -> tuple[str, ...]:
        """The ``ssh`` command that has the login shell there run ``line``.

        Raises:
            UnavailableError: there is no ``ssh`` here.
        """
        ssh = shutil.which("ssh")
        if ssh is None:
            raise UnavailableError(
                "there is no ssh here",
                where=self.where,
                hint="install it: sudo apt-get install openssh-client",
            )
        options = [part for key, value in _OPTIONS.items() for part in ("-o", f"{key}={value}")]
        return (ssh, "-T", *options, *self._shared(), *self._login, "--", self.host, line)

    def disconnect(self) -> None:
        """Close the connection that is kept open for the next command, if there is one."""
        shared = self._shared()
        if shared:
            command = ["ssh", *self._login, *shared, "-O", "exit", "--", self.host]
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_REAP_SECONDS)

    def _shared(self) -> tuple[str, ...]:
        folder = _private_folder()
        if folder is None:
            return ()
        how = hashlib.sha256("\0".join(self._login).encode()).hexdigest()[:8]
        path = f"{folder}/{how}%C"
        if len(path) - len("%C") + 40 > _LONGEST_SOCKET:
            return ()
        return ("-o", "ControlMaster=auto", "-o", f"ControlPath={path}", "-o", "ControlPersist=60")

    def _explained(self, code: int | None, said: str, begun: bool) -> DeviceError | None:
        login = shlex.join(["ssh", *self._login, self.host])
        return explained(code, said, begun, host=self.host, device=self.name, where=self.where, login=login)

    def _reap(self, pid: int, sha256: str) -> None:
        """End an agent that no longer answers and remove what it left, if the board can be reached at all."""
        command = self.command(_bootstrap.reap(pid, sha256, self.store))
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_REAP_SECONDS)


class SshKind:
    """See :class:`edgeconv.devices.base.DeviceKind`."""

    kind = "ssh"

    def devices(self) -> tuple[Device, ...]:
        """None are there by themselves."""
        return ()

    def makeable(self) -> tuple[str, ...]:
        """None: boards are written down."""
        return ()

    def from_settings(self, name: str, settings: Mapping[str, Any], path: Path) -> Device:
        """See :class:`edgeconv.devices._ssh_settings.SshSettings`."""
        from edgeconv.devices._ssh_settings import SshSettings

        device = SshDevice(name, checked(SshSettings, name, settings, path))
        device.runtimes()  # raises where one of them is none
        return device


DEVICE_KIND = SshKind()


def _private_folder() -> Path | None:
    """A folder with a short path that nobody else may enter; ``None`` where there is none to be had."""
    user = os.getuid()
    for base in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):
        if not base or len(base) > 40 or not Path(base).is_dir():
            continue
        folder = Path(base) / f"edgeconv-{user}"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o077:
            return folder
    return None
