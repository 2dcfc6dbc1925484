"""Which integers an input of a graph can carry, where it picks rows of a table of known length."""

from __future__ import annotations

from typing import Any

from edgeconv.formats import _graph_vocabulary as vocabulary
from edgeconv.formats._graph_values import integers
from edgeconv.formats._graph_view import GraphView, tensor_node
from edgeconv.formats._tensor_types import shape_of
from edgeconv.formats.base import Contract

_SAME_NUMBERS = frozenset(
    {"Identity", "Reshape", "ExpandDims", "Squeeze", "Cast", "Transpose", "StopGradient"}
)
_READS = frozenset({"Identity", "ReadVariableOp"})
_GATHERS = {"Gather": 0, "GatherV2": 0, "ResourceGather": 0}


def index_ranges(graph_def: Any, contract: Contract) -> dict[str, list[float]]:
    """Smallest and largest index by input name: ``[0, rows - 1]`` of the shortest table that it picks from.

    Tables are what ``Gather`` picks rows from, and what ``OneHot`` makes: an index out of its range is all
    zeros in TensorFlow, and elsewhere an error. Inputs that pick from none are left out.
    """
    view = GraphView(graph_def)
    found: dict[str, list[float]] = {}
    for spec in contract.inputs:
        name, port = tensor_node(spec.inner_name)
        if port == 0 and name in view.nodes and spec.dtype in ("int32", "int64", "uint8"):
            rows = [r for r in _tables(view, name) if r]
            if rows:
                found[spec.name] = [0.0, float(min(rows) - 1)]
    return found


def _tables(view: GraphView, name: str) -> list[int | None]:
    """The lengths of the tables that a tensor picks from."""
    lengths: list[int | None] = []
    waiting, seen = [name], {name}
    while waiting:
        source = waiting.pop()
        for taker in view.consumers[source]:
            inputs = view.data_inputs(taker)
            operation = view.nodes[taker].op
            if operation in _SAME_NUMBERS and inputs[0][0] == source:
                if taker not in seen:
                    seen.add(taker)
                    waiting.append(taker)
            elif operation in _GATHERS and len(inputs) > 1 and inputs[1][0] == source:
                lengths.append(_rows(view, taker, inputs))
            elif operation == "OneHot" and inputs[0][0] == source:
                lengths.append(_number(view, inputs[1][0]))
    return lengths


def _rows(view: GraphView, taker: str, inputs: list[tuple[str, int]]) -> int | None:
    if view.nodes[taker].op == "GatherV2" and (len(inputs) < 3 or _number(view, inputs[2][0]) != 0):
        return None
    table = inputs[0][0]
    while table in view.nodes and view.nodes[table].op in _READS:
        table = view.data_inputs(table)[0][0]
    node = view.nodes.get(table)
    if node is None or node.op not in (*vocabulary.VARIABLE_OPS, "Const"):
        return None
    shape = view.shape(table) if node.op == "Const" else shape_of(node.attr["shape"].shape)
    return shape[0] if shape else None


def _number(view: GraphView, name: str) -> int | None:
    """The one integer of a constant."""
    while name in view.nodes and view.nodes[name].op == "Identity":
        name = view.data_inputs(name)[0][0]
    node = view.nodes.get(name)
    if node is None or node.op != "Const":
        return None
    values = integers(node.attr["value"].tensor)
    return values[0] if values is not None and len(values) == 1 else None
