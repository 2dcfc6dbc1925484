"""Configs of Keras 1 in the words of Keras 2. The weights themselves are converted by tf_keras."""

from __future__ import annotations

import copy
from typing import Any

from edgeconv.runtimes._keras_config import KerasFile

_CLASSES = {
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "Deconvolution2D": "Conv2DTranspose",
    "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "SeparableConvolution2D": "SeparableConv2D",
    "MaxoutDense": "MaxoutDense",
}
_RENAMED = {
    "input_dtype": "dtype",
    "output_dim": "units",
    "nb_filter": "filters",
    "border_mode": "padding",
    "subsample": "strides",
    "subsample_length": "strides",
    "filter_length": "kernel_size",
    "init": "kernel_initializer",
    "inner_init": "recurrent_initializer",
    "inner_activation": "recurrent_activation",
    "bias": "use_bias",
    "W_regularizer": "kernel_regularizer",
    "b_regularizer": "bias_regularizer",
    "U_regularizer": "recurrent_regularizer",
    "W_constraint": "kernel_constraint",
    "b_constraint": "bias_constraint",
    "atrous_rate": "dilation_rate",
    "gamma_init": "gamma_initializer",
    "beta_init": "beta_initializer",
    "p": "rate",
    "pool_length": "pool_size",
    "stride": "strides",
    "sigma": "stddev",
    "forget_bias_init": None,
    "W_learning_rate_multiplier": None,
    "b_learning_rate_multiplier": None,
    "consume_less": None,
    "input_length": None,
    "weights": None,
    "dropout_U": "recurrent_dropout",
    "dropout_W": "dropout",
    "mode": None,
}
_DIM_ORDERING = {"tf": "channels_last", "th": "channels_first", "default": "channels_last"}
_RECURRENT = ("LSTM", "GRU", "SimpleRNN")
_KEPT_INPUT_LENGTH = ("Embedding",)
_MERGES = {"sum": "Add", "mul": "Multiply", "concat": "Concatenate", "ave": "Average", "max": "Maximum"}


def upgraded_config(file: KerasFile) -> dict[str, Any]:
    """The model's config in the words of Keras 2, whatever wrote the file."""
    assert file.config is not None
    config = copy.deepcopy(file.config)
    return config if file.major >= 2 else _upgrade(config)


def _upgrade(config: dict[str, Any]) -> dict[str, Any]:
    kind = config.get("class_name")
    inner = config.get("config")
    if kind == "Sequential":
        layers = inner if isinstance(inner, list) else inner.get("layers", []) if inner else []
        name = "sequential" if isinstance(inner, list) else (inner or {}).get("name", "sequential")
        return {"class_name": kind, "config": {"name": name, "layers": [_upgrade(layer) for layer in layers]}}
    if kind in ("Model", "Functional") and isinstance(inner, dict):
        inner["layers"] = [_upgrade(layer) for layer in inner.get("layers", [])]
        return config
    return _upgrade_layer(config)


def _upgrade_layer(config: dict[str, Any]) -> dict[str, Any]:
    kind = str(config.get("class_name"))
    old: dict[str, Any] = dict(config.get("config") or {})
    new: dict[str, Any] = {}
    if "dim_ordering" in old:
        new["data_format"] = _DIM_ORDERING.get(str(old.pop("dim_ordering")), "channels_last")
    for first, rows in (("nb_row", "nb_col"), ("kernel_dim1", "kernel_dim2")):
        if first in old and rows in old:
            size = [old.pop(first), old.pop(rows)]
            if "kernel_dim3" in old:
                size.append(old.pop("kernel_dim3"))
            new["kernel_size"] = size
    if kind == "Merge":
        kind = _MERGES.get(str(old.get("mode")), kind)
        if kind == "Concatenate":
            new["axis"] = old.get("concat_axis", -1)
        old = {key: old[key] for key in ("name", "trainable") if key in old}
    for key, value in old.items():
        name = _RENAMED.get(key, key)
        if key == "output_dim" and kind in _KEPT_INPUT_LENGTH:
            name = "output_dim"
        if key == "input_length" and kind in _KEPT_INPUT_LENGTH:
            name = "input_length"
        if kind == "Embedding" and key == "init":
            name = "embeddings_initializer"
        if key == "input_dim" and kind != "Embedding":
            if "batch_input_shape" not in old and not kind.startswith("TimeDistributed"):
                new["batch_input_shape"] = [None, value]
            continue
        if name is None or (kind == "BatchNormalization" and key == "mode"):
            continue
        if key in ("layer", "forward_layer", "backward_layer") and isinstance(value, dict):
            value = _upgrade(value)
        new[name] = value
    if kind in ("Dropout", "SpatialDropout2D", "GaussianDropout") and "rate" not in new:
        new["rate"] = 0.5
    if kind in _RECURRENT:
        new.setdefault("implementation", 1)
        # Keras 1's GRU applied the reset gate before the matrix product.
        if kind == "GRU":
            new["reset_after"] = False
    upgraded = {key: value for key, value in config.items() if key not in ("class_name", "config")}
    return {"class_name": _CLASSES.get(kind, kind), "config": new, **upgraded}
