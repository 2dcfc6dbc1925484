"""Giving a TFLite flatbuffer a signature without taking it apart.

before:  [header][Model ─▶ subgraphs, buffers, …][…]
after:   [header][Model' ─▶ subgraphs, buffers, …, signature_defs][signature][old file, its root unused]

Offsets in a flatbuffer are relative and point forward, so a new root in front of the old file can refer
to all that the old root refers to. Nothing is parsed into objects or copied but the file itself once, in
contrast to reading and packing the object tree (five copies of the weights).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from edgeconv.formats._flatbuffer import Buffer, Table

_SIGNATURE_SLOT = 7
_ALIGNMENT = 64
Names = Sequence[tuple[str, int]]
"""Logical name and tensor index, in order."""


def signature_prefix(model: bytes, key: str, inputs: Names, outputs: Names, subgraph: int = 0) -> bytes:
    """The bytes to write in front of ``model``, so that both together are the model with that signature.

    Args:
        model: a TFLite file; signatures that it has are replaced.
        key: name of the signature.
        inputs: logical names and indices of tensors in ``subgraph``.
        outputs: the same for outputs.
        subgraph: the subgraph that the signature calls.

    Raises:
        FlatbufferError: ``model`` is damaged.
    """
    root = Buffer(model).root()
    slots = max(_SIGNATURE_SLOT + 1, _slots(root))
    writer = _Writer()
    table, fields = writer.table(slots, [s for s in range(slots) if root.field(s) or s == _SIGNATURE_SLOT])
    writer.point(0, table)
    definition_field = fields[_SIGNATURE_SLOT]
    vector = writer.vector(1)
    writer.point(definition_field, vector)
    definition, parts = writer.table(5, [0, 1, 2, 4])
    writer.point(vector + 4, definition)
    for slot, names in ((0, inputs), (1, outputs)):
        maps = writer.vector(len(names))
        writer.point(parts[slot], maps)
        for position, (name, index) in enumerate(names):
            entry, entry_fields = writer.table(2, [0, 1])
            writer.point(maps + 4 + 4 * position, entry)
            writer.put(entry_fields[1], index)
            writer.point(entry_fields[0], writer.string(name))
    writer.point(parts[2], writer.string(key))
    writer.put(parts[4], subgraph)
    writer.align(_ALIGNMENT)
    begin = len(writer.data)
    for slot, field in fields.items():
        if slot == 0:
            writer.put(field, root.integer(0, "I"))
        elif slot != _SIGNATURE_SLOT:
            old = root.field(slot)
            writer.point(field, begin + old + root.buffer.unsigned(old))
    writer.data[4:8] = model[4:8]
    return bytes(writer.data)


def _slots(table: Table) -> int:
    vtable = table.position - int(table.buffer.unpack(struct.Struct("<i"), table.position))
    return (int(table.buffer.unpack(struct.Struct("<H"), vtable)) - 4) // 2


class _Writer:
    """Appends flatbuffer parts; all fields are 4 bytes wide, which is all that is needed here."""

    def __init__(self) -> None:
        self.data = bytearray(8)

    def align(self, to: int) -> None:
        self.data.extend(b"\0" * (-len(self.data) % to))

    def table(self, slots: int, present: Sequence[int]) -> tuple[int, dict[int, int]]:
        """An empty table: its position, and the position of each field by slot."""
        self.align(4)
        vtable = len(self.data)
        offsets = {slot: 4 + 4 * number for number, slot in enumerate(present)}
        size = 4 + 4 * len(present)
        self.data += struct.pack(
            f"<HH{slots}H", 4 + 2 * slots, size, *(offsets.get(slot, 0) for slot in range(slots))
        )
        self.align(4)
        position = len(self.data)
        self.data += struct.pack("<i", position - vtable) + b"\0" * (size - 4)
        return position, {slot: position + offset for slot, offset in offsets.items()}

    def vector(self, length: int) -> int:
        self.align(4)
        position = len(self.data)
        self.data += struct.pack("<I", length) + b"\0" * (4 * length)
        return position

    def string(self, text: str) -> int:
        self.align(4)
        position = len(self.data)
        encoded = text.encode("utf-8")
        self.data += struct.pack("<I", len(encoded)) + encoded + b"\0"
        return position

    def put(self, position: int, value: int) -> None:
        struct.pack_into("<I", self.data, position, value)

    def point(self, position: int, target: int) -> None:
        self.put(position, target - position)
