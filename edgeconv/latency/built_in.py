"""A network of so many equal layers: something to measure where no artifact is given."""

from __future__ import annotations

from typing import Any

import numpy as np

_IMAGE, _CHANNELS, _WIDTH = 16, 8, 32
_FILE_IDENTIFIER = b"TFL3"


def network(layers: int) -> bytes:
    """A TFLite file, float32, of ``layers`` convolutions of (1, 16, 16, 8); of one dense layer for 0.

    All layers have the same weights, and both weights and values are small enough for the nearest cache: its
    time is that of computing, which does not hang on where memory came to lie. The weights keep the size
    of the values however many layers there are.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    rng = np.random.default_rng(0)
    if layers:
        shape, weights = [1, _IMAGE, _IMAGE, _CHANNELS], rng.standard_normal((_CHANNELS, 3, 3, _CHANNELS))
    else:
        shape, weights = [1, _WIDTH], rng.standard_normal((_WIDTH, _WIDTH))
    weights = (weights / np.sqrt(weights[0].size)).astype(np.float32)
    count, channels = max(1, layers), weights.shape[0]

    def tensor(name: str, of: list[int], buffer: int) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.buffer, made.type = name, of, buffer, schema.TensorType.FLOAT32
        return made

    def operator(number: int) -> Any:
        made = schema.OperatorT()
        made.opcodeIndex, made.outputs = 0, [number + 1]
        made.inputs = [number, count + 1, count + 2]
        if layers:
            made.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
            made.builtinOptions = schema.Conv2DOptionsT()
            made.builtinOptions.strideH = made.builtinOptions.strideW = 1
        else:
            made.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
            made.builtinOptions = schema.FullyConnectedOptionsT()
        return made

    graph = schema.SubGraphT()
    graph.name = "main"
    graph.tensors = [tensor(f"x{number}", shape, 0) for number in range(count + 1)]
    graph.tensors.append(tensor("weights", list(weights.shape), 1))
    graph.tensors.append(tensor("bias", [channels], 2))
    graph.operators = [operator(number) for number in range(count)]
    graph.inputs, graph.outputs = [0], [count]
    code, kinds = schema.OperatorCodeT(), schema.BuiltinOperator
    code.builtinCode = code.deprecatedBuiltinCode = kinds.CONV_2D if layers else kinds.FULLY_CONNECTED
    code.version = 1
    buffers = [schema.BufferT() for _ in range(3)]
    buffers[1].data = np.frombuffer(weights.tobytes(), np.uint8)
    buffers[2].data = np.zeros(4 * channels, np.uint8)
    model = schema.ModelT()
    model.version, model.operatorCodes = 3, [code]
    model.subgraphs, model.buffers = [graph], buffers
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=_FILE_IDENTIFIER)
    return bytes(builder.Output())
