"""Which nodes lie inside the while-loops of TensorFlow 1."""

from __future__ import annotations

from edgeconv.surgery.graph import Graph

_ENTERS = frozenset({"Enter", "RefEnter"})
_EXITS = frozenset({"Exit", "RefExit"})


def in_loops(graph: Graph) -> set[str]:
    """Names of the nodes that run inside a loop's frame; its entries and exits included."""
    found: set[str] = set()
    todo = [node.name for node in graph.graph_def.node if node.op in _ENTERS]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        if graph.nodes[name].op not in _EXITS:
            todo.extend(reader.name for reader in graph.readers(name))
    return found
