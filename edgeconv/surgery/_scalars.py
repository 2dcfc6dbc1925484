"""What small tensors of a graph are worth, as far as constants decide it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgeconv.surgery.graph import Graph

_ELEMENTS = 16
_MOST_NODES = 256
PASSING = frozenset(
    {"Identity", "StopGradient", "Snapshot", "PreventGradient", "EnsureShape", "CheckNumerics", "Print"}
    | {"CheckNumericsV2", "Enter", "RefEnter", "RefIdentity"}
)
"""Ops that give their first input on, into a loop as well."""


def evaluated(op: str, values: Sequence[Any], node: Any) -> Any | None:
    """What ``node`` gives for small arrays; ``None`` where it is not known.

    Args:
        op: its type.
        values: its data inputs as ``numpy.ndarray``, ``None`` for those not known.
        node: the NodeDef.
    """
    import numpy
    import tensorflow as tf

    if op in ("LogicalAnd", "LogicalOr"):
        decisive = op == "LogicalOr"
        for value in values:
            if value is not None and value.size == 1 and bool(value) is decisive:
                return numpy.asarray(decisive)
    if not values or any(value is None for value in values):
        return None
    if op in PASSING:
        return values[0]
    if op == "Cast":
        return values[0].astype(tf.as_dtype(node.attr["DstT"].type).as_numpy_dtype)
    function = _functions().get(op)
    if function is None:
        return None
    with numpy.errstate(all="ignore"):
        result = numpy.asarray(function(*values))
    return result if result.size <= _ELEMENTS else None


def _functions() -> dict[str, Callable[..., Any]]:
    import numpy

    return {
        "LogicalAnd": numpy.logical_and,
        "LogicalOr": numpy.logical_or,
        "LogicalNot": numpy.logical_not,
        "Add": numpy.add,
        "AddV2": numpy.add,
        "Sub": numpy.subtract,
        "Mul": numpy.multiply,
        "RealDiv": numpy.true_divide,
        "Div": numpy.true_divide,
        "Maximum": numpy.maximum,
        "Minimum": numpy.minimum,
        "Neg": numpy.negative,
        "Reciprocal": lambda x: 1 / x,
        "Inv": lambda x: 1 / x,
        "Equal": numpy.equal,
        "NotEqual": numpy.not_equal,
        "Greater": numpy.greater,
        "GreaterEqual": numpy.greater_equal,
        "Less": numpy.less,
        "LessEqual": numpy.less_equal,
    }


def scalar(graph: Graph, reference: str, known: dict[str, Any] | None = None) -> Any | None:
    """The value of a real tensor of at most a few elements that constants decide; else ``None``.

    Args:
        graph: the graph.
        reference: of the tensor.
        known: values found so far, each once: a graph of thousands of sums is no tree.

    Returns:
        ``numpy.ndarray``.
    """
    known = {} if known is None else known
    if reference in known:
        return known[reference]
    node = graph.node(reference)
    if node is None or len(known) > _MOST_NODES:
        return None
    known[reference] = None  # also of what comes back to itself
    if node.op == "Const":
        value = graph.constant(reference, limit=_ELEMENTS)
        # No switch, probability or factor is complex.
        known[reference] = None if value is not None and value.dtype.kind == "c" else value
    elif ":" not in reference and (node.op in PASSING or node.op == "Cast" or node.op in _functions()):
        inputs = graph.data_inputs(node)
        values = []
        for each in inputs[:1] if node.op in PASSING else inputs:
            values.append(scalar(graph, each, known))
            if values[-1] is None and node.op not in ("LogicalAnd", "LogicalOr"):
                return None
        known[reference] = evaluated(node.op, values, node)
    return known[reference]
