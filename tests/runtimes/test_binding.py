"""Names of contracts and tensors of files; what is fed is checked the same way for every runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeconv.errors import UsageError
from edgeconv.formats.base import Quantization, Shape, TensorSpec
from edgeconv.runtimes.binding import FileTensor, bind, checked_inputs, fits


def tensor(index: int, name: str, key: str | None = None, **more: Any) -> FileTensor:
    return FileTensor(index, name, **{"dtype": "float32", "shape": (1, 2), "key": key, **more})


def spec(
    name: str, tensor: str | None = None, shape: Shape | None = (1, 2), dtype: str = "float32"
) -> TensorSpec:
    return TensorSpec(name, dtype, shape, tensor)


class TestBind:
    def test_without_a_contract_the_signature_names_the_tensors(self) -> None:
        bound = bind("input", None, [tensor(0, "serving_x:0", "x"), tensor(1, "state")], "f")
        assert [(b.spec.name, b.spec.tensor) for b in bound] == [("x", "serving_x:0")]

    def test_without_a_contract_and_a_signature_the_file_does(self) -> None:
        bound = bind("input", None, [tensor(0, "a"), tensor(1, "b")], "f")
        assert [(b.spec.name, b.spec.tensor, b.key) for b in bound] == [("a", None, "a"), ("b", None, "b")]

    def test_the_order_is_the_contract_s(self) -> None:
        bound = bind("output", [spec("b"), spec("a")], [tensor(0, "a"), tensor(1, "b")], "f")
        assert [b.tensor.index for b in bound] == [1, 0]

    @pytest.mark.parametrize("inner", ["dense/out", "dense/out:0"])
    def test_the_name_inside_the_artifact_counts_with_and_without_its_port(self, inner: str) -> None:
        bound = bind("output", [spec("y", inner), spec("z")], [tensor(3, "dense/out"), tensor(4, "z")], "f")
        assert bound[0].tensor.index == 3

    def test_one_tensor_may_have_two_names_in_a_signature(self) -> None:
        both = [tensor(7, "t", "a"), tensor(7, "t", "b")]
        assert [b.tensor.index for b in bind("output", [spec("a"), spec("b")], both, "f")] == [7, 7]

    def test_of_one_there_is_no_doubt(self) -> None:
        assert bind("input", [spec("image")], [tensor(0, "Placeholder")], "f")[0].spec.tensor == "Placeholder"

    def test_what_is_not_there_is_said_with_what_is(self) -> None:
        with pytest.raises(UsageError, match=r"no output 'z' .tensor 'deep/z'.*its outputs are a, b"):
            bind("output", [spec("z", "deep/z")], [tensor(0, "a"), tensor(1, "b")], "f")

    def test_an_input_that_nothing_uses_may_be_lacking_only_where_all_others_are_bound(self) -> None:
        wanted = [spec("a"), spec("unused")]
        assert (
            len(
                bind(
                    "input",
                    wanted,
                    [
                        tensor(0, "a"),
                    ],
                    "f",
                    may_lack=True,
                )
            )
            == 1
        )
        with pytest.raises(UsageError, match="no input 'unused'"):
            bind("input", wanted, [tensor(0, "a"), tensor(1, "b")], "f", may_lack=True)
        with pytest.raises(UsageError, match="no input 'unused'"):
            bind("input", wanted, [tensor(0, "a")], "f")

    def test_type_and_quantization_are_the_file_s_and_sizes_the_contract_s(self) -> None:
        how = Quantization((0.5,), (3,))
        there = tensor(0, "x", dtype="int8", quantization=how, shape=(None, 2))
        (bound,) = bind("input", [spec("x", shape=(1, 2))], [there], "f")
        assert (bound.spec.dtype, bound.spec.quantization, bound.spec.shape) == ("int8", how, (1, 2))
        assert bound.fixed == (None, 2)

    def test_no_dimensions_are_a_scalar_only_where_the_runtime_knows_ranks(self) -> None:
        scalar, unknown = tensor(0, "x", shape=()), tensor(0, "x", shape=(), rank_known=False)
        assert bind("input", None, [scalar], "f")[0].fixed == ()
        assert bind("input", None, [unknown], "f")[0].fixed is None
        assert bind("input", [spec("x", shape=())], [unknown], "f")[0].fixed == ()

    @given(st.permutations(range(5)), st.data())
    def test_every_order_of_a_file_is_bound_by_name(self, order: list[int], data: st.DataObject) -> None:
        keyed = data.draw(st.booleans())
        there = [tensor(i, f"t{i}", f"k{i}" if keyed else None) for i in order]
        names = [f"k{i}" if keyed else f"t{i}" for i in range(5)]
        assert [b.tensor.index for b in bind("input", [spec(n) for n in names], there, "f")] == list(range(5))


class TestCheckedInputs:
    def test_arrays_come_in_the_order_of_the_specs_and_of_c(self) -> None:
        given = {"b": np.zeros((2, 1), np.float32).T, "a": np.asfortranarray(np.ones((1, 2), np.float32))}
        found = checked_inputs(given, [spec("a"), spec("b")], "f")
        assert list(found) == ["a", "b"]
        assert all(array.flags.c_contiguous for array in found.values())

    def test_a_scalar_stays_one(self) -> None:
        assert checked_inputs({"s": np.float32(3)}, [spec("s", shape=())], "f")["s"].shape == ()

    def test_what_counts_in_place_of_a_shape_can_be_said(self) -> None:
        wide = np.zeros((9, 9), np.float32)
        assert checked_inputs({"x": wide}, [spec("x")], "f", shapes={"x": None})["x"].shape == (9, 9)
        with pytest.raises(UsageError, match=r"has shape \[9, 9\], the model takes \[\?, 3\]"):
            checked_inputs({"x": wide}, [spec("x")], "f", shapes={"x": (None, 3)})

    def test_real_values_for_a_quantized_input_are_refused_with_the_reason(self) -> None:
        quantized = TensorSpec("x", "int8", (1,), None, Quantization((0.5,), (0,)))
        with pytest.raises(UsageError) as caught:
            checked_inputs({"x": np.zeros(1, np.float32)}, [quantized], "f")
        assert "stored values" in str(caught.value.hint)

    def test_text_and_numbers_do_not_mix(self) -> None:
        with pytest.raises(UsageError, match="is string, the model takes float32"):
            checked_inputs({"x": np.array([["a", "b"]])}, [spec("x")], "f")
        with pytest.raises(UsageError, match="is float32, the model takes string"):
            checked_inputs({"x": np.zeros((1, 2), np.float32)}, [spec("x", dtype="string")], "f")

    def test_all_that_is_missing_and_unknown_is_named_at_once(self) -> None:
        with pytest.raises(UsageError, match="missing inputs: a, b; unknown inputs: c"):
            checked_inputs({"c": 1}, [spec("a"), spec("b")], "f")


@given(st.lists(st.integers(0, 9), max_size=4))
def test_a_shape_fits_itself_and_itself_left_open(shape: list[int]) -> None:
    assert fits(shape, tuple(shape))
    assert fits(shape, tuple(None for _ in shape))
    assert not fits([*shape, 1], tuple(shape))
