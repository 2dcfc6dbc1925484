"""The person's own code that builds a model: ``--model-builder MODULE:FUNCTION``."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from edgeconv.errors import EdgeconvError, UsageError
from edgeconv.runtimes._keras_custom import module_of


def built_model(options: Mapping[str, Any], path: str) -> Any:
    """What the function that ``options['model_builder']`` names returns.

    Args:
        options: the user's.
        path: the weights that need it, for the error where none is named.

    Raises:
        UsageError: none is named, it cannot be found or called, or gives nothing.
    """
    text = options.get("model_builder")
    if not text:
        raise UsageError(
            "a checkpoint holds values, not the model",
            where=path,
            why="the code that builds the model is needed once",
            hint="add --model-builder MODULE:FUNCTION (or FILE.py:FUNCTION), a function without arguments "
            "that returns the keras.Model or tf.Module; or --config model.json, what model.to_json() gave",
        )
    builder = find_builder(str(text))
    try:
        model = builder()
    except EdgeconvError:
        raise
    except Exception as error:  # the user's own code
        raise UsageError(
            f"the model builder '{text}' failed",
            why=f"{type(error).__name__}: {error}",
            hint="call it by itself",
        ) from error
    if model is None:
        raise UsageError(f"the model builder '{text}' returned nothing", hint="let it return the model")
    return model


def find_builder(text: str) -> Callable[[], Any]:
    """The function that ``MODULE:FUNCTION`` or ``FILE.py:FUNCTION`` names; importing its module runs it.

    Raises:
        UsageError: it names none, or it is not there.
    """
    place, _, name = text.rpartition(":")
    if not place or not name:
        raise UsageError(
            f"'{text}' does not name a function",
            hint="write --model-builder MODULE:FUNCTION or FILE.py:FUNCTION",
        )
    target: Any = module_of(place, "the model builder's module", "--model-builder")
    for part in name.split("."):
        if not hasattr(target, part):
            near = difflib.get_close_matches(part, dir(target), n=1)
            raise UsageError(
                f"'{place}' has no function '{part}'",
                hint=f"did you mean '{near[0]}'?" if near else "check its name",
            )
        target = getattr(target, part)
    if not callable(target):
        raise UsageError(f"'{text}' is a {type(target).__name__}, not a function")
    return target  # type: ignore[no-any-return]
