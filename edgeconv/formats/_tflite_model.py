"""Reads a TFLite file into plain records, checking every index on the way.

The slots are those of the published TFLite schema, version 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeconv.formats._flatbuffer import Buffer, FlatbufferError, Table
from edgeconv.formats._tflite_names import element_type, operator_name
from edgeconv.formats.base import Quantization

SCHEMA_VERSION = 3
IDENTIFIER = b"TFL3"

# Options whose operators run another subgraph, by the type code of their union: slots of the indices.
_CALLS = {92: (0, 1), 93: (0, 1), 103: (0,), 16: (0,)}
_CALLS_2 = {15: (0, 1), 21: (1,)}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a subgraph.

    Attributes:
        shape: dimensions as stored, where a free one is 1.
        signature: dimensions with -1 for a free one; ``None`` where not even the rank is known.
        buffer: index of the buffer with its constant data.
        constant: whether it has data in the file.
        scales: number of quantization scales; 0 where it is not quantized.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    signature: tuple[int, ...] | None
    buffer: int
    constant: bool
    variable: bool
    sparse: bool
    scales: int
    table: Table

    @property
    def elements(self) -> int:
        """Number of elements, free dimensions counted as stored."""
        return math.prod(self.shape)

    def quantization(self) -> Quantization | None:
        """Scale, zero point and axis, read anew from the file; ``None`` where not quantized."""
        table = self.table.table(4)
        if table is None or not self.scales:
            return None
        scale = tuple(float(value) for value in table.numbers(2, "f"))
        zero_point = tuple(int(value) for value in table.numbers(3, "q")) or (0,) * len(scale)
        return Quantization(scale, zero_point, table.integer(6) if len(scale) > 1 else None)

    def quantized_axis(self) -> int:
        """The dimension along which the scales vary."""
        table = self.table.table(4)
        return table.integer(6) if table is not None else 0


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator: indices of its tensors (-1 for an omitted one) and of the subgraphs it runs."""

    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table | None
    subgraphs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Subgraph:
    """One subgraph: tensors, and operators in the order they run in."""

    name: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]


@dataclass(frozen=True, slots=True)
class SignatureDef:
    """A named callable: logical name and tensor index of each input and output."""

    name: str
    subgraph: int
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Span:
    """Where the data of a buffer lies in the file."""

    position: int
    length: int


@dataclass(frozen=True, slots=True)
class TfliteModel:
    """All that is needed of a TFLite file; the weights stay in the file."""

    version: int
    description: str | None
    subgraphs: tuple[Subgraph, ...]
    spans: tuple[Span, ...]
    signatures: tuple[SignatureDef, ...]
    metadata: dict[str, int]
    external_files: tuple[str, ...]
    data: Buffer

    def content(self, buffer: int, limit: int = 1 << 20) -> bytes:
        """The first ``limit`` bytes of a buffer."""
        span = self.spans[buffer]
        return bytes(self.data.data[span.position : span.position + min(span.length, limit)])

    def operators(self) -> Iterator[tuple[Subgraph, Operator]]:
        """Every operator of every subgraph."""
        for subgraph in self.subgraphs:
            for operator in subgraph.operators:
                yield subgraph, operator


def read_model(data: Buffer) -> TfliteModel:
    """Read the tables of a TFLite file.

    Raises:
        FlatbufferError: it is damaged, or an index in it leads nowhere.
        FutureVersionError: its schema is newer than version 3.
    """
    root = data.root()
    version = root.integer(0, "I")
    if version > SCHEMA_VERSION:
        raise FutureVersionError(version)
    if version < SCHEMA_VERSION:
        raise FlatbufferError(f"it says schema version {version} where the identifier says 3")
    codes = [_operator_code(table) for table in root.tables(1)]
    spans = tuple(_span(table, data) for table in root.tables(4))
    subgraph_tables = root.tables(2)
    if not subgraph_tables:
        raise FlatbufferError("it holds no subgraph")
    subgraphs = tuple(_subgraph(table, codes, spans, len(subgraph_tables)) for table in subgraph_tables)
    metadata = {}
    for table in root.tables(6):
        buffer = table.integer(1, "I")
        _check_index(buffer, len(spans), "buffer of the metadata")
        metadata[table.string(0) or ""] = buffer
    return TfliteModel(
        version=version,
        description=root.string(3),
        subgraphs=subgraphs,
        spans=spans,
        signatures=tuple(_signature(table, subgraphs) for table in root.tables(7)),
        metadata=metadata,
        external_files=tuple(name for table in root.tables(8) if (name := table.string(0))),
        data=data,
    )


class FutureVersionError(ValueError):
    """The schema version of the file is one that this release does not know."""

    def __init__(self, version: int) -> None:
        super().__init__(f"schema version {version}")
        self.version = version


