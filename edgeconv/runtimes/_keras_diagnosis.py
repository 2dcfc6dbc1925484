"""What went wrong when a library could not open a Keras file, in words a person can act on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeconv.errors import ConversionError, EdgeconvError, InvalidModelError, UsageError
from edgeconv.runtimes._keras_config import KerasFile

_UNKNOWN_CLASS = re.compile(
    r"(?:Unknown (?:layer|object|activation function|initializer|regularizer|function in Lambda layer)"
    r"|Could not locate (?:class|function)"
    r"|Unable to (?:find|locate) (?:class|function)|Could not (?:deserialize|interpret) (?:class|function"
    r"|activation function identifier)|parent module|Cannot deserialize object of type)[: ]+[`']?\"?([\w.>]+)"
)
_LACKING_ARGUMENT = re.compile(
    r"(?:(\w+)\.)?__init__\(\) missing \d+ required \S+ arguments?: (.+?)(?:$|\.| \()"
)
_NOT_SERIALIZED = re.compile(r"Object (\w+) was created by passing non-serializable argument")
_FOREIGN_ARGUMENT = re.compile(
    r"[Dd]eserializing class '(?:[\w.]*\.)?(\w+)'.*?(?:Keyword argument not understood:', '(\w+)'"
    r"|unexpected keyword argument '(\w+)')"
)
_OTHER_PYTHON = re.compile(
    r"bad marshal data|marshal data too short|code expected at most|an integer is required|code\(\) argument"
)
_MODEL_BUILDER = (
    "give the code that builds the model: --model-builder MODULE:FUNCTION; the weights are "
    "taken from this file"
)


def diagnosed(
    path: Path, file: KerasFile, failures: list[Exception], options: Mapping[str, Any]
) -> EdgeconvError:
    """The error to raise after these failures.

    The first one counts: it is of the library that the file was written for, so that what it says is nearer
    to the cause.
    """
    text = " ".join(str(failures[0]).split())
    where = str(path)
    if _OTHER_PYTHON.search(text) and not isinstance(failures[0], OSError):
        return ConversionError(
            "the code of a Lambda layer was stored by another version of Python",
            where=where,
            why="such code is tied to the version that wrote it, and the file does not say which that was",
            hint="write what the layer does as a function with the layer's name: --custom-objects FILE.py",
        )
    lacking = _LACKING_ARGUMENT.search(text)
    if lacking or _NOT_SERIALIZED.search(text):
        owner = (lacking[1] if lacking else None) or _class_of(text) or "a custom layer"
        what = f"its argument {lacking[2]}" if lacking else "an argument of it"
        return UsageError(
            f"the custom layer '{owner}' cannot be made again: {what} is not in the file",
            where=where,
            why="its class had no get_config that returns the arguments of its __init__",
            hint="give the class in --custom-objects a default for it or a from_config that knows it; or "
            + _MODEL_BUILDER,
        )
    found = _UNKNOWN_CLASS.search(text)
    if found:
        supplied = options.get("custom_objects")
        return UsageError(
            f"the model needs the custom class or function '{found.group(1)}', which is not in "
            + (f"the file nor in '{supplied}'" if supplied else "the file"),
            where=where,
            why="Keras files hold the names of custom layers, not their code",
            hint="define it in a file of your own: --custom-objects FILE.py; or " + _MODEL_BUILDER,
        )
    foreign = _FOREIGN_ARGUMENT.search(text)
    if foreign:
        return UsageError(
            f"the model's class '{foreign[1]}' is not Keras's own, though it has the same name",
            where=where,
            why=f"it has the argument '{foreign[2] or foreign[3]}', which Keras's does not know",
            hint="define it in a file of your own: --custom-objects FILE.py; or " + _MODEL_BUILDER,
        )
    if isinstance(failures[0], OSError):
        return InvalidModelError(
            "the file is truncated or corrupt", where=where, why=text[:300], hint="copy the model again"
        )
    which = "neither keras nor tf_keras" if len(failures) > 1 else ("keras" if file.major > 2 else "tf_keras")
    verb = "can" if len(failures) > 1 else "cannot"
    return ConversionError(
        f"{which} {verb} open this file of Keras {file.version or 'of unknown version'}",
        where=where,
        why="; ".join(f"{type(error).__name__}: {' '.join(str(error).split())[:240]}" for error in failures),
        hint=_MODEL_BUILDER,
    )


def needs_classes(path: str, names: Sequence[str], supplied: bool) -> UsageError:
    """The error of a model with layers of classes that nobody has."""
    listed = ", ".join(f"'{name}'" for name in names[:8]) + (", …" if len(names) > 8 else "")
    kinds = "class or function" if len(names) == 1 else "classes"
    is_not = "is" if len(names) == 1 else "are"
    return UsageError(
        f"the model needs the custom {kinds} {listed}, which {is_not} not in the file"
        + (" nor in what --custom-objects names" if supplied else ""),
        where=path,
        why="Keras files hold the names of custom layers, not their code",
        hint=f"define {'it' if len(names) == 1 else 'them'} in a file of your own: --custom-objects FILE.py; "
        f"or {_MODEL_BUILDER}",
    )


def _class_of(text: str) -> str | None:
    found = _NOT_SERIALIZED.search(text) or re.search(r"class '(?:[\w.]*\.)?(\w+)'", text)
    return found[1] if found else None
