"""Which parts of a graph can run at all, given what its predicates are known to be.

TensorFlow's own words: the output of a ``Switch`` that is not taken is *dead*, what reads a dead tensor is
dead, and a ``Merge`` gives the one input that is not. Here the same is done before running, with the
predicates that constants decide and with others that are assumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgeconv.formats import _graph_vocabulary as vocabulary
from edgeconv.formats._batch_norm import uses_its_batch
from edgeconv.formats._tensor_types import dtype_name
from edgeconv.formats.graph_reading import functions_named_in, split_reference
from edgeconv.surgery._scalars import PASSING, evaluated
from edgeconv.surgery.graph import Graph, short

SWITCHES = frozenset({"Switch", "RefSwitch"})
MERGES = frozenset({"Merge", "RefMerge"})
SELECTS = frozenset({"Select", "SelectV2"})
BRANCHES = frozenset({"If", "StatelessIf", "Case", "StatelessCase"})
_WRITES = ("Assign", "AssignAdd", "AssignSub")


class Liveness:
    """Values and deadness of the tensors that the outputs of a graph need.

    Attributes:
        values: small arrays by reference, where they are known.
    """

    def __init__(self, graph: Graph, assumed: Mapping[str, Any] | None = None) -> None:
        """Look at ``graph``; ``assumed`` gives values (``numpy.ndarray``) to references."""
        self.values: dict[str, Any] = {short(key): value for key, value in (assumed or {}).items()}
        self._graph = graph
        self._dead_nodes: set[str] = set()
        self._dead_ports: set[str] = set()
        for node in in_order(graph):
            self._visit(node)

    def dead(self, reference: str) -> bool:
        """Whether the tensor, or for ``^node`` the node, never comes to be."""
        return split_reference(reference)[0] in self._dead_nodes or short(reference) in self._dead_ports

    def taken(self, merge: Any) -> int | None:
        """Index of the only input of a ``Merge`` that can come; ``None`` where it is open or a loop's."""
        inputs = self._graph.data_inputs(merge)
        alive = [index for index, reference in enumerate(inputs) if not self.dead(reference)]
        return alive[0] if len(alive) == 1 and len(inputs) > 1 and not is_loop(self._graph, merge) else None

    def decided(self, node: Any) -> int | None:
        """Which branch a Select, an If or a Case takes (0 is *else* for the first two); ``None``: open."""
        value = self.values.get(self._graph.data_inputs(node)[0])
        if value is None or value.size != 1 or (value.ndim > 0 and node.op in SELECTS):
            return None
        return int(value.reshape(())) if "Case" in node.op else int(bool(value.reshape(())))

    def alive_path(self) -> tuple[set[str], set[str]]:
        """Nodes that the outputs need where only branches that can be taken count, and functions called."""
        graph = self._graph
        found: set[str] = set()
        functions: list[str] = []
        todo = list(graph.outputs)
        while todo:
            name = split_reference(todo.pop())[0]
            node = graph.nodes.get(name)
            if node is None or name in found:
                continue
            found.add(name)
            if name in graph.inputs:
                continue
            inputs = list(node.input)
            if node.op in MERGES:
                inputs = [reference for reference in inputs if not self.dead(reference)]
            branch = self.decided(node) if node.op in SELECTS | BRANCHES else None
            if node.op in SELECTS and branch is not None:
                inputs = [inputs[2 - branch], *(r for r in inputs if r.startswith("^"))]
            if node.op in BRANCHES and branch is not None:
                functions.append(branch_function(node, branch))
            else:
                functions.extend(functions_named_in(node))
            todo.extend(inputs)
        return found, _with_callees(graph, functions)

    def training_marks(self, *, noise: bool = True) -> int:
        """How many ops that only training has lie on the alive path: random, batch statistics, writes.

        Args:
            noise: whether normal random numbers count, which models also sample from in inference.
        """
        names, functions = self.alive_path()
        bodies = [f for f in self._graph.graph_def.library.function if f.signature.name in functions]
        scopes = [({name: self._graph.nodes[name] for name in names})]
        scopes += [{node.name: node for node in body.node_def} for body in bodies]
        return sum(
            _is_mark(node, scope)
            for scope in scopes
            for node in scope.values()
            if noise or "Normal" not in node.op
        )

    def _visit(self, node: Any) -> None:
        inputs = self._graph.data_inputs(node)
        if node.op in MERGES:
            if all(self.dead(reference) for reference in inputs):
                self._dead_nodes.add(node.name)
            elif (index := self.taken(node)) is not None:
                self._set(node.name, self.values.get(inputs[index]))
            return
        if any(self.dead(reference) for reference in node.input):
            self._dead_nodes.add(node.name)
            return
        if node.op in SWITCHES:
            predicate = self.values.get(inputs[1])
            if predicate is not None and predicate.size == 1:
                port = int(bool(predicate.reshape(())))
                self._dead_ports.add(node.name if port else f"{node.name}:1")
            for reference in (node.name, f"{node.name}:1"):
                if reference not in self._dead_ports:
                    self._set(reference, self.values.get(inputs[0]))
            return
        if node.op == "Const":
            self._set(node.name, self._graph.constant(node.name, limit=16))
            return
        values = [self.values.get(reference) for reference in inputs]
        if node.op in SELECTS:
            branch = self.decided(node)
            self._set(node.name, None if branch is None else values[2 - branch])
            return
        self._set(node.name, evaluated(node.op, values[:1] if node.op in PASSING else values, node))

    def _set(self, reference: str, value: Any) -> None:
        if value is not None:
            self.values.setdefault(reference, value)


