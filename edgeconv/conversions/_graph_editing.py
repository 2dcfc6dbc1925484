"""Small, exact operations on a GraphDef: references, reachability, inlining, checks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from edgeconv.errors import ConversionError

CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
BRANCHES = frozenset({"If", "StatelessIf", "Case", "StatelessCase"})
LOOPS = frozenset({"While", "StatelessWhile"})
_KEPT_PRIVATE = ("_lower_using_switch_merge", "_tftrt_op_max_batch_size")
# Alternatives of one function for other devices, and marks that stop grappler from inlining it.
_INLINING_BARRIERS = ("api_implements", "_XlaMustCompile", "_noinline", "api_preferred_device")


def split_reference(reference: str) -> tuple[str, int | None]:
    """``node:port`` of a main-graph reference; port is ``None`` for a control input (``^node``)."""
    if reference.startswith("^"):
        return reference[1:], None
    match = re.fullmatch(r"(.*):(\d+)", reference)
    return (match.group(1), int(match.group(2))) if match else (reference, 0)


def join_reference(node: str, port: int | None) -> str:
    """Inverse of :func:`split_reference`, in the short form that GraphDefs use."""
    if port is None:
        return f"^{node}"
    return node if port == 0 else f"{node}:{port}"


def functions_named_in(node: Any) -> Iterator[str]:
    """Names of the functions that a node's attributes name."""
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        elif value.HasField("list"):
            yield from (function.name for function in value.list.func)


def reachable(graph_def: Any, roots: Iterable[str]) -> set[str]:
    """Names of the nodes that the nodes ``roots`` need, by data or control."""
    nodes = {node.name: node for node in graph_def.node}
    found: set[str] = set()
    stack = [name for name in roots if name in nodes]
    while stack:
        name = stack.pop()
        if name in found:
            continue
        found.add(name)
        stack.extend(split_reference(i)[0] for i in nodes[name].input if split_reference(i)[0] in nodes)
    return found


def pruned(graph_def: Any, roots: Iterable[str], keep: Iterable[str] = ()) -> Any:
    """A GraphDef of the nodes that ``roots`` need, of ``keep``, and of the functions that these call."""
    from tensorflow.core.framework import graph_pb2

    needed = reachable(graph_def, roots) | set(keep)
    result = graph_pb2.GraphDef()
    result.versions.CopyFrom(graph_def.versions)
    result.node.extend(node for node in graph_def.node if node.name in needed)
    library = {function.signature.name: function for function in graph_def.library.function}
    # An op with its own gradient or kernel-as-function is named by the op type alone.
    stack = [name for node in result.node for name in (*functions_named_in(node), node.op)]
    found: set[str] = set()
    while stack:
        name = stack.pop()
        if name in found or name not in library:
            continue
        found.add(name)
        for node in library[name].node_def:
            stack.extend((*functions_named_in(node), node.op))
    result.library.function.extend(f for f in graph_def.library.function if f.signature.name in found)
    return result


def clean(graph_def: Any) -> None:
    """Take off what binds a graph to where it was made: devices, colocation, private attributes.

    Stale ``_output_shapes`` in particular contradict shapes that were pinned since.
    """
    for node in _everywhere(graph_def):
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
    for node in _everywhere(graph_def):
        if node.op not in functions and node.op not in unknown and op_def_registry.get(node.op) is None:
            unknown[node.op] = node.name
    if unknown:
        listed = ", ".join(f"{op} ('{node}')" for op, node in sorted(unknown.items()))
        raise ConversionError(
            f"the model uses custom ops that this TensorFlow does not have: {listed}",
            where=path,
            why="they come from an extension library, such as TensorFlow Decision Forests or Text",
            hint="no edge format has them either: export the model without them, or cut them off with "
            "--inputs or --outputs",
        )


def _everywhere(graph_def: Any) -> Iterator[Any]:
    yield from graph_def.node
    for function in graph_def.library.function:
        yield from function.node_def
