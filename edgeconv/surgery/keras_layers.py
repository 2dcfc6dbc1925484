"""Freezing and unfreezing layers of a Keras model in its configuration.

before:  {"name": "backbone", "trainable": true, "layers": [{"name": "conv", "trainable": true}, …]}
after:   {"name": "backbone", "trainable": true, "layers": [{"name": "conv", "trainable": false}, …]}

A layer is trained where its own flag and those of all models around it say so; a model that has a layer to
be trained in it is therefore set to be trained, and one that has none is not.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeconv.errors import UsageError
from edgeconv.formats._keras_config import entries_of, is_model, layers_of
from edgeconv.surgery.cutting import nearest


def chosen_layers(names: Sequence[str], pattern: str, flag: str, where: str) -> list[str]:
    """The names that a pattern means: a name with its path, its last part, a glob or a regular expression.

    The name of a model or scope means all that is in it.

    Raises:
        UsageError: nothing matches; names the nearest.
    """
    exact = [name for name in names if name == pattern or name.startswith(f"{pattern.rstrip('/')}/")]
    found = exact or [n for n in names if re.search(rf"(?:^|/){re.escape(pattern)}(?:/|$)", n)]
    found = found or [name for name in names if fnmatch.fnmatchcase(name, pattern)]
    if not found and re.search(r"[\^$|()+\\.]", pattern):
        try:
            found = [name for name in names if re.search(pattern, name)]
        except re.error as error:
            raise UsageError(
                f"{flag}: '{pattern}' is neither a glob nor a regular expression", why=str(error)
            ) from None
    if not found:
        near = nearest(pattern.strip("*^$"), names)
        raise UsageError(
            f"{flag}: there is no layer '{pattern}'",
            where=where,
            why=f"nearest: {', '.join(near)}" if near else None,
            hint=f"try {flag} {near[0]}" if near else "'edgeconv inspect --layers' lists them",
        )
    return found


def decided(
    flags: Mapping[str, bool],
    freeze: Sequence[str],
    unfreeze: Sequence[str],
    first: int,
    where: str,
) -> dict[str, bool]:
    """Which layers are to be trained: as they are, then the first ones frozen, then by patterns.

    Args:
        flags: layer to whether it is trained now, in the model's order.
        freeze, unfreeze: patterns; what both match is unfrozen.
        first: so many layers from the front are frozen, as ``model.layers[:first]`` counts them.
        where: of the model, for errors.
    """
    if first > len(flags):
        raise UsageError(f"the model has {len(flags)} layers, fewer than {first}", where=where)
    wanted = {name: flag and index >= first for index, (name, flag) in enumerate(flags.items())}
    names = list(flags)
    for patterns, flag, option in ((freeze, False, "--freeze"), (unfreeze, True, "--unfreeze")):
        for pattern in patterns:
            wanted.update(dict.fromkeys(chosen_layers(names, pattern, option, where), flag))
    return wanted


def leaves(config: Mapping[str, Any]) -> dict[str, bool]:
    """Layers that are no models, with the names of the models around them, to whether they are trained."""
    models = set(_models(config, ""))
    return {layer.name: layer.trainable for layer in layers_of(config) if layer.name not in models}


def set_trainable(config: dict[str, Any], wanted: Mapping[str, bool], prefix: str = "") -> bool:
    """Write into a configuration which layers are trained; returns whether any is.

    Args:
        config: of a model; edited in place.
        wanted: as :func:`decided` says.
        prefix: the path of the model.
    """
    any_trained = False
    for entry in entries_of(config):
        settings = entry.get("config")
        name = f"{prefix}{_name(entry)}"
        if is_model(entry):
            trained = set_trainable(entry, wanted, f"{name}/")
        elif isinstance(settings, dict) and isinstance(settings.get("layer"), dict):
            inner = settings["layer"]
            below = wanted.get(f"{name}/{_name(inner)}", True)
            trained = wanted.get(name, True) and below
            if isinstance(inner.get("config"), dict) and not is_model(inner):
                inner["config"]["trainable"] = below
        else:
            trained = wanted.get(name, True)
        if isinstance(settings, dict):
            if not (is_model(entry) and trained and "trainable" not in settings):
                settings["trainable"] = trained
            if isinstance(settings.get("layer"), dict):
                for key in ("backward_layer",):
                    if isinstance(settings.get(key), dict) and isinstance(settings[key].get("config"), dict):
                        settings[key]["config"]["trainable"] = trained
        any_trained = any_trained or trained
    settings = config.get("config")
    if not prefix and isinstance(settings, dict) and settings.get("trainable") is False and any_trained:
        settings["trainable"] = True
    return any_trained


def reordered(names: Sequence[str], before: Mapping[str, bool], after: Mapping[str, bool]) -> list[str]:
    """Names of a nested model's weights in HDF5, which lists the trained ones first, in their new order.

    Args:
        names: as stored: those of trained layers by layer, then the others by layer.
        before, after: layers of the model (last parts of their names), in its order, to whether trained.
    """

    def owner(name: str) -> str | None:
        parts = name.split("/")[:-1]
        return next((part for part in reversed(parts) if part in before), None)

    owned: dict[str, list[str]] = {layer: [] for layer in before}
    for name in names:
        layer = owner(name)
        if layer is None:
            return list(names)
        owned[layer].append(name)
    trained: list[str] = []
    rest: list[str] = []
    for layer, mine in owned.items():
        statistics = [n for n in mine if n.split("/")[-1].startswith(("moving_", "running_"))]
        weights = [n for n in mine if n not in statistics]
        (trained if after.get(layer, True) else rest).extend(weights)
        rest.extend(statistics)
    return [*trained, *rest]


def _models(config: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for entry in entries_of(config):
        if is_model(entry):
            yield f"{prefix}{_name(entry)}"
            yield from _models(entry, f"{prefix}{_name(entry)}/")


def _name(entry: Mapping[str, Any]) -> str:
    settings = entry.get("config")
    inner = settings.get("name") if isinstance(settings, dict) else None
    return str(entry.get("name") or inner or entry.get("class_name"))
