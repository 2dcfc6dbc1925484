"""Operations on images and volumes that a target lacks, in ops that it has (see ``graph_decompose``).

=========================================  =================================================
before                                     after
=========================================  =================================================
``ResizeBicubic ResizeArea``, fixed sizes  two products with constant matrices
``ResizeNearestNeighbor`` of integers      ``Gather`` of rows and columns
``ExtractImagePatches``                    strided slices, one behind the other
``ResizeBilinear`` of bytes                a cast before it
``MaxPoolWithArgmax``                      ``MaxPool``, and the position of the largest in a patch
``MaxPool3D AvgPool3D``                    a pool over height and width, one over depth
``CropAndResize``                          four gathers and the interpolation between them
``AdjustContrastv2 AdjustHue
AdjustSaturation RGBToHSV HSVToRGB``       their formulas
=========================================  =================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeconv.surgery.graph_decompose import Decomposition, NotHere, value_of

_Attributes = Mapping[str, Any]
_Tensors = Sequence[Any]
_MOST_PATCH = 256


def _resize(op: str) -> Decomposition:
    """A resize that works on rows and columns apart: its matrices are what the op makes of unit vectors."""

    def decomposition(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
        import tensorflow as tf

        images, (height, width) = inputs[0], (int(size) for size in value_of(inputs[1]))
        if images.shape.rank != 4 or None in images.shape[1:].as_list():
            raise NotHere("images of unknown size")
        _, rows, columns, channels = images.shape.as_list()
        x = tf.cast(images, tf.float32)
        down = _matrix(op, attributes, rows, height)
        across = _matrix(op, attributes, columns, width)
        x = tf.matmul(down, tf.reshape(x, [-1, rows, columns * channels]))
        x = tf.matmul(across, tf.reshape(x, [-1, columns, channels]))
        return [tf.reshape(x, [-1, height, width, channels])]

    return decomposition


def resize_whole(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """A bilinear resize of whole numbers, which gives floats: a cast before that of floats."""
    import tensorflow as tf

    images, size = inputs
    if images.dtype.is_floating:
        raise NotHere("floats")
    options = {key: attributes[key] for key in ("align_corners", "half_pixel_centers")}
    return [tf.raw_ops.ResizeBilinear(images=tf.cast(images, tf.float32), size=size, **options)]


def _matrix(op: str, attributes: _Attributes, before: int, after: int) -> Any:
    import numpy
    import tensorflow as tf
    from tensorflow.python.eager import context

    with context.eager_mode(), tf.device("CPU:0"):
        options = {
            key: attributes[key] for key in ("align_corners", "half_pixel_centers") if key in attributes
        }
        unit = tf.constant(numpy.eye(before, dtype=numpy.float32).reshape(1, before, 1, before))
        made = getattr(tf.raw_ops, op)(images=unit, size=[after, 1], **options)
        return made.numpy().reshape(after, before)


def resize_nearest(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """Rows and columns picked one by one, for the element types that TFLite's own kernel lacks."""
    import tensorflow as tf

    images, size = inputs
    if images.dtype in (tf.float32, tf.uint8, tf.int8, tf.int16):
        raise NotHere("a type that the target has a kernel for")
    for axis in (1, 2):
        places = _nearest(tf.shape(images)[axis], size[axis - 1], attributes)
        images = tf.gather(images, places, axis=axis)
    return [images]


def _nearest(before: Any, after: Any, attributes: _Attributes) -> Any:
    """The row that each row of the result is taken from, as TensorFlow's kernel rounds them."""
    import tensorflow as tf

    length, count = tf.cast(before, tf.float32), tf.cast(after, tf.float32)
    place = tf.range(after)
    if attributes["align_corners"]:
        scale = tf.where(count > 1.0, (length - 1.0) / tf.maximum(count - 1.0, 1.0), length / count)
        exact = tf.cast(place, tf.float32) * scale
        whole = tf.floor(exact)
        nearest = whole + tf.cast(exact - whole >= 0.5, tf.float32)
    elif attributes["half_pixel_centers"]:
        nearest = tf.floor((tf.cast(place, tf.float32) + 0.5) * (length / count))
    else:
        nearest = tf.floor(tf.cast(place, tf.float32) * (length / count))
    return tf.minimum(tf.cast(nearest, tf.int32), before - 1)


