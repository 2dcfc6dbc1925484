"""Stages that write a Keras file with other layers frozen, and that look at it as Keras loads it."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeconv.conversions._graph_parts import written
from edgeconv.errors import ConversionError
from edgeconv.formats.base import contract_from_json
from edgeconv.formats.layers import keras_config
from edgeconv.runtimes._keras_loading import load_keras_program
from edgeconv.surgery.keras_layers import leaves, reordered, set_trainable

_CONFIG = "config.json"
_ZIP = b"PK\x03\x04"


def write(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a Keras file with other layers frozen: its configuration changes, its weights do not.

    Args:
        payload: ``path``, ``contract``, ``destination``, ``wanted`` (layer to whether it is trained).

    Returns:
        As ``edgeconv.conversions.stage.convert``.
    """
    path, destination = Path(payload["path"]), Path(payload["destination"])
    config = keras_config(path)
    before = leaves(config)
    set_trainable(config, payload["wanted"])
    with path.open("rb") as stream:
        packed = stream.read(4) == _ZIP
    if packed:
        _write_archive(path, destination, config)
    else:
        shutil.copyfile(path, destination)
        _edit_hdf5(destination, config, before, payload["wanted"])
    contract = contract_from_json(payload["contract"])
    assert contract is not None
    return written(destination, "keras", contract, [])


def loaded_flags(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Load a Keras file and say which layers Keras would train.

    Args:
        payload: ``path``, ``options``.

    Returns:
        ``trained``: layer (its own name) to whether it has weights that are trained, for layers with weights.
    """
    program, _ = load_keras_program(Path(payload["path"]), payload["options"])
    flags: dict[str, bool] = {}
    for layer in _flat(program.owner):
        if layer.weights:
            flags[layer.name] = bool(layer.trainable_weights)
    return {"trained": flags}


def _flat(model: Any) -> list[Any]:
    """The layers of a model that are no models, those in nested models included."""
    found = []
    for layer in model.layers:
        found += _flat(layer) if hasattr(layer, "layers") else [layer]
    return found


def _write_archive(path: Path, destination: Path, config: Mapping[str, Any]) -> None:
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(destination, "w") as target:
        for info in source.infolist():
            if info.filename == _CONFIG:
                target.writestr(info, json.dumps(config))
                continue
            with (
                source.open(info) as member,
                target.open(info, "w", force_zip64=info.file_size > 1 << 30) as out,
            ):
                shutil.copyfileobj(member, out, 1 << 20)


def _edit_hdf5(
    path: Path, config: Mapping[str, Any], before: Mapping[str, bool], wanted: Mapping[str, bool]
) -> None:
    import h5py

    try:
        with h5py.File(path, "r+") as file:
            text = json.dumps(config)
            old = file.attrs["model_config"]
            del file.attrs["model_config"]
            file.attrs["model_config"] = text.encode() if isinstance(old, bytes) else text
            groups = file.get("model_weights", file)
            models = {name.split("/")[0] for name in before if "/" in name}
            for name in models & set(groups):
                group = groups[name]
                if "weight_names" not in group.attrs:
                    continue
                names = [n.decode() if isinstance(n, bytes) else str(n) for n in group.attrs["weight_names"]]
                inside = {
                    n.rpartition("/")[2]: flag for n, flag in before.items() if n.startswith(f"{name}/")
                }
                fresh = {n.rpartition("/")[2]: f for n, f in wanted.items() if n.startswith(f"{name}/")}
                order = reordered(names, inside, fresh)
                if order != names:
                    group.attrs["weight_names"] = [n.encode() for n in order]
    except (OSError, KeyError, RuntimeError) as error:
        raise ConversionError(
            "the HDF5 file cannot be edited",
            where=path.name,
            why=" ".join(str(error).split())[:200],
            hint="save the model again as .keras, and use that",
        ) from error
