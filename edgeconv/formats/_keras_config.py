"""Reads the architecture in a Keras file: layers, inputs, outputs. Nothing in it is run or unpickled.

The configuration is JSON of three generations: Keras 1 and 2 state class names without modules, Keras 3
states module, class and registered name of every object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeconv.formats._keras_layers import BUILT_IN_LAYERS, BUILT_IN_MODULES
from edgeconv.formats.base import Finding, Shape, TensorSpec

_DEEPEST = 64
"""Models nested deeper than this are refused, so that a hostile file cannot exhaust the stack."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a Keras model.

    Attributes:
        name: with the names of the models around it (``backbone/conv``).
        kind: its class.
        module: the module of its class, where the file says it.
        trainable: whether it and all models around it are trainable.
        config: its configuration.
    """

    name: str
    kind: str
    module: str | None
    trainable: bool
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> Shape | None:
        """The input shape with the batch dimension, where the configuration states one."""
        for key in ("batch_input_shape", "batch_shape"):
            if key in self.config:
                return shape_of(self.config[key])
        if "input_shape" in self.config:
            inner = shape_of(self.config["input_shape"])
            return None if inner is None else (None, *inner)
        return None


class ConfigError(ValueError):
    """The configuration is not one of a Keras model; says why."""


def layers_of(model: Mapping[str, Any]) -> tuple[Layer, ...]:
    """All layers of a model, those of nested models included, in the order of the file.

    Args:
        model: the parsed ``model_config`` or ``config.json``.

    Raises:
        ConfigError: it is no configuration of a model.
    """
    return tuple(_layers(model, "", True, 0))


def inputs_and_outputs(model: Mapping[str, Any]) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of a model, named by their layers; shapes are ``None`` where not stated.

    Raises:
        ConfigError: it is no configuration of a model.
    """
    return _ends(model, 0)


def class_of(model: Mapping[str, Any]) -> str:
    """Class of a model or layer as the file names it."""
    kind = model.get("class_name")
    return kind if isinstance(kind, str) else "unknown"


def config_findings(model: Mapping[str, Any], layers: tuple[Layer, ...]) -> tuple[Finding, ...]:
    """Layers with code in the file (``untrusted-layer``) and of classes that Keras does not have."""
    found: list[Finding] = []
    for layer in layers:
        if layer.kind == "Lambda":
            found.append(
                Finding(
                    "untrusted-layer",
                    f"the Lambda layer '{layer.name}' holds Python code, which loading the model would run",
                    where=layer.name,
                    hint="pass --trust only if you trust the model's author, or supply what the layer does "
                    "as a function of its name: --custom-objects FILE.py",
                )
            )
    if not found and _has_code(model, 0):
        found.append(
            Finding(
                "untrusted-layer",
                "the configuration holds a pickled function, which loading the model would run",
                hint="pass --trust only if you trust the model's author",
            )
        )
    own: dict[tuple[str, str | None], list[str]] = {}
    root = (class_of(model), _module(model), _registered(model))
    if _is_custom(*root):
        own.setdefault((_own_name(root[0], root[2]), root[1]), []).append("the model itself")
    for layer in layers:
        registered = layer.config.get("__registered_name")
        if _is_custom(layer.kind, layer.module, registered if isinstance(registered, str) else None):
            key = (_own_name(layer.kind, registered if isinstance(registered, str) else None), layer.module)
            own.setdefault(key, []).append(layer.name)
    for (kind, module), names in own.items():
        of = f" of module '{module}'" if module else ""
        found.append(
            Finding(
                "custom-layer",
                f"'{kind}'{of} is no class of Keras's own: {', '.join(names[:5])}"
                f"{f' and {len(names) - 5} more' if len(names) > 5 else ''}",
                where=names[0],
                hint="supply what it is: --custom-objects FILE.py, in which it is defined; or the code that "
                "builds the model: --model-builder MODULE:FUNCTION",
            )
        )
    return tuple(found)


