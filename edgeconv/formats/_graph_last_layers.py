"""The last layers before a loss: what to offer as outputs of a training graph that ends in losses only."""

from __future__ import annotations

from edgeconv.formats import _graph_vocabulary as vocabulary
from edgeconv.formats._graph_view import GraphView

_READS = frozenset({"Identity", "ReadVariableOp", "Enter", "RefEnter", "Cast", "Switch"})
_ACTIVATIONS = frozenset(
    {"Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Softplus"}
    | {"Softsign", "Exp", "Identity", "Minimum", "Maximum", "Mul", "Add", "AddV2", "Sub", "BiasAdd"}
    | {"Reshape", "Squeeze", "ClipByValue"}
)


def last_layers(view: GraphView, sources: set[str], left_out: set[str]) -> list[str]:
    """Nodes that are the last on their way to a loss to be computed with variables, activations included.

    before:  x ─▶ MatMul(w) ─▶ BiasAdd(b) ─▶ Tanh ─▶ Sub(target) ─▶ Square ─▶ Mean
    found:                                   Tanh

    Args:
        view: of a training graph.
        sources: where data comes in.
        left_out: what is no part of the answer: training, savers, losses known by their names.
    """
    variables = [name for name, node in view.nodes.items() if node.op in vocabulary.VARIABLE_OPS]
    read = view.downstream(variables, through=lambda node: node.op in (*vocabulary.VARIABLE_OPS, *_READS))
    held = {name for name in read if view.nodes[name].op in (*vocabulary.VARIABLE_OPS, *_READS)}
    fed = view.downstream(sources)
    layers = {
        name
        for name in (read & fed) - held - left_out
        if any(source in held for source, _ in view.data_inputs(name))
        and any(source in fed and source not in held for source, _ in view.data_inputs(name))
    }
    last = []
    for name in view.nodes:
        if name in layers and not (_behind(view, name, left_out) & layers):
            last.append(_with_activation(view, name, fed, left_out))
    return list(dict.fromkeys(last))


def _behind(view: GraphView, name: str, left_out: set[str]) -> set[str]:
    """What takes data from a node, directly or not, outside of training."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for taker in view.consumers[waiting.pop()]:
            if taker not in found and taker not in left_out:
                found.add(taker)
                waiting.append(taker)
    return found


def _with_activation(view: GraphView, name: str, fed: set[str], left_out: set[str]) -> str:
    """The end of the chain of activations behind a node, each the only one to take the one before."""
    seen = {name}
    while True:
        takers = [taker for taker in view.consumers[name] if taker not in left_out]
        if len(takers) != 1 or takers[0] in seen or view.nodes[takers[0]].op not in _ACTIVATIONS:
            return name
        others = [source for source, _ in view.data_inputs(takers[0]) if source in fed and source != name]
        if others:
            return name
        name = takers[0]
        seen.add(name)
