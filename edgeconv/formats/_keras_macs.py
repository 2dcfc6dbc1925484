"""Multiply-accumulates and output shapes of a Keras model, from its configuration alone.

Shapes are carried from layer to layer by the rules of Keras 2 and 3, without the batch dimension. A layer
whose rule is not here makes the whole count unknown, rather than wrong.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgeconv.formats._keras_config import class_of, entries_of, is_model, name_of, shape_of
from edgeconv.formats.base import Shape

Dims = tuple[int, ...]
Settings = Mapping[str, Any]
_DEEPEST = 8
_MOST_LAYERS = 20_000


class UnknownCostError(Exception):
    """A layer's work or shape is not known; the message names it."""


def count_macs(model: Mapping[str, Any]) -> tuple[int, list[Dims]]:
    """Multiply-accumulates of one inference at batch 1, and the shapes of the outputs without the batch.

    Args:
        model: a model's entry as ``model_config`` or ``config.json`` hold it.

    Raises:
        UnknownCostError: an input's shape or a layer's rule is not known.
    """
    counter = _Counter()
    outputs = counter.model(model, None, 0)
    return counter.macs, outputs


class _Counter:
    def __init__(self) -> None:
        self.macs = 0
        self._layers = 0

    def model(self, model: Mapping[str, Any], given: Sequence[Dims] | None, depth: int) -> list[Dims]:
        """The output shapes of a model on the given input shapes, or on those that it states."""
        entries = entries_of(model)
        if depth > _DEEPEST or not entries:
            raise UnknownCostError(class_of(model))
        config = model.get("config")
        if isinstance(config, dict) and "input_layers" in config:
            return self._functional(config, entries, given, depth)
        shape = given[0] if given else _stated(entries[0]) or _built(model)
        for entry in entries:
            if class_of(entry) == "InputLayer":
                shape = shape if shape is not None else _stated(entry)
                continue
            if shape is None:
                raise UnknownCostError(f"the input of {name_of(entry)}")
            shape = self._entry(entry, [shape], depth)[0]
        if shape is None:
            raise UnknownCostError(class_of(model))
        return [shape]

    def _functional(
        self, config: Settings, entries: list[dict[str, Any]], given: Sequence[Dims] | None, depth: int
    ) -> list[Dims]:
        inputs = [reference[0] for reference in _found(config["input_layers"])]
        known: dict[tuple[str, int], list[Dims]] = {}
        for position, name in enumerate(inputs):
            entry = next((e for e in entries if name_of(e) == name), None)
            shape = given[position] if given and position < len(given) else _stated(entry) if entry else None
            if shape is None:
                raise UnknownCostError(f"the input {name}")
            known[name, 0] = [shape]
        waiting = [
            (name_of(entry), number, entry, _found(node))
            for entry in entries
            for number, node in enumerate(entry.get("inbound_nodes") or [])
            if (name_of(entry), number) not in known
        ]
        while waiting:
            later = []
            for name, number, entry, sources in waiting:
                if not all((source, node) in known for source, node, _ in sources):
                    later.append((name, number, entry, sources))
                    continue
                shapes = [_pick(known[source, node], index) for source, node, index in sources]
                known[name, number] = self._entry(entry, shapes, depth)
            if len(later) == len(waiting):
                # Nodes that belong to a model around this one have no sources here; nobody needs them.
                break
            waiting = later
        outputs = _found(config["output_layers"])
        for name, node, _ in outputs:
            if (name, node) not in known:
                raise UnknownCostError(name)
        return [_pick(known[name, node], index) for name, node, index in outputs]

    def _entry(self, entry: Mapping[str, Any], shapes: list[Dims], depth: int) -> list[Dims]:
        self._layers += 1
        if self._layers > _MOST_LAYERS or not shapes:
            raise UnknownCostError(name_of(entry))
        if is_model(entry):
            return self.model(entry, shapes, depth + 1)
        kind = class_of(entry)
        settings = entry.get("config")
        if not isinstance(settings, dict):
            raise UnknownCostError(name_of(entry))
        if kind in _WRAPPERS:
            return [self._wrapped(kind, settings, shapes[0], depth)]
        rule = _RULES.get(kind)
        if rule is None:
            raise UnknownCostError(f"{kind} '{name_of(entry)}'")
        try:
            macs, shape = rule(settings, shapes)
        except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
            raise UnknownCostError(f"{kind} '{name_of(entry)}'") from error
        self.macs += macs
        return [shape]

    def _wrapped(self, kind: str, settings: Settings, shape: Dims, depth: int) -> Dims:
        inner = settings.get("layer")
        if not isinstance(inner, dict):
            raise UnknownCostError(kind)
        before = self.macs
        if kind == "TimeDistributed":
            out = self._entry(inner, [shape[1:]], depth + 1)[0]
            self.macs = before + (self.macs - before) * shape[0]
            return (shape[0], *out)
        out = self._entry(inner, [shape], depth + 1)[0]
        self.macs = before + (self.macs - before) * 2
        joined = settings.get("merge_mode", "concat") == "concat"
        return (*out[:-1], out[-1] * 2) if joined else out


