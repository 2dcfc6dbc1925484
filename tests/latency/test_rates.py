"""Rates of decisions, with exact intervals, and what is counted as wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from edgeconv.latency.channels import Launch
from edgeconv.latency.decisions import Policy
from edgeconv.latency.rates import CUT, LEVELS, Trial, cut, more_often_than_stated, rate, summary
from edgeconv.latency.sources import BASELINE, CANDIDATE


def launches(ratio: float, count: int, seed: int, shape: tuple[int, int] = (4, 3)) -> list[Launch]:
    rng = np.random.default_rng(seed)

    def side(factor: float) -> np.ndarray:
        return (100_000 * factor * np.exp(0.005 * rng.standard_normal(shape))).astype(np.int64)

    return [{BASELINE: side(1.0), CANDIDATE: side(ratio)} for _ in range(count)]


def trial(verdict: str, effect: float = 0.0, seconds: float = 2.0, seed: int = 0, count: int = 24) -> Trial:
    true = 1 + effect / 100
    return Trial(
        model="m",
        effect=effect,
        true=true,
        loops=0,
        verdict=verdict,
        seconds=seconds,
        low=true - 0.01,
        high=true + 0.01,
        detectable=0.01,
        launches=launches(true, count, seed),
        load=1.0,
    )


def test_none_of_598_is_the_least_that_shows_half_a_percent() -> None:
    assert rate(0, 598).high <= 0.005 < rate(0, 597).high
    assert rate(0, 598).low == 0
    assert rate(7, 7).high == 1
    assert (rate(0, 0).low, rate(0, 0).high) == (0, 1)


@given(st.integers(1, 300), st.data())
def test_the_ends_are_where_as_few_or_as_many_have_a_probability_of_a_fortieth(
    of: int, data: st.DataObject
) -> None:
    hits = data.draw(st.integers(0, of))
    found = rate(hits, of)
    assert found.low <= hits / of <= found.high
    error = 0.05 if hits in (0, of) else 0.025
    if hits:
        assert binom.sf(hits - 1, of, found.low) == pytest.approx(error)
    if hits < of:
        assert binom.cdf(hits, of, found.high) == pytest.approx(error)


def test_a_change_called_of_equals_is_wrong_either_way() -> None:
    said = summary([trial("ok"), trial("regressed"), trial("improved"), trial("inconclusive")], 0.01)
    assert (said.false_alarms.hits, said.false_alarms.of) == (2, 4)
    (cell,) = said.cells
    assert (cell.wrong, cell.right.hits) == (2, 1)


def test_ok_is_wrong_from_the_threshold_on_and_right_enough_below_it() -> None:
    below, at = (
        summary([trial("ok", effect), trial("improved", effect)], 0.01).cells[0] for effect in (0.5, 1.0)
    )
    assert (below.wrong, at.wrong) == (1, 2)


def test_a_wrong_decision_contradicts_the_rates_only_where_chance_does_not_explain_it() -> None:
    """One of equals may be wrong in 500, so that one of 40 is no contradiction, and two are."""
    policy = Policy()

    def said(wrong: int, effect: float, verdict: str) -> dict[str, tuple[int, int, float]]:
        right = "regressed" if effect else "ok"
        trials = [trial(verdict, effect)] * wrong + [trial(right, effect)] * (40 - wrong)
        return more_often_than_stated(summary(trials, policy.threshold, 1).cells, policy)

    assert said(1, 0.0, "improved") == {}
    assert said(2, 0.0, "regressed") == {"equals called changed": (2, 40, policy.alpha)}
    assert said(2, 1.0, "ok") == {}
    assert list(said(6, 1.0, "ok")) == ["changes called ok or improved"]
    assert said(40, 2.0, "inconclusive") == {}


def test_what_was_found_late_is_found_and_not_within_five_seconds() -> None:
    said = summary([trial("regressed", 2, 4.9), trial("regressed", 2, 5.1), trial("ok", 2)], 0.01)
    assert (said.found[2].hits, said.found_within_5_s[2].hits, said.found[2].of) == (2, 1, 3)


def test_launches_are_cut_in_order_into_runs_of_one_shape() -> None:
    other = Trial(**{**trial("ok").__dict__, "launches": launches(1.0, 30, 5, (2, 1))})
    runs = list(cut([trial("ok", count=20, seed=1), trial("ok", count=8, seed=2), other]))
    assert [len(run) for run in runs] == [CUT, CUT]
    assert [run[0][BASELINE].shape for run in runs] == [(4, 3), (2, 1)]


def test_the_levels_are_kept_on_equals_and_passed_by_changes_called_equals() -> None:
    equals = summary([trial("ok", seed=seed) for seed in range(60)], 0.01).calibration
    assert [equals[level].of for level in LEVELS] == [60] * 3
    assert all(equals[level].low <= level for level in LEVELS)
    slower = [Trial(**{**trial("ok", 5, seed=seed).__dict__, "effect": 0.0}) for seed in range(10)]
    assert all(each.hits == 10 for each in summary(slower, 0.01).calibration.values())


def test_the_rules_of_others_judge_the_same_samples() -> None:
    said = summary([trial("regressed", 20), trial("ok")], 0.01).others
    for rules in said.values():
        assert {name: rates[20].hits for name, rates in rules.items()} == dict.fromkeys(rules, 1)
        assert set(rules) > {"edgeconv", "mean", "asv"}
    assert said["measured together"]["mean"][0].hits == 0


def test_nothing_is_said_of_nothing() -> None:
    said = summary([], 0.01)
    assert said.cells == []
    assert said.false_alarms.of == 0
    assert math.isclose(said.false_alarms.high, 1)
