"""Graphs in float64 compute in float32 inside, with the ends as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeconv.surgery import graph_float64_to_float32
from edgeconv.surgery.graph import Graph, full

SHAPE = (3, 4)


def graph_of(build: Callable[[Any, Any], list[Any]]) -> Graph:
    import tensorflow as tf

    with tf.Graph().as_default() as made:
        x = tf.compat.v1.placeholder(tf.float64, SHAPE, name="x")
        outputs = build(tf, x)
        names = [tensor.name for tensor in outputs]
    return Graph(made.as_graph_def(), inputs=["x"], outputs=names)


def run(graph: Graph, x: Any) -> list[Any]:
    import tensorflow as tf

    with tf.Graph().as_default() as made:
        tf.import_graph_def(graph.graph_def, name="")
        with tf.compat.v1.Session(graph=made) as session:
            return list(session.run([full(output) for output in graph.outputs], {"x:0": x}))


def dense(tf: Any, x: Any) -> list[Any]:
    weights = tf.constant(np.random.default_rng(1).normal(size=(4, 5)))
    return [tf.nn.softmax(tf.matmul(x, weights) + 0.5), tf.cast(tf.argmax(x, axis=1), tf.float64)]


def loop(tf: Any, x: Any) -> list[Any]:
    tf.compat.v1.enable_control_flow_v2()
    try:
        return [tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, tf.tanh(y) * 2.0), (0, x))[1]]
    finally:
        tf.compat.v1.disable_control_flow_v2()


@pytest.mark.parametrize("build", [dense, loop])
def test_only_the_ends_are_still_float64(build: Callable[[Any, Any], list[Any]]) -> None:
    graph = graph_of(build)
    x = np.random.default_rng(2).normal(size=SHAPE)
    before = run(graph, x)

    changes = graph_float64_to_float32.rewrite(graph)

    after = run(graph, x)
    assert [change.rewrite for change in changes] == ["float64_to_float32"]
    for old, new in zip(before, after, strict=True):
        assert new.dtype == np.float64
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-6)
    bodies = [node for f in graph.graph_def.library.function for node in f.node_def]
    doubles = {n.op for n in (*graph.graph_def.node, *bodies) if any(v.type == 2 for v in n.attr.values())}
    assert doubles == {"Placeholder", "Cast"}


def test_a_second_time_changes_nothing() -> None:
    graph = graph_of(dense)
    graph_float64_to_float32.rewrite(graph)
    before = graph.graph_def.SerializeToString(deterministic=True)

    assert graph_float64_to_float32.rewrite(graph) == []
    assert graph.graph_def.SerializeToString(deterministic=True) == before


def test_a_graph_without_float64_is_left_alone() -> None:
    graph = graph_of(lambda tf, x: [tf.shape(x)])
    graph.graph_def.node[0].attr["dtype"].type = 1
    for node in graph.graph_def.node:
        if "T" in node.attr:
            node.attr["T"].type = 1
    before = graph.graph_def.SerializeToString(deterministic=True)

    assert graph_float64_to_float32.rewrite(graph) == []
    assert graph.graph_def.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    "build",
    [lambda tf, x: [x * 1e300 * 1e-300], lambda tf, x: [tf.cast(tf.bitcast(x, tf.int64), tf.float64)]],
    ids=["beyond the range", "looks at the bytes"],
)
def test_what_float32_cannot_do_is_left_alone(build: Callable[[Any, Any], list[Any]]) -> None:
    graph = graph_of(build)
    before = graph.graph_def.SerializeToString(deterministic=True)

    assert graph_float64_to_float32.rewrite(graph) == []
    assert graph.graph_def.SerializeToString(deterministic=True) == before
