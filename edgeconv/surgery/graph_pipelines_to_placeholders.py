"""Where a queue or a dataset iterator feeds the model, a placeholder takes its place.

before:  FIFOQueueV2 ─▶ batch = QueueDequeueManyV2 ─images─▶ conv … logits
                                                   └labels─▶ loss (beside the path)
after:   batch = Placeholder ─▶ conv … logits

Each component that the outputs need becomes a placeholder of its dtype and shape. The first one keeps the
name of the node, so a tensor ``batch:0`` is ``batch:0`` before and after; the others are ``batch_1``,
``batch_2`` …. A batch size that only says how many elements training took at once is left open.
"""

from __future__ import annotations

from typing import Any

from edgeconv.formats.graph_reading import split_reference
from edgeconv.surgery.changes import Change
from edgeconv.surgery.graph import Graph

_NAME = "pipelines_to_placeholders"
_MANY = ("QueueDequeueMany", "QueueDequeueManyV2", "QueueDequeueUpTo", "QueueDequeueUpToV2")
_ONE = ("QueueDequeue", "QueueDequeueV2")
_ITERATORS = ("IteratorGetNext", "IteratorGetNextSync")
_STAGES = ("Unstage",)
_READERS = ("ReaderRead", "ReaderReadV2")
_SOURCES = frozenset((*_MANY, *_ONE, *_ITERATORS, *_STAGES, *_READERS))


def rewrite(graph: Graph) -> list[Change]:
    """Replace the ends of input pipelines by placeholders, which become inputs of ``graph``."""
    ends = {node.name for node in graph.graph_def.node if node.op in _SOURCES} - set(graph.inputs)
    # Only the ends nearest to the outputs: what feeds those is off the path once they are placeholders.
    path = graph.upstream(graph.outputs, stop=[*graph.inputs, *ends])
    return [_replace(graph, graph.nodes[name], path) for name in sorted(ends & path)]


def _replace(graph: Graph, node: Any, path: set[str]) -> Change:
    ports = sorted(
        {
            port
            for reader in graph.readers(node.name)
            if reader.name in path
            for reference in graph.data_inputs(reader)
            if (port := split_reference(reference)[1]) is not None
            and split_reference(reference)[0] == node.name
        }
        | {split_reference(o)[1] or 0 for o in graph.outputs if split_reference(o)[0] == node.name}
    )
    dtypes, shapes = _components(graph, node)
    operation, made = node.op, []
    for port in ports:
        if port:
            made.append(_placeholder(graph, f"{node.name}_{port}", dtypes[port], shapes[port]))
            graph.redirect(f"{node.name}:{port}", made[-1])
    if 0 in ports:
        graph.become(node, "Placeholder", (), dtype=dtypes[0], shape=shapes[0])
        made.insert(0, node.name)
    graph.inputs.extend(made)
    listed = ", ".join(f"'{name}'" for name in made)
    return Change(
        _NAME,
        f"{operation} '{node.name}' read its data from a pipeline: "
        f"{'inputs take' if len(made) > 1 else 'an input takes'} its place: {listed}",
    )


def _placeholder(graph: Graph, name: str, dtype: Any, shape: Any) -> str:
    return graph.add("Placeholder", name, (), dtype=dtype, shape=shape)


def _components(graph: Graph, node: Any) -> tuple[list[Any], list[Any]]:
    """Dtypes (as ``AttrValue``) and shapes (``TensorShapeProto``) of all components of a pipeline's end."""
    from tensorflow.core.framework import attr_value_pb2, tensor_shape_pb2, types_pb2

    unknown = tensor_shape_pb2.TensorShapeProto(unknown_rank=True)
    if node.op in _READERS:
        kinds = [types_pb2.DT_STRING] * 2
        shapes = [tensor_shape_pb2.TensorShapeProto()] * 2
    elif node.op in _ITERATORS:
        kinds = list(node.attr["output_types"].list.type)
        shapes = _shapes(node, "output_shapes")
    elif node.op in _STAGES:
        kinds, shapes = list(node.attr["dtypes"].list.type), []
    else:
        kinds = list(node.attr["component_types"].list.type)
        queue = graph.node(graph.origin(node.input[0]))
        shapes = _shapes(queue, "shapes")
        if node.op in _MANY:
            shapes = [_batched(shape) for shape in shapes]
    if len(shapes) != len(kinds):
        shapes = _shapes(node, "_output_shapes")
    if len(shapes) != len(kinds):
        shapes = [unknown] * len(kinds)
    return [attr_value_pb2.AttrValue(type=kind) for kind in kinds], shapes


def _shapes(node: Any | None, name: str) -> list[Any]:
    return list(node.attr[name].list.shape) if node is not None and name in node.attr else []


def _batched(shape: Any) -> Any:
    """A component's shape with a batch axis of open size before it; an unknown one stays unknown."""
    from tensorflow.core.framework import tensor_shape_pb2

    result = tensor_shape_pb2.TensorShapeProto()
    if shape.unknown_rank:
        result.unknown_rank = True
        return result
    result.dim.add(size=-1)
    result.dim.extend(shape.dim)
    return result
