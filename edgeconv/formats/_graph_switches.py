"""Placeholders that only tell a graph whether it trains, which are no inputs of the model.

Two kinds of evidence, and both are wanted: what the placeholder does in the graph, and what it is called.
What it is worth in inference is found where the graph is rewritten (``edgeconv.surgery.inference``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from edgeconv.formats import _graph_vocabulary as vocabulary
from edgeconv.formats._batch_norm import uses_its_batch
from edgeconv.formats._graph_view import GraphView
from edgeconv.formats.base import TensorSpec

_FLAGS = frozenset({"bool", "uint8", "int8", "int32", "int64"})
_AMOUNTS = frozenset({"float32", "float64", "float16", "bfloat16"})
_CONDITIONS = {"Switch": 1, "RefSwitch": 1, "If": 0, "StatelessIf": 0, "Select": 0, "SelectV2": 0}
_LOGIC = frozenset(
    {"Identity", "LogicalAnd", "LogicalOr", "LogicalNot", "Cast", "Equal", "NotEqual", "Greater", "Merge"}
    | {"Reshape", "Squeeze", "Enter", "StopGradient", "Assert", "Exit", "PlaceholderWithDefault"}
)
_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_INFERENCE = re.compile(
    r"(^|[/_])(is_?)?(infer(ence|ring)?|test(ing)?_?(phase|mode)|deterministic|predict(ing)?_?mode)(_\d+)?$",
    re.IGNORECASE,
)
_STEPS = 6


def training_switches(view: GraphView, names: Iterable[str]) -> dict[str, str]:
    """The placeholders among ``names`` that only switch between training and inference.

    Returns:
        Node name to the evidence, in words.
    """
    chosen = set(names)
    found: dict[str, str] = {}
    for name, node in view.nodes.items():
        if name not in chosen or node.op not in vocabulary.PLACEHOLDER_OPS or not _scalar(view, name):
            continue
        dtype = view.dtype(name)
        named = is_switch_name(name)
        if dtype in _FLAGS and _only_decides(view, name, chosen):
            if named:
                found[name] = "it only decides between branches, and its name says that it is a switch"
            elif dtype == "bool" and _decides_over_training(view, name, chosen):
                found[name] = "it only decides between branches of which some only train"
        elif dtype in _AMOUNTS and named and _meets_randomness(view, name, chosen):
            found[name] = "it only scales random numbers, and its name is that of a dropout"
    return found


def is_switch(spec: TensorSpec) -> bool:
    """Whether an input of a signature is a switch, as far as its name, type and shape tell."""
    if spec.shape not in ((), (1,), None) or spec.dtype not in _FLAGS | _AMOUNTS:
        return False
    name = spec.name.removeprefix("serving_default_")
    if not is_switch_name(name):
        return False
    amount = re.search(r"(^|[/_])(keep_?prob|drop)", name, re.IGNORECASE) is not None
    return spec.dtype in (_AMOUNTS if amount else _FLAGS)


def is_switch_name(name: str) -> bool:
    """Whether people call a switch between training and inference so."""
    return vocabulary.is_training_switch(name) or _INFERENCE.search(name) is not None


def _scalar(view: GraphView, name: str) -> bool:
    shape = view.shape(name)
    return shape is None or all(size == 1 for size in shape)


def _only_decides(view: GraphView, name: str, chosen: set[str]) -> bool:
    todo, seen, decides = [name], {name}, False
    while todo:
        at = todo.pop()
        for taker in view.consumers[at]:
            if taker not in chosen:
                continue
            operation = view.nodes[taker].op
            positions = [i for i, (source, _) in enumerate(view.data_inputs(taker)) if source == at]
            if operation in _CALLS or operation in view.functions:
                decides = True  # what it does in there is found when the call is inlined
            elif operation in _CONDITIONS and _CONDITIONS[operation] in positions:
                decides = True
            elif operation in ("If", "StatelessIf"):
                continue
            elif operation in _LOGIC or (operation == "Switch" and positions == [0]):
                if taker not in seen:
                    seen.add(taker)
                    todo.append(taker)
            else:
                return False
    return decides


def _decides_over_training(view: GraphView, name: str, chosen: set[str]) -> bool:
    """Whether something that only training has runs, or not, as the placeholder says."""
    for marked in chosen:
        node = view.nodes.get(marked)
        if node is None:
            continue
        live = uses_its_batch(node, view.nodes)
        if (live or node.op in vocabulary.RANDOM_OPS) and name in view.upstream([marked]):
            return True
    return False


def _meets_randomness(view: GraphView, name: str, chosen: set[str]) -> bool:
    """Whether a few ops behind the placeholder its value is joined with random numbers."""
    near, front = {name}, {name}
    for _ in range(_STEPS):
        front = {t for at in front for t in view.consumers[at] if t in chosen} - near
        near |= front
    for at in near - {name}:
        behind = {source for source, _ in view.data_inputs(at)}
        for _ in range(_STEPS):
            if any(view.nodes[s].op in vocabulary.RANDOM_OPS for s in behind if s in view.nodes):
                return True
            behind = {s for b in behind if b in view.nodes for s, _ in view.data_inputs(b)} - near
    # Inside functions only the name tells.
    return any(view.nodes[t].op in _CALLS | view.functions.keys() for t in near)
