"""The order in which a training graph becomes an inference graph."""

from __future__ import annotations

from collections.abc import Callable

from edgeconv.surgery import graph_pipelines_to_placeholders
from edgeconv.surgery.changes import Change
from edgeconv.surgery.graph import Graph

Rewrite = Callable[[Graph], list[Change]]

ORDER: tuple[Rewrite, ...] = (
    # First of all: what feeds a queue is no part of the model, and nothing after may waste a thought on it.
    graph_pipelines_to_placeholders.rewrite,
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
