"""Sparse and ragged tensors: reshaping, filling, summing by segments, making dense."""

from __future__ import annotations

from typing import Any

import numpy as np


def sparse_reshape(indices: Any, shape: Any, new_shape: Any) -> tuple[Any, Any]:
    """Indices of a sparse tensor in another shape, and that shape without its -1."""
    old, new = [int(size) for size in shape], [int(size) for size in new_shape]
    total = int(np.prod(old, dtype=np.int64))
    if -1 in new:
        rest = int(np.prod([size for size in new if size != -1], dtype=np.int64))
        new[new.index(-1)] = total // rest if rest else 0
    at = np.zeros(len(indices), np.int64)
    for axis, size in enumerate(old):
        at = at * size + np.asarray(indices)[:, axis]
    columns: list[Any] = []
    for size in reversed(new):
        columns.insert(0, at % max(1, size))
        at = at // max(1, size)
    made = np.stack(columns, 1) if columns else np.zeros((len(indices), 0), np.int64)
    return made.astype(np.int64), np.array(new, np.int64)


def fill_empty_rows(indices: Any, values: Any, shape: Any, default: Any) -> tuple[Any, Any, Any, Any]:
    """A sparse tensor with the default in the first column of each row that has nothing.

    Returns:
        Indices, values, which rows were empty, and where each old value is now.
    """
    rows = int(shape[0])
    has = np.bincount(np.asarray(indices)[:, 0], minlength=rows)[:rows] > 0
    fresh = np.zeros((int((~has).sum()), np.asarray(indices).shape[1]), np.int64)
    fresh[:, 0] = np.flatnonzero(~has)
    whole = np.concatenate([np.asarray(indices, np.int64), fresh])
    filler = np.empty(len(fresh), np.asarray(values).dtype)
    filler[:] = np.asarray(default).reshape(-1)[0]
    order = np.argsort(whole[:, 0], kind="stable")
    placed = np.empty(len(whole), np.int64)
    placed[order] = np.arange(len(whole))
    return whole[order], np.concatenate([values, filler])[order], ~has, placed[: len(indices)]


def sparse_segments(data: Any, indices: Any, segments: Any, kind: str, count: int = -1) -> Any:
    """Rows of ``data`` picked by ``indices``, summed by segment: ``sum``, ``mean`` or ``sqrtn``."""
    ids = np.asarray(segments).astype(np.int64)
    rows = count if count >= 0 else (int(ids[-1]) + 1 if len(ids) else 0)
    picked = np.asarray(data)[np.asarray(indices)]
    result = np.zeros((rows, *picked.shape[1:]), picked.dtype)
    np.add.at(result, ids, picked)
    if kind != "sum":
        counts = np.maximum(np.bincount(ids, minlength=rows)[:rows], 1).astype(picked.dtype)
        counts = counts if kind == "mean" else np.sqrt(counts)
        result = result / counts.reshape(-1, *[1] * (picked.ndim - 1))
    return result.astype(picked.dtype)


def sparse_to_dense(indices: Any, shape: Any, values: Any, default: Any) -> Any:
    """A sparse tensor as an array, with the default where it has nothing."""
    filler = np.asarray(default)
    result = np.empty([int(size) for size in np.asarray(shape).reshape(-1)], filler.dtype)
    result[...] = filler.reshape(-1)[0]
    places = np.asarray(indices)
    places = places.reshape(-1, 1) if places.ndim < 2 else places
    result[tuple(places.T)] = values
    return result


def unique(values: Any, dtype: str) -> tuple[Any, Any]:
    """The different values in the order of their first occurrence, and the place of each value in them."""
    places: dict[Any, int] = {}
    flat = np.asarray(values).reshape(-1)
    at = np.array([places.setdefault(value, len(places)) for value in flat.tolist()], dtype)
    made = np.empty(len(places), flat.dtype)
    made[:] = list(places)
    return made, at


def ragged_to_dense(shape: Any, values: Any, default: Any, splits: list[Any]) -> Any:
    """A ragged tensor of row splits as an array, filled with the default, cut to ``shape`` where stated."""
    flat, filler = np.asarray(values), np.asarray(default).reshape(-1)[0]
    wanted = [int(size) for size in np.asarray(shape).reshape(-1)]

    def sizes(level: int) -> list[int]:
        if level == len(splits):
            return []
        lengths = np.diff(splits[level])
        return [int(lengths.max(initial=0)), *sizes(level + 1)]

    full = [len(splits[0]) - 1, *sizes(0), *flat.shape[1:]]
    result = np.empty(full, flat.dtype)
    result[...] = filler

    def fill(place: tuple[int, ...], level: int, row: int) -> None:
        for column, inner in enumerate(range(int(splits[level][row]), int(splits[level][row + 1]))):
            if level + 1 == len(splits):
                result[(*place, column)] = flat[inner]
            else:
                fill((*place, column), level + 1, inner)

    for row in range(full[0]):
        fill((row,), 0, row)
    for axis, size in enumerate(wanted[: result.ndim]):
        if size >= 0:
            result = np.take(result, np.arange(min(size, result.shape[axis])), axis)
            missing = [(0, size - result.shape[axis]) if i == axis else (0, 0) for i in range(result.ndim)]
            result = np.pad(result, missing, constant_values=filler)
    return result
