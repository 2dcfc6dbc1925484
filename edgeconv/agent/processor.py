"""The processor: what cores there are, in which clusters, and which instructions they have.

All is read from files below ``root`` (``/``), as the kernel writes them.
"""

from __future__ import annotations

import os
import re
from typing import Any

from .sensors import number, read

# Numbers of the main ID register, from the Linux kernel's arch/arm64/include/asm/cputype.h and Arm's manuals.
_ARM = {
    0xB76: "ARM1176", 0xC05: "Cortex-A5", 0xC07: "Cortex-A7", 0xC08: "Cortex-A8", 0xC09: "Cortex-A9",
    0xC0D: "Cortex-A12", 0xC0E: "Cortex-A17", 0xC0F: "Cortex-A15", 0xD01: "Cortex-A32", 0xD02: "Cortex-A34",
    0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55", 0xD06: "Cortex-A65", 0xD07: "Cortex-A57",
    0xD08: "Cortex-A72", 0xD09: "Cortex-A73", 0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1",
    0xD0D: "Cortex-A77", 0xD0E: "Cortex-A76AE", 0xD40: "Neoverse-V1", 0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510", 0xD47: "Cortex-A710",
    0xD48: "Cortex-X2", 0xD49: "Neoverse-N2", 0xD4A: "Neoverse-E1", 0xD4B: "Cortex-A78C",
    0xD4C: "Cortex-X1C", 0xD4D: "Cortex-A715", 0xD4E: "Cortex-X3", 0xD4F: "Neoverse-V2",
    0xD80: "Cortex-A520", 0xD81: "Cortex-A720", 0xD82: "Cortex-X4", 0xD84: "Neoverse-V3",
    0xD85: "Cortex-X925", 0xD87: "Cortex-A725", 0xD8E: "Neoverse-N3",
}  # fmt: skip
_OTHERS = {
    (0x42, 0x0F): "Brahma-B15", (0x42, 0x100): "Brahma-B53", (0x48, 0xD01): "TaiShan-v110",
    (0x4E, 0x000): "Denver", (0x4E, 0x003): "Denver 2", (0x4E, 0x004): "Carmel",
    (0x51, 0x800): "Kryo 2xx Gold", (0x51, 0x801): "Kryo 2xx Silver", (0x51, 0x802): "Kryo 3xx Gold",
    (0x51, 0x803): "Kryo 3xx Silver", (0x51, 0x804): "Kryo 4xx Gold", (0x51, 0x805): "Kryo 4xx Silver",
    (0x51, 0x001): "Oryon", (0xC0, 0xAC3): "Ampere-1", (0xC0, 0xAC4): "Ampere-1A",
}  # fmt: skip
_IMPLEMENTERS = {
    0x41: "ARM", 0x42: "Broadcom", 0x43: "Cavium", 0x46: "Fujitsu", 0x48: "HiSilicon", 0x4E: "NVIDIA",
    0x51: "Qualcomm", 0x53: "Samsung", 0x61: "Apple", 0xC0: "Ampere",
}  # fmt: skip

FEATURES = {
    "asimd": "neon", "neon": "neon", "vfpv4": "vfpv4", "crc32": "crc32", "aes": "aes", "sha2": "sha2",
    "atomics": "atomics", "asimddp": "dotprod", "asimdhp": "fp16", "fphp": "fp16", "i8mm": "i8mm",
    "bf16": "bf16", "sve": "sve", "sve2": "sve2", "sme": "sme",
    "sse2": "sse2", "sse4_1": "sse4.1", "sse4_2": "sse4.2", "f16c": "f16c", "fma": "fma", "avx": "avx",
    "avx2": "avx2", "avx512f": "avx512", "avx512_vnni": "avx512-vnni", "avx_vnni": "avx-vnni",
    "avx512_bf16": "avx512-bf16", "avx512_fp16": "avx512-fp16", "amx_tile": "amx", "amx_int8": "amx-int8",
    "amx_bf16": "amx-bf16",
}  # fmt: skip
"""The kernel's word for an extension to the one that targets use; what no runtime asks for is left out."""


