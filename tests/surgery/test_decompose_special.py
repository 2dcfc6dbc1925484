"""Special functions, small inverses, bits and dilations in plain ops give the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeconv.surgery import graph_decompose
from edgeconv.surgery.graph import Graph
from edgeconv.surgery.graph_decompose_special import EVERYWHERE, ONNX
from tests.surgery.test_decompose import numbers, run

POSITIVE = np.concatenate([np.geomspace(1e-3, 1e4, 400), np.linspace(0.5, 8, 200)]).astype("float32")
# Between the poles, which are the integers.
NEGATIVE = (np.arange(-9, 1)[:, None] + np.linspace(-0.9, -0.1, 9)).astype("float32")
INTEGERS = np.concatenate([np.arange(-40, 40), [2**31 - 1, -(2**31), 123456789]]).astype("int32")
IMAGE = numbers(2, 6, 7, 3)

CASES: dict[str, tuple[Any, Callable[[Any, Any], Any]]] = {
    "Digamma": (POSITIVE, lambda r, x: r.Digamma(x=x)),
    "Digamma/negative": (NEGATIVE, lambda r, x: r.Digamma(x=x)),
    "Lgamma": (POSITIVE, lambda r, x: r.Lgamma(x=x)),
    "Lgamma/negative": (NEGATIVE, lambda r, x: r.Lgamma(x=x)),
    "MatrixInverse/1": (numbers(2, 1, 1), lambda r, x: r.MatrixInverse(input=x)),
    "MatrixInverse/2": (numbers(4, 2, 2), lambda r, x: r.MatrixInverse(input=x, adjoint=True)),
    "MatrixInverse/3": (numbers(2, 2, 3, 3), lambda r, x: r.MatrixInverse(input=x)),
    "Invert": (INTEGERS, lambda r, x: r.Invert(x=x)),
    "Invert/bytes": (np.arange(256).astype("uint8"), lambda r, x: r.Invert(x=x)),
    "BitwiseAnd": (INTEGERS, lambda r, x: r.BitwiseAnd(x=x, y=np.int32(0b1011_0110))),
    "BitwiseAnd/complement": (INTEGERS, lambda r, x: r.BitwiseAnd(x=np.int32(-8), y=x)),
    "BitwiseAnd/none": (INTEGERS, lambda r, x: r.BitwiseAnd(x=x, y=np.int32(0))),
    "BitwiseAnd/long": (INTEGERS.astype("int64") << 20, lambda r, x: r.BitwiseAnd(x=x, y=np.int64(1 << 40))),
    "BitwiseOr": (INTEGERS, lambda r, x: r.BitwiseOr(x=x, y=np.int32(0b1011_0110))),
    "Dilation2D": (
        IMAGE,
        lambda r, x: r.Dilation2D(
            input=x, filter=numbers(2, 3, 3), strides=[1, 2, 1, 1], rates=[1, 1, 2, 1], padding="SAME"
        ),
    ),
    "Dilation2D/valid": (
        IMAGE,
        lambda r, x: r.Dilation2D(
            input=x, filter=numbers(3, 2, 3), strides=[1, 1, 2, 1], rates=[1, 2, 1, 1], padding="VALID"
        ),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_same_is_computed(case: str) -> None:
    import tensorflow as tf

    data, build = CASES[case]
    with tf.Graph().as_default() as made:
        x = tf.compat.v1.placeholder(data.dtype, data.shape, "x")
        output = tf.identity(build(tf.raw_ops, x))
    graph = Graph(made.as_graph_def(), outputs=[output.name], inputs=["x"])
    (before,) = run(graph, data)
    (change,) = graph_decompose.rewrite(graph, ONNX)
    op = case.split("/")[0]
    assert op in change.message
    assert not any(node.op == op for node in graph.graph_def.node)
    (after,) = run(graph, data)
    assert (after.dtype, after.shape) == (before.dtype, before.shape)
    np.testing.assert_allclose(after, before, rtol=5e-6, atol=5e-6)


def test_every_entry_is_tested() -> None:
    assert {*EVERYWHERE, *ONNX} == {case.split("/")[0] for case in CASES}


@pytest.mark.parametrize(
    "build",
    [
        lambda r, x: r.MatrixInverse(input=x[:4]),
        lambda r, x: r.BitwiseAnd(x=tf_int(x[0]), y=tf_int(x[1])),
    ],
    ids=["four rows", "a mask that is data"],
)
def test_what_cannot_be_said_is_left(build: Callable[[Any, Any], Any]) -> None:
    import tensorflow as tf

    with tf.Graph().as_default() as made:
        output = build(tf.raw_ops, tf.compat.v1.placeholder("float32", [5, 4], "x"))
    graph = Graph(made.as_graph_def(), outputs=[output.name], inputs=["x"])
    assert graph_decompose.rewrite(graph, ONNX) == []


def tf_int(x: Any) -> Any:
    import tensorflow as tf

    return tf.cast(x, tf.int32)
