"""Checkpoint of TensorFlow 1 and the graph it belongs to, to frozen graph.

No session is opened: which stored value belongs to which variable is what the graph's restore ops say, or its
names, and the values go from the checkpoint's tables to the file one by one. The graph is the metagraph
beside the checkpoint, another file (``graph``), or what a function builds (``model_builder``).
"""

from __future__ import annotations

from dataclasses import replace

from edgeconv.conversions._freezing import freeze
from edgeconv.conversions._frozen_writing import write_frozen
from edgeconv.conversions.base import Conversion, ConversionJob, ConversionResult
from edgeconv.runtimes._trained_graphs import trained_graph


def convert(job: ConversionJob) -> ConversionResult:
    """Freeze the graph of the checkpoint at ``job.source``; see :class:`ConversionJob`.

    Raises:
        UsageError, InvalidModelError: see ``trained_graph``.
        ConversionError: graph and checkpoint do not fit (with the nearest names), or see ``freeze``.
        UntrustedModelError: see ``freeze``.
    """
    path = str(job.source.path)
    trained = trained_graph(job.source.path, job.source.contract, job.options)
    meta_graph = type(trained.meta_graph)()
    meta_graph.CopyFrom(trained.meta_graph)
    frozen = freeze(meta_graph, trained.contract, path, job.options)
    # Inference may need other variables than the graph as it was: moving statistics, for one.
    values = trained.values(job.options, frozen.variables)
    keep = bool(job.options.get("keep_weights"))
    result = write_frozen(frozen, values, job.destination, path, keep_weights=keep)
    return replace(result, notes=(*trained.notes, *values.notes, *result.notes))


CONVERSION = Conversion(
    name="frozen_graph_from_checkpoint",
    source="checkpoint",
    target="frozen_graph",
    precisions=("fp32",),
    convert=convert,
    preload=("tensorflow",),
    tools=("tensorflow",),
    options=(
        "graph",
        "keep_weights",
        "map_variable",
        "model_builder",
        "moving_averages",
        "restore",
        "signature",
        "tags",
        "trust",
    ),
    source_kinds=("tf1-v1", "tf1-v2", "built"),
)
