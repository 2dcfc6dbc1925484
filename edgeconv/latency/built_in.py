"""A network of so many equal layers: something to measure where no artifact is given."""

from __future__ import annotations

from typing import Any

import numpy as np

_CHANNELS = 8
_FILE_IDENTIFIER = b"TFL3"


def network(layers: int, image: int) -> bytes:
    """A TFLite file, float32, of ``layers`` convolutions of (1, image, image, 8).

    All layers do the same work with the same weights, so that a network of 102 of them is 2 % more work than
    one of 100. They give what they are given, so that values neither grow nor vanish: arithmetic on numbers
    near zero is slower.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    shape, weights = [1, image, image, _CHANNELS], np.zeros((_CHANNELS, 3, 3, _CHANNELS), np.float32)
    weights[range(_CHANNELS), 1, 1, range(_CHANNELS)] = 1

    def tensor(name: str, of: list[int], buffer: int) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.buffer, made.type = name, of, buffer, schema.TensorType.FLOAT32
        return made

    def operator(number: int) -> Any:
        made = schema.OperatorT()
        made.opcodeIndex, made.outputs = 0, [number + 1]
        made.inputs = [number, layers + 1, layers + 2]
        made.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
        made.builtinOptions = schema.Conv2DOptionsT()
        made.builtinOptions.strideH = made.builtinOptions.strideW = 1
        return made

    graph = schema.SubGraphT()
    graph.name = "main"
    graph.tensors = [tensor(f"x{number}", shape, 0) for number in range(layers + 1)]
    graph.tensors.append(tensor("weights", list(weights.shape), 1))
    graph.tensors.append(tensor("bias", [_CHANNELS], 2))
    graph.operators = [operator(number) for number in range(layers)]
    graph.inputs, graph.outputs = [0], [layers]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
    code.version = 1
    buffers = [schema.BufferT() for _ in range(3)]
    buffers[1].data = np.frombuffer(weights.tobytes(), np.uint8)
    buffers[2].data = np.zeros(4 * _CHANNELS, np.uint8)
    model = schema.ModelT()
    model.version, model.operatorCodes = 3, [code]
    model.subgraphs, model.buffers = [graph], buffers
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=_FILE_IDENTIFIER)
    return bytes(builder.Output())
