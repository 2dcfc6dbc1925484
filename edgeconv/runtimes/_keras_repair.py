"""What configs of Keras 2 say in words that tf_keras no longer knows, in those that it knows.

Before and after, for a recurrent layer of a graphics card and one of Keras 2.1::

    {"class_name": "CuDNNGRU", "config": {"units": 8}}
        {"class_name": "GRU", "config": {"units": 8, "reset_after": true, …}}
    {"class_name": "GRU", "config": {"units": 8, "kernel_initializer": …}}
        {"class_name": "GRU", "config": {"units": 8, "reset_after": false}}
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from typing import Any

_SAME_CLASS = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "UnifiedLSTM": "LSTM",
    "UnifiedGRU": "GRU",
    "LSTMV1": "LSTM",
    "LSTMV2": "LSTM",
    "GRUV1": "GRU",
    "GRUV2": "GRU",
    "DenseLayer": "Dense",
    "Container": "Functional",
    "Network": "Functional",
}
_CUDNN = {"CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU"}
_TRAINING_ENDINGS = ("_initializer", "_regularizer", "_constraint")
_FRAMES = (
    "Model",
    "Functional",
    "Sequential",
    "Lambda",
    "TFOpLambda",
    "SlicingOpLambda",
    "TensorFlowOpLayer",
)
_WRAPPED = ("layer", "forward_layer", "backward_layer", "backward", "cell")


def repaired_config(
    config: Mapping[str, Any], known: Collection[str], custom: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """A config of Keras 2 that tf_keras can build for inference.

    Args:
        config: parsed ``model_config``.
        known: names of the classes that tf_keras has.
        custom: what the person supplied, by name.

    Returns:
        The config, and what a person should know about it.
    """
    repair = _Repair(known, custom)
    return repair.entry(copy.deepcopy(dict(config))), repair.notes


def entries_in(config: Any) -> Iterator[dict[str, Any]]:
    """All layers and models of a config, at any depth."""
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str) and isinstance(config.get("config"), (dict, list)):
            yield config
        for value in config.values():
            yield from entries_in(value)
    elif isinstance(config, list):
        for value in config:
            yield from entries_in(value)


def unknown_classes(config: Any, known: Collection[str]) -> list[str]:
    """Names of the classes of layers in a config that are not ``known``, each once, in order."""
    found: dict[str, None] = {}
    for entry in layers_in(config):
        name = str(entry["class_name"])
        names = {name, name.rpartition(">")[2], str(entry.get("registered_name"))}
        if name not in _FRAMES and not names & set(known):
            found[name.rpartition(">")[2]] = None
    return list(found)


def layers_in(config: Any) -> Iterator[dict[str, Any]]:
    """The layers that a model of layers lists, those that they wrap included, at any depth."""
    settings = config.get("config") if isinstance(config, dict) else None
    listed = settings.get("layers") if isinstance(settings, dict) else settings
    inner = listed if isinstance(listed, list) else []
    if isinstance(settings, dict):
        inner = [*inner, *(settings[key] for key in _WRAPPED if isinstance(settings.get(key), dict))]
    for entry in inner:
        if isinstance(entry, dict) and isinstance(entry.get("class_name"), str):
            yield entry
            yield from layers_in(entry)


class _Repair:
    def __init__(self, known: Collection[str], custom: Mapping[str, Any]) -> None:
        self.known, self.custom = known, custom
        self.notes: list[str] = []

    def entry(self, entry: dict[str, Any]) -> dict[str, Any]:
        """A layer or a model, with all that is in it."""
        settings = entry.get("config")
        listed = settings if isinstance(settings, list) else None
        if isinstance(settings, dict) and isinstance(settings.get("layers"), list):
            listed = settings["layers"]
        if listed is not None:
            self._name_model(entry)
            listed[:] = [self.entry(layer) for layer in listed if isinstance(layer, dict)]
            return entry
        if not isinstance(settings, dict):
            return entry
        kind = str(entry.get("class_name"))
        if kind in self.custom:
            return entry
        name = str(settings.get("name") or entry.get("name") or kind)
        if kind == "Lambda":
            self._lambda(settings, name)
            return entry
        kind = entry["class_name"] = _SAME_CLASS.get(kind, kind)
        if kind in _CUDNN:
            self._cudnn(entry, settings)
        elif kind == "GRU":
            # Keras 2 had no other way before it learned reset_after.
            settings.setdefault("reset_after", False)
        elif kind == "Embedding" and str(settings.get("dtype")).startswith(("int", "uint")):
            del settings["dtype"]  # of what goes in, as Keras 2.0 and 2.1 had it
        if kind in self.known or kind in _CUDNN:
            self._for_inference(settings)
        for key in _WRAPPED:
            if isinstance(settings.get(key), dict) and "class_name" in settings[key]:
                settings[key] = self.entry(settings[key])
        if isinstance(settings.get("cells"), list):
            settings["cells"] = [self.entry(c) if isinstance(c, dict) else c for c in settings["cells"]]
        return entry

    def _name_model(self, entry: dict[str, Any]) -> None:
        """A class of the author's own that was built from layers is built from them again."""
        kind = str(entry.get("class_name"))
        kind = entry["class_name"] = _SAME_CLASS.get(kind, kind)
        if kind in self.known or kind in self.custom:
            return
        settings = entry["config"]
        functional = isinstance(settings, dict) and "input_layers" in settings
        entry["class_name"] = "Functional" if functional else "Sequential"
        entry.pop("registered_name", None)
        self.notes.append(
            f"the model's own class '{kind}' is not in the file: it was rebuilt from its layers, without "
            "what the class adds to them (for training, as a rule)"
        )

    def _lambda(self, settings: dict[str, Any], name: str) -> None:
        function = settings.get("function")
        named = (
            function if isinstance(function, str) and settings.get("function_type") == "function" else name
        )
        if callable(self.custom.get(named)):
            settings.update(function=self.custom[named], function_type="raw", module=None)
            self.notes.append(f"the Lambda layer '{name}' is the function '{named}' that was supplied")
        # What it gives tells its shape; an expression for the shape would be more code to run.
        settings.update(output_shape=None, output_shape_type="raw", output_shape_module=None)
        settings.setdefault("function_type", "lambda")
        if "mask" in settings and not settings["mask"]:
            del settings["mask"]

    def _cudnn(self, entry: dict[str, Any], settings: dict[str, Any]) -> None:
        entry["class_name"] = _CUDNN[str(entry["class_name"])]
        settings.update(activation="tanh", recurrent_activation="sigmoid", use_bias=True)
        if entry["class_name"] == "GRU":
            settings["reset_after"] = True

    def _for_inference(self, settings: dict[str, Any]) -> None:
        for key in [key for key in settings if key.endswith(_TRAINING_ENDINGS)]:
            del settings[key]
        for key, value in list(settings.items()):
            if isinstance(value, dict) and set(value) == {"type", "value"}:
                settings[key] = value["value"]  # a number of NumPy's
