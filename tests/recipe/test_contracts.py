"""The contract of a source: its signature, what the user picked of it, what the user pinned."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeconv.errors import UsageError
from edgeconv.formats.base import Contract, Description, Signature, TensorSpec
from edgeconv.formats.registry import format_named
from edgeconv.recipe.contracts import compatible, pin_shapes, require_ranks, source_contract


def signature(name: str) -> Signature:
    return Signature(
        name,
        (TensorSpec("image", "float32", (None, 8, 8, 1), f"{name}_image:0"),),
        (TensorSpec("scores", "float32", (None, 10)), TensorSpec("boxes", "float32", (None, 4))),
    )


def described(*names: str) -> Description:
    return Description("saved_model", "m", 1, signatures=tuple(signature(name) for name in names))


def contract(*names: str, **options: object) -> Contract:
    found = source_contract(format_named("saved_model"), described(*names), **options)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_the_default_signature_is_taken_and_a_single_one_too() -> None:
    assert contract("train", "serving_default").signature == "serving_default"
    assert contract("run").signature == "run"


def test_several_signatures_without_a_default_are_never_guessed() -> None:
    with pytest.raises(UsageError, match="several signatures") as caught:
        contract("encode", "decode")
    assert "--signature: decode, encode" in (caught.value.hint or "")
    assert contract("encode", "decode", signature="decode").signature == "decode"


def test_an_unknown_signature_or_output_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        contract("encode", signature="encod")
    assert "'encode'" in (caught.value.hint or "")
    with pytest.raises(UsageError) as caught:
        contract("run", outputs=["score"])
    assert "'scores'" in (caught.value.hint or "")


def test_outputs_can_be_picked_and_reordered() -> None:
    assert [o.name for o in contract("run", outputs=["boxes"]).outputs] == ["boxes"]
    assert [o.name for o in contract("run", outputs=["boxes", "scores"]).outputs] == ["boxes", "scores"]


def test_a_shape_is_pinned_where_it_fits() -> None:
    pinned = pin_shapes(contract("run"), {"image": (1, 8, 8, 1)})
    assert pinned.input("image").shape == (1, 8, 8, 1)
    for wrong in [(1, 8, 8), (1, 9, 8, 1)]:
        with pytest.raises(UsageError, match="contradicts"):
            pin_shapes(contract("run"), {"image": wrong})
    with pytest.raises(UsageError) as caught:
        pin_shapes(contract("run"), {"imag": (1, 8, 8, 1)})
    assert "'image'" in (caught.value.hint or "")


def test_an_unknown_rank_must_be_said() -> None:
    unknown = Contract((TensorSpec("x", "float32", None),), ())
    with pytest.raises(UsageError) as caught:
        require_ranks(unknown)
    assert "--shape x=1,…" in (caught.value.hint or "")
    assert "for a scalar: --shape x=" in (caught.value.hint or "")
    require_ranks(pin_shapes(unknown, {"x": (1, 3)}))


@pytest.mark.parametrize(
    ("stated", "wanted", "fits"),
    [
        (None, (1, 2), True),
        ((None, 2), (1, 2), True),
        ((None, 2), (None, 2), True),
        ((1, 2), (1, 3), False),
        ((1, 2), (1, 2, 1), False),
        ((), (), True),
    ],
)
def test_compatible(
    stated: tuple[int | None, ...] | None, wanted: tuple[int | None, ...], fits: bool
) -> None:
    assert compatible(stated, wanted) is fits


def with_switch() -> Description:
    (serving,) = described("run").signatures
    switch = TensorSpec("is_training", "bool", (), "run_is_training:0")
    return Description(
        "saved_model",
        "m",
        1,
        signatures=(Signature("run", (*serving.inputs, switch), serving.outputs),),
    )


def test_a_switch_between_training_and_inference_is_an_input_only_where_it_is_named() -> None:
    part = format_named("saved_model")

    def inputs(**options: object) -> list[str]:
        found = source_contract(part, with_switch(), **options)  # type: ignore[arg-type]
        assert found is not None
        return [spec.name for spec in found.inputs]

    assert inputs() == ["image"]
    assert inputs(inputs=["image"]) == ["image"]
    assert inputs(inputs=["image", "is_training"]) == ["image", "is_training"]
    assert inputs(shapes={"is_training": ()}) == ["image", "is_training"]


def test_a_shape_names_a_switch_of_a_graph_too(tmp_path: Path) -> None:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, None, "x")
        training = tf.compat.v1.placeholder(tf.bool, None, "training")
        tf.where(training, x, -x, name="y")
    file = tmp_path / "graph.pb"
    file.write_bytes(graph.as_graph_def().SerializeToString())
    part = format_named("frozen_graph")
    description = part.describe(file)
    pinned = source_contract(part, description, shapes={"x": (1, 2)})
    assert pinned is not None
    assert [(s.name, s.shape) for s in pinned.inputs] == [("x", (1, 2))]
    named = source_contract(part, description, shapes={"x": (1, 2), "training": ()})
    assert named is not None
    assert [(s.name, s.shape) for s in named.inputs] == [("x", (1, 2)), ("training", ())]
