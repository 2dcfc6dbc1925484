"""The post-processing of a detector as NumPy: what it gives, how it is written, what is refused."""

import importlib.util
import os

import numpy as np
import pytest

from edgeconv.detection import back_end_source
from edgeconv.detection.back_end import back_end_text, parameters_of
from edgeconv.detection.pipeline import pipeline_of
from edgeconv.detection.text_format import parse_text_proto
from edgeconv.errors import UsageError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def pipeline(text="", model="ssd", suppression=""):
    return pipeline_of(
        parse_text_proto(
            f"""model {{ {model} {{ num_classes: 3 {text} post_processing {{
            batch_non_max_suppression {{ score_threshold: 0.2 iou_threshold: 0.5
            max_detections_per_class: 6 max_total_detections: 10 {suppression} }}
            score_converter: SIGMOID }} }} }}"""
        )
    )


def parameters(**others):
    return {**parameters_of(pipeline(), "boxes", "scores", 4), **others}


def written(tmp_path, **others):
    path = tmp_path / "net.back_end.py"
    path.write_text(back_end_text(parameters(**others), "net"))
    spec = importlib.util.spec_from_file_location("written_back_end", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def raw(seed=0, batch=2, anchors=60, columns=4):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-0.1, 0.8, (batch, anchors, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.05, 0.4, corners.shape)], axis=-1)
    return {"boxes": boxes.astype(np.float32), "scores": rng.random((batch, anchors, columns), np.float32)}


@pytest.mark.parametrize("seed", range(4))
def test_it_gives_what_tensorflow_gives_class_by_class(seed, tmp_path):
    import tensorflow as tf

    inputs = raw(seed)
    made = written(tmp_path).back_end(inputs)
    for image in range(2):
        wanted = []
        boxes = inputs["boxes"][image]
        for number in range(1, 4):
            scores = inputs["scores"][image, :, number]
            kept = tf.image.non_max_suppression(boxes, scores, 6, 0.5, 0.2).numpy()
            wanted += [(float(scores[row]), number, np.clip(boxes[row], 0, 1)) for row in kept]
        wanted = sorted(wanted, key=lambda each: -each[0])[:10]
        assert made["num_detections"][image] == len(wanted)
        for row, (score, number, box) in enumerate(wanted):
            assert made["detection_scores"][image, row] == np.float32(score)
            assert made["detection_classes"][image, row] == number
            np.testing.assert_array_equal(made["detection_boxes"][image, row], box)


def test_rows_behind_the_last_detection_are_padding(tmp_path):
    made = written(tmp_path, score_threshold=0.99).back_end(raw(batch=1, anchors=5))
    found = int(made["num_detections"][0])
    assert found < 10
    assert not made["detection_boxes"][0, found:].any()
    assert not made["detection_scores"][0, found:].any()


def test_what_lies_outside_of_the_image_is_no_detection(tmp_path):
    inputs = {
        "boxes": np.float32([[[1.1, 1.1, 1.4, 1.4], [0.1, 0.1, 0.4, 0.4]]]),
        "scores": np.full((1, 2, 4), 0.9, np.float32),
    }
    made = written(tmp_path).back_end(inputs)
    assert made["num_detections"][0] == 3


def test_scores_without_a_background_begin_at_the_first_class(tmp_path):
    assert parameters_of(pipeline(), "b", "s", 3)["background"] is False
    made = written(tmp_path, background=False).back_end(raw(columns=3))
    assert set(made["detection_classes"].ravel()) <= {1.0, 2.0, 3.0}


def test_the_written_module_needs_numpy_alone_and_names_its_model(tmp_path):
    text = back_end_text(parameters(), 'net"""\nimport os')
    assert "import os" not in text.replace("_import os", "")
    imports = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
    assert imports == ["from __future__ import annotations", "from typing import Any", "import numpy as np"]
    compile(text, "net.back_end.py", "exec")


def test_names_and_numbers_are_those_of_the_configuration():
    found = parameters_of(pipeline(), "raw_boxes", "raw_scores", None)
    assert found["boxes"] == "raw_boxes"
    assert (found["score_threshold"], found["iou_threshold"]) == (0.2, 0.5)
    assert (found["max_detections_per_class"], found["max_total_detections"]) == (6, 10)
    assert found["background"] is True
    assert set(found) == set(back_end_source.PARAMETERS)


@pytest.mark.parametrize(
    ("model", "suppression", "what"),
    [
        ("faster_rcnn", "", "Faster R-CNN"),
        ("ssd", "use_class_agnostic_nms: true", "across classes"),
        ("ssd", "soft_nms_sigma: 0.5", "soft suppression"),
    ],
)
def test_what_is_not_written_out_is_refused_with_the_way_out(model, suppression, what):
    with pytest.raises(UsageError, match=what) as refused:
        parameters_of(pipeline(model=model, suppression=suppression), "b", "s", 4)
    assert "--postprocessing keep" in refused.value.hint
