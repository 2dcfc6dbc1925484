"""Small ONNX files: by what they are made of, and a set of them that releases of ONNX Runtime differ in."""

from __future__ import annotations

from pathlib import Path

import numpy
import onnx
from onnx import TensorProto, helper


def write(folder: Path, nodes, inputs, *, outputs=1, opset=13, ir=8, name="m.onnx", more=(), weights=()):
    """A file of some nodes; inputs as name to ONNX's code of the type, outputs ``y0``, ``y1`` …"""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(key, code, [2, 2]) for key, code in inputs.items()],
        [onnx.ValueInfoProto(name=f"y{number}") for number in range(outputs)],
        list(weights),
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, v) for d, v in more)]
    path = folder / name
    path.write_bytes(helper.make_model(graph, opset_imports=imports, ir_version=ir).SerializeToString())
    return path


def one(folder: Path, op: str, code: int = TensorProto.FLOAT, *, opset=13, domain="", count=1, **attributes):
    """A file of one node, all of whose inputs have one type."""
    names = [f"x{number}" for number in range(count)]
    node = helper.make_node(op, names, ["y0"], name="the_node", domain=domain, **attributes)
    more = [(domain, 1)] if domain else []
    return write(folder, [node], dict.fromkeys(names, code), opset=opset, more=more)