def _pick(shapes: list[Dims], index: int) -> Dims:
    if not 0 <= index < len(shapes):
        raise UnknownCostError(f"output {index} of a layer")
    return shapes[index]


def _stated(entry: Mapping[str, Any]) -> Dims | None:
    config = entry.get("config")
    if not isinstance(config, dict):
        return None
    for key in ("batch_shape", "batch_input_shape"):
        if (dims := _fixed(shape_of(config.get(key)))) is not None:
            return dims
    return _built(entry)


def _built(entry: Mapping[str, Any]) -> Dims | None:
    build = entry.get("build_config")
    return _fixed(shape_of(build.get("input_shape"))) if isinstance(build, dict) else None


def _fixed(shape: Shape | None) -> Dims | None:
    """The dimensions behind the batch, if all are fixed."""
    if not shape or any(size is None for size in shape[1:]):
        return None
    return tuple(size for size in shape[1:] if size is not None)


def _found(listed: Any) -> list[tuple[str, int, int]]:
    """(layer, node, tensor) of everything a node or an end refers to, in the spelling of any Keras."""
    found: list[tuple[str, int, int]] = []
    todo = [listed]
    while todo:
        item = todo.pop(0)
        if isinstance(item, dict):
            history = item.get("config", {}).get("keras_history") if "config" in item else None
            todo = [history, *todo] if history is not None else [*item.values(), *todo]
        elif isinstance(item, list):
            if len(item) >= 3 and isinstance(item[0], str) and all(isinstance(n, int) for n in item[1:3]):
                found.append((item[0], item[1], item[2]))
            else:
                todo = [*item, *todo]
        if len(found) > _MOST_LAYERS or len(todo) > 10 * _MOST_LAYERS:
            raise UnknownCostError("a layer with too many inputs")
    return found


def _several(value: Any, count: int) -> Dims:
    numbers = [value] * count if isinstance(value, int) else list(value)
    if len(numbers) != count:
        raise ValueError(value)
    return tuple(int(number) for number in numbers)


def _split(settings: Settings, shape: Dims) -> tuple[Dims, int]:
    """Spatial sizes and channels."""
    if settings.get("data_format") == "channels_first":
        return shape[1:], shape[0]
    return shape[:-1], shape[-1]


def _joined(settings: Settings, spatial: Sequence[int], channels: int) -> Dims:
    if settings.get("data_format") == "channels_first":
        return (channels, *spatial)
    return (*spatial, channels)


