"""The order in which an inference graph is tidied before anything is made of it.

Device fields, colocation and private attributes are gone by then (``graph_editing.clean``), and so are side
effects; none of what follows changes what the outputs compute, beyond the last bits of a float.
"""

from __future__ import annotations

from collections.abc import Callable

from edgeconv.surgery import graph_bypass_identities, graph_fold_batch_norm, graph_fold_constants
from edgeconv.surgery.changes import Change
from edgeconv.surgery.graph import Graph

Rewrite = Callable[[Graph], list[Change]]

ORDER: tuple[Rewrite, ...] = (
    # First: every pattern below is told by who reads whom.
    graph_bypass_identities.rewrite,
    # Before batch normalisation, which small ops write as arithmetic on constants.
    graph_fold_constants.rewrite,
    graph_fold_batch_norm.rewrite,
    # What a factor left behind when it went into the weights.
    graph_bypass_identities.rewrite,
)


def tidy(graph: Graph) -> list[Change]:
    """Tidy ``graph`` in place, and keep only what its outputs need.

    Returns:
        What a person should know of it.
    """
    changes = [change for rewrite in ORDER for change in rewrite(graph)]
    graph.prune()
    return changes
