"""Times and sizes for people: three digits and a unit."""

from __future__ import annotations

import math

_TIMES = (("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9))
_SIZES = (("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9))


def show_time(nanoseconds: float) -> str:
    """A time: ``12.3 µs``; ``?`` where it is not known.

    >>> show_time(840), show_time(12_345), show_time(999_600), show_time(2e12)
    ('840 ns', '12.3 µs', '1 ms', '2,000 s')
    """
    return _shown(nanoseconds, _TIMES)


def show_size(count: float) -> str:
    """A size in units of 1,000 bytes: ``1.31 MB``; ``?`` where it is not known."""
    return _shown(count, _SIZES)


def _shown(value: float, units: tuple[tuple[str, float], ...]) -> str:
    if not math.isfinite(value):
        return "?"
    name, scaled = units[0][0], value
    for name, scale in units:
        scaled = value / scale
        if abs(float(f"{scaled:.3g}")) < 1000:
            return f"{scaled:.3g} {name}"
    return f"{scaled:,.0f} {name}"
