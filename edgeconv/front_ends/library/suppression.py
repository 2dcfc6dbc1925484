"""What is done with boxes behind a detector's network: overlapping ones dropped, the best of them taken."""

from __future__ import annotations

from typing import Any

import numpy as np


def overlaps(boxes: Any, row: int, others: Any) -> Any:
    """Intersection over union of one box with others; 0 where there is no area.

    Args:
        boxes: ``[n, 4]``, two opposite corners in any order.
        row: of the one.
        others: rows ``[k]`` of the others.

    Returns:
        ``[k]``.
    """
    low = np.minimum(boxes[:, :2], boxes[:, 2:])
    high = np.maximum(boxes[:, :2], boxes[:, 2:])
    areas = (high - low).prod(axis=1)
    sides = np.minimum(high[row], high[others]) - np.maximum(low[row], low[others])
    shared = np.clip(sides, 0, None).prod(axis=1)
    union = areas[row] + areas[others] - shared
    positive = (areas[others] > 0) & (areas[row] > 0)
    return np.divide(shared, union, out=np.zeros_like(shared), where=positive)


def suppressed(boxes: Any, scores: Any, most: Any, overlap: Any, least: Any) -> Any:
    """Rows of the boxes that stay, best first: what overlaps too much with a better one is dropped.

    Args:
        boxes: ``[n, 4]``.
        scores: ``[n]``.
        most: rows that are given at most.
        overlap: intersection over union from which on a box is dropped.
        least: score that has to be exceeded.

    Returns:
        Row numbers ``[k]``, int32.
    """
    boxes, scores = np.asarray(boxes, np.float32), np.asarray(scores, np.float32)
    left = np.flatnonzero(scores > least)
    left = left[np.argsort(-scores[left], kind="stable")]
    kept: list[int] = []
    while len(left) and len(kept) < int(most):
        kept.append(int(left[0]))
        left = left[1:]
        # What is no number (areas without end) does not exceed anything.
        left = left[~(overlaps(boxes, kept[-1], left) > overlap)]
    return np.array(kept, np.int32)


def suppressed_by_matrix(overlap_of: Any, scores: Any, most: Any, overlap: Any, least: Any) -> Any:
    """As ``suppressed``, with the overlap of every two boxes given.

    Args:
        overlap_of: ``[n, n]``.
        scores, most, overlap, least: see there.

    Returns:
        Row numbers ``[k]``, int32.
    """
    scores = np.asarray(scores, np.float32)
    left = np.flatnonzero(scores > least)
    left = left[np.argsort(-scores[left], kind="stable")]
    kept: list[int] = []
    while len(left) and len(kept) < int(most):
        kept.append(int(left[0]))
        left = left[1:]
        left = left[~(np.asarray(overlap_of)[kept[-1], left] > overlap)]
    return np.array(kept, np.int32)


def softly_suppressed(boxes: Any, scores: Any, most: Any, overlap: Any, least: Any, sigma: Any) -> Any:
    """As ``suppressed``; with ``sigma`` above 0, overlapping boxes lose score instead of being dropped.

    The score of a box is multiplied by exp(-iou² / (2 · sigma)) for each better one that was taken
    (N. Bodla et al., Soft-NMS, 2017).

    Args:
        boxes, scores, most, overlap, least: see ``suppressed``.
        sigma: deviation of the decay.

    Returns:
        Row numbers ``[k]``, int32, and the scores that they have then, float32.
    """
    scores = np.array(scores, np.float32)
    if sigma <= 0:
        rows = suppressed(boxes, scores, most, overlap, least)
        return rows, scores[rows]
    boxes = np.asarray(boxes, np.float32)
    left = np.flatnonzero(scores > least)
    kept: list[int] = []
    while len(left) and len(kept) < int(most):
        best = int(left[np.argmax(scores[left])])
        kept.append(best)
        left = left[left != best]
        found = overlaps(boxes, best, left)
        decay = np.exp(-(found**2) / (2 * np.float32(sigma)), dtype=np.float32)
        scores[left] = scores[left] * np.where(found <= overlap, decay, 0)
        left = left[scores[left] > least]
    return np.array(kept, np.int32), scores[kept]


def padded_rows(rows: Any, most: Any) -> Any:
    """Rows filled up with 0 to their largest number."""
    return np.pad(rows, (0, int(most) - len(rows)))


