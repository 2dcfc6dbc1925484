"""What stands between a runtime and a board: the libc, libstdc++ and Python that its wheel asks for."""

from __future__ import annotations

from edgeconv.checking._elf import numbers_of
from edgeconv.checking.base import Problem
from edgeconv.checking.wheels import (
    Wheel,
    find_wheels,
    fits,
    measured,
    newest_that_fits,
    offered,
    pythons_known,
    pythons_of,
)
from edgeconv.targets.schema import Release, Runtime, Target

NUMPY_1 = "numpy<2"


def board_problems(target: Target, release: Release, runtime: Runtime) -> list[Problem]:
    """What keeps the runtime from being installed and imported there; empty where nothing does."""
    found: list[Problem] = []
    if runtime.origin == "wheel":
        found.extend(_wheel_problems(target, release, runtime))
    if runtime.evidence == "documented" and not found:
        found.append(
            Problem("documented", f"by documentation, not seen to run: {runtime.source}", severity="note")
        )
    needs = _companions(target, release, runtime)
    if needs and not any(problem.severity == "refused" for problem in found):
        names = " ".join(f"'{name}'" for name in needs)
        found.append(
            Problem(
                "companions",
                f"it needs {', '.join(needs)} beside it, which its wheel does not say",
                hint=f"pip install '{runtime.name}=={runtime.version}' {names}",
                severity="note",
            )
        )
    return found


def _wheel_problems(target: Target, release: Release, runtime: Runtime) -> list[Problem]:
    name, version, machine = runtime.name, runtime.version, target.architecture
    python = runtime.python or release.python
    if release.glibc is None or python is None:
        there = "no Python" if python is None else release.libc
        return [Problem("libc", f"the wheels of {name} are for Python on Linux with glibc, there is {there}")]
    if not measured(name, machine):
        return [Problem("wheel", f"there is no wheel of {name} for {machine}")]
    newest = newest_that_fits(
        name, machine, python, glibc=release.glibc, glibcxx=release.glibcxx, cxxabi=release.cxxabi
    )
    hint = f"the newest that installs there is {name} {newest}: '--runtime {name}=={newest}'"
    advice = hint if newest else None
    if version not in offered(name, machine, python):
        return [_not_offered(name, version, machine, python, advice)]
    wheels = find_wheels(name, version, machine)
    found = [_too_old(wheel, release, advice) for wheel in wheels]
    if found and all(found):
        return found[0]
    if not found or any(found):
        return [
            Problem(
                "wheel",
                f"nobody has read what the wheel of {name} {version} asks for",
                hint=f"'python -m edgeconv.checking.wheels {name}=={version}' reads it",
                severity="unknown",
            )
        ]
    return []


def _companions(target: Target, release: Release, runtime: Runtime) -> list[str]:
    """What must be installed beside the runtime though its wheel does not say so."""
    needs = list(runtime.needs)
    python = runtime.python or release.python
    # There is no numpy 2 for Pythons before 3.9.
    if runtime.origin == "wheel" and python is not None and numbers_of(python) >= (3, 9):
        wheels = find_wheels(runtime.name, runtime.version, target.architecture)
        unsaid = [wheel for wheel in wheels if wheel.numpy_1 and "<2" not in (wheel.numpy or "")]
        if unsaid and NUMPY_1 not in needs:
            needs.append(NUMPY_1)
    return needs


def _not_offered(name: str, version: str, machine: str, python: str, advice: str | None) -> Problem:
    pythons = pythons_of(name, version, machine)
    if pythons:
        span = pythons[0] if len(pythons) == 1 else f"{pythons[0]} to {pythons[-1]}"
        return Problem(
            "python", f"{name} {version} has wheels for Python {span}, there is {python}", hint=advice
        )
    everywhere = {one for place in pythons_known() for one in offered(name, machine, place)}
    return Problem(
        "wheel",
        f"no wheel of {name} {version} for {machine} is known",
        hint=advice or f"known for {machine}: {', '.join(sorted(everywhere))}",
        # A release that is newer than the data may well be there.
        severity="unknown",
    )


def _too_old(wheel: Wheel, release: Release, advice: str | None) -> list[Problem]:
    found = []
    glibc = release.glibc
    said = f"{wheel.distribution} {wheel.version}"
    if not fits(wheel.glibc, glibc):
        lies = "" if wheel.tag is None or not fits(wheel.tag, glibc) else f", though its tag says {wheel.tag}"
        found.append(
            Problem("libc", f"{said} asks for GLIBC {wheel.glibc}{lies}; there is {glibc}", hint=advice)
        )
    elif not fits(wheel.tag, glibc):
        found.append(
            Problem(
                "libc",
                f"pip refuses {said}: its tag says glibc {wheel.tag}, there is {glibc}"
                + (f" (its libraries ask for {wheel.glibc} only)" if wheel.glibc else ""),
                hint=advice,
            )
        )
    for code, needed, there in (
        ("GLIBCXX", wheel.glibcxx, release.glibcxx),
        ("CXXABI", wheel.cxxabi, release.cxxabi),
    ):
        if not fits(needed, there):
            found.append(
                Problem(
                    "libstdcxx",
                    f"{said} asks libstdc++ for {code} {needed}, there is {there or 'none'}",
                    hint=advice,
                )
            )
    return found
