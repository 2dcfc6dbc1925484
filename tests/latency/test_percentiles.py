"""Percentiles with the samples they need, and the median of launches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from edgeconv.latency.percentiles import highest_percentile, median_interval, percentile, samples_needed


@pytest.mark.parametrize(
    ("fraction", "count"), [(0.5, 11), (0.9, 64), (0.95, 130), (0.99, 662), (0.999, 6636)]
)
def test_the_samples_needed_are_those_of_mlperf(fraction: float, count: int) -> None:
    assert samples_needed(fraction) == count


@given(st.floats(0.01, 0.9995))
def test_one_sample_fewer_would_not_do(fraction: float) -> None:
    count = samples_needed(fraction)
    assert binom.cdf(1, count, 1 - fraction) <= 0.01 + 1e-9
    assert count == 2 or binom.cdf(1, count - 1, 1 - fraction) > 0.01 - 1e-9


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 99.0])
def test_what_is_no_percentile_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        samples_needed(fraction)


def test_a_percentile_of_too_few_samples_is_none() -> None:
    samples = np.arange(661, dtype=np.int64)
    assert percentile(samples, 0.99) is None
    assert percentile(np.arange(662, dtype=np.int64), 0.99) == pytest.approx(654.39)
    assert highest_percentile(661) == 0.95
    assert highest_percentile(63) is None


def test_the_interval_of_a_median_is_between_order_statistics() -> None:
    median, low, high = median_interval(np.arange(20.0))
    assert (median, low, high) == (9.5, 5.0, 14.0)  # ranks 6 and 15 of 20: 95.86 %
    assert median_interval(np.arange(5.0))[1:] == (-np.inf, np.inf)


@pytest.mark.parametrize("count", [6, 11, 25])
def test_the_interval_of_a_median_covers_as_often_as_it_says_and_little_more(count: int) -> None:
    rng = np.random.default_rng(count)
    hits = 0
    for _ in range(3000):
        _, low, high = median_interval(rng.exponential(1, count))
        hits += low <= np.log(2) <= high
    exact = 1 - 2 * binom.cdf(max(k for k in range(count) if binom.cdf(k, count, 0.5) <= 0.025), count, 0.5)
    assert hits / 3000 >= 0.95 - 0.012
    assert hits / 3000 == pytest.approx(exact, abs=0.016)
