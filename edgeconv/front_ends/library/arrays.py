"""Plain arrays, where NumPy itself has no function of that meaning."""

from __future__ import annotations

from typing import Any

import numpy as np


def strided_slice(
    array: Any, begin: Any, end: Any, strides: Any, begin_mask: int, end_mask: int, ellipsis_mask: int,
    new_axis_mask: int, shrink_axis_mask: int,
) -> Any:  # fmt: skip
    """TensorFlow's slicing: bounds with bits that say which of them do not count."""
    parts: list[Any] = []
    for index, step in enumerate(np.asarray(strides).tolist()):
        bit = 1 << index
        if ellipsis_mask & bit:
            parts.append(Ellipsis)
        elif new_axis_mask & bit:
            parts.append(None)
        elif shrink_axis_mask & bit:
            parts.append(int(begin[index]))
        else:
            start = None if begin_mask & bit else int(begin[index])
            stop = None if end_mask & bit else int(end[index])
            parts.append(slice(start, stop, step))
    return np.asarray(array)[tuple(parts)]


def plain_slice(array: Any, begin: Any, size: Any) -> Any:
    """A part of an array by first places and sizes; -1 is all that is left."""
    ends = [int(b) + int(s) if s >= 0 else None for b, s in zip(begin, size, strict=True)]
    return np.asarray(array)[tuple(slice(int(b), e) for b, e in zip(begin, ends, strict=True))]


def spread(values: Any, chosen: Any, others: Any) -> Any:
    """``Select`` of TensorFlow 1: a condition of rank 1 chooses whole rows."""
    condition = np.asarray(values)
    if condition.ndim == 1 and np.ndim(chosen) > 1:
        condition = condition.reshape(-1, *[1] * (np.ndim(chosen) - 1))
    return np.where(condition, chosen, others)
