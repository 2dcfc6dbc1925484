"""What differs at all, and by how many steps, whatever a tolerance allows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeconv.comparison.exactness import Exactness, exactness
from edgeconv.comparison.gate import judge
from edgeconv.comparison.observation import Observation, ProbeResult
from edgeconv.comparison.tolerances import TOLERANCES
from edgeconv.formats.base import Contract, Quantization, TensorSpec

REAL = TensorSpec("y", "float32", (None,))
STORED = TensorSpec("y", "int8", (None,), None, Quantization((0.25,), (3,)))


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_the_same_values_are_exact_nan_included() -> None:
    found = exactness([floats(1, np.nan, np.inf)], [floats(1, np.nan, np.inf)], REAL, REAL)
    assert found is not None
    assert (found.differing, str(found)) == (0, "exact")


def test_real_values_without_a_step_are_counted() -> None:
    found = exactness([floats(1, 2), floats(3)], [floats(1, 2.5), floats(4)], REAL, REAL)
    assert str(found) == "2 of 3 values differ"


def test_stored_values_differ_by_whole_steps() -> None:
    one, two = np.array([0, 5, -128], np.int8), np.array([1, 5, 127], np.int8)
    found = exactness([one], [two], STORED, STORED)
    assert found is not None
    assert (found.differing, found.elements, found.step, found.most_steps) == (2, 3, 0.25, 255)
    assert str(found) == "2 of 3 values differ, by 255 steps of 0.25 at most"


def test_less_than_half_a_step_is_not_called_no_step() -> None:
    assert str(Exactness(3, 10, 0.25, 0)) == "3 of 10 values differ, by less than half a step of 0.25"


def test_real_values_that_were_whole_numbers_differ_by_the_steps_that_the_file_says() -> None:
    found = exactness([floats(0.5, 1.0)], [floats(0.5, 1.25)], REAL, REAL, step=0.25)
    assert str(found) == "1 of 2 values differ, by 1 step of 0.25 at most"


@pytest.mark.parametrize("other", [TensorSpec("y", "int8", (None,), None, Quantization((0.5,), (3,))), REAL])
def test_values_that_are_stored_otherwise_cannot_be_the_same(other: TensorSpec) -> None:
    stored = np.zeros(2, np.int8)
    assert exactness([stored], [stored.astype(other.dtype)], STORED, other) is None


@given(arrays.arrays(np.int8, 9), st.lists(st.integers(0, 8), max_size=9, unique=True))
def test_what_was_moved_by_one_step_is_found_and_no_more(values: np.ndarray, moved: list[int]) -> None:
    other = values.copy()
    other[moved] += np.where(values[moved] == 127, -1, 1).astype(np.int8)
    found = exactness([values], [other], STORED, STORED)
    assert found is not None
    assert (found.differing, found.most_steps) == (len(moved), 1 if moved else 0)


def test_the_gate_says_it_of_each_output_and_judges_by_the_tolerance() -> None:
    one = Observation("a", (ProbeResult("p", {"y": floats(*range(100))}),))
    two = Observation("b", (ProbeResult("p", {"y": floats(*range(99), 99.5)}),))
    contract = Contract((), (REAL,))
    verdict = judge(one, two, contract, contract, TOLERANCES["int8"], steps={"y": 0.5})
    (output,) = verdict.outputs
    assert verdict.verdict == "pass"
    assert (output.differing, output.elements, output.step, output.most_steps) == (1, 100, 0.5, 1)
