"""A part of a graph between tensors.

before:  image ─▶ conv ─▶ features ─▶ dense ─▶ scores      cut(inputs=[features], outputs=[scores])
after:                    features ─▶ dense ─▶ scores      features is a Placeholder of the same name

A tensor where the part begins keeps its name, so that the part is fed by the names that the whole has.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgeconv.errors import UsageError
from edgeconv.formats.graph_reading import pruned, split_reference
from edgeconv.surgery.graph import Graph, full, short

PLACEHOLDERS = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault")
_PATTERN = frozenset("*?[")


def is_pattern(text: str) -> bool:
    """Whether a text is a glob pattern rather than the name of a tensor."""
    return any(character in _PATTERN for character in text)


def needed(graph: Graph, outputs: Iterable[str], cut: Iterable[str] = ()) -> set[str]:
    """Names of the nodes that tensors need when others are fed.

    Args:
        graph: the whole.
        outputs: references; one that is itself in ``cut`` needs nothing.
        cut: references that are fed: nothing behind them is needed.
    """
    fed = {short(reference) for reference in cut}
    # To wait for what is fed is to wait for nothing.
    fed |= {f"^{split_reference(reference)[0]}" for reference in cut}
    found: set[str] = set()
    todo = [split_reference(r)[0] for r in outputs if short(r) not in fed]
    while todo:
        name = todo.pop()
        node = graph.nodes.get(name)
        if name in found or node is None:
            continue
        found.add(name)
        todo.extend(split_reference(r)[0] for r in node.input if short(r) not in fed)
    return found


def path_between(graph: Graph, start: str, outputs: Iterable[str], cut: Iterable[str]) -> list[str]:
    """Names of the nodes on a shortest way from a node to one of the outputs that avoids the cut.

    Empty where there is none.
    """
    fed = {short(reference) for reference in cut}
    before: dict[str, str | None] = {}
    front: list[tuple[str, str | None]] = [
        (split_reference(r)[0], None) for r in outputs if short(r) not in fed
    ]
    while front:
        following: list[tuple[str, str | None]] = []
        for name, after in front:
            if name in before or name not in graph.nodes:
                continue
            before[name] = after
            if name == start:
                path = [name]
                while (step := before[path[-1]]) is not None:
                    path.append(step)
                return path
            following += [
                (split_reference(r)[0], name) for r in graph.nodes[name].input if short(r) not in fed
            ]
        front = following
    return []


def placeholders(graph: Graph, names: Iterable[str]) -> list[str]:
    """Those of the nodes that must be fed, in the order of the graph."""
    wanted = set(names)
    return [n.name for n in graph.graph_def.node if n.name in wanted and n.op in PLACEHOLDERS]


def resolved(
    graph: Graph, texts: Sequence[str], role: str, ends: Sequence[str], flag: str | None = None
) -> dict[str, str]:
    """Tensors that names and patterns mean, each with the name that a person would call it by.

    A pattern means a region of nodes, and so does the name of a scope or layer (``item_tower``, where nodes
    are called ``model/item_tower/MatMul``): as ``input`` the tensors that computed data enters it by, as
    ``output`` those by which it leaves the region, and those of the model's own ends that lie in it.

    Args:
        graph: the whole.
        texts: node names, ``node:port``, names of scopes, or glob patterns on node names.
        role: ``input`` or ``output``.
        ends: references where the model begins (``input``) or ends (``output``).
        flag: the option that the texts come from, for errors.

    Raises:
        UsageError: a name that is not there, or a pattern that matches nothing; the nearest are named.
    """
    found: dict[str, str] = {}
    flag = flag or f"--{role}s"
    for text in texts:
        name, port = (text, 0) if text in graph.nodes else split_reference(text)
        if name in graph.nodes and port is not None:
            found[f"{name}:{port}"] = f"{name}:{port}" if port else name
            continue
        if is_pattern(text):
            region = {name for name in graph.nodes if fnmatch.fnmatchcase(name, text)}
        else:
            region = _scope(graph, text, flag)
        tensors = _entering(graph, region) if role == "input" else _leaving(graph, region)
        tensors += [full(end) for end in ends if split_reference(end)[0] in region]
        if not tensors:
            raise UsageError(
                f"{flag}: no tensor {'enters' if role == 'input' else 'leaves'} what '{text}' matches",
                where=graph.path,
                why=f"it matches {len(region)} nodes",
                hint="'edgeconv inspect --ops -v' lists the names",
            )
        said = text if len(set(tensors)) == 1 and not is_pattern(text) else None
        found.update({tensor: said or short(tensor) for tensor in tensors})
    return found


def _scope(graph: Graph, text: str, flag: str) -> set[str]:
    """Nodes of a scope or layer of that name, wherever it is nested; of ``name_1`` where there is none."""
    for number in ("", r"_\d+"):
        scope = re.compile(rf"(?:^|/){re.escape(text)}{number}(?:/|$)")
        region = {name for name in graph.nodes if scope.search(name)}
        if region & _computed(graph):
            return region
    near = nearest(text, list(graph.nodes))
    raise UsageError(
        f"{flag}: the graph has no tensor or layer '{text}'",
        where=graph.path or None,
        why=f"nearest names: {', '.join(near)}" if near else None,
        hint=f"try {flag} {near[0]}" if near else "'edgeconv inspect --ops -v' lists the names",
    )


def cut(
    graph_def: Any, inputs: Mapping[str, tuple[int, Any]], outputs: Sequence[str]
) -> tuple[Any, dict[str, str]]:
    """The part of a graph between tensors.

    Args:
        graph_def: the whole; it is changed.
        inputs: reference of each tensor to feed, to its dtype (enum) and ``TensorShapeProto``.
        outputs: references.

    Returns:
        The GraphDef of the part, and the name of the placeholder's tensor for each input.

    Raises:
        UsageError: the outputs need more than the inputs; names it and the way it takes.
    """
    graph = Graph(graph_def, outputs=outputs, inputs=list(inputs))
    waits = {f"^{split_reference(reference)[0]}" for reference in inputs}
    for node in graph.graph_def.node:
        if waits & set(node.input):
            graph.set_inputs(node, [reference for reference in node.input if reference not in waits])
    keep = needed(graph, outputs, inputs)
    for name in placeholders(graph, keep):
        if short(name) not in {short(reference) for reference in inputs}:
            path = path_between(graph, name, outputs, inputs)
            raise UsageError(
                f"the outputs also need the input '{name}', which is not among the inputs",
                why=f"by way of {show_path(path)}",
                hint=f"add it with --inputs, or a tensor on that way: {', '.join(path[1:-1][:3]) or name}",
            )
    names: dict[str, str] = {}
    for reference, (dtype, shape) in inputs.items():
        node = graph.node(reference)
        assert node is not None
        name = node.name
        if name in keep or sum(split_reference(r)[0] == name for r in inputs) > 1:
            # Another of its outputs is still computed or fed.
            name = graph.unique(f"{name}_{split_reference(reference)[1] or 0}")
            graph.redirect(short(reference), name)
            graph.add("Placeholder", name, ())
        fresh = graph.nodes[name]
        graph.become(fresh, "Placeholder", ())
        fresh.attr["dtype"].type = dtype
        fresh.attr["shape"].shape.CopyFrom(shape)
        names[full(reference)] = f"{name}:0"
    part = pruned(
        graph.graph_def, [split_reference(r)[0] for r in graph.outputs], [n[:-2] for n in names.values()]
    )
    return part, names


def show_path(path: Sequence[str]) -> str:
    """A way through a graph for people; the middle of a long one is left out."""
    if len(path) > 7:
        path = [*path[:3], f"… {len(path) - 6} more …", *path[-3:]]
    return " → ".join(path)


def nearest(name: str, known: Sequence[str]) -> list[str]:
    """Names most like one that is not there."""
    import difflib

    lowered = name.lower()
    leaf = lowered.rpartition("/")[2]
    same = [k for k in known if k.lower().rpartition("/")[2] == leaf]
    close = difflib.get_close_matches(name, list(known)[:20000], n=3, cutoff=0.6)
    return list(dict.fromkeys([*close, *same[:3], *[k for k in known if lowered in k.lower()][:3]]))[:4]


def _entering(graph: Graph, region: set[str]) -> list[str]:
    moving = _computed(graph)
    return [
        full(reference)
        for node in graph.graph_def.node
        if node.name in region
        for reference in node.input
        if not reference.startswith("^")
        and split_reference(reference)[0] not in region
        and split_reference(reference)[0] in moving
    ]


def _leaving(graph: Graph, region: set[str]) -> list[str]:
    moving = _computed(graph)
    return [
        full(reference)
        for node in graph.graph_def.node
        if node.name not in region
        for reference in node.input
        if not reference.startswith("^")
        and split_reference(reference)[0] in region
        and split_reference(reference)[0] in moving
    ]


def _computed(graph: Graph) -> set[str]:
    """Nodes that depend on what is fed; the others are constants whatever comes in."""
    found: set[str] = set()
    todo = [n.name for n in graph.graph_def.node if n.op in PLACEHOLDERS]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(reader.name for reader in graph.readers(name))
    return found
