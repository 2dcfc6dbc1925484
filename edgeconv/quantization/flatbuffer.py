"""TFLite files as objects that can be changed, and back."""

from __future__ import annotations

from typing import Any

from edgeconv.formats._tflite_names import BUILTIN_OPERATORS, ELEMENT_TYPES
from edgeconv.quantization.operator_versions import is_later, raise_versions

_RUNTIME_KEY = b"min_runtime_version"
_RUNTIME_BYTES = 16
_ALIGNMENT = 16


def unpack(data: bytes) -> Any:
    """The schema's ``ModelT`` of a TFLite file; constants are views into ``data``."""
    from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils.read_model_from_bytearray(data)


def pack(model: Any) -> bytes:
    """A TFLite file of a ``ModelT``, with all constants inside the tables.

    Constants behind the tables, as LiteRT Quantizer writes them, need a runtime that knows where to look.
    """
    import flatbuffers
    from ai_edge_litert.schema_py_generated import BufferT

    class AlignedBuffer(BufferT):  # type: ignore[misc]
        """Packs its data in one copy, and on 16 bytes as the schema asks."""

        def Pack(self, builder: Any) -> int:  # noqa: N802 (the generated code calls it so)
            from ai_edge_litert import schema_py_generated as schema

            data = None
            if self.data is not None and len(self.data):
                size = len(self.data)
                builder.StartVector(1, size, _ALIGNMENT)
                builder.head -= size
                builder.Bytes[builder.head : builder.head + size] = memoryview(self.data)
                data = builder.EndVector()
            schema.BufferStart(builder)
            if data is not None:
                schema.BufferAddData(builder, data)
            return int(schema.BufferEnd(builder))

    class SharingBuilder(flatbuffers.Builder):  # type: ignore[misc]
        """Writes equal vectors once: the zero points of thousands of channels are all the same."""

        def __init__(self, size: int) -> None:
            super().__init__(size)
            self.written: dict[tuple[str, bytes], int] = {}

        def CreateNumpyVector(self, x: Any) -> int:  # noqa: N802 (the generated code calls it so)
            key = (x.dtype.str, x.tobytes())
            if key not in self.written:
                self.written[key] = super().CreateNumpyVector(x)
            return self.written[key]

    original = model.buffers
    total = sum(len(buffer.data) for buffer in original if buffer.data is not None)
    model.buffers = [AlignedBuffer(data=buffer.data) for buffer in original]
    try:
        builder = SharingBuilder(total + total // 16 + 65536)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    finally:
        model.buffers = original
    return bytes(builder.Output())


def operator_name(model: Any, operator: Any) -> str:
    """The operator's name as in the schema (``CONV_2D``), or the name of a custom one."""
    code = model.operatorCodes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    if code.customCode:
        return str(code.customCode.decode(errors="replace"))
    return BUILTIN_OPERATORS[number] if number < len(BUILTIN_OPERATORS) else f"op {number}"


def type_name(tensor: Any) -> str:
    """NumPy's name of the tensor's element type."""
    return str(ELEMENT_TYPES[tensor.type])


def tensor_name(tensor: Any) -> str:
    """The tensor's name in the file."""
    name: bytes = tensor.name or b""
    return name.decode(errors="replace")


def is_constant(model: Any, tensor: Any) -> bool:
    """Whether the file holds the tensor's value."""
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def rename_duplicates(model: Any) -> int:
    """Give each tensor a name of its own, which LiteRT Quantizer needs; changes ``model`` in place.

    Inputs and outputs keep theirs where they can: they are renamed last.

    Returns:
        How many tensors were renamed.
    """
    seen: set[bytes] = set()
    edges = {(g, i) for g, graph in enumerate(model.subgraphs) for i in (*graph.inputs, *graph.outputs)}
    order = [(g, i) for g, graph in enumerate(model.subgraphs) for i in range(len(graph.tensors))]
    order.sort(key=lambda place: place not in edges)
    renamed = 0
    for g, i in order:
        tensor = model.subgraphs[g].tensors[i]
        name = tensor.name or b"tensor"
        candidate, number = name, 1
        while candidate in seen:
            candidate, number = name + f"__{number}".encode(), number + 1
        seen.add(candidate)
        if candidate != tensor.name:
            tensor.name, renamed = candidate, renamed + 1
    return renamed


def modernise(model: Any) -> bool:
    """Write what files of old converters leave out as newer tools expect it; changes ``model`` in place.

    Before 2020 the code of an operator stood in another field, and a file needed no list of signatures.
    LiteRT Quantizer reads such a convolution as an addition, and fails on the missing list.

    Returns:
        Whether anything was changed.
    """
    changed = False
    for code in model.operatorCodes:
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        changed |= code.builtinCode != number
        code.builtinCode = number
    if model.signatureDefs is None:
        model.signatureDefs, changed = [], True
    return changed


def finish(model: Any) -> bytes:
    """Correct the operator versions and the runtime version that the file states, and pack it."""
    release = raise_versions(model, BUILTIN_OPERATORS, ELEMENT_TYPES)
    for entry in model.metadata or ():
        if entry.name == _RUNTIME_KEY:
            buffer = model.buffers[entry.buffer]
            stated = (
                bytes(buffer.data if buffer.data is not None else b"")
                .rstrip(b"\0")
                .decode("ascii", "replace")
            )
            if is_later(release, stated):
                buffer.data = release.encode().ljust(_RUNTIME_BYTES, b"\0")
    return pack(model)
