"""A light look at the beginning of a protocol buffer: which message is this?

Protocol buffers carry no magic number. What tells them apart is the first fields, their numbers and
what is in them; so the head is walked as wire format, without knowing any message class.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_OP_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_>.\-]{0,200}\Z")
_VERSION = re.compile(rb"[\w.+\-]{1,64}\Z")
_COMMENT = re.compile(rb"(?:\s|#[^\n]*(?:\n|\Z))+")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message: ``value`` of a varint, or ``payload`` as far as the head holds it."""

    number: int
    kind: int
    value: int
    payload: bytes
    length: int

    @property
    def whole(self) -> bool:
        """Whether the head holds all of the payload."""
        return len(self.payload) == self.length


def walk(data: bytes) -> Iterator[Field]:
    """The fields of a message in order, until the data ends.

    Raises:
        ValueError: this is no wire format.
    """
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        if not 0 < number < 2**29:
            raise ValueError("no field number")
        if kind == VARINT:
            value, position = _varint(data, position)
            yield Field(number, kind, value, b"", 0)
            continue
        if kind == BYTES:
            length, position = _varint(data, position)
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
        else:
            raise ValueError("no wire type")
        yield Field(number, kind, 0, data[position : position + length], length)
        position += length


def looks_like_graph_def(head: bytes, size: int) -> float:
    """How sure it is that a file of ``size`` bytes that begins with ``head`` is a binary GraphDef.

    Nodes (1) usually come first; what some encoders write has the fields in the opposite order, so that
    versions (4) and library (2) come before them.
    """
    fields = _walk_head(head)
    if not fields or any(f.number > 5 for f in fields) or fields[0].length > size:
        return 0.0
    nodes = [f for f in fields if f.number == 1]
    if nodes:
        return 0.9 if nodes[0].kind == BYTES and _is_node(nodes[0]) else 0.0
    libraries = [f for f in fields if f.number == 2 and f.kind == BYTES]
    if libraries:
        return 0.5 if _is_library(libraries[0]) else 0.0
    # A graph without nodes is legal: only versions, with producer (1) and oldest consumer (2).
    versions = _walk_head(fields[0].payload) if fields[0].number == 4 else []
    return 0.4 if versions and all(f.kind == VARINT and f.number in (1, 2) for f in versions) else 0.0


def looks_like_saved_model(head: bytes, size: int) -> float:
    """How sure it is that a file of ``size`` bytes that begins with ``head`` is a binary SavedModel."""
    fields = _walk_head(head)
    # The schema version comes first, and is left out where it is 0.
    if fields and fields[0].number == 1 and fields[0].kind == VARINT and fields[0].value <= 99:
        del fields[0]
    if not fields or fields[0].number != 2 or fields[0].kind != BYTES or fields[0].length > size:
        return 0.0
    return 0.9 if looks_like_meta_graph(fields[0].payload, fields[0].length) > 0 else 0.0


def looks_like_meta_graph(head: bytes, size: int) -> float:
    """How sure it is that a message of ``size`` bytes that begins with ``head`` is a MetaGraphDef."""
    fields = _walk_head(head)
    if not fields or fields[0].kind != BYTES or fields[0].length > size:
        return 0.0
    first = fields[0]
    if first.number == 7:
        # The objects of TF2: nodes, each with children that have an id (1) and a name (2).
        level = first
        for _ in range(2):
            nested = _walk_head(level.payload)
            if not nested or nested[0].number != 1 or nested[0].kind != BYTES:
                return 0.0
            level = nested[0]
        return 0.7 if {f.number for f in _walk_head(level.payload)} == {1, 2} else 0.0
    if first.number == 2:
        return 0.8 if looks_like_graph_def(first.payload, first.length) > 0 else 0.0
    # A MetaGraphDef has one MetaInfoDef, and the graph comes right after it.
    if first.number != 1 or _is_node(first) or (len(fields) > 1 and fields[1].number != 2):
        return 0.0
    # MetaInfoDef: version (1), stripped ops (2), any info (3), tags (4), TF version (5), git (6), flags.
    inner = _walk_head(first.payload)
    if not inner or any(not 1 <= f.number <= 8 for f in inner):
        return 0.0
    operations = [f for f in inner if f.number == 2 and f.kind == BYTES]
    for operation in operations[:1]:
        listed = _walk_head(operation.payload)
        names = _walk_head(listed[0].payload) if listed and listed[0].number == 1 else []
        if listed and not (names and names[0].number == 1 and _OP_NAME.match(names[0].payload)):
            return 0.0
    for version in (f.payload for f in inner if f.number == 5):
        if not _VERSION.match(version):
            return 0.0
    return 0.8 if operations or {4, 5} <= {f.number for f in inner} else 0.3


def text_begins_with(head: bytes, names: tuple[str, ...]) -> bool:
    """Whether ``head`` is the text form of a message whose first field is one of ``names``."""
    if b"\0" in head:
        return False
    blank = _COMMENT.match(head)
    rest = head[blank.end() :] if blank else head
    pattern = rb"(?:" + b"|".join(name.encode() for name in names) + rb")\s*[:{<]"
    return re.match(pattern, rest) is not None


def _is_node(field: Field) -> bool:
    """Whether this is a NodeDef: name (1) and op (2), both short texts, in any order."""
    inner = _walk_head(field.payload)
    names = [f for f in inner if f.number == 1]
    operations = [f for f in inner if f.number == 2]
    if not names or not operations or any(f.kind != BYTES or not f.whole for f in (names[0], operations[0])):
        return False
    try:
        names[0].payload.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return bool(names[0].payload) and _OP_NAME.match(operations[0].payload) is not None


def _is_library(field: Field) -> bool:
    """Whether this is a FunctionDefLibrary, by the names of ops in its first function."""
    functions = [f for f in _walk_head(field.payload) if f.number == 1 and f.kind == BYTES]
    inner = _walk_head(functions[0].payload) if functions else []
    signatures = [f for f in inner if f.number == 1 and f.kind == BYTES]
    if signatures:
        names = [f for f in _walk_head(signatures[0].payload) if f.number == 1]
        return bool(names) and names[0].kind == BYTES and _OP_NAME.match(names[0].payload) is not None
    nodes = [f for f in inner if f.number == 3 and f.kind == BYTES]
    return bool(nodes) and _is_node(nodes[0])


def _walk_head(head: bytes) -> list[Field]:
    """The fields up to where the head ends or stops being wire format."""
    fields: list[Field] = []
    try:
        for found in walk(head):
            fields.append(found)
            if len(fields) >= 256:
                break
    except ValueError:
        pass
    return fields


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise ValueError("the varint is cut off")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("the varint is too long")
