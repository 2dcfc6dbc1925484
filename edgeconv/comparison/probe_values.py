"""What the values of one probe tensor are, by element type and kind of probe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeconv.comparison.archive import Array, dtype_named, text_array
from edgeconv.errors import UsageError

KINDS = ("uniform", "normal", "smooth")
"""The kinds rotate over the probes of a set."""

LARGEST_INDEX = 9
"""Integers may be indices into an embedding or a shape: small ones are valid nearly everywhere."""
_WORDS = (b"edge", b"model", b"0", b"1", b"2.5", b"device")
_KEEP = re.compile(r"keep_?prob", re.IGNORECASE)
_DROP = re.compile(r"drop_?(out|prob|rate)", re.IGNORECASE)


def values_for(
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    kind: str,
    index: int,
    stream: np.random.Generator,
    span: tuple[float, float] | None,
    normalisation: Mapping[str, Any] | None,
) -> Array:
    """Values of one input.

    Args:
        name: of the input; only the keep or drop probability of a dropout is told by it.
        dtype: NumPy's name, or ``string``.
        shape: without open dimensions.
        kind: one of :data:`KINDS`.
        index: number of the probe in its set; scalar bools alternate with it.
        stream: where randomness comes from.
        span: real range to stay in, or ``None`` for the kind's own.
        normalisation: what the contract says of the input (``range``, ``mean`` and ``std``, or ``scale``
            and ``offset``), or ``None``.

    Returns:
        An array of ``shape`` and ``dtype``.

    Raises:
        UsageError: the dtype is unknown.
    """
    if dtype == "string":
        size = int(np.prod(shape, dtype=np.int64))
        return text_array([_WORDS[i] for i in stream.integers(0, len(_WORDS), size)], shape)
    kind_of_dtype = dtype_named(dtype)
    if kind_of_dtype.kind == "b":
        return _bools(shape, index, stream)
    if kind_of_dtype.kind in "iu":
        return _integers(kind_of_dtype, shape, kind, stream, span)
    if kind_of_dtype.kind == "c":
        real, imaginary = (_reals(name, shape, kind, stream, span, None) for _ in range(2))
        return np.asarray(real + 1j * imaginary).astype(kind_of_dtype)
    if kind_of_dtype.kind in "fV":
        return _reals(name, shape, kind, stream, span, normalisation).astype(kind_of_dtype)
    raise UsageError(f"input '{name}' has the type {dtype}, which has no values to try", hint="use --data")


def looks_like_image(shape: tuple[int, ...]) -> bool:
    """Whether a shape is that of a batch of images with 1, 3 or 4 channels, last or second."""
    return len(shape) == 4 and (shape[3] in (1, 3, 4) or shape[1] in (1, 3, 4))


def _bools(shape: tuple[int, ...], index: int, stream: np.random.Generator) -> Array:
    if shape == ():
        return np.asarray(index % 2 == 1)
    values = stream.integers(0, 2, shape).astype(bool)
    if values.size > 1:
        values.reshape(-1)[:2] = (False, True)
    return values


def _integers(
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    kind: str,
    stream: np.random.Generator,
    span: tuple[float, float] | None,
) -> Array:
    limits = np.iinfo(dtype)
    if span is None:
        if dtype == np.uint8 and looks_like_image(shape):
            pixels = _unit(shape, kind, stream) * 255.0
            return np.asarray(np.rint(pixels)).astype(dtype)
        low, high = (1, 4) if shape == () else (0, LARGEST_INDEX)
    else:
        low = max(int(np.ceil(span[0])), int(limits.min))
        high = max(low, min(int(np.floor(span[1])), int(limits.max)))
    return np.asarray(stream.integers(low, high, shape, endpoint=True)).astype(dtype)


def _reals(
    name: str,
    shape: tuple[int, ...],
    kind: str,
    stream: np.random.Generator,
    span: tuple[float, float] | None,
    normalisation: Mapping[str, Any] | None,
) -> Array:
    if span is None and shape in ((), (1,)) and _KEEP.search(name):
        return np.ones(shape)
    if span is None and shape in ((), (1,)) and _DROP.search(name):
        return np.zeros(shape)
    if span is not None:
        return np.asarray(span[0] + (span[1] - span[0]) * _unit(shape, kind, stream))
    if normalisation:
        normalised = _normalised(_unit(shape, kind, stream), shape, normalisation)
        if normalised is not None:
            return normalised
    if kind == "normal":
        return np.asarray(stream.standard_normal(shape))
    if kind == "smooth" and looks_like_image(shape):
        return _unit(shape, kind, stream) * 255.0
    return _unit(shape, kind, stream)


def _unit(shape: tuple[int, ...], kind: str, stream: np.random.Generator) -> Array:
    """Values in [0, 1] of the wanted kind."""
    if kind == "normal":
        return np.asarray(np.clip(stream.standard_normal(shape) / 6 + 0.5, 0.0, 1.0))
    if kind == "smooth" and len(shape) >= 3:
        return _smooth(shape, stream)
    return np.asarray(stream.random(shape))


def _smooth(shape: tuple[int, ...], stream: np.random.Generator) -> Array:
    """Noise that is strong at low and weak at high frequencies, as the spectrum of photographs is.

    Sums of bilinearly enlarged grids of 2, 4, 8, … cells a side, each half as strong as the one before.
    The two axes before the last are taken as space (the last two where channels come second).
    """
    axes = (2, 3) if len(shape) == 4 and shape[1] in (1, 3, 4) and shape[3] not in (1, 3, 4) else None
    axes = axes or (len(shape) - 3 + 1, len(shape) - 2) if len(shape) > 3 else axes or (0, 1)
    if len(shape) == 3:
        axes = (1, 2)
    total = np.zeros(shape)
    weight, cells = 1.0, 2
    while cells <= max(2, max(shape[axis] for axis in axes)):
        grid_shape = list(shape)
        for axis in axes:
            grid_shape[axis] = cells + 1
        grid: Array = stream.random(tuple(grid_shape)) - 0.5
        for axis in axes:
            grid = _stretch(grid, axis, shape[axis])
        total += weight * grid
        weight, cells = weight / 2, cells * 2
    low, high = total.min(initial=np.inf), total.max(initial=-np.inf)
    return np.asarray((total - low) / (high - low)) if high > low else np.full(shape, 0.5)


def _stretch(values: Array, axis: int, size: int) -> Array:
    positions = np.linspace(0.0, values.shape[axis] - 1.0, size)
    lower = np.minimum(positions.astype(np.int64), values.shape[axis] - 2)
    shape = [1] * values.ndim
    shape[axis] = size
    share = (positions - lower).reshape(shape)
    return np.asarray(np.take(values, lower, axis) * (1 - share) + np.take(values, lower + 1, axis) * share)


def _normalised(unit: Array, shape: tuple[int, ...], said: Mapping[str, Any]) -> Array | None:
    """Pixels as the model wants them, or ``None`` where the contract's words are not understood."""
    if "range" in said:
        low, high = (float(bound) for bound in said["range"])
        return np.asarray(low + (high - low) * unit)
    if "mean" in said or "std" in said:
        mean = _by_channel(said.get("mean", 0.0), shape)
        std = _by_channel(said.get("std", 1.0), shape)
        # Statistics above 1 are those of 8-bit pixels, the others of pixels in [0, 1].
        pixels = unit * (255.0 if max(np.max(np.abs(mean)), np.max(np.abs(std))) > 1.0 else 1.0)
        return np.asarray((pixels - mean) / np.where(std == 0, 1.0, std))
    if "scale" in said or "offset" in said:
        scale = _by_channel(said.get("scale", 1.0), shape)
        offset = _by_channel(said.get("offset", 0.0), shape)
        return np.asarray(unit * 255.0 * scale + offset)
    return None


def _by_channel(value: Any, shape: tuple[int, ...]) -> Array:
    array = np.asarray(value, np.float64)
    if array.ndim == 0 or not shape:
        return array.reshape(-1)[:1].reshape(())
    if shape[-1] == array.size:
        return array.reshape(-1)
    if len(shape) == 4 and shape[1] == array.size:
        return array.reshape(1, -1, 1, 1)
    return np.asarray(array.mean())
