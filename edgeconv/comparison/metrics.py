"""Numbers that say how far two arrays are apart. One registered function a metric.

Each takes the reference and the candidate, real values of one shape, and returns a float, or ``None``
where the metric does not apply (strings, an empty array, an undefined quotient). Sums are taken in
float64, so that float16 does not overflow and uint8 does not wrap round. Packages outside edgeconv add
their own by an entry point in the group ``edgeconv.metrics`` that points at a :class:`Metric`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import numpy as np

from edgeconv.comparison.archive import Array, as_bytes, is_text

Compute = Callable[[Array, Array], float | None]

NEGLIGIBLE = 1e-6
"""Values below this share of the largest one count as that share in relative errors."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A distance or likeness of two arrays.

    Attributes:
        name: as in reports and the manifest.
        compute: reference and candidate to the number; its docstring has the formula.
        better: ``lower`` or ``higher``.
    """

    name: str
    compute: Compute
    better: str


METRICS: dict[str, Metric] = {}
"""edgeconv's own metrics by name; :func:`all_metrics` has those of outside packages too."""


def metric(name: str, *, better: str) -> Callable[[Compute], Compute]:
    """Register the decorated function as a metric of that name."""

    def register(compute: Compute) -> Compute:
        METRICS[name] = Metric(name, compute, better)
        return compute

    return register


@cache
def all_metrics() -> dict[str, Metric]:
    """edgeconv's own metrics and those of the entry point group ``edgeconv.metrics``."""
    found = dict(METRICS)
    for point in entry_points(group="edgeconv.metrics"):
        part = point.load()
        if isinstance(part, Metric):
            found[part.name] = part
    return found


def measure(reference: Array, candidate: Array) -> dict[str, float | None]:
    """All metrics of two arrays of the same shape.

    Returns:
        Metric name to number; ``None`` where it does not apply or is not finite, so that it can go to JSON.

    Raises:
        ValueError: the shapes differ. Nothing is ever broadcast.
    """
    if reference.shape != candidate.shape:
        raise ValueError(f"shapes differ: {reference.shape} and {candidate.shape}")
    numbers = {name: part.compute(reference, candidate) for name, part in all_metrics().items()}
    return {
        name: None if number is None or not math.isfinite(number) else number
        for name, number in numbers.items()
    }


def wide(values: Array) -> Array:
    """The values as float64, or complex128; themselves where they are that already."""
    return values.astype(np.complex128 if values.dtype.kind == "c" else np.float64, copy=False)


def difference(reference: Array, candidate: Array) -> Array:
    """Absolute differences as float64, exact for integers of any width before rounding to float64."""
    if reference.dtype.kind in "iub" and candidate.dtype.kind in "iub":
        # Modular subtraction of the smaller from the larger is right for any pair of 64-bit integers.
        with np.errstate(over="ignore"):
            larger = np.where(reference >= candidate, _modular(reference), _modular(candidate))
            smaller = np.where(reference >= candidate, _modular(candidate), _modular(reference))
            distance = np.asarray(larger - smaller)
        error = distance.astype(np.float64)
        # From a negative number to the end of uint64 is more than 64 bits hold: Python's integers do.
        far = ((reference < 0) | (candidate < 0)) & (reference != candidate) & (distance < larger)
        far &= (reference >= 0) | (candidate >= 0)
        for index in map(tuple, np.argwhere(far)):
            error[index] = float(abs(int(reference[index]) - int(candidate[index])))
        return error
    with np.errstate(invalid="ignore", over="ignore"):
        one, two = wide(reference), wide(candidate)
        error = np.asarray(np.abs(two - one))
        # Equal infinities have no distance, and their difference is NaN.
        error[one == two] = 0.0
        return error


@metric("max_abs", better="lower")
def max_abs(reference: Array, candidate: Array) -> float | None:
    """Largest absolute difference: ``max |c - r|`` (the norm L∞ of the error)."""
    if not _numeric(reference, candidate):
        return None
    return float(difference(reference, candidate).max())


@metric("max_rel", better="lower")
def max_rel(reference: Array, candidate: Array) -> float | None:
    """Largest relative difference: ``max |c - r| / max(|r|, 1e-6 · max |r|)``.

    An element where both are zero counts 0 for itself and hides no other. Values far below the largest
    are not asked for more relative digits than the largest has. ``None`` where all of the reference is 0
    and the candidate is not.
    """
    if not _numeric(reference, candidate):
        return None
    error = difference(reference, candidate)
    size = np.abs(wide(reference))
    largest = size.max()
    if largest == 0.0:
        return 0.0 if not error.any() else None
    with np.errstate(invalid="ignore", over="ignore"):
        return float((error / np.maximum(size, NEGLIGIBLE * largest)).max())


@metric("rms", better="lower")
def rms(reference: Array, candidate: Array) -> float | None:
    """Root of the mean squared error: ``sqrt(mean |c - r|²)``."""
    if not _numeric(reference, candidate):
        return None
    return root_mean_square(difference(reference, candidate))


