"""Reads an ORT file into the plain graph that ONNX files are described by.

The slots are those of ONNX Runtime's published schema of the ORT format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeconv.formats._flatbuffer import Buffer, FlatbufferError, Table
from edgeconv.formats._onnx_graph import Constant, Dimensions, Graph, Node, element_type, scalar_of
from edgeconv.formats._onnx_wire import ELEMENT_BITS

IDENTIFIER = b"ORTM"
NEWEST_FORMAT = 6
OLDEST_LOADABLE_FORMAT = 5
_MAX_DEPTH = 50
_MAX_DIMENSION = 1 << 40
_TENSOR_TYPE = 1
_VALUE, _PARAMETER = 1, 2
# Codes of an attribute's type, and the slot that holds its value.
_FLOAT, _INTEGER, _STRING, _INTEGERS = 1, 2, 3, 7


class FutureVersionError(ValueError):
    """The version of the ORT format is one that this release does not know."""


@dataclass(frozen=True, slots=True)
class OrtTensorType:
    """Element type and shape of an input or output; ``names`` holds the names of free dimensions."""

    dtype: str
    dims: Dimensions | None
    names: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class OrtModel:
    """What is needed of an ORT file; the weights stay in the file."""

    format_version: str
    ir_version: int
    opsets: dict[str, int]
    producer: str | None
    domain: str | None
    model_version: int
    description: str | None
    properties: dict[str, str]
    graph: Graph
    types: dict[str, OrtTensorType]
    providers: tuple[str, ...]
    external: bool


class _Reader:
    def __init__(self) -> None:
        self.types: dict[str, OrtTensorType] = {}
        self.providers: set[str] = set()
        self.external = False

    def graph(self, table: Table, depth: int) -> Graph:
        if depth > _MAX_DEPTH:
            raise FlatbufferError(f"graphs are nested more than {_MAX_DEPTH} deep")
        constants = {}
        for tensor in table.tables(0):
            constants[tensor.string(0) or ""] = self.constant(tensor)
        for sparse in table.tables(7):
            values = sparse.table(0)
            if values is not None:
                constants[values.string(0) or ""] = self.constant(values)
        types: dict[str, tuple[str, Dimensions | None]] = {}
        for info in table.tables(1):
            name, kind = info.string(0) or "", _tensor_type(info)
            types[name] = (kind.dtype, kind.dims)
            if depth == 0:
                self.types[name] = kind
        nodes = tuple(self.node(node, depth) for node in table.tables(2))
        return Graph(nodes, tuple(table.strings(5)), tuple(table.strings(6)), constants, types)

    def node(self, table: Table, depth: int) -> Node:
        attributes: dict[str, Any] = {}
        subgraphs: dict[str, Graph] = {}
        for attribute in table.tables(10):
            name, kind = attribute.string(0) or "", attribute.integer(2)
            if kind == _INTEGER:
                attributes[name] = attribute.integer(4, "q")
            elif kind == _STRING:
                attributes[name] = attribute.string(5) or ""
            elif kind == _INTEGERS:
                attributes[name] = attribute.numbers(9, "q")
            body = attribute.table(7)
            bodies = [body] if body is not None else []
            for number, one in enumerate([*bodies, *attribute.tables(12)]):
                subgraphs[f"{name}.{number}"] = self.graph(one, depth + 1)
        if provider := table.string(7):
            self.providers.add(provider)
        return Node(
            op=table.string(5) or "",
            domain=table.string(2) or "",
            name=table.string(0) or "",
            inputs=tuple(table.strings(8)),
            outputs=tuple(table.strings(9)),
            attributes=attributes,
            subgraphs=subgraphs,
            since=table.integer(3),
        )

    def constant(self, table: Table) -> Constant:
        dims = table.numbers(2, "q")
        if any(not 0 <= dimension < _MAX_DIMENSION for dimension in dims):
            raise FlatbufferError(f"tensor {table.string(0)!r} has the shape {list(dims)}")
        code = table.integer(3)
        elements = 1
        for dimension in dims:
            elements *= dimension
        raw = table.vector(4, 1)
        self.external |= table.integer(6, "q", -1) >= 0
        bits = ELEMENT_BITS.get(code)
        if raw is not None and bits is not None and raw.length != (elements * bits + 7) // 8:
            raise FlatbufferError(
                f"tensor {table.string(0)!r} has {raw.length} bytes where its shape and type need "
                f"{(elements * bits + 7) // 8}"
            )
        dtype = element_type(code)
        scalar: int | float | None = None
        if raw is not None and elements == 1:
            scalar = scalar_of(dtype, bytes(table.buffer.data[raw.position : raw.position + raw.length]))
        return Constant(dtype, dims, scalar)


def _tensor_type(info: Table) -> OrtTensorType:
    kind = info.table(2)
    if kind is None:
        return OrtTensorType("undefined", None, ())
    which = kind.integer(1, "B")
    value = kind.table(2)
    if which != _TENSOR_TYPE or value is None:
        return OrtTensorType({2: "sequence", 3: "map"}.get(which, "undefined"), None, ())
    dtype = element_type(value.integer(0))
    shape = value.table(1)
    if shape is None:
        return OrtTensorType(dtype, None, ())
    dims: list[int | None] = []
    names: list[str | None] = []
    for dimension in shape.tables(0):
        said = dimension.table(0)
        code = said.integer(0, "b") if said is not None else 0
        dims.append(said.integer(1, "q") if said is not None and code == _VALUE else None)
        names.append(said.string(2) if said is not None and code == _PARAMETER else None)
    if any(one is not None and not 0 <= one < _MAX_DIMENSION for one in dims):
        raise FlatbufferError(f"tensor {info.string(0)!r} has the shape {dims}")
    return OrtTensorType(dtype, tuple(dims), tuple(names))


def read_model(data: Buffer) -> OrtModel:
    """Read the tables of an ORT file.

    Raises:
        FlatbufferError: it is damaged.
        FutureVersionError: its format version is newer than this release knows.
    """
    root = data.root()
    version = root.string(0)
    if not version or not version.isascii() or not version.isdigit() or len(version) > 9:
        raise FlatbufferError(f"its format version is {version!r}")
    if int(version) > NEWEST_FORMAT:
        raise FutureVersionError(version)
    model = root.table(1)
    graph = model.table(7) if model is not None else None
    if model is None or graph is None:
        raise FlatbufferError("it has no graph")
    reader = _Reader()
    plain = reader.graph(graph, 0)
    missing = [name for name in (*plain.inputs, *plain.outputs) if name not in reader.types]
    if missing:
        raise FlatbufferError(f"nothing says what {missing[0]!r} is")
    produced = f"{model.string(2) or ''} {model.string(3) or ''}".strip()
    return OrtModel(
        format_version=version,
        ir_version=model.integer(0, "q"),
        opsets={entry.string(0) or "ai.onnx": entry.integer(1, "q") for entry in model.tables(1)},
        producer=produced or None,
        domain=model.string(4),
        model_version=model.integer(5, "q"),
        description=model.string(6) or model.string(8),
        properties={entry.string(0) or "": entry.string(1) or "" for entry in model.tables(9)},
        graph=plain,
        types=reader.types,
        providers=tuple(sorted(reader.providers)),
        external=reader.external,
    )
