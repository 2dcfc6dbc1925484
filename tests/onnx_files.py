"""Small ONNX files: by what they are made of, and a set of them that releases of ONNX Runtime differ in."""

from __future__ import annotations

from pathlib import Path

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
    "wrong": _wrong,
    "mixed": _mixed,
}
"""Name to what writes it."""
