"""What a model of the Object Detection API needs before it is planned: configuration, labels, environment."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeconv.detection.contract import labels_beside, with_meaning
from edgeconv.detection.pipeline import Pipeline, beside, read_pipeline
from edgeconv.environments.specs import find_spec
from edgeconv.environments.store import found
from edgeconv.errors import UnavailableError
from edgeconv.formats.base import Contract, Description
from edgeconv.recipe.request import ConversionRequest

ENVIRONMENT = "object-detection"
KIND = "object-detection"


@dataclass(frozen=True, slots=True)
class Detector:
    """What was found out.

    Attributes:
        contract: with what the configuration says; ``None`` where only opening the model tells it.
        kind: of the source, which decides the arrows.
        options: for the arrow that exports, and for the reference.
        notes: for a person.
    """

    contract: Contract | None
    kind: str | None
    options: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def looked_at(
    request: ConversionRequest, description: Description, contract: Contract | None, kind: str | None
) -> Detector:
    """Read the ``pipeline.config`` that was named, or that lies beside a detector.

    Raises:
        InvalidModelError: the configuration or the labels cannot be read.
        UsageError: a shape that does not fit.
        UnavailableError: a training checkpoint needs the side environment, and it is not here.
    """
    trained = description.format == "checkpoint" and kind == "tf2-object" and request.model_builder is None
    pipeline = pipeline_for(request, description, trained)
    if pipeline is None:
        return Detector(contract, kind)
    if trained:
        return _to_export(request, pipeline)
    if contract is None:
        return Detector(contract, kind)
    image = next((s for s in contract.inputs if s.name in request.shapes or s.tensor in request.shapes), None)
    # Only TFLite needs a fixed size, and samples of the user's have the size they have.
    fixed = request.data is None and (not request.to or any(t.format == "tflite" for t in request.to))
    meaning = with_meaning(
        contract, pipeline, request.label_map, shape=image.shape if image is not None else None, pin=fixed
    )
    return Detector(meaning.contract, kind, notes=meaning.notes)


def pipeline_for(
    request: ConversionRequest, description: Description, trained: bool = False
) -> Pipeline | None:
    """The configuration that the user named, or the one beside a detector; ``None`` where there is none.

    Args:
        request: what was asked for.
        description: of the model; one that is no detector gets none that nobody named.
        trained: whether it is a training checkpoint, which says nothing of being a detector.

    Raises:
        InvalidModelError: it cannot be read.
    """
    if request.pipeline_config is not None:
        return read_pipeline(request.pipeline_config)
    detects = any(finding.code == "object-detection" for finding in description.findings)
    near = beside(request.model) if detects or trained else None
    return None if near is None else read_pipeline(near)


def _to_export(request: ConversionRequest, pipeline: Pipeline) -> Detector:
    spec = find_spec(ENVIRONMENT)
    if found(spec) is None:
        raise UnavailableError(
            f"a training checkpoint of the Object Detection API ({pipeline.architecture}) is exported by the "
            "API itself, in a side environment that is not here",
            where=str(request.model),
            hint=f"make it once: edgeconv environments create {ENVIRONMENT}",
        )
    options: dict[str, Any] = {"pipeline_config": str(Path(pipeline.path).absolute())}
    labels = request.label_map or labels_beside(pipeline)
    if labels is not None:
        options["label_map"] = str(labels.absolute())
    if request.shapes:
        options["input_shape"] = list(next(iter(request.shapes.values())))
    return Detector(None, KIND, options)


def with_pipeline(description: Description, model: Path, named: Path | None = None) -> Description:
    """The description of a detector with what its ``pipeline.config`` says, under ``metadata['detector']``.

    Args:
        description: of the model; one that is no detector is given back as it is, unless a file is named.
        model: where to look for the file.
        named: the file that the user names.

    Raises:
        InvalidModelError: the file that the user names, or that lies beside the model, cannot be read.
    """
    detects = any(finding.code == "object-detection" for finding in description.findings)
    trained = description.metadata.get("kind") == "tf2-object"
    path = named or (beside(model) if detects or trained else None)
    if path is None:
        return description
    pipeline = read_pipeline(path)
    resizer, last = pipeline.resizer, pipeline.post_processing
    size = "×".join(map(str, resizer.size)) if resizer and resizer.size else "depends on the image"
    labels = labels_beside(pipeline)
    said = {
        "configuration": path.name,
        "architecture": pipeline.architecture,
        "classes": pipeline.num_classes,
        "extractor": pipeline.feature_extractor,
        "resizer": f"{resizer.kind}, {size}" if resizer else "none",
        "normalisation": pipeline.normaliser.kind if pipeline.normaliser else "not known",
        "scores": f"{last.score_converter}, above {last.score_threshold:g}",
        "suppression": f"overlap above {last.iou_threshold:g}, at most {last.max_total_detections}",
        "labels": labels.name if labels else "none beside it",
    }
    return dataclasses.replace(description, metadata={**description.metadata, "detector": said})
