"""Verdicts in words, as JUnit XML and as Markdown: nothing that a name holds breaks them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from simulated_launches import launch
from slower_models import tflite_chain

from edgeconv.devices.base import RuntimeChoice
from edgeconv.devices.registry import find_device
from edgeconv.latency.culprit import Culprit, Part
from edgeconv.latency.decisions import Policy, judge
from edgeconv.latency.plan import LaunchPlan
from edgeconv.latency.regress import Comparison, Quantity, _latency
from edgeconv.latency.sources import BASELINE, CANDIDATE, Side
from edgeconv.reports.junit import junit
from edgeconv.reports.markdown import markdown
from edgeconv.reports.verdicts import amount, as_document, change, sentences, share, why


def comparison(effect: float = 0.0, count: int = 40, name: str = "model.tflite") -> Comparison:
    """A pair whose launches are drawn; sizes and the rest are equal."""
    rng = np.random.default_rng(2)
    launches = []
    for _ in range(count):
        drawn = launch(rng, effect=effect, between=0.004)
        launches.append({BASELINE: drawn["A"], CANDIDATE: drawn["B"]})
    policy = Policy(threshold=0.05)
    (decision,) = judge(launches, BASELINE, [CANDIDATE], policy)
    latency = _latency(decision, launches, policy, 0.0016)
    same = Quantity("load", "ok", 1e6, 1e6, 1.0, 0.99, 1.01, 0.1, 0.0002, 1.0, 0.02, 28)
    rest = (same, dataclasses.replace(same, name="memory"))
    size = Quantity("bytes", "ok", 1e6, 1e6, 1.0, 1.0, 1.0, 0.05, 0.0, 1.0, 0.05, 1, "exact")
    side = Side(Path(name), "tflite", find_device("local"), RuntimeChoice("litert", "2.3.0"))
    return Comparison(
        name=name,
        baseline=side,
        candidate=side,
        verdict=decision.verdict,
        decision=decision,
        quantities=(latency, *rest, size),
        way="one process",
        plan=LaunchPlan(5, 16, 10, processor_time=False),
        seconds=3.0,
        launches=launches,
        copies=launches[:8],
    )


def test_numbers_have_units_that_a_person_reads() -> None:
    assert amount("latency", 52_712.0) == "52.7 µs"
    assert amount("memory", 17_600_000) == "17.6 MB"
    assert amount("load", float("nan")) == "?"
    assert amount("latency", 999_600.0) == "1 ms"
    assert change(1.0231) == "+2.31 %"
    assert change(float("inf")) == "?"
    assert share(0.002) == "0.2 %"
    assert share(1.0, 0) == "100 %"


def test_a_regression_is_a_failure_with_its_reason() -> None:
    slower = comparison(0.2)
    assert slower.verdict == "regressed"
    suite = ElementTree.fromstring(junit([slower]))[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "1", "0")
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert "latency +" in str(failure.get("message"))
    assert "🔴 **regressed**" in markdown([slower])


def test_an_ok_passes_and_says_what_it_rests_on() -> None:
    equal = comparison()
    assert equal.verdict == "ok"
    suite = ElementTree.fromstring(junit([equal]))[0]
    assert (suite.get("failures"), suite.get("errors"), suite.get("skipped")) == ("0", "0", "0")
    assert "within ±5 %" in why(equal)
    text = " ".join(sentences(equal))
    assert "probability of at most 0.2 %" in text
    assert "nine times of ten" in text


def test_an_inconclusive_latency_is_an_error_and_no_pass() -> None:
    open_ = comparison(count=4)
    assert open_.verdict == "inconclusive"
    suite = ElementTree.fromstring(junit([open_]))[0]
    assert (suite.get("errors"), suite.get("failures")) == ("1", "0")
    assert "too few" in why(open_)


def test_the_document_says_everything_but_the_samples(tmp_path: Path) -> None:
    path = tflite_chain(tmp_path / "model.tflite", 1)
    document = as_document(comparison(0.2, name=str(path)))
    assert document["baseline"]["bytes"] == path.stat().st_size
    assert document["verdict"] == "regressed"
    assert document["latency"]["policy"]["alpha"] == 0.002
    assert "launches" in document["latency"]
    assert "copies" not in document


@given(st.text(max_size=40))
def test_no_name_breaks_a_report(name: str) -> None:
    culprit = Culprit((Part(name, "op, new", 5000.0, 4000.0, 6000.0, 0.0, 5000.0),), (name,), (name,))
    one = dataclasses.replace(comparison(0.2, count=14, name="x"), name=name, culprit=culprit)
    ElementTree.fromstring(junit([one]))
    page = markdown([one])
    heads = [line for line in page.splitlines() if line.startswith("| ") and "**" in line]
    assert len(heads) == 1
    assert len(re.findall(r"(?<!\\)\|", heads[0])) == 7
    assert "<script" not in page
