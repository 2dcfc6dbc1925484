"""Ops that tf2onnx does not know, said in ops that it does, in a GraphDef.

Each rewrite is one entry of :data:`REWRITES`; it sees one node and may add nodes before it.

=========================  =========================================================
before                     after
=========================  =========================================================
``Erfc(x)``                ``1 - Erf(x)``
``Log1p(x)``               ``Log(1 + x)``
``Expm1(x)``               ``Exp(x) - 1``
``Xlogy(x, y)``            ``x * Log(y)``, 0 where x is 0
``Xdivy(x, y)``            ``x / y``, 0 where x is 0
``MulNoNan(x, y)``         ``x * y``, 0 where y is 0
``Inv(x)``                 ``Reciprocal(x)``
``L2Loss(x)``              half the sum of ``x * x``
``PlaceholderWithDefault`` ``Identity`` of the default
``Dequantize(const)``      the float constant
``FakeQuantWithMinMax…``   clip, round, scale
=========================  =========================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeconv.conversions._tf2onnx_fake_quant import ARGUMENTS, PER_CHANNEL, VARIABLES, rewrite_fake_quant

_Rewrite = Callable[[Any, Any, dict[str, Any]], bool]


def rewrite_ops(graph: Any) -> dict[str, int]:
    """Apply all rewrites to ``graph`` (a GraphDef) in place.

    Returns:
        Op type to how many of it were rewritten.
    """
    counts: dict[str, int] = {}
    nodes = {node.name: node for node in graph.node}
    for node in list(graph.node):
        rewrite = REWRITES.get(node.op)
        op = str(node.op)
        if rewrite is not None and rewrite(graph, node, nodes):
            counts[op] = counts.get(op, 0) + 1
    return counts


def _add(graph: Any, name: str, op: str, inputs: list[str], dtype: int) -> str:
    node = graph.node.add(name=name, op=op, input=inputs)
    node.attr["T"].type = dtype
    return name


def _scalar(graph: Any, name: str, value: float, dtype: int) -> str:
    from tensorflow import dtypes, make_tensor_proto

    node = graph.node.add(name=name, op="Const")
    node.attr["dtype"].type = dtype
    node.attr["value"].tensor.CopyFrom(make_tensor_proto(value, dtype=dtypes.as_dtype(dtype)))
    return name


def _whole_number(graph: Any, name: str, value: list[int]) -> str:
    from tensorflow import int32, make_tensor_proto

    node = graph.node.add(name=name, op="Const")
    node.attr["dtype"].type = int32.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(make_tensor_proto(value, dtype=int32))
    return name


def _become(node: Any, op: str, inputs: list[str]) -> None:
    node.op = op
    del node.input[:]
    node.input.extend(inputs)


def _erfc(graph: Any, node: Any, nodes: dict[str, Any]) -> bool:
    dtype = node.attr["T"].type
    erf = _add(graph, f"{node.name}/erf", "Erf", [node.input[0]], dtype)
    _become(node, "Sub", [_scalar(graph, f"{node.name}/one", 1.0, dtype), erf])
    return True


def _log1p(graph: Any, node: Any, nodes: dict[str, Any]) -> bool:
    dtype = node.attr["T"].type
    one = _scalar(graph, f"{node.name}/one", 1.0, dtype)
    _become(node, "Log", [_add(graph, f"{node.name}/add", "AddV2", [one, node.input[0]], dtype)])
    return True


def _expm1(graph: Any, node: Any, nodes: dict[str, Any]) -> bool:
    dtype = node.attr["T"].type
    exp = _add(graph, f"{node.name}/exp", "Exp", [node.input[0]], dtype)
    _become(node, "Sub", [exp, _scalar(graph, f"{node.name}/one", 1.0, dtype)])
    return True


def _where_zero(graph: Any, node: Any, tested: str, constant: float, value: str) -> str:
    """``value``, but ``constant`` where ``tested`` is 0: no NaN is made, so none has to be taken back."""
    dtype = node.attr["T"].type
    zero = _scalar(graph, f"{node.name}/zero", 0.0, dtype)
    other = _scalar(graph, f"{node.name}/instead", constant, dtype)
    is_zero = _add(graph, f"{node.name}/is_zero", "Equal", [tested, zero], dtype)
    return _add(graph, f"{node.name}/safe", "SelectV2", [is_zero, other, value], dtype)


def _xlogy(graph: Any, node: Any, nodes: dict[str, Any]) -> bool:
    safe = _where_zero(graph, node, node.input[0], 1.0, node.input[1])
    log = _add(graph, f"{node.name}/log", "Log", [safe], node.attr["T"].type)
    _become(node, "Mul", [node.input[0], log])
    return True


def _xdivy(graph: Any, node: Any, nodes: dict[str, Any]) -> bool:
    _become(node, "RealDiv", [node.input[0], _where_zero(graph, node, node.input[0], 1.0, node.input[1])])
    return True


def _mul_no_nan(graph: Any, node: Any, nodes: dict[str, Any]) -> bool:
    _become(node, "Mul", [_where_zero(graph, node, node.input[1], 0.0, node.input[0]), node.input[1]])
    return True


def _inv(graph: Any, node: Any, nodes: dict[str, Any]) -> bool:
    node.op = "Reciprocal"
    return True


def _l2_loss(graph: Any, node: Any, nodes: dict[str, Any]) -> bool:
    dtype = node.attr["T"].type
    square = _add(graph, f"{node.name}/square", "Square", [node.input[0]], dtype)
    flat = _add(
        graph, f"{node.name}/flat", "Reshape", [square, _whole_number(graph, f"{node.name}/all", [-1])], dtype
    )
    total = _add(
        graph, f"{node.name}/sum", "Sum", [flat, _whole_number(graph, f"{node.name}/axis", [0])], dtype
    )
    _become(node, "Mul", [total, _scalar(graph, f"{node.name}/half", 0.5, dtype)])
    return True


def _default(graph: Any, node: Any, nodes: dict[str, Any]) -> bool:
    dtype = node.attr["dtype"].type
    node.op = "Identity"
    for name in list(node.attr):
        del node.attr[name]
    node.attr["T"].type = dtype
    return True


def _dequantize(graph: Any, node: Any, nodes: dict[str, Any]) -> bool:
    """TensorFlow itself computes the float values, so that each of its modes is right."""
    import tensorflow

    sources = [nodes.get(name.partition(":")[0]) for name in node.input if not name.startswith("^")]
    if any(source is None or source.op != "Const" for source in sources):
        return False
    stored, low, high = (tensorflow.make_ndarray(source.attr["value"].tensor) for source in sources if source)
    dtype = tensorflow.dtypes.as_dtype(node.attr["T"].type)
    mode = node.attr["mode"].s.decode() or "MIN_COMBINED"
    axis = node.attr["axis"].i if "axis" in node.attr else -1
    quantized = tensorflow.bitcast(tensorflow.constant(stored.view(_PLAIN[dtype.name])), dtype)
    values = tensorflow.raw_ops.Dequantize(
        input=quantized,
        min_range=low,
        max_range=high,
        mode=mode,
        narrow_range=node.attr["narrow_range"].b,
        axis=axis,
    )
    for name in list(node.attr):
        del node.attr[name]
    _become(node, "Const", [])
    node.attr["dtype"].type = tensorflow.float32.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tensorflow.make_tensor_proto(values.numpy()))
    return True


_PLAIN = {"quint8": "uint8", "qint8": "int8", "quint16": "uint16", "qint16": "int16", "qint32": "int32"}

REWRITES: dict[str, _Rewrite] = {
    "Erfc": _erfc,
    "Log1p": _log1p,
    "Expm1": _expm1,
    "Xlogy": _xlogy,
    "Xdivy": _xdivy,
    "MulNoNan": _mul_no_nan,
    "Inv": _inv,
    "L2Loss": _l2_loss,
    "PlaceholderWithDefault": _default,
    "Dequantize": _dequantize,
    **dict.fromkeys((ARGUMENTS, VARIABLES, PER_CHANNEL), rewrite_fake_quant),
}
