"""Finds and reads the files of a SavedModel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeconv.errors import InvalidModelError, UsageError
from edgeconv.formats._model_bytes import check_file, read_file
from edgeconv.formats._saved_model_functions import add_function_signatures
from edgeconv.formats._tensorflow_protos import parse_binary, parse_text, tensorflow_protos

BINARY, TEXT = "saved_model.pb", "saved_model.pbtxt"
_SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class SavedModelFolder:
    """Where a SavedModel lies.

    Attributes:
        folder: the folder that holds ``saved_model.pb``.
        proto: that file, or its text form.
        version: name of the only version folder, where the folder given holds versions of a model.
    """

    folder: Path
    proto: Path
    version: str | None = None


def find_saved_model(path: Path) -> SavedModelFolder:
    """The SavedModel that ``path`` names: its folder, its ``saved_model.pb``, or a folder of versions.

    Raises:
        UsageError: the folder holds several versions; names them.
        InvalidModelError: there is no SavedModel.
    """
    if path.is_file():
        return SavedModelFolder(path.parent, path)
    proto = proto_in(path)
    if proto is not None:
        return SavedModelFolder(path, proto)
    versions = version_folders(path)
    if len(versions) == 1:
        inner = proto_in(versions[0])
        if inner is not None:
            return SavedModelFolder(versions[0], inner, versions[0].name)
    if versions:
        names = ", ".join(folder.name for folder in versions)
        raise UsageError(
            f"the folder holds {len(versions)} versions of a SavedModel: {names}",
            where=str(path),
            hint=f"name one, for example {versions[-1]}",
        )
    raise InvalidModelError(
        f"the folder has no '{BINARY}'",
        where=str(path),
        why=f"it holds {', '.join(sorted(c.name for c in path.iterdir())[:5]) or 'nothing'}"
        if path.is_dir()
        else "it does not exist",
        hint="name the folder that TensorFlow exported the model to",
    )


def proto_in(folder: Path) -> Path | None:
    """``saved_model.pb`` or ``saved_model.pbtxt`` of a folder; ``None`` if it has neither."""
    for name in (BINARY, TEXT):
        if (folder / name).is_file():
            return folder / name
    return None


def version_folders(folder: Path) -> list[Path]:
    """Folders of the versions of a model (``1``, ``00000123``), oldest first."""
    if not folder.is_dir():
        return []
    found = [c for c in folder.iterdir() if c.name.isdigit() and c.is_dir() and proto_in(c) is not None]
    return sorted(found, key=lambda c: (int(c.name), c.name))


def read_saved_model(found: SavedModelFolder) -> Any:
    """The ``SavedModel`` message; where a graph has no signature, with one for each function of its model.

    Raises:
        InvalidModelError: missing, a Git LFS pointer, truncated, corrupt, or of a version from the future.
    """
    data = read_file(found.proto)
    kind = tensorflow_protos().SavedModel
    text = found.proto.name.endswith(".pbtxt")
    message = (parse_text if text else parse_binary)(kind, data, found.proto, "SavedModel")
    if message.saved_model_schema_version > _SCHEMA_VERSION:
        raise InvalidModelError(
            f"the SavedModel has schema version {message.saved_model_schema_version}",
            where=str(found.proto),
            why=f"version {_SCHEMA_VERSION} is the newest known",
            hint="export it with TensorFlow 2.21",
        )
    if not message.meta_graphs:
        raise InvalidModelError(
            "the SavedModel holds no graph", where=str(found.proto), hint="copy or export the model again"
        )
    for meta_graph in message.meta_graphs:
        add_function_signatures(meta_graph)
    return message


def asset_files(meta_graph: Any, found: SavedModelFolder) -> tuple[list[str], list[str]]:
    """Names of the assets of a metagraph, relative to ``assets/``: all of them, and those that are missing.

    Raises:
        InvalidModelError: a name or a link leads out of the folder.
    """
    missing = []
    names = [asset.filename for asset in meta_graph.asset_file_def]
    names += _legacy_assets(meta_graph)
    folder = found.folder / "assets"
    for name in dict.fromkeys(names):
        relative = Path(name)
        if not name or relative.is_absolute() or ".." in relative.parts or "\0" in name:
            raise InvalidModelError(
                f"the asset {name!r} lies outside the model's folder",
                where=str(found.proto),
                why="a model may only bring files of its own",
                hint="do not use this model",
            )
        target = folder / relative
        if not target.exists():
            missing.append(name)
        elif not target.resolve().is_relative_to(found.folder.resolve()):
            raise InvalidModelError(
                f"the asset '{name}' is a link that leads out of the model's folder",
                where=str(target),
                hint="replace the link by the file",
            )
    return sorted(dict.fromkeys(names)), sorted(missing)


def variables_index(found: SavedModelFolder) -> Path | None:
    """``variables/variables.index``, or ``None`` where the model has none.

    Raises:
        InvalidModelError: it is a Git LFS pointer or empty.
    """
    index = found.folder / "variables" / "variables.index"
    if not index.is_file():
        return None
    check_file(index)
    return index


def model_files(found: SavedModelFolder) -> list[Path]:
    """All files that belong to the model, sorted."""
    files = [found.proto]
    for name in ("keras_metadata.pb", "fingerprint.pb"):
        if (found.folder / name).is_file():
            files.append(found.folder / name)
    for name in ("variables", "assets", "assets.extra"):
        folder = found.folder / name
        if folder.is_dir():
            files += [child for child in folder.rglob("*") if child.is_file()]
    return sorted(files)


def _legacy_assets(meta_graph: Any) -> list[str]:
    """Assets as TF1 lists them: in a collection of packed ``AssetFileDef`` messages."""
    if "saved_model_assets" not in meta_graph.collection_def:
        return []
    from google.protobuf.message import DecodeError

    kind = type(meta_graph).DESCRIPTOR.fields_by_name["asset_file_def"].message_type._concrete_class
    names = []
    for packed in meta_graph.collection_def["saved_model_assets"].any_list.value:
        asset = kind()
        try:
            asset.ParseFromString(packed.value)
        except DecodeError:
            continue
        names.append(asset.filename)
    return names
