"""Which emulated boards there are: a file of data each, and one for each userland that they run.

``data/boards/NAME.toml`` is a processor: architecture, what its ``/proc/cpuinfo`` says, what qemu emulates.
``data/userlands/SUITE-ARCHITECTURE.toml`` is a Debian release on an architecture: its packages, and the
runtimes that really install there, each with the exact wheels it is made of. A board runs its own suite, or
another that is written behind its name: ``rpi4-emulated@trixie``.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeconv.devices.base import RuntimeChoice
from edgeconv.errors import UnavailableError, UsageError

_DATA = Path(__file__).parent / "data"
_LAYOUT = 2
"""Raised when the code that builds userlands makes something else of the same data."""
_MACHINES = {"arm64": "aarch64", "armhf": "armv7l"}
_TRIPLETS = {"arm64": "aarch64-linux-gnu", "armhf": "arm-linux-gnueabihf"}
_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.+!_-]*)")


@dataclass(frozen=True, slots=True)
class InstalledRuntime:
    """A runtime of a userland.

    Attributes:
        name: as a person types it, ``litert``.
        version: ``2.3.0``.
        wheels: distribution to exact version, the runtime's own first; empty where Debian packages it.
        module: what must import.
    """

    name: str
    version: str
    wheels: Mapping[str, str]
    module: str

    @property
    def id(self) -> str:
        """``litert==2.3.0``."""
        return f"{self.name}=={self.version}"

    def sites(self) -> tuple[str, ...]:
        """Folders under the userland's root that its Python needs, one a distribution."""
        return tuple(site_of(name, version) for name, version in self.wheels.items())


@dataclass(frozen=True, slots=True)
class Userland:
    """A Debian release on an architecture, as it is to be.

    Attributes:
        suite: ``bookworm``.
        architecture: Debian's name, ``arm64``.
        python: of the suite, ``3.11``.
        glibc: of the suite, ``2.36``; decides which wheels install.
        packages: of Debian; what they depend on comes with them.
        runtimes: the first is the default.
        links: path under the root to what a maintainer script would have linked there.
    """

    suite: str
    architecture: str
    python: str
    glibc: str
    packages: tuple[str, ...]
    runtimes: tuple[InstalledRuntime, ...]
    links: Mapping[str, str]

    @property
    def machine(self) -> str:
        """As ``uname -m`` says it there."""
        return _MACHINES[self.architecture]

    @property
    def triplet(self) -> str:
        """Name of the folders of libraries there."""
        return _TRIPLETS[self.architecture]

    def wheels(self) -> tuple[tuple[str, str], ...]:
        """All distributions and versions, each once, in a fixed order."""
        return tuple(sorted({pin for runtime in self.runtimes for pin in runtime.wheels.items()}))

    def platforms(self) -> tuple[str, ...]:
        """The tags of wheels that pip on such a board takes, newest first (PEP 600)."""
        newest = int(self.glibc.split(".")[1])
        tags = [f"manylinux_2_{minor}_{self.machine}" for minor in range(newest, 16, -1)]
        return (*tags, f"manylinux2014_{self.machine}")


