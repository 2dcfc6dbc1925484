"""Metrics are finite where they are defined, and never fooled by the type they are computed in."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeconv.comparison.metrics import METRICS, all_metrics, difference, measure

floats = arrays.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]),
    arrays.array_shapes(max_dims=3, max_side=5),
    elements=st.floats(-6e4, 6e4, width=16),
)
integers = st.sampled_from([np.int8, np.uint8, np.int32, np.uint64, np.int64])


@settings(deadline=None, max_examples=60)
@given(floats)
def test_equal_arrays_are_perfect(values: np.ndarray) -> None:
    numbers = measure(values, values.copy())
    assert (numbers["max_abs"], numbers["max_rel"], numbers["rms"], numbers["mismatched"]) == (0, 0, 0, 0)
    assert numbers["cosine"] == pytest.approx(1.0)
    assert numbers["sqnr_db"] is None, "infinite"
    assert numbers["top1"] in (None, 1.0)


@settings(deadline=None, max_examples=60)
@given(floats, st.data())
def test_numbers_are_those_of_the_definitions_in_float64(values: np.ndarray, data: st.DataObject) -> None:
    other = data.draw(arrays.arrays(values.dtype, values.shape, elements=st.floats(-6e4, 6e4, width=16)))
    numbers = measure(values, other)
    error = np.abs(values.astype(np.float64) - other.astype(np.float64))
    assert numbers["max_abs"] == pytest.approx(error.max())
    assert numbers["rms"] == pytest.approx(math.sqrt((error**2).mean()), rel=1e-9)
    assert numbers["mismatched"] == pytest.approx((error != 0).mean())
    assert numbers["cosine"] is None or -1 <= numbers["cosine"] <= 1
    signal = (values.astype(np.float64) ** 2).sum()
    if signal > 0 and (error**2).sum() > 0:
        assert numbers["sqnr_db"] == pytest.approx(10 * math.log10(signal / (error**2).sum()), abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(floats, st.floats(1e-3, 1e3))
def test_ratios_do_not_depend_on_scale(values: np.ndarray, factor: float) -> None:
    one = values.astype(np.float64)
    two = np.roll(one, 1)
    first, second = measure(one, two), measure(one * factor, two * factor)
    for name in ("cosine", "sqnr_db", "correlation", "max_rel"):
        assert (first[name] is None) == (second[name] is None)
        if first[name] is not None:
            assert second[name] == pytest.approx(first[name], rel=1e-6, abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(integers, integers, st.data())
def test_integer_differences_are_exact_for_any_widths(
    one: type[np.integer], two: type[np.integer], data: st.DataObject
) -> None:
    a = data.draw(st.integers(int(np.iinfo(one).min), int(np.iinfo(one).max)))
    b = data.draw(st.integers(int(np.iinfo(two).min), int(np.iinfo(two).max)))
    found = difference(np.array([a], one), np.array([b], two))
    assert found[0] == float(abs(a - b))


@pytest.mark.parametrize("low", [-1, -(2**63)])
def test_a_distance_of_more_than_64_bits_does_not_wrap_around(low: int) -> None:
    found = difference(np.array([low, 5]), np.array([2**64 - 1, 7], np.uint64))
    assert found.tolist() == [float(2**64 - 1 - low), 2.0]


def test_nothing_is_broadcast() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        measure(np.zeros((1, 4)), np.zeros((1, 4, 1)))


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((0, 3), np.float32),
        np.array([b"a", "b"], dtype=object),
        np.array(["a", "bc"]),
        np.float32([np.nan, np.inf, 1]),
        np.zeros(4, np.float32),
        np.array(True),
        np.array([1 + 2j, 3j], np.complex64),
        np.float64([1e308, -1e308]),
        np.float32([1e-45, 0]),
    ],
    ids=["empty", "objects", "text", "nan", "zeros", "bool", "complex", "huge", "tiny"],
)
def test_odd_arrays_give_numbers_or_none_and_raise_nothing(values: np.ndarray) -> None:
    other = values if values.dtype.kind in "OU" else -values if values.dtype.kind != "b" else ~values
    for candidate in (values, other):
        numbers = measure(values, candidate)
        assert all(number is None or math.isfinite(number) for number in numbers.values())


def test_a_dead_candidate_has_nothing_in_common_with_a_live_reference() -> None:
    live, dead = np.float32([1, 2, 3]), np.zeros(3, np.float32)
    assert measure(live, dead)["cosine"] == 0.0
    assert measure(live, dead)["correlation"] == 0.0
    assert measure(dead, dead)["cosine"] == 1.0
    assert measure(dead, live)["max_rel"] is None


def test_a_constant_offset_hides_from_the_cosine_but_not_from_the_correlation() -> None:
    rng = np.random.default_rng(0)
    one, two = 100 + rng.normal(0, 1, 500), 100 + rng.normal(0, 1, 500)
    numbers = measure(one, two)
    assert numbers["cosine"] is not None
    assert numbers["cosine"] > 0.999
    assert abs(numbers["correlation"] or 1.0) < 0.2


def test_a_constant_reference_has_no_correlation_in_spite_of_rounding() -> None:
    values = np.full(1000, 0.1, np.float32)
    assert measure(values, values * np.float32(1.5))["correlation"] is None


def test_ties_for_the_top_class_count_as_agreement() -> None:
    assert measure(np.float32([[1, 5, 2]]), np.float32([[1, 4, 4]]))["top1"] == 1.0
    assert measure(np.float32([[1, 5, 2]]), np.float32([[4, 1, 4]]))["top1"] == 0.0


def test_every_metric_says_its_formula() -> None:
    assert set(METRICS) <= set(all_metrics())
    for part in METRICS.values():
        assert len((part.compute.__doc__ or "").strip()) > 20
        assert part.better in ("lower", "higher")
