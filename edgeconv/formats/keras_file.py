"""Keras files: HDF5 of Keras 1, 2 and 3 (``.h5``, ``.hdf5``) and the ``.keras`` archive of Keras 3."""

from __future__ import annotations

import mmap
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeconv.errors import InvalidModelError
from edgeconv.formats._keras_archive import (
    CONFIG,
    METADATA,
    WEIGHTS,
    ZIP_MAGIC,
    Weight,
    hdf5_offset,
    is_parameter,
    json_member,
    open_zip,
    parse_json,
    read_hdf5,
    read_weights,
)
from edgeconv.formats._keras_config import (
    ConfigError,
    Layer,
    class_of,
    config_findings,
    inputs_and_outputs,
    layers_of,
)
from edgeconv.formats._keras_macs import UnknownCostError, count_macs
from edgeconv.formats._model_bytes import check_file
from edgeconv.formats.base import Description, Finding, Signature, TensorSpec

_NEWEST_KERAS = 3
_WITH_STATISTICS = ("BatchNormalization", "Normalization", "SpectralNormalization")


class KerasFile:
    """The format ``keras``; see :class:`edgeconv.formats.base.Format`."""

    name = "keras"
    suffix = ".keras"

    def recognise(self, path: Path, head: bytes) -> float:
        """By a model's or its weights' marks in an HDF5 file, or by the members of a zip archive."""
        if hdf5_offset(head) is not None:
            return _hdf5_is_keras(path)
        if head.startswith(ZIP_MAGIC):
            return _zip_is_keras(path, head)
        return 0.0

    def describe(self, path: Path) -> Description:
        """Describe the model from its configuration and the shapes of its weights.

        Weights without their architecture are described as such, with a finding that says what to supply.

        Raises:
            InvalidModelError: truncated, corrupt, or of a Keras from the future.
        """
        size = check_file(path)
        with path.open("rb") as stream:
            packed = stream.read(4) == ZIP_MAGIC
        model, facts, weights = _from_zip(path) if packed else _from_hdf5(path)
        if model is None:
            return _weights_alone(path, size, facts, weights)
        try:
            layers = layers_of(model)
            inputs, outputs = inputs_and_outputs(model)
            findings = config_findings(model, layers)
        except (ConfigError, TypeError, AttributeError) as error:
            raise InvalidModelError(
                "the configuration is not one of a Keras model",
                where=str(path),
                why=str(error),
                hint="save the model again with Keras",
            ) from error
        macs, outputs, findings = _with_macs(model, outputs, findings)
        version = facts.get("keras_version")
        backend = facts.get("backend")
        kept = [weight for weight in weights if is_parameter(weight)]
        return Description(
            format=self.name,
            path=str(path),
            bytes=size,
            producer=f"Keras {version or '(version not stated)'}" + (f" ({backend})" if backend else ""),
            version=f"Keras {version}" if version else None,
            signatures=(Signature("default", inputs, outputs),) if inputs or outputs else (),
            parameters=sum(weight.elements for weight in kept),
            macs=macs,
            ops=dict(sorted(Counter(layer.kind for layer in layers).items())),
            metadata={
                "container": "zip" if packed else "hdf5",
                "class": class_of(model),
                "keras_version": version,
                "backend": backend,
                "date_saved": facts.get("date_saved"),
                "compiled": bool(facts.get("compiled")),
                "layers": [_layer_json(layer) for layer in layers],
                "weights": len(kept),
                "trainable_parameters": _trainable(layers, kept, by_name=not packed),
            },
            findings=findings,
        )

    def files(self, path: Path) -> list[Path]:
        """The one file."""
        return [path]


def read_model_config(path: Path) -> dict[str, Any] | None:
    """The architecture in a Keras file as parsed JSON: what ``model_from_config`` takes.

    ``None`` where the file holds weights alone.

    Raises:
        InvalidModelError: as :meth:`KerasFile.describe`.
    """
    check_file(path)
    with path.open("rb") as stream:
        packed = stream.read(4) == ZIP_MAGIC
    return (_from_zip(path) if packed else _from_hdf5(path))[0]


def _from_hdf5(path: Path) -> tuple[dict[str, Any] | None, dict[str, Any], list[Weight]]:
    found = read_hdf5(path, path)
    text = found.attributes.get("model_config")
    facts: dict[str, Any] = {
        name: found.attributes.get(name) or found.weights_attributes.get(name)
        for name in ("keras_version", "backend")
    }
    if text is None:
        return None, facts, list(found.weights)
    facts["compiled"] = "training_config" in found.attributes
    facts["keras_version"] = _checked_version(facts["keras_version"] or "1", path)
    weights = list(found.weights) if found.has_model_weights else []
    return parse_json(text, "model_config", path), facts, weights


