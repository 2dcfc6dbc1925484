"""Detectors through the whole pipeline: named configuration, cut post-processing, training checkpoints."""

import importlib.util
import json
import os
import subprocess

import made_once
import numpy as np
import pytest

from edgeconv.environments import store
from edgeconv.environments.specs import find_spec

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

CONFIG = """
model { ssd { num_classes: 2
  image_resizer { fixed_shape_resizer { height: 16 width: 16 } }
  feature_extractor { type: "ssd_mobilenet_v2" }
  post_processing {
    batch_non_max_suppression {
      score_threshold: 0.3 iou_threshold: 0.5 max_detections_per_class: 4 max_total_detections: 6
    }
    score_converter: SIGMOID
  } } }
eval_input_reader { label_map_path: "labels.pbtxt" }
"""


def detector():
    """An SSD in small: decoded boxes, scores with a background, suppression by class."""
    import tensorflow as tf

    rng = np.random.default_rng(4)
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        image = v1.placeholder(tf.uint8, [None, None, None, 3], "image_tensor")
        x = v1.image.resize_bilinear(tf.cast(image, tf.float32), [16, 16]) * (2 / 255) - 1.0
        x = tf.nn.conv2d(x, rng.normal(0, 0.3, (3, 3, 3, 7)).astype(np.float32), 2, "SAME")
        x = tf.reshape(x, [-1, 64, 7])
        corner = tf.sigmoid(x[..., :2]) * 0.8
        boxes = tf.concat([corner, corner + 0.05 + 0.3 * tf.sigmoid(x[..., 2:4])], axis=-1)
        boxes = tf.identity(boxes, "raw_detection_boxes")
        scores = tf.identity(tf.sigmoid(3.0 * x[..., 4:]), "raw_detection_scores")
        found = tf.image.combined_non_max_suppression(
            boxes[:, :, None], scores[..., 1:], 4, 6, 0.5, 0.3, clip_boxes=True
        )
        tf.identity(found[0], "detection_boxes")
        tf.identity(found[1], "detection_scores")
        tf.add(found[2], 1.0, "detection_classes")
        tf.cast(found[3], tf.float32, "num_detections")
    return graph.as_graph_def()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "frozen_inference_graph.pb").write_bytes(detector().SerializeToString())
    (tmp_path / "pipeline.config").write_text(CONFIG)
    (tmp_path / "labels.pbtxt").write_text("item { id: 1 name: 'cat' } item { id: 2 name: 'dog' }")
    return tmp_path


def manifest_of(folder):
    return json.loads((folder / "out" / "manifest.json").read_text())


def test_inspect_shows_what_the_configuration_says(folder, edgeconv):
    ran = edgeconv("inspect", folder / "frozen_inference_graph.pb", "--json")
    assert ran.code == 0, ran.err
    detector = json.loads(ran.out)["metadata"]["detector"]
    assert detector["architecture"] == "SSD"
    assert detector["resizer"] == "fixed_shape, 16×16"
    assert detector["normalisation"] == "symmetric"
    assert detector["labels"] == "labels.pbtxt"
    (folder / "other.config").write_text(CONFIG.replace("num_classes: 2", "num_classes: 7"))
    ran = edgeconv(
        "inspect",
        folder / "frozen_inference_graph.pb",
        "--pipeline-config",
        folder / "other.config",
        "--json",
    )
    assert json.loads(ran.out)["metadata"]["detector"]["classes"] == 7


def test_a_detector_is_taken_whole_with_what_lies_beside_it(folder, edgeconv):
    model = folder / "frozen_inference_graph.pb"
    ran = edgeconv("convert", model, "--to", "frozen_graph,tflite,onnx", "-o", folder / "out")
    assert ran.code == 0, ran.err
    manifest = manifest_of(folder)
    for artifact in manifest["artifacts"]:
        contract = artifact["contract"]
        assert {spec["name"] for spec in contract["outputs"]} == {
            "detection_boxes",
            "detection_scores",
            "detection_classes",
            "num_detections",
        }
        assert contract["labels"] == ["background", "cat", "dog"]
        assert contract["layout"] == "NHWC"
        assert contract["normalisation"]["kind"] == "symmetric"
        reasons = [output["reason"] for output in artifact["gate"]["outputs"]]
        assert any("detections matched" in (reason or "") for reason in reasons)
    assert any("pinned to 1×16×16×3" in note for note in manifest["source"]["notes"])


