"""``edgeconv drill``: what it prints, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from edgeconv.cli.drill import _duration


def test_times_have_a_unit() -> None:
    assert [_duration(text) for text in ("40us", "40µs", "1ms", "0.02s")] == pytest.approx(
        [40e-6, 40e-6, 1e-3, 0.02]
    )


@pytest.mark.parametrize(
    "wrong",
    [["--size", "40"], ["--size", "ms"], ["--effects", "a"], ["--loops", "1.5"], ["--effects", "200"]],
)
def test_a_wrong_list_is_refused(edgeconv: Callable[..., Any], wrong: list[str]) -> None:
    ran = edgeconv("drill", *wrong)
    assert ran.code == 2, ran
    assert not ran.out


@pytest.mark.slow
@pytest.mark.xdist_group("latency")
def test_the_document_has_rates_with_intervals_and_the_rules_of_others(edgeconv: Callable[..., Any]) -> None:
    given = ["--size", "40us", "--effects", "0,50", "--loops", "0", "--rounds", "1", "--seed", "1"]
    ran = edgeconv("drill", *given, "--minutes", "3", "--json")
    said = json.loads(ran.out)
    assert said["summary"]["found"]["50"]["hits"] == 1
    assert said["summary"]["false_alarms"]["of"] == 2
    assert set(said["summary"]["others"]["measured together"]) >= {"criterion", "asv", "edgeconv"}
    assert any("+50 % was found each time" in line for line in said["sentences"])
    assert ran.code in (0, 3)