def available_cores() -> int:
    """Cores this process may use, at least one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor(root: str = "/") -> dict[str, Any]:
    """What is known of the processor.

    Returns:
        ``cores`` (how many are on), ``name``, ``features``, and ``clusters``: a list of ``cores`` (numbers),
        ``cpu``, ``max_mhz``, ``capacity`` (of 1024, the kernel's) and ``governor``, ``None`` where not known.
    """
    text = read(os.path.join(root, "proc/cpuinfo"), 1 << 20) or ""
    blocks, whole = _blocks(text)
    folder = os.path.join(root, "sys/devices/system/cpu")
    cores = sorted(blocks) or _listed(read(os.path.join(folder, "online")) or "")
    clusters: dict[Any, dict[str, Any]] = {}
    for core in cores:
        described = {
            "cpu": _name(blocks.get(core, {})) or _name(whole) or _by_midr(folder, core),
            "max_mhz": _mhz(folder, core),
            "capacity": number(os.path.join(folder, "cpu%d/cpu_capacity" % core)),
            "governor": read(os.path.join(folder, "cpu%d/cpufreq/scaling_governor" % core)),
        }
        key = tuple(described.values())
        clusters.setdefault(key, {"cores": [], **described})["cores"].append(core)
    names = list(dict.fromkeys(str(each["cpu"]) for each in clusters.values() if each["cpu"]))
    return {
        "cores": len(cores) or None,
        "name": " + ".join(names) or None,
        "features": _features(text),
        "clusters": list(clusters.values()),
    }


def cpu_name(implementer: int, part: int) -> str:
    """The name of a core.

    >>> cpu_name(0x41, 0xD08)
    'Cortex-A72'
    """
    known = _ARM.get(part) if implementer == 0x41 else _OTHERS.get((implementer, part))
    if known is not None:
        return known
    return "%s core 0x%03x" % (_IMPLEMENTERS.get(implementer, "0x%02x" % implementer), part)


def _blocks(text: str) -> tuple[dict[int, dict[str, str]], dict[str, str]]:
    """The lines of ``/proc/cpuinfo`` by processor, and those of the whole, which old kernels write last."""
    blocks: dict[int, dict[str, str]] = {}
    whole: dict[str, str] = {}
    into = whole
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if not colon:
            into = whole if not line.strip() else into
        elif key == "processor" and value.isdigit():
            into = blocks.setdefault(int(value), {})
        else:
            into[key] = value
    return blocks, whole


def _name(block: dict[str, str]) -> str | None:
    try:
        return cpu_name(int(block["CPU implementer"], 16), int(block["CPU part"], 16))
    except (KeyError, ValueError):
        name = block.get("model name") or block.get("cpu model") or block.get("uarch")
        return re.sub(r"\s+", " ", name) if name else None


def _by_midr(folder: str, core: int) -> str | None:
    text = read(os.path.join(folder, "cpu%d/regs/identification/midr_el1" % core))
    try:
        midr = int(text or "", 16)
    except ValueError:
        return None
    return cpu_name(midr >> 24 & 0xFF, midr >> 4 & 0xFFF)


def _mhz(folder: str, core: int) -> float | None:
    khz = number(os.path.join(folder, "cpu%d/cpufreq/cpuinfo_max_freq" % core))
    return None if khz is None else khz / 1e3


def _features(text: str) -> list[str]:
    lines = re.findall(r"^(?:Features|flags)\s*:(.*)$", text, re.MULTILINE)
    every = [frozenset(line.split()) for line in lines]
    common = frozenset.intersection(*every) if every else frozenset()  # a program may run on any core
    return sorted({word for flag, word in FEATURES.items() if flag in common})


def _listed(text: str) -> list[int]:
    """``0-3,5`` as numbers."""
    found: list[int] = []
    for part in text.split(",")[:64]:
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip())
        if match:
            found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return found
