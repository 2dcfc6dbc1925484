"""Keras file to SavedModel: inference mode, one signature, the file's own names and static shapes."""

from __future__ import annotations

from edgeconv.conversions._saved_model_writing import write_saved_model
from edgeconv.conversions.base import Conversion, ConversionJob, ConversionResult
from edgeconv.runtimes._keras_loading import load_keras_program
from edgeconv.runtimes._programs import renamed


def convert(job: ConversionJob) -> ConversionResult:
    """Write the Keras model at ``job.source`` as a SavedModel; see :class:`ConversionJob`.

    Raises:
        InvalidModelError, UntrustedModelError, UsageError: see ``load_keras_program``.
        ConversionError: neither Keras can open the file, or TensorFlow cannot write the model.
    """
    program, notes = load_keras_program(job.source.path, job.options, job.source.contract)
    contract = write_saved_model(renamed(program, job.source.contract), job.destination)
    return ConversionResult(contract, (*notes, *program.notes))


CONVERSION = Conversion(
    name="saved_model_from_keras",
    source="keras",
    target="saved_model",
    precisions=("fp32",),
    convert=convert,
    preload=("tensorflow", "keras"),
    tools=("tensorflow", "keras", "tf_keras"),
    options=("trust", "custom_objects", "config", "model_builder", "keras_backend"),
)
