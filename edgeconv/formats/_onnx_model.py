"""Reads an ONNX file without its weights, and turns it into the plain graph that is described."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from edgeconv.errors import InvalidModelError
from edgeconv.formats._flatbuffer import map_file
from edgeconv.formats._onnx_graph import (
    DEFAULT_DOMAINS,
    Constant,
    Dimensions,
    Graph,
    Node,
    element_type,
    scalar_of,
)
from edgeconv.formats._onnx_wire import ELEMENT_BITS, KEPT_BYTES, WireError, without_weights

COPY_AGAIN = "copy or download the file again and compare its size with the original"


def load_model(path: Path) -> Any:
    """The ``onnx.ModelProto`` of a file without the values of large tensors.

    Raises:
        InvalidModelError: truncated, corrupt, incomplete, or of an IR version from the future.
    """
    from google.protobuf.message import DecodeError

    where = str(path)
    try:
        data = map_file(path)
        slim = without_weights(data)
    except OSError as error:
        raise InvalidModelError("cannot read the file", where=where, why=str(error)) from error
    except WireError as error:
        raise _damaged(path, str(error)) from error

    import onnx

    model = onnx.ModelProto()
    try:
        model.ParseFromString(slim)
    except DecodeError as error:
        raise _damaged(path, str(error).strip() or "it is no protobuf message") from error
    if model.ir_version > onnx.IR_VERSION:
        raise InvalidModelError(
            f"this ONNX model has IR version {model.ir_version}, this release reads up to {onnx.IR_VERSION}",
            where=where,
            hint=f"upgrade edgeconv, or save the model with an IR version of at most {onnx.IR_VERSION}",
        )
    if model.ir_version < 1:
        raise _damaged(path, "it does not say its IR version")
    if not model.HasField("graph"):
        raise _damaged(path, "it has no graph")
    if model.ir_version >= 3 and not model.opset_import:
        raise _damaged(path, "it does not say which opset it uses")
    _check_names(path, model)
    _check_domains(path, model)
    for tensor in all_tensors(model):
        _check_tensor(path, tensor)
    return model


def _damaged(path: Path, why: str) -> InvalidModelError:
    return InvalidModelError(
        "the ONNX model is truncated or corrupt", where=str(path), why=why, hint=COPY_AGAIN
    )


def _check_names(path: Path, model: Any) -> None:
    # The protobuf library hands a string that is no UTF-8 over as bytes.
    def check(*names: str | bytes) -> None:
        for name in names:
            if isinstance(name, bytes):
                raise _damaged(path, f"the name {name[:60]!r} is no UTF-8")

    check(*(entry.domain for entry in model.opset_import))
    nodes = [*all_nodes(model.graph)]
    for function in model.functions:
        check(function.name, function.domain)
        nodes.extend(function.node)
    for graph in all_graphs(model.graph):
        check(graph.name)
        check(*(info.name for info in (*graph.input, *graph.output, *graph.value_info)))
    for node in nodes:
        check(node.op_type, node.domain, node.name, *node.input, *node.output)
        check(*(attribute.name for attribute in node.attribute))
    for tensor in all_tensors(model):
        check(tensor.name, *(text for entry in tensor.external_data for text in (entry.key, entry.value)))


def text_of(text: str | bytes) -> str:
    """A free text of a model, in which bytes that are no UTF-8 are escaped."""
    return text if isinstance(text, str) else text.decode("utf-8", "backslashreplace")


def _check_domains(path: Path, model: Any) -> None:
    imported = {_plain(entry.domain) for entry in model.opset_import}
    if not imported:
        return
    for node in all_nodes(model.graph):
        if _plain(node.domain) not in imported:
            raise _damaged(
                path, f"op {node.op_type} is of the domain '{node.domain}', whose opset is not imported"
            )


def _plain(domain: str) -> str:
    return "" if domain in DEFAULT_DOMAINS else str(domain)


def _check_tensor(path: Path, tensor: Any) -> None:
    if any(dimension < 0 for dimension in tensor.dims):
        raise _damaged(path, f"tensor '{tensor.name}' has the shape {list(tensor.dims)}")
    bits = ELEMENT_BITS.get(tensor.data_type)
    if tensor.raw_data and bits is not None and tensor.data_location != 1:
        expected = (_elements(tensor.dims) * bits + 7) // 8
        if len(tensor.raw_data) != expected:
            raise _damaged(
                path, f"tensor '{tensor.name}' has {len(tensor.raw_data)} bytes instead of {expected}"
            )


def _elements(dims: Iterable[int]) -> int:
    total = 1
    for dimension in dims:
        total *= dimension
    return total


def all_nodes(graph: Any) -> Iterator[Any]:
    """Every ``NodeProto`` of a graph, those of subgraphs included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in _bodies(attribute):
                yield from all_nodes(body)


