"""A fused batch normalisation in training mode takes the moving statistics instead of the batch's own.

before:  x, gamma, beta, [], [] ─▶ FusedBatchNormV3(is_training=True) ─▶ y
                                        └mean, variance─▶ AssignSub(moving_mean), AssignSub(moving_variance)
after:   x, gamma, beta, moving_mean, moving_variance ─▶ FusedBatchNormV3(is_training=False) ─▶ y

Epsilon and data format stay. Which variables hold the moving statistics is told by what is updated from the
batch's (through exponential averages with or without correction of their bias), else by names beside gamma
and beta. Where nothing tells, a frozen graph above all, the layer cannot be repaired and is refused by
name.
"""

from __future__ import annotations

from typing import Any

from edgeconv.errors import ConversionError
from edgeconv.formats import _graph_vocabulary as vocabulary
from edgeconv.surgery import _moving_statistics as moving
from edgeconv.surgery._liveness import repairable
from edgeconv.surgery._variables import VARIABLES
from edgeconv.surgery.changes import Change, Replaced
from edgeconv.surgery.graph import Graph, full

_NAME = "batch_norm_to_inference"
_EPSILON = 1e-4  # of the op where it states none


def rewrite(graph: Graph) -> list[Change]:
    """Let each fused batch normalisation on the path use the moving statistics.

    Raises:
        ConversionError: a layer's moving statistics are not in the graph.
    """
    changes = []
    for name in repairable(graph):
        node = graph.nodes[name]
        if node.op in vocabulary.BATCH_NORM_OPS and _trains(node):
            changes.append(_repair(graph, node))
    return changes


def _trains(node: Any) -> bool:
    return bool(node.attr["is_training"].b) if "is_training" in node.attr else True


def _repair(graph: Graph, node: Any) -> Change:
    x, scale, offset = graph.data_inputs(node)[:3]
    layer = moving.Layer(
        name=node.name,
        mean=[f"{node.name}:1"],
        variance=[f"{node.name}:2"],
        parameters=(scale, offset),
        taken=graph.data_inputs(node)[3:5],
        channels=moving.channels_of(graph, (scale, offset)),
    )
    found = moving.find(graph, layer)
    if found is None:
        raise _lost(graph, node)
    before = (full(x), full(scale), full(offset), full(found.mean), full(found.variance))
    epsilon = float(node.attr["epsilon"].f) if "epsilon" in node.attr else _EPSILON
    layout = node.attr["data_format"].s if "data_format" in node.attr else b""
    attributes = {"epsilon": epsilon, "channels_first": layout.startswith(b"NC")}
    replaced = Replaced(full(node.name), "batch_norm", before, attributes)
    controls = [each for each in node.input if each.startswith("^")]
    graph.set_inputs(node, [x, scale, offset, found.mean, found.variance, *controls])
    node.attr["is_training"].b = False
    node.attr.pop("exponential_avg_factor", None)
    return Change(
        _NAME,
        f"batch normalisation '{node.name}' used the statistics of the batch: it uses "
        f"'{_shown(found.mean)}' and '{_shown(found.variance)}' ({found.evidence})",
        (replaced,),
    )


def _lost(graph: Graph, node: Any) -> ConversionError:
    has_variables = any(each.op in VARIABLES for each in graph.graph_def.node)
    if has_variables:
        return ConversionError(
            f"the batch normalisation '{node.name}' is in training mode, and no variable of "
            "the graph is known to hold its moving statistics",
            where=graph.path,
            why="nothing is updated from the statistics of its batches, and no variable of their "
            "shape is called so",
            hint="export the model in inference mode, or choose outputs before it with --outputs",
        )
    return ConversionError(
        f"the batch normalisation '{node.name}' is in training mode, and its moving statistics "
        "are not in the graph",
        where=graph.path,
        why="the graph was frozen while training; freezing drops what only training updates, so what "
        "inference needs was lost",
        hint="give the checkpoint that the graph was frozen from (its .meta file), not this graph",
    )


def _shown(reference: str) -> str:
    return reference.removesuffix("/ReadVariableOp").removesuffix("/Read").removesuffix("/read")
