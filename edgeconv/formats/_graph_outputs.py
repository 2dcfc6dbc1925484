"""Ranks the tensors that may be a graph's outputs."""

from __future__ import annotations

import dataclasses

from edgeconv.formats import _graph_vocabulary as vocabulary
from edgeconv.formats._graph_last_layers import last_layers
from edgeconv.formats._graph_view import GraphView, tensor_node
from edgeconv.formats.base import Candidate, Shape
from edgeconv.formats.graph_detection import preferring_detections

_TAKEN_BY_TRAINING = "only losses, metrics, savers or summaries take it"
_NAMED = "named like an output"
_JUDGEMENT_OPS = frozenset(
    {"ArgMax", "ArgMin", "Equal", "NotEqual", "Cast", "Round", "Greater", "TopK", "TopKV2"}
)
"""In a training graph what only a metric takes is how it judges, not what the model answers."""
_CROSS_ENTROPIES = ("SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits")
_TELLING = 0.5
"""A candidate below this score is not taken without being named."""
_SHAPE_OPS = frozenset({"Shape", "ShapeN", "Size", "Rank"})
_COUNTING_OPS = frozenset(
    {"Where", "Unique", "UniqueV2", "NonMaxSuppression", *(f"NonMaxSuppressionV{n}" for n in (2, 3, 4, 5))}
)
"""How long what they give is depends on values, so that a size is one of these."""
_PLUMBING_OPS = (vocabulary.CONTROL_FLOW_V1 - {"Exit", "Merge"}) | _SHAPE_OPS
_ANSWER_OPS = frozenset(
    {"Softmax", "LogSoftmax", "Sigmoid", "Identity", "IdentityN", "TopKV2", "NonMaxSuppressionV4"}
)
_READ_FROM_LISTS = ("TensorArrayRead", "TensorArrayGather", "TensorArrayConcat", "TensorArraySize")
_FIRST_OUTPUT_ONLY = frozenset({"Merge", "Switch", *vocabulary.BATCH_NORM_OPS})


def ranked_outputs(view: GraphView) -> tuple[Candidate, ...]:
    """See :func:`edgeconv.formats.graph_candidates.candidate_outputs`."""
    training = is_training_graph(view)
    left_out = _left_out(view, training)
    sources = _sources(view)
    counted = view.downstream([name for name, node in view.nodes.items() if node.op in _COUNTING_OPS])
    fed = view.downstream(sources, through=lambda node: node.op not in _SHAPE_OPS or node.name in counted)
    hidden = left_out | _control_pivots(view) | _inside_loops(view)
    uncut = training or any(node.op in vocabulary.VARIABLE_OPS for node in view.nodes.values())
    found: list[Candidate] = []
    for name, node in view.nodes.items():
        if name in hidden or node.op in _PLUMBING_OPS or _is_a_list(view, name):
            continue
        takers = view.consumers[name]
        if not all(taker in left_out for taker in takers):
            continue
        if node.op in vocabulary.PLACEHOLDER_OPS and (takers or len(view.nodes) > len(sources)):
            continue
        score, evidence = _judge(view, name, training, bool(takers), not sources or name in fed)
        ports = 1 if node.op in _FIRST_OUTPUT_ONLY else view.output_count(name)
        found.extend(
            Candidate("output", view.spec(name, port), node.op, round(score, 2), tuple(evidence))
            for port in range(ports)
        )
    if uncut and any(_NAMED in c.evidence for c in found):
        found = [c if _NAMED in c.evidence else _doubted(c, "others are named like outputs") for c in found]
    elif training and any(_TAKEN_BY_TRAINING in c.evidence and c.score >= 0.5 for c in found):
        found = [
            c if _TAKEN_BY_TRAINING in c.evidence else _doubted(c, "the loss takes another one")
            for c in found
        ]
    if training and not any(c.score >= _TELLING for c in found):
        found += _before_the_loss(view, sources, hidden, {c.tensor.inner_name for c in found})
    return tuple(sorted(preferring_detections(view, found), key=lambda c: -c.score))


