"""What this machine can do and what is missing, each missing thing with the command that brings it.

Nothing is imported, run or asked over a network that takes long: what is installed is read from its metadata.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from edgeconv.errors import EdgeconvError
from edgeconv.paths import cache_folder

State = Literal["here", "missing", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        group: what it belongs to.
        name: what it is.
        state: ``here``; ``missing``, which some may never need; ``wrong``: here, and not usable as it is.
        found: what is here: versions, a path.
        needed_for: what cannot be done without it.
        hint: the command that brings it or puts it right; ``None`` where it is here.
    """

    group: str
    name: str
    state: State
    found: str = ""
    needed_for: str = ""
    hint: str | None = None


_PROGRAMS = (
    ("ssh", ("ssh",), "boards over SSH", "sudo apt-get install openssh-client"),
    ("apt", ("apt-get",), "making emulated boards", "create them on a Debian or Ubuntu machine"),
    ("dpkg", ("dpkg-deb",), "making emulated boards", "create them on a Debian or Ubuntu machine"),
    (
        "qemu for arm64",
        ("qemu-aarch64-static", "qemu-aarch64"),
        "emulated 64-bit boards",
        "sudo apt-get install qemu-user-static; without it, making a board fetches one for itself",
    ),
    (
        "qemu for armhf",
        ("qemu-arm-static", "qemu-arm"),
        "emulated 32-bit boards",
        "sudo apt-get install qemu-user-static; without it, making a board fetches one for itself",
    ),
    (
        "Edge TPU compiler",
        ("edgetpu_compiler",),
        "files for Coral's Edge TPU",
        "install edgetpu-compiler from Coral's package repository; it exists for x86-64 only",
    ),
    (
        "NVIDIA driver",
        ("nvidia-smi",),
        "CUDA and TensorRT",
        "install the driver of this machine's NVIDIA GPU, if it has one",
    ),
)


def examine() -> list[Finding]:
    """Look at this machine."""
    groups: Iterable[Callable[[], list[Finding]]] = (
        _machine, _packages, _runtimes, _environments, _programs, _devices,
    )  # fmt: skip
    return [finding for group in groups for finding in group()]


def _machine() -> list[Finding]:
    from edgeconv.agent.probe import probe

    said = probe(str(cache_folder()))
    processor, memory, disk = (said[name] or {} for name in ("processor", "memory", "disk"))
    name = f"{said['usable_cores']} × {processor.get('name') or said['machine']}"
    total, free = memory.get("total"), disk.get("free")
    return [
        Finding("machine", "processor", "here", name),
        Finding("machine", "memory", "here", f"{total / 2**30:.1f} GB" if total else "not known"),
        Finding("machine", "system", "here", f"{(said['system'] or {}).get('name')}, {said['libc']}"),
        Finding("machine", "Python", "here", f"{said['python']['version']} ({sys.executable})"),
        _cache(free),
    ]


def _cache(free: int | None) -> Finding:
    folder = cache_folder()
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK):
        return Finding(
            "machine", "cache", "wrong", f"{folder} cannot be written", "everything",
            "export EDGECONV_CACHE_DIR=FOLDER, with a folder that you may write to",
        )  # fmt: skip
    if free is not None and free < 2 << 30:
        return Finding(
            "machine", "cache", "wrong", f"{folder}, only {free / 2**30:.1f} GB free", "large models",
            "free some space, or export EDGECONV_CACHE_DIR=FOLDER",
        )  # fmt: skip
    return Finding(
        "machine", "cache", "here", f"{folder}, {free / 2**30:.0f} GB free" if free else str(folder)
    )


