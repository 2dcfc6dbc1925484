"""Configs of Keras 1 in the words of Keras 2. Their weights are converted in ``_keras_weights``.

What Keras 2 has no word for, and what would mean something else there, is refused: batch normalisation by
the statistics of the batch, merges by cosine, activations and layers that were dropped.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from edgeconv.errors import ConversionError

_CLASSES = {
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "Deconvolution2D": "Conv2DTranspose",
    "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "AtrousConv1D": "Conv1D",
    "AtrousConv2D": "Conv2D",
    "Deconv2D": "Conv2DTranspose",
    "SeparableConvolution2D": "SeparableConv2D",
    "TimeDistributedDense": "Dense",  # which Keras 2 applies along the last axis by itself
}
_RENAMED = {
    "output_dim": "units",
    "nb_filter": "filters",
    "border_mode": "padding",
    "subsample": "strides",
    "subsample_length": "strides",
    "filter_length": "kernel_size",
    "inner_activation": "recurrent_activation",
    "bias": "use_bias",
    "atrous_rate": "dilation_rate",
    "p": "rate",
    "pool_length": "pool_size",
    "stride": "strides",
    "sigma": "stddev",
    "dropout_U": "recurrent_dropout",
    "dropout_W": "dropout",
}
_DROPPED = frozenset(
    [
        *("init", "inner_init", "forget_bias_init", "gamma_init", "beta_init"),
        *("W_regularizer", "b_regularizer", "U_regularizer", "activity_regularizer"),
        *("gamma_regularizer", "beta_regularizer"),
        *("W_constraint", "b_constraint", "W_learning_rate_multiplier", "b_learning_rate_multiplier"),
        *("consume_less", "weights", "input_length", "output_shape_mask", "cache_enabled"),
        *("custom_name",),
    ]
)
"""What only training, building or speed knows about."""
_FOR_TRAINING = ("ActivityRegularization",)
_KERNEL_SIZES = (("nb_row", "nb_col"), ("kernel_dim1", "kernel_dim2", "kernel_dim3"))
_DIM_ORDERING = {"tf": "channels_last", "th": "channels_first"}
_RECURRENT = ("LSTM", "GRU", "SimpleRNN")
_MERGES = {"sum": "Add", "mul": "Multiply", "concat": "Concatenate", "ave": "Average", "max": "Maximum"}
_MODELS = ("Model", "Functional", "Container", "Network")


def upgraded_config(config: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The config of a model of Keras 1 in the words of Keras 2.

    Args:
        config: parsed ``model_config``.
        path: what an error names as the place.

    Raises:
        ConversionError: a layer or setting that Keras 2 does not have; names it and the way out.
    """
    return _Upgrade(path).model(copy.deepcopy(dict(config)))


