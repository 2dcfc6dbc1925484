"""Percentiles only where the samples allow one, and the median of launches with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from edgeconv.latency.signed_rank import Floats

CONFIDENCE = 0.99
"""How sure it has to be that at least two samples lie above a percentile that is printed."""


@lru_cache(maxsize=64)
def samples_needed(fraction: float) -> int:
    """The least number of samples from which a percentile may be told: p50 11, p90 64, p95 130, p99 662,
    p99.9 6,636.

    The least n for which at most one of n samples lies above the true percentile with a probability of at
    most 1 %, where that number is Binomial(n, 1 - fraction). Source: the early stopping of MLPerf's
    LoadGen, with one sample allowed above.

    Raises:
        ValueError: the fraction is not within (0, 1).
    """
    if not 0 < fraction < 1:
        raise ValueError(f"a percentile is between 0 and 1, not {fraction}")
    above = 1 - fraction

    def at_most_one(count: int) -> float:
        return fraction**count + count * above * fraction ** (count - 1)

    high = 2
    while at_most_one(high) > 1 - CONFIDENCE:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at_most_one(middle) > 1 - CONFIDENCE else (low, middle)
    return high


def percentile(samples: npt.NDArray[np.int64] | Floats, fraction: float) -> float | None:
    """A percentile of all samples together, in their unit; ``None`` where they are too few."""
    if samples.size < samples_needed(fraction):
        return None
    return float(np.quantile(samples, fraction))


def highest_percentile(count: int, of: Sequence[float] = (0.9, 0.95, 0.99, 0.999)) -> float | None:
    """The highest of some percentiles that a number of samples allows, or ``None``."""
    return max((fraction for fraction in of if samples_needed(fraction) <= count), default=None)


def median_interval(values: Floats, confidence: float = 0.95) -> tuple[float, float, float]:
    """The median of one number a launch with its distribution-free interval.

    The interval is between two order statistics (the sign test turned round), so it has no assumption but
    that launches are independent. Source: M. Hollander, D. Wolfe, "Nonparametric statistical methods",
    section 3.6.

    Returns:
        Median, lower bound and upper bound; infinite bounds where the launches are too few (below 6 for 95
        %).
    """
    count, ordered = len(values), np.sort(values)
    left, together = 0, 0.0
    while left < count // 2:
        together += math.comb(count, left) * 0.5**count
        if together > (1 - confidence) / 2:
            break
        left += 1
    low, high = (float(ordered[left - 1]), float(ordered[-left])) if left else (-math.inf, math.inf)
    return float(np.median(values)), low, high
