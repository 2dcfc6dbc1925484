"""The nodes of a model on disk, by the names that ``--inputs``, ``--outputs`` and ``--at`` take.

Functions that a graph calls are gone into: a node in one has the name that it gets when the call is inlined,
which is that of the call and its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeconv.errors import UsageError
from edgeconv.formats._checkpoint_files import checkpoint_files
from edgeconv.formats._graph_shapes import Shapes
from edgeconv.formats._graph_view import GraphView, tensor_node
from edgeconv.formats._onnx_model import load_model, plain_graph
from edgeconv.formats._saved_model_files import find_saved_model, read_saved_model
from edgeconv.formats._tensor_types import shape_of
from edgeconv.formats.base import Shape
from edgeconv.formats.checkpoint import read_meta_graph
from edgeconv.formats.frozen_graph import read_graph_def
from edgeconv.formats.registry import identify
from edgeconv.formats.saved_model import choose_meta_graph, signatures_of
from edgeconv.formats.tflite import load_tflite

CONSTANTS = ("Const", "Constant", "VarHandleOp", "VariableV2", "Variable")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_DEEPEST = 32
_MOST_NODES = 200_000


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """One node.

    Attributes:
        name: of its first output, without ``:0``.
        op: op type.
        inputs: names of the nodes that it reads, in order; ``^name`` for one that it only waits for.
        dtype: of its first output; ``unknown`` where not stated.
        shape: of its first output; ``None`` where not known.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    dtype: str
    shape: Shape | None


def nodes_in(
    path: Path, tags: Sequence[str] | None = None, signature: str | None = None
) -> tuple[NodeInfo, ...]:
    """The nodes of the model at ``path`` in the order of the file.

    Args:
        path: a graph, a SavedModel, a checkpoint with ``.meta``, an ONNX or a TFLite file.
        tags: of the graph of a SavedModel.
        signature: of a SavedModel: only what it runs.

    Raises:
        UsageError: a format without nodes; unknown tags or signature.
        InvalidModelError: truncated or corrupt.
    """
    kind = identify(path).name
    if kind == "onnx":
        return tuple(_of_onnx(path))
    if kind == "tflite":
        return tuple(_of_tflite(path))
    graph_def, ends = graph_in(path, tags, signature)
    view = GraphView(graph_def)
    names = set(view.upstream(ends)) if ends else set(view.nodes)
    return tuple(_flattened(view, names))


def graph_in(
    path: Path, tags: Sequence[str] | None = None, signature: str | None = None
) -> tuple[Any, list[str]]:
    """The GraphDef of a model, and the nodes that its signature ends in (none where all is meant).

    Raises:
        UsageError: a format that holds no GraphDef; unknown tags or signature.
        InvalidModelError: truncated or corrupt.
    """
    kind = identify(path).name
    if kind == "frozen_graph":
        return read_graph_def(path), []
    if kind == "checkpoint":
        files = checkpoint_files(path)
        if files.meta is not None:
            return read_meta_graph(files.meta).graph_def, []
    if kind == "saved_model":
        folder = find_saved_model(path)
        chosen = None if tags is None else tuple(tags)
        graph = choose_meta_graph(read_saved_model(folder), chosen, where=str(folder.proto))
        known = {each.name: each for each in signatures_of(graph)}
        if signature is not None and signature not in known:
            raise UsageError(
                f"there is no signature '{signature}'",
                where=str(path),
                hint=f"it has: {', '.join(known) or 'none'}",
            )
        wanted = [known[signature]] if signature is not None else list(known.values())
        ends = [tensor_node(spec.inner_name)[0] for each in wanted for spec in each.outputs]
        return graph.graph_def, ends
    raise UsageError(
        f"a {kind} holds no graph of nodes",
        where=str(path),
        hint="see its layers with --layers, or make a frozen graph: edgeconv freeze",
    )


def _flattened(view: GraphView, names: set[str]) -> Iterator[NodeInfo]:
    shapes = Shapes(view)
    shapes.infer(names)
    aliases: dict[str, str] = {}
    found: list[NodeInfo] = []
    for name, node in view.nodes.items():
        if name not in names:
            continue
        inputs = [_reference(*tensor_node(text)) for text in node.input]
        function = view.functions.get(_called(node))
        if function is None:
            found.append(NodeInfo(name, node.op, tuple(inputs), view.dtype(name), shapes.of(name)))
            continue
        found += _inlined(view.functions, function, name, inputs, aliases, 0)
    for info in found:
        reads = [_node(aliases, reference) for reference in info.inputs]
        yield replace(info, inputs=tuple(dict.fromkeys(reads)))


