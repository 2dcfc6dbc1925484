"""What a person supplies for a Keras file: a module with its custom layers and functions."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from edgeconv.errors import UsageError

_OLD_MODULES = {
    # Where Keras 1 and 2 had their classes, and where tf_keras has them.
    "keras.engine": "tf_keras.layers",
    "keras.engine.base_layer": "tf_keras.layers",
    "keras.engine.topology": "tf_keras.layers",
    "keras.engine.training": "tf_keras.models",
    "keras.layers.advanced_activations": "tf_keras.layers",
    "keras.layers.convolutional": "tf_keras.layers",
    "keras.layers.core": "tf_keras.layers",
    "keras.layers.embeddings": "tf_keras.layers",
    "keras.layers.merge": "tf_keras.layers",
    "keras.layers.noise": "tf_keras.layers",
    "keras.layers.normalization": "tf_keras.layers",
    "keras.layers.pooling": "tf_keras.layers",
    "keras.layers.recurrent": "tf_keras.layers",
    "keras.layers.wrappers": "tf_keras.layers",
    "keras.backend.tensorflow_backend": "tf_keras.backend",
    "keras.utils.generic_utils": "tf_keras.utils",
    "keras.utils.np_utils": "tf_keras.utils",
}
_PREFIXES = ("keras", "tensorflow.keras", "tensorflow.python.keras")


def module_of(place: str, what: str, flag: str) -> ModuleType:
    """The module that a person named: ``MODULE`` or ``FILE.py``; importing it runs it.

    Args:
        place: the name.
        what: what an error calls it.
        flag: the option it was given with.

    Raises:
        UsageError: it cannot be imported.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return _module_of_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except Exception as error:  # the person's own code, which may raise anything
        raise UsageError(
            f"{what} '{place}' cannot be imported",
            why=f"{type(error).__name__}: {error}",
            hint=f"run from the folder that it is in, or name the file: {flag} FILE.py"
            + (":FUNCTION" if "builder" in flag else ""),
        ) from error


def _module_of_file(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise ImportError(f"no such file: {file}")
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


def custom_objects(place: str | None) -> dict[str, Any]:
    """All public classes and functions of the module that ``--custom-objects`` names, by name.

    A dictionary ``custom_objects`` in the module (as Keras itself takes it) adds to them, under any names.

    Raises:
        UsageError: the module cannot be imported, or has none.
    """
    if place is None:
        return {}
    for name in [n for n in sys.modules if n == place or n.startswith(f"{place}.")]:
        del sys.modules[name]  # it may have been imported for the other Keras
    module = module_of(place, "the module of custom objects", "--custom-objects")
    found = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and not isinstance(value, ModuleType)
    }
    own = getattr(module, "custom_objects", None)
    if isinstance(own, Mapping):
        found.update({str(name): value for name, value in own.items()})
    if not found:
        raise UsageError(
            f"the module of custom objects '{place}' has no class and no function",
            hint="define the model's custom layers and functions in it, under the names that the file has",
        )
    return found


@contextlib.contextmanager
def legacy_keras() -> Iterator[None]:
    """Lets ``keras`` and ``tensorflow.keras`` be tf_keras, for code that was written for Keras 1 or 2.

    A custom layer of such a model derives from the Layer of the Keras that it was written for. Inside of
    this, its imports give the one that can open the file. Afterwards all is as it was.
    """
    import tensorflow as tf
    import tf_keras

    missing = object()
    before = {name: module for name, module in sys.modules.items() if _is_keras(name)}
    own = vars(tf).get("keras", missing)
    for name in before:
        del sys.modules[name]
    for name, module in list(sys.modules.items()):
        if name == "tf_keras" or name.startswith("tf_keras."):
            for prefix in _PREFIXES:
                sys.modules[prefix + name.removeprefix("tf_keras")] = module
    for old, new in _OLD_MODULES.items():
        for prefix in _PREFIXES:
            name = prefix + old.removeprefix("keras")
            if name not in sys.modules:
                sys.modules[name] = importlib.import_module(new)
    vars(tf)["keras"] = tf_keras
    try:
        yield
    finally:
        for name in [name for name in sys.modules if _is_keras(name)]:
            del sys.modules[name]
        sys.modules.update(before)
        if own is missing:
            vars(tf).pop("keras", None)
        else:
            vars(tf)["keras"] = own


def _is_keras(name: str) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in _PREFIXES)


def known_function(name: str) -> tuple[Callable[..., Any], str] | None:
    """The function that everybody means by a name which no Keras has, and its formula; else ``None``.

    Names of ``tf.nn`` are among them: a function of TensorFlow that was given as an activation is stored
    by its name alone.
    """
    import tensorflow as tf

    hard = (lambda x: x * tf.nn.relu6(x + 3.0) / 6.0, "x * relu6(x + 3) / 6")
    table: dict[str, tuple[Callable[..., Any], str]] = {
        "relu6": (tf.nn.relu6, "min(max(x, 0), 6)"),
        "relu_6": (tf.nn.relu6, "min(max(x, 0), 6)"),
        "swish": (tf.nn.silu, "x * sigmoid(x)"),
        "silu": (tf.nn.silu, "x * sigmoid(x)"),
        "mish": (lambda x: x * tf.math.tanh(tf.math.softplus(x)), "x * tanh(softplus(x))"),
        "hard_swish": hard,
        "hardswish": hard,
        "h_swish": hard,
        "leaky_relu": (tf.nn.leaky_relu, "tf.nn.leaky_relu, max(x, 0.2 x)"),
        "log_softmax": (tf.nn.log_softmax, "tf.nn.log_softmax"),
        "log_softmax_v2": (tf.nn.log_softmax, "tf.nn.log_softmax"),
        "softmax_v2": (tf.nn.softmax, "tf.nn.softmax"),
        "sin": (tf.math.sin, "tf.math.sin"),
        "cos": (tf.math.cos, "tf.math.cos"),
        "square": (tf.math.square, "tf.math.square"),
        "abs": (tf.math.abs, "tf.math.abs"),
        "identity": (tf.identity, "x"),
    }
    return table.get(name)