def _before_the_loss(
    view: GraphView, sources: set[str], hidden: set[str], known: set[str]
) -> list[Candidate]:
    """Never sure enough to be taken without being named: how much of the end is loss is not known."""
    evidence = ("the last layer before a loss",)
    specs = [(view.spec(name), view.nodes[name].op) for name in last_layers(view, sources, hidden)]
    return [
        Candidate("output", spec, operation, _TELLING - 0.02, evidence)
        for spec, operation in specs
        if spec.inner_name not in known
    ]


def _doubted(candidate: Candidate, reason: str) -> Candidate:
    """In a graph that nobody cut to its outputs, a dangling tensor may as well be a by-product."""
    if candidate.score < 0.45:
        return candidate
    return dataclasses.replace(candidate, score=0.45, evidence=(*candidate.evidence, reason))


def is_training_graph(view: GraphView) -> bool:
    """Whether the graph holds gradients or an optimiser beside the model."""
    for name, node in view.nodes.items():
        operation = node.op.removeprefix("Resource").removeprefix("Sparse")
        if operation.startswith("Apply") and node.op != "ApplyFilter":
            return True
        if name.startswith(("gradients/", "train/gradients")) or "/gradients/" in name:
            return True
        if node.op in (*_CROSS_ENTROPIES, "CTCLoss"):
            return True
    return False


def _left_out(view: GraphView, training: bool) -> set[str]:
    """Nodes that are never part of the answer, so that what only they take counts as taken by nobody."""
    out = {
        name
        for name, node in view.nodes.items()
        if vocabulary.is_bookkeeping(node.op) or vocabulary.in_training_scope(name)
    }
    if not training:
        return _absorb_updates(view, out)
    seeds = {
        name
        for name, node in view.nodes.items()
        if name not in out
        and node.op not in vocabulary.PLACEHOLDER_OPS
        and (vocabulary.is_loss(name, node.op) or vocabulary.is_metric(name))
    }
    labels = {
        name
        for name, node in view.nodes.items()
        if node.op in vocabulary.PLACEHOLDER_OPS and vocabulary.is_label(name)
    }
    placeholders = {n for n, node in view.nodes.items() if node.op in vocabulary.PLACEHOLDER_OPS}
    labels |= _labels_by_structure(view) & placeholders
    if labels != placeholders:
        seeds |= view.downstream(labels) - labels
    out |= view.downstream(seeds)
    return _absorb_judgements(view, _absorb_updates(view, out))


def _labels_by_structure(view: GraphView) -> set[str]:
    """What reaches the second operand of a cross entropy (the labels) and not the first (the logits)."""
    labels: set[str] = set()
    for name, node in view.nodes.items():
        if node.op in _CROSS_ENTROPIES and len(view.data_inputs(name)) >= 2:
            logits, answers = (source for source, _ in view.data_inputs(name)[:2])
            labels |= view.upstream([answers], control=False) - view.upstream([logits], control=False)
    return labels


def _absorb_updates(view: GraphView, out: set[str]) -> set[str]:
    """With what only assignments need: a step of a moving average is no answer of the model."""
    waiting = [name for name, node in view.nodes.items() if _is_assignment(node.op)]
    updates: set[str] = set()
    while waiting:
        for source, _ in view.data_inputs(waiting.pop()):
            node = view.nodes.get(source)
            if node is None or source in updates or source in out or node.op in vocabulary.PLACEHOLDER_OPS:
                continue
            if all(t in updates or _is_assignment(view.nodes[t].op) for t in view.consumers[source]):
                updates.add(source)
                waiting.append(source)
    return out | updates


def _is_assignment(operation: str) -> bool:
    return operation.startswith("Assign")


def _absorb_judgements(view: GraphView, out: set[str]) -> set[str]:
    changed = True
    while changed:
        changed = False
        for name, node in view.nodes.items():
            if name in out or node.op not in _JUDGEMENT_OPS:
                continue
            takers = [
                taker for taker in view.consumers[name] if not vocabulary.is_bookkeeping(view.nodes[taker].op)
            ]
            if takers and all(taker in out for taker in takers):
                out.add(name)
                changed = True
    return out


