"""The last step to a frozen graph, the same whatever it came from: tidy it and write it, value by value."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from edgeconv.conversions._freezing import FrozenGraph
from edgeconv.conversions.base import ConversionResult
from edgeconv.surgery import graph_report_initial_statistics
from edgeconv.surgery.cleanup import tidy
from edgeconv.surgery.graph import Graph, full
from edgeconv.surgery.graph_writing import write_graph
from edgeconv.surgery.stored_values import LARGE, StoredValue, sizes_of


class Values(Protocol):
    """Where the values of variables come from."""

    def get(self, node: Any) -> Any:
        """The value of the variable that NodeDef ``node`` makes, as ``numpy.ndarray``.

        Raises:
            InvalidModelError, ConversionError: it cannot be had; names the variable and the way out.
        """
        ...

    def close(self) -> None:
        """Give files and sessions back."""
        ...


def write_frozen(
    frozen: FrozenGraph,
    values: Values | None,
    destination: Path,
    path: str,
    *,
    keep_weights: bool = False,
) -> ConversionResult:
    """Write a frozen graph; no more than one large value is in memory at a time.

    Args:
        frozen: what ``freeze`` gave.
        values: of its variables; ``None`` only where it has none. Closed in any case.
        destination: the file.
        path: of the source, for errors.
        keep_weights: fold nothing into the weights, which are to become variables again.

    Raises:
        InvalidModelError: a value is not there.
        ConversionError: the graph is above the 2 GB that a GraphDef can hold.
    """
    graph_def, contract = frozen.graph_def, frozen.contract
    try:
        graph = Graph(
            graph_def,
            outputs=[spec.inner_name for spec in contract.outputs],
            inputs=[spec.inner_name for spec in contract.inputs],
            values={**frozen.values, **_of_variables(graph_def, frozen.variables, values)},
            path=path,
        )
        # Before constants are folded: a statistic is told by the normalisation that reads it.
        changes = (*frozen.changes, *graph_report_initial_statistics.rewrite(graph))
        if keep_weights:
            graph.prune()
        else:
            changes = (*changes, *tidy(graph))
        stored = {name: value for name, value in graph.values.items() if isinstance(value, StoredValue)}
        write_graph(graph.graph_def, destination, stored, sizes_of(stored), path)
    finally:
        if values is not None:
            values.close()
    outputs = zip(contract.outputs, graph.outputs, strict=True)
    contract = replace(
        contract, outputs=tuple(replace(spec, tensor=full(reference)) for spec, reference in outputs)
    )
    return ConversionResult(contract, frozen.notes, changes)


def _of_variables(
    graph_def: Any, variables: tuple[Any, ...], values: Values | None
) -> dict[str, StoredValue]:
    """Values of variables, read when they are written; small ones go into the graph, which folds them."""
    import tensorflow as tf

    nodes = {node.name: node for node in graph_def.node}
    stored = {}
    for variable in variables:
        assert values is not None, variable.name
        shape = tf.TensorShape(variable.attr["shape"].shape)
        dtype = tf.as_dtype(variable.attr["dtype"].type % 100)
        size = (shape.num_elements() or 0) * int(dtype.size)
        if shape.is_fully_defined() and size < LARGE:
            proto = tf.make_tensor_proto(values.get(variable))
            nodes[variable.name].attr["value"].tensor.CopyFrom(proto)
        else:
            known = tuple(shape.as_list()) if shape.is_fully_defined() else None
            stored[variable.name] = StoredValue(partial(values.get, variable), size, known)
    return stored
