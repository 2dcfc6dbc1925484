"""What a TFLite file says about itself beyond its graph: its converter, its author, its labels.

Three things can be there: a small table of the converter (its version and options), the oldest runtime
that takes the file, and "TFLite Metadata" with files packed behind the model as a zip archive. The slots
are those of the published schemas. Nothing here is needed to use the model, so what is damaged is left
out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeconv.formats._flatbuffer import Buffer, FlatbufferError, Table
from edgeconv.formats._tflite_model import TfliteModel

_ORIGINS = (
    None, "SavedModel", "Keras model", "concrete functions", "GraphDef", "session", "JAX", "PyTorch",
)  # fmt: skip
_OPTIMIZATIONS = {
    1001: "float16",
    1002: "dynamic range",
    1003: "full integer",
    1004: "int16",
    2000: "quantization-aware training",
    3001: "random sparsity",
    3002: "block sparsity",
    3003: "structured sparsity",
}
_NORMALIZATION = 1
_LABEL_TYPES = (2, 3)
_MAX_LABELS_BYTES = 1 << 20
_TAIL_BYTES = 65_557
_MAX_ARCHIVE_ENTRIES = 1000
_END_OF_ARCHIVE = b"PK\x05\x06"


def conversion_of(model: TfliteModel) -> dict[str, Any]:
    """The converter as it recorded itself: ``tensorflow``, ``origin``, ``optimizations``, ``select_tf``."""
    root = _root_of(model, "CONVERSION_METADATA", b"")
    said: dict[str, Any] = {}
    if root is None:
        return said
    try:
        environment, options = root.table(0), root.table(1)
        if environment is not None:
            version = environment.string(0)
            origin = environment.integer(2)
            if version:
                said["tensorflow"] = version
            if 0 < origin < len(_ORIGINS):
                said["origin"] = _ORIGINS[origin]
        if options is not None:
            modes = options.numbers(0, "i")
            if modes:
                said["optimizations"] = [_OPTIMIZATIONS.get(mode, str(mode)) for mode in modes]
            if options.boolean(2):
                said["select_tf"] = True
    except FlatbufferError:
        pass
    return said


def minimum_runtime_of(model: TfliteModel) -> str | None:
    """The oldest runtime that takes the file, as its converter computed it (``1.14.0``)."""
    buffer = model.metadata.get("min_runtime_version")
    if buffer is None:
        return None
    text = model.content(buffer, 64).split(b"\0")[0].decode("ascii", "replace").strip()
    return text or None


def authored_metadata(model: TfliteModel) -> dict[str, Any]:
    """TFLite Metadata: name, description, version, author and licence of the model; for each input and
    output its name, description, normalisation and label file.
    """
    root = _root_of(model, "TFLITE_METADATA", b"M001")
    said: dict[str, Any] = {}
    if root is None:
        return said
    fields = {"name": 0, "description": 1, "version": 2, "author": 4, "license": 5, "min_parser_version": 7}
    try:
        for key, slot in fields.items():
            if text := root.string(slot):
                said[key] = text
        for graph in root.tables(3)[:1]:
            said["inputs"] = [_tensor_metadata(table) for table in graph.tables(2)]
            said["outputs"] = [_tensor_metadata(table) for table in graph.tables(3)]
    except FlatbufferError:
        pass
    return said


def _tensor_metadata(table: Table) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for key, slot in {"name": 0, "description": 1}.items():
        if text := table.string(slot):
            said[key] = text
    for unit in table.tables(4):
        options = unit.table(1)
        if unit.integer(0, "B") == _NORMALIZATION and options is not None:
            said["normalisation"] = {
                "mean": list(options.numbers(0, "f")),
                "std": list(options.numbers(1, "f")),
            }
    for file in table.tables(6):
        if file.integer(2, "b") in _LABEL_TYPES and (name := file.string(0)):
            said.setdefault("label_files", []).append(name)
    return said


def packed_files(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Names of the files packed behind the model, and the lines of those that are small texts (labels)."""
    with path.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, 2) - _TAIL_BYTES))
        tail = stream.read(_TAIL_BYTES)
    end = tail.rfind(_END_OF_ARCHIVE)
    if end < 0 or end + 22 > len(tail):
        return [], {}
    if int.from_bytes(tail[end + 10 : end + 12], "little") > _MAX_ARCHIVE_ENTRIES:
        return [], {}
    import lzma
    import zipfile
    import zlib

    damaged = (
        zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, OSError, EOFError,
        ValueError,
    )  # fmt: skip
    labels: dict[str, list[str]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            for info in archive.infolist():
                if info.filename.endswith(".txt") and info.file_size <= _MAX_LABELS_BYTES:
                    with archive.open(info) as entry:
                        text = entry.read(_MAX_LABELS_BYTES).decode("utf-8", "replace")
                    labels[info.filename] = text.splitlines()
    except damaged:
        return [], {}
    return names, labels


def _root_of(model: TfliteModel, entry: str, identifier: bytes) -> Table | None:
    buffer = model.metadata.get(entry)
    if buffer is None:
        return None
    data = Buffer(model.content(buffer), visits=100_000)
    try:
        if identifier and data.identifier != identifier:
            return None
        return data.root()
    except FlatbufferError:
        return None
