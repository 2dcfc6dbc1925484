"""Arithmetic, counting and rearranging that a target lacks, in ops that it has (see ``graph_decompose``).

=====================================  =====================================================
before                                 after
=====================================  =====================================================
``Erf(x)``                             a rational function of the clipped x
``Sinh Cosh Tan Asinh Acosh Atanh``    by ``Exp``, ``Log``, ``Sin``, ``Cos``
``Atan Asin Acos``                     by ``Atan2``
``EuclideanNorm``                      ``Sqrt(Sum(Square(x)))``
``Cumprod``                            one product a step
``DynamicPartition``                   ``Where`` and ``GatherNd`` for each part
``DynamicStitch SparseToDense``        ``TensorScatterUpdate``
``MatrixDiagPart Diag …``              ``Reshape`` and ``GatherV2``
``ParallelDynamicStitch`` in TFLite    ``Gather`` by the last place of each index
``OneHot``                             ``Equal`` and ``Select``
``FloorDiv`` of int64 in TFLite        in int32
``FloorDiv FloorMod`` of integers      in ONNX: ``Div``, and one less below 0
``NonMaxSuppression(V2)`` in ONNX      ``NonMaxSuppressionV3``
``NonMaxSuppression…`` in TFLite       filled up, and what is behind the count cut off
=====================================  =====================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeconv.surgery.graph_decompose import Decomposition, NotHere, static, value_of

_Attributes = Mapping[str, Any]
_Tensors = Sequence[Any]

# A minimax approximation of erf on [-4, 4] for float32: odd polynomial over even polynomial (as used in XLA).
_ERF_ABOVE = (
    -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
    -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02,
)  # fmt: skip
_ERF_BELOW = (
    -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
    -1.42647390514189e-02,
)  # fmt: skip
_MOST_STEPS = 512


def _polynomial(x: Any, coefficients: Sequence[float]) -> Any:
    result = coefficients[0] * x + coefficients[1]
    for coefficient in coefficients[2:]:
        result = result * x + coefficient
    return result


def erf(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """To within 2e-7 in float32."""
    import tensorflow as tf

    (x,) = inputs
    if x.dtype != tf.float32:
        raise NotHere("another type than float32")
    x = tf.minimum(tf.maximum(x, -4.0), 4.0)
    return [x * _polynomial(x * x, _ERF_ABOVE) / _polynomial(x * x, _ERF_BELOW)]


def erfc(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """One less ``Erf``."""
    return [1.0 - erf(attributes, inputs)[0]]


def _by(formula: Any) -> Decomposition:
    """An op of one input by a formula of TensorFlow and that input."""

    def decomposition(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
        import tensorflow as tf

        return [formula(tf, *inputs)]

    return decomposition


def _atan2(tf: Any, y: Any, x: Any) -> Any:
    return tf.atan2(y, x)


def norm(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """The root of the sum of squares."""
    import tensorflow as tf

    total = tf.reduce_sum(tf.square(inputs[0]), value_of(inputs[1]), keepdims=attributes["keep_dims"])
    return [tf.sqrt(total)]


def cumprod(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """One product a step; the axis must have a known size."""
    import tensorflow as tf

    x, axis = inputs[0], int(value_of(inputs[1]))
    if x.shape.rank is None or (count := x.shape[axis]) is None or not 0 < count <= _MOST_STEPS:
        raise NotHere("an axis of unknown size")
    steps = tf.unstack(x, axis=axis)
    if attributes["reverse"]:
        steps.reverse()
    result, total = [], tf.ones_like(steps[0])
    for step in steps:
        if attributes["exclusive"]:
            result.append(total)
            total = total * step
        else:
            total = step if not result else total * step
            result.append(total)
    if attributes["reverse"]:
        result.reverse()
    return [tf.stack(result, axis)]


def nth_element(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """By ``TopKV2``."""
    import tensorflow as tf

    n = int(value_of(inputs[1]))
    sign = 1 if attributes["reverse"] else -1
    return [sign * tf.math.top_k(sign * inputs[0], n + 1).values[..., n]]


def in_top_k(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """Whether fewer than k predictions are larger than that of the target."""
    import tensorflow as tf

    predictions, targets = inputs[0], inputs[1]
    k = inputs[2] if len(inputs) > 2 else tf.constant(attributes["k"])
    own = tf.gather(predictions, targets[:, None], batch_dims=1)
    larger = tf.reduce_sum(tf.cast(predictions > own, tf.int32), 1)
    finite = tf.logical_and(tf.abs(own[:, 0]) < float("inf"), tf.equal(own[:, 0], own[:, 0]))
    return [tf.logical_and(larger < tf.cast(k, tf.int32), finite)]


def segment_mean(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """The sum over the count, 0 for a segment without elements."""
    import tensorflow as tf

    data, segments = inputs
    total = tf.math.segment_sum(data, segments)
    return [total / tf.maximum(tf.math.segment_sum(tf.ones_like(data), segments), 1)]


def bincount(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """The sum of one-hot vectors."""
    import tensorflow as tf

    values, size, weights = inputs
    hot = tf.one_hot(tf.reshape(values, [-1]), int(value_of(size)), dtype=weights.dtype)
    if weights.shape.num_elements() is None:
        raise NotHere("weights of unknown shape")
    if weights.shape.num_elements():
        hot = hot * tf.reshape(weights, [-1, 1])
    return [tf.reduce_sum(hot, 0)]


def dense_bincount(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """The sum of one-hot vectors over the last axis, or 1 where there is any."""
    import tensorflow as tf

    values, size, weights = inputs
    if weights.shape.num_elements() is None or values.shape.rank not in (1, 2):
        raise NotHere("values or weights of unknown shape")
    # Keras computes the size from the values, between equal bounds.
    hot = tf.one_hot(values, tf.cast(size, tf.int32), dtype=weights.dtype)
    if attributes["binary_output"]:
        return [tf.reduce_max(hot, -2)]
    if weights.shape.num_elements():
        hot = hot * tf.expand_dims(weights, -1)
    return [tf.reduce_sum(hot, -2)]


def dynamic_partition(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """The elements of each part, by ``Where``."""
    import tensorflow as tf

    data, parts = inputs
    return [
        tf.gather_nd(data, tf.where(tf.equal(parts, part))) for part in range(attributes["num_partitions"])
    ]


def dynamic_stitch(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """Written in their order into zeros."""
    import tensorflow as tf

    where, rows = _stitched(inputs)
    zeros = tf.zeros(tf.concat([[tf.reduce_max(where) + 1], rows.shape[1:]], 0), rows.dtype)
    return [tf.tensor_scatter_nd_update(zeros, where[:, None], rows)]


def _stitched(inputs: _Tensors) -> tuple[Any, Any]:
    """All indices ``[n]``, and what belongs to them ``[n, …]``."""
    import tensorflow as tf

    count = len(inputs) // 2
    indices, data = inputs[:count], inputs[count:]
    rows = []
    for index, values in zip(indices, data, strict=True):
        if index.shape.rank is None or values.shape.rank is None:
            raise NotHere("an unknown rank")
        element = static(values[(0,) * index.shape.rank])
        rows.append(tf.reshape(values, [-1, *element]))
    return tf.concat([tf.reshape(index, [-1]) for index in indices], 0), tf.concat(rows, 0)


def dynamic_stitch_by_gather(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """Where each index was named last; the number of comparisons is that of rows squared.

    TFLite can write to places only by adding up what is written to the same one.
    """
    import tensorflow as tf

    where, rows = _stitched(inputs)
    count = tf.reduce_max(where) + 1
    named = tf.equal(tf.range(count)[:, None], where[None, :])
    places = tf.where(named, tf.range(tf.size(where))[None, :], -1)
    last = tf.reduce_max(places, 1)
    found = tf.gather(rows, tf.maximum(last, 0))
    there = tf.reshape(last >= 0, [-1, *[1] * (found.shape.rank - 1)])
    return [tf.where(there, found, tf.zeros([], rows.dtype))]


def one_hot(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """An index below 0 is nowhere; in ONNX it counts from the end."""
    import tensorflow as tf

    indices, depth, on, off = inputs
    axis = attributes["axis"]
    if indices.shape.rank is None:
        raise NotHere("an unknown rank")
    axis = indices.shape.rank if axis == -1 else axis
    if indices.dtype == tf.uint8:
        indices = tf.cast(indices, tf.int32)
    places = tf.cast(tf.range(depth), indices.dtype)
    places = tf.reshape(places, [-1, *[1] * (indices.shape.rank - axis)])
    return [tf.where(tf.equal(tf.expand_dims(indices, axis), places), on, off)]


def floor_div(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """Of int64, which counts and places are in, as if they were of int32."""
    import tensorflow as tf

    x, y = inputs
    if x.dtype != tf.int64:
        raise NotHere("another type than int64")
    return [tf.cast(tf.cast(x, tf.int32) // tf.cast(y, tf.int32), tf.int64)]


def floor_div_in_onnx(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """Of integers: ONNX rounds their quotient to zero, not down."""
    import tensorflow as tf

    quotient, _, below = _divided(*inputs)
    return [quotient - tf.cast(below, quotient.dtype)]


def floor_mod_in_onnx(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """Of integers: tf2onnx makes it from their quotient, which is rounded to zero."""
    import tensorflow as tf

    _, rest, below = _divided(*inputs)
    return [tf.where(below, rest + inputs[1], rest)]


def _divided(x: Any, y: Any) -> tuple[Any, Any, Any]:
    """The quotient rounded to zero, what it leaves, and whether rounding down gives one less."""
    import tensorflow as tf

    if x.dtype not in (tf.int32, tf.int64):
        raise NotHere("no integers that can be below 0, or none that ONNX Runtime divides")
    quotient = tf.raw_ops.Div(x=x, y=y)
    rest = x - quotient * y
    other_side = tf.not_equal(rest < 0, tf.broadcast_to(y < 0, tf.shape(rest)))
    return quotient, rest, tf.logical_and(tf.not_equal(rest, 0), other_side)


def sparse_to_dense(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """Written into what is filled with the default."""
    import tensorflow as tf

    indices, shape, values, default = inputs
    if indices.shape.rank is None:
        raise NotHere("an unknown rank")
    indices = tf.reshape(indices, [-1, 1]) if indices.shape.rank < 2 else indices
    values = tf.broadcast_to(values, tf.shape(indices)[:1])
    return [tf.tensor_scatter_nd_update(tf.fill(shape, default), indices, values)]


def roll(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """Two slices in the other order, for each axis."""
    import tensorflow as tf

    x, shifts, axes = inputs[0], value_of(inputs[1]).reshape(-1), value_of(inputs[2]).reshape(-1)
    for shift, axis in zip(shifts, axes, strict=True):
        size = x.shape[int(axis)] if x.shape.rank is not None else None
        if not size:
            raise NotHere("an axis of unknown size")
        cut = int(-shift) % size
        first, second = tf.split(x, [cut, size - cut], int(axis))
        x = tf.concat([second, first], int(axis)) if cut else x
    return [x]


def reverse_sequence(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """With the axes moved to where ONNX Runtime takes them: time first, batch second."""
    import tensorflow as tf

    x, lengths = inputs
    time, batch = attributes["seq_dim"], attributes["batch_dim"]
    if x.shape.rank is None or {time, batch} == {0, 1}:
        raise NotHere("a usual layout")
    there = [time, batch, *(axis for axis in range(x.shape.rank) if axis not in (time, batch))]
    moved = tf.reverse_sequence(tf.transpose(x, there), lengths, seq_axis=0, batch_axis=1)
    return [tf.transpose(moved, [there.index(axis) for axis in range(x.shape.rank)])]


def bucketize(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """How many boundaries are not larger."""
    import numpy
    import tensorflow as tf

    boundaries = numpy.asarray(attributes["boundaries"], inputs[0].dtype.as_numpy_dtype)
    return [tf.reduce_sum(tf.cast(inputs[0][..., None] >= boundaries, tf.int32), -1)]


def matrix_diag_part(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """Every (columns + 1)th element."""
    import numpy
    import tensorflow as tf

    x = inputs[0]
    if len(inputs) > 1 and numpy.any(value_of(inputs[1]) != 0):
        raise NotHere("another diagonal than the main one")
    if x.shape.rank is None:
        raise NotHere("an unknown rank")
    rows, columns = x.shape[-2:].as_list()
    if rows is None or columns is None or x.shape[:-2].as_list().count(None) > 1:
        sizes = tf.shape(x)
        rows, columns = sizes[-2], sizes[-1]
        flat = tf.reshape(x, tf.concat([sizes[:-2], [rows * columns]], 0))
        return [tf.gather(flat, tf.range(tf.minimum(rows, columns)) * (columns + 1), axis=-1)]
    where = numpy.arange(min(rows, columns)) * (columns + 1)
    flat = tf.reshape(x, [*_open(x.shape[:-2]), rows * columns])
    return [tf.gather(flat, where.astype(numpy.int32), axis=-1)]


def _open(shape: Any) -> list[int]:
    return [-1 if size is None else size for size in shape.as_list()]


def matrix_set_diag(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """Chosen by a constant mask."""
    import numpy
    import tensorflow as tf

    x, diagonal = inputs[:2]
    if len(inputs) > 2 and numpy.any(value_of(inputs[2]) != 0):
        raise NotHere("another diagonal than the main one")
    rows, columns = static(x)[-2:]
    wide = tf.concat([diagonal, tf.zeros([*static(diagonal)[:-1], max(rows - columns, 0)], x.dtype)], -1)
    return [tf.where(numpy.eye(rows, columns, dtype=bool), wide[..., None], x)]


def diag(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """Of a vector: rows of one element and zeros, cut again where they are a column shorter."""
    import tensorflow as tf

    x = inputs[0]
    shape = static(x)
    size = x.shape.num_elements()
    wide = tf.concat([tf.reshape(x, [size, 1]), tf.zeros([size, size], x.dtype)], 1)
    return [tf.reshape(tf.reshape(wide, [-1])[: size * size], [*shape, *shape])]


def diag_part(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """Of a square: every (size + 1)th element."""
    import math

    import numpy
    import tensorflow as tf

    shape = static(inputs[0])
    half = shape[: len(shape) // 2]
    size = math.prod(half)
    where = (numpy.arange(size) * (size + 1)).astype(numpy.int32)
    return [tf.reshape(tf.gather(tf.reshape(inputs[0], [-1]), where), half)]


def cross(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """By components."""
    import tensorflow as tf

    (a, b, c), (x, y, z) = (tf.unstack(each, 3, axis=-1) for each in inputs)
    return [tf.stack([b * z - c * y, c * x - a * z, a * y - b * x], -1)]


def bias_add(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """As an addition where the channels come first."""
    import tensorflow as tf

    x, bias = inputs
    if attributes["data_format"] != "NCHW" or x.shape.rank in (None, 4):
        raise NotHere("a usual layout")
    return [x + tf.reshape(bias, [-1, *[1] * (x.shape.rank - 2)])]


def non_max_suppression(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """As the later version with a threshold that every score passes."""
    import tensorflow as tf

    boxes, scores, most = inputs[:3]
    overlap = inputs[3] if len(inputs) > 3 else tf.constant(attributes["iou_threshold"])
    return [
        tf.raw_ops.NonMaxSuppressionV3(
            boxes=boxes,
            scores=scores,
            max_output_size=most,
            iou_threshold=tf.cast(overlap, tf.float32),
            score_threshold=tf.constant(tf.float32.min),
        )
    ]


def non_max_suppression_unpadded(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """TFLite's own ops fill up to the largest number; what is behind those that were kept is cut off."""
    import tensorflow as tf

    if attributes.get("pad_to_max_output_size", False):
        raise NotHere("filled up in the graph too")
    boxes, scores, most, overlap, *more = inputs
    shared = {
        "boxes": boxes,
        "scores": scores,
        "max_output_size": most,
        "iou_threshold": tf.cast(overlap, tf.float32),
        "score_threshold": more[0] if more else tf.constant(tf.float32.min),
        "pad_to_max_output_size": True,
    }
    if len(more) == 2:
        rows, kept, count = tf.raw_ops.NonMaxSuppressionV5(soft_nms_sigma=more[1], **shared)
        return [rows[:count], kept[:count], count]
    rows, count = tf.raw_ops.NonMaxSuppressionV4(**shared)
    return [rows[:count], count] if "pad_to_max_output_size" in attributes else [rows[:count]]


