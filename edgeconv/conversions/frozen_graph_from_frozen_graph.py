"""A GraphDef as somebody gave it to a frozen graph for inference, from which everything else is made.

What was given may be text, may have several outputs that nobody asked for, batch normalisations in training
mode, queues, and variables whose values are in a checkpoint beside it (``--checkpoint``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeconv.conversions._freezing import bare, freeze
from edgeconv.conversions._frozen_writing import Values, write_frozen
from edgeconv.conversions.base import Conversion, ConversionJob, ConversionResult
from edgeconv.errors import InvalidModelError, UsageError
from edgeconv.runtimes.tensorflow_graph import read_graph
from edgeconv.surgery.stored_values import read_apart


def convert(job: ConversionJob) -> ConversionResult:
    """Make the inference graph of the GraphDef at ``job.source``; see :class:`ConversionJob`.

    Raises:
        UsageError: no contract, or one that names what is not there.
        InvalidModelError: no graph, or one with variables whose values nobody gave.
        UntrustedModelError, ConversionError: see ``freeze``.
    """
    path = job.source.path
    contract = job.source.contract
    if contract is None:
        raise UsageError(
            "a GraphDef does not say which tensors are its inputs and outputs",
            where=str(path),
            hint="name them with --inputs and --outputs; 'edgeconv inspect' ranks the likely ones",
        )
    graph_def, constants = read_apart(path) or (read_graph(path), {})
    frozen = freeze(bare(graph_def), contract, str(path), job.options, constants)
    values = _values(frozen.variables, job)
    keep = bool(job.options.get("keep_weights"))
    return write_frozen(frozen, values, job.destination, str(path), keep_weights=keep)


def _values(variables: tuple[Any, ...], job: ConversionJob) -> Values | None:
    """Where the values of the graph's variables come from; ``None`` for a graph without any."""
    if not variables:
        return None
    raise not_frozen([node.name for node in variables], job.source.path)


def not_frozen(variables: list[str], path: Path) -> InvalidModelError:
    """The refusal of a graph with variables where no checkpoint was given."""
    more = f" and {len(variables) - 3} more" if len(variables) > 3 else ""
    return InvalidModelError(
        f"the graph is not frozen: it needs {', '.join(sorted(variables)[:3])}{more}, "
        "whose values are not in it",
        where=str(path),
        why="the values of variables are kept in a checkpoint, beside the graph",
        hint="give the checkpoint that belongs to it: --checkpoint PREFIX",
    )


CONVERSION = Conversion(
    name="frozen_graph_from_frozen_graph",
    source="frozen_graph",
    target="frozen_graph",
    precisions=("fp32",),
    convert=convert,
    preload=("tensorflow",),
    tools=("tensorflow",),
    options=("checkpoint", "keep_weights", "trust"),
)
