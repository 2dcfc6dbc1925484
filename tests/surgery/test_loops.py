"""Loops and lists of TensorFlow 1 are gone afterwards, and every output is what it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from edgeconv.surgery.changes import Change
from edgeconv.surgery.graph import Graph, full
from edgeconv.surgery.loops import has_lists, has_loops, without_loops

Build = Callable[[Any], Sequence[Any]]


@pytest.fixture(autouse=True)
def _control_flow_of_tensorflow_1() -> Iterator[None]:
    import tensorflow as tf

    tf.compat.v1.disable_control_flow_v2()
    yield
    tf.compat.v1.enable_control_flow_v2()


def graph_of(build: Build) -> Graph:
    """The frozen graph of what ``build(tf)`` returns; placeholders are its inputs."""
    import tensorflow as tf

    with tf.Graph().as_default() as made:
        outputs = [tensor.name for tensor in build(tf)]
    graph_def = made.as_graph_def()
    inputs = [node.name for node in graph_def.node if node.op == "Placeholder"]
    return Graph(graph_def, outputs=outputs, inputs=inputs)


def run(graph: Graph, feed: dict[str, Any]) -> list[Any]:
    import tensorflow as tf

    with tf.Graph().as_default() as made:
        tf.import_graph_def(graph.graph_def, name="")
        with tf.compat.v1.Session(graph=made) as session:
            fed = {f"{name}:0": value for name, value in feed.items() if name in graph.nodes}
            return list(session.run([full(output) for output in graph.outputs], fed))


def numbers(*shape: int) -> Any:
    return np.random.default_rng(7).normal(size=shape).astype("float32")


def rewritten(build: Build, *feeds: dict[str, Any], atol: float = 1e-6) -> tuple[Graph, list[Change]]:
    """Rewrites, and holds the outputs for each feed to those of the source."""
    graph = graph_of(build)
    assert has_loops(graph.graph_def) or has_lists(graph.graph_def)
    before = [run(graph, feed) for feed in feeds or ({},)]
    changes = without_loops(graph)
    for feed, expected in zip(feeds or ({},), before, strict=True):
        for old, new in zip(expected, run(graph, feed), strict=True):
            assert new.shape == old.shape
            assert new.dtype == old.dtype
            np.testing.assert_allclose(new, old, rtol=1e-6, atol=atol)
    return graph, changes


def assert_none_left(graph: Graph) -> None:
    assert not has_loops(graph.graph_def)
    assert not has_lists(graph.graph_def)


class Cell:
    """A recurrent cell with two states, written with plain ops."""

    output_size = 3
    state_size = (3, 3)

    def __init__(self, tf: Any, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.tf = tf
        self.kernel = random.normal(size=(5, 6)).astype("float32")
        self.recurrent = random.normal(size=(3, 6)).astype("float32")

    def zero_state(self, batch: Any, dtype: Any) -> Any:
        return tuple(self.tf.zeros(self.tf.stack([batch, 3]), dtype) for _ in range(2))

    def __call__(self, x: Any, state: Any, scope: Any = None) -> Any:
        tf, (h, c) = self.tf, state
        gate, new = tf.split(x @ tf.constant(self.kernel) + h @ tf.constant(self.recurrent), 2, axis=1)
        c = c * tf.sigmoid(gate) + tf.tanh(new)
        h = tf.tanh(c)
        return h, (h, c)


def recurrent(tf: Any, x: Any, **options: Any) -> list[Any]:
    output, state = tf.compat.v1.nn.dynamic_rnn(Cell(tf), x, dtype=tf.float32, **options)
    return [output, *state]


def test_a_recurrent_layer_over_a_known_time_is_unrolled() -> None:
    def build(tf: Any) -> Any:
        return recurrent(tf, tf.compat.v1.placeholder(tf.float32, [2, 4, 5], "x"))

    graph, changes = rewritten(build, {"x": numbers(2, 4, 5)})
    assert_none_left(graph)
    assert [change.message for change in changes if "4 trips" in change.message]
    assert sum(node.op == "Tanh" for node in graph.graph_def.node) == 8


def test_the_batch_may_stay_open() -> None:
    def build(tf: Any) -> Any:
        return recurrent(tf, tf.compat.v1.placeholder(tf.float32, [None, 4, 5], "x"))

    graph, _ = rewritten(build, {"x": numbers(3, 4, 5)}, {"x": numbers(1, 4, 5)})
    assert_none_left(graph)


def test_sequence_lengths_that_are_known_need_no_choosing() -> None:
    def build(tf: Any) -> Any:
        x = tf.compat.v1.placeholder(tf.float32, [3, 6, 5], "x")
        return recurrent(tf, x, sequence_length=tf.constant([2, 5, 0]))

    graph, _ = rewritten(build, {"x": numbers(3, 6, 5)})
    assert_none_left(graph)


def test_sequence_lengths_that_are_fed_decide_which_trips_count() -> None:
    def build(tf: Any) -> Any:
        x = tf.compat.v1.placeholder(tf.float32, [3, 6, 5], "x")
        lengths = tf.compat.v1.placeholder(tf.int32, [3], "lengths")
        return recurrent(tf, x, sequence_length=lengths)

    x = numbers(3, 6, 5)
    feeds = [{"x": x, "lengths": np.array(each, "int32")} for each in ([1, 2, 3], [6, 0, 4], [0, 0, 0])]
    graph, _ = rewritten(build, *feeds)
    assert_none_left(graph)


def test_both_directions_and_stacked_layers() -> None:
    def build(tf: Any) -> Any:
        x = tf.compat.v1.placeholder(tf.float32, [2, 4, 5], "x")
        both, _ = tf.compat.v1.nn.bidirectional_dynamic_rnn(
            Cell(tf), Cell(tf, 1), x, dtype=tf.float32, sequence_length=tf.constant([3, 4])
        )
        with tf.compat.v1.variable_scope("second"):
            return recurrent(tf, tf.concat([*both], 2)[:, :, :5], swap_memory=True)

    graph, changes = rewritten(build, {"x": numbers(2, 4, 5)})
    assert_none_left(graph)
    assert sum("trips" in change.message for change in changes) == 3


def test_a_loop_that_goes_round_zero_times_gives_what_it_began_with() -> None:
    def build(tf: Any) -> Any:
        x = tf.compat.v1.placeholder(tf.float32, [2], "x")
        return tf.while_loop(lambda i, y: i < 0, lambda i, y: (i + 1, y * 2), (0, x))

    graph, changes = rewritten(build, {"x": numbers(2)})
    assert_none_left(graph)
    assert any("0 trips" in change.message for change in changes)


def test_loops_inside_loops() -> None:
    def build(tf: Any) -> Any:
        x = tf.compat.v1.placeholder(tf.float32, [2], "x")

        def body(i: Any, y: Any) -> Any:
            scale = tf.cast(i, tf.float32) + tf.reduce_sum(x)
            inner = tf.while_loop(lambda j, z: j < i, lambda j, z: (j + 1, z * scale + 1), (0, y))
            return i + 1, inner[1]

        return [tf.while_loop(lambda i, y: i < 3, body, (0, x))[1]]

    graph, _ = rewritten(build, {"x": numbers(2)}, atol=1e-4)
    assert_none_left(graph)


def test_a_branch_inside_whose_predicate_is_a_counter_is_followed_on_one_side() -> None:
    def build(tf: Any) -> Any:
        x = tf.compat.v1.placeholder(tf.float32, [2], "x")

        def body(i: Any, y: Any) -> Any:
            return i + 1, tf.cond(i < 2, lambda: y + 1.0, lambda: tf.exp(y))

        return [tf.while_loop(lambda i, y: i < 3, body, (0, x))[1]]

    graph, _ = rewritten(build, {"x": numbers(2)})
    assert_none_left(graph)
    assert sum(node.op == "Exp" for node in graph.graph_def.node) == 1
    assert not any(node.op in ("Switch", "Merge", "SelectV2") for node in graph.graph_def.node)


def test_a_branch_inside_whose_predicate_is_data_chooses_between_both_sides() -> None:
    def build(tf: Any) -> Any:
        x = tf.compat.v1.placeholder(tf.float32, [2], "x")

        def body(i: Any, y: Any) -> Any:
            inner = lambda: tf.cond(y[1] > 0, lambda: tf.zeros([2]), lambda: -y)  # noqa: E731
            return i + 1, tf.cond(y[0] > 0, lambda: y - 0.5, inner)

        return [tf.while_loop(lambda i, y: i < 3, body, (0, x))[1]]

    feeds = [{"x": np.array(each, "float32")} for each in ([0.7, 1], [-1, 1], [-1, -1], [3, 0])]
    graph, _ = rewritten(build, *feeds)
    assert_none_left(graph)


def test_lists_without_a_loop() -> None:
    def build(tf: Any) -> Any:
        x = tf.compat.v1.placeholder(tf.float32, [3, 2], "x")
        taken = tf.TensorArray(tf.float32, 3, clear_after_read=False).unstack(x)
        parts = tf.TensorArray(tf.float32, 2, infer_shape=False, clear_after_read=False).split(x, [1, 2])
        made = tf.TensorArray(tf.float32, 0, dynamic_size=True)
        made = made.write(1, taken.read(2)).write(0, taken.read(0) * 2)
        return [made.stack(), taken.size(), parts.read(1), parts.concat(), taken.gather([2, 0])]

    graph, changes = rewritten(build, {"x": numbers(3, 2)})
    assert_none_left(graph)
    assert any("lists of tensors" in change.message for change in changes)


def test_what_nobody_wrote_is_zero() -> None:
    def build(tf: Any) -> Any:
        x = tf.compat.v1.placeholder(tf.float32, [2], "x")
        array = tf.TensorArray(tf.float32, 3, element_shape=[2]).write(1, x)
        return [array.stack()]

    graph, _ = rewritten(build, {"x": numbers(2)})
    assert_none_left(graph)


def test_a_map_over_images_of_a_fixed_batch() -> None:
    def build(tf: Any) -> Any:
        x = tf.compat.v1.placeholder(tf.uint8, [2, 8, 6, 3], "x")

        def one(image: Any) -> Any:
            image = tf.cast(tf.reverse(image, [2]), tf.float32)
            return tf.compat.v1.image.resize_bilinear(image[None], [4, 4])[0]

        return [tf.map_fn(one, x, dtype=tf.float32)]

    image = np.random.default_rng(0).integers(0, 255, (2, 8, 6, 3)).astype("uint8")
    graph, _ = rewritten(build, {"x": image})
    assert_none_left(graph)


def test_a_second_time_changes_nothing() -> None:
    graph = graph_of(lambda tf: recurrent(tf, tf.compat.v1.placeholder(tf.float32, [2, 4, 5], "x")))
    without_loops(graph)
    before = graph.graph_def.SerializeToString(deterministic=True)
    assert without_loops(graph) == []
    assert graph.graph_def.SerializeToString(deterministic=True) == before


def test_a_loop_too_long_to_write_down_is_left_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeconv.surgery import graph_unroll

    monkeypatch.setattr(graph_unroll, "NODES", 20)

    def build(tf: Any) -> Any:
        x = tf.compat.v1.placeholder(tf.float32, [2], "x")
        return [tf.while_loop(lambda i, y: i < 30, lambda i, y: (i + 1, tf.tanh(y) * 2), (0, x))[1]]

    graph, changes = rewritten(build, {"x": numbers(2)})
    (change,) = changes
    assert change.warning
    assert "more than 20 nodes" in change.message
    assert has_loops(graph.graph_def)


def test_a_map_over_images_of_an_open_batch_is_one_computation() -> None:
    def build(tf: Any) -> Any:
        x = tf.compat.v1.placeholder(tf.uint8, [None, 8, 6, 3], "x")

        def one(image: Any) -> Any:
            image = tf.cast(tf.reverse(image, [-1]), tf.float32) - tf.constant([1.0, 2.0, 3.0])
            image = tf.compat.v1.image.resize_bilinear(image[None], [4, 4])[0]
            return tf.transpose(image, [2, 0, 1]) / tf.reduce_max(image)

        return [tf.map_fn(one, x, dtype=tf.float32)]

    random = np.random.default_rng(0)
    feeds = [{"x": random.integers(0, 255, (n, 8, 6, 3)).astype("uint8")} for n in (1, 3)]
    graph, changes = rewritten(build, *feeds, atol=1e-5)
    assert_none_left(graph)
    assert any("one computation" in change.message for change in changes)


BODIES: dict[str, Callable[[Any, Any], Any]] = {
    "slice": lambda tf, x: x[1:, ::2, 0],
    "new axis": lambda tf, x: x[..., None, 1],
    "negative squeeze": lambda tf, x: tf.squeeze(x[:, :, :1], [-1]),
    "reshape": lambda tf, x: tf.reshape(x, [3, -1]),
    "reshape to its own shape": lambda tf, x: tf.reshape(x, tf.concat([tf.shape(x)[1:], [2]], 0)),
    "pad": lambda tf, x: tf.pad(x, [[1, 0], [0, 2], [0, 0]]),
    "concat": lambda tf, x: tf.concat([x, x * 2], -1),
    "stack": lambda tf, x: tf.stack([x, -x], -2),
    "unstack": lambda tf, x: tf.unstack(x, axis=-1)[1],
    "split": lambda tf, x: tf.split(x, 2, axis=1)[1],
    "broadcast of different ranks": lambda tf, x: x * tf.reduce_mean(x, 0) - x[0, 0, 0],
    "a larger constant": lambda tf, x: x[0, 0] * tf.ones([2, 5, 3]),
    "mean of all": lambda tf, x: tf.reduce_mean(x, keepdims=True),
    "product with a matrix": lambda tf, x: tf.matmul(x[0], tf.ones([3, 2])),
    "product with its own": lambda tf, x: tf.matmul(x[0], x[1], transpose_a=True),
    "softmax": lambda tf, x: tf.nn.softmax(x),
    "standardised": lambda tf, x: tf.image.per_image_standardization(x),
}


@pytest.mark.parametrize("body", BODIES)
def test_what_a_map_does_is_done_to_the_whole_batch(body: str) -> None:
    def build(tf: Any) -> Any:
        x = tf.compat.v1.placeholder(tf.float32, [None, 2, 4, 3], "x")
        return [tf.map_fn(lambda each: BODIES[body](tf, each), x)]

    graph, changes = rewritten(build, {"x": numbers(3, 2, 4, 3)}, {"x": numbers(1, 2, 4, 3)}, atol=1e-5)
    assert_none_left(graph)
    assert any("one computation" in change.message for change in changes)


def test_a_loop_that_carries_something_on_is_no_map() -> None:
    def build(tf: Any) -> Any:
        x = tf.compat.v1.placeholder(tf.float32, [None, 2], "x")
        return [tf.scan(lambda total, each: total + each, x, initializer=tf.zeros([2]))]

    graph = graph_of(build)
    changes = without_loops(graph)
    assert any(change.warning and "to the next" in change.message for change in changes)


def test_a_loop_that_carries_a_vector_of_one_element_is_looked_at_too() -> None:
    """A decoder of one sample carries its token as a vector of length 1, which is no counter."""

    def build(tf: Any) -> list[Any]:
        stop = tf.compat.v1.placeholder(tf.int32, [], name="stop")
        first = tf.TensorArray(tf.int32, size=0, dynamic_size=True, clear_after_read=False)

        def body(i: Any, token: Any, written: Any) -> Any:
            return i + 1, token * 3 % 7, written.write(i, token)

        loop = tf.compat.v1.while_loop(
            lambda i, token, _: tf.logical_and(i < stop, tf.reduce_all(token < 6)),
            body,
            [tf.constant(0), tf.constant([2]), first],
        )
        return [loop[2].stack()]

    rewritten(build, {"stop": np.int32(5)}, {"stop": np.int32(1)})
