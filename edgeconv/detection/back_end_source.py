"""Post-processing of an object detector: from boxes and scores of all anchors to detections.

NumPy only. ``back_end`` takes what the network gives and returns what the whole detector gave.
"""

from __future__ import annotations

from typing import Any

import numpy as np

PARAMETERS: dict[str, Any] = {
    "boxes": "raw_detection_boxes",
    "scores": "raw_detection_scores",
    "score_threshold": 1e-8,
    "iou_threshold": 0.6,
    "max_detections_per_class": 100,
    "max_total_detections": 100,
    "background": True,
    "first_class": 1,
}


def back_end(inputs: dict[str, Any]) -> dict[str, Any]:
    """Detections from what the network gives.

    Args:
        inputs: boxes ``[batch, anchors, 4]`` as ymin, xmin, ymax, xmax from 0 to 1, and scores
            ``[batch, anchors, classes]`` after their conversion (sigmoid, softmax), by the names in
            ``PARAMETERS``; with ``background``, the first class is the background.

    Returns:
        ``detection_boxes`` ``[batch, n, 4]``, ``detection_scores`` and ``detection_classes`` ``[batch, n]``
        and ``num_detections`` ``[batch]``, all float32; rows behind the last detection are padding.
    """
    boxes = np.asarray(inputs[PARAMETERS["boxes"]], np.float32)
    scores = np.asarray(inputs[PARAMETERS["scores"]], np.float32)
    if PARAMETERS["background"]:
        scores = scores[..., 1:]
    batch, most = boxes.shape[0], PARAMETERS["max_total_detections"]
    result = {
        "detection_boxes": np.zeros((batch, most, 4), np.float32),
        "detection_scores": np.zeros((batch, most), np.float32),
        "detection_classes": np.full((batch, most), PARAMETERS["first_class"], np.float32),
        "num_detections": np.zeros(batch, np.float32),
    }
    for image in range(batch):
        rows, classes, values = _one_image(boxes[image], scores[image])
        found = len(values)
        result["detection_boxes"][image, :found] = rows
        result["detection_scores"][image, :found] = values
        result["detection_classes"][image, :found] = classes + PARAMETERS["first_class"]
        result["num_detections"][image] = found
    return result


def _one_image(boxes: Any, scores: Any) -> tuple[Any, Any, Any]:
    rows, classes, values = [], [], []
    for number in range(scores.shape[1]):
        kept = suppress(boxes, scores[:, number])
        rows.append(boxes[kept])
        values.append(scores[kept, number])
        classes.append(np.full(len(kept), number, np.float32))
    clipped = np.clip(np.concatenate(rows), 0.0, 1.0)
    all_values, all_classes = np.concatenate(values), np.concatenate(classes)
    # What is left of a box outside of the image has no area, and is no detection.
    inside = (clipped[:, 2] - clipped[:, 0]) * (clipped[:, 3] - clipped[:, 1]) > 0
    clipped, all_values, all_classes = clipped[inside], all_values[inside], all_classes[inside]
    order = np.argsort(-all_values, kind="stable")[: PARAMETERS["max_total_detections"]]
    return clipped[order], all_classes[order], all_values[order]


def suppress(boxes: Any, scores: Any) -> Any:
    """Rows of one class that stay, best first: those that overlap too much with a better one are dropped."""
    candidates = np.flatnonzero(scores > PARAMETERS["score_threshold"])
    candidates = candidates[np.argsort(-scores[candidates], kind="stable")]
    low = np.minimum(boxes[:, :2], boxes[:, 2:])
    high = np.maximum(boxes[:, :2], boxes[:, 2:])
    areas = (high - low).prod(axis=1)
    kept: list[int] = []
    while len(candidates) and len(kept) < PARAMETERS["max_detections_per_class"]:
        best, candidates = candidates[0], candidates[1:]
        kept.append(int(best))
        sides = np.minimum(high[best], high[candidates]) - np.maximum(low[best], low[candidates])
        shared = np.clip(sides, 0.0, None).prod(axis=1)
        union = areas[best] + areas[candidates] - shared
        overlap = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        candidates = candidates[overlap <= PARAMETERS["iou_threshold"]]
    return np.array(kept, np.int64)
