"""What a device is and has. Nothing here fails: what is not there, or cannot be read, is ``None``.

Files are read below ``root`` (``/``), so that a capture of a board's files can be read in its place; what
only a running system tells (its Python, the kernel's name) is asked of it.
"""

from __future__ import annotations

import glob
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
from typing import Any, Callable

from .backends.base import backends, installed_version
from .processor import available_cores, processor
from .sensors import ROOT, Sensors, pi_flag_names, read

_L4T_TO_JETPACK = {"28": "3", "32": "4", "34": "5", "35": "5", "36": "6", "38": "7"}
"""Major release of L4T to that of JetPack (NVIDIA's archive of Jetson Linux)."""
_TEGRA = {"tegra210": "Maxwell", "tegra186": "Pascal", "tegra194": "Volta", "tegra234": "Ampere"}
_EDGE_TPU_USB = {("1a6e", "089a"), ("18d1", "9302")}  # before and after its firmware is loaded
_EDGE_TPU_PCI = ("0x1ac1", "0x089a")
_LARGEST_LIBRARY = 64 << 20
_LIBRARIES = (
    "lib",
    "usr/lib",
    "lib64",
    "usr/lib64",
    "lib/*-linux-gnu*",
    "usr/lib/*-linux-gnu*",
    "usr/local/lib",
)


def probe(store: str, root: str = ROOT) -> dict[str, Any]:
    """All that is known of the device.

    Args:
        store: the agent's folder, whose disk is looked at.
        root: where files are read.
    """
    sensors = Sensors(root)
    questions: dict[str, Callable[[], Any]] = {
        "model": lambda: model(root),
        "compatible": lambda: compatible(root),
        "system": lambda: system(root),
        "kernel": platform.release,
        "machine": platform.machine,
        "kernel_bits": lambda: 64 if "64" in platform.machine() or platform.machine() == "armv8l" else 32,
        "userland_bits": lambda: 8 * struct.calcsize("P"),
        "processor": lambda: processor(root),
        "usable_cores": available_cores,
        "memory": lambda: memory(root),
        "libc": lambda: libc(root),
        "glibcxx": lambda: glibcxx(root),
        "python": python,
        "numpy": lambda: installed_version("numpy"),
        "runtimes": runtimes,
        "sensors": lambda: _without_time(sensors.read()),
        "throttled": lambda: None if (flags := sensors.pi_flags()) is None else pi_flag_names(flags),
        "jetson": lambda: jetson(root),
        "gpus": lambda: gpus(root),
        "tensorrt": lambda: tensorrt(root),
        "edge_tpus": lambda: edge_tpus(root),
        "disk": lambda: disk(store),
    }
    return {name: _asked(question) for name, question in questions.items()}


def model(root: str) -> str | None:
    """The name of the board: from the device tree, else from the firmware's tables (DMI)."""
    for path in ("proc/device-tree/model", "sys/firmware/devicetree/base/model"):
        text = _line(root, path)
        if text:
            return text
    parts = [_line(root, "sys/class/dmi/id/" + name) for name in ("sys_vendor", "product_name")]
    return " ".join(part for part in parts if part and "O.E.M." not in part) or None


def compatible(root: str) -> list[str] | None:
    """The device tree's words for board and chip, the most exact first: ``brcm,bcm2711`` is the chip's."""
    for path in ("proc/device-tree/compatible", "sys/firmware/devicetree/base/compatible"):
        text = read(os.path.join(root, path))
        if text is not None:
            return [word for word in text.split("\0") if word]
    return None


def system(root: str) -> dict[str, str | None] | None:
    """The operating system: ``name``, ``id``, ``version`` and ``codename`` of ``os-release``."""
    text = read(os.path.join(root, "etc/os-release")) or read(os.path.join(root, "usr/lib/os-release"))
    if not text:
        return None
    said = dict(re.findall(r"^([A-Z_]+)=[\"']?(.*?)[\"']?$", text, re.MULTILINE))
    keys = {"name": "PRETTY_NAME", "id": "ID", "version": "VERSION_ID", "codename": "VERSION_CODENAME"}
    return {name: said.get(key) for name, key in keys.items()}


