"""The order in which a training graph becomes an inference graph."""

from __future__ import annotations

from collections.abc import Callable

from edgeconv.surgery import (
    graph_batch_norm_to_inference,
    graph_fix_training_switches,
    graph_moments_to_inference,
    graph_pipelines_to_placeholders,
    graph_prune_conditionals,
    graph_remove_dropout,
    graph_report_randomness,
)
from edgeconv.surgery.changes import Change
from edgeconv.surgery.graph import Graph

Rewrite = Callable[[Graph], list[Change]]

ORDER: tuple[Rewrite, ...] = (
    # First of all: what feeds a queue is no part of the model, and nothing after may waste a thought on it.
    graph_pipelines_to_placeholders.rewrite,
    # Before the conditions that they decide.
    graph_fix_training_switches.rewrite,
    # Before anything that repairs: a branch not taken needs no repair, and may not have what it takes.
    graph_prune_conditionals.rewrite,
    # Before the statistics: a mask is told by ops that a normalisation may share, and a dropout between the
    # batch's moments and their use would hide them.
    graph_remove_dropout.rewrite,
    graph_batch_norm_to_inference.rewrite,
    # Behind the fused ones, whose statistics may be the ones that small ops go on with.
    graph_moments_to_inference.rewrite,
    # Last: what is random now is meant to be, or nothing here knows it.
    graph_report_randomness.rewrite,
)


def to_inference(graph: Graph) -> list[Change]:
    """Rewrite ``graph`` in place into what it computes in inference.

    The graph must still have what lies beside the path from inputs to outputs: which variables hold the
    moving statistics of a batch normalisation is known from the ops that update them. Calls of functions
    must be inlined. Nothing is pruned here. Running it twice changes nothing more.

    Args:
        graph: its ``inputs`` are left alone, whatever they are: a switch that the user named stays an input.

    Returns:
        What was changed, in order, with the tensors of the source that have another value now.

    Raises:
        ConversionError: the graph is in training mode and has lost what inference needs; names the layer.
    """
    return [change for rewrite in ORDER for change in rewrite(graph)]
