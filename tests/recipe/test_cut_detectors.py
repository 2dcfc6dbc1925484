"""Detectors without the names of any API: lists of open length, cuts by structure, what a target refuses."""

import json
import os

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def network(image, classes=2):
    """Boxes ``[16, 4]`` and scores ``[16, classes]`` of a small net that looks at 16 by 16 pixels."""
    import tensorflow as tf

    rng = np.random.default_rng(4)
    kernel = rng.normal(0, 0.4, (3, 3, 3, 4 + classes)).astype(np.float32)
    x = tf.reshape(tf.nn.conv2d(image, kernel, 4, "SAME"), [16, 4 + classes])
    corner = tf.sigmoid(x[:, :2]) * 0.7
    boxes = tf.concat([corner, corner + 0.1 + 0.3 * tf.sigmoid(x[:, 2:4])], -1)
    return boxes, tf.sigmoid(3.0 * x[:, 4:])


def saved(path, build):
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        build(tf.compat.v1.placeholder(tf.float32, [1, 16, 16, 3], "pixels"))
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


def class_by_class(image):
    import tensorflow as tf

    boxes, scores = network(image)
    found = ([], [], [])
    for number in range(2):
        sure = scores[:, number] > 0.4
        some, values = tf.boolean_mask(boxes, sure), tf.boolean_mask(scores[:, number], sure)
        kept = tf.image.non_max_suppression(some, values, 5, 0.4)
        found[0].append(tf.gather(some, kept))
        found[1].append(tf.gather(values, kept))
        found[2].append(tf.fill([tf.size(kept)], number))
    for name, parts in zip("xyz", found, strict=True):
        tf.concat(parts, 0, name=name)


def by_overlaps(image):
    """Overlaps of every two boxes computed in the graph; neither TFLite nor ONNX has what comes then."""
    import tensorflow as tf

    boxes, scores = network(image, 1)
    low = tf.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = tf.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = tf.reduce_prod(tf.maximum(high - low, 0.0), -1)
    areas = tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], -1)
    matrix = shared / (areas[:, None] + areas[None] - shared)
    kept = tf.image.non_max_suppression_overlaps(matrix, scores[:, 0], 6, 0.4)
    tf.gather(boxes, kept, name="detection_boxes")
    tf.gather(scores[:, 0], kept, name="detection_scores")


@pytest.fixture
def photographs(tmp_path):
    pixels = np.random.default_rng(1).random((4, 1, 16, 16, 3), np.float32)
    np.savez(tmp_path / "data.npz", pixels=pixels)
    return tmp_path / "data.npz"


def test_lists_of_open_length_are_kept_and_proven(tmp_path, photographs, edgeconv):
    model = saved(tmp_path / "net.pb", class_by_class)
    ran = edgeconv("convert", model, "--data", photographs, "-o", tmp_path / "out")
    assert ran.code == 0, ran.all
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert {a["id"] for a in manifest["artifacts"]} == {"frozen_graph.fp32", "tflite.fp32", "onnx.fp32"}
    assert manifest["back_end"] is None


def test_such_a_model_is_cut_in_front_of_its_masks(tmp_path, photographs, edgeconv):
    model = saved(tmp_path / "net.pb", class_by_class)
    ran = edgeconv(
        "convert", model, "--data", photographs, "--to", "tflite,onnx", "--postprocessing", "cut",
        "-o", tmp_path / "out",
    )  # fmt: skip
    assert ran.code == 0, ran.all
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert {a["id"] for a in manifest["artifacts"]} == {"tflite.fp32", "onnx.fp32"}
    back_end = manifest["back_end"]
    assert back_end["outputs"] == ["x", "y", "z"]
    assert [spec["shape"] for spec in back_end["inputs"]] == [[16, 4], [16, 2]]
    assert {name: gate["verdict"] for name, gate in back_end["composed"].items()} == {
        "tflite.fp32": "pass",
        "onnx.fp32": "pass",
    }


def test_what_a_target_refuses_is_cut_by_itself_and_said(tmp_path, photographs, edgeconv):
    model = saved(tmp_path / "net.pb", by_overlaps)
    ran = edgeconv("convert", model, "--data", photographs, "--to", "tflite", "-o", tmp_path / "out")
    assert ran.code == 0, ran.all
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["failures"] == []
    assert manifest["source"]["path"] == str(model)
    tflite = next(a for a in manifest["artifacts"] if a["id"] == "tflite.fp32")
    assert tflite["gate"]["verdict"] == "pass"
    assert manifest["back_end"]["composed"]["tflite.fp32"]["verdict"] == "pass"
    notes = " ".join(manifest["source"]["notes"])
    assert "tflite.fp32: refused with its post-processing" in notes
    assert "NonMaxSuppressionWithOverlaps" in notes
    # What could be made whole is whole: nothing of the cut part lies over it.
    whole = [a for a in manifest["artifacts"] if a["id"] == "frozen_graph.fp32"]
    assert all(len(a["contract"]["outputs"]) == 2 and "detection" in a["contract"]["outputs"][0]["name"]
               for a in whole)  # fmt: skip
