"""Where detectors are cut: in front of the last suppression, at tensors of fixed size, whatever the names."""

import os

import numpy as np
import pytest

from edgeconv.errors import UsageError
from edgeconv.surgery.graph import Graph
from edgeconv.surgery.post_processing import find_cut, shapes_of

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def built(build, outputs, inputs=("image",)):
    """A Graph of what ``build`` makes of an image of 8 by 8 pixels."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        image = v1.placeholder(tf.float32, [1, 8, 8, 3], "image")
        x = tf.nn.conv2d(image, np.ones((3, 3, 3, 7), np.float32), 2, "SAME")
        build(v1, tf.reshape(x, [16, 7]), image)
    return Graph(graph.as_graph_def(), outputs=list(outputs), inputs=list(inputs), path="net.pb")


def of_each_class(v1, x, image):
    import tensorflow as tf

    boxes = tf.sigmoid(x[:, :4], name="corners")
    scores = tf.sigmoid(x[:, 4:], name="sureness")
    found = []
    for number in range(3):
        kept = v1.image.non_max_suppression(boxes, scores[:, number], 4, 0.5, 0.2)
        found.append(tf.gather(boxes, kept))
    tf.concat(found, 0, name="found")


def test_slices_by_class_stand_behind_the_cut():
    graph = built(of_each_class, ["found"])
    cut = find_cut(graph)
    assert cut.tensors == ("corners", "sureness")
    assert len(cut.suppressions) == 3
    assert cut.given == (0,)
    assert shapes_of(graph, cut.tensors) == [("float32", (16, 4)), ("float32", (16, 3))]


def filtered(v1, x, image):
    import tensorflow as tf

    boxes = tf.sigmoid(x[:, :4], name="corners")
    score = tf.sigmoid(x[:, 4], name="sureness")
    sure = score > 0.3
    some, values = tf.boolean_mask(boxes, sure), tf.boolean_mask(score, sure)
    kept = v1.image.non_max_suppression(some, values, 4)
    tf.gather(some, kept, name="found")


def test_masks_of_open_length_stand_behind_the_cut():
    assert find_cut(built(filtered, ["found"])).tensors == ("corners", "sureness")


def in_a_loop(v1, x, image):
    import tensorflow as tf

    boxes = tf.sigmoid(tf.reshape(x[:, :4], [1, 16, 4]), name="corners")
    scores = tf.sigmoid(tf.reshape(x[:, 4], [1, 16]), name="sureness")

    def one(each):
        kept = v1.image.non_max_suppression(each[0], each[1], 4)
        return tf.pad(tf.gather(each[0], kept), [[0, 4 - tf.shape(kept)[0]], [0, 0]])

    tf.identity(v1.map_fn(one, (boxes, scores), dtype=tf.float32), "found")


@pytest.mark.parametrize("version", [1, 2])
def test_a_loop_over_the_batch_is_taken_whole(version):
    import tensorflow as tf

    was = tf.compat.v1.control_flow_v2_enabled()
    (tf.compat.v1.enable_control_flow_v2 if version == 2 else tf.compat.v1.disable_control_flow_v2)()
    try:
        graph = built(in_a_loop, ["found"])
    finally:
        (tf.compat.v1.enable_control_flow_v2 if was else tf.compat.v1.disable_control_flow_v2)()
    ops = {node.op for node in graph.graph_def.node}
    assert ("Enter" in ops) == (version == 1)
    assert set(find_cut(graph).tensors) == {"corners", "sureness"}


def two_stages(v1, x, image, second="again"):
    import tensorflow as tf

    regions = tf.sigmoid(x[:, :4], name="regions")
    first = v1.image.non_max_suppression(regions, x[:, 4], 4)
    crops = tf.image.crop_and_resize(image, tf.gather(regions, first), tf.zeros_like(first), [2, 2])
    y = tf.nn.conv2d(crops, np.ones((2, 2, 3, 5), np.float32), 1, "VALID")[:, 0, 0]
    boxes, score = tf.sigmoid(y[:, :4], name="corners"), tf.sigmoid(y[:, 4], name="sureness")
    if second:
        kept = v1.image.non_max_suppression(boxes, score, 4)
        boxes = tf.gather(boxes, kept)
    tf.identity(boxes, "found")


def test_what_a_second_stage_looks_at_is_no_end():
    cut = find_cut(built(two_stages, ["found"]))
    assert cut.tensors == ("corners", "sureness")
    assert len(cut.suppressions) == 1


def test_a_suppression_inside_of_the_network_cannot_be_cut_off():
    graph = built(lambda v1, x, image: two_stages(v1, x, image, second=""), ["found"])
    with pytest.raises(UsageError, match="goes back into the network") as refused:
        find_cut(graph)
    assert "--postprocessing keep" in refused.value.hint


def test_a_graph_without_suppression_has_nothing_to_cut_off():
    import tensorflow as tf

    graph = built(lambda v1, x, image: tf.nn.softmax(x, name="found"), ["found"])
    with pytest.raises(UsageError, match="nothing in this model drops overlapping boxes"):
        find_cut(graph)


def with_sizes(v1, x, image):
    import tensorflow as tf

    size = v1.placeholder(tf.float32, [2], "size")
    boxes = tf.sigmoid(x[:, :4], name="corners")
    kept = v1.image.non_max_suppression(boxes, tf.sigmoid(x[:, 4], name="sureness"), 4)
    tf.multiply(tf.gather(boxes, kept), tf.concat([size, size], 0), name="found")
    tf.identity(boxes, "raw")


def test_inputs_that_only_the_rest_needs_go_into_the_rest():
    graph = built(with_sizes, ["found", "raw"], ["image", "size"])
    cut = find_cut(graph)
    assert cut.tensors == ("corners", "sureness")
    assert cut.inputs == ("size",)
    assert cut.given == (0,)
