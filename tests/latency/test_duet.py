"""Launch after launch until the verdict stands."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_launches import launch

from edgeconv.latency.channels import Launch
from edgeconv.latency.decisions import Policy, judge
from edgeconv.latency.duet import run
from edgeconv.latency.sequential import LOOKS


class Machine:
    """A source of drawn launches on a clock that only launches move."""

    def __init__(self, seconds: float = 0.05, seed: int = 1, **how: float) -> None:
        self.now, self.seconds, self.made = 0.0, seconds, 0
        self._rng, self._how = np.random.default_rng(seed), how

    def clock(self) -> float:
        return self.now

    def __call__(self, number: int) -> Launch:
        assert number == self.made
        self.made += 1
        self.now += self.seconds
        return launch(self._rng, **self._how)  # type: ignore[arg-type]


def test_a_great_change_is_found_after_few_launches() -> None:
    machine = Machine(effect=0.2)
    (decision,), launches = run(machine, "A", ["B"], clock=machine.clock)
    assert decision.verdict == "regressed"
    assert decision.launches == len(launches) == machine.made <= 20
    assert decision.seconds == pytest.approx(machine.now)


def test_equals_end_as_ok_before_the_time_is_spent() -> None:
    machine = Machine(seed=2)
    (decision,), _ = run(machine, "A", ["B"], clock=machine.clock)
    assert decision.verdict == "ok"
    assert machine.now < 15


@pytest.mark.parametrize("seconds", [0.3, 1.7, 15.0])
def test_the_time_given_is_kept(seconds: float) -> None:
    machine = Machine(seconds=0.2, between=0.2)
    (decision,), _ = run(machine, "A", ["B"], Policy(seconds=seconds), clock=machine.clock)
    assert decision.verdict == "inconclusive"
    assert machine.now <= seconds + 1e-9
    assert decision.seconds == pytest.approx(machine.now)


def test_one_launch_that_takes_all_the_time_is_inconclusive() -> None:
    machine = Machine(seconds=60)
    (decision,), launches = run(machine, "A", ["B"], clock=machine.clock)
    assert (decision.verdict, len(launches)) == ("inconclusive", 1)


def test_launches_are_no_more_than_allowed() -> None:
    machine = Machine(seconds=0.001, between=0.2)
    (decision,), launches = run(machine, "A", ["B"], Policy(launches=39), clock=machine.clock)
    assert len(launches) == 39
    assert decision.verdict == "inconclusive"


def test_after_the_last_look_nothing_is_measured_that_could_not_be_used() -> None:
    machine = Machine(seconds=0.001, between=0.5)
    run(machine, "A", ["B"], clock=machine.clock)
    assert machine.made == LOOKS[-1]


def test_it_says_what_judging_the_same_launches_says() -> None:
    machine = Machine(seed=5, effect=0.02)
    (decision,), launches = run(machine, "A", ["B"], clock=machine.clock)
    again = judge(launches, "A", ["B"], planned_launches=LOOKS[decision.planned_looks - 1])[0]
    assert again.verdict == decision.verdict
    assert again.channels == decision.channels


def test_a_verdict_once_reached_stays_while_others_go_on() -> None:
    rng = np.random.default_rng(6)
    now = [0.0]

    def source(number: int) -> Launch:
        now[0] += 0.05
        one = launch(rng, effect=0.3)
        return {"A": one["A"], "slow": one["B"], "noisy": launch(rng, between=0.3)["B"]}

    (slow, noisy), launches = run(source, "A", ["slow", "noisy"], Policy(launches=64), clock=lambda: now[0])
    assert slow.verdict == "regressed"
    assert slow.launches < noisy.launches == len(launches) == 64
    assert slow.seconds < noisy.seconds


def test_what_a_launch_raises_ends_the_run() -> None:
    def source(number: int) -> Launch:
        raise ConnectionError("the board is gone")

    with pytest.raises(ConnectionError, match="gone"):
        run(source, "A", ["B"])


@pytest.mark.slow
def test_runs_that_may_stop_at_every_look_alarm_as_rarely_as_stated() -> None:
    """The whole run, with threshold 0 so that every difference counts: alarms are at most 10 %."""
    policy = Policy(threshold=0, alpha=0.1, launches=17)
    alarms = [_verdict(seed, policy) for seed in range(400)]
    rate = sum(verdict in ("regressed", "improved") for verdict in alarms) / len(alarms)
    assert 0.3 * 0.1 < rate < 1.5 * 0.1


def _verdict(seed: int, policy: Policy) -> str:
    machine = Machine(seed=40_000 + seed, bursts=4, length=3)
    return run(machine, "A", ["B"], policy, clock=machine.clock)[0][0].verdict
