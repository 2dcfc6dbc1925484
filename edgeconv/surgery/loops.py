"""Loops and lists of TensorFlow 1 brought to a form that TFLite and ONNX take.

Each loop is tried in these ways, in this order:

1. unrolled (``graph_unroll``), where the number of trips is known or bounded: nothing is left of it;
2. as one computation for the whole batch (``graph_vectorise``), where it maps over a batch of open size;
3. as a functional loop with dense tensors instead of lists (``graph_loops_functional``).

What none of them can do is left as it was, and said.
"""

from __future__ import annotations

from edgeconv.surgery.changes import Change
from edgeconv.surgery.graph import Graph, short
from edgeconv.surgery.graph_loops_emitter import Emitter
from edgeconv.surgery.graph_loops_frames import EXIT, Frames
from edgeconv.surgery.graph_tensor_arrays import Cannot, kind
from edgeconv.surgery.graph_unroll import Unroller


def has_loops(graph_def: object) -> bool:
    """Whether the main graph of a GraphDef has loops of TensorFlow 1."""
    return any(node.op in EXIT for node in graph_def.node)  # type: ignore[attr-defined]


def has_lists(graph_def: object) -> bool:
    """Whether the main graph of a GraphDef has lists of tensors of TensorFlow 1."""
    return any(kind(node.op) for node in graph_def.node)  # type: ignore[attr-defined]


def without_loops(graph: Graph) -> list[Change]:
    """Rewrite the loops and lists of ``graph``; shapes of placeholders count as pinned.

    Returns:
        What was done with each loop, and with a reason what could not be.
    """
    graph.prune()
    if not has_loops(graph.graph_def) and not has_lists(graph.graph_def):
        return []
    frames = Frames(graph)
    unroller = Unroller(graph, frames, Emitter(graph))
    failures: dict[str, str] = {}
    lists = {node.name for node in graph.graph_def.node if kind(node.op) == "TensorArray"}
    for name in frames.order:
        node = graph.nodes[name]
        if frames.gives(name) or (node.op not in EXIT and not kind(node.op)):
            continue
        try:
            unroller.value(name, unroller.root)
        except Cannot as reason:
            frame = frames.path_of.get(name, ())
            failures.setdefault(frame[-1] if frame else name, str(reason))
            continue
        for port in range(2):
            value = unroller.root.known.get(short(f"{name}:{port}"))
            if isinstance(value, str) and value:
                graph.redirect(short(f"{name}:{port}"), value)
    graph.prune()
    changes = [
        Change("loops", f"the loop '{name}' was unrolled: {trips} trips")
        for name, trips in sorted(unroller.trips.items())
        if name not in failures
    ]
    gone = len(lists - graph.nodes.keys())
    if gone:
        changes.append(Change("loops", f"{gone} lists of tensors (TensorArray) were resolved"))
    changes += [
        Change("loops", f"'{name}' was left as it is: {reason}", warning=True)
        for name, reason in sorted(failures.items())
    ]
    return changes
