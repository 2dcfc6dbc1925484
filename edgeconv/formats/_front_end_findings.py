"""What 'inspect' says of a front end: where the model will be cut."""

from __future__ import annotations

from typing import Any

from edgeconv.errors import EdgeconvError
from edgeconv.formats._graph_front_ends import find_front_end
from edgeconv.formats.base import Contract, Finding
from edgeconv.formats.graph_candidates import contract_for_graph

_HINT = (
    "'edgeconv convert' cuts there by itself and writes what is before as a NumPy function beside the "
    "artifacts; --inputs cuts elsewhere"
)


def front_end_findings(graph_def: Any, contract: Contract | None = None) -> tuple[Finding, ...]:
    """The cut behind the front end of a graph, if it has one.

    Args:
        graph_def: the graph.
        contract: what is run; ``None`` for what the graph itself leaves no doubt about.
    """
    try:
        found = find_front_end(graph_def, contract or contract_for_graph(graph_def))
    except EdgeconvError:
        return ()  # nobody said what is run
    if found is None:
        return ()
    where = next(iter(found.ops.values()), None)
    if found.whole:
        text = "nothing of the model is left behind the ops that no edge format has"
        return (Finding("front-end-op", text, where=where, hint="name other outputs with --outputs"),)
    return tuple(Finding("front-end-op", said, where=where, hint=_HINT) for said in found.said())