def _from_zip(path: Path) -> tuple[dict[str, Any] | None, dict[str, Any], list[Weight]]:
    with open_zip(path) as archive:
        names = archive.namelist()
        if CONFIG not in names and WEIGHTS in names:
            return None, {}, list(read_weights(archive, path).weights)
        model = json_member(archive, CONFIG, path)
        facts = json_member(archive, METADATA, path) if METADATA in names else {}
        version = facts.get("keras_version")
        facts["keras_version"] = _checked_version(version if isinstance(version, str) else "3", path)
        compiled = model.get("compile_config")
        facts["compiled"] = isinstance(compiled, dict) and bool(compiled)
        if WEIGHTS not in names:
            raise InvalidModelError(
                f"the archive has no '{WEIGHTS}'",
                where=str(path),
                why=f"it holds {', '.join(sorted(names)[:6])}",
                hint="save the model again; weights in other forms are not read",
            )
        weights = list(read_weights(archive, path).weights)
    return model, facts, weights


def _weights_alone(path: Path, size: int, facts: Mapping[str, Any], weights: Sequence[Weight]) -> Description:
    version = facts.get("keras_version")
    kept = [weight for weight in weights if is_parameter(weight)]
    finding = Finding(
        "weights-only",
        f"the file holds {len(kept)} arrays of weights, but not the architecture they belong to",
        hint="give the architecture: --config model.json (what model.to_json() gave), or the code that "
        "builds the model: --model-builder MODULE:FUNCTION",
    )
    return Description(
        format=FORMAT.name,
        path=str(path),
        bytes=size,
        producer=f"Keras {version or '(version not stated)'}",
        version=f"Keras {version}" if version else None,
        parameters=sum(weight.elements for weight in kept),
        metadata={
            "container": "weights",
            "keras_version": version,
            "backend": facts.get("backend"),
            "weights": len(kept),
            "arrays": [f"{weight.path} {weight.dtype} {list(weight.shape)}" for weight in kept],
        },
        findings=(finding,),
    )


def _checked_version(version: str, path: Path) -> str:
    match = re.match(r"(\d+)", version)
    if match is not None and int(match[1]) > _NEWEST_KERAS:
        raise InvalidModelError(
            f"the file was written by Keras {version}",
            where=str(path),
            why=f"versions up to {_NEWEST_KERAS} are known",
            hint="update edgeconv, or save the model with Keras 3",
        )
    return version


def _hdf5_is_keras(path: Path) -> float:
    """By the names of Keras's attributes and groups, which HDF5 stores as plain text.

    The file is not opened as HDF5: the library can crash on a damaged one.
    """
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data.find(b"model_config") >= 0:
                return 1.0
            if data.find(b"keras_version") >= 0 or data.find(b"layer_names") >= 0:
                return 0.8
            if data.find(b"_layer_checkpoint_dependencies") >= 0:
                return 0.8
            return 0.5 if data.find(b"vars\0") >= 0 and data.find(b"layers\0") >= 0 else 0.0
    except (OSError, ValueError):
        return 0.0


def _zip_is_keras(path: Path, head: bytes) -> float:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
        if CONFIG in names and (WEIGHTS in names or METADATA in names):
            return 1.0
        return 0.6 if WEIGHTS in names else 0.0
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError, OverflowError):
        own = (METADATA.encode(), CONFIG.encode(), WEIGHTS.encode())
        return 0.5 if any(name in head[:512] for name in own) else 0.0


def _with_macs(
    model: Mapping[str, Any], outputs: tuple[TensorSpec, ...], findings: tuple[Finding, ...]
) -> tuple[int | None, tuple[TensorSpec, ...], tuple[Finding, ...]]:
    """Multiply-accumulates, the outputs with the shapes that were found on the way, and what is not known."""
    try:
        macs, shapes = count_macs(model)
    except (UnknownCostError, ConfigError, TypeError, AttributeError, RecursionError) as error:
        if any(finding.code in ("custom-layer", "untrusted-layer") for finding in findings):
            return None, outputs, findings  # which says it already
        unknown = Finding("macs-unknown", f"multiply-accumulates are not known: {error}")
        return None, outputs, (*findings, unknown)
    if len(shapes) == len(outputs):
        outputs = tuple(
            replace(spec, shape=(None, *shape)) if spec.shape is None else spec
            for spec, shape in zip(outputs, shapes, strict=True)
        )
    return macs, outputs, findings


def _layer_json(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "class": layer.kind,
        "module": layer.module,
        "trainable": layer.trainable,
        "input_shape": None if layer.shape is None else list(layer.shape),
    }


def _trainable(layers: Sequence[Layer], weights: Sequence[Weight], by_name: bool) -> int | None:
    """Elements of the weights of trainable layers; ``None`` where a weight's layer cannot be told.

    HDF5 files name the weights by their layers (``by_name``); archives name them by class and number, so
    there it is known only where all is trained. The moving statistics of batch normalisation never are.
    """
    if not by_name:
        plain = all(layer.trainable and layer.kind not in _WITH_STATISTICS for layer in layers)
        return sum(weight.elements for weight in weights) if layers and plain else None
    named: Mapping[str, Layer] = {layer.name.rpartition("/")[2]: layer for layer in layers}
    total = 0
    for weight in weights:
        parts = weight.path.split("/")
        owner = next((named[part] for part in reversed(parts[:-1]) if part in named), None)
        if owner is None:
            return None
        statistic = parts[-1].startswith(("moving_mean", "moving_variance"))
        total += weight.elements if owner.trainable and not statistic else 0
    return total


FORMAT = KerasFile()
