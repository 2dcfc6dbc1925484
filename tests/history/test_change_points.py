"""Changes are found where they are, and where none is no more often than alpha says."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeconv.errors import UsageError
from edgeconv.history.change_points import LEAST, SHORTEST, change_points, greatest_change

Floats = np.ndarray


def autoregressive(rng: np.random.Generator, count: int, phi: float) -> Floats:
    noise = rng.standard_normal(count + 50)
    for step in range(1, count + 50):
        noise[step] = phi * noise[step - 1] + np.sqrt(1 - phi**2) * noise[step]
    return noise[50:]


STATIONARY: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "normal": lambda rng, count: rng.standard_normal(count),
    "heavy tails": lambda rng, count: rng.standard_t(1.5, count),
    "skewed": lambda rng, count: rng.lognormal(0, 1, count),
    "many ties": lambda rng, count: np.round(rng.standard_normal(count)),
    "two values": lambda rng, count: rng.integers(0, 2, count).astype(float),
    "outliers": lambda rng, count: rng.standard_normal(count) * np.where(rng.random(count) < 0.1, 50, 1),
}


def alarms(make: Callable[[np.random.Generator, int], Floats], count: int, alpha: float, series: int) -> int:
    rng = np.random.default_rng(count)
    return sum(bool(change_points(make(rng, count), alpha)) for _ in range(series))


@pytest.mark.parametrize("count", [10, 30])
@pytest.mark.parametrize("kind", STATIONARY)
def test_a_series_without_a_change_raises_an_alarm_no_more_often_than_alpha(kind: str, count: int) -> None:
    # Of 300 series at 5 %, 15 on average; more than 26 has a probability of 0.3 % in each of these tests.
    assert alarms(STATIONARY[kind], count, 0.05, 300) <= 26


@pytest.mark.slow
@pytest.mark.parametrize("count", [20, 50])
def test_at_one_per_cent_too(count: int) -> None:
    # Of 1000 series 10 on average; more than 20 has a probability of 0.2 %.
    assert alarms(STATIONARY["heavy tails"], count, 0.01, 1000) <= 20


def test_neighbours_that_resemble_each_other_are_not_taken_for_a_change() -> None:
    # Plain permutations call more than every third of these a change.
    # (benchmarks/change_points.py); of these 100 it would be 35.
    found = alarms(lambda rng, count: autoregressive(rng, count, 0.5), 100, 0.05, 100)
    assert found <= 15


@pytest.mark.parametrize(("kind", "size"), [("normal", 3), ("heavy tails", 6), ("many ties", 3)])
def test_a_large_change_is_found_where_it_is(kind: str, size: float) -> None:
    rng, places = np.random.default_rng(3), []
    for _ in range(60):
        values = STATIONARY[kind](rng, 60)
        values[40:] += size
        places += [change.index for change in change_points(values, 0.01)]
    near = [place for place in places if abs(place - 40) <= 3]
    assert len(near) >= 54
    assert len(places) - len(near) <= 3


def test_two_changes_are_told_apart_with_their_levels() -> None:
    rng = np.random.default_rng(4)
    values = 1 + 0.01 * rng.standard_normal(90)
    values[30:] *= 1.05
    values[60:] *= 0.9
    first, second = change_points(values, 0.01)
    assert (first.index, second.index) == (30, 60)
    assert first.before == pytest.approx(1, abs=0.005)
    assert first.after == pytest.approx(1.05, abs=0.005)
    assert second.after == pytest.approx(0.945, abs=0.005)
    assert max(first.p, second.p) < 0.01


@pytest.mark.slow
def test_where_one_thing_changed_a_second_change_is_found_no_more_often_than_alpha() -> None:
    rng, more = np.random.default_rng(5), 0
    for _ in range(150):
        values = rng.standard_normal(80)
        values[50:] += 4
        more += len(change_points(values, 0.05)) > 1
    # 7 or 8 on average at the level; more than 16 has a probability of 0.2 %.
    assert more <= 16


def test_a_change_back_is_no_net_change_and_still_found() -> None:
    values = np.random.default_rng(6).standard_normal(90)
    values[30:60] += 4
    assert [change.index for change in change_points(values, 0.01)] == [30, 60]


def test_one_outlier_is_no_change() -> None:
    values = np.random.default_rng(7).standard_normal(40)
    values[-1] = 1e9
    assert change_points(values, 0.05) == []


def test_a_series_that_never_moves_has_no_change() -> None:
    assert change_points(np.ones(100), 0.05) == []


@pytest.mark.parametrize("count", range(SHORTEST))
def test_a_series_that_is_too_short_has_none(count: int) -> None:
    assert change_points(np.arange(count) >= count / 2, 0.05) == []


def test_more_values_after_a_change_make_it_surer() -> None:
    rng = np.random.default_rng(8)
    values = rng.standard_normal(60)
    values[20:] += 2
    ps = [greatest_change(values[:end], 0.001)[0] for end in (24, 40, 60)]
    assert ps[0] > ps[-1]
    assert ps[-1] <= 0.001


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-5, 5), max_size=60), st.sampled_from([0.01, 0.05]))
def test_what_is_found_holds_together(values: list[int], alpha: float) -> None:
    found = change_points(values, alpha)
    assert found == change_points(values, alpha), "the same series gives the same answer"
    ends = [0, *(change.index for change in found), len(values)]
    assert all(after - before >= LEAST for before, after in itertools.pairwise(ends)) or not found
    assert all(0 < change.p <= alpha for change in found)
    # Only the order of the values counts.
    cubes = [value**3 + 7 for value in values]
    assert [change.index for change in change_points(cubes, alpha)] == [change.index for change in found]


@pytest.mark.parametrize(
    "values", [[1.0, float("nan")] * 10, [1.0, float("inf")] * 10, [[1.0]], [0.0] * 5001]
)
def test_what_is_no_series_is_refused(values: list[float]) -> None:
    with pytest.raises(UsageError):
        change_points(values)


@pytest.mark.parametrize("alpha", [0, -1, 0.6, float("nan")])
def test_an_alpha_that_is_none_is_refused(alpha: float) -> None:
    with pytest.raises(UsageError, match="alpha"):
        change_points([1.0] * 10, alpha)
