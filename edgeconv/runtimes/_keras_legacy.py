"""Builds models of Keras 1 and 2 from their configs, by tf_keras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeconv.errors import UsageError
from edgeconv.formats.base import Shape
from edgeconv.runtimes._keras_config import KerasFile
from edgeconv.runtimes._keras_custom import known_function
from edgeconv.runtimes._keras_diagnosis import needs_classes
from edgeconv.runtimes._keras_repair import entries_in, repaired_config, unknown_classes
from edgeconv.runtimes._keras_upgrade import upgraded_config

_ACTIVATIONS = ("activation", "recurrent_activation", "inner_activation")


def build_legacy(
    file: KerasFile, path: str, custom: Mapping[str, Any], trust: bool, shapes: Sequence[Shape | None] = ()
) -> tuple[Any, tuple[str, ...]]:
    """The model of tf_keras that a config of Keras 1 or 2 describes, with fresh weights.

    Args:
        file: of which config and version are used.
        path: what an error names as the place.
        custom: classes and functions that the person supplied, by name.
        trust: whether code in the file may run.
        shapes: of the inputs, for a model that states none.

    Returns:
        The model, and notes for the person.

    Raises:
        UsageError: it states no shape of its input, and nobody else does; or classes of layers are missing.
        ConversionError: Keras 2 has no word for something of Keras 1.
        Exception: whatever tf_keras raises about the config.
    """
    import tf_keras
    from tf_keras.src.layers import serialization
    from tf_keras.src.saving import serialization_lib
    from tf_keras.src.saving.legacy import model_config

    assert file.config is not None
    config = file.config if file.major >= 2 else upgraded_config(file.config, path)
    serialization.populate_deserializable_objects()
    known = serialization.LOCAL.ALL_OBJECTS
    config, notes = repaired_config(config, known, custom)
    scope_now = {**tf_keras.saving.get_custom_objects(), **custom}
    if missing := unknown_classes(config, {*known, *scope_now}):
        raise needs_classes(path, missing, bool(custom))
    _state_shape(config, shapes)
    _number_the_input(config)
    functions, said = _functions(config, custom)
    notes += said
    if file.major < 3:
        notes += _resized_otherwise(config, file.version or "1")
    scope = {**functions, **custom}
    if trust:
        scope = {**_names_in_lambdas(), **scope}
        _load_lambdas(config, scope)
    with serialization_lib.SafeModeScope(not trust), tf_keras.utils.custom_object_scope(scope):
        model = model_config.model_from_config(config, custom_objects=scope)
    if not model.built:
        raise UsageError(
            "the model does not say the shape of its input",
            where=path,
            why="its first layer states none, and it was never called before it was saved",
            hint="say it: --shape NAME=1,…",
        )
    return model, tuple(notes)


def own_names(config: Any, custom: Mapping[str, Any]) -> dict[str, Any]:
    """What the person supplied, also under the registered names (``package>Name``) that a config has."""
    names = dict(custom)
    for entry in entries_in(config):
        for name in (entry.get("registered_name"), entry.get("class_name")):
            short = str(name).rpartition(">")[2]
            if isinstance(name, str) and ">" in name and short in custom:
                names.setdefault(name, custom[short])
    return names


def _state_shape(config: dict[str, Any], shapes: Sequence[Shape | None]) -> None:
    """Give the shape that the person states to a Sequential model without one."""
    settings = config.get("config")
    entries = settings.get("layers") if isinstance(settings, dict) else settings
    if config.get("class_name") != "Sequential" or not isinstance(entries, list) or not entries:
        return
    first = entries[0].get("config")
    if len(shapes) != 1 or shapes[0] is None or not isinstance(first, dict) or "layers" in first:
        return
    if "batch_input_shape" not in first and "batch_shape" not in first:
        first["batch_input_shape"] = list(shapes[0])


def _number_the_input(config: dict[str, Any]) -> None:
    """Let a Sequential model that begins with an Embedding take integers.

    Keras gives it an input of the type that the layer computes in, and rounds.
    """
    settings = config.get("config")
    entries = settings.get("layers") if isinstance(settings, dict) else settings
    if config.get("class_name") != "Sequential" or not isinstance(entries, list) or not entries:
        return
    first = entries[0]
    if first.get("class_name") != "Embedding" or "batch_input_shape" not in first["config"]:
        return
    name = f"{first['config'].get('name', 'embedding')}_input"
    shape = first["config"]["batch_input_shape"]
    stated = {"name": name, "batch_input_shape": shape, "dtype": "int32", "sparse": False}
    entries.insert(0, {"class_name": "InputLayer", "config": stated})


def _functions(config: Any, custom: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Activations that no Keras has but everybody knows, and a note for each."""
    import tf_keras

    found: dict[str, Any] = {}
    notes = []
    for entry in entries_in(config):
        settings = entry["config"]
        if not isinstance(settings, dict):
            continue
        for key in _ACTIVATIONS:
            name = settings.get(key)
            if isinstance(name, dict) and name.get("class_name") == "function":
                name = name.get("config")
            if not isinstance(name, str) or name in custom or name in found:
                continue
            try:
                tf_keras.activations.get(name)
            except (ValueError, TypeError):
                known = known_function(name)
                if known is not None:
                    found[name] = known[0]
                    notes.append(f"the activation '{name}' is not in the file: {known[1]} was taken")
    return found, notes


def _resized_otherwise(config: Any, version: str) -> list[str]:
    """TensorFlow 1 resized images from other places between the pixels than TensorFlow 2."""
    parts = version.split("-")[0].split(".")
    if not all(part.isdigit() for part in parts[:2]) or tuple(map(int, parts[:2])) >= (2, 3):
        return []
    names = [
        str(entry["config"].get("name"))
        for entry in entries_in(config)
        if isinstance(entry["config"], dict) and entry["config"].get("interpolation") == "bilinear"
    ]
    if not names:
        return []
    note = (
        f"the bilinear resizing of {', '.join(names[:4])} is TensorFlow 2's, with the centres of pixels; "
        "under TensorFlow 1 it lay half a pixel aside"
    )
    return [note]


def _load_lambdas(config: Any, names: Mapping[str, Any]) -> None:
    """Make functions of the code of Lambda layers, which know ``names``: tf_keras gives them next to none.

    This is for a person who trusts the file: the code runs when the model does.
    """
    from tf_keras.src.utils.generic_utils import func_load

    for entry in entries_in(config):
        settings = entry["config"]
        if entry["class_name"] != "Lambda" or settings.get("function_type", "lambda") != "lambda":
            continue
        code = settings.get("function")
        if isinstance(code, dict) and isinstance(code.get("config"), dict):
            code = [code["config"].get(key) for key in ("code", "defaults", "closure")]
        if isinstance(code, list):
            loaded = func_load(code, globs={**names, "__builtins__": __builtins__})
            settings.update(function=loaded, function_type="raw", module=None)


def _names_in_lambdas() -> dict[str, Any]:
    """What the code of Lambda layers usually calls its imports."""
    import math

    import numpy as np
    import tensorflow as tf
    import tf_keras

    keras = {"K": tf_keras.backend, "keras": tf_keras, "backend": tf_keras.backend}
    return {**keras, "tf": tf, "np": np, "numpy": np, "math": math}
