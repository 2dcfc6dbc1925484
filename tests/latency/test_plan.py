"""How a launch is divided."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from edgeconv.latency.channels import kept
from edgeconv.latency.plan import launch_plan

seconds_of_models = st.floats(1e-7, 10)


@given(seconds_of_models)
def test_half_of_the_bursts_can_be_compared_with_the_others(seconds: float) -> None:
    plan = launch_plan(seconds)
    assert plan.bursts % 2 == 0
    assert plan.bursts >= 2


def test_a_model_whose_first_inference_is_long_is_warmed_up_by_it_alone() -> None:
    assert launch_plan(0.02).warm == 0
    assert launch_plan(0.005).warm == 1


@given(seconds_of_models, seconds_of_models)
def test_slower_models_get_no_more_samples(one: float, two: float) -> None:
    fast, slow = (launch_plan(seconds) for seconds in sorted((one, two)))
    assert slow.length * slow.bursts <= fast.length * fast.bursts
    assert slow.warm <= fast.warm


@given(seconds_of_models)
@example(0.000499)
@example(0.0005)
@example(0.00599)
def test_a_launch_of_two_models_takes_no_longer_than_it_must(seconds: float) -> None:
    """About 15 ms, or for slower models what opening them takes as well; and warming up before that."""
    plan = launch_plan(seconds)
    rounding = 1 + 1e-9
    most = max(0.02, min(0.15, 40 * seconds), 4 * seconds)
    assert 2 * seconds * plan.length * plan.bursts <= most * rounding
    assert 2 * seconds * plan.warm <= max(0.004, 2 * seconds) * rounding


def test_a_model_of_twenty_milliseconds_is_timed_without_its_waiting_and_kept_whole() -> None:
    import numpy as np

    plan = launch_plan(0.02)
    assert plan.processor_time
    assert kept(np.ones((plan.bursts, plan.length), np.int64)).size == plan.bursts * plan.length
    assert not launch_plan(0.00004).processor_time


def test_more_time_a_launch_gives_slow_models_more_bursts() -> None:
    assert launch_plan(0.02, aim=0.4).bursts == 10
