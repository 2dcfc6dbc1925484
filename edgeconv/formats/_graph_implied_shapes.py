"""The shape of an input that the graph does not state, where the ops that take it leave no other.

A placeholder of unknown rank that goes into a convolution has rank 4 and the channels of the filter; one that
goes into ``DecodeWav`` is a scalar. This is no guess: with any other shape the graph could not run. Where
ops leave the rank open (all that work elementwise), so does this.
"""

from __future__ import annotations

from collections.abc import Callable

from edgeconv.formats._graph_view import GraphView
from edgeconv.formats._tensor_types import shape_of
from edgeconv.formats.base import Shape

_SCALARS = {
    "DecodeWav": (0,),
    "DecodeJpeg": (0,),
    "DecodePng": (0,),
    "DecodeBmp": (0,),
    "DecodeGif": (0,),
    "DecodeImage": (0,),
    "DecodeAndCropJpeg": (0,),
    "ExtractJpegShape": (0,),
    "ReadFile": (0,),
    "ParseSingleExample": (0,),
    "ParseTensor": (0,),
    "Mfcc": (1,),
    "Switch": (1,),
    "Fill": (1,),
    "Range": (0, 1, 2),
}
"""Op to the inputs that must be scalars."""
_RANKS = {
    "MaxPool": (4,),
    "AvgPool": (4,),
    "LRN": (4,),
    "ResizeBilinear": (4,),
    "ResizeNearestNeighbor": (4,),
    "ResizeBicubic": (4,),
    "ResizeArea": (4,),
    "SpaceToDepth": (4,),
    "DepthToSpace": (4,),
    "ExtractImagePatches": (4,),
    "CropAndResize": (4, 2, 1, 1),
    "NonMaxSuppression": (2, 1, 0),
    "NonMaxSuppressionV2": (2, 1, 0, 0),
    "NonMaxSuppressionV3": (2, 1, 0, 0, 0),
    "NonMaxSuppressionV4": (2, 1, 0, 0, 0),
    "NonMaxSuppressionV5": (2, 1, 0, 0, 0, 0),
    "AudioSpectrogram": (2,),
    "Mfcc": (3, 0),
    "ParseExample": (1,),
    "ParseExampleV2": (1,),
    "FusedBatchNorm": (4, 1, 1, 1, 1),
    "FusedBatchNormV2": (4, 1, 1, 1, 1),
    "FusedBatchNormV3": (4, 1, 1, 1, 1),
    "CTCBeamSearchDecoder": (3, 1),
    "CTCGreedyDecoder": (3, 1),
    "BlockLSTM": (0, 3),
    "BlockLSTMV2": (0, 3),
    "LSTMBlockCell": (2, 2, 2),
}
"""Op to the ranks of its first inputs."""
_KEEPING = frozenset(
    {"Identity", "StopGradient", "Cast", "Relu", "Relu6", "Elu", "Sigmoid", "Tanh", "Softplus", "Neg", "Abs",
     "Square", "Sqrt", "Rsqrt", "Exp", "Log", "CheckNumerics", "Snapshot", "LogicalNot"}
)  # fmt: skip
"""Ops whose only input has the shape of the output."""
_ELEMENTWISE = frozenset({"Add", "AddV2", "Sub", "Mul", "RealDiv", "Div", "Maximum", "Minimum"})
_FIRST_PRODUCER_WITH_GROUPS = 200
"""No graph of TensorFlow 1 has grouped convolutions, whose filters have a part of the channels."""
_DEPTH = 12


def implied_shape(view: GraphView, name: str, port: int) -> Shape | None:
    """The shape that the consumers of a tensor demand; ``None`` where they leave its rank open.

    Args:
        view: the graph.
        name: node of the tensor.
        port: its output.

    Returns:
        The rank with the dimensions that are certain; ``None`` also where consumers contradict each other.
    """
    return _implied(view, name, port, _DEPTH)


def _implied(view: GraphView, name: str, port: int, depth: int) -> Shape | None:
    if depth == 0:
        return None
    shape: Shape | None = None
    for taker in view.consumers.get(name, ()):
        for index, source in enumerate(view.data_inputs(taker)):
            demanded = _demand(view, taker, index, depth) if source == (name, port) else None
            if demanded is None:
                continue
            if shape is not None and len(shape) != len(demanded):
                return None
            shape = demanded if shape is None else _both(shape, demanded)
    return shape


def _both(one: Shape, two: Shape) -> Shape:
    return tuple(a if b is None else b if a is None else a for a, b in zip(one, two, strict=True))


def _demand(view: GraphView, taker: str, index: int, depth: int) -> Shape | None:
    """What one consumer demands of its input number ``index``."""
    node = view.nodes[taker]
    if index in _SCALARS.get(node.op, ()):
        return ()
    if node.op in _RULES:
        return _RULES[node.op](view, taker, index)
    ranks = _RANKS.get(node.op, ())
    if index < len(ranks):
        return (None,) * ranks[index]
    if node.op in _KEEPING and index == 0:
        return _implied(view, taker, 0, depth - 1)
    if node.op in _ELEMENTWISE:
        other = view.data_inputs(taker)[1 - index] if len(view.data_inputs(taker)) == 2 else None
        # With a scalar the result has the shape of the input; with anything else either may be broadcast.
        if other is not None and _weight_shape(view, *other) == ():
            return _implied(view, taker, 0, depth - 1)
    return None


def _weight_shape(view: GraphView, name: str, port: int) -> Shape | None:
    """Shape of a weight, seen through what reads it."""
    for _ in range(_DEPTH):
        node = view.nodes.get(name)
        if node is None:
            return None
        if node.op == "Const":
            return view.shape(name, port)
        if node.op in ("Variable", "VariableV2", "VarHandleOp"):
            return shape_of(node.attr["shape"].shape)
        if node.op not in ("Identity", "ReadVariableOp", "Enter", "RefEnter"):
            return None
        sources = view.data_inputs(name)
        if not sources:
            return None
        name, port = sources[0]
    return None


def _matmul(view: GraphView, taker: str, index: int) -> Shape | None:
    node = view.nodes[taker]
    other = _weight_shape(view, *view.data_inputs(taker)[1 - index])
    mine, theirs = ("transpose_a", "transpose_b") if index == 0 else ("transpose_b", "transpose_a")
    inner = None
    if other is not None and len(other) == 2:
        # The inner dimension is the last of the first operand and the first of the second.
        inner = other[(0 if index == 0 else 1) ^ node.attr[theirs].b]
    shape = (None, inner) if index == 0 else (inner, None)
    return shape[::-1] if node.attr[mine].b else shape


def _convolution(view: GraphView, taker: str, index: int) -> Shape | None:
    node = view.nodes[taker]
    if index != 0:
        return None
    weights = _weight_shape(view, *view.data_inputs(taker)[1])
    spatial = 3 if node.op == "Conv3D" else 2
    channels = weights[-2] if weights is not None and len(weights) == spatial + 2 else None
    if node.op == "Conv2D" and view.producer >= _FIRST_PRODUCER_WITH_GROUPS:
        channels = None
    if node.attr["data_format"].s in (b"NCHW", b"NCDHW"):
        return (None, channels, *(None,) * spatial)
    return (None, *(None,) * spatial, channels)


_RULES: dict[str, Callable[[GraphView, str, int], Shape | None]] = {
    "MatMul": _matmul,
    "Conv2D": _convolution,
    "DepthwiseConv2dNative": _convolution,
    "Conv3D": _convolution,
}
