"""What only constants decide is computed once, by TensorFlow's own kernels.

before:  Const(variance) ─▶ Add(1e-3) ─▶ Rsqrt ─▶ Mul(Const(gamma)) ─▶ Mul(x)
after:   Const ─▶ Mul(x)

A result may be larger than what it is made of by :data:`GROWTH` bytes and no more: a megabyte of zeros that
a ``Fill`` stands for is better left to it. Rounding to a quantized grid (FakeQuant and the like) stays, as
quantization reads the grid from it; so do constants whose values are not in the graph, strings, what a loop
or branch of TensorFlow 1 ties to itself by a control input, and what is an output.
"""

from __future__ import annotations

import contextlib
from typing import Any

from edgeconv.formats.graph_reading import split_reference
from edgeconv.surgery.changes import Change
from edgeconv.surgery.graph import Graph

GROWTH = 1 << 20
"""Bytes that a result may be larger than what it is made of."""
_LARGEST = 16 << 20
_LEFT_ALONE = frozenset(
    {"Const", "Placeholder", "PlaceholderV2", "PlaceholderWithDefault", "NoOp", "IdentityN", "Print"}
    | {"Enter", "Exit", "NextIteration", "LoopCond", "Switch", "Merge", "CheckNumerics", "Bitcast"}
    | {"Dequantize", "QuantizeV2", "QuantizeAndDequantizeV2", "QuantizeAndDequantizeV3"}
)
_FLAWED = ("FakeQuant", "Quantized", "Stateless", "TensorList", "TensorArray")


def rewrite(graph: Graph) -> list[Change]:
    """Replace the last nodes that only constants decide by constants."""
    foldable = _foldable(graph)
    outputs = {split_reference(reference)[0] for reference in graph.outputs}
    wanted = [
        name
        for name in foldable
        if any(reader.name not in foldable for reader in graph.readers(name)) and name not in outputs
    ]
    values = _computed(graph, wanted) if wanted else {}
    for name, value in values.items():
        if value.nbytes <= _bytes_behind(graph, name) + GROWTH:
            _become_constant(graph, name, value)
    return []


def _foldable(graph: Graph) -> dict[str, None]:
    """Names of nodes that only constants decide, those constants not included, in an order to run them."""
    found: dict[str, None] = {}

    def constant(name: str) -> bool:
        node = graph.nodes.get(name)
        return node is not None and (name in found or (node.op == "Const" and _readable(graph, node)))

    for node in _sorted(graph):
        if node.input and _pure(node):
            sources = [split_reference(reference) for reference in node.input]
            if all(port is not None and constant(name) for name, port in sources):
                found[node.name] = None
    return found


def _sorted(graph: Graph) -> list[Any]:
    """The nodes, each behind what it takes; loops end anywhere."""
    order: list[Any] = []
    seen: set[str] = set()
    for first in graph.graph_def.node:
        stack = [(first.name, False)]
        while stack:
            name, done = stack.pop()
            if done:
                order.append(graph.nodes[name])
            elif name not in seen and name in graph.nodes:
                seen.add(name)
                stack.append((name, True))
                stack += [(split_reference(r)[0], False) for r in graph.nodes[name].input]
    return order


def _readable(graph: Graph, constant: Any) -> bool:
    import tensorflow as tf

    if constant.name in graph.values or constant.input or "value" not in constant.attr:
        return False
    return constant.attr["dtype"].type not in (
        tf.string.as_datatype_enum,
        tf.resource.as_datatype_enum,
        tf.variant.as_datatype_enum,
    )


def _pure(node: Any) -> bool:
    """Whether the op always gives the same, and one tensor."""
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(node.op)
    if definition is None or definition.is_stateful or node.op in _LEFT_ALONE:
        return False
    if node.op.startswith(_FLAWED) or len(definition.output_arg) != 1:
        return False
    output = definition.output_arg[0]
    if output.number_attr or output.type_list_attr:
        return False
    return not any(value.HasField("func") for value in node.attr.values())


def _computed(graph: Graph, wanted: list[str]) -> dict[str, Any]:
    """Values of nodes, by TensorFlow; fewer where it refuses, which the graph itself says when it is run."""
    import numpy
    import tensorflow as tf
    from tensorflow.core.framework import graph_pb2

    part = graph_pb2.GraphDef(versions=graph.graph_def.versions)
    part.node.extend(graph.nodes[name] for name in sorted(graph.upstream(wanted)))
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=1, device_count={"GPU": 0}
    )
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.optimizer_options.opt_level = -1
    found: dict[str, Any] = {}
    try:
        with tf.Graph().as_default() as running:
            tf.graph_util.import_graph_def(part, name="")
            tensors = {name: running.get_tensor_by_name(f"{name}:0") for name in wanted}
            kept = {
                name: tensor
                for name, tensor in tensors.items()
                if (tensor.dtype.is_floating or tensor.dtype.is_integer or tensor.dtype.is_bool)
                and (tensor.shape.num_elements() or 0) * tensor.dtype.size <= _LARGEST
            }
            with tf.compat.v1.Session(graph=running, config=config) as session:
                try:
                    found = dict(zip(kept, session.run(list(kept.values())), strict=True))
                except tf.errors.OpError:
                    # One of them cannot be computed, and the others stay computable.
                    for name, tensor in kept.items():
                        with contextlib.suppress(tf.errors.OpError):
                            found[name] = session.run(tensor)
    except (tf.errors.OpError, ValueError, TypeError, KeyError):
        return {}
    return {name: numpy.asarray(value) for name, value in found.items()}


def _bytes_behind(graph: Graph, name: str) -> int:
    return sum(
        graph.nodes[each].ByteSize() for each in graph.upstream([name]) if graph.nodes[each].op == "Const"
    )


def _become_constant(graph: Graph, name: str, value: Any) -> None:
    import tensorflow as tf

    node = graph.nodes[name]
    graph.become(node, "Const", (), dtype=tf.as_dtype(value.dtype), value=value)
