"""All arrows."""

from __future__ import annotations

from functools import cache

from edgeconv.conversions.base import Conversion
from edgeconv.registry import discover


@cache
def conversions() -> tuple[Conversion, ...]:
    """All registered conversions; several may share a name where precisions differ in cost."""
    return tuple(
        part for part in discover("edgeconv.conversions", "CONVERSION") if isinstance(part, Conversion)
    )


def conversion_named(name: str, source_precision: str, precision: str) -> Conversion:
    """The conversion of that name between those precisions; KeyError if there is none."""
    for part in conversions():
        if part.name == name and part.source_precision == source_precision and precision in part.precisions:
            return part
    raise KeyError((name, source_precision, precision))
