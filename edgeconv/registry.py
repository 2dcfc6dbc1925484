"""Finds the parts that live one to a file: formats, conversions, runtimes, metrics.

A part is a module-level constant of an agreed name in any module of a room (``FORMAT`` in
``edgeconv.formats``, ``CONVERSION`` in ``edgeconv.conversions``, …). Packages outside edgeconv add
theirs by an entry point in the group of the room's name (``edgeconv.formats``, …) that points at the
object. Nothing else is listed anywhere: adding a part is adding its file.
"""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points


def discover(room: str, constant: str) -> list[object]:
    """Collect ``constant`` from every module of the package ``room`` and from its entry points.

    Args:
        room: dotted package name, also the entry point group.
        constant: name of the module-level constant that holds a part, or a tuple or list of parts.

    Returns:
        The parts in alphabetical order of their modules, outside ones last.
    """
    package = importlib.import_module(room)
    parts: list[object] = []
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda i: i.name):
        if info.ispkg:
            continue
        module = importlib.import_module(f"{room}.{info.name}")
        found = getattr(module, constant, None)
        if isinstance(found, (tuple, list)):
            parts.extend(found)
        elif found is not None:
            parts.append(found)
    parts.extend(point.load() for point in entry_points(group=room))
    return parts
