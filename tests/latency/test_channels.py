"""What a launch is reduced to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_launches import launch

from edgeconv.errors import UsageError
from edgeconv.latency.channels import against_itself, between, checked, floor, kept, typical


def test_the_first_of_a_burst_is_dropped() -> None:
    bursts = np.array([[900, 10, 11], [800, 12, 13]], np.int64)
    assert kept(bursts).tolist() == [[10, 11], [12, 13]]


@pytest.mark.parametrize("length", [1, 2])
def test_bursts_too_short_to_lose_one_are_kept_whole(length: int) -> None:
    bursts = np.arange(1, 2 * length + 1, dtype=np.int64).reshape(2, length)
    assert kept(bursts).tolist() == bursts.tolist()


@given(st.floats(0.5, 2.0), st.integers(0, 2**32 - 1))
def test_twice_the_time_is_twice_the_ratio_in_every_channel(factor: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = kept(np.stack([launch(rng)["A"] for _ in range(3)]))
    assert floor(one, factor * one) == pytest.approx(np.log(factor), abs=1e-9)
    assert typical(one, factor * one) == pytest.approx(np.log(factor), abs=1e-9)


@given(st.integers(0, 2**32 - 1))
def test_swapping_the_models_changes_the_sign(seed: int) -> None:
    """So equals measured in an order that is drawn are symmetric about zero, as the test needs."""
    rng = np.random.default_rng(seed)
    launches = [launch(rng, effect=0.02) for _ in range(3)]
    there, back = between(launches, "A", "B"), between(launches, "B", "A")
    assert there.keys() == back.keys() == {"floor", "typical", "tail"}
    for channel, one in there.items():
        assert one.values == pytest.approx(-back[channel].values, abs=1e-12)


def test_the_speed_of_the_machine_in_a_burst_cancels() -> None:
    speed = np.array([[1.0], [3.0], [0.5], [2.0]])
    one = 1000 * speed * np.ones((1, 4, 4))
    assert typical(one, 1.02 * one) == pytest.approx(np.log(1.02))


def test_what_happens_in_a_quarter_of_the_samples_moves_neither_floor_nor_typical() -> None:
    one = np.full((1, 8, 4), 1000.0)
    other = 1.03 * one
    other[:, :, 0] = 90_000
    assert floor(one, other) == pytest.approx(np.log(1.03))
    assert typical(one, other) == pytest.approx(np.log(1.03))


def test_slow_models_have_no_floor_of_their_own() -> None:
    rng = np.random.default_rng(1)
    assert "floor" not in between([launch(rng, bursts=2, length=1)], "A", "B")
    assert "floor" in between([launch(rng, bursts=4, length=3)], "A", "B")


@pytest.mark.parametrize(
    ("bursts", "length", "pooled", "percentile"),
    [(16, 5, 1, 0.9), (40, 5, 1, 0.95), (166, 5, 1, 0.99), (4, 5, 4, 0.9), (2, 1, 32, 0.9)],
)
def test_the_tail_pools_launches_until_the_samples_allow_a_percentile(
    bursts: int, length: int, pooled: int, percentile: float
) -> None:
    rng = np.random.default_rng(2)
    found = between([launch(rng, bursts=bursts, length=length) for _ in range(33)], "A", "B")["tail"]
    assert (found.launches, found.percentile, len(found.values)) == (pooled, percentile, 33 // pooled)


def test_too_few_samples_have_no_tail_yet() -> None:
    rng = np.random.default_rng(3)
    assert len(between([launch(rng, bursts=4, length=3)], "A", "B")["tail"].values) == 0


def test_the_baseline_against_itself_is_burst_against_burst() -> None:
    bursts = np.array([[5, 10], [5, 20], [5, 30], [5, 60]], np.int64)[:, [0, 1, 1, 1]]
    values = against_itself([{"A": bursts}], "A")["typical"].values
    # 20 / 10 of the first pair; the second pair is taken the other way round: 30 / 60.
    assert values[0] == pytest.approx(0, abs=1e-12)


def test_one_burst_cannot_be_compared_with_itself() -> None:
    assert against_itself([{"A": np.ones((1, 5), np.int64)}], "A") == {}


@pytest.mark.parametrize(
    ("launches", "said"),
    [
        ([{"A": np.ones((2, 2), np.int64)}], "no samples of 'B'"),
        ([{"A": np.ones((2, 2), np.int64), "B": np.ones((2, 3), np.int64)}], "different shapes"),
        ([], "no launch"),
        (
            [{"A": np.ones((length, 2), np.int64), "B": np.ones((length, 2), np.int64)} for length in (2, 4)],
            "up to launch 1",
        ),
        ([{"A": np.ones(4, np.int64), "B": np.ones(4, np.int64)}], "shape"),
        ([{"A": np.ones((0, 4), np.int64), "B": np.ones((0, 4), np.int64)}], "shape"),
        ([{"A": np.ones((2, 2), np.int64), "B": np.zeros((2, 2), np.int64)}], "a time of 0 ns"),
    ],
)
def test_samples_that_cannot_be_judged_are_refused(launches: list[dict[str, np.ndarray]], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        checked(launches, ["A", "B"])
