"""Object detectors recognised by what their graph does, and their outputs by role.

A detector drops overlapping boxes (non-maximum suppression) behind a network that looks at images, and gives
boxes, scores, classes and how many there are. The names of outputs are those of the Object Detection API and
of the ops that do it all (``CombinedNonMaxSuppression``, ``TFLite_Detection_PostProcess``).
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from edgeconv.formats import _graph_vocabulary as vocabulary
from edgeconv.formats._graph_view import GraphView, tensor_node
from edgeconv.formats.base import Candidate, Finding

SUPPRESSION_OPS = frozenset(
    {
        "NonMaxSuppression",
        *(f"NonMaxSuppressionV{version}" for version in (2, 3, 4, 5)),
        "NonMaxSuppressionWithOverlaps",
        "CombinedNonMaxSuppression",
        "TFLite_Detection_PostProcess",
    }
)
ROLES = {
    "boxes": re.compile(r"(detection|nmsed|nms|output)_?boxes"),
    "scores": re.compile(r"(detection|nmsed|nms|output)_?scores"),
    "classes": re.compile(r"(detection|nmsed|nms|output)_?(classes|labels)"),
    "count": re.compile(r"num_?detections|valid_?detections|num_?boxes|detection_?count"),
}
"""Role of an output of a detector to the last part of its name, in lower case and without a port."""

_CONVOLUTIONS = frozenset({"Conv2D", "DepthwiseConv2dNative", "_FusedConv2D"})
_BESIDE = "stands beside the detections"


def last_part(name: str) -> str:
    """The last part of a tensor's name, in lower case and without its port.

    >>> last_part("model/Detection_Boxes:0")
    'detection_boxes'
    """
    return re.sub(r":\d+$", "", name.rpartition("/")[2]).lower()


def detection_findings(view: GraphView, names: Iterable[str]) -> list[Finding]:
    """A finding with the evidence where the nodes ``names`` are an object detector; else none."""
    chosen = list(names)
    nodes = list(view.all_nodes(chosen))
    suppressing = Counter(node.op for _, node in nodes if node.op in SUPPRESSION_OPS)
    if not suppressing:
        return []
    outputs = [name for name in chosen if any(p.fullmatch(last_part(name)) for p in ROLES.values())]
    images = [name for name in chosen if _takes_images(view, name)]
    convolutions = any(node.op in _CONVOLUTIONS for _, node in nodes)
    if not outputs and not (images and convolutions) and not (convolutions and len(nodes) > 100):
        return []
    evidence = [f"{op} ({count} times) drops overlapping boxes" for op, count in sorted(suppressing.items())]
    if images:
        spec = view.spec(images[0])
        size = "?" if spec.shape is None else "×".join("?" if d is None else str(d) for d in spec.shape)
        evidence.append(f"'{images[0]}' takes images ({spec.dtype} {size})")
    if outputs:
        evidence.append(f"it gives {', '.join(sorted(outputs)[:6])}")
    where = next(name for name, node in nodes if node.op in SUPPRESSION_OPS)
    return [
        Finding(
            "object-detection",
            f"an object detector: {'; '.join(evidence)}",
            where=where,
            hint="with its pipeline.config (--pipeline-config) sizes, normalisation and labels are known",
        )
    ]


def preferring_detections(view: GraphView, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, those beside the detections doubted where a detector names boxes and scores.

    What a graph of the Object Detection API gives beside them (raw boxes, features) are by-products, which
    the user can name.
    """
    by_role: dict[str, list[Candidate]] = {role: [] for role in ROLES}
    for candidate in candidates:
        for role, pattern in ROLES.items():
            if pattern.fullmatch(last_part(candidate.tensor.name)) and candidate.score >= 0.3:
                by_role[role].append(candidate)
    if len(by_role["boxes"]) != 1 or len(by_role["scores"]) != 1:
        return list(candidates)
    boxes = tensor_node(by_role["boxes"][0].tensor.inner_name)[0]
    behind = view.all_nodes(view.upstream([boxes]))
    if not any(node.op in SUPPRESSION_OPS for _, node in behind):
        return list(candidates)
    return [_judged(candidate) for candidate in candidates]


def _judged(candidate: Candidate) -> Candidate:
    name = last_part(candidate.tensor.name)
    role = any(pattern.fullmatch(name) for pattern in ROLES.values())
    belongs = role or name.startswith("detection_")
    # A count may come from a shape, which no values of an input reach.
    if role or (belongs and candidate.score >= 0.3):
        evidence = (*candidate.evidence, "one of the detections")
        return dataclasses.replace(candidate, score=max(candidate.score, 0.9), evidence=evidence)
    if not belongs and candidate.score > 0.25:
        return dataclasses.replace(candidate, score=0.25, evidence=(*candidate.evidence, _BESIDE))
    return candidate


def _takes_images(view: GraphView, name: str) -> bool:
    node: Any = view.nodes.get(name)
    if node is None or node.op not in vocabulary.PLACEHOLDER_OPS:
        return False
    spec = view.spec(name)
    if spec.dtype == "string":
        # encoded_image_string_tensor, tf_example: images in files.
        return True
    return spec.shape is not None and len(spec.shape) == 4 and spec.shape[3] in (1, 3)
