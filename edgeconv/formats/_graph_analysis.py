"""What :mod:`frozen_graph` and :mod:`saved_model` alike say about a graph: weights, ops, origin."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edgeconv.formats import _graph_vocabulary as vocabulary
from edgeconv.formats._graph_view import GraphView, output_dtypes
from edgeconv.formats._tensor_types import FLOATS, dtype_name, elements, shape_of
from edgeconv.formats.graph_candidates import (
    candidate_inputs,
    candidate_outputs,
    contract_for_graph,
    unambiguous,
)

__all__ = [
    "GraphView",
    "candidate_inputs",
    "candidate_outputs",
    "constant_weights",
    "contract_for_graph",
    "producer_era",
    "unambiguous",
    "variables_in",
]

_QUANTIZED = frozenset({"int8", "uint8", "int16", "uint16", "int4", "uint4"})
# First GraphDef version of each era, as files that state both numbers show it (SavedModels and metagraphs
# of 1.0 to 2.21). The version counts incompatible changes up to 27 and grows by the day after it.
_ERAS = (
    (1, "TensorFlow 0.11 or older"),
    (12, "TensorFlow 0.12"),
    (20, "TensorFlow 1.0 to 1.2"),
    (24, "TensorFlow 1.2 to 1.4"),
    (26, "TensorFlow 1.5 to 1.10"),
    (27, "TensorFlow 1.11 to 1.13"),
    (28, "TensorFlow 1.13 to 2.1"),
    (400, "TensorFlow 2.2 to 2.5"),
    (750, "TensorFlow 2.6 to 2.13"),
    (1500, "TensorFlow 2.14 or later"),
)


def producer_era(producer: int) -> str:
    """Which releases wrote GraphDef version ``producer``, roughly: the version names a range of them."""
    era = _ERAS[0][1]
    for first, name in _ERAS:
        if producer >= first:
            era = name
    return f"{era} (GraphDef version {producer})" if producer else era


def constant_weights(nodes: Iterable[tuple[str, Any]]) -> int:
    """Number of weight elements in ``Const`` nodes: floats and stored quantized integers of rank 1 and up."""
    total = 0
    for _, node in nodes:
        if node.op != "Const":
            continue
        tensor = node.attr["value"].tensor
        name = dtype_name(tensor.dtype)
        shape = shape_of(tensor.tensor_shape)
        if (name in FLOATS or name in _QUANTIZED) and shape:
            total += elements(shape) or 0
    return total


def variables_in(nodes: Iterable[tuple[str, Any]]) -> dict[str, tuple[str, int | None]]:
    """Variables among ``nodes``: name to element type and number of elements (``None``: not stated)."""
    found: dict[str, tuple[str, int | None]] = {}
    for name, node in nodes:
        if node.op not in vocabulary.VARIABLE_OPS:
            continue
        shape = shape_of(node.attr["shape"].shape) if "shape" in node.attr else None
        dtype = (output_dtypes(node) or ("unknown",))[0]
        if node.op == "VarHandleOp" and "dtype" in node.attr:
            dtype = dtype_name(node.attr["dtype"].type)
        found[name] = (dtype, elements(shape))
    return found
