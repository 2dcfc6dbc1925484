"""What a Keras file says about itself, read without Keras: version, config, and what is dangerous in it."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeconv.errors import InvalidModelError, UnavailableError, UntrustedModelError, UsageError

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
        backend: what the model was trained with, as the file says.
        named: whether its weights lie under the names of layers, as Keras 1 and 2 stored them, and not
            under paths of objects.
    """

    container: str
    version: str | None
    config: dict[str, Any] | None
    backend: str | None = None
    named: bool = False

    @property
    def major(self) -> int:
        """Major version of Keras; files that do not say are of Keras 1, or of 3 without layers' names."""
        if self.version is None:
            return 3 if self.container == "zip" or (self.config is None and not self.named) else 1
        found = re.match(r"\d+", self.version)
        return int(found[0]) if found else 1


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
            found: dict[str, str | None] = {}
            for key in ("keras_version", "backend"):
                found[key] = _text(stream.attrs.get(key))
                if found[key] is None and "model_weights" in stream:
                    found[key] = _text(stream["model_weights"].attrs.get(key))
            raw = _text(stream.attrs.get("model_config"))
            weights = stream.get("model_weights", stream)
            return KerasFile(
                "h5",
                found["keras_version"],
                None if raw is None else json.loads(raw),
                found["backend"],
                any(key.startswith("layer_names") for key in weights.attrs),
            )
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InvalidModelError(
            "not a complete Keras file", where=str(path), why=str(error)[:200], hint="copy the model again"
        ) from error


def read_architecture(path: Path) -> tuple[dict[str, Any], str | None, str | None]:
    """The architecture that ``--config`` names: what ``model.to_json()`` or ``model.to_yaml()`` gave.

    The ``config.json`` of a ``.keras`` archive, and any Keras file with a model in it, will do too.

    Returns:
        The config, and version of Keras and backend as far as it says them.

    Raises:
        UsageError: it cannot be read, or is no architecture.
    """
    try:
        head = path.read_bytes()[:8]
        if head.startswith((b"PK\x03\x04", b"\x89HDF")):
            file = read_keras_file(path)
            if file.config is None:
                raise UsageError(
                    "--config names a file of weights, not of an architecture", where=str(path), hint=_CONFIG
                )
            return file.config, file.version, file.backend
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("--config cannot be read", where=str(path), why=str(error), hint=_CONFIG) from error
    try:
        config = json.loads(text)
        if isinstance(config, str):  # json.dump(model.to_json()) wraps it once more
            config = json.loads(config)
    except ValueError:
        config = _from_yaml(text, path)
    if not isinstance(config, dict) or "class_name" not in config:
        raise UsageError(
            "--config holds no architecture of a Keras model",
            where=str(path),
            why="it has no class_name",
            hint=_CONFIG,
        )
    version = config.get("keras_version")
    backend = config.get("backend")
    return config, None if version is None else str(version), None if backend is None else str(backend)


_CONFIG = "write it with open('model.json', 'w').write(model.to_json()), where the model can be built"


def _from_yaml(text: str, path: Path) -> Any:
    """YAML of plain data; Keras's own adds tuples, which are lists here. No object is ever made of it."""
    try:
        import yaml
    except ImportError as error:
        raise UnavailableError(
            "PyYAML is not installed, which --config needs for YAML",
            where=str(path),
            hint="pip install pyyaml, or write the architecture as JSON",
        ) from error

    class Loader(yaml.SafeLoader):  # type: ignore[misc,name-defined,unused-ignore]
        pass

    Loader.add_constructor(
        "tag:yaml.org,2002:python/tuple",
        lambda loader, node: loader.construct_sequence(node, deep=True),  # type: ignore[arg-type,unused-ignore]
    )
    Loader.add_constructor(
        "tag:yaml.org,2002:python/unicode",
        lambda loader, node: loader.construct_scalar(node),  # type: ignore[arg-type,unused-ignore]
    )
    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(
            "--config is neither JSON nor plain YAML",
            where=str(path),
            why=" ".join(str(error).split())[:200],
            hint=_CONFIG,
        ) from error


def refuse_code(
    config: Mapping[str, Any], path: Path, options: Mapping[str, Any], supplied: Collection[str] = ()
) -> None:
    """Refuse a config that would run code on loading.

    Args:
        config: the model's.
        path: what an error names as the place.
        options: of which ``trust`` allows all.
        supplied: names of the classes and functions that the person gave in place of the file's.

    Raises:
        UntrustedModelError: a Lambda layer, a serialized function, or a TensorFlow function that touches
            files, and ``options`` do not say ``trust``.
        UsageError: a class of a module outside Keras, which nobody gave.
    """
    if options.get("trust"):
        return
    for kind, name, detail in dangers(config, supplied=supplied):
        if kind == "class":
            raise UsageError(
                f"the model needs the custom class or function '{name}', which is not in the file",
                where=str(path),
                why=f"{detail}; Keras files hold the names of custom layers, not their code",
                hint="supply it: --custom-objects MODULE or FILE.py, in which it is defined; or the code "
                "that builds the model: --model-builder MODULE:FUNCTION",
            )
        raise UntrustedModelError(
            f"{kind} '{name}' would run code that comes with the model",
            where=str(path),
            why=detail,
            hint="add --trust if you know who made the file; or supply what it does as a function of that "
            "name: --custom-objects FILE.py; or replace the layer and save the model again"
            if kind == "Lambda layer"
            else "add --trust if you know who made the file; or replace that layer and save the model again",
        )


def dangers(config: Any, owner: str = "", supplied: Collection[str] = ()) -> Iterator[tuple[str, str, str]]:
    """``(kind, name, detail)`` of everything in a config that would run code on loading.

    The name is that of the layer, or for the kind ``class`` that of the class.
    """
    if isinstance(config, Mapping):
        kind = config.get("class_name")
        inner = config.get("config")
        name = str(
            config.get("name") or (inner.get("name") if isinstance(inner, Mapping) else None) or owner or kind
        )
        if kind == "Lambda" and isinstance(inner, Mapping) and not _is_code(inner):
            pass  # it names a function
        elif kind in _CODE and name not in supplied:
            yield "Lambda layer", name, "a Lambda layer carries Python code"
        elif kind in ("TFOpLambda", "SlicingOpLambda"):
            function = str(inner.get("function", "")) if isinstance(inner, Mapping) else ""
            if function.startswith(_FOREIGN_PREFIXES):
                yield "layer", name, f"it calls tf.{function}"
        module = config.get("module")
        if isinstance(module, str) and isinstance(kind, str) and kind not in _CODE:
            root = module.split(".")[0]
            own = str(inner) if kind == "function" else kind
            given = own in supplied or str(config.get("registered_name")) in supplied
            if root not in (*_KERAS_MODULES, "builtins", "tensorflow", "") and not given:
                yield "class", own, f"'{name}' is of a class or function in the module {module}"
        for value in config.values():
            yield from dangers(value, name if isinstance(kind, str) else owner, supplied)
    elif isinstance(config, list):
        for value in config:
            yield from dangers(value, owner, supplied)


def _is_code(settings: Mapping[str, Any]) -> bool:
    """Whether a Lambda layer of Keras 1 or 2 holds code; one made of a named function holds its name."""
    function, kind = settings.get("function"), settings.get("function_type")
    if isinstance(function, Mapping):
        return function.get("class_name") != "function"  # which Keras 3 stores by name
    return not (kind in ("function", "raw") and isinstance(function, str))


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
