"""The real values that a quantized tensor can hold."""

from __future__ import annotations

from edgeconv.formats.base import Quantization

STORED_RANGES = {
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "uint16": (0, 65535),
}
"""Least and greatest stored value by dtype."""


def real_range(dtype: str, quantization: Quantization) -> list[float]:
    """Least and greatest real value of a tensor with one scale: ``scale * (stored - zero_point)``."""
    low, high = STORED_RANGES[dtype]
    scale, zero = quantization.scale[0], quantization.zero_point[0] if quantization.zero_point else 0
    return [scale * (low - zero), scale * (high - zero)]