def test_the_size_of_images_stays_open_where_no_tflite_file_is_made(folder, edgeconv):
    model = folder / "frozen_inference_graph.pb"
    ran = edgeconv("convert", model, "--to", "frozen_graph", "-o", folder / "out")
    assert ran.code == 0, ran.err
    (artifact,) = manifest_of(folder)["artifacts"]
    assert artifact["contract"]["inputs"][0]["shape"] == [None, None, None, 3]
    assert artifact["contract"]["labels"] == ["background", "cat", "dog"]


def test_the_post_processing_is_cut_and_supplied_beside(folder, edgeconv):
    model = folder / "frozen_inference_graph.pb"
    ran = edgeconv("convert", model, "--to", "tflite", "--postprocessing", "cut", "-o", folder / "out")
    assert ran.code == 0, ran.err
    manifest = manifest_of(folder)
    (artifact,) = [a for a in manifest["artifacts"] if a["format"] == "tflite"]
    assert [spec["name"] for spec in artifact["contract"]["outputs"]] == [
        "raw_detection_boxes",
        "raw_detection_scores",
    ]
    assert manifest["back_end"]["gate"]["verdict"] == "pass"
    assert any("detections matched" in (o["reason"] or "") for o in manifest["back_end"]["gate"]["outputs"])
    # The two together, as a person would run them.
    import edgeconv as package

    spec = importlib.util.spec_from_file_location("b", folder / "out" / manifest["back_end"]["path"])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3)).astype(np.uint8)
    with package.load(folder / "out" / artifact["path"]) as session:
        given = module.back_end(session({"image_tensor": image}))
    assert given["num_detections"][0] > 0


def test_a_wrong_number_in_the_configuration_fails_the_back_end(folder, edgeconv):
    wrong = CONFIG.replace("iou_threshold: 0.5", "iou_threshold: 0.9")
    (folder / "pipeline.config").write_text(wrong)
    model = folder / "frozen_inference_graph.pb"
    ran = edgeconv("convert", model, "--to", "tflite", "--postprocessing", "cut", "-o", folder / "out")
    assert ran.code == 1
    assert manifest_of(folder)["back_end"]["gate"]["verdict"] == "fail"