@dataclass(frozen=True, slots=True)
class Board:
    """An emulated board as it is to be.

    Attributes:
        name: ``rpi4-emulated``; ``rpi4-emulated@trixie`` with a suite that is not its own.
        about: one sentence.
        target: the target that it stands for.
        qemu_cpu: what qemu emulates (``QEMU_CPU``).
        model: as the device tree says it.
        cores: of the board.
        core: a core's lines in ``/proc/cpuinfo``.
        userland: what it runs.
    """

    name: str
    about: str
    target: str
    qemu_cpu: str
    model: str
    cores: int
    core: str
    userland: Userland

    @property
    def folder(self) -> str:
        """Its folder's name."""
        return self.name.replace("@", "-")

    @property
    def sha256(self) -> str:
        """Of all that decides what is built."""
        text = json.dumps([_LAYOUT, asdict(self)], sort_keys=True, default=dict)
        return hashlib.sha256(text.encode()).hexdigest()

    def cpuinfo(self) -> str:
        """What ``/proc/cpuinfo`` says on such a board."""
        cores = "".join(f"processor\t: {number}\n{self.core.strip()}\n\n" for number in range(self.cores))
        return f"{cores}Model\t\t: {self.model}\n"

    def runtime(self, choice: RuntimeChoice | None) -> InstalledRuntime:
        """The runtime that a person asked for; the default one for ``None``.

        Raises:
            UnavailableError: it is not installed there; says what is.
        """
        for runtime in self.userland.runtimes:
            if choice is None or (runtime.name == choice.name and choice.version in (None, runtime.version)):
                return runtime
        there = ", ".join(runtime.id for runtime in self.userland.runtimes)
        raise UnavailableError(
            f"{choice} is not installed on '{self.name}'",
            why=f"installed there: {there}",
            hint="name one of those, or another board: edgeconv devices",
        )


def site_of(distribution: str, version: str) -> str:
    """The folder under a userland's root that a distribution is unpacked into."""
    return f"opt/edgeconv/{distribution}-{version}"


def known_boards() -> tuple[Board, ...]:
    """All boards, each with the suite that it runs of itself."""
    return tuple(find_board(path.stem) for path in sorted((_DATA / "boards").glob("*.toml")))


def suites_of(architecture: str) -> tuple[str, ...]:
    """The suites that there is a userland of."""
    paths = (_DATA / "userlands").glob(f"*-{architecture}.toml")
    return tuple(sorted(path.stem.rpartition("-")[0] for path in paths))


def find_board(text: str, suite: str | None = None) -> Board:
    """The board of a name (``rpi4-emulated``) or of a name and suite (``rpi4-emulated@trixie``).

    Args:
        text: the name.
        suite: in place of one behind the name.

    Raises:
        UsageError: there is no such board (says the nearest), or no such suite for it.
    """
    name, _, behind = text.partition("@")
    known = sorted(path.stem for path in (_DATA / "boards").glob("*.toml"))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise UsageError(
            f"there is no emulated board '{name}'",
            hint=f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(known)}",
        )
    if suite and behind and suite != behind:
        raise UsageError(f"'{text}' and --suite {suite} are two suites", hint="leave one of them out")
    data = tomllib.loads((_DATA / "boards" / f"{name}.toml").read_text())
    architecture, own = str(data["architecture"]), str(data["suite"])
    chosen = suite or behind or own
    if chosen not in suites_of(architecture):
        raise UsageError(
            f"there is no userland '{chosen}' for '{name}'",
            hint=f"there are: {', '.join(f'{name}@{each}' for each in suites_of(architecture))}",
        )
    return Board(
        name=name if chosen == own else f"{name}@{chosen}",
        about=str(data["about"]),
        target=str(data["target"]),
        qemu_cpu=str(data["qemu-cpu"]),
        model=str(data["model"]),
        cores=int(data["cores"]),
        core=str(data["core"]),
        userland=_userland(chosen, architecture),
    )


def _userland(suite: str, architecture: str) -> Userland:
    data = tomllib.loads((_DATA / "userlands" / f"{suite}-{architecture}.toml").read_text())
    return Userland(
        suite=suite,
        architecture=architecture,
        python=str(data["python"]),
        glibc=str(data["glibc"]),
        packages=tuple(data["packages"]),
        runtimes=tuple(
            InstalledRuntime(
                name=str(each["name"]),
                version=str(each["version"]),
                wheels=dict(_pin(text) for text in each["wheels"]),
                module=str(each["import"]),
            )
            for each in data["runtimes"]
        ),
        links=dict(data.get("links", {})),
    )


def _pin(text: str) -> tuple[str, str]:
    match = _PIN.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is no pin")
    return match[1], match[2]
