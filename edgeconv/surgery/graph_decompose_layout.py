"""Operations on images with channels first, which TFLite lacks, between transposes (see ``graph_decompose``).

before:  x [N,C,H,W] ─▶ DepthwiseConv2dNative(NCHW) ─▶ y [N,C,H,W]
after:   x ─▶ Transpose ─▶ [N,H,W,C] ─▶ DepthwiseConv2dNative(NHWC) ─▶ Transpose ─▶ y

TFLite's converter moves the channels of the usual layers itself, and takes such pairs of transposes away
between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeconv.surgery.graph_decompose import Decomposition, NotHere

_LAST, _FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
_PER_AXIS = ("strides", "dilations", "ksize")


def _channels_last(op: str, images: Sequence[int] = (0,), sizes: int | None = None) -> Decomposition:
    """``op`` with channels last.

    Args:
        op: name of the op.
        images: which inputs have channels; the first output has them too.
        sizes: input that holds the shape of the result, if there is one.
    """

    def decomposition(attributes: Mapping[str, Any], inputs: Sequence[Any]) -> Sequence[Any]:
        import tensorflow as tf

        if attributes["data_format"] != "NCHW":
            raise NotHere("channels are last")
        arguments = list(inputs)
        for index in images:
            if arguments[index].shape.rank not in (None, 4):
                raise NotHere("no image")
            arguments[index] = tf.transpose(arguments[index], _LAST)
        if sizes is not None:
            arguments[sizes] = tf.gather(arguments[sizes], _LAST)
        result = getattr(tf.raw_ops, op)(**_named(op, arguments), **_moved(op, attributes))
        outputs = list(result) if isinstance(result, (list, tuple)) else [result]
        return [tf.transpose(outputs[0], _FIRST), *outputs[1:]]

    return decomposition


def _named(op: str, arguments: Sequence[Any]) -> dict[str, Any]:
    from tensorflow.python.framework import op_def_registry

    return {
        argument.name: value
        for argument, value in zip(op_def_registry.get(op).input_arg, arguments, strict=True)
    }


def _kept(op: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that are no types of the inputs."""
    from tensorflow.python.framework import op_def_registry

    return {
        attribute.name: attributes[attribute.name]
        for attribute in op_def_registry.get(op).attr
        if attribute.type != "type" and attribute.name in attributes
    }


def _moved(op: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes with their entries for each axis in the other order."""
    kept = _kept(op, attributes)
    kept["data_format"] = "NHWC"
    for name in _PER_AXIS:
        if name in kept:
            kept[name] = [kept[name][axis] for axis in _LAST]
    if pads := kept.get("explicit_paddings"):
        kept["explicit_paddings"] = [pads[2 * axis + side] for axis in _LAST for side in (0, 1)]
    return kept


_MOVED = _channels_last("Conv2D")


def conv2d(attributes: Mapping[str, Any], inputs: Sequence[Any]) -> Sequence[Any]:
    """With channels last, and with as many as the weights take where the graph lost how many there are.

    TFLite's converter has to know the number; what pads or cuts by sizes that it computes forgets it.
    """
    import tensorflow as tf

    if attributes["data_format"] == "NCHW":
        return _MOVED(attributes, inputs)
    images, weights = inputs
    if images.shape.rank != 4 or images.shape[-1] is not None or weights.shape[2] is None:
        raise NotHere("all is known")
    images = tf.reshape(images, tf.concat([tf.shape(images)[:3], [weights.shape[2]]], 0))
    return [tf.raw_ops.Conv2D(**_named("Conv2D", [images, weights]), **_kept("Conv2D", attributes))]


TFLITE: dict[str, Decomposition] = {
    "AvgPool": _channels_last("AvgPool"),
    "Conv2D": conv2d,
    "Conv2DBackpropInput": _channels_last("Conv2DBackpropInput", (2,), sizes=0),
    "DepthToSpace": _channels_last("DepthToSpace"),
    "DepthwiseConv2dNative": _channels_last("DepthwiseConv2dNative"),
    "FusedBatchNorm": _channels_last("FusedBatchNorm"),
    "FusedBatchNormV2": _channels_last("FusedBatchNormV2"),
    "FusedBatchNormV3": _channels_last("FusedBatchNormV3"),
    "MaxPool": _channels_last("MaxPool"),
    "SpaceToDepth": _channels_last("SpaceToDepth"),
}
"""What TFLite has no kernel for with channels first, or its converter does not move in every case."""
