"""What is random in inference is said, and left as it is.

before:  RandomStandardNormal ─▶ Mul(sigma) ─▶ Add(mu) ─▶ decoder
after:   the same, with a warning that names the random op

Sampling may be what a model is for (the decoder of a variational autoencoder), so nothing is taken away
that is not known for training only; but two runs of such a model on the same input differ.
"""

from __future__ import annotations

from edgeconv.formats import _graph_vocabulary as vocabulary
from edgeconv.surgery._liveness import called, repairable
from edgeconv.surgery.changes import Change
from edgeconv.surgery.graph import Graph

_NAME = "report_randomness"
_SHOWN = 5


def rewrite(graph: Graph) -> list[Change]:
    """Name the random ops that the outputs need; changes nothing."""
    nodes = [graph.nodes[name] for name in repairable(graph)]
    random = [(node.name, node.op) for node in nodes if node.op in vocabulary.RANDOM_OPS]
    for function in called(graph):
        inner = (node for node in function.node_def if node.op in vocabulary.RANDOM_OPS)
        random += [(f"{function.signature.name}/{node.name}", node.op) for node in inner]
    if not random:
        return []
    listed = ", ".join(f"'{name}' ({op})" for name, op in random[:_SHOWN])
    more = f" and {len(random) - _SHOWN} more" if len(random) > _SHOWN else ""
    return [
        Change(
            _NAME,
            f"the outputs are random: they need {listed}{more}, which are not known for training only "
            f"(what they draw can be an input: name it with --inputs, beside the others)",
            warning=True,
        )
    ]
