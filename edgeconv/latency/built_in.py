"""A network of so many fully connected layers: something to measure where no artifact is given."""

from __future__ import annotations

from typing import Any

import numpy as np

_WIDTH = 32
_FILE_IDENTIFIER = b"TFL3"


def fully_connected(layers: int, width: int = _WIDTH) -> bytes:
    """A TFLite file of ``layers`` layers, float32, (1, width) in and out, all with the same weights.

    The weights are a rotation, so that values neither grow nor vanish however many layers there are.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    rng = np.random.default_rng(0)
    weights = np.linalg.qr(rng.standard_normal((width, width)))[0].astype(np.float32)

    def tensor(name: str, shape: list[int], buffer: int) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.buffer, made.type = name, shape, buffer, schema.TensorType.FLOAT32
        return made

    def operator(number: int) -> Any:
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = 0, [number, layers + 1, -1], [number + 1]
        made.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        made.builtinOptions = schema.FullyConnectedOptionsT()
        return made

    graph = schema.SubGraphT()
    graph.name = "main"
    graph.tensors = [tensor(f"x{number}", [1, width], 0) for number in range(layers + 1)]
    graph.tensors.append(tensor("weights", [width, width], 1))
    graph.operators = [operator(number) for number in range(layers)]
    graph.inputs, graph.outputs = [0], [layers]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 1
    empty, kept = schema.BufferT(), schema.BufferT()
    kept.data = np.frombuffer(weights.tobytes(), np.uint8)
    model = schema.ModelT()
    model.version, model.operatorCodes = 3, [code]
    model.subgraphs, model.buffers = [graph], [empty, kept]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=_FILE_IDENTIFIER)
    return bytes(builder.Output())
