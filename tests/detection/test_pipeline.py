"""What a pipeline.config says, read without the Object Detection API."""

import pytest

from edgeconv.detection.normalisers import (
    CHANNEL_MEANS,
    MEAN_AND_DEVIATION,
    NOTHING,
    SYMMETRIC,
    normaliser_of,
)
from edgeconv.detection.pipeline import Resizer, beside, pipeline_of, read_pipeline
from edgeconv.detection.text_format import parse_text_proto
from edgeconv.errors import InvalidModelError

SSD = """
model {
  ssd {
    num_classes: 3
    image_resizer { fixed_shape_resizer { height: 128 width: 96 } }
    feature_extractor { type: "ssd_mobilenet_v2_keras" }
    box_coder { faster_rcnn_box_coder { y_scale: 10 x_scale: 11 height_scale: 5 width_scale: 6 } }
    anchor_generator { ssd_anchor_generator { num_layers: 6 aspect_ratios: 1.0 aspect_ratios: 2.0 } }
    post_processing {
      batch_non_max_suppression {
        score_threshold: 1e-8 iou_threshold: 0.5 max_detections_per_class: 20 max_total_detections: 30
      }
      score_converter: SIGMOID
    }
  }
}
eval_input_reader { label_map_path: "data/labels.pbtxt" }
"""
FASTER_RCNN = """
model {
  faster_rcnn {
    num_classes: 90
    image_resizer { keep_aspect_ratio_resizer { min_dimension: 600 max_dimension: 1024 } }
    feature_extractor { type: "faster_rcnn_resnet101_keras" }
    first_stage_anchor_generator { grid_anchor_generator { scales: [0.25, 0.5] } }
    second_stage_post_processing { batch_non_max_suppression { iou_threshold: 0.6 } score_converter: SOFTMAX }
  }
}
"""
CENTER_NET = """
model {
  center_net {
    num_classes: 90
    feature_extractor {
      type: "hourglass_104"
      channel_means: [104.0136, 114.0342, 119.9166]
      channel_stds: [73.6028, 69.8908, 70.9151]
      bgr_ordering: true
    }
    image_resizer {
      keep_aspect_ratio_resizer { min_dimension: 512 max_dimension: 512 pad_to_max_dimension: true }
    }
  }
}
"""


def read(text):
    return pipeline_of(parse_text_proto(text), "pipeline.config")


def test_an_ssd():
    pipeline = read(SSD)
    assert (pipeline.kind, pipeline.architecture, pipeline.num_classes) == ("ssd", "SSD", 3)
    assert pipeline.resizer == Resizer("fixed_shape", height=128, width=96)
    assert pipeline.resizer.size == (128, 96)
    assert pipeline.normaliser == SYMMETRIC
    assert pipeline.box_scales == (10.0, 11.0, 5.0, 6.0)
    assert pipeline.post_processing.score_converter == "SIGMOID"
    assert pipeline.post_processing.iou_threshold == 0.5
    assert pipeline.post_processing.max_detections_per_class == 20
    assert pipeline.post_processing.max_total_detections == 30
    assert pipeline.anchors.kind == "ssd"
    assert pipeline.anchors.values["aspect_ratios"] == (1.0, 2.0)
    assert pipeline.label_map == "data/labels.pbtxt"
    assert pipeline.normalisation()["mean"] == [127.5, 127.5, 127.5]


def test_a_faster_rcnn_keeps_the_aspect_so_its_size_depends_on_the_image():
    pipeline = read(FASTER_RCNN)
    assert pipeline.architecture == "Faster R-CNN"
    assert pipeline.resizer.size is None
    assert pipeline.normaliser == CHANNEL_MEANS
    assert pipeline.post_processing.score_converter == "SOFTMAX"
    assert pipeline.anchors.kind == "grid"


def test_a_center_net_says_its_own_means():
    pipeline = read(CENTER_NET)
    assert pipeline.resizer.size == (512, 512)
    assert pipeline.normaliser.mean == (104.0136, 114.0342, 119.9166)
    assert pipeline.normaliser.channels == "BGR"
    assert pipeline.anchors is None


@pytest.mark.parametrize(
    ("kind", "name", "normaliser"),
    [
        ("ssd", "ssd_mobilenet_v1_fpn_keras", SYMMETRIC),
        ("ssd", "ssd_inception_v2", SYMMETRIC),
        ("ssd", "ssd_resnet50_v1_fpn_keras", CHANNEL_MEANS),
        ("ssd", "ssd_efficientnet-b0_bifpn_keras", MEAN_AND_DEVIATION),
        ("faster_rcnn", "faster_rcnn_inception_resnet_v2_keras", SYMMETRIC),
        ("faster_rcnn", "faster_rcnn_resnet50", CHANNEL_MEANS),
        ("faster_rcnn", "faster_rcnn_nas", SYMMETRIC),
        ("center_net", "hourglass_104", NOTHING),
        ("ssd", "ssd_somebodys_own", None),
    ],
)
def test_the_normaliser_goes_by_the_extractor(kind, name, normaliser):
    assert normaliser_of(kind, name) == normaliser


def test_a_file_without_a_model_is_refused():
    with pytest.raises(InvalidModelError, match="says nothing about a model"):
        read("train_config { batch_size: 1 }")


def test_it_is_found_beside_a_model_or_one_folder_up(tmp_path):
    saved = tmp_path / "export" / "saved_model"
    saved.mkdir(parents=True)
    assert beside(saved) is None
    (tmp_path / "export" / "pipeline.config").write_text(SSD)
    assert beside(saved) == tmp_path / "export" / "pipeline.config"
    assert (
        beside(tmp_path / "export" / "frozen_inference_graph.pb") == tmp_path / "export" / "pipeline.config"
    )
    assert beside(tmp_path / "export" / "checkpoint" / "ckpt-0") == tmp_path / "export" / "pipeline.config"


@pytest.mark.corpus
def test_real_files(corpus):
    ssd = read_pipeline(corpus / "odapi-meta-mediapipe-ssdlite/object_detection_saved_model/pipeline.config")
    assert (ssd.architecture, ssd.num_classes, ssd.resizer.size) == ("SSD", 90, (320, 320))
    assert ssd.normaliser == SYMMETRIC
    efficient = read_pipeline(corpus / "odapi-tf2-ckptonly/inference_graph/pipeline.config")
    assert (efficient.architecture, efficient.num_classes) == ("EfficientDet", 4)
    assert efficient.resizer.size == (512, 512)
    assert efficient.normaliser == MEAN_AND_DEVIATION
    assert not efficient.background_class
    assert efficient.label_map == "/content/labelmap.pbtxt"
