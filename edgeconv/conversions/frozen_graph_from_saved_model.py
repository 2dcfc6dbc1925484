"""SavedModel (TF1 or TF2) to frozen graph: one GraphDef without variables, calls or side effects.

Nothing of the model is run: functions are inlined, the restore subgraph is read for which stored value
belongs to which variable, and the values go from the checkpoint to the file one by one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeconv.conversions._freezing import freeze
from edgeconv.conversions._frozen_writing import write_frozen
from edgeconv.conversions._variable_values import VariableValues
from edgeconv.conversions.base import Conversion, ConversionJob, ConversionResult
from edgeconv.formats._saved_model_files import find_saved_model
from edgeconv.runtimes._object_values import with_values
from edgeconv.runtimes._saved_model_reading import choose_graph, contract_in, read_saved_model


def convert(job: ConversionJob) -> ConversionResult:
    """Freeze the SavedModel at ``job.source``; see :class:`ConversionJob`.

    With the option ``checkpoint`` its variables have the values of that, where ``restore`` does not say less.

    Raises:
        InvalidModelError, UsageError, UntrustedModelError, ConversionError: see ``freeze``.
    """
    path = str(job.source.path)
    place, said = job.source.path, tuple[str, ...]()
    if job.options.get("checkpoint"):
        place = job.scratch / "completed"
        said = with_values(job.source.path, Path(str(job.options["checkpoint"])), job.options, place)
    proto = read_saved_model(place)
    graph = choose_graph(proto, job.source.contract, job.options, path)
    contract = contract_in(graph, job.source.contract, job.options, path)
    frozen = freeze(graph, contract, path, job.options)
    values = VariableValues(find_saved_model(place).folder, frozen.keys, list(graph.meta_info_def.tags))
    del proto, graph
    keep = bool(job.options.get("keep_weights"))
    result = write_frozen(frozen, values, job.destination, path, keep_weights=keep)
    return replace(result, notes=(*said, *result.notes))


CONVERSION = Conversion(
    name="frozen_graph_from_saved_model",
    source="saved_model",
    target="frozen_graph",
    precisions=("fp32",),
    convert=convert,
    preload=("tensorflow",),
    tools=("tensorflow",),
    options=("keep_weights", "signature", "tags", "trust", "checkpoint", "restore"),
)
