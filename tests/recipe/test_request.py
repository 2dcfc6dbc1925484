"""What the command line's texts mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeconv.errors import UsageError
from edgeconv.recipe.request import Target, parse_pairs, parse_shapes, parse_targets

DIMENSIONS = st.lists(st.none() | st.integers(0, 4096), min_size=1, max_size=5)


def test_a_format_alone_means_fp32_and_all_means_every_precision_it_has() -> None:
    assert parse_targets(["tflite"]) == (Target("tflite", "fp32"),)
    assert [t.precision for t in parse_targets(["tflite:all"])] == [
        "fp32",
        "fp16",
        "dynamic",
        "int8",
        "int16x8",
    ]
    assert [t.precision for t in parse_targets(["onnx:all"])] == ["fp32", "fp16", "int8"]


def test_commas_and_repeated_flags_add_up_once_each() -> None:
    assert parse_targets(["tflite:int8,onnx", "onnx:fp32"]) == (
        Target("tflite", "int8"),
        Target("onnx", "fp32"),
    )


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("tflight", "tflite"),
        ("tflite:int9", "int8"),
        ("onnx:dynamic", "fp32, fp16, int8"),
        ("coreml", "known"),
    ],
)
def test_an_unknown_word_names_the_nearest_or_what_there_is(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_targets([text])
    assert hint in (caught.value.hint or "")


@given(
    st.text(st.characters(categories=("L", "N"), include_characters="_/:="), min_size=1).filter(
        lambda name: name.strip() == name
    ),
    DIMENSIONS,
)
def test_any_shape_that_is_written_is_read(name: str, dimensions: list[int | None]) -> None:
    text = ",".join("?" if d is None else str(d) for d in dimensions)
    assert parse_shapes([f"{name}={text}"]) == {name: tuple(dimensions)}


@pytest.mark.parametrize("text", ["image", "=1,2", "image=1,x", "image=1,-3", "image=1;2"])
def test_what_is_no_shape_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_shapes([text])
    assert "--shape NAME=1,224,224,3" in (caught.value.hint or "")


def test_pairs() -> None:
    assert parse_pairs(["a=b", "c=d=e"], "--map") == {"a": "b", "c": "d=e"}
    with pytest.raises(UsageError):
        parse_pairs(["a"], "--map")