def combined_suppression(
    boxes: Any, scores: Any, each: Any, total: Any, overlap: Any, least: Any, short: bool, clip: bool
) -> Any:
    """Suppression class by class, and the best of all classes; for each image of a batch.

    Args:
        boxes: ``[batch, n, q, 4]``; ``q`` is 1 where classes share them.
        scores: ``[batch, n, classes]``.
        each, total: rows of one class and of all that are given at most.
        overlap, least: see ``suppressed``.
        short: whether no more rows are given than the classes can have together.
        clip: whether boxes are clipped to 0 … 1.

    Returns:
        Boxes ``[batch, rows, 4]``, scores and classes ``[batch, rows]``, and counts ``[batch]``.
    """
    classes = scores.shape[2]
    rows = min(int(total), int(each) * classes) if short else int(total)
    given = (
        np.zeros((len(boxes), rows, 4), np.float32),
        np.zeros((len(boxes), rows), np.float32),
        np.zeros((len(boxes), rows), np.float32),
        np.zeros(len(boxes), np.int32),
    )
    for image in range(len(boxes)):
        found: list[tuple[float, int, Any]] = []
        for number in range(classes):
            own = boxes[image][:, number if boxes.shape[2] > 1 else 0]
            kept = suppressed(own, scores[image][:, number], each, overlap, least)
            found += [(float(scores[image][row, number]), number, own[row]) for row in kept.tolist()]
        found = sorted(found, key=lambda one: -one[0])[:rows]
        for position, (score, number, box) in enumerate(found):
            given[0][image, position] = np.clip(box, 0, 1) if clip else box
            given[1][image, position] = score
            given[2][image, position] = number
        given[3][image] = len(found)
    return given


def best_of(values: Any, count: Any) -> Any:
    """The largest values along the last axis, in falling order, and where they were (int32)."""
    order = np.argsort(-np.asarray(values), axis=-1, kind="stable")[..., : int(count)].astype(np.int32)
    return np.take_along_axis(np.asarray(values), order, axis=-1), order


def gather_in_batch(values: Any, indices: Any, axis: int, shared: int) -> Any:
    """Entries of ``values`` along ``axis``; the first ``shared`` axes are those of a batch of both."""
    values, indices = np.asarray(values), np.asarray(indices)
    lead = indices.shape[:shared]
    flat_values = values.reshape(-1, *values.shape[shared:])
    flat_indices = indices.reshape(-1, *indices.shape[shared:])
    taken = [np.take(v, i, axis - shared) for v, i in zip(flat_values, flat_indices, strict=True)]
    return np.stack(taken).reshape(*lead, *taken[0].shape)


def scatter_rows(indices: Any, updates: Any, shape: Any) -> Any:
    """Zeros of ``shape`` to which ``updates`` are added at ``indices``."""
    updates = np.asarray(updates)
    made = np.zeros(np.asarray(shape).tolist(), updates.dtype)
    np.add.at(made, tuple(np.moveaxis(np.asarray(indices), -1, 0)), updates)
    return made


def hot_rows(indices: Any, depth: Any, on: Any, off: Any, axis: int) -> Any:
    """``on`` where the number of an entry is the place along a new axis, else ``off``."""
    hot = np.asarray(indices)[..., None] == np.arange(int(depth))
    return np.moveaxis(np.where(hot, on, off), -1, axis)


def gather_nd_in_batch(values: Any, indices: Any, shared: int) -> Any:
    """Entries of ``values`` at ``indices``; the first ``shared`` axes are those of a batch of both."""
    values, indices = np.asarray(values), np.asarray(indices)
    lead = indices.shape[:shared]
    flat_values = values.reshape(-1, *values.shape[shared:])
    flat_indices = indices.reshape(-1, *indices.shape[shared:])
    taken = [v[tuple(np.moveaxis(i, -1, 0))] for v, i in zip(flat_values, flat_indices, strict=True)]
    return np.stack(taken).reshape(*lead, *taken[0].shape)


def split_sizes(values: Any, sizes: Any, axis: int) -> Any:
    """Parts of an array of these sizes; one size may be -1, the rest."""
    lengths = np.array(sizes, np.int64)
    lengths[lengths < 0] = np.shape(values)[axis] - lengths[lengths >= 0].sum()
    return np.split(np.asarray(values), np.cumsum(lengths)[:-1], axis)
