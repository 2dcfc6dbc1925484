"""Loops and lists of TensorFlow 1 brought to a form that TFLite and ONNX take.

Each loop is tried in these ways, in this order:

1. unrolled (``graph_unroll``), where the number of trips is known or bounded: nothing is left of it;
2. as one computation for the whole batch (``graph_vectorise``), where it maps over a batch of open size;
3. as one node with functions and tensors for lists (``graph_loops_while``), if that is asked for: the number
   of trips depends on the data.

What none of them can do is left as it was, and said with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgeconv.surgery.changes import Change, places
from edgeconv.surgery.graph import Graph, short
from edgeconv.surgery.graph_loops_emitter import Emitter
from edgeconv.surgery.graph_loops_frames import EXIT, Frames
from edgeconv.surgery.graph_tensor_arrays import Cannot, kind
from edgeconv.surgery.graph_unroll import TRIPS, Unroller

CARRIES = "loops with a state"
"""What a change is called that made functions of a loop which carries tensors from trip to trip."""


def has_loops(graph_def: object) -> bool:
    """Whether the main graph of a GraphDef has loops of TensorFlow 1."""
    return any(node.op in EXIT for node in graph_def.node)  # type: ignore[attr-defined]


def has_lists(graph_def: object) -> bool:
    """Whether the main graph of a GraphDef has lists of tensors of TensorFlow 1."""
    return any(kind(node.op) for node in graph_def.node)  # type: ignore[attr-defined]


def without_loops(
    graph: Graph,
    most: int = TRIPS,
    *,
    functions: bool = False,
    inside: Sequence[Callable[[Graph], object]] = (),
) -> list[Change]:
    """Rewrite the loops and lists of ``graph``; shapes of placeholders count as pinned.

    Args:
        graph: edited in place.
        most: trips that are written down for one loop.
        functions: whether a loop may become a node with functions (control flow v2).
        inside: rewrites that each such function goes through, as the graph itself does afterwards.

    Returns:
        What was done with each loop, and with a reason what could not be.
    """
    graph.prune()
    if not has_loops(graph.graph_def) and not has_lists(graph.graph_def):
        return []
    frames = Frames(graph)
    unroller = Unroller(graph, frames, Emitter(graph), most, functions=functions, inside=inside)
    failures: dict[str, str] = {}
    lists = {node.name for node in graph.graph_def.node if kind(node.op) == "TensorArray"}
    for name in frames.order:
        node = graph.nodes[name]
        if frames.gives(name) or (node.op not in EXIT and not kind(node.op)):
            continue
        try:
            unroller.value(name, unroller.root)
        except Cannot as reason:
            if str(reason) not in unroller.failed.values():
                failures[name] = str(reason)
            continue
        for port in range(2):
            value = unroller.root.known.get(short(f"{name}:{port}"))
            if isinstance(value, str) and value:
                graph.redirect(short(f"{name}:{port}"), value)
    graph.prune()
    for path, why in unroller.failed.items():
        if path in frames.frames and any(name in graph.nodes for name in frames.frames[path].enters):
            failures[path[-1]] = why
    changes = [
        Change("loops", f"the loop '{name}' was unrolled: {'one trip' if trips == 1 else f'{trips} trips'}")
        for name, trips in sorted(unroller.trips.items())
        if name not in failures
    ]
    changes += [
        Change("loops", f"the loop '{name}' is a map: it became one computation for all elements")
        for name in unroller.maps
    ]
    changes += [
        Change(
            CARRIES if carries else "loops",
            f"the length of the loop '{name}' is data: it became a loop with functions",
        )
        for name, carries in unroller.whiles.items()
    ]
    gone = len(lists - graph.nodes.keys())
    if gone:
        changes.append(Change("loops", f"lists of tensors (TensorArray) were resolved {places(gone)}"))
    changes += [
        Change("loops", f"'{name}' was left as it is: {reason}", warning=True)
        for name, reason in sorted(failures.items())
    ]
    return changes
