"""Wheels for another architecture: fetched by this machine's pip, unpacked one distribution to a folder.

A runtime's environment is then the list of its distributions' folders, so that runtimes which need different
versions of NumPy live in one userland and share what they can.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import zipfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edgeconv.devices._userland_errors import explained, run
from edgeconv.environments.specs import canonical
from edgeconv.errors import UnavailableError

Pin = tuple[str, str]


def rounds(pins: Iterable[Pin]) -> list[list[Pin]]:
    """Pins in as few groups as have each distribution once: pip takes no two versions in one call."""
    groups: list[list[Pin]] = []
    for pin in pins:
        for group in groups:
            if pin[0] not in {name for name, _ in group}:
                group.append(pin)
                break
        else:
            groups.append([pin])
    return groups


def download(
    pins: Sequence[Pin], python: str, platforms: Sequence[str], folder: Path, *, cached: bool = True
) -> dict[Pin, Path]:
    """Fetch the wheel of each pin that pip on such a machine would take.

    Args:
        pins: distribution and exact version; what they depend on is not followed.
        python: ``3.11``.
        platforms: tags that the machine takes.
        folder: where the wheels come to lie.
        cached: take what this machine's pip has fetched before.

    Raises:
        UnavailableError: this Python has no pip, there is no such wheel, no network, or no space.
    """
    if importlib.util.find_spec("pip") is None:
        raise UnavailableError(
            "this Python has no pip, which fetches a board's wheels",
            where=sys.executable,
            hint=f"{sys.executable} -m ensurepip",
        )
    groups = rounds(pins)
    with ThreadPoolExecutor(max(1, len(groups))) as pool:
        fetched = pool.map(lambda group: _fetch(group, python, platforms, folder, cached), groups)
        found: dict[str, Path] = {}
        for _ in fetched:
            pass
    for path in folder.glob("*.whl"):
        name, version = path.name.split("-")[:2]
        found[f"{canonical(name)}=={version}"] = path
    return {(name, version): found[f"{canonical(name)}=={version}"] for name, version in pins}


def unpack(wheel: Path, folder: Path) -> None:
    """Unpack a wheel into one folder, as an installer would; programs and headers are left out (PEP 427).

    Raises:
        UnavailableError: it is damaged, or a name in it leads out of the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                name = _place(entry.filename)
                if name is None or entry.is_dir():
                    continue
                target = Path(os.path.normpath(folder / name))
                if folder not in target.parents:
                    raise UnavailableError(f"the wheel {wheel.name} has a file outside of its folder: {name}")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(entry))
    except (zipfile.BadZipFile, EOFError) as error:
        raise UnavailableError(f"the wheel {wheel.name} is damaged", why=str(error)) from error


def _place(name: str) -> str | None:
    first, _, rest = name.partition("/")
    if not first.endswith(".data"):
        return name
    scheme, _, inner = rest.partition("/")
    return inner if scheme in ("purelib", "platlib") and inner else None


def _fetch(pins: Sequence[Pin], python: str, platforms: Sequence[str], folder: Path, cached: bool) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--dest", str(folder)]
    command += ["--python-version", python, "--implementation", "cp"]
    for platform in platforms:
        command += ["--platform", platform]
    command += [] if cached else ["--no-cache-dir"]
    ran = run([*command, *(f"{name}=={version}" for name, version in pins)])
    if ran.returncode != 0:
        raise explained("the runtimes' wheels", ran.stdout)