def _window(size: int, kernel: int, stride: int, padding: str, dilation: int = 1) -> int:
    if padding in ("same", "causal"):
        return -(-size // stride)
    return (size - (kernel - 1) * dilation - 1) // stride + 1


def _windows(settings: Settings, spatial: Dims, kernel: Dims, stride: Dims) -> Dims:
    dilation = _several(settings.get("dilation_rate", 1) or 1, len(spatial))
    padding = str(settings.get("padding", "valid"))
    sizes = zip(spatial, kernel, stride, dilation, strict=True)
    return tuple(_window(size, k, step, padding, d) for size, k, step, d in sizes)


def _conv(settings: Settings, shapes: list[Dims]) -> tuple[int, Dims]:
    spatial, channels = _split(settings, shapes[0])
    rank = len(spatial)
    kernel = _several(settings["kernel_size"], rank)
    out = _windows(settings, spatial, kernel, _several(settings.get("strides", 1), rank))
    filters = int(settings["filters"])
    per_output = math.prod(kernel) * channels // int(settings.get("groups", 1) or 1)
    return math.prod(out) * filters * per_output, _joined(settings, out, filters)


def _conv_transpose(settings: Settings, shapes: list[Dims]) -> tuple[int, Dims]:
    spatial, channels = _split(settings, shapes[0])
    rank = len(spatial)
    kernel = _several(settings["kernel_size"], rank)
    strides = _several(settings.get("strides", 1), rank)
    filters = int(settings["filters"])
    if settings.get("output_padding") is not None:
        raise ValueError("output_padding")
    same = settings.get("padding", "valid") == "same"
    out = tuple(
        n * s if same else n * s + max(k - s, 0) for n, s, k in zip(spatial, strides, kernel, strict=True)
    )
    return math.prod(spatial) * channels * math.prod(kernel) * filters, _joined(settings, out, filters)


def _depthwise(settings: Settings, shapes: list[Dims]) -> tuple[int, Dims]:
    spatial, channels = _split(settings, shapes[0])
    rank = len(spatial)
    kernel = _several(settings["kernel_size"], rank)
    out = _windows(settings, spatial, kernel, _several(settings.get("strides", 1), rank))
    deep = channels * int(settings.get("depth_multiplier", 1))
    return math.prod(out) * deep * math.prod(kernel), _joined(settings, out, deep)


def _separable(settings: Settings, shapes: list[Dims]) -> tuple[int, Dims]:
    macs, shape = _depthwise(settings, shapes)
    spatial, deep = _split(settings, shape)
    filters = int(settings["filters"])
    return macs + math.prod(spatial) * deep * filters, _joined(settings, spatial, filters)


def _dense(settings: Settings, shapes: list[Dims]) -> tuple[int, Dims]:
    shape, units = shapes[0], int(settings["units"])
    return math.prod(shape) * units, (*shape[:-1], units)


def _pool(settings: Settings, shapes: list[Dims]) -> tuple[int, Dims]:
    spatial, channels = _split(settings, shapes[0])
    size = _several(settings["pool_size"], len(spatial))
    out = _windows(settings, spatial, size, _several(settings.get("strides") or size, len(spatial)))
    return 0, _joined(settings, out, channels)


def _global_pool(settings: Settings, shapes: list[Dims]) -> tuple[int, Dims]:
    spatial, channels = _split(settings, shapes[0])
    kept = (1,) * len(spatial) if settings.get("keepdims") else ()
    return 0, _joined(settings, kept, channels)


def _pad(settings: Settings, shapes: list[Dims], sign: int = 1) -> tuple[int, Dims]:
    spatial, channels = _split(settings, shapes[0])
    given = settings["padding" if sign > 0 else "cropping"]
    both = len(spatial) == 1 and isinstance(given, (list, tuple))
    pairs = [given] if both else [given] * len(spatial) if isinstance(given, int) else list(given)
    sums = [2 * pair if isinstance(pair, int) else sum(pair) for pair in pairs]
    out = [size + sign * more for size, more in zip(spatial, sums, strict=True)]
    return 0, _joined(settings, out, channels)


def _upsample(settings: Settings, shapes: list[Dims]) -> tuple[int, Dims]:
    spatial, channels = _split(settings, shapes[0])
    factors = _several(settings["size"], len(spatial))
    return 0, _joined(settings, [n * f for n, f in zip(spatial, factors, strict=True)], channels)


def _reshape(settings: Settings, shapes: list[Dims]) -> tuple[int, Dims]:
    target = [int(size) for size in settings["target_shape"]]
    if -1 in target:
        rest = math.prod(size for size in target if size != -1)
        target[target.index(-1)] = math.prod(shapes[0]) // rest
    return 0, tuple(target)


def _concatenate(settings: Settings, shapes: list[Dims]) -> tuple[int, Dims]:
    axis = int(settings.get("axis", -1))
    axis = axis - 1 if axis > 0 else axis + len(shapes[0])
    joined = list(shapes[0])
    joined[axis] = sum(shape[axis] for shape in shapes)
    return 0, tuple(joined)


def _elementwise(settings: Settings, shapes: list[Dims]) -> tuple[int, Dims]:
    rank = max(len(shape) for shape in shapes)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return 0, tuple(max(column) for column in itertools.zip_longest(*padded, fillvalue=1))


def _same(settings: Settings, shapes: list[Dims]) -> tuple[int, Dims]:
    return 0, shapes[0]


def _embedding(settings: Settings, shapes: list[Dims]) -> tuple[int, Dims]:
    return 0, (*shapes[0], int(settings["output_dim"]))


def _recurrent(gates: int) -> Callable[[Settings, list[Dims]], tuple[int, Dims]]:
    def rule(settings: Settings, shapes: list[Dims]) -> tuple[int, Dims]:
        (steps, features), units = shapes[0], int(settings["units"])
        if settings.get("return_state"):
            raise ValueError("return_state")
        macs = steps * gates * units * (features + units)
        return macs, (steps, units) if settings.get("return_sequences") else (units,)

    return rule


_WRAPPERS = ("TimeDistributed", "Bidirectional")
_SAME = [
    "Activation",
    "ActivityRegularization",
    "AlphaDropout",
    "BatchNormalization",
    "BatchNormalizationV1",
    "Dropout",
    "ELU",
    "GaussianDropout",
    "GaussianNoise",
    "GroupNormalization",
    "LayerNormalization",
    "LeakyReLU",
    "Masking",
    "Normalization",
    "PReLU",
    "ReLU",
    "Rescaling",
    "SELU",
    "Softmax",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "SyncBatchNormalization",
    "ThresholdedReLU",
    "UnitNormalization",
    "Identity",
]
_RULES: dict[str, Callable[[Settings, list[Dims]], tuple[int, Dims]]] = {
    **dict.fromkeys(_SAME, _same),
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D", "Convolution1D", "Convolution2D", "Convolution3D"), _conv),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _conv_transpose),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _depthwise),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _separable),
    **dict.fromkeys([f"{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)], _pool),
    **dict.fromkeys(
        [f"Global{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)], _global_pool
    ),
    **dict.fromkeys([f"ZeroPadding{n}D" for n in (1, 2, 3)], _pad),
    **dict.fromkeys(
        [f"Cropping{n}D" for n in (1, 2, 3)], lambda settings, shapes: _pad(settings, shapes, -1)
    ),
    **dict.fromkeys([f"UpSampling{n}D" for n in (1, 2, 3)], _upsample),
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"), _elementwise),
    "Dense": _dense,
    "Flatten": lambda settings, shapes: (0, (math.prod(shapes[0]),)),
    "Reshape": _reshape,
    "Permute": lambda settings, shapes: (0, tuple(shapes[0][d - 1] for d in settings["dims"])),
    "RepeatVector": lambda settings, shapes: (0, (int(settings["n"]), *shapes[0])),
    "Concatenate": _concatenate,
    "Embedding": _embedding,
    "LSTM": _recurrent(4),
    "GRU": _recurrent(3),
    "SimpleRNN": _recurrent(1),
}