def all_graphs(graph: Any) -> Iterator[Any]:
    """A graph and every ``GraphProto`` within it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for body in _bodies(attribute):
                yield from all_graphs(body)


def _bodies(attribute: Any) -> list[Any]:
    found = list(attribute.graphs)
    if attribute.HasField("g"):
        found.append(attribute.g)
    return found


def all_tensors(model: Any) -> Iterator[Any]:
    """Every ``TensorProto`` of a model: of the graph, its subgraphs, attributes and functions."""
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)


def _tensors_of_graph(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
            for body in _bodies(attribute):
                yield from _tensors_of_graph(body)


def plain_graph(graph: Any) -> Graph:
    """The plain records of a ``GraphProto``; Constant nodes are among the constants."""
    constants = {tensor.name: constant_of(tensor) for tensor in graph.initializer}
    for sparse in graph.sparse_initializer:
        constants[sparse.values.name] = Constant(
            element_type(sparse.values.data_type), tuple(sparse.values.dims)
        )
    types: dict[str, tuple[str, Dimensions | None]] = {}
    for info in (*graph.value_info, *graph.input, *graph.output):
        dtype, dims = type_of(info.type)
        if dims is not None or info.name not in types:
            types[info.name] = (dtype, dims)
    body = nodes_graph(graph.node)
    return Graph(
        body.nodes,
        tuple(info.name for info in graph.input),
        tuple(info.name for info in graph.output),
        {**constants, **body.constants},
        types,
    )


def nodes_graph(protos: Any) -> Graph:
    """The plain records of a list of ``NodeProto``, without inputs, outputs and types."""
    constants: dict[str, Constant] = {}
    nodes = []
    for node in protos:
        if node.op_type == "Constant" and node.output:
            for attribute in node.attribute:
                if attribute.name == "value" and attribute.HasField("t"):
                    constants[node.output[0]] = constant_of(attribute.t)
        nodes.append(_plain_node(node))
    return Graph(tuple(nodes), (), (), constants, {})


def _plain_node(node: Any) -> Node:
    attributes: dict[str, Any] = {}
    subgraphs: dict[str, Graph] = {}
    for attribute in node.attribute:
        for number, body in enumerate(_bodies(attribute)):
            subgraphs[f"{attribute.name}.{number}"] = plain_graph(body)
        # Codes of AttributeProto: 1 float, 2 integer, 3 bytes, 7 integers.
        if attribute.type == 1:
            attributes[attribute.name] = attribute.f
        elif attribute.type == 2:
            attributes[attribute.name] = attribute.i
        elif attribute.type == 3:
            attributes[attribute.name] = attribute.s[:KEPT_BYTES].decode("utf-8", "replace")
        elif attribute.type == 7:
            attributes[attribute.name] = tuple(attribute.ints[:64])
    return Node(
        op=node.op_type,
        domain=node.domain,
        name=node.name,
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        attributes=attributes,
        subgraphs=subgraphs,
    )


def constant_of(tensor: Any) -> Constant:
    """The record of a ``TensorProto``; the value only of a tensor of one element."""
    dtype = element_type(tensor.data_type)
    scalar: int | float | None = None
    if _elements(tensor.dims) == 1 and tensor.data_location != 1:
        stored = [
            *tensor.float_data[:2], *tensor.double_data[:2], *tensor.int32_data[:2], *tensor.int64_data[:2]
        ]  # fmt: skip
        scalar = scalar_of(dtype, tensor.raw_data)
        # 16-bit floats lie as bit patterns in int32_data; nothing here needs their values.
        if scalar is None and len(stored) == 1 and dtype not in ("float16", "bfloat16"):
            scalar = stored[0]
    return Constant(dtype, tuple(tensor.dims), scalar)


def type_of(kind: Any) -> tuple[str, Dimensions | None]:
    """Element type and shape of a ``TypeProto``; what is no tensor is named (``sequence``), without shape."""
    which = kind.WhichOneof("value")
    if which == "optional_type":
        return type_of(kind.optional_type.elem_type)
    if which not in ("tensor_type", "sparse_tensor_type"):
        return (which or "undefined").removesuffix("_type"), None
    tensor = getattr(kind, which)
    if not tensor.HasField("shape"):
        return element_type(tensor.elem_type), None
    dims = tuple(
        int(dimension.dim_value) if dimension.HasField("dim_value") and dimension.dim_value >= 0 else None
        for dimension in tensor.shape.dim
    )
    return element_type(tensor.elem_type), dims
