"""What the feature extractors of the Object Detection API do to the pixels, as facts by name.

The names are those of ``feature_extractor.type`` in a ``pipeline.config``. Source: ``preprocess`` of each
class in ``object_detection/models`` of the TensorFlow model garden. All take RGB pixels from 0 to 255.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_CAFFE_MEANS = (123.68, 116.779, 103.939)
_IMAGENET_MEANS = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATIONS = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Normaliser:
    """``(pixel - mean) / std`` for each channel, on pixels from 0 to 255.

    Attributes:
        kind: ``symmetric`` (to -1 … 1), ``channel means``, ``mean and deviation``, ``none``.
        mean: of red, green, blue, in steps of a pixel.
        std: of red, green, blue, in steps of a pixel.
        channels: order that the network takes: ``RGB`` or ``BGR``. Means are in that order.
    """

    kind: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channels: str = "RGB"


SYMMETRIC = Normaliser("symmetric", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
"""``(2 / 255) · x - 1``."""
CHANNEL_MEANS = Normaliser("channel means", _CAFFE_MEANS, (1.0, 1.0, 1.0))
MEAN_AND_DEVIATION = Normaliser(
    "mean and deviation",
    (_IMAGENET_MEANS[0] * 255, _IMAGENET_MEANS[1] * 255, _IMAGENET_MEANS[2] * 255),
    (_IMAGENET_DEVIATIONS[0] * 255, _IMAGENET_DEVIATIONS[1] * 255, _IMAGENET_DEVIATIONS[2] * 255),
)
NOTHING = Normaliser("none", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
CAFFE = Normaliser("channel means", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0), "BGR")

# The first pattern that fits the whole name decides.
_BY_TYPE: tuple[tuple[str, Normaliser], ...] = (
    (r"ssd_efficientnet-b\d_bifpn(_keras)?", MEAN_AND_DEVIATION),
    (r"(ssd|faster_rcnn)_resnet\d+(_v1)?(_fpn|_ppn)?(_keras)?", CHANNEL_MEANS),
    (r"(embedded_)?ssd_mobilenet_.*|faster_rcnn_mobilenet_.*", SYMMETRIC),
    (r"(ssd|faster_rcnn)_inception_.*", SYMMETRIC),
    (r"ssd_(pnasnet|mobiledet_.*|spaghettinet.*)", SYMMETRIC),
    (r"faster_rcnn_p?nas", SYMMETRIC),
)
# In a CenterNet these come behind what the configuration's own channel_means and channel_stds do.
_CENTER_NET: tuple[tuple[str, Normaliser], ...] = (
    (r"resnet_v2_\d+", SYMMETRIC),
    (r"resnet_v1_\d+_fpn", CAFFE),
    (r"hourglass_\d+", NOTHING),
    (r"mobilenet_v2(_fpn(_sep_conv)?)?", SYMMETRIC),
)


def normaliser_of(kind: str, feature_extractor: str) -> Normaliser | None:
    """What the extractor of that name does to pixels; ``None`` where it is not known.

    Args:
        kind: of the model: ``ssd``, ``faster_rcnn``, ``center_net``.
        feature_extractor: the ``type`` in the configuration.
    """
    for pattern, normaliser in _CENTER_NET if kind == "center_net" else _BY_TYPE:
        if re.fullmatch(pattern, feature_extractor):
            return normaliser
    return None
