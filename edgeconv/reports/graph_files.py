"""Files of a graph that other tools open: GraphDefs for Netron, event files for TensorBoard, pictures."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from edgeconv.errors import UsageError
from edgeconv.execution import atomic
from edgeconv.formats.base import Description
from edgeconv.formats.graph_reading import all_nodes
from edgeconv.formats.nodes import NodeInfo, graph_in, nodes_in
from edgeconv.reports.graph_picture import panel_of, svg

_LARGE = 1024
"""Bytes of a constant above which a text file or an event file leaves its values out."""
_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), reflected


def write_graph_file(
    model: Path,
    target: Path,
    description: Description,
    *,
    tags: Sequence[str] | None = None,
    signature: str | None = None,
    around: str | None = None,
    around_finding: bool = False,
    radius: int = 2,
    weights: bool = True,
) -> str:
    """Write the graph of a model so that it can be looked at.

    Args:
        model: the model.
        target: ``.svg`` for a picture, ``.pb`` or ``.pbtxt`` for a GraphDef, else a folder for an event file
            of TensorBoard.
        description: of the model; its findings are highlighted.
        tags, signature: which graph of a SavedModel, and what of it.
        around: node in the middle of the picture.
        around_finding: one picture for each finding that names a node.
        radius: steps from that node.
        weights: whether a ``.pb`` keeps the values of large constants.

    Returns:
        One sentence about what was written and what opens it.

    Raises:
        UsageError: an unknown node, more nodes than can be looked at, or a format that is opened as it is.
    """
    if target.suffix.lower() == ".svg":
        return _picture(model, target, description, tags, signature, around, around_finding, radius)
    if around is not None or around_finding:
        raise UsageError(
            "the neighbourhood of a node is drawn as a picture only",
            hint="name the file .svg: --graph out.svg",
        )
    if description.format in ("onnx", "tflite", "ort", "keras"):
        raise UsageError(
            f"Netron and Model Explorer open a {description.format} as it is: nothing is to be written",
            where=str(model),
            hint="for a picture of a part of it: --graph out.svg --around NODE",
        )
    graph_def, _ = graph_in(model, tags, signature)
    left_out = 0
    if not weights or target.suffix != ".pb":
        left_out = _strip(graph_def)
    said = f", values of {left_out} large constants left out" if left_out else ""
    with atomic.explained_disk_errors(target):
        if target.suffix == ".pbtxt":
            from google.protobuf import text_format

            atomic.make_writable_folder(target.absolute().parent)
            atomic.write_text(target, text_format.MessageToString(graph_def))
            return f"{target}: a GraphDef as text{said}; Netron and TensorBoard open it"
        if target.suffix == ".pb":
            atomic.make_writable_folder(target.absolute().parent)
            with atomic.temporary_beside(target) as fresh:
                fresh.write_bytes(graph_def.SerializeToString())
                atomic.move_into_place(fresh, target)
            return f"{target}: a GraphDef{said}; Netron and Model Explorer open it"
        atomic.make_writable_folder(target)
        file = target / f"events.out.tfevents.{int(time.time())}.edgeconv"
        with atomic.temporary_beside(file) as fresh:
            fresh.write_bytes(_events(graph_def.SerializeToString()))
            atomic.move_into_place(fresh, file)
    return f"{file}: an event file{said}; open it with tensorboard --logdir {target}"


def _picture(
    model: Path,
    target: Path,
    description: Description,
    tags: Sequence[str] | None,
    signature: str | None,
    around: str | None,
    around_finding: bool,
    radius: int,
) -> str:
    nodes = nodes_in(model, tags, signature)
    by_name = {node.name: node for node in nodes}
    marked: dict[str, str] = {}
    for finding in description.findings:
        name = found_node(nodes, finding.where)
        if name is not None:
            marked[name] = f"{marked[name]}\n{finding.message}" if name in marked else finding.message
    if around_finding:
        if not marked:
            raise UsageError(
                "no finding names a node of the graph",
                where=str(model),
                hint="'edgeconv inspect' lists the findings; --around NODE draws any other place",
            )
        panels = [panel_of(nodes, why.split("\n")[0], marked, name, radius) for name, why in marked.items()]
    elif around is not None:
        name = around.removesuffix(":0")
        if name not in by_name:
            # Imported late: the surgery's helper is not needed where the name is right.
            from edgeconv.surgery.cutting import nearest

            near = nearest(name, list(by_name))
            raise UsageError(
                f"the graph has no node '{around}'",
                where=str(model),
                why=f"nearest names: {', '.join(near)}" if near else None,
                hint=f"try --around {near[0]}" if near else "'edgeconv inspect --ops -v' lists the names",
            )
        title = f"{model.name}: {radius} steps around {name}"
        panels = [panel_of(nodes, title, {name: "the node asked for", **marked}, name, radius)]
    else:
        panels = [panel_of(nodes, model.name, marked, None, radius)]
    atomic.make_writable_folder(target.absolute().parent)
    with atomic.explained_disk_errors(target):
        atomic.write_text(target, svg(panels))
    drawn = sum(len(panel.nodes) for panel in panels)
    return f"{target}: a picture of {drawn} nodes; any browser opens it"


def found_node(nodes: Sequence[NodeInfo], where: str | None) -> str | None:
    """The node that a finding speaks of: by its name, or by that and the function it is in."""
    if not where:
        return None
    names = [node.name for node in nodes]
    if where in names:
        return where
    # A finding names a function's node by the function, the graph by the call.
    _, _, inner = where.partition("/")
    return next((name for name in names if inner and name.endswith(f"/{inner}")), None)


def _strip(graph_def: Any) -> int:
    """Leave the values of large constants out of a graph; dtype and shape stay. Returns how many."""
    count = 0
    for node in all_nodes(graph_def):
        if node.op != "Const" or node.attr["value"].tensor.ByteSize() <= _LARGE:
            continue
        tensor = node.attr["value"].tensor
        slim = type(tensor)()
        slim.dtype = tensor.dtype
        slim.tensor_shape.CopyFrom(tensor.tensor_shape)
        tensor.CopyFrom(slim)
        count += 1
    return count


def _events(graph: bytes) -> bytes:
    """An event file of TensorBoard with one graph.

    Records as TFRecord frames them: length, its checksum, data, its checksum. The data is an ``Event``:
    wall time (field 1), file version (3) or graph (4).
    """
    now = struct.pack("<d", time.time())
    version = b"brain.Event:2"
    first = b"\x09" + now + b"\x1a" + _varint(len(version)) + version
    second = b"\x09" + now + b"\x22" + _varint(len(graph)) + graph
    return b"".join(_record(data) for data in (first, second))


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + _masked(length) + data + _masked(data)


def _masked(data: bytes) -> bytes:
    checksum = crc32c(data)
    return struct.pack("<I", ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """CRC-32C of some bytes (RFC 3720, appendix B.4).

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    table = _table()
    value = 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


@cache
def _table() -> tuple[int, ...]:
    entries = []
    for number in range(256):
        value = number
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        entries.append(value)
    return tuple(entries)


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)
