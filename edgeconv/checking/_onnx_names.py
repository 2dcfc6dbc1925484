"""Names in an ONNX graph: whether each is given once and before it is read."""

from __future__ import annotations

from collections.abc import Iterator, Set
from graphlib import CycleError, TopologicalSorter
from typing import Any


def unsound_names(graph: Any, outer: Set[str] = frozenset()) -> Iterator[tuple[str, str, str]]:
    """What ONNX Runtime refuses when it loads a file: a name given twice, or read and given nowhere.

    Args:
        graph: an ``onnx.GraphProto``; bodies of its nodes are looked at, too.
        outer: names that a body can read of the graphs around it.

    Yields:
        Op, node, and why.
    """
    stored = {tensor.name for tensor in graph.initializer}
    stored |= {sparse.values.name for sparse in graph.sparse_initializer}
    stored |= {info.name for info in graph.input}
    given: set[str] = set()
    for node in graph.node:
        for name in filter(None, node.output):
            if name in given or name in stored:
                yield node.op_type, node.name, f"'{name}' is given twice"
            given.add(name)
    there = outer | stored | given
    for node in graph.node:
        for name in filter(None, node.input):
            if name not in there:
                yield node.op_type, node.name, f"it reads '{name}', which nothing gives"
        for body in _bodies(node):
            yield from unsound_names(body, there)
    for info in graph.output:
        if info.name not in there:
            yield "graph", graph.name, f"nothing gives its output '{info.name}'"


def into_order(graph: Any) -> bool:
    """Put nodes behind those that they read: ONNX Runtime takes any order, ONNX's inference does not.

    Returns:
        False where nodes read each other in a circle; those keep their order.
    """
    makers = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
    needs = [{makers[name] for name in _read(node) if name in makers} for node in graph.node]
    if any(place >= number for number, each in enumerate(needs) for place in each):
        try:
            order = list(TopologicalSorter(dict(enumerate(needs))).static_order())
        except CycleError:
            return False
        nodes = [type(node).FromString(node.SerializeToString()) for node in graph.node]
        del graph.node[:]
        graph.node.extend(nodes[place] for place in order)
    ordered = [into_order(body) for node in graph.node for body in _bodies(node)]  # all of them, in any case
    return all(ordered)


def _bodies(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _read(node: Any) -> Iterator[str]:
    """Names that a node reads, those of its bodies included."""
    yield from filter(None, node.input)
    for body in _bodies(node):
        for inner in body.node:
            yield from _read(inner)
        yield from (info.name for info in body.output)
