"""The while-loops of TensorFlow 1, found in a graph: which nodes are inside which, and what goes round.

    Enter ──▶ Merge ──▶ Switch ──(false)──▶ Exit
                ▲    │     └──(true)──▶ body ──▶ NextIteration ─┐
                │    └▶ condition ──▶ LoopCond                  │
                └───────────────────────────────────────────────┘

One such ring a loop variable; an ``Enter`` with ``is_constant`` brings in what stays the same. All ``Enter``
with one ``frame_name`` are one loop. A branch (``tf.cond``) is made of ``Switch`` and ``Merge`` as well, but
its ``Merge`` reads no ``NextIteration``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from edgeconv.formats.graph_reading import split_reference
from edgeconv.surgery.graph import Graph

ENTER = ("Enter", "RefEnter")
EXIT = ("Exit", "RefExit")
MERGE = ("Merge", "RefMerge")
NEXT = ("NextIteration", "RefNextIteration")
SWITCH = ("Switch", "RefSwitch")

Path = tuple[str, ...]
"""Names of the frames around a node, the outermost first."""


@dataclass(slots=True)
class Frame:
    """One while-loop.

    Attributes:
        path: names of the frames around it and its own.
        enters: names of its ``Enter`` nodes.
        merges: name of a loop variable's ``Merge`` to the references that it reads at first (its ``Enter``)
            and later on (what its ``NextIteration`` reads).
        condition: reference to what ``LoopCond`` reads; empty if there is none.
        variant: names of the nodes inside, inner loops included, whose value may change from trip to trip.
    """

    path: Path
    enters: list[str] = field(default_factory=list)
    merges: dict[str, tuple[str, str]] = field(default_factory=dict)
    condition: str = ""
    variant: set[str] = field(default_factory=set)


class Frames:
    """The loops of a graph.

    Attributes:
        frames: by path.
        path_of: node name to the frames it is inside; nodes outside of all are not in it.
        rings: names of the loop ``Merge`` nodes.
        order: names of all nodes, each after what it reads.
        loop_switches: names of ``Switch`` nodes that a ``LoopCond`` decides.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.frames: dict[Path, Frame] = {}
        self.path_of: dict[str, Path] = {}
        self.loop_switches: set[str] = set()
        self.rings = {
            node.name
            for node in graph.graph_def.node
            if node.op in MERGE and any((s := graph.node(r)) is not None and s.op in NEXT for r in node.input)
        }
        self.order = list(self._in_order())
        for name in self.order:
            self._place(graph.nodes[name])
        self._complete()

    def _in_order(self) -> Iterator[str]:
        """Names of all nodes, each after what it reads; the way back of a loop left out."""
        nodes = self.graph.nodes
        waiting: dict[str, int] = {}
        readers: dict[str, list[str]] = {}
        for node in nodes.values():
            sources = {split_reference(reference)[0] for reference in node.input}
            if node.name in self.rings:
                sources = {source for source in sources if nodes[source].op not in NEXT}
            sources = {source for source in sources if source in nodes}
            waiting[node.name] = len(sources)
            for source in sources:
                readers.setdefault(source, []).append(node.name)
        ready = [name for name, count in waiting.items() if not count]
        while ready:
            name = ready.pop()
            yield name
            for reader in readers.get(name, ()):
                waiting[reader] -= 1
                if not waiting[reader]:
                    ready.append(reader)

    def _place(self, node: Any) -> None:
        path: Path = ()
        for reference in node.input:
            outer = self.gives(split_reference(reference)[0])
            path = outer if len(outer) > len(path) else path
        if node.op in ENTER:
            path = (*path, node.attr["frame_name"].s.decode(errors="replace"))
            self.frames.setdefault(path, Frame(path)).enters.append(node.name)
        if path:
            self.path_of[node.name] = path

    def gives(self, name: str) -> Path:
        """The frames that the outputs of a node are inside."""
        path = self.path_of.get(name, ())
        node = self.graph.nodes.get(name)
        return path[:-1] if path and node is not None and node.op in EXIT else path

    def _complete(self) -> None:
        nodes = self.graph.nodes
        for name in self.rings:
            frame = self.frames.get(self.path_of.get(name, ()))
            if frame is None:
                continue
            first = later = ""
            for reference in self.graph.data_inputs(nodes[name]):
                source = nodes[split_reference(reference)[0]]
                if source.op in NEXT:
                    later = self.graph.data_inputs(source)[0]
                else:
                    first = reference
            frame.merges[name] = (first, later)
        for node in nodes.values():
            if node.op == "LoopCond" and (frame := self.frames.get(self.path_of.get(node.name, ()))):
                frame.condition = self.graph.data_inputs(node)[0]
            elif node.op in SWITCH:
                decides = self.graph.node(self.graph.origin(self.graph.data_inputs(node)[1]))
                if decides is not None and decides.op == "LoopCond":
                    self.loop_switches.add(node.name)
        for frame in self.frames.values():
            todo = list(frame.merges)
            while todo:
                name = todo.pop()
                if name in frame.variant or self.path_of.get(name, ())[: len(frame.path)] != frame.path:
                    continue
                frame.variant.add(name)
                node = nodes[name]
                if node.op in EXIT and self.path_of[name] == frame.path:
                    continue
                todo.extend(reader.name for reader in self.graph.readers(name) if reads_data(reader, name))

    def inner(self, exit_name: str) -> Frame:
        """The loop that an ``Exit`` ends."""
        return self.frames[self.path_of[exit_name]]


def reads_data(reader: Any, name: str) -> bool:
    """Whether a NodeDef reads a value of the node ``name``, not only waits for it."""
    return any(not r.startswith("^") and split_reference(r)[0] == name for r in reader.input)
