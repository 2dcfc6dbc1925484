"""Where queues and dataset iterators end in a graph: tensors that become inputs of the model."""

from __future__ import annotations

import dataclasses

from edgeconv.formats import _graph_vocabulary as vocabulary
from edgeconv.formats._graph_implied_shapes import implied_shape
from edgeconv.formats._graph_view import GraphView
from edgeconv.formats._tensor_types import shape_of
from edgeconv.formats.base import Shape, TensorSpec

PIPELINE_OPS = vocabulary.QUEUE_OPS | vocabulary.ITERATOR_OPS
_BATCHES = ("QueueDequeueMany", "QueueDequeueManyV2", "QueueDequeueUpTo", "QueueDequeueUpToV2")


def pipeline_ends(
    view: GraphView, outputs: list[tuple[str, int]], fed: frozenset[tuple[str, int]]
) -> list[tuple[str, int]]:
    """The outputs of queues and iterators that ``outputs`` need, the nearest ones only, in graph order.

    Args:
        view: the graph.
        outputs: tensors.
        fed: tensors at which the graph is cut already.
    """
    found: set[tuple[str, int]] = set()
    seen: set[str] = set()
    todo = list(outputs)
    while todo:
        name, port = todo.pop()
        if name not in view.nodes or (name, port) in fed:
            continue
        if view.nodes[name].op in PIPELINE_OPS and port >= 0:
            found.add((name, port))
        elif name not in seen:
            seen.add(name)
            todo += view.data_inputs(name)
    return sorted(found, key=lambda end: (view.order[end[0]], end[1]))


def completed(view: GraphView, spec: TensorSpec, name: str, port: int) -> TensorSpec:
    """The spec of an input; if it has no shape, with what queue or iterator state or its consumers demand.

    How many a queue gives at once was decided for training, and leaves the size of a batch open.
    """
    if spec.shape and view.nodes[name].op in _BATCHES:
        return dataclasses.replace(spec, shape=(None, *spec.shape[1:]))
    if spec.shape is not None:
        return spec
    stated = _stated(view, name, port) if view.nodes[name].op in PIPELINE_OPS else None
    return dataclasses.replace(spec, shape=implied_shape(view, name, port) if stated is None else stated)


def _stated(view: GraphView, name: str, port: int) -> Shape | None:
    node = view.nodes[name]
    if node.op in vocabulary.ITERATOR_OPS:
        shapes = node.attr["output_shapes"].list.shape
        return shape_of(shapes[port]) if port < len(shapes) else None
    source = next(iter(view.data_inputs(name)), (None, 0))[0]
    while source in view.nodes and view.nodes[source].op in ("Identity", "RefIdentity"):
        source = next(iter(view.data_inputs(source)), (None, 0))[0]
    if source not in view.nodes:
        return None
    shapes = view.nodes[source].attr["shapes"].list.shape
    element = shape_of(shapes[port]) if port < len(shapes) else None
    if element is None or node.op not in _BATCHES:
        return element
    return (None, *element)
