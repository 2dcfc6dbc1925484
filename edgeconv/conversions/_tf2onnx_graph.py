"""A frozen graph made ready for tf2onnx: cut to the contract, its inputs and outputs given plain nodes.

tf2onnx wants placeholders of known rank as inputs and takes outputs by tensor name; a contract may name
any tensor, twice even, and knows shapes that the graph does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeconv.errors import ConversionError, InvalidModelError, UsageError
from edgeconv.formats.base import Contract, TensorSpec

OUTPUT_PREFIX = "edgeconv_output_"
INPUT_PREFIX = "edgeconv_input_"


def read_graph(path: Path) -> Any:
    """The GraphDef in ``path``, binary or text.

    Raises:
        InvalidModelError: it is neither.
    """
    from google.protobuf import message, text_format
    from tensorflow.core.framework import graph_pb2

    content = path.read_bytes()
    graph = graph_pb2.GraphDef()
    try:
        graph.ParseFromString(content)
    except message.DecodeError:
        graph = graph_pb2.GraphDef()
        try:
            text_format.Parse(content.decode("utf-8"), graph)
        except (text_format.ParseError, UnicodeDecodeError) as error:
            raise InvalidModelError(
                "this is no GraphDef, neither binary nor text", where=str(path), why=str(error)[:200]
            ) from error
    if not graph.node:
        raise InvalidModelError("the graph has no nodes", where=str(path))
    return graph


def compacted(graph: Any) -> Any:
    """A copy of ``graph``; protobuf gives the memory of deleted weights back only with the whole message."""
    copy = type(graph)()
    copy.CopyFrom(graph)
    return copy


def node_and_port(tensor: str) -> tuple[str, int]:
    """``"a/b:1"`` is ``("a/b", 1)``; a name without a port means port 0; ``^`` is dropped."""
    name, _, port = tensor.removeprefix("^").partition(":")
    return name, int(port or 0)


def checked_inputs(contract: Contract, path: Path) -> None:
    """Refuse inputs that no ONNX file can have.

    Raises:
        UsageError: the rank of an input is not known.
        ConversionError: an input is a resource or a variant.
    """
    for spec in contract.inputs:
        if spec.shape is None:
            raise UsageError(
                f"the rank of input '{spec.name}' is not known, and an ONNX file needs it",
                where=str(path),
                hint=f"say its shape: --shape {spec.name}=1,…",
            )
        if spec.dtype in ("resource", "variant"):
            raise ConversionError(
                f"input '{spec.name}' is a {spec.dtype}, which ONNX does not have",
                where=str(path),
                hint="freeze the model with its variables and tables inside, or cut with --inputs TENSOR",
            )


def with_contract(graph: Any, contract: Contract, path: Path) -> tuple[Any, list[str], list[str]]:
    """A new GraphDef of what the outputs need, between plain placeholders and plain identities.

    Args:
        graph: GraphDef without function calls at its top level; it is not kept or changed.
        contract: its tensors are ``node:port`` of the graph, its shapes are set on the placeholders.
        path: where the graph came from, for messages.

    Returns:
        The graph, and the names of the input and of the output nodes in the contract's order. The
        placeholder of an input that no output needs is not in the graph.

    Raises:
        UsageError: a tensor of the contract is not in the graph.
        ConversionError: the outputs need a placeholder that is no input of the contract.
    """
    from tensorflow.core.framework import graph_pb2

    nodes = {node.name: node for node in graph.node}
    for spec in (*contract.inputs, *contract.outputs):
        _present(spec, nodes, path)

    # Two inputs may be one tensor: the first feeds it, the other stays declared and unused.
    feeds: dict[tuple[str, int], str] = {}
    for index, spec in enumerate(contract.inputs):
        feeds.setdefault(node_and_port(spec.inner_name), f"{INPUT_PREFIX}{index}")
    needed = _needed(nodes, [node_and_port(spec.inner_name) for spec in contract.outputs], feeds)

    result = graph_pb2.GraphDef()
    result.versions.CopyFrom(graph.versions)
    result.library.CopyFrom(graph.library)
    for index, spec in enumerate(contract.inputs):
        _add_placeholder(result, f"{INPUT_PREFIX}{index}", spec, nodes)
    for node in graph.node:
        if node.name in needed:
            _add_node(result, node, feeds, needed)
    for index, spec in enumerate(contract.outputs):
        key = node_and_port(spec.inner_name)
        source = feeds[key] if key in feeds else f"{key[0]}:{key[1]}"
        identity = result.node.add(name=f"{OUTPUT_PREFIX}{index}", op="Identity", input=[source])
        identity.attr["T"].type = _dtype_enum(spec.dtype, spec.name)
    _refuse_undeclared(result, path)
    return (
        result,
        [f"{INPUT_PREFIX}{index}" for index in range(len(contract.inputs))],
        [f"{OUTPUT_PREFIX}{index}" for index in range(len(contract.outputs))],
    )


def _present(spec: TensorSpec, nodes: dict[str, Any], path: Path) -> None:
    name, _ = node_and_port(spec.inner_name)
    if name not in nodes:
        import difflib

        near = difflib.get_close_matches(name, nodes, n=3)
        raise UsageError(
            f"there is no node '{name}' in the graph (for '{spec.name}')",
            where=str(path),
            hint=f"did you mean {', '.join(near)}?" if near else "see 'edgeconv inspect' for its tensors",
        )


def _needed(
    nodes: dict[str, Any], outputs: Sequence[tuple[str, int]], feeds: dict[tuple[str, int], str]
) -> set[str]:
    """Names of the nodes that the outputs need, not going further than the feeds."""
    needed: set[str] = set()
    waiting = [key for key in outputs if key not in feeds]
    while waiting:
        name, _ = waiting.pop()
        if name in needed or name not in nodes:
            continue
        needed.add(name)
        for tensor in nodes[name].input:
            # A control dependency orders execution and carries no value: asserts, prints, updates.
            if not tensor.startswith("^") and node_and_port(tensor) not in feeds:
                waiting.append(node_and_port(tensor))
    return needed


def _add_placeholder(graph: Any, name: str, spec: TensorSpec, nodes: dict[str, Any]) -> None:
    node = graph.node.add(name=name, op="Placeholder")
    node.attr["dtype"].type = _dtype_enum(spec.dtype, spec.name)
    shape = node.attr["shape"].shape
    shape.SetInParent()
    for size in spec.shape or ():
        shape.dim.add(size=-1 if size is None else size)


def _add_node(graph: Any, node: Any, feeds: dict[tuple[str, int], str], needed: set[str]) -> None:
    copy = graph.node.add()
    copy.CopyFrom(node)
    copy.device = ""
    for attribute in ("_class", "_output_shapes"):
        # Colocation is meaningless in a file, and recorded shapes may contradict the contract's.
        if attribute in copy.attr:
            del copy.attr[attribute]
    inputs = []
    for tensor in node.input:
        key = node_and_port(tensor)
        if tensor.startswith("^"):
            if key[0] in needed:
                inputs.append(tensor)
        elif key in feeds:
            inputs.append(feeds[key])
        else:
            inputs.append(tensor)
    del copy.input[:]
    copy.input.extend(inputs)


def _refuse_undeclared(graph: Any, path: Path) -> None:
    for node in graph.node:
        if node.op != "Placeholder" or node.name.startswith(INPUT_PREFIX):
            continue
        from tensorflow import dtypes

        dtype = dtypes.as_dtype(node.attr["dtype"].type).name
        switch = dtype == "bool"
        raise ConversionError(
            f"the outputs need the placeholder '{node.name}' ({dtype}), which is no input of the model",
            where=str(path),
            why="it looks like a switch between training and inference" if switch else None,
            hint="freeze the model again with this switch set to False"
            if switch
            else f"declare it: --inputs …,{node.name}:0",
        )


def _dtype_enum(dtype: str, name: str) -> int:
    from tensorflow import dtypes

    try:
        return int(dtypes.as_dtype(dtype).as_datatype_enum)
    except TypeError as error:
        raise ConversionError(f"'{name}' has the type {dtype}, which TensorFlow does not have") from error
