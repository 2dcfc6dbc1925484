"""Tolerances are stated by precision and can be overridden by a word on the command line."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeconv.comparison.tolerances import (
    KEYS,
    TOLERANCES,
    Tolerance,
    parse_tolerance,
    parse_tolerances,
    tolerance_for,
)
from edgeconv.conversions.base import PRECISIONS
from edgeconv.errors import ExitCode, UsageError


def test_every_precision_has_a_tolerance() -> None:
    assert set(TOLERANCES) == set(PRECISIONS)


def test_a_bare_number_bounds_elements_alone() -> None:
    found = parse_tolerance("1e-3")
    assert (found.precision, found.abs, found.rel) == ("fp32", 1e-3, 1e-3)
    assert found.sqnr < -100
    assert found.cosine == -1.0


def test_bounds_are_overridden_one_by_one() -> None:
    found = parse_tolerance("int8:sqnr=15,cosine=0.98")
    assert found == dataclasses.replace(TOLERANCES["int8"], sqnr=15.0, cosine=0.98)
    found = parse_tolerance("fp32:abs=1e-4, rel=1e-3")
    assert (found.abs, found.rel, found.sqnr) == (1e-4, 1e-3, TOLERANCES["fp32"].sqnr)
    assert parse_tolerance("fp32:allow_nan=1").allow_nan is True


def test_a_precision_keeps_its_own_bounds_and_the_particular_wins_over_the_general() -> None:
    overrides = parse_tolerances(["rel=0.5", "int8:rel=0.1"])
    assert tolerance_for("int8", overrides).rel == 0.1
    assert tolerance_for("fp16", overrides).rel == 0.5
    assert tolerance_for("mixed").precision == "int8"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no number"),
        ("abc", "no number"),
        ("nan", "no bound"),
        ("inf", "no bound"),
        ("-1", "negative"),
        ("fp32:", "no number"),
        ("fp23:1e-3", "did you mean 'fp32'"),
        ("int8:sqrn=3", "did you mean 'sqnr'"),
        ("int8:sqnr", "no number"),
        ("int8:sqnr=3,cosine", "KEY=NUMBER"),
        ("int8:cosine=1.5", "between -1 and 1"),
        ("int8:mismatched=2", "share"),
        ("int8:sqnr=1,sqnr=2", "twice"),
        ("fp32:allow_nan=maybe", "neither"),
    ],
)
def test_junk_is_refused_with_an_example(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_tolerance(text)
    assert said in str(caught.value)
    assert "--tolerance" in (caught.value.hint or "")
    assert caught.value.exit_code == ExitCode.USAGE


@settings(deadline=None, max_examples=60)
@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert isinstance(parse_tolerance(text), Tolerance)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(list(TOLERANCES)), st.sampled_from(KEYS), st.floats(0, 1))
def test_what_is_written_is_read(precision: str, key: str, value: float) -> None:
    if key == "allow_nan":
        return
    assert getattr(parse_tolerance(f"{precision}:{key}={value!r}"), key) == value


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UsageError, match="int4"):
        tolerance_for("int4")
