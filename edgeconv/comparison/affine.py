"""Affine quantization of arrays: real values to stored ones and back."""

from __future__ import annotations

import numpy as np

from edgeconv.comparison.archive import Array, dtype_named
from edgeconv.formats.base import Quantization


def quantize(real: Array, dtype: str, quantization: Quantization) -> Array:
    """``round(real / scale) + zero_point``, clipped to what ``dtype`` holds; same shape."""
    scale, zero_point = _aligned(quantization, real.ndim)
    stored = np.rint(np.asarray(real, np.float64) / scale) + zero_point
    limits = np.iinfo(dtype_named(dtype))
    clipped: Array = np.clip(stored, limits.min, limits.max).astype(limits.dtype)
    return clipped


def dequantize(stored: Array, quantization: Quantization) -> Array:
    """``scale * (stored - zero_point)`` as float32; same shape."""
    scale, zero_point = _aligned(quantization, stored.ndim)
    return np.asarray(scale * (np.asarray(stored, np.float64) - zero_point), np.float32)


def _aligned(quantization: Quantization, rank: int) -> tuple[Array, Array]:
    scale = np.asarray(quantization.scale, np.float64)
    zero_point = np.asarray(quantization.zero_point or (0,), np.float64)
    if scale.size <= 1 or rank == 0:
        return scale.reshape(-1)[:1].reshape(()), zero_point.reshape(-1)[:1].reshape(())
    axis = quantization.axis if quantization.axis is not None else rank - 1
    shape = [1] * rank
    shape[axis] = scale.size
    return scale.reshape(shape), np.broadcast_to(zero_point, scale.shape).reshape(shape)


def stored_range(dtype: str, quantization: Quantization) -> tuple[float, float]:
    """Smallest and largest real value that the stored type holds (of the first channel)."""
    limits = np.iinfo(dtype_named(dtype))
    scale, zero_point = _aligned(quantization, 0)
    low, high = float(scale * (limits.min - zero_point)), float(scale * (limits.max - zero_point))
    return min(low, high), max(low, high)
