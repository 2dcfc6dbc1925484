"""Reading a GraphDef: references, what needs what, which functions are called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any


def split_reference(reference: str) -> tuple[str, int | None]:
    """``node:port`` of a main-graph reference; port is ``None`` for a control input (``^node``)."""
    if reference.startswith("^"):
        return reference[1:], None
    if ":" not in reference:
        return reference, 0
    match = re.fullmatch(r"(.*):(\d+)", reference)
    return (match.group(1), int(match.group(2))) if match else (reference, 0)


def functions_named_in(node: Any) -> Iterator[str]:
    """Names of the functions that a node's attributes name."""
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        elif value.HasField("list"):
            yield from (function.name for function in value.list.func)


def reachable(graph_def: Any, roots: Iterable[str]) -> set[str]:
    """Names of the nodes that the nodes ``roots`` need, by data or control."""
    nodes = {node.name: node for node in graph_def.node}
    found: set[str] = set()
    stack = [name for name in roots if name in nodes]
    while stack:
        name = stack.pop()
        if name in found:
            continue
        found.add(name)
        stack.extend(split_reference(i)[0] for i in nodes[name].input if split_reference(i)[0] in nodes)
    return found


def pruned(graph_def: Any, roots: Iterable[str], keep: Iterable[str] = ()) -> Any:
    """A GraphDef of the nodes that ``roots`` need, of ``keep``, and of the functions that these call."""
    needed = reachable(graph_def, roots) | set(keep)
    result = type(graph_def)()
    result.versions.CopyFrom(graph_def.versions)
    result.node.extend(node for node in graph_def.node if node.name in needed)
    library = {function.signature.name: function for function in graph_def.library.function}
    # A call may also be written as a node whose op is the function's name.
    stack = [name for node in result.node for name in (*functions_named_in(node), node.op)]
    found: set[str] = set()
    while stack:
        name = stack.pop()
        if name in found or name not in library:
            continue
        found.add(name)
        for node in library[name].node_def:
            stack.extend((*functions_named_in(node), node.op))
    result.library.function.extend(f for f in graph_def.library.function if f.signature.name in found)
    return result


def all_nodes(graph_def: Any) -> Iterator[Any]:
    """Every NodeDef of a GraphDef, those in its functions included."""
    yield from graph_def.node
    for function in graph_def.library.function:
        yield from function.node_def
