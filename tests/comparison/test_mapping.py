"""Tensors are paired by name, then by shape and value, and never by a guess."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeconv.comparison.assignment import assign
from edgeconv.comparison.mapping import map_inputs, map_outputs, plain_name
from edgeconv.errors import UsageError
from edgeconv.formats.base import TensorSpec

RNG = np.random.default_rng(2)


def _spec(name: str, shape: tuple[int | None, ...] = (1, 4), tensor: str | None = None) -> TensorSpec:
    return TensorSpec(name, "float32", shape, tensor)


def _values(count: int, shape: tuple[int, ...] = (1, 4)) -> list[np.ndarray]:
    return [RNG.normal(0, 1, shape).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("logits:0", "logits"),
        ("serving_default_Image:0", "image"),
        ("boxes:1", "boxes:1"),
        ("StatefulPartitionedCall:1", None),
        ("Identity_1", None),
        ("output_0", None),
        ("", None),
    ],
)
def test_decorations_are_taken_off(name: str, plain: str | None) -> None:
    assert plain_name(name) == plain


def test_names_decide_before_values() -> None:
    a, b = _values(2)
    found = map_outputs(
        [_spec("a"), _spec("b")], [_spec("b"), _spec("a")], [{"a": a, "b": b}], [{"a": b, "b": a}]
    )
    assert found.names == {"a": "a", "b": "b"}


def test_decorated_and_inner_names_are_recognised() -> None:
    found = map_outputs(
        [_spec("logits"), _spec("boxes", tensor="head/boxes:0")], [_spec("head/boxes"), _spec("Logits:0")]
    )
    assert found.names == {"logits": "Logits:0", "boxes": "head/boxes"}


@settings(deadline=None, max_examples=60)
@given(st.permutations(range(5)), st.integers(0, 1000))
def test_any_order_of_lost_names_is_found_again_under_noise(order: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = [rng.normal(0, 1, (1, 60)) for _ in range(5)]
    reference = {f"r{i}": value for i, value in enumerate(values)}
    candidate = {f"Identity_{i}": values[j] + rng.normal(0, 0.05, (1, 60)) for i, j in enumerate(order)}
    found = map_outputs(
        [_spec(name, (1, 60)) for name in reference],
        [_spec(name, (1, 60)) for name in candidate],
        [reference],
        [candidate],
    )
    assert found.names == {f"r{j}": f"Identity_{i}" for i, j in enumerate(order)}
    assert {pair.how for pair in found.pairs} == {"value"}


def test_shapes_alone_decide_where_they_can() -> None:
    found = map_outputs(
        [_spec("a", (1, 4)), _spec("b", (1, None, 4))], [_spec("Identity", (1, 9, 4)), _spec("Identity_1")]
    )
    assert found.names == {"a": "Identity_1", "b": "Identity"}


def test_values_that_do_not_decide_are_an_error_with_the_flag() -> None:
    a, b, c, d = _values(4)
    reference, candidate = [_spec("a"), _spec("b")], [_spec("Identity"), _spec("Identity_1")]
    with pytest.raises(UsageError) as caught:
        map_outputs(reference, candidate, [{"a": a, "b": b}], [{"Identity": c, "Identity_1": d}])
    assert "--map a=Identity" in (caught.value.hint or "")
    with pytest.raises(UsageError):
        map_outputs(reference, candidate)
    near = [{"Identity": a, "Identity_1": a + np.float32(0.1)}]
    with pytest.raises(UsageError):
        map_outputs(reference, candidate, [{"a": a, "b": a + np.float32(0.05)}], near)


def test_one_tensor_under_two_names_may_have_either_partner() -> None:
    (a,) = _values(1)
    found = map_outputs(
        [_spec("a"), _spec("b")],
        [_spec("Identity"), _spec("Identity_1")],
        [{"a": a, "b": a}],
        [{"Identity": a, "Identity_1": a}],
    )
    assert len(found.pairs) == 2


def test_what_the_user_says_wins() -> None:
    a, b = _values(2)
    found = map_outputs(
        [_spec("a")], [_spec("a"), _spec("b")], [{"a": a}], [{"a": a, "b": b}], given={"a": "b"}
    )
    assert found.names == {"a": "b"}
    assert found.unmatched_candidate == ("a",)
    with pytest.raises(UsageError, match="no output 'z'"):
        map_outputs([_spec("a")], [_spec("a")], given={"z": "a"})


def test_an_output_of_a_shape_that_the_candidate_lacks_stays_unmatched() -> None:
    found = map_outputs([_spec("a", (1, 4)), _spec("b", (1, 5))], [_spec("Identity", (1, 4))])
    assert found.names == {"a": "Identity"}
    assert found.unmatched_reference == ("b",)


def test_inputs_are_paired_by_name_then_by_shape_then_by_trying() -> None:
    reference = [_spec("image", (1, 8)), _spec("x"), _spec("y")]
    candidate = [_spec("args_0", (1, 8)), _spec("args_1"), _spec("args_2")]
    with pytest.raises(UsageError, match="which input"):
        map_inputs(reference, candidate)
    right = {"image": "args_0", "x": "args_2", "y": "args_1"}
    found = map_inputs(reference, candidate, distance_of=lambda way: 0.0 if way == right else 1.4)
    assert found.names == right
    with pytest.raises(UsageError, match="which input"):
        map_inputs(reference, candidate, distance_of=lambda way: 0.0)
    assert map_inputs(reference[:2], candidate[:2]).names == {"image": "args_0", "x": "args_1"}


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5), st.integers(0, 2), st.integers(0, 10_000))
def test_the_assignment_is_the_cheapest_of_all(rows: int, more: int, seed: int) -> None:
    cost = np.random.default_rng(seed).random((rows, rows + more))
    chosen = assign(cost)
    assert len(set(chosen)) == rows
    ways = itertools.permutations(range(rows + more), rows)
    best = min(sum(cost[row, column] for row, column in enumerate(way)) for way in ways)
    assert sum(cost[row, column] for row, column in enumerate(chosen)) == pytest.approx(best)


def test_more_rows_than_columns_have_no_assignment() -> None:
    with pytest.raises(ValueError, match="cannot"):
        assign(np.zeros((2, 1)))
