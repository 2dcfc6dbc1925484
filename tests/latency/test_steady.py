"""When a launch is warm, and when it drifts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from latency.making import launch

from edgeconv.latency.steady import curve, drift, is_steady, settled_after


def samples(*, slope: float, noise: float, bursts: int = 60, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    level = 100_000 * (1 + slope * np.linspace(0, 1, bursts))[:, None]
    return (level * (1 + noise * rng.standard_normal((bursts, 5)))).astype(np.int64)


class TestSettling:
    def test_the_inferences_before_the_level_are_counted(self) -> None:
        warm = np.array([900, 500, 300, 200, *[100] * 20])
        # A window's lower quartile is at the level as soon as two of its five are.
        assert settled_after(warm, 100.0) == 1

    def test_a_warm_up_that_never_comes_down_is_said_to(self) -> None:
        assert settled_after(np.arange(1000, 500, -10), 100.0) is None

    def test_one_that_was_warm_from_the_first_inference_has_none(self) -> None:
        assert settled_after(np.full(30, 100), 100.0) == 0

    def test_none_at_all_is_nothing_to_wait_for(self) -> None:
        assert settled_after(np.empty(0, np.int64), 100.0) == 0

    @given(st.lists(st.integers(1, 10**9), max_size=60), st.integers(1, 10**9))
    def test_what_follows_lies_at_the_level(self, warm: list[int], level: int) -> None:
        count = settled_after(np.array(warm, np.int64), level)
        if count is not None and len(warm) >= 5:
            for begin in range(count, len(warm) - 4):
                assert np.quantile(warm[begin : begin + 5], 0.25) <= 1.05 * level


class TestDrift:
    def test_a_launch_that_gets_slower_is_found_through_noise(self) -> None:
        assert drift(samples(slope=0.2, noise=0.02)) == pytest.approx(0.12, abs=0.04)

    def test_one_that_gets_quicker_too(self) -> None:
        assert drift(samples(slope=-0.2, noise=0.02)) < -0.08

    def test_equals_are_rarely_called_drifting(self) -> None:
        found = [drift(samples(slope=0, noise=0.1, seed=seed)) != 0 for seed in range(400)]
        assert sum(found) <= 12  # 1 % of 400 are 4; more than 12 have a chance of one in a thousand

    def test_a_slope_that_is_certain_but_small_is_steady(self) -> None:
        each = launch(samples(slope=0.02, noise=0.0001))
        assert drift(each.samples) > 0.01
        assert is_steady(each)

    def test_a_launch_that_was_not_warm_is_not_steady(self) -> None:
        assert not is_steady(launch(samples(slope=0, noise=0.001), steady=False))
        assert not is_steady(launch(samples(slope=0.3, noise=0.001)))

    def test_few_bursts_say_nothing(self) -> None:
        assert drift(np.array([[1], [2], [3], [4], [5]])) == 0.0

    def test_many_bursts_are_looked_at_in_groups(self) -> None:
        assert drift(samples(slope=0.2, noise=0.05, bursts=5000)) == pytest.approx(0.12, abs=0.04)


def test_the_curve_begins_with_the_first_inference_and_ends_at_the_level() -> None:
    found = curve(launch(np.full((10, 5), 100), first_ns=5000, warm=np.r_[1000:100:-1, [100] * 3000]))
    assert found[0] == 50.0
    assert found[-1] == 1.0
    assert len(found) <= 25
