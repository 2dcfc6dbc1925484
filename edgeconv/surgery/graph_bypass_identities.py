"""Nodes that hand one tensor on unchanged are read through.

before:  conv ─▶ Identity ─▶ StopGradient ─▶ relu
after:   conv ─▶ relu

The gate of a branch or loop of TensorFlow 1 is left alone: what converters know these by are the identities
around them. So are nodes that others wait for, that wait for others, and the outputs.
"""

from __future__ import annotations

from edgeconv.formats.graph_reading import split_reference
from edgeconv.surgery.changes import Change
from edgeconv.surgery.graph import Graph, short

_PASSING = frozenset({"Identity", "StopGradient", "PreventGradient", "Snapshot"})
_GATES = frozenset(
    {"Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond", "RefSwitch", "RefMerge", "RefEnter"}
)


def rewrite(graph: Graph) -> list[Change]:
    """Let readers of identities read what these take; the identities go when the graph is pruned."""
    outputs = {split_reference(reference)[0] for reference in graph.outputs}
    for name in [node.name for node in graph.graph_def.node if node.op in _PASSING]:
        node = graph.nodes[name]
        if name in outputs or name in graph.inputs or len(node.input) != 1:
            continue
        source = short(node.input[0])
        made_by = graph.node(source)
        readers = list(graph.readers(name))
        around = [reader.op for reader in readers] + [made_by.op if made_by is not None else ""]
        waited_for = any(reference == f"^{name}" for reader in readers for reference in reader.input)
        if waited_for or made_by is None or _GATES & set(around):
            continue
        graph.redirect(name, source)
    return []
