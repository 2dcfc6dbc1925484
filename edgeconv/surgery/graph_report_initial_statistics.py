"""Moving statistics that training never moved are said, and left as they are.

before:  x ─▶ FusedBatchNormV3(mean = 0, 0, 0 …, variance = 1, 1, 1 …) ─▶ y
after:   the same, with a warning that names the layer

A network that was trained without running the updates of its moving statistics (they are beside the path,
and TensorFlow 1 runs them only where asked to) is right in training and wrong in inference, in every format
alike. No gate finds that, because the source is wrong in the same way.
"""

from __future__ import annotations

from typing import Any

from edgeconv.formats import _graph_vocabulary as vocabulary
from edgeconv.surgery.changes import Change
from edgeconv.surgery.graph import Graph

_NAME = "report_initial_statistics"
_ADDS = ("Add", "AddV2")
_SHOWN = 3
_VARIANCES = (1.0, 0.0)  # of a layer's own variables, and of the shadows that TensorFlow makes for tensors


def rewrite(graph: Graph) -> list[Change]:
    """Name the batch normalisations whose mean is 0 and variance 1 (or 0) throughout; changes nothing.

    To be run on a graph whose variables are constants, in it or in ``graph.values``.
    """
    layers = untouched = 0
    named: list[str] = []
    for name in sorted(graph.on_path() - set(graph.inputs)):
        node = graph.nodes[name]
        initial = None
        if node.op in vocabulary.BATCH_NORM_OPS:
            mean, variance = graph.data_inputs(node)[3:5]
            initial = _filled(graph, mean, 0.0) and any(_filled(graph, variance, v) for v in _VARIANCES)
        elif node.op == "Rsqrt":
            initial = _small_ops(graph, node)
        if initial is not None:
            layers += 1
        if initial:
            untouched += 1
            named.append(name)
    if not untouched:
        return []
    listed = ", ".join(f"'{name}'" for name in named[:_SHOWN])
    return [
        Change(
            _NAME,
            f"the moving statistics of {untouched} of {layers} batch normalisations still are the initial "
            "ones, "
            f"mean 0 and variance 1 or 0 ({listed}{' …' if untouched > _SHOWN else ''}): training never "
            "updated "
            "them, or the checkpoint is from its very beginning; the model may give something else than it "
            "gave in "
            "training",
            warning=True,
        )
    ]


def _small_ops(graph: Graph, root: Any) -> bool | None:
    """The same for 1 / sqrt(variance + epsilon) · (x - mean); ``None`` if that is not what it is."""
    total = graph.node(graph.origin(graph.data_inputs(root)[0]))
    if total is None or total.op not in _ADDS:
        return None
    constants = [graph.constant(reference, limit=None) for reference in graph.data_inputs(total)]
    vectors = [value for value in constants if value is not None and value.size > 1]
    if len(vectors) != 1 or any(value is None for value in constants):
        return None
    if not any((vectors[0] == value).all() for value in _VARIANCES):
        return False
    for factor in _behind(graph, root.name, 3):
        if factor.op != "Mul":
            continue
        for reference in graph.data_inputs(factor):
            difference = graph.node(reference)
            subtracted = (
                graph.data_inputs(difference)[1:] if difference is not None and difference.op == "Sub" else []
            )
            if any(_filled(graph, each, 0.0) for each in (reference, *subtracted)):
                return True
    return False


def _behind(graph: Graph, name: str, steps: int) -> list[Any]:
    found: list[Any] = []
    wave = [name]
    for _ in range(steps):
        readers = [
            reader for each in wave for reader in graph.readers(each) if reader.op in ("Mul", "Identity")
        ]
        found += readers
        wave = [reader.name for reader in readers]
    return found


def _filled(graph: Graph, reference: str, value: float) -> bool:
    array = graph.constant(reference)
    return bool(array is not None and array.size > 0 and (array == value).all())