def _packages() -> list[Finding]:
    """What edgeconv itself depends on, held to its own bounds."""
    from packaging.requirements import Requirement
    from packaging.version import Version

    try:
        texts = requires("edgeconv") or []
    except PackageNotFoundError:  # run from its files
        return []
    found: list[str] = []
    wrong: list[Finding] = []
    for requirement in map(Requirement, texts):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            here = version(requirement.name)
        except PackageNotFoundError:
            here = None
        hint = f"{sys.executable} -m pip install '{requirement.name}{requirement.specifier}'"
        if here is None:
            wrong.append(Finding("packages", requirement.name, "missing", "", "edgeconv itself", hint))
        elif not requirement.specifier.contains(Version(here), prereleases=True):
            what = f"{here}, where {requirement.specifier} is needed"
            wrong.append(Finding("packages", requirement.name, "wrong", what, "edgeconv itself", hint))
        else:
            found.append(requirement.name)
    whole = Finding("packages", "dependencies", "here", f"{len(found)} in versions that fit")
    return [whole, *wrong] if found else wrong


def _runtimes() -> list[Finding]:
    """The runtimes that this Python has."""
    from edgeconv.agent.backends.base import backends

    hints = {
        "tflite-runtime": "edgeconv environments create tflite-runtime==2.14.0",
        "tensorrt": f"{sys.executable} -m pip install tensorrt, where an NVIDIA GPU and its driver are",
    }
    uses = {"tflite-runtime": "what boards with an older system run", "tensorrt": "TensorRT engines"}
    rows = []
    for name, backend in backends().items():
        if name == "null":
            continue
        here = backend.version()
        environment = _in_environment(name) if here is None else None
        if environment is not None:
            rows.append(Finding("runtimes", name, "here", f"in environment {environment}"))
        elif here is not None:
            rows.append(Finding("runtimes", name, "here", here))
        else:
            hint = hints.get(name, f"{sys.executable} -m pip install {name}")
            rows.append(Finding("runtimes", name, "missing", "", uses.get(name, ""), hint))
    return rows


def _in_environment(name: str) -> str | None:
    from edgeconv.environments import store

    return next((each.spec.id for each in store.installed() if each.spec.name == name), None)


def _environments() -> list[Finding]:
    from edgeconv.environments import store
    from edgeconv.environments.specs import find_spec, known_names

    here = store.installed()
    rows = []
    for name in known_names():
        mine = [each for each in here if each.spec.name == name]
        spec = find_spec(name)
        outdated = [each.spec.id for each in mine if not each.current]
        said = ", ".join(each.spec.version or f"Python {each.python_version}" for each in mine)
        if outdated:
            again = "; ".join(f"edgeconv environments create {each}" for each in outdated)
            rows.append(Finding("environments", name, "wrong", f"outdated: {said}", spec.about, again))
        elif mine:
            rows.append(Finding("environments", name, "here", said))
        else:
            make = f"edgeconv environments create {spec.id}"
            rows.append(Finding("environments", name, "missing", "", spec.about, make))
    return rows


def _programs() -> list[Finding]:
    rows = []
    for name, programs, use, hint in _PROGRAMS:
        path = next((found for each in programs if (found := shutil.which(each))), None)
        if path is None and name.startswith("qemu"):
            kept = cache_folder() / "devices" / ".qemu" / "usr" / "bin" / programs[0]
            path = str(kept) if kept.exists() else None
        if path is not None:
            rows.append(Finding("programs", name, "here", path))
        else:
            rows.append(Finding("programs", name, "missing", "", use, hint))
    return rows


def _devices() -> list[Finding]:
    """Those that there are, without asking boards; and the emulated ones that can be made."""
    from edgeconv.devices._emulated_boards import known_boards
    from edgeconv.devices.registry import all_devices

    devices, wrong = all_devices()
    rows = [Finding("devices", device.name, "here", device.about) for device in devices]
    names = {device.name for device in devices}
    for board in known_boards():
        if board.name not in names:
            make = f"edgeconv devices create {board.name}"
            rows.append(Finding("devices", board.name, "missing", "", board.about, make))
    rows += [_wrong(error) for error in wrong]
    if not any(device.kind == "ssh" for device in devices):
        add = "edgeconv devices add NAME ssh USER@HOST"
        rows.append(Finding("devices", "a board over SSH", "missing", "", "measuring on the real thing", add))
    return rows


def _wrong(error: EdgeconvError) -> Finding:
    name = Path(str(error.where or "settings")).name
    return Finding("devices", name, "wrong", str(error), "that device", error.hint)
