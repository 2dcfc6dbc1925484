"""A variable gets the value that the graph's restore ops, its name or the user's rules say, else an error."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeconv.errors import ConversionError, UsageError
from edgeconv.runtimes._checkpoint_matching import (
    Matched,
    Rules,
    Stored,
    Wanted,
    bounds,
    match,
    parse_renames,
)

KERNEL = Wanted("net/dense/kernel", (4, 3), "float32")
BIAS = Wanted("net/dense/bias", (3,), "float32")
Values = dict[str, tuple[tuple[int | None, ...], str]]


def found(
    stored: Values, rules: Rules | None = None, restored: dict[str, Stored] | None = None, kept: bool = False
) -> Matched:
    return match(
        [KERNEL, BIAS], stored, restored or {}, rules or Rules(), where="model.ckpt", kept_values=kept
    )


def own_names() -> Values:
    return {"net/dense/kernel": ((4, 3), "float32"), "net/dense/bias": ((3,), "float32")}


def test_a_value_is_found_by_the_name_of_the_variable() -> None:
    assert found(own_names()).stored == {v.name: Stored((v.name,)) for v in (KERNEL, BIAS)}


def test_what_the_graph_restores_goes_before_the_name() -> None:
    stored = {**own_names(), "other": ((4, 3), "float32")}
    assert found(stored, restored={KERNEL.name: Stored(("other",))}).stored[KERNEL.name].keys == ("other",)


def test_what_is_lacking_is_said_with_the_nearest_names_and_what_is_left_over() -> None:
    with pytest.raises(ConversionError) as caught:
        found({"net/dense_1/kernel": ((4, 3), "float32"), "net/dense/bias": ((3,), "float32")})
    assert "1 of 2 variables get no value" in caught.value.what
    assert "net/dense/kernel [4, 3] (nearest: net/dense_1/kernel)" in str(caught.value.why)
    assert "left over in the checkpoint: net/dense_1/kernel [4, 3]" in str(caught.value.why)
    assert caught.value.where == "model.ckpt"


def test_a_value_of_another_shape_is_not_taken() -> None:
    with pytest.raises(ConversionError, match=r"net/dense/kernel is \[4, 3\], stored is \[5, 3\]"):
        found({**own_names(), "net/dense/kernel": ((5, 3), "float32")})


def test_a_value_of_another_type_is_not_taken() -> None:
    with pytest.raises(ConversionError, match=r"stored is \[3\] float64"):
        found({**own_names(), "net/dense/bias": ((3,), "float64")})


def test_a_prefix_that_explains_all_that_is_lacking_is_offered_and_works() -> None:
    stored: Values = {f"module/{name}": value for name, value in own_names().items()}
    with pytest.raises(ConversionError) as caught:
        found(stored)
    assert caught.value.hint == "add --map-variable '^=module/'"
    rule = caught.value.hint.removeprefix("add --map-variable '").removesuffix("'")
    assert found(stored, Rules(renames=parse_renames([rule]))).stored[BIAS.name].keys == (
        "module/net/dense/bias",
    )


def test_a_renaming_that_changes_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="changes no name"):
        found(own_names(), Rules(renames=(("^conv", "x"),)))


@pytest.mark.parametrize("text", ["", "no-equals-sign", "=x", "(=x"])
def test_what_is_no_renaming_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_renames([text])


def test_a_replacement_with_a_group_that_the_pattern_lacks_is_refused() -> None:
    with pytest.raises(UsageError, match="no replacement"):
        found(own_names(), Rules(renames=(("^net", r"\2"),)))


def test_only_what_a_pattern_matches_is_restored() -> None:
    result = found(own_names(), Rules(only=("kernel$",)), kept=True)
    assert list(result.stored) == [KERNEL.name]
    assert result.kept == [BIAS.name]
    assert "1 of 2 variables are restored" in result.notes[0]


def test_a_pattern_that_matches_no_variable_is_refused() -> None:
    with pytest.raises(UsageError, match="net/dense/kernel, net/dense/bias"):
        found(own_names(), Rules(only=("conv",)))


def test_moving_averages_are_told_of_and_used_where_asked_for() -> None:
    shadow = f"{KERNEL.name}/ExponentialMovingAverage"
    stored = {**own_names(), shadow: ((4, 3), "float32")}
    plain = found(stored)
    assert plain.stored[KERNEL.name].keys == (KERNEL.name,)
    assert "--moving-averages" in plain.notes[0]
    averaged = found(stored, Rules(moving_averages=True))
    assert averaged.stored[KERNEL.name].keys == (shadow,)
    assert averaged.stored[BIAS.name].keys == (BIAS.name,)
    assert "1 have none and keep their own: net/dense/bias" in averaged.notes[0]


def test_moving_averages_that_are_not_there_are_refused() -> None:
    with pytest.raises(UsageError, match="--moving-averages"):
        found(own_names(), Rules(moving_averages=True))


def test_parts_that_were_saved_one_by_one_are_put_together_along_the_axis_that_fits() -> None:
    stored: Values = {
        f"{KERNEL.name}/part_0": ((4, 2), "float32"),
        f"{KERNEL.name}/part_1": ((4, 1), "float32"),
        BIAS.name: ((3,), "float32"),
    }
    value = found(stored).stored[KERNEL.name]
    assert value == Stored((f"{KERNEL.name}/part_0", f"{KERNEL.name}/part_1"), axis=1)


def test_a_variable_may_be_a_part_of_what_is_stored() -> None:
    stored: Values = {"whole": ((8, 3), "float32"), BIAS.name: ((3,), "float32")}
    part = Stored(("whole",), extent="8 3 4,4:-")
    assert found(stored, restored={KERNEL.name: part}).stored[KERNEL.name] == part
    with pytest.raises(ConversionError):
        found(stored, restored={KERNEL.name: Stored(("whole",), extent="8 3 4,3:-")})


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=4), st.data())
def test_shape_and_slice_texts_say_the_part_that_they_were_written_for(
    sizes: list[tuple[int, bool]], data: st.DataObject
) -> None:
    shape = tuple(size for size, _ in sizes)
    slices, texts = [], []
    for size, whole in sizes:
        start = data.draw(st.integers(0, size - 1))
        length = data.draw(st.integers(1, size - start))
        slices.append(slice(None) if whole else slice(start, start + length))
        texts.append("-" if whole else f"{start},{length}")
    text = f"{' '.join(map(str, shape))} {':'.join(texts)}"
    values = numpy.arange(numpy.prod(shape)).reshape(shape)
    assert bounds(text)[0] == shape
    numpy.testing.assert_array_equal(values[bounds(text)[1]], values[tuple(slices)])
