"""Small TFLite files that some releases of the runtimes take and others do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from tflite_builder import FLOAT, HALF, INT8, INT32, Builder, dense

OP = schema.BuiltinOperator


def _options(name: str, **fields: Any) -> tuple[str, Any]:
    made = getattr(schema, f"{name}OptionsT")()
    for field, value in fields.items():
        setattr(made, field, value)
    return f"{name}Options", made


def plain() -> bytes:
    return dense().bytes()


def dynamic_dense(*, scales: int = 5, version: int = 12) -> bytes:
    """Float activations and int8 weights, with a scale for each output or one for all."""
    b = Builder()
    x = b.tensor("x", [1, 6])
    weights = np.ones((5, 6), np.int8)
    w = b.tensor("w", [5, 6], dtype=INT8, data=weights, scale=[0.1] * scales)
    y = b.tensor("y", [1, 5])
    b.op(OP.FULLY_CONNECTED, [x, w, -1], [y], options=_options("FullyConnected"), version=version)
    b.ends([x], [y])
    return b.bytes()


def int8_division() -> bytes:
    b = Builder()
    quantized = {"dtype": INT8, "scale": [0.1], "zero_point": [0]}
    x, other, y = (b.tensor(name, [1, 4], **quantized) for name in ("x", "other", "y"))
    b.op(OP.DIV, [x, other], [y], options=_options("Div"))
    b.ends([x, other], [y])
    return b.bytes()


def half_depthwise(*, half_bias: bool = False) -> bytes:
    """A depthwise convolution whose weights are float16, and its bias float32 or float16 as well."""
    b = Builder()
    x, y = b.tensor("x", [1, 4, 4, 4]), b.tensor("y", [1, 4, 4, 4])
    stored = b.tensor("stored", [1, 3, 3, 4], dtype=HALF, data=np.ones((1, 3, 3, 4), np.float16))
    w = b.tensor("w", [1, 3, 3, 4])
    bias = b.tensor("bias", [4], data=None if half_bias else np.zeros(4, np.float32))
    b.op(OP.DEQUANTIZE, [stored], [w], version=3)
    if half_bias:
        half = b.tensor("half", [4], dtype=HALF, data=np.zeros(4, np.float16))
        b.op(OP.DEQUANTIZE, [half], [bias], version=3)
    ones = {"strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1, "depthMultiplier": 1}
    b.op(OP.DEPTHWISE_CONV_2D, [x, w, bias], [y], options=_options("DepthwiseConv2D", **ones))
    b.ends([x], [y])
    return b.bytes()


def half_used_split(dtype: int = FLOAT) -> bytes:
    """A tensor in two parts, one of which nothing reads."""
    b = Builder()
    axis = b.tensor("axis", [], dtype=INT32, data=np.array(1, np.int32))
    x, left, right, y = (
        b.tensor(n, s) for n, s in (("x", [2, 4]), ("l", [2, 2]), ("r", [2, 2]), ("y", [2, 2]))
    )
    b.op(OP.SPLIT, [axis, x], [left, right], options=_options("Split", numSplits=2))
    b.op(OP.ADD, [right, right], [y], options=_options("Add"))
    b.ends([x], [y])
    return b.bytes()


def sliced(*, drops: bool) -> bytes:
    """A slice of a tensor of six dimensions, which drops one or keeps all."""
    b = Builder()
    x, y = b.tensor("x", [2] * 6), b.tensor("y", [2] * (5 if drops else 6))
    where = [b.tensor(f"i{value}", [6], dtype=INT32, data=np.full(6, value, np.int32)) for value in (0, 2, 1)]
    options = _options("StridedSlice", shrinkAxisMask=1 if drops else 0)
    b.op(OP.STRIDED_SLICE, [x, *where], [y], options=options)
    b.ends([x], [y])
    return b.bytes()


def half_quantized_pad() -> bytes:
    """An int8 tensor padded with a float: what a quantizer left behind."""
    b = Builder()
    quantized = {"dtype": INT8, "scale": [0.1], "zero_point": [0]}
    x, y = b.tensor("x", [1, 4], **quantized), b.tensor("y", [1, 4], **quantized)
    pairs = b.tensor("pairs", [2, 2], dtype=INT32, data=np.zeros((2, 2), np.int32))
    value = b.tensor("value", [], data=np.zeros((), np.float32))
    b.op(OP.PADV2, [x, pairs, value], [y], options=_options("PadV2"), version=2)
    b.ends([x], [y])
    return b.bytes()


def called_once() -> bytes:
    """A file whose first op has neither inputs nor outputs: it runs a graph that sets a variable."""
    b = Builder()
    x, handle = b.tensor("x", [4]), b.tensor("handle", [], dtype=13)
    value, y = b.tensor("value", [4]), b.tensor("y", [4])
    named = _options("VarHandle", container="", sharedName="v")
    b.op(OP.CALL_ONCE, [], [], options=_options("CallOnce", initSubgraphIndex=1))
    b.op(OP.VAR_HANDLE, [], [handle], options=named)
    b.op(OP.READ_VARIABLE, [handle], [value], options=_options("ReadVariable"))
    b.op(OP.ADD, [x, value], [y], options=_options("Add"))
    b.ends([x], [y])
    b.graph("initialiser")
    inner = b.tensor("inner", [], dtype=13, subgraph=1)
    ones = b.tensor("ones", [4], data=np.ones(4, np.float32), subgraph=1)
    b.op(OP.VAR_HANDLE, [], [inner], options=named, subgraph=1)
    b.op(OP.ASSIGN_VARIABLE, [inner, ones], [], options=_options("AssignVariable"), subgraph=1)
    return b.bytes()


def uint16_input() -> bytes:
    b = Builder()
    x, y = b.tensor("x", [4], dtype=16), b.tensor("y", [4], dtype=INT32)
    b.op(OP.CAST, [x], [y], options=_options("Cast", inDataType=16, outDataType=INT32), version=5)
    b.ends([x], [y])
    return b.bytes()


def custom(name: str) -> bytes:
    b = Builder()
    x, y = b.tensor("x", [1]), b.tensor("y", [1])
    b.op(name, [x], [y])
    b.ends([x], [y])
    return b.bytes()


def unassigned_variable() -> bytes:
    """A resource variable that is read and that nothing has given a value."""
    b = Builder()
    x, handle = b.tensor("x", [4]), b.tensor("handle", [], dtype=13)
    value, y = b.tensor("value", [4]), b.tensor("y", [4])
    b.op(OP.VAR_HANDLE, [], [handle], options=_options("VarHandle", container="", sharedName="v"))
    b.op(OP.READ_VARIABLE, [handle], [value], options=_options("ReadVariable"))
    b.op(OP.ADD, [x, value], [y], options=_options("Add"))
    b.ends([x], [y])
    return b.bytes()


def scales_along_nothing() -> bytes:
    b = Builder()
    x, y = b.tensor("x", [1, 6]), b.tensor("y", [1, 5])
    w = b.tensor("w", [5, 6], dtype=INT8, data=np.ones((5, 6), np.int8), scale=[0.1] * 5, axis=3)
    b.op(OP.FULLY_CONNECTED, [x, w, -1], [y], options=_options("FullyConnected"), version=9)
    b.ends([x], [y])
    return b.bytes()


FILES: dict[str, Callable[[], bytes]] = {
    "plain": plain,
    "dense with a scale for each output": dynamic_dense,
    "dense with one scale": lambda: dynamic_dense(scales=1, version=9),
    "division in int8": int8_division,
    "depthwise in float16": half_depthwise,
    "depthwise in float16 with its bias": lambda: half_depthwise(half_bias=True),
    "a slice of six dimensions": lambda: sliced(drops=False),
    "a slice that drops one of six dimensions": lambda: sliced(drops=True),
    "an integer padded with a float": half_quantized_pad,
    "an op without tensors": called_once,
    "an input of uint16": uint16_input,
    "a part that nothing reads": half_used_split,
    "a variable that nothing assigned": unassigned_variable,
    "a custom op": lambda: custom("NobodyKnowsThis"),
    "a TensorFlow op": lambda: custom("FlexErf"),
    "scales along no dimension": scales_along_nothing,
}


def write(folder: Path, name: str) -> Path:
    path = folder / f"{name.replace(' ', '-')}.tflite"
    path.write_bytes(FILES[name]())
    return path
