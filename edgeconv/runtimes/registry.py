"""All runtimes, and which one opens a format."""

from __future__ import annotations

from functools import cache

from edgeconv.errors import UnavailableError
from edgeconv.registry import discover
from edgeconv.runtimes.base import Runtime


@cache
def runtimes() -> dict[str, Runtime]:
    """All registered runtimes by name."""
    found = [part for part in discover("edgeconv.runtimes", "RUNTIME") if isinstance(part, Runtime)]
    return {part.name: part for part in found}


def runtime_for(format_name: str) -> Runtime:
    """The first runtime, by name, that opens the format.

    Raises:
        UnavailableError: none does.
    """
    for name in sorted(runtimes()):
        if format_name in runtimes()[name].formats:
            return runtimes()[name]
    raise UnavailableError(
        f"no runtime opens '{format_name}'", hint="'edgeconv convert' to a format that one opens"
    )
