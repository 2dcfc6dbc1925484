"""Object detectors are told by what their graph does, and their outputs by role."""

import os

import pytest

from edgeconv.formats import describe
from edgeconv.formats.graph_candidates import candidate_outputs, unambiguous

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def detector(*, named=True, image=True, suppress=True):
    """A detector in small: a convolution, boxes and scores of a grid, suppression, and by-products."""
    import numpy as np
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        if image:
            x = v1.placeholder(tf.uint8, [None, None, None, 3], "image_tensor")
            x = tf.cast(x, tf.float32) / 255.0
            x = v1.image.resize_bilinear(x, [4, 4])
            x = tf.nn.conv2d(x, np.ones((3, 3, 3, 5), np.float32), 1, "SAME")
        else:
            x = v1.placeholder(tf.float32, [1, 16, 5], "numbers")
        rows = tf.reshape(x, [-1, 16, 5])
        boxes, scores = tf.identity(rows[..., :4], "raw_detection_boxes"), tf.sigmoid(rows[..., 4])
        chosen = tf.image.non_max_suppression(boxes[0], scores[0], 8) if suppress else tf.range(8)
        prefix = "detection_" if named else "out_"
        tf.identity(tf.gather(boxes, chosen, axis=1), f"{prefix}boxes")
        tf.identity(tf.gather(scores, chosen, axis=1), f"{prefix}scores")
        tf.reshape(tf.cast(tf.size(chosen), tf.float32), [1], name="num_detections" if named else "out_n")
        tf.identity(rows * 2.0, "box_features")
    return graph.as_graph_def()


def findings(graph_def, tmp_path):
    (tmp_path / "graph.pb").write_bytes(graph_def.SerializeToString())
    found = describe(tmp_path / "graph.pb").findings
    return [finding for finding in found if finding.code == "object-detection"]


def test_a_detector_is_a_finding_with_the_evidence(tmp_path):
    (finding,) = findings(detector(), tmp_path)
    assert "NonMaxSuppressionV3 (1 times) drops overlapping boxes" in finding.message
    assert "'image_tensor' takes images (uint8 ?×?×?×3)" in finding.message
    assert "detection_boxes" in finding.message
    assert "--pipeline-config" in finding.hint


def test_names_are_not_needed_where_images_go_in(tmp_path):
    assert findings(detector(named=False), tmp_path)


@pytest.mark.parametrize("without", [{"suppress": False}, {"image": False, "named": False}])
def test_what_is_none_is_not_called_one(without, tmp_path):
    assert not findings(detector(**without), tmp_path)


def test_the_detections_are_the_outputs_and_what_stands_beside_them_is_not():
    specs = unambiguous(candidate_outputs(detector()))
    assert [spec.name for spec in specs] == ["detection_boxes", "detection_scores", "num_detections"]


def test_without_suppression_a_name_alone_decides_nothing():
    names = {c.tensor.name: c.score for c in candidate_outputs(detector(suppress=False))}
    assert names["box_features"] >= 0.3


@pytest.mark.corpus
def test_a_real_training_graph_has_its_four_outputs(corpus):
    description = describe(corpus / "odapi-mediapipe-ssdlite-random-weights" / "model.ckpt")
    outputs = [c for c in description.candidates if c.role == "output"]
    assert {spec.name for spec in unambiguous(outputs)} == {
        "detection_boxes",
        "detection_scores",
        "detection_classes",
        "num_detections",
    }
    (finding,) = [f for f in description.findings if f.code == "object-detection"]
    assert "NonMaxSuppressionV4 (90 times)" in finding.message


def test_labels_that_are_counted_out_for_what_was_found_are_an_output_too():
    """Ports of YOLO fill in the number of a class as often as boxes were kept: only a size says how often."""
    import tensorflow as tf

    from edgeconv.formats.graph_candidates import candidate_outputs

    with tf.Graph().as_default() as graph:
        boxes = tf.compat.v1.placeholder(tf.float32, [9, 4], "boxes_in")
        scores = tf.compat.v1.placeholder(tf.float32, [9], "scores_in")
        kept = tf.image.non_max_suppression(boxes, scores, 3)
        tf.gather(boxes, kept, name="a")
        tf.fill([tf.size(kept)], 2, name="b")
        tf.fill([tf.size(boxes)], 2, name="of_no_value")
    found = {c.tensor.name: c.score for c in candidate_outputs(graph.as_graph_def())}
    assert found["a"] >= 0.5
    assert found["b"] >= 0.5
    assert found["of_no_value"] < 0.3
