"""Checkpoint of TensorFlow 2 and the code that builds its model, to SavedModel."""

from __future__ import annotations

from edgeconv.conversions._saved_model_writing import write_saved_model
from edgeconv.conversions.base import Conversion, ConversionJob, ConversionResult
from edgeconv.runtimes._checkpoint_loading import load_checkpoint_program
from edgeconv.runtimes._programs import renamed


def convert(job: ConversionJob) -> ConversionResult:
    """Restore the checkpoint at ``job.source`` into the built model and write it; see :class:`ConversionJob`.

    Raises:
        UsageError, InvalidModelError, ConversionError: see ``load_checkpoint_program``.
    """
    program, notes = load_checkpoint_program(job.source.path, job.options)
    contract = write_saved_model(renamed(program, job.source.contract), job.destination)
    return ConversionResult(contract, (*notes, *program.notes))


CONVERSION = Conversion(
    name="saved_model_from_checkpoint",
    source="checkpoint",
    target="saved_model",
    precisions=("fp32",),
    convert=convert,
    preload=("tensorflow", "keras"),
    tools=("tensorflow", "keras", "tf_keras"),
    options=("model_builder", "signature", "config", "custom_objects", "trust"),
    source_kinds=("tf2-object", "built"),
)
