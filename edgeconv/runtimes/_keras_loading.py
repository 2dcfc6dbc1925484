"""Opening Keras files of all generations, without running code that comes with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeconv.errors import ConversionError, EdgeconvError, InvalidModelError, UsageError
from edgeconv.runtimes._keras_config import KerasFile, read_keras_file, refuse_code
from edgeconv.runtimes._keras_upgrade import upgraded_config
from edgeconv.runtimes._programs import Program, program_of_keras

_UNKNOWN_CLASS = re.compile(
    r"(?:Unknown (?:layer|object|activation function|initializer|regularizer)"
    r"|Could not locate (?:class|function)"
    r"|Unable to (?:find|locate) (?:class|function)|Could not (?:deserialize|interpret) (?:class|function"
    r"|activation function identifier)|parent module)[: ]+'?\"?([\w.>]+)"
)


def load_keras_program(path: Path, options: Mapping[str, Any]) -> tuple[Program, tuple[str, ...]]:
    """Open a Keras file as a program, uncompiled, in inference mode.

    Files of Keras 1 and 2 are opened by tf_keras first, those of Keras 3 by keras, and by the other one
    where that fails.

    Returns:
        The program, and notes for the person.

    Raises:
        InvalidModelError: not a Keras file, or weights alone.
        UntrustedModelError: loading would run code that comes with the file.
        ConversionError: neither library can open it; names the class that is missing where that is why.
    """
    file = read_keras_file(path)
    if file.config is None:
        raise InvalidModelError(
            "the file holds weights but no model",
            where=str(path),
            why="it was written by save_weights",
            hint="save the whole model with model.save, or load the weights into it and do so",
        )
    refuse_code(file.config, path, options)
    trust = bool(options.get("trust"))
    order = [_open_with_keras, _open_with_tf_keras]
    if file.major < 3:
        order.reverse()
    failures: list[Exception] = []
    for opener in order:
        try:
            model = opener(path, file, trust)
            notes = (
                ()
                if opener is order[0]
                else (f"opened by {_library(opener)}: {_library(order[0])} could not",)
            )
            return program_of_keras(model, str(path)), notes
        except EdgeconvError:
            raise
        except Exception as error:  # any of the library's own, over years of versions
            failures.append(error)
    raise _diagnosed(path, file, failures, trust)


def _open_with_keras(path: Path, file: KerasFile, trust: bool) -> Any:
    import keras

    if file.container == "h5" and not _has_suffix(path, ".h5", ".hdf5"):
        # keras goes by the suffix; any suffix is allowed here.
        from keras.src.legacy.saving import legacy_h5_format

        return legacy_h5_format.load_model_from_hdf5(str(path), compile=False)
    if file.container == "zip" and not _has_suffix(path, ".keras"):
        from keras.src.saving import saving_lib

        return saving_lib.load_model(str(path), compile=False, safe_mode=not trust)
    return keras.saving.load_model(str(path), compile=False, safe_mode=not trust)


def _open_with_tf_keras(path: Path, file: KerasFile, trust: bool) -> Any:
    if file.container == "zip":
        from tf_keras.src.saving import saving_lib

        return saving_lib.load_model(str(path), compile=False, safe_mode=not trust)
    import h5py
    from tf_keras.src.saving.legacy import hdf5_format, model_config

    # What load_model does, with a place between reading the config and building from it.
    with h5py.File(path, "r") as stream:
        model = model_config.model_from_config(upgraded_config(file))
        hdf5_format.load_weights_from_hdf5_group(stream["model_weights"], model)
    return model


def _library(opener: Callable[..., Any]) -> str:
    return "keras" if opener is _open_with_keras else "tf_keras"


def _has_suffix(path: Path, *suffixes: str) -> bool:
    return path.suffix.lower() in suffixes


def _diagnosed(path: Path, file: KerasFile, failures: list[Exception], trust: bool) -> EdgeconvError:
    # The first library is the one that the file was written for: what it says is nearer to the cause.
    text = " ".join(str(failures[0]).split())
    found = _UNKNOWN_CLASS.search(text)
    if found:
        return UsageError(
            f"the model needs the custom class or function '{found.group(1)}', which is not in the file",
            where=str(path),
            why="Keras files hold the names of custom layers, not their code",
            hint="load the model where its class is defined and save it as a SavedModel, or give the "
            "weights as a checkpoint with --model-builder MODULE:FUNCTION",
        )
    if isinstance(failures[0], OSError):
        return InvalidModelError(
            "the file is truncated or corrupt", where=str(path), why=text[:300], hint="copy the model again"
        )
    return ConversionError(
        f"neither keras nor tf_keras can open this file of Keras {file.version or 'of unknown version'}",
        where=str(path),
        why="; ".join(f"{type(error).__name__}: {' '.join(str(error).split())[:240]}" for error in failures),
        hint="open it with the version of TensorFlow that it was trained with and save it as a SavedModel",
    )
