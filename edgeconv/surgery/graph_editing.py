"""Small, exact operations on a GraphDef: references, reachability, inlining, checks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edgeconv.errors import ConversionError
from edgeconv.formats.graph_reading import all_nodes
from edgeconv.formats.missing_ops import origin_of, origins

CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
BRANCHES = frozenset({"If", "StatelessIf", "Case", "StatelessCase"})
LOOPS = frozenset({"While", "StatelessWhile"})
_KEPT_PRIVATE = ("_lower_using_switch_merge", "_tftrt_op_max_batch_size")
# Alternatives of one function for other devices, and marks that stop grappler from inlining it.
_INLINING_BARRIERS = ("api_implements", "_XlaMustCompile", "_noinline", "api_preferred_device")


def join_reference(node: str, port: int | None) -> str:
    """Inverse of :func:`split_reference`, in the short form that GraphDefs use."""
    if port is None:
        return f"^{node}"
    return node if port == 0 else f"{node}:{port}"


def clean(graph_def: Any) -> None:
    """Take off what binds a graph to where it was made: devices, colocation, private attributes.

    Stale ``_output_shapes`` in particular contradict shapes that were pinned since.
    """
    for node in graph_def.node:
        if node.op == "Placeholder":
            _state_shape(node, int(graph_def.versions.producer))
    for node in all_nodes(graph_def):
        node.device = ""
        for name in [n for n in node.attr if n.startswith("_") and n not in _KEPT_PRIVATE]:
            del node.attr[name]
        if node.op in LOOPS or node.op in BRANCHES:
            node.attr["_lower_using_switch_merge"].b = False
            if "output_shapes" in node.attr and node.op in LOOPS:
                del node.attr["output_shapes"]
    for function in graph_def.library.function:
        for name in [n for n in function.attr if n in _INLINING_BARRIERS or n.startswith("_input_shapes")]:
            del function.attr[name]


def _state_shape(placeholder: Any, producer: int) -> None:
    """Move what ``_output_shapes`` says into ``shape``, where that is absent or an old graph's empty one."""
    stated = placeholder.attr["_output_shapes"].list.shape if "_output_shapes" in placeholder.attr else []
    absent = "shape" not in placeholder.attr
    # Below this version an empty shape meant an unknown one.
    unknown = producer < 24 and not placeholder.attr["shape"].shape.dim
    if (absent or unknown) and stated:
        placeholder.attr["shape"].shape.CopyFrom(stated[0])
    elif absent or unknown:
        placeholder.attr["shape"].shape.unknown_rank = True


def inlined(graph_def: Any, fetches: Iterable[str]) -> Any:
    """The graph with function calls inlined by TensorFlow's own optimiser; control flow stays functional.

    ``fetches`` are tensor or node names that must keep their names.
    """
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
    from tensorflow.python.grappler import tf_optimizer

    if not graph_def.library.function:
        return graph_def
    meta_graph = meta_graph_pb2.MetaGraphDef()
    meta_graph.graph_def.CopyFrom(graph_def)
    meta_graph.collection_def["train_op"].node_list.value.extend(fetches)
    config = config_pb2.ConfigProto()
    rewrites = config.graph_options.rewrite_options
    rewrites.min_graph_nodes = -1
    rewrites.optimizers.append("function")
    return tf_optimizer.OptimizeGraph(config, meta_graph)


def check_known_ops(graph_def: Any, path: str) -> None:
    """Refuse ops that this TensorFlow does not have.

    Raises:
        ConversionError: names the op types, with one node for each.
    """
    from tensorflow.python.framework import op_def_registry

    functions = {function.signature.name for function in graph_def.library.function}
    unknown: dict[str, str] = {}
    for node in all_nodes(graph_def):
        if node.op in functions or node.op in unknown:
            continue
        # TFLite's own ops are registered once its library is loaded, and still nothing here runs them.
        if op_def_registry.get(node.op) is None or origin_of(node.op) is not None:
            unknown[node.op] = node.name
    if unknown:
        listed = ", ".join(f"{op} ('{node}')" for op, node in sorted(unknown.items()))
        known = origins(sorted(unknown))
        why = [f"{', '.join(ops)} of {origin.library}" for origin, ops in known.items()]
        hints = [f"{ops[0]}: {origin.instead}" for origin, ops in known.items()]
        raise ConversionError(
            f"the model uses custom ops that this TensorFlow does not have: {listed}",
            where=path,
            why="; ".join(why) or "they come from an extension library, or were compiled for this model",
            hint="; ".join(hints)
            or "no edge format has them either: export the model without them, or cut them off with --inputs "
            "or --outputs",
        )
