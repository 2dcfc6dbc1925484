"""What a person should know about a graph before converting it: training, front ends, dangers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edgeconv.formats import _graph_vocabulary as vocabulary
from edgeconv.formats._batch_norm import uses_its_batch
from edgeconv.formats._graph_view import GraphView
from edgeconv.formats.base import Finding
from edgeconv.formats.graph_detection import detection_findings

_SHOWN = 5


def graph_findings(
    view: GraphView, names: Iterable[str], *, frozen: bool = False, has_assets: bool = False
) -> tuple[Finding, ...]:
    """Findings about the nodes ``names`` and the functions they call.

    Args:
        view: the graph.
        names: the nodes that run: those that the outputs depend on.
        frozen: the graph should hold no variables; those in it are a finding.
        has_assets: the model ships files; a lookup table made from one is then no danger.
    """
    chosen = [name for name in names if name in view.nodes]
    nodes = list(view.all_nodes(chosen))
    found: list[Finding] = []
    if frozen:
        found += _not_frozen(nodes)
    found += _training_batch_norm(nodes)
    found += _live_randomness(nodes)
    found += _training_switches(view, chosen)
    found += _pipelines(nodes)
    found += _front_end(nodes)
    found += detection_findings(view, chosen)
    found += _untrusted(nodes, has_assets)
    return tuple(found)


def control_flow(nodes: Iterable[tuple[str, Any]]) -> tuple[str, ...]:
    """Kinds of control flow among ``nodes``: ``v1`` (Switch, Merge, …), ``v2`` (If, While), both or none."""
    operations = {node.op for _, node in nodes}
    kinds = []
    if operations & vocabulary.CONTROL_FLOW_V1:
        kinds.append("v1")
    if operations & vocabulary.CONTROL_FLOW_V2:
        kinds.append("v2")
    return tuple(kinds)


def _not_frozen(nodes: list[tuple[str, Any]]) -> list[Finding]:
    variables = [name for name, node in nodes if node.op in vocabulary.VARIABLE_OPS]
    if not variables:
        return []
    return [
        Finding(
            "not-frozen",
            f"{len(variables)} variables are left in the graph: {_some(variables)}",
            where=variables[0],
            hint="give the checkpoint that has their values with --checkpoint, or freeze the model first",
        )
    ]


def _training_batch_norm(nodes: list[tuple[str, Any]]) -> list[Finding]:
    scopes: dict[str, dict[str, Any]] = {}
    for name, node in nodes:
        scopes.setdefault(_scope(name, node), {})[node.name] = node
    live = [name for name, node in nodes if uses_its_batch(node, scopes[_scope(name, node)])]
    if not live:
        return []
    return [
        Finding(
            "training-batch-norm",
            f"{len(live)} batch normalisations use the batch's own statistics (training): {_some(live)}",
            where=live[0],
            hint="'edgeconv convert' puts the moving statistics in their place where the model has them; a "
            "frozen graph that has lost them needs its checkpoint: --checkpoint PREFIX",
        )
    ]


def _scope(name: str, node: Any) -> str:
    """The function that a node stands in: what is before its own name."""
    return name.removesuffix(node.name)


def _live_randomness(nodes: list[tuple[str, Any]]) -> list[Finding]:
    random = [(name, node) for name, node in nodes if node.op in vocabulary.RANDOM_OPS]
    if not random:
        return []
    dropout = [name for name, _ in random if "drop" in name.lower()]
    code = "live-dropout" if dropout else "random-op"
    named = dropout or [name for name, _ in random]
    kinds = ", ".join(sorted({node.op for _, node in random}))
    return [
        Finding(
            code,
            f"{len(named)} random ops ({kinds}) lie on the way to the outputs"
            f"{', of dropout that is still on' if dropout else ''}: {_some(named)}",
            where=named[0],
            hint="'edgeconv convert' takes dropout out; any other random op makes the outputs random, which "
            "cannot be compared",
        )
    ]


def _training_switches(view: GraphView, names: list[str]) -> list[Finding]:
    switches = [
        name
        for name in names
        if view.nodes[name].op in vocabulary.PLACEHOLDER_OPS and vocabulary.is_training_switch(name)
    ]
    if not switches:
        return []
    return [
        Finding(
            "training-switch",
            f"an input switches between training and inference: {_some(switches)}",
            where=switches[0],
            hint="'edgeconv convert' fixes it to its inference value; to keep it as an input, name it with "
            "--inputs",
        )
    ]


def _pipelines(nodes: list[tuple[str, Any]]) -> list[Finding]:
    found = []
    for code, kinds, noun in (
        ("queue-input", vocabulary.QUEUE_OPS, "a queue"),
        ("iterator-input", vocabulary.ITERATOR_OPS, "a dataset iterator"),
    ):
        ends = [name for name, node in nodes if node.op in kinds]
        if ends:
            found.append(
                Finding(
                    code,
                    f"the graph reads its input from {noun}: {_some(ends)}",
                    where=ends[0],
                    hint="what it gives becomes an input of the model; to cut elsewhere, name the tensor "
                    f"with --inputs, for example --inputs {ends[0]}:0",
                )
            )
    return found


def _front_end(nodes: list[tuple[str, Any]]) -> list[Finding]:
    found = []
    present = {node.op for _, node in nodes}
    for operation, does in vocabulary.FRONT_END_OPS.items():
        if operation not in present:
            continue
        names = [name for name, node in nodes if node.op == operation]
        if names:
            found.append(
                Finding(
                    "front-end-op",
                    f"{operation} {does}, for which edge formats have no op: {_some(names)}",
                    where=names[0],
                    hint="'edgeconv convert' cuts behind it and writes this step as a NumPy function",
                )
            )
    return found


def _untrusted(nodes: list[tuple[str, Any]], has_assets: bool) -> list[Finding]:
    found = []
    present = {node.op for _, node in nodes}
    for operation, does in vocabulary.UNTRUSTED_OPS.items():
        if operation not in present:
            continue
        if has_assets and operation in vocabulary.TABLE_FROM_FILE_OPS:
            continue
        names = [name for name, node in nodes if node.op == operation and _touches(node)]
        if names:
            found.append(
                Finding(
                    "untrusted-op",
                    f"{operation} {does} when the model runs: {_some(names)}",
                    where=names[0],
                    hint="read what it does, and pass --trust only if you trust the model's author",
                )
            )
    return found


def _touches(node: Any) -> bool:
    if node.op != "PrintV2":
        return True
    # The standard streams are harmless; a path is "file://…".
    return bool(node.attr["output_stream"].s.startswith(b"file:"))


def _some(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
