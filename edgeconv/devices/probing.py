"""What a device says of itself, what runtimes its other Pythons have, and which target it looks like."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from edgeconv.devices.base import Device, RuntimeChoice
from edgeconv.devices.client import AgentClient
from edgeconv.errors import EdgeconvError

if TYPE_CHECKING:
    from edgeconv.targets.schema import Release, Target

_AT_ONCE = 8
_OTHER_NAMES = {"ai-edge-litert": "litert"}


@dataclass(frozen=True, slots=True)
class OtherRuntime:
    """A runtime in a place of its own: a virtual environment of a board, a side environment here.

    Attributes:
        choice: as it is named.
        version: that is there; ``None`` where it is not, or was not asked.
        error: why it cannot be used.
    """

    choice: RuntimeChoice
    version: str | None
    error: EdgeconvError | None = None


@dataclass(frozen=True, slots=True)
class Probed:
    """A device that answered.

    Attributes:
        device: which.
        said: what its agent gave; see :mod:`edgeconv.agent.probe`.
        seconds: until the answer was here, the login included.
        others: runtimes beside those that its own Python has.
    """

    device: Device
    said: Mapping[str, Any]
    seconds: float
    others: tuple[OtherRuntime, ...]


def probe(device: Device) -> Probed:
    """Ask a device.

    Raises:
        EdgeconvError: it is not here or does not answer.
    """
    begun = time.monotonic()
    with AgentClient(device) as client:
        said, _ = client.ask("probe")
        seconds = time.monotonic() - begun
    choices = device.runtimes()
    if device.shares_files:  # made here from exact versions: nothing is to be asked
        return Probed(device, said, seconds, tuple(OtherRuntime(each, each.version) for each in choices))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return Probed(device, said, seconds, tuple(pool.map(lambda each: _other(device, each), choices)))


def probe_all(devices: Sequence[Device]) -> list[Probed | EdgeconvError]:
    """Ask several at once; in their order, what each said, or why it did not."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(_probed_or_error, devices))


def likely_target(said: Mapping[str, Any]) -> str | None:
    """The target that a device looks like, with its release: ``rpi4``, ``rpi4@bullseye``; ``None`` if none.

    A target must have the architecture of the programs there, and say that boards of its kind call themselves
    what this one does (``models``; the longest that fits decides). Its release is the one with the libc that
    is there, else the newest one that asks for no newer.
    """
    from edgeconv.targets.loading import all_targets

    architecture, name = _architecture(said), str(said.get("model") or "")
    fitting: list[tuple[int, int, str]] = []
    for target in all_targets():
        length = max((len(each) for each in target.models if fnmatch(name.lower(), each.lower())), default=0)
        if length and target.architecture == architecture:
            ranked = [(_closeness(each, said), release) for release, each in target.releases.items()]
            close, release = max(ranked, key=lambda one: (one[0], one[1] == target.default_release))
            if close:
                fitting.append((length, close, _place(target, release)))
    if not fitting:
        return None
    best = max(fitting)[:2]
    return next(place for length, close, place in fitting if (length, close) == best)


def _architecture(said: Mapping[str, Any]) -> str:
    """Of the programs that run there: a 64-bit kernel may be under a 32-bit system."""
    machine = str(said.get("machine"))
    if said.get("userland_bits") == 32:
        return {"aarch64": "armv7l", "armv8l": "armv7l", "x86_64": "i686"}.get(machine, machine)
    return machine


def _closeness(release: Release, said: Mapping[str, Any]) -> int:
    """0: its programs do not run there; else the higher the closer."""
    kind, _, version = str(said.get("libc") or "").partition(" ")
    wanted, _, least = release.libc.partition(" ")
    if kind != wanted:
        return 0
    here, there = _numbers(version), _numbers(least)
    if there > here:
        return 0
    major, minor = (*there, 0, 0)[:2]
    return 1 << 30 if here == there else 1 + 1000 * major + minor


def _place(target: Target, release: str) -> str:
    return target.name if release == target.default_release else f"{target.name}@{release}"


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def _probed_or_error(device: Device) -> Probed | EdgeconvError:
    try:
        return probe(device)
    except EdgeconvError as error:
        return error


def _other(device: Device, choice: RuntimeChoice) -> OtherRuntime:
    try:
        with AgentClient(device, choice) as client:
            versions = client.ask("versions")[0].get("runtimes", {})
    except EdgeconvError as error:
        return OtherRuntime(choice, None, error)
    return OtherRuntime(choice, versions.get(_OTHER_NAMES.get(choice.name, choice.name)))
