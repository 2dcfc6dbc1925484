"""Holm's procedure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeconv.latency.multiplicity import holm


def test_the_adjusted_values_of_a_worked_example() -> None:
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})


def test_weights_are_the_shares_that_each_begins_with() -> None:
    adjusted = holm({"a": 0.01, "b": 0.01, "c": 0.5}, {"a": 0.7, "b": 0.15, "c": 0.15})
    assert adjusted["a"] == pytest.approx(0.01 / 0.7)
    assert adjusted["b"] == pytest.approx(0.01 / 0.5)  # half of what is left once "a" is rejected
    assert adjusted["c"] == 0.5


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 1)), min_size=1, max_size=8))
def test_weighted_alarms_are_those_of_the_stepwise_rule(pairs: list[tuple[float, float]]) -> None:
    """Reject the least p / w while it is at most alpha / (sum of the weights left)."""
    p_values = {place: pair[0] for place, pair in enumerate(pairs)}
    weights = {place: pair[1] for place, pair in enumerate(pairs)}
    adjusted, left = holm(p_values, weights), set(p_values)
    while left:
        key = min(left, key=lambda place: (p_values[place] / weights[place], place))
        if p_values[key] / weights[key] * sum(weights[place] for place in left) > 0.05:
            break
        left.remove(key)
    assert all(adjusted[key] <= 0.05 + 1e-9 for key in set(p_values) - left)
    assert all(adjusted[key] >= 0.05 - 1e-9 for key in left)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_it_lies_between_no_correction_and_bonferroni_and_keeps_the_order(values: list[float]) -> None:
    adjusted = holm(dict(enumerate(values)))
    for place, value in enumerate(values):
        assert value <= adjusted[place] <= min(1.0, len(values) * value) + 1e-12
    by_value = sorted(range(len(values)), key=lambda place: values[place])
    assert [adjusted[place] for place in by_value] == sorted(adjusted.values())


def test_any_false_alarm_among_several_is_as_rare_as_stated() -> None:
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(4000):
        equal = dict(enumerate(rng.random(4)))
        alarms += min(holm({**equal, "changed": 1e-9})[key] for key in equal) <= 0.05
    assert alarms / 4000 == pytest.approx(0.05, abs=0.012)