def memory(root: str) -> dict[str, int | None]:
    """Bytes: ``total``, ``available``, ``swap``, ``swap_free``."""
    text = read(os.path.join(root, "proc/meminfo"), 1 << 16) or ""
    said = {key: int(value) << 10 for key, value in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    keys = {"total": "MemTotal", "available": "MemAvailable", "swap": "SwapTotal", "swap_free": "SwapFree"}
    return {name: said.get(key) for name, key in keys.items()}


def libc(root: str) -> str | None:
    """``glibc 2.36``, ``musl``; of the running system, or of the one whose files lie under ``root``."""
    if root == ROOT:
        try:
            return os.confstr("CS_GNU_LIBC_VERSION")
        except (ValueError, OSError):
            pass
    versions = _symbols(root, "libc.so.6", rb"GLIBC_(\d+\.\d+)\0")
    if versions:
        return "glibc %s" % versions
    return "musl" if glob.glob(os.path.join(root, "lib/ld-musl-*")) else None


def glibcxx(root: str) -> str | None:
    """The newest GLIBCXX symbols of the C++ library: what a wheel may ask for."""
    return _symbols(root, "libstdc++.so.6", rb"GLIBCXX_(\d+\.\d+(?:\.\d+)?)\0")


def python() -> dict[str, Any]:
    """The Python that runs this."""
    from importlib.util import find_spec

    return {
        "version": platform.python_version(),
        "path": sys.executable,
        "virtual": sys.prefix != sys.base_prefix,
        "pip": find_spec("pip") is not None,
    }


def runtimes() -> dict[str, str | None]:
    """The runtimes that the agent knows and their versions; ``None`` where one is not installed."""
    return {name: _asked(back.version) for name, back in backends().items() if name != "null"}


def jetson(root: str) -> dict[str, str | None] | None:
    """A Jetson's software: ``l4t``, ``jetpack``, ``power_mode``; ``None`` on another board."""
    text = _line(root, "etc/nv_tegra_release")
    match = re.match(r"# R(\d+) \(release\), REVISION: ([\d.]+)", text or "")
    if match is None:
        return None
    exact = re.search(
        rb"^Package: nvidia-jetpack\n(?:\S.*\n| .*\n)*?Version: (\d+(?:\.\d+)*)",
        _bytes(os.path.join(root, "var/lib/dpkg/status")),
        re.MULTILINE,
    )
    return {
        "l4t": "%s.%s" % match.groups(),
        "jetpack": exact[1].decode() if exact else _L4T_TO_JETPACK.get(match[1]),
        "power_mode": _power_mode(root),
    }


def gpus(root: str) -> list[dict[str, Any]]:
    """What else computes: ``name``, ``driver``, ``memory`` in bytes, as far as each is known."""
    found: list[dict[str, Any]] = _nvidia() if root == "/" else []
    chip = " ".join(compatible(root) or [])
    for word, generation in _TEGRA.items():
        if word in chip:
            found.append(_gpu("NVIDIA %s (%s)" % (generation, word), "nvgpu"))
    for path in sorted(glob.glob(os.path.join(root, "sys/class/drm/card[0-9]*/device/uevent"))):
        said = dict(re.findall(r"^(\w+)=(.*)$", read(path) or "", re.MULTILINE))
        driver, name = said.get("DRIVER"), said.get("OF_COMPATIBLE_0") or said.get("PCI_ID")
        if driver and name and driver not in ("vc4-drm", "nvidia", "simple-framebuffer", "tegra-drm"):
            found.append(_gpu(name, driver))
    if os.path.exists(os.path.join(root, "dev/mali0")) and not any("mali" in str(g["name"]) for g in found):
        found.append(_gpu("Mali", "mali"))
    return found


def tensorrt(root: str) -> str | None:
    """Version of TensorRT: of its Python package, else of its library."""
    version = installed_version("tensorrt") if root == "/" else None
    names = [os.path.basename(path) for path in _library(root, "libnvinfer.so.*")]
    found = sorted((name.partition(".so.")[2] for name in names), key=_numbers)
    return version or (found[-1] if found else None)


def edge_tpus(root: str) -> list[str]:
    """Edge TPUs that are plugged in: ``usb``, ``pcie``."""
    found = []
    for path in sorted(glob.glob(os.path.join(root, "sys/bus/usb/devices/*/idVendor"))):
        if (read(path), read(path[: -len("idVendor")] + "idProduct")) in _EDGE_TPU_USB:
            found.append("usb")
    for path in sorted(glob.glob(os.path.join(root, "sys/bus/pci/devices/*/vendor"))):
        if (read(path), read(path[: -len("vendor")] + "device")) == _EDGE_TPU_PCI:
            found.append("pcie")
    return found


def disk(store: str) -> dict[str, Any]:
    """The disk that the store is on, or will be: ``store`` (folder), ``free`` and ``total`` in bytes."""
    folder = os.path.abspath(os.path.expanduser(store))
    there = folder
    while not os.path.isdir(there) and there != os.path.dirname(there):
        there = os.path.dirname(there)
    usage = shutil.disk_usage(there)
    return {"store": folder, "free": usage.free, "total": usage.total}


def _asked(question: Callable[[], Any]) -> Any:
    try:
        return question()
    except Exception:  # whatever a strange system answers: the rest is still worth knowing
        return None


def _without_time(reading: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in reading.items() if name != "at"}


def _line(root: str, path: str) -> str | None:
    text = read(os.path.join(root, path))
    return " ".join(text.replace("\0", " ").split("\n")[0].split()) if text else None


def _library(root: str, name: str) -> list[str]:
    return [path for folder in _LIBRARIES for path in glob.glob(os.path.join(root, folder, name))]


def _symbols(root: str, library: str, pattern: bytes) -> str | None:
    """The highest version that a library's text names; here of the library for programs like this one."""
    found: list[str] = []
    for path in {os.path.realpath(path) for path in _library(root, library)}:
        data = _bytes(path)
        if data[:5] == b"\x7fELF" + (b"\x02" if sys.maxsize > 1 << 32 else b"\x01") or root != "/":
            found += [match.decode() for match in re.findall(pattern, data)]
    return max(found, key=_numbers) if found else None


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(_LARGEST_LIBRARY)
    except OSError:
        return b""


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def _power_mode(root: str) -> str | None:
    status = re.search(r"pmode:0*(\d+)", read(os.path.join(root, "var/lib/nvpmodel/status")) or "")
    if status is None:
        return None
    modes = read(os.path.join(root, "etc/nvpmodel.conf"), 1 << 18) or ""
    named = re.search(r"<\s*POWER_MODEL\s+ID=%s\s+NAME=(\S+)\s*>" % status[1], modes)
    return named[1] if named else status[1]


def _gpu(name: str, driver: str | None, size: int | None = None) -> dict[str, Any]:
    return {"name": name, "driver": driver, "memory": size}


def _nvidia() -> list[dict[str, Any]]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    question = [program, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader,nounits"]
    try:
        ran = subprocess.run(question, stdin=subprocess.DEVNULL, capture_output=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split(", ") for line in ran.stdout.decode("utf-8", "replace").splitlines()]
    return [
        _gpu(name, driver, int(size) << 20 if size.strip().isdigit() else None)
        for name, driver, size in (row for row in rows if len(row) == 3)
    ]
