"""Training checkpoint of the Object Detection API for TensorFlow 2, to SavedModel.

The API's own exporter does it, in the side environment ``object-detection``; nothing of the API is imported
here. Every variable of the model must be in the checkpoint, which the exporter by itself does not ask for.
"""

from __future__ import annotations

from pathlib import Path

from edgeconv.conversions.base import Conversion, ConversionJob, ConversionResult
from edgeconv.detection.contract import with_meaning
from edgeconv.detection.pipeline import read_pipeline
from edgeconv.environments.running import run_in
from edgeconv.environments.scripts import SCRIPTS
from edgeconv.environments.specs import find_spec
from edgeconv.environments.store import required
from edgeconv.errors import ConversionError
from edgeconv.formats._checkpoint_files import checkpoint_files
from edgeconv.formats.base import Description, contract_of
from edgeconv.formats.registry import format_named

ENVIRONMENT = "object-detection"
EXPORT_SECONDS = 1800.0
EXPORT_MEMORY = 16 << 30


def convert(job: ConversionJob) -> ConversionResult:
    """Export the checkpoint at ``job.source``; see :class:`ConversionJob`.

    Raises:
        UnavailableError: the environment is not here.
        ConversionError: the API refuses the configuration, or the checkpoint lacks variables of the model.
    """
    pipeline = read_pipeline(Path(str(job.options["pipeline_config"])))
    environment = required(find_spec(ENVIRONMENT))
    run_in(
        environment,
        SCRIPTS / "object_detection.py",
        {
            "do": "export",
            "pipeline_config": pipeline.path,
            "checkpoint": str(checkpoint_files(job.source.path).prefix.absolute()),
            "destination": str(job.destination),
        },
        scratch=job.scratch,
        seconds=EXPORT_SECONDS,
        memory_bytes=EXPORT_MEMORY,
    )
    description: Description = format_named("saved_model").describe(job.destination)
    signatures = [s for s in description.signatures if s.name == "serving_default"]
    if not signatures:
        raise ConversionError(
            "the exporter wrote a SavedModel without a signature", where=str(job.source.path)
        )
    label_map = job.options.get("label_map")
    meaning = with_meaning(
        contract_of(signatures[0]),
        pipeline,
        None if label_map is None else Path(str(label_map)),
        shape=tuple(job.options["input_shape"]) if "input_shape" in job.options else None,
    )
    made = (
        f"exported by the Object Detection API {environment.spec.pins['tf-models-research-object-detection']}"
    )
    return ConversionResult(meaning.contract, (made, *meaning.notes))


CONVERSION = Conversion(
    name="saved_model_from_object_detection",
    source="checkpoint",
    target="saved_model",
    precisions=("fp32",),
    convert=convert,
    tools=("numpy",),
    options=("pipeline_config", "label_map", "input_shape"),
    source_kinds=("object-detection",),
)
