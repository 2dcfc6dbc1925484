"""The model of a TensorFlow 2 checkpoint from an architecture: one that is given, or one that lies in it.

Keras before TensorFlow 2.1 stored the configuration of every layer and model beside its values, under the
key ``PATH/.ATTRIBUTES/OBJECT_CONFIG_JSON``: where the model itself is among them, no code is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeconv.errors import EdgeconvError, UsageError
from edgeconv.runtimes._keras_config import KerasFile, read_architecture, refuse_code
from edgeconv.runtimes._keras_custom import custom_objects, legacy_keras
from edgeconv.runtimes._keras_diagnosis import diagnosed
from edgeconv.runtimes._keras_legacy import build_legacy, own_names

_CONFIG = ".ATTRIBUTES/OBJECT_CONFIG_JSON"


def model_from_config(
    reader: Any, shapes: Mapping[str, Any], path: str, options: Mapping[str, Any]
) -> tuple[Any, tuple[str, ...]] | None:
    """The model that ``options['config']`` or the checkpoint itself describes; ``None`` where neither does.

    Args:
        reader: of the checkpoint.
        shapes: of all that it holds.
        path: what an error names as the place.
        options: the user's: ``config``, ``custom_objects``, ``trust``.

    Returns:
        The model with fresh weights, and notes for the person.

    Raises:
        UsageError: the architecture cannot be read, or needs a class that is not there.
        UntrustedModelError: it holds code.
        ConversionError: no Keras can build it; or the checkpoint describes layers and not how they are
            connected.
    """
    if options.get("config"):
        config, version, _ = read_architecture(Path(str(options["config"])))
        modern = version is None and "module" in config
        return _build(KerasFile("h5", version or ("3" if modern else "2.2.4-tf"), config), path, options)
    described = {key.removesuffix(_CONFIG).rstrip("/"): key for key in shapes if key.endswith(_CONFIG)}
    if not described:
        return None
    models: dict[str, dict[str, Any]] = {}
    layers: list[str] = []
    for owner, key in sorted(described.items()):
        entry = _entry(reader.get_tensor(key))
        inner = entry.get("config")
        if isinstance(inner, list) or (isinstance(inner, dict) and isinstance(inner.get("layers"), list)):
            models[owner] = entry
        else:
            layers.append(f"{owner or 'the root'} ({entry.get('class_name', 'unknown')})")
    outermost = [owner for owner in models if not any(_inside(owner, other) for other in models)]
    if len(outermost) == 1:
        owner = outermost[0]
        model, notes = _build(KerasFile("h5", "2.2.4-tf", models[owner]), path, options)
        where = f"under '{owner}'" if owner else "at its root"
        return model, (
            f"the model was built from the configuration that lies in the checkpoint {where}",
            *notes,
        )
    what = (
        f"the checkpoint describes {len(outermost)} models: {', '.join(outermost)}"
        if outermost
        else "the checkpoint describes layers, but not how they are connected"
    )
    raise UsageError(
        what,
        where=path,
        why=None if outermost else f"it has {', '.join(layers[:8])}{' …' if len(layers) > 8 else ''}",
        hint="give the architecture: --config model.json (what model.to_json() gave), or the code that "
        "builds it: --model-builder MODULE:FUNCTION",
    )


def _inside(owner: str, other: str) -> bool:
    return owner != other and (other == "" or owner.startswith(f"{other}/"))


def _entry(stored: Any) -> dict[str, Any]:
    try:
        entry = json.loads(stored.decode("utf-8") if isinstance(stored, bytes) else str(stored))
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _build(file: KerasFile, path: str, options: Mapping[str, Any]) -> tuple[Any, tuple[str, ...]]:
    place = options.get("custom_objects")
    assert file.config is not None
    try:
        if file.major >= 3:
            import keras

            custom = custom_objects(None if place is None else str(place))
            own = own_names(file.config, {**keras.saving.get_custom_objects(), **custom})
            refuse_code(file.config, Path(path), options, own)
            return keras.models.model_from_json(json.dumps(file.config), custom_objects=own), ()
        with legacy_keras():
            import tf_keras

            custom = custom_objects(None if place is None else str(place))
            own = own_names(file.config, {**tf_keras.saving.get_custom_objects(), **custom})
            refuse_code(file.config, Path(path), options, own)
            return build_legacy(file, path, own, bool(options.get("trust")), _built_on(file.config))
    except EdgeconvError:
        raise
    except Exception as error:  # the library's own
        raise diagnosed(Path(path), file, [error], options) from error


def _built_on(config: Mapping[str, Any]) -> list[tuple[int | None, ...] | None]:
    """The shape that a Sequential model was built on, where it says it apart from its layers."""
    inner = config.get("config")
    shape = inner.get("build_input_shape") if isinstance(inner, dict) else None
    return [tuple(shape)] if isinstance(shape, list) else []
