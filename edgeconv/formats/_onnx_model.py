"""Reads an ONNX file without its weights, and turns it into the plain graph that is described."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
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
)
from edgeconv.formats._onnx_wire import ELEMENT_BITS, KEPT_BYTES, WireError, without_weights

_COPY_AGAIN = "copy or download the file again and compare its size with the original"
_INTEGERS = {6: "i", 7: "q"}
_STRING = 8


@dataclass(frozen=True, slots=True)
class ExternalTensor:
    """A tensor whose values lie in another file, as the model names it."""

    name: str
    location: str
    offset: int
    length: int | None


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
    _check_domains(path, model)
    for tensor in all_tensors(model):
        _check_tensor(path, tensor)
    return model


def _damaged(path: Path, why: str) -> InvalidModelError:
    return InvalidModelError(
        "the ONNX model is truncated or corrupt", where=str(path), why=why, hint=_COPY_AGAIN
    )


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


def external_tensors(model: Any) -> list[ExternalTensor]:
    """All tensors of a model whose values lie in other files."""
    found = []
    for tensor in all_tensors(model):
        if tensor.data_location != 1:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        found.append(
            ExternalTensor(
                name=tensor.name,
                location=entries.get("location", ""),
                offset=_number(entries.get("offset")) or 0,
                length=_number(entries.get("length")),
            )
        )
    return found


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 20 else None


def external_files(path: Path, model: Any) -> list[Path]:
    """The files with external data of a model, each checked to lie beside it.

    Raises:
        InvalidModelError: a name leads out of the model's folder, a file is not there or is too short.
    """
    files: dict[str, Path] = {}
    needed: dict[str, tuple[int, str]] = {}
    for tensor in external_tensors(model):
        location = tensor.location
        if location not in files:
            files[location] = _beside(path, location, tensor.name)
            needed[location] = (0, tensor.name)
        end = tensor.offset + (tensor.length or 0)
        if end > needed[location][0]:
            needed[location] = (end, tensor.name)
    for location, file in files.items():
        end, name = needed[location]
        size = file.stat().st_size
        if size < end:
            raise InvalidModelError(
                f"the external data file is {size} bytes long, tensor '{name}' ends at byte {end}",
                where=str(file),
                hint=_COPY_AGAIN,
            )
    return sorted(set(files.values()))


def _beside(path: Path, location: str, tensor: str) -> Path:
    windows = PureWindowsPath(location)
    escapes = (
        not location
        or "\0" in location
        or windows.is_absolute()
        or bool(windows.drive)
        or location.startswith(("/", "\\"))
        or ".." in windows.parts
    )
    file = path.parent / location if not escapes else path
    if not escapes:
        try:
            # A link must not lead out of the folder either.
            escapes = not file.resolve().is_relative_to(path.parent.resolve())
        except (OSError, ValueError, RuntimeError):
            escapes = True
    if escapes:
        raise InvalidModelError(
            f"tensor '{tensor}' takes its data from {location!r}, which is not beside the model",
            where=str(path),
            hint="save the model again with its external data in the model's own folder",
        )
    try:
        there = file.is_file()
    except OSError:
        there = False
    if not there:
        raise InvalidModelError(
            f"the external data file '{location}' is not here",
            where=str(path),
            why=f"tensor '{tensor}' is stored in it",
            hint=f"copy '{location}' into the folder of the model",
        )
    return file


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
    nodes = []
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            for attribute in node.attribute:
                if attribute.name == "value" and attribute.HasField("t"):
                    constants[node.output[0]] = constant_of(attribute.t)
        nodes.append(_plain_node(node))
    return Graph(
        tuple(nodes),
        tuple(info.name for info in graph.input),
        tuple(info.name for info in graph.output),
        constants,
        types,
    )


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
    """The record of a ``TensorProto``; values only of integer tensors of up to 64 elements."""
    elements = _elements(tensor.dims)
    integers: tuple[int, ...] | None = None
    kind = _INTEGERS.get(tensor.data_type)
    if kind is not None and elements <= 64 and tensor.data_location != 1:
        if len(tensor.raw_data) == elements * struct.calcsize("<" + kind):
            integers = struct.unpack(f"<{elements}{kind}", tensor.raw_data)
        else:
            stored = tuple(tensor.int64_data if kind == "q" else tensor.int32_data)
            integers = stored if len(stored) == elements else None
    return Constant(element_type(tensor.data_type), tuple(tensor.dims), integers)


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