@metric("cosine", better="higher")
def cosine(reference: Array, candidate: Array) -> float | None:
    """Cosine of the angle between the two as flat vectors: ``r·c / (|r| |c|)``; 1 where both are zero.

    0 where only one of them is zero: a candidate that is dead has nothing in common with a live reference.
    """
    if not _numeric(reference, candidate):
        return None
    one, two = _unit(reference), _unit(candidate)
    if one is None or two is None:
        return 1.0 if one is None and two is None else 0.0
    return float(np.clip(np.vdot(one, two).real, -1.0, 1.0))


@metric("correlation", better="higher")
def correlation(reference: Array, candidate: Array) -> float | None:
    """Pearson's correlation: the cosine after the mean of each is taken off.

    Sees what the cosine does not where a constant dominates (scores of 0.5 ± 0.01). ``None`` where the
    reference does not vary; 0 where only the candidate does not.
    """
    if not _numeric(reference, candidate) or reference.size < 2:
        return None
    one, two = wide(reference), wide(candidate)
    first, second = _unit(_centred(one)), _unit(_centred(two))
    if first is None:
        return None
    return 0.0 if second is None else float(np.clip(np.vdot(first, second).real, -1.0, 1.0))


@metric("sqnr_db", better="higher")
def sqnr_db(reference: Array, candidate: Array) -> float | None:
    """Signal-to-quantization-noise ratio in dB: ``10 log10(Σ|r|² / Σ|c - r|²)``.

    Infinite where the two are equal, minus infinite where only the reference is all zero. (A. V. Oppenheim
    and R. W. Schafer, *Discrete-Time Signal Processing*, section on quantization errors.)
    """
    if not _numeric(reference, candidate):
        return None
    signal, noise = root_mean_square(wide(reference)), root_mean_square(difference(reference, candidate))
    if noise == 0.0:
        return math.inf
    if signal == 0.0:
        return -math.inf
    with np.errstate(invalid="ignore", over="ignore"):
        return 20.0 * (math.log10(signal) - math.log10(noise)) if math.isfinite(noise) else -math.inf


@metric("mismatched", better="lower")
def mismatched(reference: Array, candidate: Array) -> float | None:
    """Share of elements that are not exactly equal; NaN equals NaN, -0.0 equals 0.0. Strings too."""
    if reference.size == 0:
        return None
    return float(np.count_nonzero(unequal(reference, candidate)) / reference.size)


@metric("top1", better="higher")
def top1(reference: Array, candidate: Array) -> float | None:
    """Share of rows along the last axis whose largest element is the same in both.

    Where one side has a tie for the largest, any of the tied counts: quantized scores tie often. ``None``
    where the last axis has fewer than two elements or the values are no real numbers.
    """
    if not _numeric(reference, candidate) or reference.ndim == 0 or reference.shape[-1] < 2:
        return None
    if reference.dtype.kind in "cb" or candidate.dtype.kind in "cb":
        return None
    one = reference.reshape(-1, reference.shape[-1])
    two = candidate.reshape(-1, candidate.shape[-1])
    tops_one = one == one.max(axis=1, keepdims=True)
    tops_two = two == two.max(axis=1, keepdims=True)
    return float(np.mean((tops_one & tops_two).any(axis=1)))


def unequal(reference: Array, candidate: Array) -> Array:
    """Bool array: where the two are not equal. NaN equals NaN; text equals its bytes."""
    if is_text(reference) or is_text(candidate):
        pairs = zip(reference.reshape(-1).tolist(), candidate.reshape(-1).tolist(), strict=True)
        flags = np.fromiter((as_bytes(a) != as_bytes(b) for a, b in pairs), dtype=bool, count=reference.size)
        return flags.reshape(reference.shape)
    if reference.dtype.kind in "iub" and candidate.dtype.kind in "iub":
        return np.asarray(reference != candidate)
    one, two = wide(reference), wide(candidate)
    return np.asarray((one != two) & ~(np.isnan(one) & np.isnan(two)))


def root_mean_square(values: Array) -> float:
    """``sqrt(mean |v|²)``, scaled first so that squares neither overflow nor vanish; 0 for no values."""
    size = np.abs(values)
    largest = float(size.max()) if size.size else 0.0
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    return largest * float(np.sqrt(np.mean((size / largest) ** 2)))


def _numeric(reference: Array, candidate: Array) -> bool:
    return reference.size > 0 and not is_text(reference) and not is_text(candidate)


def _modular(values: Array) -> Array:
    if values.dtype.kind == "u" or values.dtype.kind == "b":
        return values.astype(np.uint64)
    return values.astype(np.int64).view(np.uint64)


def _centred(values: Array) -> Array:
    flat = values.reshape(-1)
    # The mean of equal values may be off by a rounding error, which would pass for a variation.
    if (flat == flat[0]).all():
        return np.zeros_like(values)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(values - flat.mean())


def _unit(values: Array) -> np.ndarray[Any, Any] | None:
    """The flat vector at length one, or ``None`` if it is zero."""
    flat = wide(values).reshape(-1)
    largest = float(np.abs(flat).max())
    if largest == 0.0 or not math.isfinite(largest):
        return None
    flat = flat / largest
    return np.asarray(flat / np.linalg.norm(flat))
