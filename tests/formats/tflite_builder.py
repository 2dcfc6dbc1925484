"""Writes small TFLite files with LiteRT's own schema, for the tests of the format."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

FLOAT, INT32, INT8, INT16, HALF = 0, 2, 9, 7, 1
_ENUM = schema.BuiltinOperator


class Builder:
    """Writes TFLite files tensor by tensor with LiteRT's own schema."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.description = "built by a test"
        self.model.operatorCodes = []
        self.model.buffers = [schema.BufferT()]
        self.model.subgraphs = []
        self.model.metadata = []
        self.model.signatureDefs = []
        self.graph()

    def graph(self, name: str = "main") -> Any:
        graph = schema.SubGraphT()
        graph.name, graph.tensors, graph.operators, graph.inputs, graph.outputs = name, [], [], [], []
        self.model.subgraphs.append(graph)
        return graph

    def buffer(self, content: bytes) -> int:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(content, np.uint8)
        self.model.buffers.append(buffer)
        return len(self.model.buffers) - 1

    def tensor(
        self,
        name: str,
        shape: list[int],
        *,
        dtype: int = FLOAT,
        data: np.ndarray[Any, Any] | None = None,
        buffer: int | None = None,
        signature: list[int] | None = None,
        scale: list[float] | None = None,
        zero_point: list[int] | None = None,
        axis: int = 0,
        subgraph: int = 0,
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.hasRank = name, shape, dtype, True
        tensor.shapeSignature = signature
        if data is not None:
            buffer = self.buffer(data.tobytes())
        tensor.buffer = buffer or 0
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = scale
            tensor.quantization.zeroPoint = zero_point or [0] * len(scale)
            tensor.quantization.quantizedDimension = axis
        tensors = self.model.subgraphs[subgraph].tensors
        tensors.append(tensor)
        return len(tensors) - 1

    def op(
        self,
        kind: int | str,
        inputs: list[int],
        outputs: list[int],
        *,
        options: tuple[str, Any] | None = None,
        version: int = 1,
        subgraph: int = 0,
    ) -> None:
        code = schema.OperatorCodeT()
        if isinstance(kind, str):
            code.builtinCode = code.deprecatedBuiltinCode = _ENUM.CUSTOM
            code.customCode = kind
        else:
            code.builtinCode, code.deprecatedBuiltinCode = kind, min(kind, 127)
        code.version = version
        self.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = inputs, outputs
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options[0])
            operator.builtinOptions = options[1]
        self.model.subgraphs[subgraph].operators.append(operator)

    def ends(self, inputs: list[int], outputs: list[int], subgraph: int = 0) -> None:
        graph = self.model.subgraphs[subgraph]
        graph.inputs, graph.outputs = inputs, outputs

    def signature(self, name: str, inputs: dict[str, int], outputs: dict[str, int]) -> None:
        definition = schema.SignatureDefT()
        definition.signatureKey, definition.subgraphIndex = name, 0
        for target, entries in (("inputs", inputs), ("outputs", outputs)):
            maps = []
            for logical, index in entries.items():
                entry = schema.TensorMapT()
                entry.name, entry.tensorIndex = logical, index
                maps.append(entry)
            setattr(definition, target, maps)
        self.model.signatureDefs.append(definition)

    def entry(self, name: str, content: bytes) -> None:
        metadata = schema.MetadataT()
        metadata.name, metadata.buffer = name, self.buffer(content)
        self.model.metadata.append(metadata)

    def bytes(self) -> bytes:
        builder = flatbuffers.Builder(4096)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def dense(*, batch_free: bool = False) -> Builder:
    """``logits = image @ weights + bias`` with 6 inputs and 5 outputs."""
    b = Builder()
    free = [-1, 6] if batch_free else None
    x = b.tensor("image_in:0", [1, 6], signature=free)
    w = b.tensor("weights", [5, 6], data=np.ones((5, 6), np.float32))
    bias = b.tensor("bias", [5], data=np.zeros(5, np.float32))
    y = b.tensor("logits_out:0", [1, 5], signature=[-1, 5] if batch_free else None)
    options = schema.FullyConnectedOptionsT()
    b.op(_ENUM.FULLY_CONNECTED, [x, w, bias], [y], options=("FullyConnectedOptions", options))
    b.ends([x], [y])
    b.signature("serving_default", {"image": x}, {"logits": y})
    return b


def authored() -> bytes:
    """TFLite Metadata: a normalised input, an output with a file of labels."""
    fb = flatbuffers.Builder(256)

    def table(fields: dict[int, Any]) -> int:
        fb.StartObject(8)
        for slot, value in fields.items():
            if isinstance(value, tuple):
                fb.PrependByteSlot(slot, value[0], 0)
            else:
                fb.PrependUOffsetTRelativeSlot(slot, value, 0)
        return int(fb.EndObject())

    def vector(items: list[int]) -> int:
        fb.StartVector(4, len(items), 4)
        for item in reversed(items):
            fb.PrependUOffsetTRelative(item)
        return int(fb.EndVector())

    def floats(value: float) -> int:
        fb.StartVector(4, 1, 4)
        fb.PrependFloat32(value)
        return int(fb.EndVector())

    unit = table({0: (1,), 1: table({0: floats(127.5), 1: floats(128.0)})})
    file = table({0: fb.CreateString("labels.txt"), 2: (2,)})
    image = table({0: fb.CreateString("image"), 4: vector([unit])})
    scores = table({0: fb.CreateString("scores"), 6: vector([file])})
    graph = table({2: vector([image]), 3: vector([scores])})
    name = fb.CreateString("a classifier")
    fb.Finish(table({0: name, 3: vector([graph])}), b"M001")
    return bytes(fb.Output())


def with_labels() -> bytes:
    b = dense()
    b.entry("TFLITE_METADATA", authored())
    b.entry("min_runtime_version", b"2.3.0".ljust(16, b"\0"))
    packed = io.BytesIO(b.bytes())
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("labels.txt", "cat\ndog\n")
    return packed.getvalue()
