"""Models whose work is known by count: a chain of equal layers, longer or shorter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def onnx_chain(path: Path, layers: int, size: int = 96, name: str = "layer") -> Path:
    """An ONNX file of ``layers`` dense layers without activations: as much work in each."""
    weights = numpy_helper.from_array(np.full((size, size), 1 / size, np.float32), "w")
    nodes, before = [], "x"
    for number in range(layers):
        after = "y" if number == layers - 1 else f"t{number}"
        nodes.append(helper.make_node("MatMul", [before, "w"], [after], name=f"{name}{number}"))
        before = after
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [16, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [16, size])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(model, str(path))
    return path


def tflite_chain(path: Path, layers: int, size: int = 96, extra_after: int | None = None) -> Path:
    """A TFLite file of ``layers`` dense layers, and one more behind that of the number ``extra_after``."""
    from ai_edge_litert import schema_py_generated as schema

    from edgeconv.quantization.flatbuffer import pack

    def buffer(array: np.ndarray | None) -> object:
        made = schema.BufferT()
        made.data = None if array is None else np.frombuffer(array.tobytes(), np.uint8)
        return made

    def tensor(name: str, shape: list[int], place: int) -> object:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, shape, schema.TensorType.FLOAT32, place
        return made

    weights = np.full((size, size), 1 / size, np.float32)
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.buffers = [buffer(None), buffer(weights)]
    graph.tensors = [tensor("x", [16, size], 0), tensor("w", [size, size], 1)]
    graph.operators, last = [], 0
    names = []
    for number in range(layers):
        names.append(f"t{number}")
        if number == extra_after:
            names.append("extra")
    for name in names:
        graph.tensors.append(tensor(name, [16, size], 0))
        operator, options = schema.OperatorT(), schema.FullyConnectedOptionsT()
        operator.opcodeIndex, operator.inputs, operator.outputs = 0, [last, 1, -1], [len(graph.tensors) - 1]
        operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        operator.builtinOptions = options
        graph.operators.append(operator)
        last = len(graph.tensors) - 1
    graph.inputs, graph.outputs, graph.name = [0], [last], "main"
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 1
    model.version, model.subgraphs, model.operatorCodes, model.description = 3, [graph], [code], "chain"
    path.write_bytes(pack(model))
    return path
