"""What a Keras file says about itself, read without Keras: version, config, and what is dangerous in it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeconv.errors import InvalidModelError, UntrustedModelError

_KERAS_MODULES = ("keras", "tf_keras", "keras_hub", "keras_nlp", "keras_cv")
_FOREIGN_PREFIXES = ("io.", "data.", "py_function", "numpy_function", "load_", "raw_ops.", "saved_model.")
_CODE = ("Lambda", "__lambda__", "__numpy_lambda__")


@dataclass(frozen=True, slots=True)
class KerasFile:
    """What a Keras file says.

    Attributes:
        container: ``h5`` or ``zip`` (``.keras``).
        version: version of Keras that wrote it, as it says; ``None`` where it does not.
        config: the model's config; ``None`` in a file that holds weights alone.
    """

    container: str
    version: str | None
    config: dict[str, Any] | None

    @property
    def major(self) -> int:
        """Major version of Keras; files that do not say are of Keras 1."""
        return int((self.version or "1").split(".")[0])


def read_keras_file(path: Path) -> KerasFile:
    """Read version and config of a Keras file.

    Raises:
        InvalidModelError: neither HDF5 nor zip, or without a config where one belongs.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                metadata = json.loads(archive.read("metadata.json"))
                config = json.loads(archive.read("config.json"))
            return KerasFile("zip", str(metadata.get("keras_version") or "") or None, config)
        import h5py

        with h5py.File(path, "r") as stream:
            attributes = stream.attrs
            version = _text(attributes.get("keras_version"))
            if version is None and "model_weights" in stream:
                version = _text(stream["model_weights"].attrs.get("keras_version"))
            raw = _text(attributes.get("model_config"))
            return KerasFile("h5", version, None if raw is None else json.loads(raw))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InvalidModelError(
            "not a complete Keras file", where=str(path), why=str(error)[:200], hint="copy the model again"
        ) from error


def refuse_code(config: Mapping[str, Any], path: Path, options: Mapping[str, Any]) -> None:
    """Refuse a config that would run code on loading.

    Raises:
        UntrustedModelError: a Lambda layer, a serialized function, a TensorFlow function that touches
            files, or a class of a module outside Keras, and ``options`` do not say ``trust``.
    """
    if options.get("trust"):
        return
    for kind, name, detail in dangers(config):
        raise UntrustedModelError(
            f"{kind} '{name}' would run code that comes with the model",
            where=str(path),
            why=detail,
            hint="add --trust if you know who made the file; or replace that layer and save the model again",
        )


def dangers(config: Any, owner: str = "") -> Iterator[tuple[str, str, str]]:
    """``(kind, layer name, detail)`` of everything in a config that would run code on loading."""
    if isinstance(config, Mapping):
        kind = config.get("class_name")
        inner = config.get("config")
        name = str(
            config.get("name") or (inner.get("name") if isinstance(inner, Mapping) else None) or owner or kind
        )
        if kind in _CODE:
            yield "Lambda layer", name, "a Lambda layer carries Python code"
        elif kind in ("TFOpLambda", "SlicingOpLambda"):
            function = str(inner.get("function", "")) if isinstance(inner, Mapping) else ""
            if function.startswith(_FOREIGN_PREFIXES):
                yield "layer", name, f"it calls tf.{function}"
        module = config.get("module")
        if isinstance(module, str) and isinstance(kind, str) and kind not in _CODE:
            root = module.split(".")[0]
            if root not in (*_KERAS_MODULES, "builtins", "tensorflow", ""):
                yield "layer", name, f"its class {kind} lies in the module {module}"
        for value in config.values():
            yield from dangers(value, name if isinstance(kind, str) else owner)
    elif isinstance(config, list):
        for value in config:
            yield from dangers(value, owner)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
