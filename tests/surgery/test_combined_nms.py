"""``CombinedNonMaxSuppression`` written out gives what the op gives."""

import os

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def built(batch, rows, shared, classes, each, total, *, pad=False, clip=True, threshold=0.3):
    """A graph with the op, whose boxes and scores are its inputs."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        boxes = v1.placeholder(tf.float32, [batch, rows, shared, 4], "boxes")
        scores = v1.placeholder(tf.float32, [batch, rows, classes], "scores")
        found = tf.image.combined_non_max_suppression(
            boxes, scores, each, total, 0.5, threshold, pad_per_class=pad, clip_boxes=clip
        )
        for name, value in zip(("nmsed_boxes", "nmsed_scores", "nmsed_classes", "valid"), found, strict=True):
            tf.identity(value, name)
    return graph.as_graph_def()


OUTPUTS = ("nmsed_boxes", "nmsed_scores", "nmsed_classes", "valid")


def rewritten(graph_def):
    from edgeconv.surgery.graph import Graph
    from edgeconv.surgery.graph_combined_nms import rewrite

    graph = Graph(graph_def, outputs=OUTPUTS, inputs=["boxes", "scores"])
    return graph, rewrite(graph)


def run(graph_def, feeds):
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        with tf.compat.v1.Session(graph=graph) as session:
            fed = {f"{name}:0": value for name, value in feeds.items()}
            return session.run([f"{name}:0" for name in OUTPUTS], fed)


def values(batch, rows, shared, classes, seed=0):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-0.1, 0.8, (batch, rows, shared, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.05, 0.4, corners.shape)], axis=-1)
    return {
        "boxes": boxes.astype(np.float32),
        "scores": rng.random((batch, rows, classes)).astype(np.float32),
    }


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ((1, 30, 1, 3, 5, 10), {}),
        ((2, 30, 3, 3, 5, 10), {}),
        ((1, 30, 1, 1, 5, 10), {}),
        ((1, 4, 1, 2, 50, 100), {}),
        ((1, 4, 1, 2, 50, 100), {"pad": True}),
        ((1, 30, 1, 3, 4, 100), {"pad": True}),
        ((1, 30, 1, 3, 5, 10), {"clip": False}),
        ((1, 30, 1, 3, 5, 10), {"threshold": 0.97}),
        ((1, 30, 1, 3, 5, 10), {"threshold": 2.0}),
        ((1, 30, 1, 3, 5, 10), {"threshold": -1.0}),
    ],
)
def test_it_gives_what_the_op_gives(case, options):
    batch, rows, shared, classes, *_ = case
    graph_def = built(*case, **options)
    feeds = values(batch, rows, shared, classes)
    wanted = run(graph_def, feeds)
    graph, (change,) = rewritten(graph_def)
    assert not change.warning
    assert not any(node.op == "CombinedNonMaxSuppression" for node in graph.graph_def.node)
    for one, two in zip(wanted, run(graph.graph_def, feeds), strict=True):
        assert one.shape == two.shape
        assert one.dtype == two.dtype
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_twice_changes_nothing_more():
    graph, _ = rewritten(built(1, 30, 1, 3, 5, 10))
    from edgeconv.surgery.graph_combined_nms import rewrite

    assert rewrite(graph) == []


def test_an_open_batch_is_left_and_said():
    graph, (change,) = rewritten(built(None, 30, 1, 3, 5, 10))
    assert change.warning
    assert "--shape" in change.message
    assert any(node.op == "CombinedNonMaxSuppression" for node in graph.graph_def.node)


def test_too_many_classes_are_left_and_the_cut_is_named():
    _, (change,) = rewritten(built(1, 4, 1, 2000, 5, 10))
    assert change.warning
    assert "--outputs boxes,scores" in change.message


@pytest.mark.parametrize("target", ["tflite", "onnx"])
def test_edge_formats_take_it_and_are_proven(target, tmp_path, edgeconv):
    (tmp_path / "graph.pb").write_bytes(built(1, 12, 1, 2, 4, 6).SerializeToString())
    ran = edgeconv(
        "convert",
        tmp_path / "graph.pb",
        "--to",
        target,
        "-o",
        tmp_path / "out",
        "--outputs",
        ",".join(OUTPUTS),
    )
    assert ran.code == 0, ran.err
