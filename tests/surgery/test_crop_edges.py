"""Boxes that end at the border of the image are cropped as TensorFlow does, in TFLite and ONNX too."""

import os

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def test_samples_at_the_border_are_inside_where_they_are_in_tensorflow(tmp_path, edgeconv):
    """TFLite's converter multiplies by the reciprocal of a constant, and a sample left the image by a bit."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    boxes = rng.random((1, 200, 4), np.float32)
    boxes[:, ::2, 2:] = 1.0
    with tf.Graph().as_default() as graph:
        image = tf.compat.v1.placeholder(tf.float32, [1, 9, 15, 2], "image")
        where = tf.compat.v1.placeholder(tf.float32, [1, 200, 4], "boxes")
        which = np.zeros(200, np.int32)
        crops = tf.image.crop_and_resize(image, where[0], which, [14, 14], extrapolation_value=-50.0)
        tf.identity(crops, "crops")
    (tmp_path / "net.pb").write_bytes(graph.as_graph_def().SerializeToString())
    np.savez(tmp_path / "data.npz", image=rng.random((1, 1, 9, 15, 2), np.float32), boxes=boxes[None])
    ran = edgeconv(
        "convert", tmp_path / "net.pb", "--to", "tflite,onnx", "--data", tmp_path / "data.npz",
        "-o", tmp_path / "out",
    )  # fmt: skip
    assert ran.code == 0, ran.all