def repairable(graph: Graph) -> list[str]:
    """Names of the nodes on the path that inference needs, sorted: no inputs, nor what an input turns on.

    A user who names a switch as an input wants both of its branches, that of training as training has it.
    """
    always = graph.on_path() - set(graph.inputs)
    for liveness in _by_switches_named(graph):
        always &= liveness.alive_path()[0]
    return sorted(always)


def called(graph: Graph) -> list[Any]:
    """The functions that inference calls, by name: not those that only an input turns on."""
    always = Liveness(graph).alive_path()[1] if graph.graph_def.library.function else set()
    for liveness in _by_switches_named(graph) if always else ():
        always &= liveness.alive_path()[1]
    library = graph.graph_def.library.function
    return sorted((f for f in library if f.signature.name in always), key=lambda f: str(f.signature.name))


def _by_switches_named(graph: Graph) -> Iterator[Liveness]:
    import numpy

    for name in graph.inputs:
        node = graph.nodes.get(name)
        if node is not None and "dtype" in node.attr and dtype_name(node.attr["dtype"].type) == "bool":
            for value in (False, True):
                yield Liveness(graph, {name: numpy.asarray(value)})


def branch_function(node: Any, branch: int) -> str:
    """Name of the function that an If or Case calls when it takes ``branch``."""
    if "Case" in node.op:
        functions = node.attr["branches"].list.func
        inside = 0 <= branch < len(functions)
        return str(functions[branch if inside else -1].name)
    return str(node.attr["then_branch" if branch else "else_branch"].func.name)


def is_loop(graph: Graph, merge: Any) -> bool:
    """Whether a ``Merge`` is the head of a while-loop."""
    sources = (graph.node(reference) for reference in graph.data_inputs(merge))
    return any(s is not None and s.op in ("NextIteration", "RefNextIteration") for s in sources)


def in_order(graph: Graph) -> Iterator[Any]:
    """The nodes on the path, each behind what it reads; the body of a loop behind the loop's head."""
    done: set[str] = set()
    bodies: list[str] = []
    roots = list(graph.outputs)
    while roots:
        stack = [(split_reference(root)[0], False) for root in roots]
        while stack:
            name, ready = stack.pop()
            node = graph.nodes.get(name)
            if node is None:
                continue
            if ready:
                yield node
                continue
            if name in done:
                continue
            done.add(name)
            stack.append((name, True))
            if name in graph.inputs:
                continue
            if node.op in ("NextIteration", "RefNextIteration"):
                bodies.extend(node.input)
            else:
                stack.extend((split_reference(reference)[0], False) for reference in node.input)
        roots, bodies = bodies, []


def _with_callees(graph: Graph, names: list[str]) -> set[str]:
    library = {function.signature.name: function for function in graph.graph_def.library.function}
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name in library and name not in found:
            found.add(name)
            for node in library[name].node_def:
                todo.extend((*functions_named_in(node), node.op))
    return found


def _is_mark(node: Any, scope: Mapping[str, Any]) -> bool:
    training = uses_its_batch(node, scope) or node.op in vocabulary.RANDOM_OPS
    return training or node.op.startswith(_WRITES) or _is_batch_variance(node, scope)


def _is_batch_variance(node: Any, scope: Mapping[str, Any]) -> bool:
    """Whether a node is the mean of squared differences over the batch; layers' own moments are inference."""
    import tensorflow as tf

    if node.op != "Mean" or len(node.input) < 2:
        return False
    squares, axes = (scope.get(reference.partition(":")[0]) for reference in node.input[:2])
    if squares is None or squares.op != "SquaredDifference" or axes is None or "value" not in axes.attr:
        return False
    return 0 in tf.make_ndarray(axes.attr["value"].tensor).reshape(-1).tolist()
