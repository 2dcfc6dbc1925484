"""Batch normalisations in training mode become those of inference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from inference_proof import built, prove, rewritten

X = np.random.default_rng(0).normal(0.5, 2.0, (4, 6, 6, 3)).astype("float32")
FLAT = np.random.default_rng(1).normal(0.5, 2.0, (8, 5)).astype("float32")


def v1() -> Any:
    import tensorflow as tf

    return tf.compat.v1


def normalized(x: Any, training: Any, **options: Any) -> Any:
    """``tf.layers.batch_normalization`` of TensorFlow 1."""
    from tf_keras.src.legacy_tf_layers import normalization

    return normalization.batch_normalization(x, training=training, name="bn", **options)


def convolution(x: Any) -> Any:
    return v1().nn.conv2d(x, v1().get_variable("kernel", [3, 3, 3, 4]), 1, "SAME")


def layer(training: Any, **options: Any) -> Any:
    """A convolution, a batch normalisation, a ReLU."""

    def build(x: Any) -> Any:
        switch = training() if callable(training) else training
        return v1().nn.relu(normalized(convolution(x), switch, **options), name="y")

    return build


def placeholder() -> Any:
    return v1().placeholder("bool", [], name="is_training")


def defaulted() -> Any:
    return v1().placeholder_with_default(True, [], name="is_training")


@pytest.mark.parametrize("resource", [True, False])
@pytest.mark.parametrize("fused", [True, False])
def test_layers_in_training_mode_take_their_moving_statistics(fused: bool, resource: bool) -> None:
    options = {"fused": fused, "epsilon": 2e-3}
    (change,) = prove(layer(True, **options), layer(False, **options), X, resource=resource)
    assert "bn/moving_mean" in change.message and "bn/moving_variance" in change.message


@pytest.mark.parametrize("flow", [1, 2])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("switch", [placeholder, defaulted])
def test_layers_behind_a_switch_take_the_branch_of_inference(switch: Any, fused: bool, flow: int) -> None:
    changes = prove(layer(switch, fused=fused), layer(False, fused=fused), X, flow=flow)
    assert changes[0].rewrite == "fix_training_switches"
    assert changes[0].replaced[0].tensor == "is_training:0"
    assert changes[0].replaced[0].attributes == {"value": False, "dtype": "bool"}


def test_a_switch_that_the_user_named_stays() -> None:
    source = built(layer(placeholder), (None, 6, 6, 3))
    graph, changes = rewritten(source, inputs=["x", "is_training"])
    assert changes == []
    assert graph.nodes["is_training"].op == "Placeholder"