def first_non_max_suppression_unpadded(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """The first version has its threshold as an attribute."""
    import tensorflow as tf

    return non_max_suppression_unpadded({}, [*inputs, tf.constant(attributes["iou_threshold"])])


EVERYWHERE: dict[str, Decomposition] = {
    "AccumulateNV2": lambda attributes, inputs: [_sum(inputs)],
    "ApproximateEqual": lambda attributes, inputs: [abs(inputs[0] - inputs[1]) < attributes["tolerance"]],
    "BiasAddV1": _by(lambda tf, x, bias: tf.nn.bias_add(x, bias)),
    "Cross": cross,
    "Diag": diag,
    "DiagPart": diag_part,
    "EuclideanNorm": norm,
    "InTopK": in_top_k,
    "InTopKV2": in_top_k,
    "NthElement": nth_element,
    "ParallelConcat": lambda attributes, inputs: [_concat(inputs)],
    "PreventGradient": _by(lambda tf, x: tf.identity(x)),
    "Snapshot": _by(lambda tf, x: tf.identity(x)),
    "TruncateMod": _by(lambda tf, x, y: tf.sign(x) * tf.math.floormod(tf.abs(x), tf.abs(y))),
}
"""What neither TFLite nor ONNX has, by tf2onnx."""

TFLITE: dict[str, Decomposition] = EVERYWHERE | {
    "Acos": _by(lambda tf, x: _atan2(tf, tf.sqrt((1 - x) * (1 + x)), x)),
    "Acosh": _by(lambda tf, x: tf.math.log(x + tf.sqrt((x - 1) * (x + 1)))),
    "Asin": _by(lambda tf, x: _atan2(tf, x, tf.sqrt((1 - x) * (1 + x)))),
    "Asinh": _by(lambda tf, x: tf.sign(x) * tf.math.log(tf.abs(x) + tf.sqrt(x * x + 1))),
    "Atan": _by(lambda tf, x: _atan2(tf, x, tf.ones_like(x))),
    "Atanh": _by(lambda tf, x: 0.5 * tf.math.log((1 + x) / (1 - x))),
    "BiasAdd": bias_add,
    "Bincount": bincount,
    "ClipByValue": _by(lambda tf, x, low, high: tf.minimum(tf.maximum(x, low), high)),
    "Cosh": _by(lambda tf, x: 0.5 * (tf.exp(x) + tf.exp(-x))),
    "Cumprod": cumprod,
    "DenseBincount": dense_bincount,
    "DynamicPartition": dynamic_partition,
    "DynamicStitch": dynamic_stitch_by_gather,
    "Erf": erf,
    "Erfc": erfc,
    "FloorDiv": floor_div,
    "MatrixDiagPart": matrix_diag_part,
    "MatrixDiagPartV2": matrix_diag_part,
    "MatrixDiagPartV3": matrix_diag_part,
    "NonMaxSuppression": first_non_max_suppression_unpadded,
    **dict.fromkeys((f"NonMaxSuppressionV{n}" for n in (2, 3, 4, 5)), non_max_suppression_unpadded),
    "ParallelDynamicStitch": dynamic_stitch_by_gather,
    "SegmentMean": segment_mean,
    "Sinh": _by(lambda tf, x: 0.5 * (tf.exp(x) - tf.exp(-x))),
    "SpaceToBatch": lambda attributes, inputs: [_space_to_batch(attributes, inputs)],
    "Tan": _by(lambda tf, x: tf.sin(x) / tf.cos(x)),
}
"""What TFLite has no kernel for."""

ONNX: dict[str, Decomposition] = EVERYWHERE | {
    "Bucketize": bucketize,
    "DynamicPartition": dynamic_partition,
    "DynamicStitch": dynamic_stitch,
    "FloorDiv": floor_div_in_onnx,
    "FloorMod": floor_mod_in_onnx,
    "MatrixSetDiag": matrix_set_diag,
    "MatrixSetDiagV2": matrix_set_diag,
    "MatrixSetDiagV3": matrix_set_diag,
    "NonMaxSuppression": non_max_suppression,
    "OneHot": one_hot,
    "ParallelDynamicStitch": dynamic_stitch,
    "ReverseSequence": reverse_sequence,
    "Roll": roll,
    "SpaceToBatch": TFLITE["SpaceToBatch"],
    "SparseToDense": sparse_to_dense,
}
"""What tf2onnx does not take, or takes and writes a file that ONNX Runtime cannot run."""

WRONG_IN_ONNX: dict[str, Decomposition] = {
    "BiasAddV1": EVERYWHERE["BiasAddV1"],
    "FloorDiv": floor_div_in_onnx,
    "FloorMod": floor_mod_in_onnx,
    "OneHot": one_hot,
    "Roll": roll,
}
"""What tf2onnx takes, and what it writes computes something else or cannot be run."""


def _sum(inputs: _Tensors) -> Any:
    import tensorflow as tf

    return tf.add_n(list(inputs))


def _concat(inputs: _Tensors) -> Any:
    import tensorflow as tf

    return tf.concat(list(inputs), 0) if len(inputs) > 1 else inputs[0]


def _space_to_batch(attributes: _Attributes, inputs: _Tensors) -> Any:
    import tensorflow as tf

    return tf.space_to_batch(inputs[0], [attributes["block_size"]] * 2, inputs[1])
