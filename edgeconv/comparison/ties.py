"""Differences that are no errors: equal scores whose order is a matter of rounding.

An argmax over two scores that differ in the last bit, or detections sorted by scores that tie, may come
out either way. Such a difference is accepted only with the scores as evidence, and it is always said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeconv.comparison.archive import Array, is_text
from edgeconv.comparison.metrics import unequal, wide
from edgeconv.comparison.numbers import judge_numbers
from edgeconv.comparison.tolerances import Tolerance

Outputs = Mapping[str, Sequence[Array]]
"""Output name to one array of real values a probe."""


def explained_by_ties(
    reference: Outputs, candidate: Outputs, failed: Sequence[str], tolerance: Tolerance
) -> dict[str, str]:
    """Failed outputs that differ only by ties, each with what is to be said about it.

    Two kinds are known: an integer output that is the argmax of another output of the same model, and
    rows of detections whose order follows scores that tie within the tolerance.

    Args:
        reference: real values.
        candidate: of the same names and shapes.
        failed: names to explain.
        tolerance: what counts as a tie: ``abs + rel · largest score``.
    """
    explained: dict[str, str] = {}
    for name in failed:
        if name in reference:
            said = _argmax_ties(name, reference, candidate, tolerance)
            if said is not None:
                explained[name] = said
    left = [name for name in failed if name in reference and name not in explained]
    if left:
        explained.update(_reordered(reference, candidate, left, tolerance))
    return explained


def _argmax_ties(name: str, reference: Outputs, candidate: Outputs, tolerance: Tolerance) -> str | None:
    indices, found = reference[name], candidate[name]
    if is_text(indices[0]) or indices[0].dtype.kind not in "iu" or found[0].dtype.kind not in "iu":
        return None
    for other, scores in reference.items():
        if other == name or not _scores_of(scores, indices):
            continue
        total = 0
        for one, two, score in zip(indices, found, scores, strict=True):
            values = wide(score)
            places = np.nonzero(unequal(one, two))
            total += len(places[0]) if one.ndim else int(one != two)
            chosen = two[..., np.newaxis].astype(np.int64)
            if chosen.min() < 0 or chosen.max() >= values.shape[-1]:
                return None
            gap = values.max(axis=-1) - np.take_along_axis(values, chosen, -1)[..., 0]
            if (gap > _margin(values, tolerance)).any():
                return None
        return f"{total} indices differ, all at ties of '{other}'"
    return None


def _scores_of(scores: Sequence[Array], indices: Sequence[Array]) -> bool:
    return all(
        not is_text(score)
        and score.dtype.kind == "f"
        and score.size > 0
        and score.shape[:-1] == index.shape
        and score.shape[-1:] != (0,)
        and bool(np.isfinite(score).all())
        and np.array_equal(np.argmax(score, axis=-1), index)
        for score, index in zip(scores, indices, strict=True)
    )


def _reordered(
    reference: Outputs, candidate: Outputs, failed: Sequence[str], tolerance: Tolerance
) -> dict[str, str]:
    """Outputs that pass once rows of tied scores are brought into the reference's order."""
    for name, scores in reference.items():
        if not _sorted_scores(scores) or not _sorted_scores(candidate[name]):
            continue
        rows = scores[0].shape
        together = [other for other, values in reference.items() if _same_rows(values, scores)]
        if len(rows) != 2 or not set(failed) <= set(together) or len(together) < 2:
            continue
        aligned: dict[str, list[Array]] = {other: [] for other in together}
        moved = 0
        for probe in range(len(scores)):
            ones = {other: reference[other][probe] for other in together}
            twos = {other: candidate[other][probe] for other in together}
            order = _alignment(ones, twos, name, tolerance)
            moved += int(np.count_nonzero(order != np.arange(order.shape[1])))
            for other, values in twos.items():
                index = order.reshape(order.shape + (1,) * (values.ndim - 2))
                aligned[other].append(np.take_along_axis(values, index, axis=1))
        if moved and all(_close(reference[other], aligned[other], tolerance) for other in together):
            said = f"{moved} rows are in another order where '{name}' ties; equal once ordered alike"
            return dict.fromkeys(failed, said)
    return {}


def _same_rows(values: Sequence[Array], scores: Sequence[Array]) -> bool:
    return not is_text(values[0]) and all(
        value.shape[:2] == score.shape for value, score in zip(values, scores, strict=True)
    )


def _sorted_scores(scores: Sequence[Array]) -> bool:
    return all(
        not is_text(score)
        and score.dtype.kind == "f"
        and score.ndim == 2
        and score.shape[1] >= 2
        and bool(np.isfinite(score).all())
        and bool((score[:, 1:] <= score[:, :-1]).all())
        for score in scores
    )


def _alignment(
    reference: Mapping[str, Array], candidate: Mapping[str, Array], scores: str, tolerance: Tolerance
) -> Array:
    """``[batch, rows]``: which candidate row stands for each reference row; only tied rows are moved."""
    values = wide(reference[scores])
    order = np.tile(np.arange(values.shape[1]), (values.shape[0], 1))
    margin = 2 * _margin(values, tolerance)
    for item in range(values.shape[0]):
        start = 0
        for stop in range(1, values.shape[1] + 1):
            if stop < values.shape[1] and values[item, stop - 1] - values[item, stop] <= margin:
                continue
            if stop - start > 1:
                order[item, start:stop] = start + _nearest_rows(
                    {n: v[item, start:stop] for n, v in reference.items()},
                    {n: v[item, start:stop] for n, v in candidate.items()},
                )
            start = stop
    return order


def _nearest_rows(reference: Mapping[str, Array], candidate: Mapping[str, Array]) -> Array:
    rows = len(next(iter(reference.values())))
    cost = np.zeros((rows, rows))
    for name, values in reference.items():
        one, two = wide(values).reshape(rows, -1), wide(candidate[name]).reshape(rows, -1)
        scale = float(np.abs(one).max()) or 1.0
        for row in range(rows):
            cost[row] += np.abs(two - one[row]).max(axis=1) / scale
    free = np.ones(rows, dtype=bool)
    chosen = np.zeros(rows, dtype=np.int64)
    for row in range(rows):
        best = int(np.argmin(np.where(free, cost[row], np.inf)))
        chosen[row], free[best] = best, False
    return chosen


def _close(reference: Sequence[Array], candidate: Sequence[Array], tolerance: Tolerance) -> bool:
    if reference[0].dtype.kind in "biu":
        wrong = sum(int(unequal(a, b).sum()) for a, b in zip(reference, candidate, strict=True))
        return wrong <= tolerance.mismatched * sum(array.size for array in reference)
    if not all(bool(np.isfinite(array).all()) for array in (*reference, *candidate)):
        return False
    return judge_numbers(reference, candidate, tolerance).finding is None


def _margin(scores: Array, tolerance: Tolerance) -> float:
    return tolerance.abs + tolerance.rel * float(np.abs(scores).max())
