"""Moving statistics that nobody ever moved are warned about, once their values are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeconv.surgery import graph_report_initial_statistics
from edgeconv.surgery.graph import Graph

ONE, ZERO = np.ones(3, "float32"), np.zeros(3, "float32")


def fused(tf: Any, x: Any, mean: Any, variance: Any, name: str) -> Any:
    y, *_ = tf.compat.v1.nn.fused_batch_norm(x, ONE, ZERO, mean, variance, is_training=False, name=name)
    return y


def unfused(tf: Any, x: Any, mean: Any, variance: Any, name: str) -> Any:
    constants = [tf.constant(value) for value in (mean, variance, ZERO, ONE + ONE)]
    return tf.nn.batch_normalization(x, *constants, 1e-3, name=name)


def subtracted(tf: Any, x: Any, mean: Any, variance: Any, name: str) -> Any:
    factor = tf.math.rsqrt(tf.constant(variance) + 1e-3, name=f"{name}/root")
    return tf.multiply(x - tf.constant(mean), factor, name=name)


def said(build: Any, *statistics: tuple[Any, Any]) -> list[str]:
    import tensorflow as tf

    with tf.Graph().as_default() as source:
        x = tf.compat.v1.placeholder(tf.float32, [None, 4, 4, 3], name="x")
        for index, (mean, variance) in enumerate(statistics):
            x = tf.nn.relu(build(tf, x, mean, variance, f"bn_{index}"))
        tf.identity(x, name="y")
    graph = Graph(source.as_graph_def(), outputs=["y"], inputs=["x"])
    changes = graph_report_initial_statistics.rewrite(graph)
    assert all(change.warning for change in changes)
    return [change.message for change in changes]


@pytest.mark.parametrize("variance", [ONE, ZERO], ids=["variables", "shadows"])
@pytest.mark.parametrize("build", [fused, unfused, subtracted])
def test_untouched_layers_are_named(build: Any, variance: Any) -> None:
    (message,) = said(build, (ZERO, variance), (ZERO + 0.1, variance), (ZERO, variance))
    assert "of 2 of 3 batch normalisations still are the initial ones" in message
    assert "'bn_0" in message
    assert "'bn_2" in message


@pytest.mark.parametrize("build", [fused, unfused, subtracted])
def test_trained_layers_are_not(build: Any) -> None:
    assert said(build, (ZERO, ONE * 0.9), (ZERO + 0.1, ONE)) == []


def test_values_that_lie_outside_of_the_graph_are_read() -> None:
    import tensorflow as tf

    with tf.Graph().as_default() as source:
        x = tf.compat.v1.placeholder(tf.float32, [None, 4, 4, 3], name="x")
        tf.identity(
            fused(tf, x, tf.constant(ONE, name="mean"), tf.constant(ONE, name="variance"), "bn"), name="y"
        )
    values = {"mean": lambda: ZERO, "variance": lambda: ONE}
    graph = Graph(source.as_graph_def(), outputs=["y"], inputs=["x"], values=values)
    (change,) = graph_report_initial_statistics.rewrite(graph)
    assert "'bn'" in change.message
