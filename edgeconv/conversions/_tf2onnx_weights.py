"""Weights out of a GraphDef before tf2onnx sees it, so that it works on a graph of some kilobytes.

Before::

    Const(3, 3, 512, 512) ─▶ Conv2D

After::

    Placeholder(3, 3, 512, 512) ─▶ Conv2D          {"kernel": array}

tf2onnx copies the whole graph for each of its passes, weights included: 6.5 GB for the 100 MB of a
ResNet50. Only constants at places where nothing but their shape matters to tf2onnx are taken; a
rewriter that wants values (recurrent cells, fills, resizes) finds them where they were.
"""

from __future__ import annotations

from typing import Any

MINIMUM_ELEMENTS = 4096
"""Smaller ones stay: they may be shapes, paddings or norms whose values tf2onnx folds."""

_WEIGHT_POSITIONS: dict[str, tuple[int, ...]] = {
    "Conv2D": (1,),
    "Conv3D": (1,),
    "DepthwiseConv2dNative": (1,),
    "Conv2DBackpropInput": (1,),
    "Conv3DBackpropInputV2": (1,),
    "MatMul": (0, 1),
    "BatchMatMul": (0, 1),
    "BatchMatMulV2": (0, 1),
    "BatchMatMulV3": (0, 1),
    "Einsum": (0, 1),
    "Gather": (0,),
    "GatherV2": (0,),
    "Add": (0, 1),
    "AddV2": (0, 1),
    "Sub": (0, 1),
    "Mul": (0, 1),
    "RealDiv": (0, 1),
}


def take_weights(graph: Any) -> dict[str, Any]:
    """Turn large constants at weight positions into placeholders of their shape and type, in place.

    Args:
        graph: GraphDef.

    Returns:
        Node name to ``numpy.ndarray`` (float16, float32 or float64), to become initializers.
    """
    from tensorflow import dtypes, make_ndarray

    floats = {
        dtypes.float16.as_datatype_enum,
        dtypes.float32.as_datatype_enum,
        dtypes.float64.as_datatype_enum,
    }
    consumers: dict[str, list[tuple[Any, int]]] = {}
    for node in graph.node:
        for index, tensor in enumerate(node.input):
            if not tensor.startswith("^"):
                consumers.setdefault(tensor.partition(":")[0], []).append((node, index))

    def only_weight(name: str) -> bool:
        found = consumers.get(name, [])
        return bool(found) and all(
            only_weight(node.name) if node.op == "Identity" else index in _WEIGHT_POSITIONS.get(node.op, ())
            for node, index in found
        )

    weights: dict[str, Any] = {}
    for node in graph.node:
        if node.op != "Const" or node.attr["dtype"].type not in floats:
            continue
        tensor = node.attr["value"].tensor
        elements = 1
        for dimension in tensor.tensor_shape.dim:
            elements *= dimension.size
        if elements < MINIMUM_ELEMENTS or len(tensor.tensor_shape.dim) < 2 or not only_weight(node.name):
            continue
        weights[node.name] = make_ndarray(tensor)
        shape = [dimension.size for dimension in tensor.tensor_shape.dim]
        node.op = "Placeholder"
        del node.attr["value"]
        node.attr["shape"].shape.SetInParent()
        for size in shape:
            node.attr["shape"].shape.dim.add(size=size)
        # A placeholder takes no control inputs from the frame that the constant stood in.
        del node.input[:]
    return weights
