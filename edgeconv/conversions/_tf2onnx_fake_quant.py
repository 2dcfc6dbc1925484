"""Simulated quantization of a trained graph, said in arithmetic that ONNX has.

Before::

    x ─▶ FakeQuantWithMinMaxVars(min, max, num_bits, narrow_range) ─▶ y

After::

    x ─▶ clip to [low, high] ─▶ Floor((x - low) / scale + 0.5) · scale + low ─▶ y

with low and high moved so that zero is on the grid, as TensorFlow moves them. tf2onnx takes only some
widths and ranges of these ops, and none of those with one range a channel.
"""

from __future__ import annotations

from typing import Any

ARGUMENTS = "FakeQuantWithMinMaxArgs"
VARIABLES = "FakeQuantWithMinMaxVars"
PER_CHANNEL = "FakeQuantWithMinMaxVarsPerChannel"


def rewrite_fake_quant(graph: Any, node: Any, nodes: dict[str, Any]) -> bool:
    """Rewrite one node of ``graph`` (a GraphDef) in place; False where its range is no constant."""
    import numpy
    from tensorflow import make_ndarray

    if node.op == ARGUMENTS:
        # Absent attributes have the op's defaults.
        low = numpy.float32(node.attr["min"].f if "min" in node.attr else -6.0)
        high = numpy.float32(node.attr["max"].f if "max" in node.attr else 6.0)
    else:
        sources = [_constant(name, nodes) for name in node.input[1:3]]
        if any(source is None for source in sources):
            return False
        low, high = (make_ndarray(source.attr["value"].tensor) for source in sources if source is not None)
    bits = node.attr["num_bits"].i if "num_bits" in node.attr else 8
    narrow = node.attr["narrow_range"].b
    low, high, scale = nudged(numpy.asarray(low), numpy.asarray(high), 1 if narrow else 0, 2**bits - 1)
    value = node.input[0]
    for step, op, operand in (
        ("high", "Minimum", high),
        ("low", "Maximum", low),
        ("offset", "Sub", low),
        ("steps", "RealDiv", scale),
        ("half", "AddV2", numpy.full_like(scale, 0.5)),
    ):
        value = _binary(graph, f"{node.name}/{step}", op, value, operand)
    floor = graph.node.add(name=f"{node.name}/floor", op="Floor", input=[value])
    floor.attr["T"].type = _float32()
    scaled = _binary(graph, f"{node.name}/scaled", "Mul", floor.name, scale)
    operand = _add_constant(graph, f"{node.name}/result/value", low)
    for name in list(node.attr):
        del node.attr[name]
    node.op = "AddV2"
    node.attr["T"].type = _float32()
    del node.input[:]
    node.input.extend([scaled, operand])
    return True


def nudged(low: Any, high: Any, first: int, last: int) -> tuple[Any, Any, Any]:
    """``low``, ``high`` and step of a grid of integers ``first`` to ``last`` that has zero on it.

    Float32 arrays of one shape in and out. The rule is that of TensorFlow's fake_quant_ops: the zero
    point is rounded half up and held within the grid.
    """
    import numpy

    scale = ((high - low) / numpy.float32(last - first)).astype(numpy.float32)
    with numpy.errstate(divide="ignore", invalid="ignore"):
        from_low = numpy.float32(first) - low / scale
    zero = numpy.clip(numpy.floor(from_low + numpy.float32(0.5)), first, last).astype(numpy.float32)
    return (first - zero) * scale, (last - zero) * scale, scale


def _constant(name: str, nodes: dict[str, Any]) -> Any | None:
    node = nodes.get(name.partition(":")[0])
    while node is not None and node.op == "Identity":
        node = nodes.get(node.input[0].partition(":")[0])
    return node if node is not None and node.op == "Const" else None


def _float32() -> int:
    from tensorflow import float32

    return int(float32.as_datatype_enum)


def _add_constant(graph: Any, name: str, value: Any) -> str:
    import numpy
    from tensorflow import make_tensor_proto

    node = graph.node.add(name=name, op="Const")
    node.attr["dtype"].type = _float32()
    node.attr["value"].tensor.CopyFrom(make_tensor_proto(numpy.asarray(value, dtype=numpy.float32)))
    return name


def _binary(graph: Any, name: str, op: str, value: str, operand: Any) -> str:
    node = graph.node.add(name=name, op=op, input=[value, _add_constant(graph, f"{name}/value", operand)])
    node.attr["T"].type = _float32()
    return name
