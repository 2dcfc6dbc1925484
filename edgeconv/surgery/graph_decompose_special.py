"""Special functions, small inverses, bits and dilations, in ops that TFLite and ONNX have.

before:  x ─▶ Digamma
after:   x + 6 ─▶ a series in 1 / (x + 6)², less 1/x, 1/(x + 1) … 1/(x + 5)

(see ``graph_decompose``)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeconv.surgery.graph_decompose import Decomposition, NotHere, static, value_of

_Attributes = Mapping[str, Any]
_Tensors = Sequence[Any]

_SHIFT = 6
"""The series of Stirling are exact to float32 from here on."""


def _shifted(x: Any) -> tuple[Any, Any]:
    """Positive x moved by ``_SHIFT``, and the inverse of its square."""
    import tensorflow as tf

    if x.dtype != tf.float32:
        raise NotHere("another type than float32")
    moved = x + float(_SHIFT)
    return moved, 1.0 / (moved * moved)


def digamma(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """ψ(x) = ψ(x + n) - Σ 1/(x + i); for x < 1/2 by reflection, ψ(1 - x) - π / tan(πx)."""
    import math

    import tensorflow as tf

    (x,) = inputs
    mirrored = tf.less(x, 0.5)
    positive = tf.where(mirrored, 1.0 - x, x)
    moved, inverse = _shifted(positive)
    # Asymptotic series: ln x - 1/2x - 1/12x² + 1/120x⁴ - 1/252x⁶ + 1/240x⁸.
    series = inverse * (1 / 12 - inverse * (1 / 120 - inverse * (1 / 252 - inverse / 240)))
    result = tf.math.log(moved) - 0.5 / moved - series
    for step in range(_SHIFT):
        result = result - 1.0 / (positive + float(step))
    # The tangent has the period π: an angle near 0 is exact.
    angle = math.pi * (x - tf.floor(x + 0.5))
    safe = tf.where(mirrored, angle, tf.ones_like(x))
    return [tf.where(mirrored, result - math.pi * tf.cos(safe) / tf.sin(safe), result)]


def lgamma(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """ln Γ(x) = ln Γ(x + n) - ln Π (x + i); for x < 1/2 by reflection, ln (π / |sin πx|) - ln Γ(1 - x)."""
    import math

    import tensorflow as tf

    (x,) = inputs
    mirrored = tf.less(x, 0.5)
    positive = tf.where(mirrored, 1.0 - x, x)
    moved, inverse = _shifted(positive)
    # Asymptotic series: (x - 1/2) ln x - x + ln √2π + 1/12x - 1/360x³ + 1/1260x⁵.
    series = (1 / 12 - inverse * (1 / 360 - inverse / 1260)) / moved
    # ln x of what was moved and ln of the product nearly cancel for large x: only small x are moved.
    small = tf.less(positive, float(_SHIFT))
    base = tf.where(small, moved, positive)
    series = tf.where(small, series, (1 / 12 - (1 / 360 - 1 / (1260 * base * base)) / (base * base)) / base)
    result = (base - 0.5) * tf.math.log(base) - base + 0.5 * math.log(2 * math.pi) + series
    product = tf.ones_like(x)
    for step in range(_SHIFT):
        product = product * (positive + float(step))
    result = result - tf.math.log(tf.where(small, product, tf.ones_like(x)))
    angle = math.pi * (x - tf.floor(x + 0.5))
    safe = tf.where(mirrored, angle, tf.ones_like(x))
    return [tf.where(mirrored, math.log(math.pi) - tf.math.log(tf.abs(tf.sin(safe))) - result, result)]


def matrix_inverse(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """Up to three rows: the cofactors over the determinant."""
    import tensorflow as tf

    (x,) = inputs
    size = x.shape[-1] if x.shape.rank else None
    if size not in (1, 2, 3) or x.shape[-2] != size:
        raise NotHere("more than three rows")
    a = [[x[..., i, j] for j in range(size)] for i in range(size)]
    if size == 1:
        return [1.0 / x]

    def minor(i: int, j: int) -> Any:
        rows = [[a[r][c] for c in range(size) if c != j] for r in range(size) if r != i]
        if size == 2:
            return rows[0][0]
        return rows[0][0] * rows[1][1] - rows[0][1] * rows[1][0]

    cofactors = [[(-1.0) ** (i + j) * minor(i, j) for j in range(size)] for i in range(size)]
    determinant = tf.add_n([a[0][j] * cofactors[0][j] for j in range(size)])
    adjugate = tf.stack([tf.stack([cofactors[j][i] for j in range(size)], -1) for i in range(size)], -2)
    inverse = adjugate / determinant[..., None, None]
    if not attributes["adjoint"]:
        return [inverse]
    return [tf.stack([inverse[..., i] for i in range(size)], -2)]


def invert(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """All bits the other way: -1 - x, or the largest number less x where there is no sign."""
    (x,) = inputs
    return [(-1 if x.dtype.min < 0 else x.dtype.max) - x]


def _and(inputs: _Tensors) -> Any:
    """With a known mask: for each run of its bits the remainder by its upper end less that by its lower."""
    import tensorflow as tf

    try:
        mask, x = value_of(inputs[1]), inputs[0]
    except NotHere:
        mask, x = value_of(inputs[0]), inputs[1]
    if mask.size != 1 or x.dtype not in (tf.int32, tf.int64):
        raise NotHere("one mask for all, of int32 or int64")
    bits = int(mask.reshape(()))
    if bits < 0:
        return x - _masked(x, ~bits)
    return _masked(x, bits)


def _masked(x: Any, bits: int) -> Any:
    import tensorflow as tf

    result, low, width = tf.zeros_like(x), 0, x.dtype.size * 8
    while bits >> low:
        if not bits >> low & 1:
            low += 1
            continue
        high = low
        while bits >> high & 1:
            high += 1
        if high >= width - 1:
            raise NotHere("a mask whose highest bit is not set")
        result = result + tf.math.floormod(x, 1 << high)
        result = result - tf.math.floormod(x, 1 << low) if low else result
        low = high
    return result


def bitwise_and(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """See :func:`_and`."""
    return [_and(inputs)]


def bitwise_or(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """The sum less what both have."""
    return [inputs[0] + (inputs[1] - _and(inputs))]


def dilation(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """The largest of the image moved by each position of the filter, plus what the filter has there."""
    import tensorflow as tf

    image, weights = inputs
    rows, columns = static(weights)[:2]
    (_, down, right, _), (_, rate_down, rate_right, _) = attributes["strides"], attributes["rates"]
    if image.shape.rank is None or None in image.shape[1:3].as_list():
        raise NotHere("an image of known size")
    sizes, pads = [], []
    for size, window, rate, stride in zip(
        image.shape[1:3].as_list(), (rows, columns), (rate_down, rate_right), (down, right), strict=True
    ):
        reach = (window - 1) * rate + 1
        if attributes["padding"] == "SAME":
            count = -(-size // stride)
            both = max((count - 1) * stride + reach - size, 0)
            pads.append([both // 2, both - both // 2])
        else:
            count = (size - reach) // stride + 1
            pads.append([0, 0])
        sizes.append(count)
    # What is outside never is the largest; half of the least, so that a filter may be added to it.
    wide = tf.pad(image, [[0, 0], *pads, [0, 0]], constant_values=image.dtype.min / 2)
    found = None
    for i in range(rows):
        for j in range(columns):
            top, left = i * rate_down, j * rate_right
            end = top + (sizes[0] - 1) * down + 1, left + (sizes[1] - 1) * right + 1
            part = wide[:, top : end[0] : down, left : end[1] : right, :] + weights[i, j]
            found = part if found is None else tf.maximum(found, part)
    return [found]


EVERYWHERE: dict[str, Decomposition] = {
    "BitwiseAnd": bitwise_and,
    "BitwiseOr": bitwise_or,
    "Digamma": digamma,
    "Dilation2D": dilation,
    "Invert": invert,
    "MatrixInverse": matrix_inverse,
}
"""What neither TFLite nor ONNX (of the opset that is written) has."""

ONNX: dict[str, Decomposition] = EVERYWHERE | {"Lgamma": lgamma}
"""What tf2onnx does not take besides."""
