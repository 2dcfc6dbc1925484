"""An input whose shape nobody states has the one that its consumers demand, if they demand one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeconv.formats._graph_implied_shapes import implied_shape
from edgeconv.formats._graph_view import GraphView
from edgeconv.formats.base import Shape

WEIGHTS = np.ones((5, 7), np.float32)
FILTER = np.ones((3, 3, 6, 2), np.float32)


def matmul(tf: Any, a: Any, b: Any, **transposed: bool) -> Any:
    """``MatMul``, which ``tf.matmul`` of today does not make of unknown ranks as it once did."""
    return tf.raw_ops.MatMul(a=a, b=b, **transposed)


def demanded(
    build: Callable[[Any, Any], Any], dtype: str = "float32", producer: int | None = None
) -> Shape | None:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        build(tf, tf.compat.v1.placeholder(dtype, None, name="x"))
    graph_def = graph.as_graph_def()
    if producer is not None:
        graph_def.versions.producer = producer
    return implied_shape(GraphView(graph_def), "x", 0)


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda tf, x: matmul(tf, x, WEIGHTS), (None, 5)),
        (lambda tf, x: matmul(tf, x, WEIGHTS, transpose_b=True), (None, 7)),
        (lambda tf, x: matmul(tf, x, WEIGHTS, transpose_a=True), (5, None)),
        (lambda tf, x: matmul(tf, WEIGHTS, x), (7, None)),
        (lambda tf, x: matmul(tf, WEIGHTS, x, transpose_b=True), (None, 7)),
        (lambda tf, x: matmul(tf, (tf.cast(x, tf.float32) - 128.0) / 128.0, WEIGHTS), (None, 5)),
        (lambda tf, x: tf.nn.depthwise_conv2d(x, FILTER, [1, 1, 1, 1], "SAME"), (None, None, None, 6)),
        (lambda tf, x: tf.nn.max_pool2d(tf.nn.relu(x), 2, 2, "SAME"), (None, None, None, None)),
        (lambda tf, x: (tf.nn.max_pool2d(x, 2, 2, "SAME"), tf.nn.relu(x)), (None, None, None, None)),
    ],
)
def test_consumers_demand_a_shape(build: Callable[[Any, Any], Any], shape: Shape) -> None:
    assert demanded(build) == shape


@pytest.mark.parametrize(("producer", "channels"), [(27, 6), (1800, None)])
def test_only_graphs_without_grouped_convolutions_tell_the_channels(
    producer: int, channels: int | None
) -> None:
    shape = demanded(lambda tf, x: tf.nn.conv2d(x, FILTER, 1, "SAME"), producer=producer)

    assert shape == (None, None, None, channels)


def test_variables_tell_as_constants_do() -> None:
    def build(tf: Any, x: Any) -> Any:
        return matmul(tf, x, tf.compat.v1.get_variable("w", (5, 7), use_resource=False))

    assert demanded(build) == (None, 5)


def test_a_recording_is_a_scalar() -> None:
    assert demanded(lambda tf, x: tf.audio.decode_wav(x), "string") == ()


@pytest.mark.parametrize(
    "build",
    [
        lambda tf, x: tf.nn.relu(x * 2.0),
        lambda tf, x: matmul(tf, x + np.ones((1, 5), np.float32), WEIGHTS),  # x may be broadcast
        lambda tf, x: tf.reshape(x, [-1, 5]),
    ],
)
def test_what_any_rank_can_do_says_nothing(build: Callable[[Any, Any], Any]) -> None:
    assert demanded(build) is None
