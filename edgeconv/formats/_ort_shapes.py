"""Shapes of an ORT graph at batch 1, from those that the runtime stored in the file."""

from __future__ import annotations

import math

from edgeconv.formats._onnx_graph import Dimensions, Graph, Node
from edgeconv.formats._ort_model import OrtModel

_SAME_SIZE = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "DepthToSpace", "SpaceToDepth"}
_PASSES = 4


def graph_at_batch_one(model: OrtModel) -> Graph:
    """The graph with its free leading input dimensions set to 1, and the dimensions that follow from it.

    A free dimension is the batch where it has the name of an input's leading dimension. One without a
    name is worked out from the shapes before it; what cannot be stays ``None``.
    """
    graph = model.graph
    batch_names = set()
    for name in graph.inputs:
        kind = model.types[name]
        if kind.dims and kind.dims[0] is None and kind.names[0]:
            batch_names.add(kind.names[0])
    types: dict[str, tuple[str, Dimensions | None]] = {}
    free_leading: set[str] = set()
    for name, kind in model.types.items():
        dims = kind.dims
        if dims is not None:
            if dims and dims[0] is None:
                free_leading.add(name)
            dims = tuple(
                1 if one is None and label in batch_names else one
                for one, label in zip(dims, kind.names, strict=True)
            )
            if name in graph.inputs and dims and dims[0] is None:
                dims = (1, *dims[1:])
        types[name] = (kind.dtype, dims)
    # The nodes of an ORT file are in no particular order, so the knowledge takes some passes to spread.
    for _ in range(_PASSES):
        changed = False
        for node in graph.nodes:
            for output in node.outputs:
                dtype, dims = types.get(output, ("", None))
                if dims is not None and None in dims:
                    known = _resolved(node, dims, types, free_leading)
                    if known != dims:
                        types[output] = (dtype, known)
                        changed = True
        if not changed:
            break
    return Graph(graph.nodes, graph.inputs, graph.outputs, graph.constants, types)


def _resolved(
    node: Node,
    dims: Dimensions,
    types: dict[str, tuple[str, Dimensions | None]],
    free_leading: set[str],
) -> Dimensions:
    if node.op in _SAME_SIZE and node.inputs:
        source = types.get(node.inputs[0], ("", None))[1]
        fixed = math.prod(one for one in dims if one is not None)
        if source is None or None in source or dims.count(None) != 1 or not fixed:
            return dims
        size = math.prod(one or 0 for one in source)
        return tuple(size // fixed if one is None else one for one in dims)
    if dims[0] is None:
        for name in node.inputs:
            source = types.get(name, ("", None))[1]
            if name in free_leading and source and source[0] is not None:
                return (source[0], *dims[1:])
    return dims
