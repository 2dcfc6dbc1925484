"""Weights in HDF5 files of Keras 1 and 2, put into a model of tf_keras in its order and layout.

Keras 1 stored a gate of a recurrent layer at a time, kernels of ``dim_ordering='th'`` with the filters
first, and one-dimensional kernels with two spatial dimensions. Theano convolves where TensorFlow
correlates: kernels that were trained there are turned around. The weights of layers of cuDNN are laid out
as those of cuDNN; tf_keras converts them itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeconv.errors import ConversionError

_CONVOLUTIONS = {
    "Conv1D": 1,
    "Conv2D": 2,
    "Conv3D": 3,
    "Conv2DTranspose": 2,
    "Conv3DTranspose": 3,
    "ConvLSTM2D": 2,
    "DepthwiseConv2D": 2,
    "SeparableConv1D": 1,
    "SeparableConv2D": 2,
}
"""Layers whose kernels move over an image, and over how many dimensions."""
_MODELS = ("Model", "Sequential", "Functional")
_GATES = {"GRU": (0, 1, 2), "LSTM": (0, 2, 1, 3), "ConvLSTM2D": (0, 2, 1, 3)}
"""Order of the gates as tf_keras has them in the order of Keras 1, which kept them apart."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who wrote the weights.

    Attributes:
        major: major version of Keras.
        version: the whole of it.
        backend: ``tensorflow``, ``theano``, ``cntk``, or ``None`` where nobody says.
    """

    major: int
    version: str
    backend: str | None


def load_weights(group: Any, model: Any, origin: Origin, path: str) -> None:
    """Put the weights of an HDF5 group into a model of tf_keras, layer by layer in their order.

    Args:
        group: ``model_weights`` of a model's file, or the root of a file of weights.
        model: a model of tf_keras.
        origin: who wrote them.
        path: what an error names as the place.

    Raises:
        ConversionError: layers or shapes differ; lists what the file and the model have.
    """
    import numpy as np
    from tf_keras.src import backend
    from tf_keras.src.saving.legacy import hdf5_format

    stored = [
        (str(name), [np.asarray(group[name][key]) for key in keys])
        for name in hdf5_format.load_attributes_from_hdf5_group(group, "layer_names")
        if (keys := hdf5_format.load_attributes_from_hdf5_group(group[name], "weight_names"))
    ]
    layers = [layer for layer in model.layers if hdf5_format._legacy_weights(layer)]
    if len(stored) != len(layers):
        raise _other_layers(stored, layers, path)
    pairs: list[tuple[Any, Any]] = []
    for (name, values), layer in zip(stored, layers, strict=True):
        wanted = hdf5_format._legacy_weights(layer)
        try:
            if origin.major < 2:
                values = _of_keras_1(layer, values)
            if origin.backend == "theano":
                values = _turned(layer, values)
            values = hdf5_format.preprocess_weights_for_loading(layer, values, "2", origin.backend)
        except (ValueError, IndexError, AssertionError) as error:
            raise _other_shapes(name, layer, wanted, values, path) from error
        if [tuple(v.shape) for v in wanted] != [np.shape(v) for v in values]:
            raise _other_shapes(name, layer, wanted, values, path)
        pairs += zip(wanted, values, strict=True)
    if "top_level_model_weights" in group:
        own = model._trainable_weights + model._non_trainable_weights
        top = hdf5_format.load_subset_weights_from_hdf5_group(group["top_level_model_weights"])
        if len(own) != len(top):
            raise ConversionError(
                f"the file has {len(top)} weights of the model itself, and the model {len(own)}", where=path
            )
        pairs += zip(own, top, strict=True)
    backend.batch_set_value(pairs)
    for layer in model._flatten_layers():
        layer.finalize_state()


def _of_keras_1(layer: Any, values: list[Any]) -> list[Any]:
    import numpy as np

    kind = type(layer).__name__
    if kind == "TimeDistributed":
        return _of_keras_1(layer.layer, values)
    if kind == "Bidirectional":
        half = len(values) // 2
        forward, backward = values[:half], values[half:]
        return _of_keras_1(layer.forward_layer, forward) + _of_keras_1(layer.backward_layer, backward)
    if kind in _MODELS:
        return _of_model(layer, values, _of_keras_1)
    values = list(values)
    if kind in _GATES and len(values) == 3 * len(_GATES[kind]):
        axis = -1
        if kind == "ConvLSTM2D" and layer.data_format == "channels_first":
            axis = 0
        # Each gate has its kernel, its recurrent kernel and its bias.
        values = [
            np.concatenate([values[3 * gate + part] for gate in _GATES[kind]], -1 if part == 2 else axis)
            for part in range(3)
        ]
    first = getattr(layer, "data_format", None) == "channels_first"
    if kind == "Conv1D" and values[0].ndim == 4:
        # (length, 1, in, filters), before 1.2 (filters, in, length, 1)
        if values[0].shape[:2] != (layer.kernel_size[0], 1) or values[0].shape[3] != layer.filters:
            values[0] = np.transpose(values[0], (2, 3, 1, 0))
        values[0] = values[0][:, 0]
    elif kind == "Conv2D" and first:
        values[0] = np.transpose(values[0], (2, 3, 1, 0))
    elif kind == "ConvLSTM2D" and first:
        values[:2] = [np.transpose(value, (2, 3, 1, 0)) for value in values[:2]]
    elif kind == "Conv3D" and first:
        values[0] = np.transpose(values[0], (2, 3, 4, 1, 0))
    elif kind == "Conv2DTranspose":
        values[0] = np.transpose(values[0], (2, 3, 0, 1) if first else (0, 1, 3, 2))
    elif kind == "SeparableConv2D" and first:
        values[:2] = [np.transpose(value, (2, 3, 1, 0)) for value in values[:2]]
    return values


def _turned(layer: Any, values: list[Any]) -> list[Any]:
    """Kernels that convolve as kernels that correlate: turned around in every spatial dimension."""
    import numpy as np

    kind = type(layer).__name__
    if kind == "TimeDistributed":
        return _turned(layer.layer, values)
    if kind == "Bidirectional":
        half = len(values) // 2
        return _turned(layer.forward_layer, values[:half]) + _turned(layer.backward_layer, values[half:])
    if kind in _MODELS:
        return _of_model(layer, values, _turned)
    if kind not in _CONVOLUTIONS:
        return values
    values = list(values)
    for index in range(2 if kind == "ConvLSTM2D" else 1):
        values[index] = np.flip(values[index], tuple(range(_CONVOLUTIONS[kind])))
    return values


def _of_model(model: Any, values: list[Any], how: Any) -> list[Any]:
    """Apply ``how`` to each layer's part: a model's trainable weights come first, then the others."""
    split = sum(len(layer.trainable_weights) for layer in model.layers)
    trained, fixed = list(values[:split]), list(values[split:])
    made_trained: list[Any] = []
    made_fixed: list[Any] = []
    for layer in model.layers:
        many, others = len(layer.trainable_weights), len(layer.non_trainable_weights)
        if not many + others:
            continue
        part = how(layer, trained[:many] + fixed[:others])
        if len(part) != many + others:  # gates that were apart are one now: the counts are those after
            raise ValueError("a recurrent layer of Keras 1 inside a model inside a model")
        made_trained += part[:many]
        made_fixed += part[many:]
        del trained[:many], fixed[:others]
    return made_trained + made_fixed + trained + fixed


def spatial_kernels(model: Any) -> list[str]:
    """Names of the layers for which it matters whether kernels convolve or correlate."""
    found = []
    for layer in model._flatten_layers():
        inner = getattr(layer, "layer", layer)
        if type(inner).__name__ in _CONVOLUTIONS and any(size > 1 for size in inner.kernel_size):
            found.append(str(layer.name))
    return list(dict.fromkeys(found))


def _other_layers(
    stored: Sequence[tuple[str, list[Any]]], layers: Sequence[Any], path: str
) -> ConversionError:
    mine, theirs = [str(layer.name) for layer in layers], [name for name, _ in stored]
    lacking = [name for name in mine if name not in theirs]
    over = [name for name in theirs if name not in mine]
    return ConversionError(
        f"model and weights do not fit: {len(mine)} layers of the model have weights, and {len(theirs)} of "
        "the file",
        where=path,
        why=f"only the model has {_some(lacking)}; only the file has {_some(over)}",
        hint="give the architecture that these weights were saved from",
    )


def _other_shapes(
    name: str, layer: Any, wanted: Sequence[Any], values: Sequence[Any], path: str
) -> ConversionError:
    return ConversionError(
        f"model and weights do not fit at the layer '{layer.name}'",
        where=path,
        why=f"{type(layer).__name__} has weights of {_some([list(v.shape) for v in wanted])}; the file has "
        f"{_some([list(v.shape) for v in values])} for '{name}'",
        hint="give the architecture that these weights were saved from, with the same sizes",
    )


def _some(items: Sequence[Any]) -> str:
    return (", ".join(str(item) for item in items[:6]) or "none") + (" …" if len(items) > 6 else "")
