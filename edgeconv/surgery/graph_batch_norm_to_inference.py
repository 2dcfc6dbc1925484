"""A fused batch normalisation in training mode takes the moving statistics instead of the batch's own.

before:  x, gamma, beta, [], [] ─▶ FusedBatchNormV3(is_training=True) ─▶ y
                                        └mean, variance─▶ AssignSub(moving_mean), AssignSub(moving_variance)
after:   x, gamma, beta, moving_mean, moving_variance ─▶ FusedBatchNormV3(is_training=False) ─▶ y

Epsilon and data format stay. Which variables hold the moving statistics is told by what is updated from the
batch's (through exponential averages with or without correction of their bias), else by what the op itself
takes, else by names beside gamma and beta. Where there are variables and nothing tells, the layer is
refused by name. A graph without variables has lost what nothing used: it stays what it is, with a warning,
because there is nothing else that it could be, and people do publish such graphs. The op is also what Keras 2
writes a layer normalisation with: that one stays.
"""

from __future__ import annotations

from typing import Any

from edgeconv.errors import ConversionError
from edgeconv.formats._batch_norm import uses_its_batch
from edgeconv.surgery import _moving_statistics as moving
from edgeconv.surgery._liveness import called, repairable
from edgeconv.surgery._variables import VARIABLES
from edgeconv.surgery.changes import Change, Replaced
from edgeconv.surgery.graph import Graph, full

_NAME = "batch_norm_to_inference"
_EPSILON = 1e-4  # of the op where it states none


def rewrite(graph: Graph) -> list[Change]:
    """Let each fused batch normalisation on the path use the moving statistics.

    Raises:
        ConversionError: the graph has variables, and none is known to hold a layer's moving statistics.
    """
    changes: list[Change] = []
    lost: list[str] = []
    for name in repairable(graph):
        node = graph.nodes[name]
        if uses_its_batch(node, graph.nodes):
            change = _repaired(graph, node)
            if change is None:
                lost.append(name)
            else:
                changes.append(change)
    if lost:
        if any(node.op in VARIABLES for node in graph.graph_def.node):
            raise _unknown(graph, lost)
        changes.append(_left(lost))
    inner = [
        f"{function.signature.name}/{node.name}"
        for function in called(graph)
        for node in function.node_def
        if uses_its_batch(node, {each.name: each for each in function.node_def})
    ]
    return [*changes, _inside(inner)] if inner else changes


def _repaired(graph: Graph, node: Any) -> Change | None:
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
        return None
    before = (full(x), full(scale), full(offset), full(found.mean), full(found.variance))
    epsilon = float(node.attr["epsilon"].f) if "epsilon" in node.attr else _EPSILON
    layout = node.attr["data_format"].s if "data_format" in node.attr else b""
    attributes = {"epsilon": epsilon, "channels_first": layout.startswith(b"NC")}
    replaced = Replaced(full(node.name), "batch_norm", before, attributes)
    controls = [each for each in node.input if each.startswith("^")]
    further = graph.data_inputs(node)[5:]
    graph.set_inputs(node, [x, scale, offset, found.mean, found.variance, *further, *controls])
    node.attr["is_training"].b = False
    node.attr.pop("exponential_avg_factor", None)
    return Change(
        _NAME,
        f"batch normalisation '{node.name}' used the statistics of the batch: it uses "
        f"'{_shown(found.mean)}' and '{_shown(found.variance)}' ({found.evidence})",
        (replaced,),
    )


def _unknown(graph: Graph, lost: list[str]) -> ConversionError:
    return ConversionError(
        f"the batch normalisation '{lost[0]}' is in training mode, and no variable of the graph is known "
        "to hold "
        "its moving statistics",
        where=graph.path,
        why="nothing is updated from the statistics of its batches, and no variable of their shape is "
        "called so "
        f"({_count(lost)} like it)",
        hint="export the model in inference mode, or choose outputs before it with --outputs",
    )


def _left(lost: list[str]) -> Change:
    return Change(
        _NAME,
        f"{_count(lost)} in training mode (first '{lost[0]}') stay so, and an output depends on what else "
        "is in its "
        "batch: the moving statistics are not in the graph, because freezing a training graph drops them; "
        "only the "
        "checkpoint that it was frozen from has them",
        warning=True,
    )


def _inside(names: list[str]) -> Change:
    return Change(
        _NAME,
        f"{_count(names)} in training mode (first '{names[0]}') stay so, and an output depends on what "
        "else is in its "
        "batch: they lie in the body of a loop or in a branch that the data choose",
        warning=True,
    )


def _count(lost: list[str]) -> str:
    return f"{len(lost)} batch normalisation{'s' if len(lost) > 1 else ''}"


def _shown(reference: str) -> str:
    return reference.removesuffix("/ReadVariableOp").removesuffix("/Read").removesuffix("/read")