def _inlined(
    functions: Mapping[str, Any],
    function: Any,
    call: str,
    inputs: Sequence[str],
    aliases: dict[str, str],
    depth: int,
) -> list[NodeInfo]:
    """The nodes of a function's body under the names they get; ``aliases`` learns what the call gives."""
    arguments = dict(zip((a.name for a in function.signature.input_arg), inputs, strict=False))
    found: list[NodeInfo] = []

    def reference(text: str) -> str:
        control = text.startswith("^")
        name, _, rest = text.lstrip("^").partition(":")
        if name in arguments:
            return str(arguments[name])
        if control:
            return f"^{call}/{name}"
        # In bodies a reference is node:output:index; only ops of one list of outputs are told apart by it.
        return _reference(f"{call}/{name}", int(rest.rpartition(":")[2] or 0) if rest else 0)

    for node in function.node_def:
        name = f"{call}/{node.name}"
        reads = [reference(text) for text in node.input]
        inner = functions.get(_called(node))
        if inner is not None and depth < _DEEPEST and len(found) < _MOST_NODES:
            found += _inlined(functions, inner, name, reads, aliases, depth + 1)
            continue
        stated = node.attr["_output_shapes"].list.shape if "_output_shapes" in node.attr else []
        dtypes = _dtypes(node)
        found.append(NodeInfo(name, node.op, tuple(reads), dtypes, shape_of(stated[0]) if stated else None))
    for port, output in enumerate(function.signature.output_arg):
        aliases[_reference(call, port)] = reference(function.ret[output.name])
    return found


def _dtypes(node: Any) -> str:
    from edgeconv.formats._graph_view import output_dtypes

    known = output_dtypes(node)
    return known[0] if known else "unknown"


def _called(node: Any) -> str:
    return str(node.attr["f"].func.name) if node.op in _CALLS else str(node.op)


def _reference(name: str, port: int) -> str:
    return f"^{name}" if port < 0 else f"{name}:{port}" if port else name


def _node(aliases: Mapping[str, str], reference: str) -> str:
    """The node behind a reference, through calls; a call that was waited for stands for itself."""
    for _ in range(_DEEPEST):
        if reference not in aliases:
            break
        reference = aliases[reference]
    if reference.startswith("^"):
        return reference
    return tensor_node(reference)[0]


def _of_onnx(path: Path) -> Iterator[NodeInfo]:
    graph = plain_graph(load_model(path).graph)
    for name in graph.inputs:
        dtype, shape = graph.types.get(name, ("unknown", None))
        yield NodeInfo(name, "Input", (), dtype, _sizes(shape))
    for name, constant in graph.constants.items():
        yield NodeInfo(name, "Constant", (), constant.dtype, constant.dims)
    firsts = {name: node.outputs[0] for node in graph.nodes for name in node.outputs if node.outputs}
    for node in graph.nodes:
        if node.outputs:
            dtype, shape = graph.types.get(node.outputs[0], ("unknown", None))
            reads = tuple(firsts.get(name, name) for name in node.inputs if name)
            yield NodeInfo(node.outputs[0], node.qualified, reads, dtype, _sizes(shape))


def _sizes(shape: Any) -> Shape | None:
    return None if shape is None else tuple(d if isinstance(d, int) and d >= 0 else None for d in shape)


def _of_tflite(path: Path) -> Iterator[NodeInfo]:
    model = load_tflite(path)
    graph = model.subgraphs[0]
    names: dict[int, str] = {}
    taken: set[str] = set()
    for number, tensor in enumerate(graph.tensors):
        name = (
            tensor.name if tensor.name and tensor.name not in taken else f"{tensor.name or 'tensor'}#{number}"
        )
        taken.add(name)
        names[number] = name
    firsts = {i: op.outputs[0] for op in graph.operators for i in op.outputs if op.outputs}

    def info(number: int, op: str, inputs: Sequence[int]) -> NodeInfo:
        tensor = graph.tensors[number]
        sizes = tensor.signature if tensor.signature is not None else None
        shape = None if sizes is None else tuple(None if size < 0 else size for size in sizes)
        reads = tuple(names[firsts.get(i, i)] for i in inputs if i >= 0)
        return NodeInfo(names[number], op, reads, tensor.dtype, shape)

    for number in graph.inputs:
        yield info(number, "Input", ())
    for number, tensor in enumerate(graph.tensors):
        if tensor.constant:
            yield info(number, "Constant", ())
    for operator in graph.operators:
        if operator.outputs:
            yield info(operator.outputs[0], operator.name, operator.inputs)
