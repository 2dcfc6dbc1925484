"""Freezing layers in a configuration: which are meant, and what is written."""

from __future__ import annotations

from typing import Any

import pytest

from edgeconv.errors import UsageError
from edgeconv.surgery.keras_layers import decided, leaves, reordered, set_trainable


def layer(name: str, trainable: bool = True) -> dict[str, Any]:
    return {"class_name": "Dense", "config": {"name": name, "trainable": trainable}}


def model(name: str, *layers: dict[str, Any], trainable: bool = True) -> dict[str, Any]:
    config = {"name": name, "trainable": trainable, "layers": list(layers)}
    return {"class_name": "Functional", "config": config}


FLAGS = {"in": True, "backbone/a": False, "backbone/b": True, "top": True}


@pytest.mark.parametrize(
    ("freeze", "unfreeze", "first", "trained"),
    [
        (["top"], [], 0, ["in", "backbone/b"]),
        (["backbone"], [], 0, ["in", "top"]),
        (["backbone"], ["backbone/b"], 0, ["in", "backbone/b", "top"]),
        (["b"], [], 0, ["in", "top"]),
        (["back*"], [], 0, ["in", "top"]),
        (["^top$"], [], 0, ["in", "backbone/b"]),
        ([], [], 3, ["top"]),
        ([], ["backbone/a"], 3, ["backbone/a", "top"]),
    ],
)
def test_which_layers_are_meant(
    freeze: list[str], unfreeze: list[str], first: int, trained: list[str]
) -> None:
    wanted = decided(FLAGS, freeze, unfreeze, first, "m.keras")
    assert [name for name, flag in wanted.items() if flag] == trained


def test_a_layer_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"--freeze: there is no layer 'backbone/c'.*backbone/a"):
        decided(FLAGS, ["backbone/c"], [], 0, "m.keras")


def test_more_layers_than_there_are_cannot_be_the_first() -> None:
    with pytest.raises(UsageError, match="has 4 layers, fewer than 5"):
        decided(FLAGS, [], [], 5, "m.keras")


def test_a_model_around_an_unfrozen_layer_is_unfrozen_and_the_layers_beside_it_are_not() -> None:
    config = model("net", model("backbone", layer("a"), layer("b"), trainable=False), layer("top"))
    assert leaves(config) == {"backbone/a": False, "backbone/b": False, "top": True}
    set_trainable(config, decided(leaves(config), [], ["backbone/b"], 0, "m"))
    assert leaves(config) == {"backbone/a": False, "backbone/b": True, "top": True}


def test_a_wrapper_is_frozen_with_the_layer_in_it() -> None:
    wrapper = {"class_name": "TimeDistributed", "config": {"name": "each", "layer": layer("inner")}}
    config = model("net", wrapper, layer("top"))
    set_trainable(config, decided(leaves(config), ["each"], [], 0, "m"))
    assert leaves(config) == {"each": False, "each/inner": False, "top": True}


def test_weights_of_a_model_in_hdf5_follow_what_is_trained() -> None:
    names = ["a/kernel:0", "norm/gamma:0", "b/kernel:0", "norm/moving_mean:0"]
    before = {"a": True, "norm": True, "b": True}
    assert reordered(names, before, {**before, "a": False}) == [
        "norm/gamma:0", "b/kernel:0", "a/kernel:0", "norm/moving_mean:0"
    ]  # fmt: skip
    assert reordered(names, before, before) == names
