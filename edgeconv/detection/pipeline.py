"""``pipeline.config`` of the Object Detection API as data, read without it.

Defaults are those that the API's own protocol buffers state for what a file leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeconv.detection.normalisers import Normaliser, normaliser_of
from edgeconv.detection.text_format import Message, read_text_proto
from edgeconv.errors import InvalidModelError

FILE_NAME = "pipeline.config"


@dataclass(frozen=True, slots=True)
class Resizer:
    """How an image comes to the size that the network takes.

    Attributes:
        kind: ``fixed_shape``, ``keep_aspect_ratio``, ``identity``, ``conditional_shape`` or
            ``pad_to_multiple``.
        height, width: of a fixed shape, in pixels.
        min_dimension, max_dimension: of the shorter and the longer side where the aspect is kept.
        pad: whether the image is then padded with zeros, right and below, to a square of ``max_dimension``.
        method: ``BILINEAR``, ``NEAREST_NEIGHBOR``, ``BICUBIC`` or ``AREA``.
        grayscale: whether the image becomes one channel.
    """

    kind: str
    height: int | None = None
    width: int | None = None
    min_dimension: int | None = None
    max_dimension: int | None = None
    pad: bool = False
    method: str = "BILINEAR"
    grayscale: bool = False

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of what reaches the network, where they are the same for every image."""
        if self.kind == "fixed_shape" and self.height and self.width:
            return self.height, self.width
        if self.kind == "keep_aspect_ratio" and self.max_dimension and self.pad:
            return self.max_dimension, self.max_dimension
        return None


@dataclass(frozen=True, slots=True)
class PostProcessing:
    """What becomes of raw boxes and scores.

    Attributes:
        score_threshold: detections of a lower score are dropped.
        iou_threshold: of two boxes of one class that overlap more, the one with the lower score is dropped.
        max_detections_per_class, max_total_detections: how many are kept.
        score_converter: ``IDENTITY``, ``SIGMOID`` or ``SOFTMAX``.
        class_agnostic: whether boxes suppress those of other classes too.
        combined: whether one ``CombinedNonMaxSuppression`` op does it.
        soft_nms_sigma: above 0 scores are lowered instead of boxes dropped.
    """

    score_threshold: float = 0.0
    iou_threshold: float = 0.6
    max_detections_per_class: int = 100
    max_total_detections: int = 100
    score_converter: str = "IDENTITY"
    class_agnostic: bool = False
    combined: bool = False
    soft_nms_sigma: float = 0.0


@dataclass(frozen=True, slots=True)
class AnchorGenerator:
    """Which anchors boxes are encoded against: the kind, and its numbers by name."""

    kind: str
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What a ``pipeline.config`` says about inference.

    Attributes:
        kind: ``ssd``, ``faster_rcnn``, ``center_net`` or another name that the file has.
        architecture: what a person calls it: ``EfficientDet``, ``SSD``, ``Faster R-CNN``, ``CenterNet`` …
        num_classes: without the background.
        feature_extractor: its ``type``; empty where none is said.
        resizer: ``None`` where the file states none.
        normaliser: ``None`` where the extractor is not known.
        post_processing: of the last stage.
        anchors: ``None`` where the model has none.
        box_scales: ``y``, ``x``, ``height``, ``width`` by which box encodings are scaled.
        background_class: whether the raw scores have a column for the background.
        label_map: path as the file states it, usually of the machine that trained the model.
        path: of the file.
    """

    kind: str
    architecture: str
    num_classes: int
    feature_extractor: str
    resizer: Resizer | None
    normaliser: Normaliser | None
    post_processing: PostProcessing
    anchors: AnchorGenerator | None
    box_scales: tuple[float, float, float, float] | None
    background_class: bool
    label_map: str | None
    path: str

    def normalisation(self) -> dict[str, Any] | None:
        """For ``Contract.normalisation``: what is done to pixels, and that the graph does it itself or not.

        ``mean`` and ``std`` are in steps of a pixel from 0 to 255, in the order of ``channels``.
        """
        if self.normaliser is None:
            return None
        return {
            "kind": self.normaliser.kind,
            "mean": list(self.normaliser.mean),
            "std": list(self.normaliser.std),
            "channels": self.normaliser.channels,
            "range": [0, 255],
        }


def read_pipeline(path: Path) -> Pipeline:
    """Read a ``pipeline.config``.

    Raises:
        InvalidModelError: cannot be read, is not the text form of a protocol buffer, or has no model.
    """
    return pipeline_of(read_text_proto(path), str(path))


def beside(model: Path) -> Path | None:
    """The ``pipeline.config`` in the folder of a model or the one above it, as exporters leave it."""
    here = model.absolute()
    folders = [here, here.parent, here.parent.parent] if here.is_dir() else [here.parent, here.parent.parent]
    for folder in folders:
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    return None


def pipeline_of(config: Message, path: str = "") -> Pipeline:
    """The facts in a configuration that was read; see :func:`read_pipeline`."""
    model = config.message("model")
    chosen = None if model is None else next((n for n in model.fields if model.message(n) is not None), None)
    if model is None or chosen is None:
        raise InvalidModelError(
            "the configuration says nothing about a model",
            where=path,
            why="a pipeline.config begins with 'model { ssd {' or another kind",
            hint="name the one the model was trained or exported with: --pipeline-config FILE",
        )
    body = model.message(chosen) or Message()
    extractor = body.message("feature_extractor") or Message()
    kind = extractor.text("type") or ""
    resizer = body.message("image_resizer")
    normaliser = normaliser_of(chosen, kind)
    if chosen == "center_net" and normaliser is not None:
        normaliser = _with_own_means(normaliser, extractor)
    readers = [
        reader
        for name in ("eval_input_reader", "eval_input_config", "train_input_reader", "train_input_config")
        for reader in config.messages(name)
    ]
    return Pipeline(
        kind=chosen,
        architecture=_architecture(chosen, kind),
        num_classes=_num_classes(body),
        feature_extractor=kind,
        resizer=None if resizer is None else _resizer(resizer, path),
        normaliser=normaliser,
        post_processing=_post_processing(body),
        anchors=_anchors(body),
        box_scales=_box_scales(body),
        # As the API's builder has it: a column for the background unless the file says otherwise.
        background_class=body.flag("add_background_class", True),
        label_map=next((text for r in readers if (text := r.text("label_map_path"))), None),
        path=path,
    )


def _architecture(kind: str, extractor: str) -> str:
    if kind == "ssd":
        if "efficientnet" in extractor or "bifpn" in extractor:
            return "EfficientDet"
        return "RetinaNet" if "resnet" in extractor and "fpn" in extractor else "SSD"
    return {"faster_rcnn": "Faster R-CNN", "center_net": "CenterNet"}.get(kind, kind)


def _num_classes(body: Message) -> int:
    number = body.integer("num_classes")
    if number is not None:
        return number
    for task in body.messages("object_center_params") + body.messages("object_detection_task"):
        if (number := task.integer("num_classes")) is not None:
            return number
    return 0


def _with_own_means(after: Normaliser, extractor: Message) -> Normaliser:
    """A CenterNet's own means and deviations, and then what its network does: both are ``(x - m) / s``."""
    means, deviations = extractor.numbers("channel_means"), extractor.numbers("channel_stds")
    if len(means) != 3 and len(deviations) != 3:
        return after
    first_mean = means if len(means) == 3 else (0.0, 0.0, 0.0)
    first_std = deviations if len(deviations) == 3 else (1.0, 1.0, 1.0)
    bgr = extractor.flag("bgr_ordering") != (after.channels == "BGR")
    mean = [m + s * a for m, s, a in zip(first_mean, first_std, after.mean, strict=True)]
    std = [s * a for s, a in zip(first_std, after.std, strict=True)]
    return Normaliser(
        "mean and deviation", (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]), "BGR" if bgr else "RGB"
    )