def test_without_a_configuration_the_cut_is_found_in_the_graph_with_its_own_numbers(folder, edgeconv):
    (folder / "pipeline.config").unlink()
    model = folder / "frozen_inference_graph.pb"
    ran = edgeconv(
        "convert", model, "--to", "tflite,onnx", "--postprocessing", "cut",
        "--shape", "image_tensor=1,16,16,3", "-o", folder / "out",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    manifest = manifest_of(folder)
    back_end = manifest["back_end"]
    assert back_end["gate"]["verdict"] == "pass"
    assert {name: gate["verdict"] for name, gate in back_end["composed"].items()} == {
        "tflite.fp32": "pass",
        "onnx.fp32": "pass",
    }
    assert set(back_end["outputs"]) == {
        "detection_boxes", "detection_scores", "detection_classes", "num_detections"
    }  # fmt: skip
    text = (folder / "out" / back_end["path"]).read_text()
    assert "combined_suppression" in text
    for artifact in manifest["artifacts"]:
        assert artifact["gate"]["verdict"] == "pass"
        assert len(artifact["contract"]["outputs"]) == 2
    assert manifest["source"]["path"] == str(model)


def test_a_model_that_is_no_detector_cannot_be_cut(tmp_path, edgeconv):
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [1, 4], "x")
        tf.nn.softmax(x, name="y")
    (tmp_path / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    ran = edgeconv("convert", tmp_path / "graph.pb", "--postprocessing", "cut", "-o", tmp_path / "out")
    assert ran.code == 2
    assert "--postprocessing keep" in ran.err


def checkpoint_in(folder):
    """A TensorFlow 2 checkpoint by objects, of nothing in particular."""
    import tensorflow as tf

    module = tf.Module()
    module.value = tf.Variable([1.0, 2.0], name="value")
    return tf.train.Checkpoint(model=module).save(str(folder / "ckpt"))


def test_a_training_checkpoint_without_the_environment_names_the_command(tmp_path, edgeconv):
    prefix = checkpoint_in(tmp_path)
    (tmp_path / "pipeline.config").write_text(CONFIG)
    ran = edgeconv("convert", prefix, "--to", "tflite", "-o", tmp_path / "out")
    assert ran.code == 4
    assert "edgeconv environments create object-detection" in ran.err


@pytest.mark.corpus
def test_a_checkpoint_whose_values_are_missing_is_refused_for_that(corpus, edgeconv, tmp_path):
    ran = edgeconv(
        "convert", corpus / "odapi-tf2-ckptonly/inference_graph/checkpoint/ckpt-0", "-o", tmp_path / "out"
    )
    assert ran.code == 2
    assert "ckpt-0.data-00000-of-00001" in ran.err


TRAINED = """
model { ssd {
  num_classes: 3
  image_resizer { fixed_shape_resizer { height: 128 width: 128 } }
  feature_extractor {
    type: "ssd_mobilenet_v2_keras" depth_multiplier: 0.25 min_depth: 8
    conv_hyperparams {
      regularizer { l2_regularizer { weight: 4e-05 } } initializer { truncated_normal_initializer { } }
      activation: RELU_6 batch_norm { decay: 0.97 center: true scale: true epsilon: 0.001 }
    }
    override_base_feature_extractor_hyperparams: true
  }
  box_coder { faster_rcnn_box_coder { y_scale: 10 x_scale: 10 height_scale: 5 width_scale: 5 } }
  matcher { argmax_matcher { } } similarity_calculator { iou_similarity { } }
  box_predictor { convolutional_box_predictor {
    conv_hyperparams {
      regularizer { l2_regularizer { weight: 4e-05 } } initializer { random_normal_initializer { } }
    }
    kernel_size: 1 box_code_size: 4 } }
  anchor_generator { ssd_anchor_generator { num_layers: 6 aspect_ratios: [1.0, 2.0, 0.5] } }
  post_processing {
    batch_non_max_suppression { score_threshold: 1e-8 max_detections_per_class: 10 max_total_detections: 10 }
    score_converter: SIGMOID
  }
  loss { localization_loss { weighted_smooth_l1 { } } classification_loss { weighted_sigmoid_focal { } } }
} }
"""
BUILD = """
import sys, numpy as np, tensorflow as tf
from google.protobuf import text_format
from object_detection.builders import model_builder
from object_detection.protos import pipeline_pb2
config = pipeline_pb2.TrainEvalPipelineConfig()
text_format.Parse(open(sys.argv[1]).read(), config)
model = model_builder.build(config.model, is_training=False)
image, shapes = model.preprocess(tf.zeros([1, 128, 128, 3]))
model.postprocess(model.predict(image, shapes), shapes)
rng = np.random.default_rng(7)
for variable in model.variables:
    shape, name = tuple(variable.shape), variable.name
    if "variance" in name or "gamma" in name:
        value = rng.uniform(0.5, 1.5, shape)
    elif len(shape) >= 2:
        value = rng.normal(0, np.sqrt(2 / (9 if "depthwise" in name else np.prod(shape[:-1]))), shape)
    else:
        value = rng.normal(0, 0.3, shape)
    variable.assign((value * (0.1 if "Predictor" in name else 1)).astype(np.float32))
print(tf.train.Checkpoint(model=model).save(sys.argv[2]))
"""


@pytest.fixture
def environment(monkeypatch):
    """The side environment, where somebody made it: it is 3 GB, and no test makes one by itself."""
    made = store.found(find_spec("object-detection"), made_once.cache() / "environments")
    if made is None:
        pytest.skip(
            f"EDGECONV_CACHE_DIR={made_once.cache()} edgeconv environments create object-detection, and again"
        )
    monkeypatch.setenv("EDGECONV_CACHE_DIR", str(made_once.cache()))
    return made


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_training_checkpoint_is_exported_and_its_detections_proven(environment, tmp_path, edgeconv):
    config = tmp_path / "pipeline.config"
    config.write_text(TRAINED)
    script = tmp_path / "build.py"
    script.write_text(BUILD)
    built = subprocess.run(
        [environment.python, "-I", script, config, tmp_path / "ckpt"],
        env=environment.variables(),
        capture_output=True,
        text=True,
        check=True,
    )
    prefix = built.stdout.splitlines()[-1]
    ran = edgeconv(
        "convert",
        prefix,
        "--to",
        "saved_model,tflite,onnx",
        "-o",
        tmp_path / "out",
        "--no-cache",
        timeout=900,
    )
    assert ran.code == 0, ran.err
    manifest = manifest_of(tmp_path)
    assert {a["id"] for a in manifest["artifacts"]} >= {"saved_model.fp32", "tflite.fp32", "onnx.fp32"}
    for artifact in manifest["artifacts"]:
        assert artifact["gate"]["verdict"] == "pass"
        assert any("10 of 10" in (o["reason"] or "") or "detections matched" in (o["reason"] or "")
                   for o in artifact["gate"]["outputs"])  # fmt: skip

    # A checkpoint of another model is refused: the exporter by itself would leave its variables random.
    config.write_text(TRAINED.replace("depth_multiplier: 0.25", "depth_multiplier: 0.5"))
    ran = edgeconv(
        "convert", prefix, "--to", "saved_model", "-o", tmp_path / "other", "--no-cache", timeout=900
    )
    assert ran.code == 5
    assert "does not fit the pipeline.config" in ran.err
