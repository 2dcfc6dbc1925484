"""What no output needs goes: nodes, weights, shapes of tensors that are gone, identities between nodes.

Before::

    x ─▶ Relu ─▶ Identity ─▶ Add ─▶ y
          └────▶ Abs

After::

    x ─▶ Relu ─▶ Add ─▶ y
"""

from __future__ import annotations

from typing import Any

from edgeconv.surgery.onnx_fold_constants import names_used_inside
from edgeconv.surgery.onnx_initializers import replace_nodes


def remove_unused(model: Any, constants: dict[str, Any]) -> int:
    """Remove in place; ``constants`` are the model's initializers. Returns how many nodes went."""
    graph = model.graph
    before = len(graph.node)
    _bypass_identities(graph)
    needed = {value.name for value in graph.output}
    kept: list[Any] = []
    for node in reversed(graph.node):
        if needed.intersection(name for name in node.output if name):
            kept.append(node)
            needed.update(name for name in node.input if name)
            for attribute in node.attribute:
                for body in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                    needed |= _taken(body)
    kept.reverse()
    if len(kept) < before:
        replace_nodes(graph, kept)
    for name in [name for name in constants if name not in needed]:
        del constants[name]
    made = {name for node in graph.node for name in node.output}
    known = [info for info in graph.value_info if info.name in made]
    if len(known) < len(graph.value_info):
        copies = []
        for info in known:
            copy = type(info)()
            copy.CopyFrom(info)
            copies.append(copy)
        del graph.value_info[:]
        graph.value_info.extend(copies)
    return before - len(graph.node)


def _taken(graph: Any) -> set[str]:
    names = {name for node in graph.node for name in node.input if name}
    return names | {value.name for value in graph.output} | names_used_inside(graph)


def _bypass_identities(graph: Any) -> None:
    outputs = {value.name for value in graph.output}
    inside = names_used_inside(graph)
    sources: dict[str, str] = {}
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in sources:
                node.input[index] = sources[name]
        is_identity = node.op_type == "Identity" and node.domain in ("", "ai.onnx")
        # Names that an inner graph takes are left: it may have a tensor of the source's name.
        if is_identity and node.output[0] not in outputs and node.output[0] not in inside:
            sources[node.output[0]] = node.input[0]
