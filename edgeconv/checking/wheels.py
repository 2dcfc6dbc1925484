"""What the wheels of the runtimes ask of a board: libc, libstdc++, Python; measured of the wheels themselves.

A wheel's tag says which libc it was meant for. What decides is what its libraries ask for: a tag was seen to
promise less than that. ``data/wheels.json`` holds both, and which releases there are for which Python;
``python -m edgeconv.checking.wheels`` makes it (``_measure_wheels.py``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edgeconv.checking._elf import numbers_of

DATA = Path(__file__).parent / "data" / "wheels.json"


@dataclass(frozen=True, slots=True)
class Wheel:
    """One release of one runtime for one architecture; versions as text, ``None`` where nothing is asked for.

    Attributes:
        distribution, version: ``ai-edge-litert``, ``2.3.0``.
        machine: ``aarch64``, ``armv7l``, ``x86_64``.
        tag: version of glibc that the wheel's name says; pip refuses it on an older one.
        glibc, glibcxx, cxxabi: what the libraries ask for that the runtime loads.
        numpy: what it says of numpy (``>=1.23.2``).
        numpy_1: whether its extension was compiled for numpy 1, and fails at import beside numpy 2.
    """

    distribution: str
    version: str
    machine: str
    tag: str | None
    glibc: str | None
    glibcxx: str | None
    cxxabi: str | None
    numpy: str | None = None
    numpy_1: bool = False

    @property
    def lowest_glibc(self) -> str | None:
        """The oldest glibc that pip installs it on, and it loads on."""
        known = [version for version in (self.tag, self.glibc) if version is not None]
        return max(known, key=numbers_of, default=None)


@cache
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(DATA.read_text())
    return data


def measured(distribution: str, machine: str) -> dict[str, Wheel]:
    """Version to what was measured of it, oldest first; empty where there is nothing of this architecture."""
    found = [
        Wheel(**{key: entry.get(key) for key in Wheel.__dataclass_fields__})
        for entry in _data()["wheels"]
        if entry["distribution"] == distribution and entry["machine"] == machine
    ]
    return {wheel.version: wheel for wheel in sorted(found, key=lambda one: numbers_of(one.version))}


def offered(distribution: str, machine: str, python: str) -> tuple[str, ...]:
    """Versions that there are wheels of, for an architecture and a Python (``3.11``), oldest first."""
    versions = _data()["offered"].get(distribution, {}).get(machine, {}).get(python, [])
    return tuple(sorted(versions, key=numbers_of))


def distributions() -> tuple[str, ...]:
    """The runtimes that wheels were read of."""
    return tuple(sorted(_data()["offered"]))


def offered_anywhere(distribution: str) -> tuple[str, ...]:
    """Versions that there are wheels of, for any architecture and Python, oldest first."""
    places = _data()["offered"].get(distribution, {}).values()
    found = {version for pythons in places for versions in pythons.values() for version in versions}
    return tuple(sorted(found, key=numbers_of))


def pythons_known() -> tuple[str, ...]:
    """The Pythons that were asked for when the data was made, oldest first."""
    return tuple(_data()["pythons"])


def pythons_of(distribution: str, version: str, machine: str) -> tuple[str, ...]:
    """For which Pythons there is a wheel of that version, oldest first."""
    return tuple(python for python in pythons_known() if version in offered(distribution, machine, python))


def find_wheels(distribution: str, version: str, machine: str) -> tuple[Wheel, ...]:
    """What was read of that version: one wheel, or the two neighbours of one that lies between read ones.

    Returns:
        Nothing where it is older or newer than all that were read.
    """
    known = measured(distribution, machine)
    if version in known:
        return (known[version],)
    wanted = numbers_of(version)
    older = [wheel for wheel in known.values() if numbers_of(wheel.version) < wanted]
    newer = [wheel for wheel in known.values() if numbers_of(wheel.version) > wanted]
    return (older[-1], newer[0]) if older and newer else ()


def newest_that_fits(
    distribution: str,
    machine: str,
    python: str,
    *,
    glibc: str,
    glibcxx: str | None,
    cxxabi: str | None = None,
) -> str | None:
    """The newest version whose wheel installs and loads there; ``None`` if none does."""
    for version in reversed(offered(distribution, machine, python)):
        wheels = find_wheels(distribution, version, machine)
        if wheels and all(
            fits(wheel.lowest_glibc, glibc)
            and fits(wheel.glibcxx, glibcxx)
            and (cxxabi is None or fits(wheel.cxxabi, cxxabi))
            for wheel in wheels
        ):
            return version
    return None


def fits(needed: str | None, there: str | None) -> bool:
    """Whether a version that is there is enough; what nobody asks for always is.

    >>> fits("2.34", "2.31"), fits("2.9", "2.31"), fits(None, "2.31")
    (False, True, True)
    """
    return needed is None or (there is not None and numbers_of(needed) <= numbers_of(there))


if __name__ == "__main__":
    from edgeconv.checking._measure_wheels import main

    main()
