"""Nodes of an ONNX graph in an order in which each comes after what it needs.

Before::

    Relu(y), Conv(x) -> y

After::

    Conv(x) -> y, Relu(y)

Stable: nodes that are in order already keep it, so that the same model gives the same file.
"""

from __future__ import annotations

import heapq
from typing import Any

from edgeconv.surgery.onnx_fold_constants import names_used_inside
from edgeconv.surgery.onnx_initializers import replace_nodes


def sort_nodes(model: Any) -> bool:
    """Sort the main graph in place. Returns whether the order changed.

    Raises:
        ValueError: the graph has a cycle.
    """
    nodes = list(model.graph.node)
    producer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    waiting = [0] * len(nodes)
    followers: list[list[int]] = [[] for _ in nodes]
    for index, node in enumerate(nodes):
        needs = {producer[name] for name in (*node.input, *_inner_names(node)) if name in producer}
        waiting[index] = len(needs)
        for need in needs:
            followers[need].append(index)
    ready = [index for index, count in enumerate(waiting) if count == 0]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for follower in followers[index]:
            waiting[follower] -= 1
            if waiting[follower] == 0:
                heapq.heappush(ready, follower)
    if len(order) < len(nodes):
        stuck = next(node for node, count in zip(nodes, waiting, strict=True) if count)
        raise ValueError(f"the graph has a cycle through node '{stuck.name}'")
    if order == sorted(order):
        return False
    replace_nodes(model.graph, [nodes[index] for index in order])
    return True


def _inner_names(node: Any) -> set[str]:
    names: set[str] = set()
    for attribute in node.attribute:
        for body in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            names |= {name for child in body.node for name in child.input}
            names |= {value.name for value in body.output}
            names |= names_used_inside(body)
    return names
