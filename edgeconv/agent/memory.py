"""How much memory this process has and had at most, as the kernel counts it."""

from __future__ import annotations

from typing import Any


def memory() -> dict[str, Any]:
    """``resident_bytes`` now, ``peak_bytes`` since the start or the last reset; ``None`` where not known."""
    found: dict[str, Any] = {"resident_bytes": None, "peak_bytes": None}
    try:
        with open("/proc/self/status") as stream:
            for line in stream:
                name, _, value = line.partition(":")
                if name == "VmRSS":
                    found["resident_bytes"] = int(value.split()[0]) * 1024
                elif name == "VmHWM":
                    found["peak_bytes"] = int(value.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return found


def reset_peak() -> bool:
    """Begin anew with the peak; whether the kernel allows that (``proc(5)``, ``clear_refs``)."""
    try:
        with open("/proc/self/clear_refs", "w") as stream:
            stream.write("5")
    except OSError:
        return False
    return True
