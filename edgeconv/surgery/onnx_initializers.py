"""Weights of an ONNX model as arrays beside it, while the model is worked on.

Before::

    ModelProto with initializers and Constant nodes

After::

    ModelProto without them            {"kernel": array, "bias": array, …}

A protobuf message does not give memory back for what is deleted from it, so a pass that replaced
weights in place would hold each twice; here a replaced array is simply gone.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

EXTERNAL_FROM_BYTES = 1_900_000_000
"""A protobuf message ends at 2 GiB; weights of larger models go to a file beside the model."""

_GRAPH_FIELD = 7
_INITIALIZER_FIELD = 5
_RAW_DATA_FIELD = 9
_ALIGNMENT = 4096


def take_initializers(model: Any) -> dict[str, Any]:
    """Move initializers and ``Constant`` nodes of the main graph out of ``model``, in place.

    Returns:
        Name to ``numpy.ndarray``. Sparse ones stay where they are.
    """
    from onnx import numpy_helper

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    del model.graph.initializer[:]
    kept = []
    for node in model.graph.node:
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type == "Constant" and node.domain == "" and value is not None:
            constants[node.output[0]] = numpy_helper.to_array(value)
        else:
            kept.append(node)
    if len(kept) < len(model.graph.node):
        replace_nodes(model.graph, kept)
    return constants


def put_initializers(model: Any, constants: dict[str, Any]) -> None:
    """Inverse of :func:`take_initializers` for small models, in memory."""
    from onnx import numpy_helper

    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in sorted(constants.items())
    )


def replace_nodes(graph: Any, nodes: list[Any]) -> None:
    """Make ``nodes`` (some of them of ``graph`` itself) the nodes of ``graph``."""
    copies = []
    for node in nodes:
        copy = type(node)()
        copy.CopyFrom(node)
        copies.append(copy)
    del graph.node[:]
    graph.node.extend(copies)


def write_model(
    model: Any, constants: dict[str, Any], path: Path, *, external_from: int = EXTERNAL_FROM_BYTES
) -> None:
    """Write ``model`` with ``constants`` as its initializers, one at a time; the same bytes each time.

    Args:
        model: without initializers.
        constants: name to array; emptied while it is written, so that memory falls.
        path: the file; weights from ``external_from`` bytes in all on go to ``PATH.data`` beside it.
    """
    from onnx import numpy_helper

    total = sum(value.nbytes for value in constants.values())
    external = path.with_name(path.name + ".data") if total >= external_from else None
    headers: list[tuple[str, bytes, int]] = []
    position = 0
    for name in sorted(constants):
        value = constants[name]
        header = _header(value, name, numpy_helper)
        if header is None:  # strings have no raw form
            tensor = numpy_helper.from_array(value, name)
            headers.append((name, tensor.SerializeToString(), -1))
        elif external is not None and value.nbytes >= 1024:
            position += -position % _ALIGNMENT
            headers.append((name, _external_header(header, external.name, position, value.nbytes), 0))
            position += value.nbytes
        else:
            headers.append((name, header, value.nbytes))

    graph = model.graph.SerializeToString(deterministic=True)
    outer = type(model)()
    outer.CopyFrom(model)
    outer.ClearField("graph")
    fields = [
        (name, header, raw, len(header) + (1 + _varint_length(raw) + raw if raw > 0 else 0))
        for name, header, raw in headers
    ]
    length = len(graph) + sum(1 + _varint_length(size) + size for _, _, _, size in fields)
    with path.open("wb") as stream:
        stream.write(outer.SerializeToString(deterministic=True))
        stream.write(_tag(_GRAPH_FIELD) + _varint(length) + graph)
        data = external.open("wb") if external is not None else None
        for name, header, raw, size in fields:
            value = constants.pop(name)
            stream.write(_tag(_INITIALIZER_FIELD) + _varint(size) + header)
            if raw > 0:
                stream.write(_tag(_RAW_DATA_FIELD) + _varint(raw))
                stream.write(_bytes(value))
            elif raw == 0 and data is not None and value.nbytes >= 1024:
                data.write(b"\0" * (-data.tell() % _ALIGNMENT))
                data.write(_bytes(value))
        if data is not None:
            data.close()


def _bytes(value: Any) -> Any:
    import numpy

    if value.dtype.byteorder == ">":
        value = value.astype(value.dtype.newbyteorder("<"))
    # A view of bytes works for bfloat16 as well, which has no buffer format of its own.
    return numpy.ascontiguousarray(value).reshape(-1).view(numpy.uint8).data


def _header(value: Any, name: str, numpy_helper: Any) -> bytes | None:
    """A TensorProto without its data; ``None`` for strings."""
    import numpy
    from onnx import TensorProto, helper

    if value.dtype == numpy.object_ or value.dtype.kind in "US":
        return None
    tensor = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(value.dtype), dims=value.shape)
    return bytes(tensor.SerializeToString(deterministic=True))


def _external_header(header: bytes, location: str, offset: int, length: int) -> bytes:
    from onnx import TensorProto

    tensor = TensorProto.FromString(header)
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=text)
    return bytes(tensor.SerializeToString(deterministic=True))


def _tag(field: int) -> bytes:
    return struct.pack("B", field << 3 | 2)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _varint_length(value: int) -> int:
    return len(_varint(value))
