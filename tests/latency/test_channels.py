"""What a launch is reduced to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_launches import launch

from edgeconv.errors import UsageError
from edgeconv.latency.channels import against_itself, between, checked, floor, kept, typical

YES = np.array([True])


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
    noiseless = np.ones_like(one)
    for before in (True, False):
        found = typical(noiseless, factor * noiseless, np.full(3, before))
        assert found == pytest.approx(np.log(factor), abs=1e-9)


@given(st.integers(0, 2**32 - 1))
def test_swapping_the_models_changes_the_sign(seed: int) -> None:
    """So equals measured in an order that is drawn are symmetric about zero, as the test needs."""
    rng = np.random.default_rng(seed)
    launches = [launch(rng, effect=0.02) for _ in range(3)]
    launches[1] = dict(reversed(launches[1].items()))
    there, back = between(launches, "A", "B"), between(launches, "B", "A")
    assert there.keys() == back.keys() == {"floor", "typical", "tail"}
    for channel, one in there.items():
        assert one.values == pytest.approx(-back[channel].values, abs=1e-12)


def test_the_speed_of_the_machine_in_two_neighbouring_bursts_cancels() -> None:
    speed = np.repeat([1.0, 3.0, 0.5, 2.0], 4).reshape(1, 16, 1)
    one = 1000 * speed * np.ones((1, 16, 4))
    assert typical(one, 1.02 * one, YES) == pytest.approx(np.log(1.02))


@pytest.mark.parametrize("before", [True, False])
def test_a_drift_cancels_whoever_comes_first(before: bool) -> None:
    """Samples of models in turns, each 1 % slower than the one before."""
    drift = 1000 * 1.01 ** np.arange(16.0).reshape(1, 8, 2)
    sides = (drift[..., :1], drift[..., 1:])
    baseline, candidate = sides if before else sides[::-1]
    found = typical(baseline, 1.02 * candidate, np.array([before]))
    assert found == pytest.approx(
        np.log(1.02), abs=0.0101
    )  # half of one step is left: the median of 15 pairs
    assert not np.allclose(typical(baseline[:, :1], candidate[:, :1], np.array([before])), 0)


def test_samples_are_paired_by_their_place_in_the_burst() -> None:
    """As a cache that the other model has emptied fills: what is paired was as cold as its partner."""
    cold = 1000 * np.array([1.3, 1.1, 1.0]) * np.ones((1, 2, 1))
    assert typical(cold, 1.02 * cold, YES) == pytest.approx(np.log(1.02), abs=1e-12)


def test_what_happens_in_a_quarter_of_the_samples_moves_neither_floor_nor_typical() -> None:
    one = np.full((1, 8, 4), 1000.0)
    other = 1.03 * one
    other[:, :, 0] = 90_000
    assert floor(one, other) == pytest.approx(np.log(1.03))
    assert typical(one, other, YES) == pytest.approx(np.log(1.03))


def test_slow_models_have_no_floor_of_their_own() -> None:
    rng = np.random.default_rng(1)
    assert "floor" not in between([launch(rng, bursts=2, length=1)], "A", "B")
    assert "floor" not in between([launch(rng, bursts=6, length=3)], "A", "B")
    assert "floor" in between([launch(rng, bursts=8, length=5)], "A", "B")


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