def _resizer(message: Message, path: str) -> Resizer:
    name = next((n for n in message.fields if message.message(n) is not None), None)
    if name is None:
        raise InvalidModelError("the image resizer says no kind", where=path)
    body = message.message(name) or Message()
    kind = name.removesuffix("_resizer")
    method = body.text("resize_method") or "BILINEAR"
    grayscale = body.flag("convert_to_grayscale")
    if kind == "fixed_shape":
        return Resizer(
            kind,
            height=body.integer("height") or 300,
            width=body.integer("width") or 300,
            method=method,
            grayscale=grayscale,
        )
    if kind == "keep_aspect_ratio":
        return Resizer(
            kind,
            min_dimension=body.integer("min_dimension") or 600,
            max_dimension=body.integer("max_dimension") or 1024,
            pad=body.flag("pad_to_max_dimension"),
            method=method,
            grayscale=grayscale,
        )
    return Resizer(kind, method=method, grayscale=grayscale)


def _post_processing(body: Message) -> PostProcessing:
    said = body.message("post_processing") or body.message("second_stage_post_processing") or Message()
    suppression = said.message("batch_non_max_suppression") or Message()
    usual = PostProcessing()

    def number(name: str, default: float) -> float:
        value = suppression.number(name)
        return default if value is None else value

    return PostProcessing(
        score_threshold=number("score_threshold", usual.score_threshold),
        iou_threshold=number("iou_threshold", usual.iou_threshold),
        max_detections_per_class=int(number("max_detections_per_class", usual.max_detections_per_class)),
        max_total_detections=int(number("max_total_detections", usual.max_total_detections)),
        score_converter=said.text("score_converter") or usual.score_converter,
        class_agnostic=suppression.flag("use_class_agnostic_nms"),
        combined=suppression.flag("use_combined_nms"),
        soft_nms_sigma=number("soft_nms_sigma", usual.soft_nms_sigma),
    )


def _anchors(body: Message) -> AnchorGenerator | None:
    generator = body.message("anchor_generator") or body.message("first_stage_anchor_generator")
    name = None if generator is None else next((n for n in generator.fields if generator.message(n)), None)
    if generator is None or name is None:
        return None
    stated = generator.message(name) or Message()
    values = {key: numbers for key in stated.fields if (numbers := stated.numbers(key))}
    return AnchorGenerator(name.removesuffix("_anchor_generator"), values)


def _box_scales(body: Message) -> tuple[float, float, float, float] | None:
    coder = body.at("box_coder", "faster_rcnn_box_coder")
    if coder is None:
        # The second stage of a Faster R-CNN has this coder fixed.
        return (10.0, 10.0, 5.0, 5.0) if body.message("second_stage_post_processing") else None
    scales = [coder.number(f"{name}_scale") for name in ("y", "x", "height", "width")]
    usual = (10.0, 10.0, 5.0, 5.0)
    y, x, height, width = (u if s is None else s for s, u in zip(scales, usual, strict=True))
    return y, x, height, width
