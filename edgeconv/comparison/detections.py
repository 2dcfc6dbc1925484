"""Detections: boxes, scores and classes that belong together, judged as matched detections.

The rows of a detector's outputs are a set, not a sequence: equal scores may come out in either order, and
what lies behind ``num_detections`` is padding. So the rows of the two are matched first, one to one, by
class, overlap and score. Then the matched rows are judged by the same bounds as any output, and what has no
partner counts against the share of elements that may differ, weighed by its score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeconv.comparison.archive import Array, is_text
from edgeconv.comparison.assignment import assign
from edgeconv.comparison.metrics import wide
from edgeconv.comparison.numbers import judge_numbers
from edgeconv.comparison.tolerances import Tolerance
from edgeconv.formats.graph_detection import ROLES, last_part

Outputs = Mapping[str, Sequence[Array]]
"""Output name to one array of real values a probe."""

LEAST_IOU: Mapping[str, float] = {
    "fp32": 0.99,
    "fp16": 0.95,
    "int16x8": 0.9,
    "dynamic": 0.8,
    "int8": 0.7,
}
"""Overlap (intersection over union) from which on two boxes are one detection, by precision; COCO's strictest
counts from 0.95, its laxest from 0.5."""
MOST_UNBATCHED = 2000
"""Rows of a list that may be detections; more are all anchors, which have an order."""
MOST_ASSIGNED = 120
"""Rows that are assigned at least cost; more are paired greedily, the best pair first."""


@dataclass(frozen=True, slots=True)
class Group:
    """Names of the outputs of detections; ``others`` have the same rows (masks, scores of all classes)."""

    boxes: str
    scores: str
    classes: str | None
    count: str | None
    others: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(n for n in (self.boxes, self.scores, self.classes, self.count, *self.others) if n)


@dataclass(frozen=True, slots=True)
class Said:
    """The verdict on one output of a group, and why."""

    passes: bool
    reason: str


@dataclass(frozen=True, slots=True)
class _Item:
    """One image: rows of both, without padding. Arrays are ``[rows, …]``."""

    boxes: tuple[Array, Array]
    scores: tuple[Array, Array]
    classes: tuple[Array, Array] | None
    pairs: Array
    """``[matched, 2]``: row of the reference, row of the candidate."""
    full: tuple[bool, bool]
    """Whether either has as many rows as it can hold, so that the last ones were cut off."""


def find_group(values: Outputs) -> Group | None:
    """The outputs that are detections, by their names and shapes; ``None`` where there are none.

    Boxes are ``[batch, rows, 4]``, scores and classes ``[batch, rows]``, a count one number an image.
    """
    found: dict[str, str] = {}
    for role, pattern in ROLES.items():
        named = [
            n for n in values if pattern.fullmatch(last_part(n)) and values[n] and not is_text(values[n][0])
        ]
        if len(named) == 1:
            found[role] = named[0]
    if "boxes" not in found or "scores" not in found:
        return None
    boxes, scores = values[found["boxes"]], values[found["scores"]]
    if any(
        b.ndim != 3 or b.shape[2] != 4 or b.shape[:2] != s.shape for b, s in zip(boxes, scores, strict=True)
    ):
        return None
    classes, count = found.get("classes"), found.get("count")
    if classes and any(c.shape != s.shape for c, s in zip(values[classes], scores, strict=True)):
        classes = None
    if count and any(c.size != s.shape[0] for c, s in zip(values[count], scores, strict=True)):
        count = None
    taken = {found["boxes"], found["scores"], classes, count}
    others = tuple(
        name
        for name, arrays in values.items()
        if name not in taken
        and last_part(name).startswith("detection_")
        and all(
            not is_text(a) and a.ndim >= 2 and a.shape[:2] == s.shape
            for a, s in zip(arrays, scores, strict=True)
        )
    )
    return Group(found["boxes"], found["scores"], classes, count, others)


def judge_detections(reference: Outputs, candidate: Outputs, tolerance: Tolerance) -> dict[str, Said]:
    """Judge the detections among the outputs.

    Args:
        reference: real values of all outputs, by the reference's names.
        candidate: of the same names and shapes.
        tolerance: ``abs``, ``rel`` and the other bounds for matched rows, ``mismatched`` for the share
            of scores without a partner.

    Returns:
        A verdict for each output of the group; empty where there is no group, or nothing was detected.
    """
    group = find_group(reference)
    if group is None or any(name not in candidate for name in group.names):
        return {}
    return _judged(group, reference, candidate, tolerance)


def _judged(group: Group, reference: Outputs, candidate: Outputs, tolerance: Tolerance) -> dict[str, Said]:
    items = [
        _item(group, reference, candidate, probe, image, tolerance)
        for probe in range(len(reference[group.boxes]))
        for image in range(reference[group.boxes][probe].shape[0])
    ]
    broken = _not_finite(items)
    if broken is not None:
        return dict.fromkeys(group.names, Said(False, broken))
    if not any(scores.size for item in items for scores in item.scores):
        return {}
    matched = sum(len(item.pairs) for item in items)
    rows = sum(len(item.scores[0]) for item in items)
    alone = _alone(items, tolerance)
    if alone is not None:
        return dict.fromkeys(group.names, Said(False, alone))
    overlaps = [_pair_ious(item) for item in items if len(item.pairs)]
    least = min((float(each.min()) for each in overlaps), default=1.0)
    text = f"{matched} of {rows} detections matched, least overlap {least:.4g}"
    said = {name: Said(True, text) for name in group.names}
    for name, one, two in _aligned(group, items, reference, candidate):
        if not one.size:
            continue
        judgement = judge_numbers([one], [two], tolerance)
        if judgement.finding is not None:
            said[name] = Said(False, f"{judgement.finding.reason}, in {matched} matched detections")
    return said


def judge_unbatched(reference: Outputs, candidate: Outputs, tolerance: Tolerance) -> dict[str, Said]:
    """Judge the detections of one image, which many detectors give as lists as long as what they found.

    They are told by their shapes: in every probe one output of real numbers is ``[rows, 4]``, and one is
    ``[rows]``; whole numbers ``[rows]`` are the classes. The two sides may have different numbers of rows.

    Args:
        reference, candidate: real values of all outputs, by the reference's names.
        tolerance: as in :func:`judge_detections`.

    Returns:
        A verdict for each output of the group; empty where there is none, or nothing was detected.
    """
    group = find_unbatched(reference)
    if group is None or any(name not in candidate for name in group.names):
        return {}
    one, two = (
        {name: [array[None] for array in side[name]] for name in group.names}
        for side in (reference, candidate)
    )
    if any(
        len({side[name][probe].shape[1] for name in group.names}) > 1
        for side in (one, two)
        for probe in range(len(one[group.boxes]))
    ):
        return {}
    return _judged(group, one, two, tolerance)


def find_unbatched(values: Outputs) -> Group | None:
    """The outputs that are detections of one image, by their shapes; ``None`` where that is not clear."""
    real = {name: arrays for name, arrays in values.items() if arrays and not is_text(arrays[0])}

    def those(rank: int, kinds: str) -> list[str]:
        return [
            name
            for name, arrays in real.items()
            if all(
                a.ndim == rank and a.dtype.kind in kinds and (rank == 1 or a.shape[1] == 4) for a in arrays
            )
        ]

    boxes, scores, classes = those(2, "f"), those(1, "f"), those(1, "iu")
    if len(boxes) != 1 or len(scores) != 1 or len(classes) > 1:
        return None
    group = Group(boxes[0], scores[0], classes[0] if classes else None, None)
    lengths = [[len(a) for a in real[name]] for name in group.names]
    if any(each != lengths[0] for each in lengths) or max(lengths[0]) > MOST_UNBATCHED:
        return None
    return group


def _item(
    group: Group, reference: Outputs, candidate: Outputs, probe: int, image: int, tolerance: Tolerance
) -> _Item:
    sides = (reference, candidate)
    counts = [_count(group, side, probe, image) for side in sides]

    def rows(name: str) -> tuple[Array, Array]:
        one, two = (wide(side[name][probe][image])[:count] for side, count in zip(sides, counts, strict=True))
        return one, two

    boxes, scores = rows(group.boxes), rows(group.scores)
    classes = rows(group.classes) if group.classes else None
    capacity = reference[group.scores][probe].shape[1]
    pairs = _matched(boxes, scores, classes, tolerance)
    return _Item(boxes, scores, classes, pairs, (counts[0] == capacity, counts[1] == capacity))


def _count(group: Group, side: Outputs, probe: int, image: int) -> int:
    """Rows that are detections: as many as the model says, else up to the last with a score."""
    scores = side[group.scores][probe][image]
    if group.count is not None:
        said = float(side[group.count][probe].reshape(-1)[image])
        return int(min(max(round(said), 0), len(scores))) if np.isfinite(said) else len(scores)
    above = np.flatnonzero(wide(scores) != 0)
    return int(above[-1]) + 1 if above.size else 0


def _not_finite(items: Sequence[_Item]) -> str | None:
    for side, name in ((0, "reference"), (1, "candidate")):
        for item in items:
            if not (np.isfinite(item.boxes[side]).all() and np.isfinite(item.scores[side]).all()):
                return f"NaN or infinity in a detection of the {name}"
    return None


def _matched(
    boxes: tuple[Array, Array],
    scores: tuple[Array, Array],
    classes: tuple[Array, Array] | None,
    tolerance: Tolerance,
) -> Array:
    """Rows of the reference with their partners, at the least sum of distances."""
    ones, twos = len(scores[0]), len(scores[1])
    if not ones or not twos:
        return np.zeros((0, 2), dtype=np.int64)
    finite = np.isfinite(boxes[0]).all() and np.isfinite(boxes[1]).all()
    if not finite:
        return np.zeros((0, 2), dtype=np.int64)
    overlap = ious(boxes[0], boxes[1])
    extent = float(np.abs(boxes[0]).max(initial=0.0))
    apart = np.abs(boxes[0][:, None] - boxes[1][None]).max(axis=2)
    # A box without area overlaps with nothing, not even with itself.
    near = (overlap >= _least_iou(tolerance)) | (apart <= tolerance.abs + min(tolerance.rel, 0.01) * extent)
    difference = np.abs(scores[0][:, None] - scores[1][None])
    allowed = near & (difference <= _score_margin(scores[0], tolerance))
    if classes is not None:
        allowed &= np.round(classes[0])[:, None] == np.round(classes[1])[None]
    scale = float(np.abs(scores[0]).max(initial=0.0)) or 1.0
    cost = np.where(
        allowed, difference / scale + (1.0 - np.minimum(overlap, 1.0)) + apart / (extent or 1.0), np.inf
    )
    found: list[tuple[int, int]] = []
    # Most rows have their partner at the same place; only the others are searched for.
    same = [i for i in range(min(ones, twos)) if allowed[i, i] and cost[i, i] <= cost[i].min() + 1e-9]
    found.extend((i, i) for i in same)
    left = [i for i in range(ones) if i not in set(same)]
    right = [i for i in range(twos) if i not in set(same)]
    found.extend((left[i], right[j]) for i, j in _assigned(cost[np.ix_(left, right)]))
    return np.array(sorted(found), dtype=np.int64).reshape(-1, 2)


def _assigned(cost: Array) -> list[tuple[int, int]]:
    if not cost.size or not np.isfinite(cost).any():
        return []
    finite = np.where(np.isfinite(cost), cost, 1e6)
    if max(cost.shape) <= MOST_ASSIGNED:
        if cost.shape[0] <= cost.shape[1]:
            pairs = list(enumerate(assign(finite)))
        else:
            pairs = [(row, column) for column, row in enumerate(assign(finite.T))]
        return [(i, j) for i, j in pairs if np.isfinite(cost[i, j])]
    pairs, rows, columns = [], set[int](), set[int]()
    for flat in np.argsort(finite, axis=None, kind="stable"):
        i, j = (int(part) for part in np.unravel_index(flat, cost.shape))
        if not np.isfinite(cost[i, j]):
            break
        if i not in rows and j not in columns:
            pairs.append((i, j))
            rows.add(i)
            columns.add(j)
    return pairs


def ious(one: Array, two: Array) -> Array:
    """Intersection over union of every box with every other.

    Args:
        one, two: ``[n, 4]`` and ``[m, 4]``, two opposite corners in any order of axes.

    Returns:
        ``[n, m]``, 0 where a box has no area.
    """
    low_one, high_one = np.minimum(one[:, :2], one[:, 2:]), np.maximum(one[:, :2], one[:, 2:])
    low_two, high_two = np.minimum(two[:, :2], two[:, 2:]), np.maximum(two[:, :2], two[:, 2:])
    sides = np.minimum(high_one[:, None], high_two[None]) - np.maximum(low_one[:, None], low_two[None])
    shared = np.clip(sides, 0.0, None).prod(axis=2)
    areas = (high_one - low_one).prod(axis=1)[:, None] + (high_two - low_two).prod(axis=1)[None]
    union = areas - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def _pair_ious(item: _Item) -> Array:
    """Overlap of the matched boxes; 1 for those without area, which were matched by their corners."""
    one, two = item.boxes[0][item.pairs[:, 0]], item.boxes[1][item.pairs[:, 1]]
    flat = (np.abs(one[:, :2] - one[:, 2:]).min(axis=1) <= 0) | (
        np.abs(two[:, :2] - two[:, 2:]).min(axis=1) <= 0
    )
    overlap = np.array([ious(a[None], b[None])[0, 0] for a, b in zip(one, two, strict=True)])
    return np.asarray(np.where(flat, 1.0, overlap))


def _alone(items: Sequence[_Item], tolerance: Tolerance) -> str | None:
    """Why the detections without a partner are too many; ``None`` where they are not."""
    total = lost = 0.0
    first: str | None = None
    for index, item in enumerate(items):
        for side, whose in ((0, "reference"), (1, "candidate")):
            scores = item.scores[side]
            total += float(np.abs(scores).sum())
            partners = set(item.pairs[:, side].tolist())
            alone = [row for row in range(len(scores)) if row not in partners]
            if _cut_at_ties(item, side, alone, tolerance):
                continue
            for row in alone:
                lost += abs(float(scores[row]))
                kind = f" of class {item.classes[side][row]:.0f}" if item.classes else ""
                where = f"detection {row}{kind} with score {scores[row]:.4g} of the {whose}"
                first = first or f"{where} has no partner (image {index})"
    if first is None:
        return None
    share = lost / total if total else 1.0
    if share <= tolerance.mismatched:
        return None
    return f"{first}; {share:.2%} of the scores without a partner, allowed {tolerance.mismatched:.2%}"


def _cut_at_ties(item: _Item, side: int, alone: Sequence[int], tolerance: Tolerance) -> bool:
    """Whether a few boxes without a partner tie with the last ones of a list that is as long as it may be.

    Which of them got into the list is then a matter of rounding.
    """
    scores, boxes = item.scores[side], item.boxes[side]
    if not all(item.full) or len(alone) > max(1, len(scores) // 20):
        return False
    margin = 2 * (tolerance.abs + min(tolerance.rel, 0.01) * float(np.abs(scores).max(initial=0.0)))
    areas = np.abs(boxes[:, :2] - boxes[:, 2:]).min(axis=1)
    return all(scores[row] - scores.min() <= margin and areas[row] > 0 for row in alone)


def _aligned(
    group: Group, items: Sequence[_Item], reference: Outputs, candidate: Outputs
) -> list[tuple[str, Array, Array]]:
    """Matched rows of all images, in the reference's order, of each output that has rows."""
    result: list[tuple[str, Array, Array]] = []
    for name in (group.boxes, group.scores, *group.others):
        ones: list[Array] = []
        twos: list[Array] = []
        position = 0
        for one, two in zip(reference[name], candidate[name], strict=True):
            for image in range(one.shape[0]):
                pairs = items[position].pairs
                ones.append(wide(one[image])[pairs[:, 0]])
                twos.append(wide(two[image])[pairs[:, 1]])
                position += 1
        result.append((name, np.concatenate(ones), np.concatenate(twos)))
    return result


def _least_iou(tolerance: Tolerance) -> float:
    return LEAST_IOU.get(tolerance.precision, LEAST_IOU["int8"])


def _score_margin(scores: Array, tolerance: Tolerance) -> float:
    return tolerance.abs + tolerance.rel * float(np.abs(scores).max(initial=0.0))
