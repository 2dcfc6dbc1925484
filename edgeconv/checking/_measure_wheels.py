"""Makes ``data/wheels.json``: asks pip which wheels there are, downloads some, and reads what they ask for.

    python -m edgeconv.checking.wheels [onnxruntime==1.32.0 …]

Without arguments all of :data:`MEASURED` that the file has not yet; each wheel is removed once it is read.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath
from typing import Any

from edgeconv.checking._elf import ElfError, Needs, Numbers, needs_of, numbers_of
from edgeconv.checking.wheels import DATA

PYTHONS = ("3.6", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
MACHINES = ("aarch64", "armv7l", "x86_64")
MEASURED = {
    "tflite-runtime": "2.5.0 2.7.0 2.8.0 2.10.0 2.11.0 2.12.0 2.13.0 2.14.0",
    "ai-edge-litert": "1.0.1 1.1.2 1.2.0 1.3.0 1.4.0 2.0.3 2.1.0 2.1.1 2.1.6 2.2.0 2.3.0",
    "onnxruntime": "1.10.0 1.15.1 1.16.3 1.17.3 1.18.1 1.19.2 1.20.1 1.21.1 1.22.1 1.23.2 1.24.4 1.26.0 "
    "1.28.0 1.30.0 1.31.1",
}

# The extension module that opening a model imports; what only other parts of a wheel load (accelerators,
# converters) keeps no model from running.
_ENTRANCE = re.compile(r"interpreter_wrapper[^/]*\.so|onnxruntime_pybind11_state[^/]*\.so")
# What an extension that was compiled with the headers of numpy 1 or pybind11 before 2.12 imports is gone from
# numpy 2 by that name; those that live with numpy 2 have its new name in them too.
_ARRAY_MODULE = re.compile(rb"numpy\._?core(?=[.\0])")
_NEWEST_GLIBC = 41
_LIBRARY = re.compile(r"\.so(\.\d+)*$")
_MOST_BYTES = 1 << 30


def main(arguments: Iterable[str] | None = None) -> None:
    """Add what is missing to the data and write it; what it does goes to standard output, a line a wheel."""
    wanted = list(sys.argv[1:] if arguments is None else arguments)
    data = json.loads(DATA.read_text()) if DATA.is_file() else {}
    if wanted or not data:
        data["offered"] = {name: _offers(name) for name in MEASURED}
    pairs = [(name, version) for name, versions in MEASURED.items() for version in versions.split()]
    if wanted:
        pairs = [(name, version) for name, _, version in (text.partition("==") for text in wanted)]
    wheels = {(w["distribution"], w["version"], w["machine"]): w for w in data.get("wheels", [])}
    for name, version in pairs:
        for machine in MACHINES:
            pythons = [p for p in PYTHONS if version in data["offered"][name].get(machine, {}).get(p, [])]
            if not pythons or ((name, version, machine) in wheels and not wanted):
                continue
            # Wheels of one release are built one by one: the oldest and the newest Python stand for all.
            parts = [measure(name, version, machine, python) for python in sorted({pythons[0], pythons[-1]})]
            wheels[(name, version, machine)] = _together(name, version, machine, parts)
            print(json.dumps(wheels[(name, version, machine)]), flush=True)
            _write(data["offered"], wheels)
    _write(data["offered"], wheels)


def _write(offers: dict[str, Any], wheels: dict[tuple[str, str, str], dict[str, Any]]) -> None:
    entries = [wheels[key] for key in sorted(wheels, key=lambda k: (k[0], k[2], numbers_of(k[1])))]
    head = {"made_by": "python -m edgeconv.checking.wheels", "pythons": PYTHONS}
    lines = ",\n  ".join(json.dumps(entry) for entry in entries)
    rows = ",\n  ".join(f"{json.dumps(name)}: {json.dumps(offers[name])}" for name in sorted(offers))
    DATA.write_text(f'{json.dumps(head)[:-1]},\n "offered": {{\n  {rows}}},\n "wheels": [\n  {lines}]}}\n')


def _offers(name: str) -> dict[str, dict[str, list[str]]]:
    """Architecture and Python to the versions that there are wheels of."""
    found: dict[str, dict[str, list[str]]] = {}
    for machine in MACHINES:
        for python in PYTHONS:
            ran = _pip("index", "versions", name, *_place(machine, python))
            listed = re.search(r"^Available versions: (.*)$", ran.stdout, re.MULTILINE)
            if listed is not None:
                found.setdefault(machine, {})[python] = listed.group(1).split(", ")
    return found


def _place(machine: str, python: str) -> list[str]:
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(5, _NEWEST_GLIBC + 1)]
    platforms += [f"manylinux2014_{machine}", f"manylinux2010_{machine}", f"linux_{machine}"]
    abi = f"cp{python.replace('.', '')}" + ("m" if python == "3.6" else "")
    return [
        "--only-binary=:all:", "--python-version", python, "--implementation", "cp", "--abi", abi,
        *(argument for platform in platforms for argument in ("--platform", platform)),
    ]  # fmt: skip


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    quiet = ["--disable-pip-version-check", "--no-cache-dir"]
    command = [sys.executable, "-m", "pip", *arguments[:1], *quiet, *arguments[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def measure(name: str, version: str, machine: str, python: str) -> dict[str, Any]:
    """Download one wheel and read it.

    Raises:
        SystemExit: pip could not download it; says why.
    """
    with tempfile.TemporaryDirectory(prefix="edgeconv-wheels-") as folder:
        ran = _pip("download", "--no-deps", "--dest", folder, *_place(machine, python), f"{name}=={version}")
        files = list(Path(folder).glob("*.whl"))
        if not files:
            raise SystemExit(f"{name}=={version} for {machine}, Python {python}:\n{ran.stderr}")
        return read_wheel(files[0])


def read_wheel(path: Path) -> dict[str, Any]:
    """What one wheel says and what its libraries ask for; versions as text."""
    with zipfile.ZipFile(path) as archive:
        libraries: dict[str, Needs] = {}
        array_modules: set[bytes] = set()
        for info in archive.infolist():
            if _LIBRARY.search(info.filename) and info.file_size <= _MOST_BYTES:
                content = archive.read(info)
                try:
                    libraries[info.filename] = needs_of(content)
                except ElfError:
                    continue
                array_modules.update(_ARRAY_MODULE.findall(content))
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        headers = HeaderParser().parsestr(archive.read(metadata).decode("utf-8", "replace"))
    core = dict(_loaded(libraries))
    needed = _newest(core.values())
    everything = _newest(libraries.values())
    optional = {family: version for family, version in everything.items() if needed.get(family) != version}
    return {
        "tag": promised_glibc(path.name),
        **{family.lower(): _text(needed.get(family)) for family in ("GLIBC", "GLIBCXX", "CXXABI")},
        "optional": {family.lower(): _text(version) for family, version in sorted(optional.items())},
        "numpy": _numpy(headers.get_all("Requires-Dist") or []),
        "numpy_1": array_modules == {b"numpy.core"},
        "bytes": path.stat().st_size,
    }


def promised_glibc(file_name: str) -> str | None:
    """The oldest glibc that the tags in a wheel's name promise; ``None`` where they name none.

    >>> promised_glibc("a-1-cp311-cp311-manylinux_2_27_aarch64.manylinux2014_aarch64.whl")
    '2.17'
    """
    known = {"manylinux1": "2.5", "manylinux2010": "2.12", "manylinux2014": "2.17"}
    found = [".".join(pair) for pair in re.findall(r"manylinux_(\d+)_(\d+)_", file_name)]
    found += [version for tag, version in known.items() if f"{tag}_" in file_name]
    return min(found, key=numbers_of, default=None)


def _loaded(libraries: dict[str, Needs]) -> Iterator[tuple[str, Needs]]:
    """The entrance, and every library of the wheel that is linked to it."""
    names = {PurePosixPath(path).name: path for path in libraries}
    open_ = [path for path in libraries if _ENTRANCE.search(path)]
    seen: set[str] = set()
    while open_:
        path = open_.pop()
        if path in seen:
            continue
        seen.add(path)
        yield path, libraries[path]
        open_.extend(names[name] for name in libraries[path].libraries if name in names)


def _newest(needs: Iterable[Needs]) -> dict[str, Numbers]:
    newest: dict[str, Numbers] = {}
    for one in needs:
        for family, version in one.newest.items():
            newest[family] = max(newest.get(family, ()), version)
    return newest


def _text(version: Numbers | None) -> str | None:
    return ".".join(map(str, version)) if version else None


def _numpy(requirements: list[str]) -> str | None:
    found = [re.split(r"[;\s]", text.removeprefix("numpy").strip(" ()"))[0] for text in requirements
             if re.match(r"numpy\b", text) and "extra" not in text]  # fmt: skip
    return found[0].strip("()") or None if found else None


def _together(name: str, version: str, machine: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """One entry for a release: the most that any of its wheels asks for."""
    entry: dict[str, Any] = {"distribution": name, "version": version, "machine": machine}
    for key in ("tag", "glibc", "glibcxx", "cxxabi"):
        known = [part[key] for part in parts if part[key] is not None]
        entry[key] = max(known, key=numbers_of, default=None)
    optional: dict[str, str] = {}
    for part in parts:
        for family, needed in part["optional"].items():
            if numbers_of(needed) > numbers_of(entry[family] or "0"):
                optional[family] = max(needed, optional.get(family, "0"), key=numbers_of)
    return entry | {
        "optional": optional,
        "numpy": parts[-1]["numpy"],
        "numpy_1": any(part["numpy_1"] for part in parts),
        "bytes": parts[-1]["bytes"],
    }