def _sources(view: GraphView) -> set[str]:
    kinds = vocabulary.PLACEHOLDER_OPS | vocabulary.QUEUE_OPS | vocabulary.ITERATOR_OPS | {"_Arg"}
    return {name for name, node in view.nodes.items() if node.op in kinds}


def _control_pivots(view: GraphView) -> set[str]:
    """Identities of a Switch that exist to hang control inputs on (``cond/switch_t``)."""
    held = {
        tensor_node(text)[0] for node in view.graph_def.node for text in node.input if text.startswith("^")
    }
    pivots = set()
    for name, node in view.nodes.items():
        if "/AssertGuard/" in name:
            pivots.add(name)
        if node.op != "Identity" or view.consumers[name]:
            continue
        sources = view.data_inputs(name)
        behind = view.nodes.get(sources[0][0]) if sources else None
        if name.rpartition("/")[2] in ("switch_t", "switch_f", "pred_id") or (
            name in held and behind is not None and behind.op == "Switch"
        ):
            pivots.add(name)
    return pivots


def _inside_loops(view: GraphView) -> set[str]:
    """Nodes of the bodies of TF1 while-loops: their values exist once an iteration and cannot be fetched."""
    entries = [name for name, node in view.nodes.items() if node.op in ("Enter", "RefEnter")]
    inside = view.downstream(entries, through=lambda node: node.op != "Exit")
    return {name for name in inside if view.nodes[name].op != "Exit"}


def _is_a_list(view: GraphView, name: str) -> bool:
    """Whether a tensor only says in which order a list was written (the flow of a ``TensorArray``)."""
    through = ("Exit", "Switch", "Merge", "Enter", "NextIteration")
    waiting, seen = [name], {name}
    while waiting:
        node = view.nodes.get(waiting.pop())
        if node is None:
            continue
        if node.op.startswith("TensorArray"):
            return not node.op.startswith(_READ_FROM_LISTS)
        if node.op not in through:
            continue
        # Of a Switch the first input is the value, and the second decides.
        sources = view.data_inputs(node.name)[: 1 if node.op == "Switch" else None]
        waiting += [source for source, _ in sources if source not in seen]
        seen.update(source for source, _ in sources)
    return False


def _judge(
    view: GraphView, name: str, training: bool, derived: bool, depends_on_input: bool
) -> tuple[float, list[str]]:
    node = view.nodes[name]
    if not depends_on_input:
        return 0.15, [
            "nothing takes it" if not derived else "only training takes it",
            "no input's values reach it",
        ]
    score = 0.6
    evidence = [_TAKEN_BY_TRAINING if derived else "nothing takes it"]
    if vocabulary.sounds_like_output(name):
        score += 0.2
        evidence.append(_NAMED)
    if node.op in _ANSWER_OPS:
        score += 0.1
        evidence.append(f"{node.op} often ends a model")
    shape = view.shape(name)
    if _has_batch(shape):
        score += 0.05
        evidence.append("its first dimension is not fixed")
    if not training and (vocabulary.is_loss(name, node.op) or vocabulary.is_metric(name)):
        score -= 0.25
        evidence.append("named like a loss or metric")
    if training and not derived and name in _differentiated(view):
        score = min(score, 0.6) - 0.25
        evidence.append("gradients are taken of it: the loss")
    elif training and shape == ():
        score -= 0.2
        evidence.append("a scalar in a training graph")
    return min(score, 1.0), evidence


def _differentiated(view: GraphView) -> set[str]:
    """Ops of which gradients are taken, by the names TensorFlow gives to those (``gradients/OP_grad/…``)."""
    return {
        name.partition("gradients/")[2].partition("_grad/")[0]
        for name in view.nodes
        if "gradients/" in name and "_grad/" in name
    }


def _has_batch(shape: Shape | None) -> bool:
    return bool(shape) and shape is not None and shape[0] is None
