"""The last step to a frozen graph, the same whatever it came from: tidy it and write it, value by value."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Protocol

from edgeconv.conversions._freezing import FrozenGraph
from edgeconv.conversions.base import ConversionResult
from edgeconv.surgery import graph_report_initial_statistics
from edgeconv.surgery.changes import Change
from edgeconv.surgery.graph import Graph
from edgeconv.surgery.graph_writing import write_graph
from edgeconv.surgery.stored_values import StoredValue, sizes_of


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
    stored = {name: value for name, value in frozen.values.items() if isinstance(value, StoredValue)}
    try:
        for node in frozen.variables:
            assert values is not None, node.name
            stored[node.name] = StoredValue(partial(values.get, node), _bytes(node))
        changes = (*frozen.changes, *_untouched(frozen, stored))
        write_graph(frozen.graph_def, destination, stored, sizes_of(stored), path)
    finally:
        if values is not None:
            values.close()
    return ConversionResult(frozen.contract, frozen.notes, changes)


def _untouched(frozen: FrozenGraph, stored: dict[str, StoredValue]) -> list[Change]:
    """Whether the moving statistics are the initial ones, which only their values tell."""
    graph = Graph(
        frozen.graph_def,
        outputs=[spec.inner_name for spec in frozen.contract.outputs],
        inputs=[spec.inner_name for spec in frozen.contract.inputs],
        values=stored,
    )
    return graph_report_initial_statistics.rewrite(graph)


def _bytes(variable: Any) -> int:
    import tensorflow as tf

    shape = tf.TensorShape(variable.attr["shape"].shape)
    count = shape.num_elements()
    return 0 if count is None else int(count) * int(tf.as_dtype(variable.attr["dtype"].type % 100).size)
