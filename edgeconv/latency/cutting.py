"""A TFLite file that ends earlier: its first ops alone, every value that the rest would need as an output.

Nothing is written anew but three numbers and one list: the vector of operators gets a smaller length, that of
the outputs is replaced by one behind the end of the file, and signatures, whose outputs are gone, by none.
Weights stay where they are.
"""

from __future__ import annotations

import struct

from edgeconv.errors import ConversionError
from edgeconv.formats._flatbuffer import Buffer, FlatbufferError

_SUBGRAPHS, _SIGNATURES = 2, 7
_OUTPUTS, _OPERATORS = 2, 3
_OP_INPUTS, _OP_OUTPUTS = 1, 2
"""Slots of the published TFLite schema, version 3."""


def cut_after(data: bytes, ops: int) -> bytes:
    """The file with the first ``ops`` operators of its main graph only.

    Args:
        data: the file.
        ops: at least 1; as many as there are gives a file that computes the same.

    Raises:
        ConversionError: it is damaged, or has fewer operators.
    """
    try:
        return _cut(data, ops)
    except (FlatbufferError, struct.error) as error:
        raise ConversionError("the file cannot be cut", why=str(error)) from error


def _cut(data: bytes, ops: int) -> bytes:
    buffer = Buffer(data)
    root = buffer.root()
    subgraphs = root.tables(_SUBGRAPHS)
    graph = subgraphs[0] if subgraphs else None
    vector = graph.vector(_OPERATORS, 4) if graph is not None else None
    if graph is None or vector is None or not 1 <= ops <= vector.length or not graph.field(_OUTPUTS):
        raise FlatbufferError(f"it has no {ops} operators")
    operators = graph.tables(_OPERATORS)
    made = {t for each in operators[:ops] for t in each.numbers(_OP_OUTPUTS, "i") if t >= 0}
    wanted = {t for each in operators[ops:] for t in each.numbers(_OP_INPUTS, "i")}
    wanted |= set(graph.numbers(_OUTPUTS, "i"))
    outputs = sorted(made & wanted) or sorted(operators[ops - 1].numbers(_OP_OUTPUTS, "i"))
    if ops == vector.length:
        outputs = list(graph.numbers(_OUTPUTS, "i"))
    changed = bytearray(data)
    struct.pack_into("<I", changed, vector.position - 4, ops)
    signatures = root.vector(_SIGNATURES, 4)
    if signatures is not None:
        struct.pack_into("<I", changed, signatures.position - 4, 0)
    changed += bytes(-len(changed) % 16)
    field = graph.field(_OUTPUTS)
    struct.pack_into("<I", changed, field, len(changed) - field)
    changed += struct.pack(f"<I{len(outputs)}i", len(outputs), *outputs)
    return bytes(changed + bytes(-len(changed) % 16))
