"""Writes the cut-off post-processing of a detector as a NumPy module of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from edgeconv.detection.pipeline import Pipeline
from edgeconv.errors import UsageError

_SOURCE = Path(__file__).with_name("back_end_source.py")


def parameters_of(pipeline: Pipeline, boxes: str, scores: str, columns: int | None) -> dict[str, Any]:
    """The numbers of the post-processing, from a ``pipeline.config``.

    Args:
        pipeline: what was read.
        boxes, scores: names of the tensors at the cut.
        columns: classes of the scores at the cut, the background's included; ``None`` where not known.

    Raises:
        UsageError: a kind of post-processing that is not written out.
    """
    said = pipeline.post_processing
    for wrong, what in (
        (pipeline.kind != "ssd", f"the post-processing of {pipeline.architecture}"),
        (said.class_agnostic, "suppression across classes"),
        (said.soft_nms_sigma > 0, "soft suppression"),
    ):
        if wrong:
            raise UsageError(
                f"{what} cannot be supplied beside the model",
                where=pipeline.path,
                hint="keep it: --postprocessing keep",
            )
    background = pipeline.background_class if columns is None else columns == pipeline.num_classes + 1
    return {
        "boxes": boxes,
        "scores": scores,
        "score_threshold": said.score_threshold,
        "iou_threshold": said.iou_threshold,
        "max_detections_per_class": said.max_detections_per_class,
        "max_total_detections": said.max_total_detections,
        "background": background,
        "first_class": 1,
    }


def back_end_text(parameters: dict[str, Any], title: str) -> str:
    """The text of the module with these parameters; ``title`` is the model's name."""
    text = _SOURCE.read_text(encoding="utf-8")
    shown = json.dumps(parameters, indent=4).replace("true", "True").replace("false", "False")
    shown = re.sub(r"\n\}$", ",\n}", shown)
    replaced, count = re.subn(
        r"^PARAMETERS: dict\[str, Any\] = \{.*?^\}$",
        lambda _: f"PARAMETERS: dict[str, Any] = {shown}",
        text,
        flags=re.DOTALL | re.MULTILINE,
    )
    assert count == 1
    safe = re.sub(r"[^A-Za-z0-9._ -]", "_", title)
    return replaced.replace("of an object detector:", f"of the object detector {safe}:", 1)
