"""What ``ssh`` said when it ended, as an error with the next step."""

from __future__ import annotations

import re

from edgeconv.devices import _bootstrap
from edgeconv.errors import DeviceError

_SAID_BY_US = re.compile(r"edgeconv: (.*)")


def explained(
    code: int | None, said: str, begun: bool, *, host: str, device: str, where: str, login: str
) -> DeviceError | None:
    """The error of an ``ssh`` that ended so; ``None`` where the end is the agent's own.

    Args:
        code: exit code of ``ssh``; 255 is its own, any other that of the command there.
        said: its standard error.
        begun: whether the agent had begun already.
        host: as the settings have it, ``pi@10.0.0.4``.
        device: name of the device.
        where: what errors call the place.
        login: the command that a person types to try the same, ``ssh pi@10.0.0.4``.
    """
    text = " ".join(said.split())
    if code == 255 and begun:
        return DeviceError(
            "the link was cut",
            where=where,
            why=_last(said),
            hint=f"see that it is on and reachable: edgeconv devices probe {device}",
        )
    if code == 255:
        what, hint = _of_ssh(said, host, device, login)
        return DeviceError(what, where=where, why=_last(said), hint=hint)
    if code not in _OF_SCRIPT:
        return None
    what, hint = _OF_SCRIPT[code]
    ours = [match[1] for match in _SAID_BY_US.finditer(said)]
    return DeviceError(
        what, where=where, why="; ".join(ours) or _last(text), hint=hint.format(device=device, login=login)
    )


_PYTHON = "install Python 3.8 or newer there, or name one: 'python: PATH' at '{device}' in devices.yaml"
_OF_SCRIPT = {
    _bootstrap.NO_PYTHON: ("there is no Python where it was looked for", _PYTHON),
    _bootstrap.TOO_OLD: ("every Python there is too old; the agent needs 3.8", _PYTHON),
    _bootstrap.CANNOT_RUN: (
        "the Python there cannot be run: it is built for another machine, or lacks its loader",
        "see what it is ({login} file -L PATH), and name another in devices.yaml: 'python: PATH'",
    ),
    _bootstrap.FULL: (
        "the disk there is full",
        "free some there, or name another folder: 'store: FOLDER' at '{device}' in devices.yaml",
    ),
    _bootstrap.CANNOT_WRITE: (
        "the folder for what is sent cannot be written there",
        "name another folder: 'store: FOLDER' at '{device}' in devices.yaml",
    ),
    _bootstrap.GARBLED: ("the agent did not arrive as it was sent", "try it again"),
}


def _of_ssh(said: str, host: str, device: str, login: str) -> tuple[str, str]:
    """What happened, and what to do, from the words of OpenSSH."""
    # An alias stands for the host that it is about.
    about = re.search(r"Could not resolve hostname (\S+?):|connect to host (\S+) port", said)
    name = (about[1] or about[2]) if about else host.rpartition("@")[2]
    again = f"try it: {login}"
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in said:
        known = re.search(r"Offending \S+ key in (\S+?):\d+", said)
        file = f" -f {known[1]}" if known else ""
        entry = re.search(r"Host key for (\S+) has changed", said)
        forget = f"ssh-keygen -R '{entry[1] if entry else name}'{file}"
        return (
            f"the host key of '{name}' is not the one it had: another machine answers, or it was set up anew",
            f"only if you know why, forget the old key: {forget}; then {again}",
        )
    if "Host key verification failed" in said:
        return (
            f"the host key of '{name}' is not known yet",
            f"log in once by hand and compare the fingerprint it shows: {login}",
        )
    if "Permission denied" in said or "Too many authentication failures" in said:
        return (
            f"'{host}' refuses the login",
            f"put your key there: ssh-copy-id {host}; or unlock it: ssh-add; then {again}",
        )
    for pattern, what, hint in _PATTERNS:
        if re.search(pattern, said):
            return what.format(name=name), hint.format(again=again, device=device)
    return f"'{host}' cannot be reached over SSH", again


_PATTERNS = (
    (
        r"UNKNOWN port",  # what a proxy says of itself is lost where a connection is kept open
        "the way to '{name}' over another host (ProxyJump, ProxyCommand) is broken",
        "ssh says more by hand: {again}",
    ),
    (
        r"Could not resolve hostname",
        "there is no host '{name}'",
        "correct 'host' of '{device}' in devices.yaml, or the name in ~/.ssh/config",
    ),
    (
        r"Connection refused",
        "'{name}' is on, but no SSH server answers at that port",
        "enable SSH there (raspi-config, or systemctl enable --now ssh), or correct the port; {again}",
    ),
    (
        r"timed out|No route to host|Network is unreachable|Host is down",
        "'{name}' does not answer",
        "see that it is on and in this network; {again}",
    ),
    (
        r"kex_exchange_identification|Bad (?:remote )?protocol version|banner exchange",
        "what answers at that port of '{name}' is no SSH server, or it is not ready yet",
        "correct the port, or wait until it has started; {again}",
    ),
    (
        r"Unable to negotiate",
        "this ssh and that of '{name}' have no method in common",
        "allow the old method for this host in ~/.ssh/config; {again}",
    ),
    (
        r"Bad configuration option|Bad owner or permissions|Can't open user config",
        "ssh cannot use its configuration",
        "correct the file that it names",
    ),
)


def _last(said: str) -> str | None:
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("@@@")]
    return " | ".join(lines[-2:])[:400] or None
