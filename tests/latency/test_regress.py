"""Verdicts on real artifacts, slower by work that is counted."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from latency.test_sources import side
from slower_models import onnx_chain, tflite_chain

from edgeconv.errors import UsageError
from edgeconv.latency.decisions import Policy, judge_values
from edgeconv.latency.regress import SHARES, Thresholds, compare, whole, with_noise, worst
from edgeconv.latency.sequential import LOOKS
from edgeconv.latency.sources import BASELINE, COPY

ANY = st.sampled_from(["regressed", "ok", "improved", "inconclusive"])
POLICY = Policy(threshold=0.05, seconds=12)


@pytest.mark.slow
@pytest.mark.parametrize("maker", [onnx_chain, tflite_chain], ids=["onnx", "tflite"])
def test_a_fifth_more_work_is_a_regression_of_the_latency_alone(maker: object, tmp_path: Path) -> None:
    suffix = "onnx" if maker is onnx_chain else "tflite"
    before = side(maker(tmp_path / f"before.{suffix}", 20))  # type: ignore[operator]
    now = side(maker(tmp_path / f"now.{suffix}", 24))  # type: ignore[operator]
    found = compare("pair", before, now, POLICY)
    assert found.verdict == "regressed"
    latency, _, memory, size = found.quantities
    assert latency.verdict == "regressed"
    assert latency.low <= 1.2 * 1.03
    assert latency.high >= 1.2 * 0.9
    assert 1.05 < latency.ratio < 1.35
    assert memory.verdict in ("ok", "inconclusive")
    assert size.verdict == "ok"
    assert found.way == "one process"
    assert set(found.copies[0]) == {BASELINE, COPY}
    assert len(found.copies) >= LOOKS[0]


@pytest.mark.slow
def test_the_same_file_is_no_regression_and_what_could_be_seen_is_said(tmp_path: Path) -> None:
    same = side(tflite_chain(tmp_path / "same.tflite", 20))
    found = compare("pair", same, same, POLICY)
    assert found.quantities[0].verdict in ("ok", "inconclusive")
    assert found.verdict != "regressed"
    assert found.quantities[3].ratio == 1.0
    assert found.decision.channels["typical"].detectable > 0
    assert found.decision.noise["typical"].copies


@pytest.mark.slow
def test_more_weights_are_a_regression_of_size_and_memory(tmp_path: Path) -> None:
    small = side(tflite_chain(tmp_path / "small.tflite", 3, size=64))
    large = side(tflite_chain(tmp_path / "large.tflite", 3, size=1024))
    found = compare("pair", small, large, dataclasses.replace(POLICY, seconds=20))
    verdicts = {one.name: one.verdict for one in found.quantities}
    assert verdicts["bytes"] == "regressed"
    assert verdicts["memory"] == "regressed"
    assert verdicts["latency"] == "regressed"


def test_alpha_is_shared_by_quantities_and_not_exceeded() -> None:
    assert sum(SHARES.values()) == pytest.approx(1.0)


def test_a_baseline_that_differs_from_itself_leaves_no_verdict_but_proven_equality() -> None:
    rng = np.random.default_rng(3)

    def launches(effect: float, names: tuple[str, str], count: int = 24) -> list[dict[str, np.ndarray]]:
        made = []
        for _ in range(count):
            one = rng.normal(50_000, 200, (8, 5)).astype(np.int64)
            two = rng.normal(50_000 * (1 + effect), 200, (8, 5)).astype(np.int64)
            made.append({names[0]: one, names[1]: two})
        return made

    from edgeconv.latency.decisions import judge
    from edgeconv.latency.sources import CANDIDATE

    (decision,) = judge(launches(0.1, (BASELINE, CANDIDATE)), BASELINE, [CANDIDATE])
    assert decision.verdict == "regressed"
    fair, notes = with_noise(decision, launches(0.0, (BASELINE, COPY)), Policy())
    assert fair.verdict == "regressed"
    assert notes == ()
    unfair, notes = with_noise(decision, launches(0.1, (BASELINE, COPY)), Policy())
    assert unfair.verdict == "inconclusive"
    assert "differs from itself" in notes[0]


@given(latency=ANY, others=st.lists(ANY, min_size=3, max_size=3))
def test_one_regression_makes_the_pair_one_and_only_the_latency_can_leave_it_open(
    latency: str, others: list[str]
) -> None:
    said = [("latency", latency), *zip(("load", "memory", "bytes"), others, strict=True)]
    verdict = whole(said)  # type: ignore[arg-type]
    assert (verdict == "regressed") == ("regressed" in (latency, *others))
    assert (verdict == "inconclusive") == (latency == "inconclusive" and "regressed" not in others)


@given(st.lists(ANY, min_size=1))
def test_the_worst_pair_speaks_for_the_call(verdicts: list[str]) -> None:
    found = worst(verdicts)  # type: ignore[arg-type]
    order = ["ok", "improved", "inconclusive", "regressed"]
    assert found == max(verdicts, key=order.index)


@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan])
def test_thresholds_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(UsageError):
        Thresholds(memory=value)


def test_values_of_one_channel_are_judged_like_latencies() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.002, 28)
    assert judge_values("load", noise, Policy(), 7).verdict == "ok"
    assert judge_values("load", noise + 0.1, Policy(), 7).verdict == "regressed"
    assert judge_values("load", noise - 0.1, Policy(), 7).verdict == "improved"
    assert judge_values("load", noise[:7] + 0.1, Policy(), 7).verdict == "inconclusive"
    assert judge_values("memory", np.zeros(28), Policy(), 7).verdict == "ok"
