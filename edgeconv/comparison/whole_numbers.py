"""Made-up inputs for models that take numbers of rows, classes or words, where no type says so.

The input of an embedding is often float32, as in Keras files and feature columns, and how many rows a table
has is seen only where it is read. Where a source refuses the probes that were made of its contract, these are
tried in their place, the widest first; what it refuses as well is for the person to give.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from edgeconv.comparison.archive import Array, is_text
from edgeconv.comparison.probe_values import LARGEST_INDEX, looks_like_image
from edgeconv.comparison.probes import Probe

_MOST_INPUTS = 8
"""Models with more inputs are not tried with one input narrowed at a time."""


def whole_numbers(probes: Sequence[Probe]) -> Iterator[list[Probe]]:
    """Sets of probes with small whole numbers in the place of numbers, to be tried one after the other.

    First 0 to :data:`LARGEST_INDEX` everywhere, then 0 and 1 in one input at a time (the kind of a token,
    a mask), at last everywhere. Images, strings, bools and numbers without an axis stay as they are.

    Args:
        probes: made up, all of the same inputs.

    Yields:
        As many probes, with the same shapes and types.
    """
    names = [name for name, value in probes[0].inputs.items() if _may_count(value)] if probes else []
    if not names:
        return
    yield _with(probes, names, ())
    if 1 < len(names) <= _MOST_INPUTS:
        for name in names:
            yield _with(probes, names, (name,))
    yield _with(probes, names, names)


def _may_count(value: Array) -> bool:
    array = np.asarray(value)
    return (
        not is_text(array)
        and array.dtype.kind in "fiu"
        and array.ndim > 0
        and not looks_like_image(array.shape)
    )


def _with(probes: Sequence[Probe], names: Sequence[str], narrow: Sequence[str]) -> list[Probe]:
    made = []
    for index, probe in enumerate(probes):
        inputs = dict(probe.inputs)
        for name in names:
            value = np.asarray(inputs[name])
            text = name.encode("utf-8", "surrogateescape")
            stream = np.random.Generator(np.random.PCG64([index, zlib.crc32(text)]))
            largest = 1 if name in narrow else LARGEST_INDEX
            inputs[name] = stream.integers(0, largest, value.shape, endpoint=True).astype(value.dtype)
        kind = "zeros and ones" if len(narrow) == len(names) else f"whole numbers 0 to {LARGEST_INDEX}"
        if 0 < len(narrow) < len(names):
            kind += f", {', '.join(narrow)} 0 or 1"
        batch = next(iter(probe.inputs.values())).shape[:1] if probe.optional else None
        label = f"{kind}, {index}" + (f", batch {batch[0]}" if batch else "")
        made.append(Probe(label, inputs, probe.optional))
    return made