class _Upgrade:
    def __init__(self, path: str) -> None:
        self.path = path

    def model(self, config: dict[str, Any]) -> dict[str, Any]:
        kind, inner = config.get("class_name"), config.get("config")
        if kind == "Sequential":
            entries = inner if isinstance(inner, list) else (inner or {}).get("layers", [])
            name = (inner.get("name") if isinstance(inner, dict) else None) or config.get("name")
            if entries and _joins_models(entries[0]):
                return self._joined(entries, str(name or "model"))
            layers = [self.entry(layer) for layer in entries]
            made = {"class_name": kind, "config": {"name": name or "sequential", "layers": layers}}
            return {**{k: v for k, v in config.items() if k not in made}, **made}
        if kind in _MODELS and isinstance(inner, dict):
            inner["layers"] = [self.entry(layer) for layer in inner.get("layers", [])]
            return {**config, "class_name": "Functional"}
        raise self._refused(f"the model is a '{kind}' of Keras 0", "Keras 1 and later have no such model")

    def entry(self, config: dict[str, Any]) -> dict[str, Any]:
        """A layer, or a model that is used as one."""
        inner = config.get("config")
        models = config.get("class_name") in (*_MODELS, "Sequential")
        if models and (isinstance(inner, list) or (isinstance(inner, dict) and "layers" in inner)):
            return self.model(config)
        return self.layer(config)

    def layer(self, config: dict[str, Any]) -> dict[str, Any]:
        """One layer with its settings renamed."""
        kind = str(config.get("class_name"))
        old: dict[str, Any] = dict(config.get("config") or {})
        new: dict[str, Any] = {}
        if kind == "Merge":
            kind, old = self._merge(old)
        if kind == "BatchNormalization" and old.get("mode", 0) != 0:
            raise self._refused(
                f"the layer '{old.get('name')}' normalises by the statistics of what it is given",
                f"BatchNormalization of mode {old['mode']} does so in inference too; Keras 2 cannot",
            )
        if "dim_ordering" in old:
            new["data_format"] = _DIM_ORDERING.get(str(old.pop("dim_ordering")), "channels_last")
        for sizes in _KERNEL_SIZES:
            if sizes[0] in old:
                new["kernel_size"] = [old.pop(size) for size in sizes if size in old]
        for key, value in old.items():
            self._setting(kind, key, value, old, new)
        if kind == "UpSampling1D" and "length" in new:
            new["size"] = new.pop("length")
        if kind == "ZeroPadding2D":
            new["padding"] = _zero_padding(new.get("padding"))
        if kind == "AveragePooling1D" or kind == "MaxPooling1D":
            new.setdefault("pool_size", 2)
        if kind == "Dropout" or kind.startswith(("SpatialDropout", "GaussianDropout")):
            new.setdefault("rate", 0.5)
        if kind == "GRU":
            # Keras 1's GRU applied the reset gate before the matrix product.
            new["reset_after"] = False
        if kind == "Deconvolution2D":
            new.pop("output_shape", None)  # said again by strides and padding; the shapes of weights tell
        rest = {key: value for key, value in config.items() if key not in ("class_name", "config")}
        return {"class_name": _CLASSES.get(kind, kind), "config": new, **rest}

    def _setting(self, kind: str, key: str, value: Any, old: Mapping[str, Any], new: dict[str, Any]) -> None:
        embedding = kind == "Embedding"
        if key == "input_dtype":
            # Of what goes in, which for an Embedding is not what it computes in.
            if kind == "InputLayer":
                new["dtype"] = value
            return
        if key in ("layer", "forward_layer", "backward_layer") and isinstance(value, dict):
            new[key] = self.entry(value)
        elif embedding and key in ("output_dim", "input_length"):
            new[key] = value
        elif key == "input_dim" and not embedding:
            if "batch_input_shape" not in old and value is not None:
                sizes = [old.get("input_length"), value] if kind in _RECURRENT else [value]
                new["batch_input_shape"] = [None, *sizes]
        elif (embedding and key == "dropout") or key in _DROPPED or (kind != "Merge" and key == "mode"):
            return
        elif kind == "Lambda" and key == "output_shape_type":
            new[key] = value
        else:
            new[_RENAMED.get(key, key)] = value

    def _merge(self, old: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        mode = old.get("mode")
        kept: dict[str, Any] = {key: old[key] for key in old if key in ("name", "trainable")}
        if old.get("mode_type") == "lambda" or old.get("mode_type") == "function":
            kept.update(function=mode, function_type=old["mode_type"], arguments=old.get("arguments") or {})
            return "Lambda", {**kept, "output_shape": None, "output_shape_type": "raw"}
        if mode == "concat":
            return "Concatenate", {**kept, "axis": old.get("concat_axis", -1)}
        if mode == "dot":
            axes = old.get("dot_axes", -1)
            return "Dot", {**kept, "axes": axes, "normalize": False}
        if mode not in _MERGES:
            raise self._refused(
                f"the layer '{old.get('name')}' merges by '{mode}'", "Keras 2 has no such way to merge"
            )
        return _MERGES[mode], kept

    def _joined(self, entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
        """A Sequential model that begins with a Merge of models, as a functional one.

        The layers of the branches are its own, in the order in which Keras 1 stored their weights.
        """
        layers: list[dict[str, Any]] = []
        inputs: list[list[Any]] = []
        last = self._branch(entries, layers, inputs)
        return {
            "class_name": "Functional",
            "config": {
                "name": name,
                "layers": layers,
                "input_layers": inputs,
                "output_layers": [[last, 0, 0]],
            },
        }

    def _branch(
        self, entries: list[dict[str, Any]], layers: list[dict[str, Any]], inputs: list[list[Any]]
    ) -> str:
        """Append the layers of a Sequential model; the name of its last one."""
        before: list[str] = []
        for position, entry in enumerate(entries):
            if position == 0 and _joins_models(entry):
                for branch in entry["config"]["layers"]:
                    inner = branch.get("config")
                    if branch.get("class_name") != "Sequential":
                        raise self._refused(
                            f"a Merge joins a model of class '{branch.get('class_name')}'",
                            "only branches that are Sequential are known",
                        )
                    of_branch = inner if isinstance(inner, list) else inner.get("layers", [])
                    before.append(self._branch(of_branch, layers, inputs))
            layer = self.entry(entry)
            settings = layer["config"]
            name = str(settings.get("name") or layer.get("name"))
            if not before:
                shape = settings.pop("batch_input_shape", None)
                if shape is None:
                    raise self._refused(f"the layer '{name}' begins a branch and states no shape", None)
                start = name if layer["class_name"] == "InputLayer" else f"{name}_input"
                dtype = settings.get("dtype") or ("int32" if layer["class_name"] == "Embedding" else None)
                layers.append(
                    {
                        "class_name": "InputLayer",
                        "name": start,
                        "config": {"name": start, "batch_input_shape": shape, "dtype": dtype or "float32"},
                        "inbound_nodes": [],
                    }
                )
                inputs.append([start, 0, 0])
                before = [start]
                if start == name:
                    continue
            nodes = [[[source, 0, 0, {}] for source in before]]
            layers.append({**layer, "name": name, "inbound_nodes": nodes})
            before = [name]
        return before[0]

    def _refused(self, what: str, why: str | None) -> ConversionError:
        return ConversionError(
            what,
            where=self.path,
            why=why,
            hint="build the model with today's Keras in a function that returns it, and name that function: "
            "--model-builder FILE.py:FUNCTION; the weights are taken from this file",
        )


def _joins_models(entry: Mapping[str, Any]) -> bool:
    config = entry.get("config")
    return entry.get("class_name") == "Merge" and isinstance(config, dict) and bool(config.get("layers"))


def _zero_padding(padding: Any) -> Any:
    if isinstance(padding, dict):
        return [[padding.get(f"{a}_pad", 0), padding.get(f"{b}_pad", 0)] for a, b in _SIDES]
    if isinstance(padding, (list, tuple)) and len(padding) == 4:
        return [list(padding[:2]), list(padding[2:])]
    return padding


_SIDES = (("top", "bottom"), ("left", "right"))
