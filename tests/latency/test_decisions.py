"""Verdicts err as rarely as they say; drawn launches stand for machines whose truth is known."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from simulated_launches import SYMMETRIC, launch

from edgeconv.errors import UsageError
from edgeconv.latency.channels import Launch
from edgeconv.latency.decisions import (
    POWER,
    ChannelVerdict,
    Decision,
    Policy,
    detectable,
    judge,
    noise_floor,
    overall,
    power,
)
from edgeconv.latency.sequential import LOOKS, bounds


def drawn(seed: int, count: int, **how: float) -> list[Launch]:
    rng = np.random.default_rng(seed)
    return [launch(rng, **how) for _ in range(count)]  # type: ignore[arg-type]


def decided(seed: int, count: int, policy: Policy | None = None, **how: float) -> Decision:
    return judge(drawn(seed, count, **how), "A", ["B"], policy)[0]


def test_a_regression_is_found_and_measured() -> None:
    decision = decided(1, 33, effect=0.05)
    assert decision.verdict == "regressed"
    typical = decision.channels["typical"]
    assert typical.low < 1.05 < typical.high
    assert typical.low < typical.ratio < typical.high
    assert typical.p_slower < 0.001 < typical.p_faster


def test_an_improvement_is_found() -> None:
    decision = decided(2, 33, effect=-0.05)
    assert decision.verdict == "improved"
    assert decision.channels["floor"].high < 1


def test_equals_are_proven_equal() -> None:
    decision = decided(3, 46)
    assert decision.verdict == "ok"
    assert 0.99 < decision.channels["typical"].low < 1 < decision.channels["typical"].high < 1.01


def test_too_few_launches_are_inconclusive_never_ok() -> None:
    decision = decided(4, LOOKS[0] - 1)
    assert decision.verdict == "inconclusive"
    assert decision.channels["typical"].low == 0
    assert decision.channels["typical"].high == math.inf
    assert decision.channels["typical"].detectable == math.inf
    assert decision.channels["typical"].power == 0


def test_noise_that_hides_the_threshold_is_inconclusive() -> None:
    assert decided(5, 33, between=0.2).verdict == "inconclusive"


def test_a_real_change_below_the_threshold_is_ok_and_seen() -> None:
    decision = decided(6, 150, Policy(threshold=0.05), effect=0.01)
    assert decision.verdict == "ok"
    assert decision.channels["typical"].low > 1


def test_without_a_threshold_any_change_counts() -> None:
    decision = decided(6, 150, Policy(threshold=0), effect=0.01)
    assert decision.verdict == "regressed"


def test_the_tail_alone_raises_an_alarm() -> None:
    rng = np.random.default_rng(7)
    launches = []
    for _ in range(76):
        one = dict(launch(rng, between=0.002, interrupted=0.0))
        late = rng.random(one["B"].shape) < 0.15
        one["B"] = np.where(late, one["B"] * 2, one["B"])
        launches.append(one)
    (decision,) = judge(launches, "A", ["B"])
    assert decision.verdict == "regressed"
    assert decision.channels["tail"].verdict == "regressed"
    assert decision.channels["tail"].percentile == 0.9
    assert decision.channels["floor"].verdict == decision.channels["typical"].verdict == "ok"


def test_slow_models_are_judged_by_what_their_launches_allow() -> None:
    decision = decided(8, 33, effect=0.05, bursts=2, length=1, interrupted=0.0)
    assert decision.verdict == "regressed"
    assert set(decision.channels) == {"typical"}
    assert decision.family == 1


@pytest.mark.slow
def test_equals_are_called_different_between_0_3_and_1_5_times_as_often_as_stated() -> None:
    """All channels, looks and both directions together."""
    runs = 500
    p_values = []
    for seed in range(runs):
        decision = judge(drawn(10_000 + seed, 24, bursts=8), "A", ["B"], planned_launches=24)[0]
        p_values.append(min(one.p_adjusted for one in decision.channels.values()))
    for level in (0.05, 0.10):  # more runs than a test can make tell of 0.01: test_sequential does
        assert 0.3 * level < np.mean(np.array(p_values) <= level) < 1.5 * level, level


@pytest.mark.slow
def test_the_verdicts_on_known_changes() -> None:
    """At the default policy: equals ok, +2 % and +5 % regressed, and never the other way round."""
    for effect, expected, wrong in (
        (0.0, "ok", {"regressed", "improved"}),
        (0.02, "regressed", {"ok", "improved"}),
        (0.05, "regressed", {"ok", "improved"}),
    ):
        said = [decided(20_000 + seed, 64, effect=effect, bursts=8).verdict for seed in range(60)]
        assert said.count(expected) / len(said) >= 0.95
        assert sum(verdict in wrong for verdict in said) / len(said) <= 0.03


@pytest.mark.slow
@pytest.mark.parametrize("count", [17, 39])
def test_the_intervals_cover_the_change(count: int) -> None:
    inside = [
        one.low <= 1.03 <= one.high
        for seed in range(250)
        for one in [decided(30_000 + seed, count, effect=0.03, bursts=8).channels["typical"]]
    ]
    assert np.mean(inside) >= 0.93


@pytest.mark.parametrize(("kind", "count"), [("normal", 17), ("normal", 54), ("heavy tails", 54)])
def test_the_detectable_change_is_found_about_as_often_as_stated(kind: str, count: int) -> None:
    """The width of few launches with heavy tails is uncertain itself: at 17 it is two thirds, not 0.9."""
    rng = np.random.default_rng([count, *kind.encode()])
    found = []
    for _ in range(300):
        values = SYMMETRIC[kind](rng, count)
        shift = detectable(values, 0.001, 12, POWER)
        again = SYMMETRIC[kind](rng, count) + shift
        found.append(bounds(again, 0.001, 0.001, 12)[0] > 0)
    assert 0.75 < np.mean(found) <= 1


def test_power_grows_with_the_change_and_is_the_stated_one_at_the_detectable() -> None:
    values = np.random.default_rng(9).standard_normal(33)
    shift = detectable(values, 0.001, 9, POWER)
    assert power(values, 0.001, 9, shift) == pytest.approx(POWER)
    assert power(values, 0.001, 9, shift / 2) < POWER < power(values, 0.001, 9, 2 * shift)


def test_launches_without_any_noise_show_any_change() -> None:
    values = np.full(33, 0.01)
    assert detectable(values, 0.001, 9, POWER) == 0
    assert power(values, 0.001, 9, 0.0001) == 1


def test_several_models_are_corrected_for() -> None:
    """Twenty equals of one run: a p-value that one would be called different at is none among sixty."""
    rng = np.random.default_rng(11)
    launches = []
    for _ in range(33):
        one = dict(launch(rng))
        for number in range(20):
            one[f"M{number}"] = dict(launch(rng))["B"]
        launches.append(one)
    names = [f"M{number}" for number in range(20)]
    decisions = judge(launches, "A", names)
    assert [decision.candidate for decision in decisions] == names
    assert all(decision.family == 60 for decision in decisions)
    for decision in decisions:
        alone = judge(launches, "A", [decision.candidate])[0]
        for channel, one in decision.channels.items():
            assert one.p_adjusted >= alone.channels[channel].p_adjusted
            assert one.p_slower == alone.channels[channel].p_slower


def test_what_was_spent_on_the_looks_is_stated() -> None:
    decision = decided(12, 33)
    assert len(decision.error_spent) == decision.planned_looks
    assert list(decision.error_spent) == sorted(decision.error_spent)
    assert 0 < decision.error_spent[-1] <= decision.policy.alpha * (1 + 1e-9)


def test_the_noise_floor_is_the_baseline_against_itself() -> None:
    noise = decided(13, 33, effect=0.5).noise
    for one in noise.values():
        assert one.low <= 1 <= one.high
        assert not one.differs
        assert not one.copies


def test_a_copy_of_the_baseline_shows_what_two_openings_differ_by() -> None:
    rng = np.random.default_rng(14)
    launches = []
    for _ in range(33):
        one = launch(rng, between=0.03)
        launches.append({"A": one["A"], "copy": one["B"], "B": launch(rng)["B"]})
    split = noise_floor(launches, "A", Policy(), 33)["typical"]
    copies = judge(launches, "A", ["B"], control="copy")[0].noise["typical"]
    assert copies.copies
    assert copies.high - copies.low > 3 * (split.high - split.low)


def test_a_baseline_that_differs_from_itself_is_said() -> None:
    """A source that always measures one side worse: no verdict of such launches is worth anything."""
    rng = np.random.default_rng(15)
    launches = []
    for _ in range(46):
        one = launch(rng, between=0.001, interrupted=0)
        launches.append({"A": one["A"], "copy": one["A"] * 103 // 100, "B": one["B"]})
    noise = judge(launches, "A", ["B"], control="copy")[0].noise
    assert noise["typical"].differs


def channel(verdict: str) -> ChannelVerdict:
    template = decided(3, 8).channels["typical"]
    return dataclasses.replace(template, verdict=verdict)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("floor", "typical", "tail", "expected"),
    [
        ("ok", "ok", "ok", "ok"),
        ("ok", "ok", "inconclusive", "ok"),
        ("ok", "ok", "regressed", "regressed"),
        ("ok", "inconclusive", "ok", "inconclusive"),
        ("improved", "regressed", "ok", "regressed"),
        ("improved", "inconclusive", "inconclusive", "improved"),
        ("ok", "ok", "improved", "ok"),
        ("inconclusive", "inconclusive", "improved", "inconclusive"),
    ],
)
def test_one_verdict_of_the_channels(floor: str, typical: str, tail: str, expected: str) -> None:
    said = overall({"floor": channel(floor), "typical": channel(typical), "tail": channel(tail)})
    assert said == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": 0.0},
        {"beta": 0.9},
        {"confidence": 1.0},
        {"threshold": -0.01},
        {"threshold": math.nan},
        {"tail_threshold": -1.0},
        {"launches": 3},
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Policy(**wrong)  # type: ignore[arg-type]