def _transposed(folder: Path) -> Path:
    nodes = [
        helper.make_node("Transpose", ["a"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["t", "b"], ["y0"]),
    ]
    return write(folder, nodes, {"a": TensorProto.DOUBLE, "b": TensorProto.DOUBLE})


def _wrong(folder: Path) -> Path:
    return write(folder, [helper.make_node("Concat", ["x", "x"], ["y0"], axis=7)], {"x": TensorProto.FLOAT})


def _mixed(folder: Path) -> Path:
    node = helper.make_node("Add", ["a", "b"], ["y0"])
    return write(folder, [node], {"a": TensorProto.FLOAT, "b": TensorProto.INT64})


def _of_ir(folder: Path, ir: int) -> Path:
    return write(folder, [helper.make_node("Relu", ["x"], ["y0"])], {"x": TensorProto.FLOAT}, ir=ir)


def _names(folder: Path, nodes: list[tuple[str, list[str], str]]) -> Path:
    made = [helper.make_node(op, inputs, [output]) for op, inputs, output in nodes]
    return write(folder, made, {"x": TensorProto.FLOAT})


def _function(folder: Path) -> Path:
    """A function that was written in another opset than the file around it."""
    inner = [helper.make_node("Mul", ["a", "a"], ["b"])]
    square = helper.make_function("own", "Square", ["a"], ["b"], inner, [helper.make_opsetid("", 17)])
    path = one(folder, "Square", domain="own")
    model = onnx.load(path)
    model.functions.append(square)
    path.write_bytes(model.SerializeToString())
    return path


def _recurrent(folder: Path, op: str, gates: int, code: int) -> Path:
    node = helper.make_node(op, ["x", "w", "r"], ["y0"], hidden_size=2)
    kind = helper.tensor_dtype_to_np_dtype(code)
    weights = [onnx.numpy_helper.from_array(numpy.ones((1, gates * 2, 2), kind), name) for name in "wr"]
    path = write(folder, [node], {"x": code}, weights=weights)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = 2
    path.write_bytes(model.SerializeToString())
    return path


def _resized(folder: Path, code: int, mode: str) -> Path:
    node = helper.make_node("Resize", ["x", "", "s"], ["y0"], mode=mode)
    scales = onnx.numpy_helper.from_array(numpy.array([2, 2], "float32"), "s")
    return write(folder, [node], {"x": code}, weights=[scales], opset=18)


def _grid(folder: Path, mode: str, opset: int) -> Path:
    node = helper.make_node("GridSample", ["x", "g"], ["y0"], mode=mode)
    path = write(folder, [node], {"x": TensorProto.FLOAT, "g": TensorProto.FLOAT}, opset=opset, ir=9)
    model = onnx.load(path)
    for info in model.graph.input:
        for size in (2, 2):
            info.type.tensor_type.shape.dim.add().dim_value = size
    path.write_bytes(model.SerializeToString())
    return path


def _by_bits(folder: Path, bits: int) -> Path:
    stored = numpy.ones((2, 1, 16 * bits // 8), "uint8")
    weights = [
        onnx.numpy_helper.from_array(stored, "w"),
        onnx.numpy_helper.from_array(numpy.ones(2, "float32"), "s"),
    ]
    node = helper.make_node(
        "MatMulNBits", ["x", "w", "s"], ["y0"], domain="com.microsoft", K=16, N=2, bits=bits, block_size=16
    )
    path = write(folder, [node], {"x": TensorProto.FLOAT}, weights=weights, more=[("com.microsoft", 1)])
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 16
    path.write_bytes(model.SerializeToString())
    return path


_HALF, _DOUBLE = TensorProto.FLOAT16, TensorProto.DOUBLE
FILES = {
    "plain": lambda folder: one(folder, "Relu"),
    **{f"opset-{n}": lambda folder, n=n: one(folder, "Relu", opset=n) for n in (7, 17, 19, 20, 21, 22, 26)},
    **{f"ir-{n}": lambda folder, n=n: _of_ir(folder, n) for n in (3, 8, 9, 10, 11, 13)},
    "erf-double": lambda folder: one(folder, "Erf", _DOUBLE),
    "relu-half": lambda folder: one(folder, "Relu", _HALF),
    "sigmoid-half": lambda folder: one(folder, "Sigmoid", _HALF),
    "softmax-half-17": lambda folder: one(folder, "Softmax", _HALF, opset=17),
    "softmax-half-18": lambda folder: one(folder, "Softmax", _HALF, opset=18),
    "elu-double-18": lambda folder: one(folder, "Elu", _DOUBLE, opset=18),
    "elu-double-17": lambda folder: one(folder, "Elu", _DOUBLE, opset=17),
    "mish": lambda folder: one(folder, "Mish", opset=18),
    "gelu": lambda folder: one(folder, "Gelu", domain="com.microsoft"),
    "quick-gelu-half": lambda folder: one(folder, "QuickGelu", _HALF, domain="com.microsoft"),
    "nonsense": lambda folder: one(folder, "Nonsense", domain="com.microsoft"),
    "reduce-max-18": lambda folder: one(folder, "ReduceMax", opset=18, axes=[0]),
    "reduce-max-17": lambda folder: one(folder, "ReduceMax", opset=17, axes=[0]),
    "cos-double": lambda folder: one(folder, "Cos", _DOUBLE),
    "tan-int": lambda folder: one(folder, "Tan", TensorProto.INT32),
    "transposed-double": _transposed,
    "unordered": lambda folder: _names(folder, [("Relu", ["a"], "y0"), ("Exp", ["x"], "a")]),
    "given-twice": lambda folder: _names(folder, [("Relu", ["x"], "y0"), ("Exp", ["x"], "y0")]),
    "given-nowhere": lambda folder: _names(folder, [("Add", ["x", "nowhere"], "y0")]),
    "no-output": lambda folder: _names(folder, [("Relu", ["x"], "other")]),
    "function-of-another-opset": _function,
    "lstm": lambda folder: _recurrent(folder, "LSTM", 4, TensorProto.FLOAT),
    "lstm-double": lambda folder: _recurrent(folder, "LSTM", 4, _DOUBLE),
    "gru-double": lambda folder: _recurrent(folder, "GRU", 3, _DOUBLE),
    "mod-float": lambda folder: one(folder, "Mod", count=2),
    "mod-float-fmod": lambda folder: one(folder, "Mod", count=2, fmod=1),
    "mod-half": lambda folder: one(folder, "Mod", _HALF, count=2),
    "resize-cubic": lambda folder: _resized(folder, TensorProto.FLOAT, "cubic"),
    "resize-cubic-int": lambda folder: _resized(folder, TensorProto.INT32, "cubic"),
    "resize-linear-int": lambda folder: _resized(folder, TensorProto.INT32, "linear"),
    "grid-bilinear-20": lambda folder: _grid(folder, "bilinear", 20),
    "grid-linear-20": lambda folder: _grid(folder, "linear", 20),
    "grid-bilinear-16": lambda folder: _grid(folder, "bilinear", 16),
    "four-bits": lambda folder: _by_bits(folder, 4),
    "eight-bits": lambda folder: _by_bits(folder, 8),
    "fast-gelu-double": lambda folder: one(folder, "FastGelu", _DOUBLE, domain="com.microsoft"),
    "quick-gelu-double": lambda folder: one(folder, "QuickGelu", _DOUBLE, domain="com.microsoft"),
    "wrong": _wrong,
    "mixed": _mixed,
}
"""Name to what writes it."""
