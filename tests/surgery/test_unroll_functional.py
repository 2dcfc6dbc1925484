"""Loops with functions that take few trips are written down; others stay the loops they are."""

import os

import numpy as np
import pytest

from edgeconv.surgery.graph import Graph
from edgeconv.surgery.graph_unroll_functional import rewrite

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def frozen(function, *shapes):
    """A graph of ``function`` with control flow as functions, its inputs ``x0``, ``x1`` … of these shapes."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    specs = [tf.TensorSpec(shape, tf.float32, f"x{i}") for i, shape in enumerate(shapes)]
    made = tf.function(function, input_signature=specs).get_concrete_function()
    made = convert_variables_to_constants_v2(made, lower_control_flow=False)
    outputs = [tensor.name for tensor in made.outputs]
    return Graph(made.graph.as_graph_def(), outputs=outputs, inputs=[t.name for t in made.inputs], path="net")


def run(graph, *arrays):
    import tensorflow as tf

    with tf.Graph().as_default() as loaded:
        tf.import_graph_def(graph.graph_def, name="")
        with tf.compat.v1.Session() as session:
            feeds = {
                loaded.get_tensor_by_name(r if ":" in r else f"{r}:0"): array
                for r, array in zip(graph.inputs, arrays, strict=True)
            }
            return session.run([r if ":" in r else f"{r}:0" for r in graph.outputs], feeds)


def ops(graph):
    return {node.op for node in graph.graph_def.node}


def resized(x):
    """What a detector does to each image of a batch: made smaller where it is large, and padded."""
    import tensorflow as tf

    def one(image):
        size = tf.shape(image)[:2]
        longest = tf.reduce_max(size)
        wide = tf.cond(longest > 4, lambda: image[::2, ::2], lambda: image)
        after = tf.shape(wide)
        return tf.pad(wide, [[0, 8 - after[0]], [0, 8 - after[1]], [0, 0]]), after

    pictures, sizes = tf.map_fn(one, x, fn_output_signature=(tf.float32, tf.int32))
    return tf.reshape(pictures, [-1, 8, 8, 3]), tf.cast(sizes, tf.float32)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_map_over_a_small_batch_is_written_down_with_its_lists_and_branches(batch):
    graph = frozen(resized, (batch, 8, 6, 3))
    x = np.random.default_rng(0).random((batch, 8, 6, 3), np.float32)
    before = run(graph, x)
    (change,) = rewrite(graph)
    assert f"{batch} trip" in change.message
    assert not {op for op in ops(graph) if "While" in op or "TensorList" in op or op.endswith("If")}
    for one, two in zip(before, run(graph, x), strict=True):
        np.testing.assert_array_equal(one, two)
    assert rewrite(graph) == []


def test_a_long_loop_stays_a_loop():
    import tensorflow as tf

    graph = frozen(lambda x: tf.map_fn(lambda row: row * 2.0 + tf.reduce_max(row), x), (9, 4))
    x = np.random.default_rng(0).random((9, 4), np.float32)
    before = run(graph, x)
    assert rewrite(graph) == []
    assert "StatelessWhile" in ops(graph)
    np.testing.assert_array_equal(before[0], run(graph, x)[0])


def test_a_loop_whose_length_is_data_stays_a_loop():
    import tensorflow as tf

    def halved(x):
        return tf.while_loop(lambda v: tf.reduce_max(v) > 1.0, lambda v: (v / 2.0,), (x,))[0]

    graph = frozen(halved, (3,))
    assert rewrite(graph) == []
    assert run(graph, np.float32([8, 2, 1]))[0].tolist() == [1.0, 0.25, 0.125]


def test_a_batch_of_open_size_stays_a_loop_and_is_said_so_that_it_can_be_pinned():
    graph = frozen(resized, (None, 8, 6, 3))
    (change,) = rewrite(graph)
    assert change.warning
    assert "open" in change.message
    x = np.ones((2, 8, 6, 3), np.float32)
    assert run(graph, x)[0].shape == (2, 8, 8, 3)


def test_a_counter_with_a_step_of_its_own_is_followed():
    import tensorflow as tf

    def grown(x):
        return tf.while_loop(lambda i, v: i < 5, lambda i, v: (i + 2, v * 3.0), (tf.constant(0), x))[1]

    graph = frozen(grown, (2,))
    (change,) = rewrite(graph)
    assert "3 trips" in change.message
    np.testing.assert_allclose(run(graph, np.float32([1, 2]))[0], [27, 54])
