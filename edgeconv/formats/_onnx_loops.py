"""Counts the rounds of an ONNX Loop by running its counter, and nothing else of it.

A converter that translates a while-loop of a recurrent network writes a Loop whose condition compares
counters with constants. Only those few scalar ops are evaluated.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

from edgeconv.formats._onnx_graph import Constant, Graph, Node

MAX_ROUNDS = 10_000
_MAX_DEPTH = 40
_MAX_COUNTER = 1 << 62

Scalar = int | float | bool

# How many inputs count, and what becomes of them.
_RULES: dict[str, tuple[int, Callable[..., Scalar]]] = {
    "Less": (2, operator.lt),
    "LessOrEqual": (2, operator.le),
    "Greater": (2, operator.gt),
    "GreaterOrEqual": (2, operator.ge),
    "Equal": (2, operator.eq),
    "And": (2, lambda a, b: bool(a) and bool(b)),
    "Or": (2, lambda a, b: bool(a) or bool(b)),
    "Add": (2, operator.add),
    "Sub": (2, operator.sub),
    "Min": (2, min),
    "Max": (2, max),
    "Not": (1, operator.not_),
    "Identity": (1, lambda a: a),
    "Cast": (1, lambda a: a),
    "Squeeze": (1, lambda a: a),
    "Unsqueeze": (1, lambda a: a),
    "Reshape": (1, lambda a: a),
}


def rounds_of(outer: Graph, loop: Node, body: Graph) -> int | None:
    """How often a Loop runs its body; ``None`` where that hangs on the data or is over 10,000."""
    around = _Scope((outer,))
    within = _Scope((body, outer))
    inputs = (*loop.inputs, "", "")
    limit = around.value(inputs[0], {}) if inputs[0] else _MAX_COUNTER
    going = around.value(inputs[1], {}) if inputs[1] else True
    if limit is None or going is None or len(body.inputs) < 2 or not body.outputs:
        return None
    carried = body.inputs[2:]
    state: dict[str, Scalar] = {}
    for name, source in zip(carried, loop.inputs[2:], strict=False):
        begin = around.value(source, {})
        if begin is not None:
            state[name] = begin
    for done in range(MAX_ROUNDS):
        if not going or done >= limit:
            return done
        known: dict[str, Scalar | None] = {**state, body.inputs[0]: done, body.inputs[1]: True}
        going = within.value(body.outputs[0], known)
        if going is None:
            return None
        following: dict[str, Scalar] = {}
        for name, result in zip(carried, body.outputs[1:], strict=False):
            value = within.value(result, known) if name in state else None
            if value is not None:
                following[name] = value
        state = following
    return None


class _Scope:
    """Scalars of a graph and of those around it."""

    def __init__(self, graphs: tuple[Graph, ...]) -> None:
        self.constants: dict[str, Constant] = {}
        self.producers: dict[str, Node] = {}
        for graph in reversed(graphs):
            self.constants.update(graph.constants)
            self.producers.update((output, node) for node in graph.nodes for output in node.outputs)

    def value(self, name: str, known: dict[str, Scalar | None], depth: int = 0) -> Scalar | None:
        """The value of a scalar, ``None`` where it cannot be told; ``known`` remembers what was found."""
        if name not in known:
            known[name] = self._evaluated(name, known, depth)
        return known[name]

    def _evaluated(self, name: str, known: dict[str, Scalar | None], depth: int) -> Scalar | None:
        constant = self.constants.get(name)
        if constant is not None:
            return constant.scalar
        node = self.producers.get(name)
        rule = _RULES.get(node.op) if node is not None else None
        if node is None or rule is None or depth > _MAX_DEPTH:
            return None
        arity, function = rule
        values = []
        for source in node.inputs[:arity]:
            value = self.value(source, known, depth + 1)
            if value is None:
                return None
            values.append(value)
        if len(values) < arity:
            return None
        result: Scalar = function(*values)
        # A hostile counter must not grow without bounds.
        return result if abs(result) < _MAX_COUNTER else None
