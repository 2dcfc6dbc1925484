"""Which fused normalisations are still training: they use the statistics of a batch of samples.

Keras 2 writes its layer normalisation with the op of batch normalisation in training mode: samples and
positions are put in the place of the channels of one image, ``Reshape(x, [1, N, D, 1])`` with channels first,
so that each is normalised alone. That belongs to inference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeconv.formats._graph_values import integers
from edgeconv.formats._graph_vocabulary import BATCH_NORM_OPS

_PASSING = ("Identity", "Cast", "Snapshot", "StopGradient")


def uses_its_batch(node: Any, scope: Mapping[str, Any]) -> bool:
    """Whether a NodeDef is a fused batch normalisation in training mode that mixes the samples of a batch.

    Args:
        node: any node; an absent ``is_training`` has the op's default, which is true.
        scope: the nodes of its graph or function, by name.
    """
    if node.op not in BATCH_NORM_OPS:
        return False
    if "is_training" in node.attr and not node.attr["is_training"].b:
        return False
    return not _is_of_one_image(node, scope)


def _is_of_one_image(node: Any, scope: Mapping[str, Any]) -> bool:
    if "data_format" not in node.attr or not node.attr["data_format"].s.startswith(b"NC"):
        return False
    source = _behind(node, 0, scope)
    while source is not None and source.op in _PASSING:
        source = _behind(source, 0, scope)
    if source is None or source.op != "Reshape":
        return False
    shape = _behind(source, 1, scope)
    if shape is not None and shape.op == "Pack":
        shape = _behind(shape, 0, scope)
    if shape is None or shape.op != "Const":
        return False
    sizes = integers(shape.attr["value"].tensor)
    return bool(sizes) and sizes is not None and sizes[0] == 1


def _behind(node: Any, index: int, scope: Mapping[str, Any]) -> Any | None:
    return scope.get(node.input[index].partition(":")[0]) if index < len(node.input) else None