def _operator_code(table: Table) -> tuple[str, int]:
    # Codes above 127 did not fit into the first field, which then holds a placeholder: the greater counts.
    code = max(table.integer(0, "b"), table.integer(3, "i"))
    version = table.integer(2, "i", 1)
    if code != 32:
        return operator_name(code), version
    custom = table.string(1) or "?"
    if custom.startswith("Flex"):
        return f"flex:{custom[4:]}", version
    return f"custom:{custom}", version


def _span(table: Table, data: Buffer) -> Span:
    inline = table.vector(0, 1)
    if inline is not None and inline.length:
        return Span(inline.position, inline.length)
    # Files over 2 GB keep the data behind the tables; an offset of 0 or 1 says that there is none.
    offset, size = table.integer(1, "Q"), table.integer(2, "Q")
    if offset <= 1 or not size:
        return Span(0, 0)
    if offset + size > data.size:
        raise FlatbufferError(f"a buffer ends at byte {offset + size}, the file at {data.size}")
    return Span(offset, size)


def _subgraph(
    table: Table, codes: Sequence[tuple[str, int]], spans: Sequence[Span], subgraphs: int
) -> Subgraph:
    tensor_tables = table.tables(0)
    # Files of older converters never say that a rank is known, so there a missing shape is a scalar.
    says_rank = any(tensor.boolean(8) for tensor in tensor_tables)
    tensors = tuple(_tensor(tensor, spans, says_rank) for tensor in tensor_tables)
    inputs, outputs = table.numbers(1, "i"), table.numbers(2, "i")
    for index in (*inputs, *outputs):
        _check_index(index, len(tensors), "tensor of a subgraph's inputs or outputs")
    operators = tuple(_operator(one, codes, len(tensors), subgraphs) for one in table.tables(3))
    return Subgraph(table.string(4) or "", tensors, inputs, outputs, operators)


def _tensor(table: Table, spans: Sequence[Span], says_rank: bool) -> Tensor:
    shape = table.numbers(0, "i")
    signature: tuple[int, ...] | None = table.numbers(7, "i") or shape
    if any(dimension < 0 for dimension in shape):
        raise FlatbufferError(f"tensor {table.string(3)!r} has the shape {list(shape)}")
    if signature is not None and len(signature) != len(shape):
        raise FlatbufferError(f"tensor {table.string(3)!r} has two shapes of different rank")
    if not shape and says_rank and not table.boolean(8):
        signature = None
    buffer = table.integer(2, "I")
    _check_index(buffer, len(spans), "buffer of a tensor")
    quantization = table.table(4)
    scales = quantization.vector(2, 4) if quantization is not None else None
    return Tensor(
        name=table.string(3) or "",
        dtype=element_type(table.integer(1, "b")),
        shape=shape,
        signature=signature,
        buffer=buffer,
        constant=spans[buffer].length > 0 or table.integer(10, "I") != 0,
        variable=table.boolean(5),
        sparse=table.table(6) is not None,
        scales=scales.length if scales is not None else 0,
        table=table,
    )


def _operator(table: Table, codes: Sequence[tuple[str, int]], tensors: int, subgraphs: int) -> Operator:
    code = table.integer(0, "I")
    _check_index(code, len(codes), "operator code")
    name, version = codes[code]
    inputs, outputs = table.numbers(1, "i"), table.numbers(2, "i")
    for index in (*inputs, *outputs):
        # -1 stands for an optional input that is left out.
        if index != -1:
            _check_index(index, tensors, f"tensor of {name}")
    options = table.table(4)
    kind, slots = options, _CALLS.get(table.integer(3, "B"), ())
    if kind is None:
        kind, slots = table.table(12), _CALLS_2.get(table.integer(11, "B"), ())
    called = tuple(kind.integer(slot) for slot in slots) if kind is not None else ()
    for index in called:
        _check_index(index, subgraphs, f"subgraph of {name}")
    return Operator(name, version, inputs, outputs, options, called)


def _signature(table: Table, subgraphs: Sequence[Subgraph]) -> SignatureDef:
    index = table.integer(4, "I")
    _check_index(index, len(subgraphs), "subgraph of a signature")
    tensors = len(subgraphs[index].tensors)

    def entries(slot: int) -> tuple[tuple[str, int], ...]:
        found = tuple((one.string(0) or "", one.integer(1, "I")) for one in table.tables(slot))
        for _, tensor in found:
            _check_index(tensor, tensors, "tensor of a signature")
        return found

    return SignatureDef(table.string(2) or "", index, entries(0), entries(1))


def _check_index(index: int, length: int, of_what: str) -> None:
    if not 0 <= index < length:
        raise FlatbufferError(f"{of_what}: index {index} of {length}")
