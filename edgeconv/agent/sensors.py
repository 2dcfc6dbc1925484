"""Clock, temperature and throttling of the processor, as far as the system gives them.

All of it is read from files, and ``root`` is the folder that they are looked for in (``/``); only a
Raspberry Pi whose kernel has no such file is asked by its own program, ``vcgencmd``.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import subprocess
import time
from typing import Any

_PI_THROTTLED = (
    "sys/devices/platform/soc/soc:firmware/get_throttled",
    "sys/devices/platform/soc*/soc*:firmware/get_throttled",
)
PI_FLAGS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
"""Bits of ``get_throttled``: these now, the same plus 16 since the board was started (Raspberry Pi
documentation of ``vcgencmd``)."""
_MOST = 4096
ROOT = os.environ.get("EDGECONV_AGENT_ROOT", "/")
"""Below which the files that describe the device are read. An emulator shows a missing file of the board as
the host's of that name; below the board's own tree there are none of the host."""


class Sensors:
    """What can be read here; the files are looked for once, as that is slower than reading them."""

    def __init__(self, root: str = ROOT) -> None:
        self._root = root
        cpu = "sys/devices/system/cpu/cpu[0-9]*/"
        self._frequencies = self._find(cpu + "cpufreq/scaling_cur_freq")
        self._zones = {
            path: _unique_name(path, "type") for path in self._find("sys/class/thermal/thermal_zone*/temp")
        }
        self._hwmon = {path: _hwmon_name(path) for path in self._find("sys/class/hwmon/hwmon*/temp*_input")}
        self._counts = [
            *self._find(cpu + "thermal_throttle/core_throttle_count"),
            *self._find(cpu + "thermal_throttle/package_throttle_count"),
        ]
        self._overcurrent = self._find("sys/class/hwmon/hwmon*/oc*_event_cnt")
        self._cooling = [
            path
            for path in self._find("sys/class/thermal/cooling_device*/cur_state")
            if any(
                word in (read(os.path.join(os.path.dirname(path), "type")) or "")
                for word in ("cpufreq", "Processor")
            )
        ]
        self._pi = [path for pattern in _PI_THROTTLED for path in self._find(pattern)][:1]
        self._vcgencmd = shutil.which("vcgencmd") if root == "/" and not self._pi else None

    def read(self) -> dict[str, Any]:
        """One reading; what the system does not give is missing from it.

        Returns:
            ``at`` (ns of the monotonic clock), ``mhz`` (of every core), ``celsius`` (by the sensor's name),
            and ``throttle``: ``flags`` (a Raspberry Pi's bits), ``events`` (how often cores or the package
            were slowed down since the start), ``overcurrent`` (Jetson's events), ``cooling`` (the highest
            state of what slows the processor down; 0 is none), and ``steal_seconds`` (how long since the
            start other guests of a virtual machine's host had the processor, all cores together).
        """
        found: dict[str, Any] = {"at": time.perf_counter_ns()}
        mhz = [value / 1e3 for value in map(number, self._frequencies) if value is not None]
        mhz = mhz or self._from_cpuinfo()
        if mhz:
            found["mhz"] = mhz
        celsius = {
            name: value / 1e3
            for path, name in [*self._zones.items(), *self._hwmon.items()]
            for value in [number(path)]
            if value is not None and -55_000 <= value <= 200_000
        }
        if celsius:
            found["celsius"] = celsius
        throttle: dict[str, int] = {}
        flags = self.pi_flags()
        if flags is not None:
            throttle["flags"] = flags
        for name, paths in (("events", self._counts), ("overcurrent", self._overcurrent)):
            values = [value for value in map(number, paths) if value is not None]
            if values:
                throttle[name] = int(sum(values))
        states = [value for value in map(number, self._cooling) if value is not None]
        if states:
            throttle["cooling"] = int(max(states))
        if throttle:
            found["throttle"] = throttle
        stolen = self._stolen()
        if stolen is not None:
            found["steal_seconds"] = stolen
        return found

    def _stolen(self) -> float | None:
        fields = (read(os.path.join(self._root, "proc/stat")) or "").partition("\n")[0].split()
        try:
            return int(fields[8]) / os.sysconf("SC_CLK_TCK") if fields[0] == "cpu" else None
        except (IndexError, ValueError):
            return None

    def pi_flags(self) -> int | None:
        """A Raspberry Pi's ``get_throttled``; ``None`` elsewhere."""
        for path in self._pi:
            with contextlib.suppress(ValueError, TypeError):
                return int(str(read(path)), 16)
        if self._vcgencmd is None:
            return None
        try:
            ran = subprocess.run(
                [self._vcgencmd, "get_throttled"], stdin=subprocess.DEVNULL, capture_output=True, timeout=2
            )
            return int(ran.stdout.decode().strip().partition("=")[2], 16)
        except (OSError, ValueError, subprocess.SubprocessError):
            self._vcgencmd = None  # it will not do better the next time
            return None

    def _find(self, pattern: str) -> list[str]:
        return sorted(glob.glob(os.path.join(self._root, pattern)), key=_by_number)

    def _from_cpuinfo(self) -> list[float]:
        values = []
        for line in (read(os.path.join(self._root, "proc/cpuinfo"), 1 << 20) or "").splitlines():
            if line.startswith("cpu MHz"):
                with contextlib.suppress(ValueError):
                    values.append(float(line.partition(":")[2]))
        return values


def pi_flag_names(flags: int) -> dict[str, list[str]]:
    """The flags of ``get_throttled`` in words: ``now``, and ``since start``."""
    return {
        when: [word for bit, word in PI_FLAGS.items() if flags >> (bit + shift) & 1]
        for when, shift in (("now", 0), ("since start", 16))
    }


def read(path: str, most: int = _MOST) -> str | None:
    """The text of a small file; ``None`` where it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return stream.read(most).decode("utf-8", "replace").rstrip("\0").strip()
    except OSError:
        return None


def number(path: str) -> float | None:
    """The number that a file holds; ``None`` where it holds none."""
    try:
        return float(read(path) or "")
    except ValueError:
        return None


def _by_number(path: str) -> list[Any]:
    parts: list[Any] = []
    for part in path.split(os.sep):
        digits = "".join(letter for letter in part if letter.isdigit())
        parts.append((part.rstrip("0123456789"), int(digits[:18] or 0)))
    return parts


def _unique_name(path: str, beside: str) -> str:
    folder = os.path.dirname(path)
    kind = read(os.path.join(folder, beside)) or "temperature"
    return "%s (%s)" % (kind, os.path.basename(folder))


def _hwmon_name(path: str) -> str:
    folder, name = os.path.split(path)
    label = read(path[: -len("input")] + "label") or name[: -len("_input")]
    return "%s %s (%s)" % (read(os.path.join(folder, "name")) or "hwmon", label, os.path.basename(folder))
