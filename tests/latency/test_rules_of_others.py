"""The rules of other tools, each on samples whose answer under its own definition is plain."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_launches import launch

from edgeconv.latency.rules_of_others import RULES, one_after_the_other, together


def sides(factor: float, noise: float = 0.002) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(1)
    base, other = ([rng.normal(1000, 1000 * noise, 40) for _ in range(12)] for _ in range(2))
    return base, [factor * launch for launch in other]


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_finds_a_change_of_a_fifth_and_passes_an_improvement(rule: str) -> None:
    assert RULES[rule](*sides(1.2))
    assert not RULES[rule](*sides(0.8))


@pytest.mark.parametrize(
    ("rule", "passes", "finds"),
    [
        ("mean", 1.045, 1.055),
        ("pytest_benchmark", 1.045, 1.055),
        ("criterion", 1.008, 1.013),
        ("asv", 1.095, 1.105),
        ("u_test", 1.0, 1.005),
        ("u_test_raw", 1.0, 1.005),
    ],
)
def test_the_threshold_of_each(rule: str, passes: float, finds: float) -> None:
    assert not RULES[rule](*sides(passes))
    assert RULES[rule](*sides(finds))


def test_an_outlier_that_moves_the_mean_fools_the_mean_alone() -> None:
    base, other = sides(1.0)
    other[3][5] = 1e6
    assert RULES["mean"](base, other)
    assert not any(RULES[rule](base, other) for rule in RULES if rule != "mean")


def test_launches_that_shift_together_fool_a_test_on_single_inferences() -> None:
    """Why launches are the unit: one shift a launch is one observation, however many samples it has."""
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(60):
        launches = [launch(rng, between=0.03, interrupted=0.0, bursts=8) for _ in range(8)]
        alarms += RULES["u_test_raw"](*together(launches, "A", "B"))
    assert alarms / 60 > 0.15


def test_one_after_the_other_takes_the_baseline_of_the_first_half_and_the_candidate_of_the_second() -> None:
    launches = [{"A": np.full((2, 2), number), "B": np.full((2, 2), -number)} for number in range(4)]
    base, other = one_after_the_other(launches, "A", "B")
    assert [int(samples[0]) for samples in base] == [0, 1]
    assert [int(samples[0]) for samples in other] == [-2, -3]
    base, other = together(launches, "A", "B")
    assert len(base) == len(other) == 4
