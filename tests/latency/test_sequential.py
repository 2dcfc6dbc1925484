"""Looking again and again keeps the error that is stated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_launches import SYMMETRIC

from edgeconv.latency import sequential
from edgeconv.latency.sequential import LOOKS, bounds, next_look, p_value, spending, spent

RUNS = 2000
LEVELS = (0.01, 0.05, 0.10)


def test_the_table_is_what_a_fresh_simulation_gives() -> None:
    paths = 20_000
    fresh = np.cumsum(sequential.simulated(paths, seed=99), axis=1) / paths
    stored = sequential._table()
    error = 5 * np.sqrt(np.maximum(stored * (1 - stored), 1e-5) / paths)
    assert (np.abs(fresh - stored) <= error).all()


@pytest.mark.parametrize("kind", SYMMETRIC)
@pytest.mark.parametrize("planned", [6, 13])
def test_equals_are_called_different_as_often_as_stated(kind: str, planned: int) -> None:
    """Between 0.3 and 1.5 times the level, whatever the values' distribution, when every look may stop."""
    rng = np.random.default_rng([planned, *kind.encode()])
    p_values = []
    for _ in range(RUNS):
        values = SYMMETRIC[kind](rng, LOOKS[planned - 1])
        p_values.append(2 * min(p_value(values, planned), p_value(-values, planned)))
    for level in LEVELS:
        error = 3 * np.sqrt(level / RUNS)
        rate = np.mean(np.array(p_values) <= level)
        assert 0.3 * level - error < rate < 1.5 * level + error, level


@pytest.mark.parametrize("kind", SYMMETRIC)
def test_intervals_hold_at_all_looks_together(kind: str) -> None:
    rng = np.random.default_rng([7, *kind.encode()])
    missed = 0
    for _ in range(600):
        values = SYMMETRIC[kind](rng, 54) + 3.0
        looks = [bounds(values[:count], 0.025, 0.025, 12) for count in LOOKS[:12]]
        missed += any(not low <= 3.0 <= high for low, high in looks)
    assert missed / 600 < 0.05 + 0.027


@given(st.floats(1e-7, 0.4), st.integers(1, len(LOOKS)))
def test_what_is_spent_never_exceeds_the_level_and_grows_with_each_look(level: float, planned: int) -> None:
    shares = spending(level, planned)
    assert len(shares) == planned
    assert shares == sorted(shares)
    assert shares[-1] <= level * (1 + 1e-9)


@given(st.floats(1e-12, 1.0), st.integers(1, len(LOOKS)))
def test_no_p_value_is_zero(t: float, planned: int) -> None:
    """What a simulation has never shown may still happen."""
    assert spent(t, planned) > 0


@given(st.floats(1e-7, 1.0), st.floats(1e-7, 1.0), st.integers(1, len(LOOKS)))
def test_more_evidence_is_never_a_greater_p_value(one: float, two: float, planned: int) -> None:
    low, high = sorted((one, two))
    assert spent(low, planned) <= spent(high, planned)


@given(st.floats(1e-7, 1.0), st.integers(1, len(LOOKS) - 1))
def test_more_looks_cost_more(t: float, planned: int) -> None:
    assert spent(t, planned) <= spent(t, planned + 1) + 1e-9


@given(st.lists(st.floats(-1, 1), min_size=8, max_size=60))
def test_a_p_value_only_falls_as_launches_come(values: list[float]) -> None:
    """So a verdict that has been reached stays."""
    array = np.array(values)
    path = [p_value(array[:count], 13) for count in range(8, len(values) + 1)]
    assert path == sorted(path, reverse=True)


def test_launches_between_two_looks_change_nothing() -> None:
    """Looking where it was not planned would be another look."""
    values = np.concatenate([np.ones(14), -100 * np.ones(2)])
    assert p_value(values, 10) == p_value(values[:14], 10)
    assert bounds(values, 0.025, 0.025, 10) == bounds(values[:14], 0.025, 0.025, 10)


def test_the_first_strict_verdict_needs_as_many_launches_as_signs_can_tell() -> None:
    """Eight launches that agree have a probability of 1/256 by chance: no test may be surer."""
    agreeing = np.arange(1.0, 101.0)
    assert p_value(agreeing[:7], 10) == 1
    assert 1 / 256 / 1.02 < p_value(agreeing[:8], 1) <= 1 / 256
    assert p_value(agreeing[:14], 7) < 0.0005
    assert bounds(agreeing[:7], 0.025, 0.025, 10) == (-np.inf, np.inf)


def test_the_looks_come_one_after_another() -> None:
    assert next_look(0) == LOOKS[0]
    assert next_look(LOOKS[0]) == LOOKS[1]
    assert next_look(LOOKS[-1]) is None
