"""Observing: what a session gives is kept as it was, and checked to come again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pytest

from edgeconv.comparison.observation import adapt_inputs, load_observation, observe, repeats, save_observation
from edgeconv.comparison.probes import Probe
from edgeconv.errors import UsageError
from edgeconv.formats.base import Quantization, TensorSpec

Arrays = Mapping[str, np.ndarray]


class NumpySession:
    """A session whose model is a Python function of arrays."""

    def __init__(
        self, inputs: tuple[TensorSpec, ...], compute: Callable[[Arrays], dict[str, np.ndarray]]
    ) -> None:
        self.inputs = inputs
        self.outputs: tuple[TensorSpec, ...] = ()
        self._compute = compute

    def infer(self, inputs: Arrays) -> dict[str, np.ndarray]:
        return self._compute(inputs)

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


X = TensorSpec("x", "float32", (None, 2))
ONE = Probe("one", {"x": np.float32([[1, 2]])})
TWO = Probe("two", {"x": np.float32([[1, 2], [3, 4]])}, optional=True)


def test_outputs_are_copies_of_what_the_session_may_overwrite() -> None:
    memory = np.zeros((1, 2), np.float32)

    def compute(inputs: Arrays) -> dict[str, np.ndarray]:
        memory[:] = inputs["x"]
        return {"y": memory}

    probes = [ONE, Probe("three", {"x": np.float32([[7, 8]])})]
    seen = observe(NumpySession((X,), compute), probes)
    assert seen.outputs[0]["y"].tolist() == [[1, 2]]
    assert seen.unstable == ()


def test_a_random_op_and_kept_state_are_seen() -> None:
    rng = np.random.default_rng(0)
    calls: list[int] = []

    def compute(inputs: Arrays) -> dict[str, np.ndarray]:
        calls.append(1)
        return {"a": inputs["x"], "b": rng.random(3), "count": np.int64(len(calls))}

    assert observe(NumpySession((X,), compute), [ONE]).unstable == ("b", "count")


def test_a_switch_is_repeated_in_each_of_its_settings() -> None:
    rng = np.random.default_rng(0)
    switch = TensorSpec("training", "bool", ())

    def compute(inputs: Arrays) -> dict[str, np.ndarray]:
        return {"y": rng.random(3) if inputs["training"] else np.ones(3)}

    probes = [Probe(str(flag), {"training": np.array(flag)}) for flag in (False, True)]
    seen = observe(NumpySession((switch,), compute), probes)
    assert [result.unstable for result in seen.results] == [(), ("y",)]


def test_last_bits_and_equal_nan_do_not_count_as_random() -> None:
    values = np.float32([1, 2, np.nan, np.inf])
    assert repeats(values, values * np.float32(1 + 1e-7))
    assert not repeats(values, values * np.float32(1.01))
    assert not repeats(values, values[:2])
    assert repeats(np.array([b"a"], object), np.array([b"a"], object))


def test_an_optional_probe_may_be_refused_and_another_may_not() -> None:
    def compute(inputs: Arrays) -> dict[str, np.ndarray]:
        if len(inputs["x"]) > 1:
            raise UsageError("one item only")
        return {"y": inputs["x"]}

    seen = observe(NumpySession((X,), compute), [ONE, TWO])
    assert [result.error for result in seen.results] == [None, "one item only"]
    with pytest.raises(UsageError, match="one item only"):
        observe(NumpySession((X,), compute), [Probe("two", TWO.inputs)])


def test_probes_are_turned_into_the_stored_type_and_name_of_the_candidate() -> None:
    stored = TensorSpec("input_1", "int8", (1, 2), quantization=Quantization((0.5,), (-2,)))
    adapted = adapt_inputs(ONE, [stored], [X], {"x": "input_1"})
    assert adapted["input_1"].tolist() == [[0, 2]]
    assert adapted["input_1"].dtype == np.int8
    back = adapt_inputs(Probe("s", adapted), [TensorSpec("input_1", "float32", (1, 2))], [stored])
    assert back["input_1"].tolist() == [[1, 2]]
    same = adapt_inputs(Probe("s", adapted), [stored], [stored])
    assert same["input_1"].tolist() == [[0, 2]]


def test_integers_are_narrowed_only_where_nothing_is_lost() -> None:
    probe = Probe("p", {"x": np.int64([[1, 2]])})
    assert adapt_inputs(probe, [TensorSpec("x", "int32", (1, 2))])["x"].dtype == np.int32
    with pytest.raises(UsageError, match="int8"):
        adapt_inputs(Probe("p", {"x": np.int64([[1, 300]])}), [TensorSpec("x", "int8", (1, 2))])
    with pytest.raises(UsageError, match="fit"):
        adapt_inputs(probe, [TensorSpec("z", "int64", (1, 2))])


def test_observations_come_back_from_disk_with_their_order(tmp_path: Path) -> None:
    text = np.array([b"\0", b"b"], dtype=object)
    seen = observe(NumpySession((X,), lambda i: {"z/../é": i["x"], "a": text}), [ONE, TWO], subject="model")
    save_observation(tmp_path / "o.npz", seen)
    again = load_observation(tmp_path / "o.npz")
    assert again.subject == "model"
    assert [list(result.outputs) for result in again.results] == [["z/../é", "a"]] * 2
    assert again.outputs[1]["a"].tolist() == text.tolist()
    assert np.array_equal(again.outputs[1]["z/../é"], TWO.inputs["x"])
    with pytest.raises(UsageError):
        load_observation(tmp_path / "missing.npz")
