"""Wilcoxon's test and its interval: exact, and never more sure than it may be."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from edgeconv.latency.signed_rank import interval, p_greater, statistic, tails, walsh_averages

values_of_any_kind = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=25).map(
    lambda values: np.array(values, np.float64)
)


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_the_tails_are_those_of_all_signs_counted_out(count: int) -> None:
    ranks = np.arange(1, count + 1)
    sums = [int(ranks @ np.array(signs)) for signs in itertools.product((0, 1), repeat=count)]
    expected = [np.mean(np.array(sums) >= total) for total in range(count * (count + 1) // 2 + 1)]
    assert tails(count) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("count", [8, 20, 45])
def test_without_ties_it_is_scipys_exact_test(count: int) -> None:
    rng = np.random.default_rng(count)
    for shift in (0.0, 0.3, -1.0):
        values = rng.standard_normal(count) + shift
        expected = wilcoxon(values, alternative="greater", method="exact").pvalue
        assert p_greater(values) == pytest.approx(expected, rel=1e-9)


def test_at_the_greatest_size_looked_at_the_tails_are_whole() -> None:
    table = tails(250)
    assert table[0] == pytest.approx(1, abs=1e-12)
    assert (np.diff(table) <= 0).all()
    assert table[-1] >= 0


@given(values_of_any_kind, st.data())
def test_ties_and_zeros_count_against_what_is_to_be_shown(values: np.ndarray, data: st.DataObject) -> None:
    """However ties are broken by a disturbance that changes no order, the p-value is no greater."""
    order = np.argsort(np.abs(values), kind="stable")
    ranks = np.empty(len(values))
    chosen = data.draw(st.permutations(range(len(values))))
    for rank, place in enumerate(sorted(range(len(values)), key=lambda at: (abs(values[at]), chosen[at]))):
        ranks[place] = rank + 1
    assert len(order) == len(values)
    assert statistic(values) <= ranks[values > 0].sum()


def test_equal_samples_show_nothing() -> None:
    assert p_greater(np.zeros(20)) == 1


@given(values_of_any_kind)
def test_swapping_the_models_mirrors_the_interval(values: np.ndarray) -> None:
    low, high = interval(values, 0.05, 0.05)
    mirrored_low, mirrored_high = interval(-values, 0.05, 0.05)
    assert (mirrored_low, mirrored_high) == (-high, -low)


@given(
    st.lists(st.integers(-1000, 1000), min_size=6, max_size=20, unique_by=abs).map(
        lambda values: np.array([value for value in values if value] or [1], np.float64)
    ),
    st.sampled_from([0.2, 0.05, 0.01]),
)
def test_the_interval_leaves_zero_out_exactly_when_the_test_rejects_it(
    values: np.ndarray, level: float
) -> None:
    distinct = values + np.sign(values) * np.arange(len(values)) * 1e-4  # no sums of two that are zero
    low, _ = interval(distinct, level, level)
    assert (low > 0) == (p_greater(distinct) <= level)


def test_the_averages_are_of_all_pairs_and_each_with_itself() -> None:
    assert walsh_averages(np.array([0.0, 2.0, 6.0])).tolist() == [0, 1, 2, 3, 4, 6]


def test_few_values_have_no_interval_at_a_strict_level() -> None:
    assert interval(np.arange(4.0), 0.01, 0.01) == (-np.inf, np.inf)
    low, high = interval(np.arange(7.0), 0.01, 0.01)
    assert (low, high) == (0.0, 6.0)