def _patches(x: Any, size: Sequence[int], strides: Sequence[int], rates: Sequence[int], padding: str,
             fill: Any = 0) -> tuple[list[Any], list[list[int]]]:  # fmt: skip
    """For each place in a patch the pixels at it, ``[N,h,w,C]``; and the padding of height and width."""
    import tensorflow as tf

    if x.shape.rank != 4 or None in x.shape[1:].as_list() or size[0] * size[1] > _MOST_PATCH:
        raise NotHere("images of unknown size, or large patches")
    pads, counts = [], []
    for axis in range(2):
        length = x.shape[1 + axis]
        reach = (size[axis] - 1) * rates[axis] + 1
        if padding == "SAME":
            count = -(-length // strides[axis])
            missing = max((count - 1) * strides[axis] + reach - length, 0)
            pads.append([missing // 2, missing - missing // 2])
        else:
            count = (length - reach) // strides[axis] + 1
            pads.append([0, 0])
        counts.append(count)
    padded = tf.pad(x, [[0, 0], *pads, [0, 0]], constant_values=fill) if any(map(any, pads)) else x
    found = []
    for i in range(size[0]):
        for j in range(size[1]):
            top, left = i * rates[0], j * rates[1]
            bottom = top + (counts[0] - 1) * strides[0] + 1
            right = left + (counts[1] - 1) * strides[1] + 1
            found.append(padded[:, top : bottom : strides[0], left : right : strides[1], :])
    return found, pads


def extract_patches(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """Slices joined along the channels."""
    import tensorflow as tf

    kernel, strides, rates = (attributes[key][1:3] for key in ("ksizes", "strides", "rates"))
    found, _ = _patches(inputs[0], kernel, strides, rates, attributes["padding"])
    return [tf.concat(found, -1)]


def max_pool_with_argmax(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """The pool, and the flat index of each largest value: the first one in a patch."""
    import numpy
    import tensorflow as tf

    (x,) = inputs
    kernel, strides, padding = attributes["ksize"], attributes["strides"], attributes["padding"]
    pooled = tf.nn.max_pool2d(x, kernel, strides, padding)
    dtype = tf.as_dtype(attributes["Targmax"])
    if 1 not in attributes["read"]:
        return [pooled, tf.cast(tf.zeros_like(pooled), dtype)]
    if attributes["include_batch_in_index"] and x.shape[0] != 1:
        raise NotHere("indices across a batch")
    lowest = x.dtype.as_numpy_dtype(-numpy.inf)
    found, _ = _patches(x, kernel[1:3], strides[1:3], (1, 1), padding, lowest)
    _, height, width, channels = x.shape.as_list()
    numbers = numpy.arange(height * width, dtype=numpy.int32).reshape(1, height, width, 1)
    from tensorflow.python.eager import context

    with context.eager_mode(), tf.device("CPU:0"):
        places, _ = _patches(tf.constant(numbers), kernel[1:3], strides[1:3], (1, 1), padding)
        where = numpy.concatenate([place.numpy() for place in places], -1)[:, :, :, None, :]
    which = tf.argmax(tf.stack(found, -1), -1, output_type=tf.int32)
    flat = tf.reduce_sum(tf.one_hot(which, len(found), dtype=tf.int32) * where, -1)
    return [pooled, tf.cast(flat * channels + numpy.arange(channels, dtype=numpy.int32), dtype)]


def _pool_3d(pool: str) -> Decomposition:
    """Over height and width with the depth beside the batch, then over depth."""

    def decomposition(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
        import tensorflow as tf

        (x,) = inputs
        if attributes["data_format"] != "NDHWC" or None in x.shape[1:].as_list():
            raise NotHere("volumes of unknown size")
        function = getattr(tf.nn, pool)
        kernel, strides, padding = attributes["ksize"], attributes["strides"], attributes["padding"]
        _, depth, height, width, channels = x.shape.as_list()
        x = function(tf.reshape(x, [-1, height, width, channels]), kernel[2:4], strides[2:4], padding)
        height, width = x.shape[1:3].as_list()
        x = tf.reshape(x, [-1, depth, height * width, channels])
        x = function(x, [kernel[1], 1], [strides[1], 1], padding)
        return [tf.reshape(x, [-1, x.shape[1], height, width, channels])]

    return decomposition


def crop_and_resize(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """Each box sampled on a grid; outside of the image the extrapolation value."""
    import tensorflow as tf

    image, boxes, which, size = inputs
    if None in image.shape[1:].as_list() or image.shape.rank != 4:
        raise NotHere("images of unknown size")
    _, height, width, channels = image.shape.as_list()
    rows, columns = (int(each) for each in value_of(size))
    flat = tf.reshape(tf.cast(image, tf.float32), [-1, channels])
    y, inside_y = _grid(boxes[:, 0], boxes[:, 2], height, rows)
    x, inside_x = _grid(boxes[:, 1], boxes[:, 3], width, columns)
    first = (which * height * width)[:, None, None]

    def at(row: Any, column: Any) -> Any:
        place = tf.cast(row, tf.int32)[:, :, None] * width + tf.cast(column, tf.int32)[:, None, :]
        return tf.gather(flat, first + place)

    if attributes["method"] == "nearest":
        result = at(tf.floor(y + 0.5), tf.floor(x + 0.5))
    else:
        top, left = tf.floor(y), tf.floor(x)
        bottom, right = tf.math.ceil(y), tf.math.ceil(x)
        down, across = (y - top)[:, :, None, None], (x - left)[:, None, :, None]
        upper = at(top, left) + (at(top, right) - at(top, left)) * across
        lower = at(bottom, left) + (at(bottom, right) - at(bottom, left)) * across
        result = upper + (lower - upper) * down
    inside = tf.logical_and(inside_y[:, :, None], inside_x[:, None, :])[..., None]
    return [tf.where(inside, result, attributes["extrapolation_value"])]


def _grid(start: Any, end: Any, length: int, count: int) -> tuple[Any, Any]:
    """Where along an axis the samples of each box are, clipped, and whether they are inside the image."""
    import numpy
    import tensorflow as tf

    if count > 1:
        # TFLite's converter makes a product with the reciprocal of division by a constant. The last bit
        # decides whether a sample of a box that ends at the border is inside: no constant, then.
        steps = start * 0.0 + float(count - 1)
        scale = (end - start) * float(length - 1) / steps
        place = (start * float(length - 1))[:, None] + scale[:, None] * numpy.arange(
            count, dtype=numpy.float32
        )
    else:
        place = (0.5 * (start + end) * float(length - 1))[:, None]
    inside = tf.logical_and(place >= 0.0, place <= float(length - 1))
    return tf.minimum(tf.maximum(place, 0.0), float(length - 1)), inside


def adjust_contrast(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """The distance from the mean of each channel of each image, times the factor."""
    import tensorflow as tf

    images, factor = inputs
    mean = tf.reduce_mean(images, [-3, -2], keepdims=True)
    return [(images - mean) * tf.cast(factor, images.dtype) + mean]


def _to_hsv(rgb: Any) -> tuple[Any, Any, Any]:
    import tensorflow as tf

    r, g, b = tf.unstack(rgb, 3, axis=-1)
    value = tf.maximum(tf.maximum(r, g), b)
    span = value - tf.minimum(tf.minimum(r, g), b)
    saturation = tf.where(value > 0, span / tf.where(value > 0, value, tf.ones_like(value)), 0.0)
    unit = 1.0 / (6.0 * tf.where(span > 0, span, tf.ones_like(span)))
    hue = tf.where(tf.equal(g, value), unit * (b - r) + 2.0 / 6.0, unit * (r - g) + 4.0 / 6.0)
    hue = tf.where(tf.equal(r, value), unit * (g - b), hue)
    hue = tf.where(span > 0, hue, 0.0)
    return tf.where(hue < 0, hue + 1.0, hue), saturation, value


def _to_rgb(hue: Any, saturation: Any, value: Any) -> Any:
    import tensorflow as tf

    def channel(shape: Any) -> Any:
        return (1.0 - saturation + saturation * tf.minimum(tf.maximum(shape, 0.0), 1.0)) * value

    six = hue * 6.0
    red = channel(tf.abs(six - 3.0) - 1.0)
    green = channel(2.0 - tf.abs(six - 2.0))
    blue = channel(2.0 - tf.abs(six - 4.0))
    return tf.stack([red, green, blue], -1)


def rgb_to_hsv(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """By the sector of the largest channel."""
    import tensorflow as tf

    return [tf.stack(_to_hsv(inputs[0]), -1)]


def hsv_to_rgb(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """By a piecewise linear function of the hue for each channel."""
    import tensorflow as tf

    return [_to_rgb(*tf.unstack(inputs[0], 3, axis=-1))]


def adjust_hue(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """The hue moved round the circle."""
    import tensorflow as tf

    hue, saturation, value = _to_hsv(inputs[0])
    moved = hue + tf.cast(inputs[1], hue.dtype)
    return [_to_rgb(moved - tf.floor(moved), saturation, value)]


def adjust_saturation(attributes: _Attributes, inputs: _Tensors) -> _Tensors:
    """The saturation scaled and clipped."""
    import tensorflow as tf

    hue, saturation, value = _to_hsv(inputs[0])
    scaled = saturation * tf.cast(inputs[1], hue.dtype)
    return [_to_rgb(hue, tf.minimum(tf.maximum(scaled, 0.0), 1.0), value)]


WRONG_IN_ONNX: dict[str, Decomposition] = {
    "AdjustSaturation": adjust_saturation,
    "CropAndResize": crop_and_resize,
    "ResizeArea": _resize("ResizeArea"),
    "ResizeBicubic": _resize("ResizeBicubic"),
}
"""What tf2onnx takes, and what it writes computes something else."""

ONNX: dict[str, Decomposition] = WRONG_IN_ONNX | {
    "AdjustHue": adjust_hue,
    "ExtractImagePatches": extract_patches,
    "HSVToRGB": hsv_to_rgb,
    "RGBToHSV": rgb_to_hsv,
    "ResizeBilinear": resize_whole,
}
"""What tf2onnx does not take."""

TFLITE: dict[str, Decomposition] = ONNX | {
    "AdjustContrastv2": adjust_contrast,
    "AvgPool3D": _pool_3d("avg_pool2d"),
    "MaxPool3D": _pool_3d("max_pool2d"),
    "MaxPoolWithArgmax": max_pool_with_argmax,
    "ResizeNearestNeighbor": resize_nearest,
}
"""What TFLite has no kernel for."""