def _layers(model: Mapping[str, Any], prefix: str, trainable: bool, depth: int) -> Iterator[Layer]:
    if depth > _DEEPEST:
        raise ConfigError("its models are nested too deeply")
    for entry in entries_of(model):
        config = entry.get("config")
        config = config if isinstance(config, (dict, list)) else {}
        settings: dict[str, Any] = dict(config) if isinstance(config, dict) else {}
        name = entry.get("name") or settings.get("name") or class_of(entry)
        if not isinstance(name, str):
            raise ConfigError("a layer's name is no text")
        own = bool(settings.get("trainable", True)) and trainable
        registered = _registered(entry)
        if registered:
            settings["__registered_name"] = registered
        yield Layer(f"{prefix}{name}", class_of(entry), _module(entry), own, settings)
        if is_model(entry):
            yield from _layers(entry, f"{prefix}{name}/", own, depth + 1)
        elif isinstance(settings.get("layer"), dict):
            # A wrapper (TimeDistributed, Bidirectional): what it wraps is a layer of the model too.
            wrapped = {"class_name": "Wrapper", "config": {"layers": [settings["layer"]]}}
            yield from _layers(wrapped, f"{prefix}{name}/", own, depth + 1)


def entries_of(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    config = model.get("config")
    listed = (
        config if isinstance(config, list) else config.get("layers") if isinstance(config, dict) else None
    )
    if listed is None:
        return []
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise ConfigError("its layers are no list")
    return listed


def is_model(entry: Mapping[str, Any]) -> bool:
    config = entry.get("config")
    if isinstance(config, list):
        return class_of(entry) == "Sequential"
    return isinstance(config, dict) and isinstance(config.get("layers"), list)


def _ends(model: Mapping[str, Any], depth: int) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    if depth > _DEEPEST:
        raise ConfigError("its models are nested too deeply")
    config = model.get("config")
    entries = entries_of(model)
    if isinstance(config, dict) and "input_layers" in config and "output_layers" in config:
        by_name = {name_of(entry): entry for entry in entries}
        wanted, given = config["input_layers"], config["output_layers"]
        inputs = tuple(_input(by_name.get(name), name, depth) for name, _ in _references(wanted))
        outputs = tuple(
            TensorSpec(name if index == 0 else f"{name}:{index}", _dtype(by_name.get(name)), None)
            for name, index in _references(given)
        )
        return _by_key(wanted, inputs), _by_key(given, outputs)
    if not entries:
        shape = _build_shape(model)
        return (() if shape is None else (TensorSpec("input", "float32", shape),)), ()
    return _sequential_ends(model, entries, depth)


def _sequential_ends(
    model: Mapping[str, Any], entries: list[dict[str, Any]], depth: int
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    first, last = entries[0], entries[-1]
    if is_model(first):
        inputs, _ = _ends(first, depth + 1)
    else:
        shape = _layer(first).shape
        if shape is None:
            config = model.get("config")
            stated = config.get("build_input_shape") if isinstance(config, dict) else None
            shape = shape_of(stated) if stated is not None else _build_shape(model)
        name = name_of(first)
        dtype = _dtype(first)
        if class_of(first) == "Embedding" and shape is not None:
            dtype = "int32" if dtype.startswith("float") else dtype
        inputs = (TensorSpec(name if class_of(first) == "InputLayer" else f"{name}_input", dtype, shape),)
    if is_model(last):
        _, inner = _ends(last, depth + 1)
        return inputs, tuple(TensorSpec(name_of(last), spec.dtype, spec.shape) for spec in inner[:1])
    units = last.get("config", {}).get("units") if isinstance(last.get("config"), dict) else None
    flat = class_of(last) == "Dense" and isinstance(units, int) and len(entries) > 1
    shape = (None, units) if flat and _flat_before(entries) else None
    return inputs, (TensorSpec(name_of(last), _dtype(last), shape),)


def _flat_before(entries: list[dict[str, Any]]) -> bool:
    """Whether what reaches the last layer certainly has rank 2: (batch, features)."""
    keeps = {"Dense", "Dropout", "Activation", "BatchNormalization", "ReLU", "LeakyReLU", "GaussianNoise"}
    for entry in reversed(entries[:-1]):
        if class_of(entry) in (
            "Flatten",
            "GlobalAveragePooling2D",
            "GlobalMaxPooling2D",
            "GlobalAveragePooling1D",
        ):
            return True
        shape = _layer(entry).shape
        if shape is not None:
            return len(shape) == 2 and class_of(entry) in keeps | {"InputLayer"}
        if class_of(entry) not in keeps:
            return False
    return False


def _input(entry: Mapping[str, Any] | None, name: str, depth: int) -> TensorSpec:
    if entry is None:
        raise ConfigError(f"its input '{name}' is no layer of it")
    if is_model(entry):
        inner, _ = _ends(entry, depth + 1)
        return (
            TensorSpec(name, inner[0].dtype, inner[0].shape) if inner else TensorSpec(name, "float32", None)
        )
    return TensorSpec(name, _dtype(entry), _layer(entry).shape)


def _by_key(listed: Any, specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """A model that takes or gives a dictionary has names of its own for inputs and outputs: the keys."""
    if not isinstance(listed, dict) or len(listed) != len(specs):
        return specs
    return tuple(
        TensorSpec(str(key), spec.dtype, spec.shape) for key, spec in zip(listed, specs, strict=True)
    )


def _references(listed: Any) -> list[tuple[str, int]]:
    """Layer names and tensor indices of ``input_layers``/``output_layers`` in all their spellings."""
    if isinstance(listed, dict):
        listed = list(listed.values())
    if not isinstance(listed, list):
        raise ConfigError("its inputs and outputs are no list")
    if len(listed) == 3 and isinstance(listed[0], str) and all(isinstance(n, int) for n in listed[1:]):
        return [(listed[0], listed[2])]
    found: list[tuple[str, int]] = []
    for item in listed:
        if isinstance(item, str):
            found.append((item, 0))
        elif (
            isinstance(item, list)
            and len(item) >= 3
            and isinstance(item[0], str)
            and isinstance(item[2], int)
        ):
            found.append((item[0], item[2]))
        elif isinstance(item, (list, dict)) and item:
            found += _references(item) if _shallow(item) else []
        else:
            raise ConfigError("an input or output names no layer")
    return found


def _shallow(item: Any) -> bool:
    """Guards against references nested without end: two levels occur, four are allowed."""
    for _ in range(4):
        inner = list(item.values()) if isinstance(item, dict) else item
        if not isinstance(inner, list) or not inner:
            return True
        item = inner[0]
    return not isinstance(item, (list, dict))


def _layer(entry: Mapping[str, Any]) -> Layer:
    config = entry.get("config")
    return Layer(name_of(entry), class_of(entry), None, True, config if isinstance(config, dict) else {})


def name_of(entry: Mapping[str, Any]) -> str:
    config = entry.get("config")
    name = entry.get("name") or (config.get("name") if isinstance(config, dict) else None)
    return name if isinstance(name, str) else class_of(entry)


def _dtype(entry: Mapping[str, Any] | None) -> str:
    config = entry.get("config") if entry is not None else None
    dtype = config.get("dtype") if isinstance(config, dict) else None
    if isinstance(dtype, dict):  # a dtype policy
        inner = dtype.get("config")
        dtype = inner.get("name") if isinstance(inner, dict) else None
    if not isinstance(dtype, str):
        return "float32"
    return {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}.get(dtype, dtype)


def _build_shape(model: Mapping[str, Any]) -> Shape | None:
    build = model.get("build_config")
    return shape_of(build.get("input_shape")) if isinstance(build, dict) else None


def shape_of(value: Any) -> Shape | None:
    if not isinstance(value, list) or not all(size is None or isinstance(size, int) for size in value):
        return None
    return tuple(value)


def _module(entry: Mapping[str, Any]) -> str | None:
    module = entry.get("module")
    return module if isinstance(module, str) else None


def _registered(entry: Mapping[str, Any]) -> str | None:
    registered = entry.get("registered_name")
    return registered if isinstance(registered, str) else None


def _own_name(kind: str, registered: str | None) -> str:
    return registered if registered and ">" in registered else kind


def _is_custom(kind: str, module: str | None, registered: str | None) -> bool:
    if module is not None:
        return not (module in BUILT_IN_MODULES or module.startswith(tuple(f"{m}." for m in BUILT_IN_MODULES)))
    if registered and ">" in registered:
        return True
    return kind not in BUILT_IN_LAYERS


def _has_code(value: Any, depth: int) -> bool:
    if depth > _DEEPEST:
        return False
    if isinstance(value, dict):
        if value.get("class_name") == "__lambda__" or value.get("function_type") == "lambda":
            return True
        return any(_has_code(inner, depth + 1) for inner in value.values())
    return isinstance(value, list) and any(_has_code(inner, depth + 1) for inner in value)
