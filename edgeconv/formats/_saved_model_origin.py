"""What a SavedModel says about where it comes from and which of its variables are trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeconv.formats._model_bytes import LFS_HEAD, read_head
from edgeconv.formats._tensorflow_protos import tensorflow_protos
from edgeconv.formats._wire import BYTES, walk

_METADATA_LIMIT = 64 * 2**20
_FINGERPRINT_LIMIT = 2**20


def fingerprint(folder: Path) -> dict[str, str] | None:
    """The checksums in ``fingerprint.pb`` as hexadecimal, and the model's UUID; ``None`` without them."""
    from google.protobuf.message import DecodeError

    path = folder / "fingerprint.pb"
    data = read_head(path, _FINGERPRINT_LIMIT)
    if not data or data.startswith(LFS_HEAD):
        return None
    message = tensorflow_protos().FingerprintDef()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return None
    found = {
        name: f"{getattr(message, name):016x}"
        for name in (
            "saved_model_checksum",
            "graph_def_program_hash",
            "signature_def_hash",
            "checkpoint_hash",
        )
        if getattr(message, name)
    }
    if message.uuid:
        found["uuid"] = message.uuid
    return found or None


def keras_version(folder: Path, meta_graph: Any) -> str | None:
    """Version of the Keras that wrote the model: ``present`` where not stated, ``None`` without Keras."""
    data = read_head(folder / "keras_metadata.pb", _METADATA_LIMIT)
    if data and not data.startswith(LFS_HEAD):
        return _version_in(data) or "present"
    # Before TF 2.5 the same metadata stood in the object graph itself.
    keras = False
    for node in meta_graph.object_graph_def.nodes:
        if node.WhichOneof("kind") != "user_object":
            continue
        if node.user_object.identifier.startswith("_tf_keras"):
            keras = True
            version = _from_json(node.user_object.metadata)
            if version:
                return version
    return "present" if keras else None


def trainable_names(meta_graph: Any) -> set[str] | None:
    """Names of the trainable variables, from TF1's collection or TF2's objects; ``None`` without both."""
    if meta_graph.object_graph_def.nodes:
        return {
            node.variable.name
            for node in meta_graph.object_graph_def.nodes
            if node.WhichOneof("kind") == "variable" and node.variable.trainable
        }
    if "trainable_variables" not in meta_graph.collection_def:
        return None
    from google.protobuf.message import DecodeError

    names: set[str] = set()
    for packed in meta_graph.collection_def["trainable_variables"].bytes_list.value:
        variable = tensorflow_protos().VariableDef()
        try:
            variable.ParseFromString(packed)
        except DecodeError:
            continue
        names.add(variable.variable_name.partition(":")[0])
    return names


def _version_in(data: bytes) -> str | None:
    """The first ``keras_version`` in a ``SavedMetadata`` message: nodes (1), each with JSON (4)."""
    try:
        for node in walk(data):
            if node.number != 1 or node.kind != BYTES:
                continue
            for field in walk(node.payload):
                if field.number == 4 and field.kind == BYTES:
                    version = _from_json(field.payload.decode("utf-8", errors="replace"))
                    if version:
                        return version
    except ValueError:
        return None
    return None


def _from_json(text: str) -> str | None:
    if "keras_version" not in text:
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    version = data.get("keras_version") if isinstance(data, dict) else None
    return version if isinstance(version, str) else None
