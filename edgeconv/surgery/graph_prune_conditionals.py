"""A condition that constants decide leaves only the branch that is taken.

before:  Const(False) ─pred─▶ Switch(x) ─┬true─▶  dropout ─▶ Merge ─▶ y
                                         └false─▶ Identity ─┘
after:   x ─▶ Identity ─▶ Identity ─▶ y

The same for Select, SelectV2, If, StatelessIf, Case and StatelessCase; the branch of the functional ones is
put in the node's place, its nodes named ``IF/NODE``. Nested conditions and those inside loops fall as well.
Every tensor keeps its value.
"""

from __future__ import annotations

from typing import Any

from edgeconv.surgery._liveness import BRANCHES, MERGES, SELECTS, SWITCHES, Liveness, branch_function
from edgeconv.surgery.changes import Change
from edgeconv.surgery.function_inlining import inline_call
from edgeconv.surgery.graph import Graph

_NAME = "prune_conditionals"


def rewrite(graph: Graph) -> list[Change]:
    """Take the branch of each condition whose predicate is a constant."""
    changes: list[Change] = []
    while found := _pass(graph):
        changes += found
    return changes


def _pass(graph: Graph) -> list[Change]:
    liveness = Liveness(graph)
    path = graph.on_path()
    decided: list[tuple[Any, int]] = []
    merges: list[tuple[Any, int]] = []
    switches: list[tuple[Any, int]] = []
    for name in sorted(path - set(graph.inputs)):
        node = graph.nodes[name]
        if liveness.dead(f"^{name}"):
            continue
        if node.op in SELECTS | BRANCHES and (branch := liveness.decided(node)) is not None:
            decided.append((node, branch))
        elif node.op in MERGES and (index := liveness.taken(node)) is not None:
            merges.append((node, index))
        elif node.op in SWITCHES and liveness.dead(name) != liveness.dead(f"{name}:1"):
            switches.append((node, int(liveness.dead(name))))
    changes = []
    for node, index in merges:
        _take(graph, node, graph.data_inputs(node)[index], "value_index", index)
        changes.append(f"'{node.name}'")
    for node, port in switches:
        reference = f"{node.name}:1" if port else node.name
        graph.redirect(reference, graph.data_inputs(node)[0])
    for node, branch in decided:
        if node.op in BRANCHES:
            function = branch_function(node, branch)
            inline_call(graph, node, function, graph.data_inputs(node)[1:])
            changes.append(f"'{node.name}'")
        elif not _widens(graph, node, branch):
            _take(graph, node, graph.data_inputs(node)[2 - branch])
            changes.append(f"'{node.name}'")
    return [
        Change(_NAME, f"the condition {name} is decided by constants: the branch it takes is in its place")
        for name in changes
    ]


def _take(graph: Graph, node: Any, reference: str, index_output: str = "", index: int = 0) -> None:
    import numpy

    if index_output and any(True for _ in graph.readers_of(f"{node.name}:1")):
        constant = graph.add_constant(f"{node.name}/{index_output}", numpy.int32(index))
        graph.redirect(f"{node.name}:1", constant)
    controls = [each for each in node.input if each.startswith("^")]
    graph.become(node, "Identity", [reference, *controls], T=node.attr["T"])


def _widens(graph: Graph, node: Any, branch: int) -> bool:
    """Whether SelectV2 may broadcast what it takes to the shape of what it does not take."""
    if node.op != "SelectV2":
        return False
    taken = graph.node(graph.origin(graph.data_inputs(node)[2 - branch]))
    return taken is None or taken.op == "Const"
