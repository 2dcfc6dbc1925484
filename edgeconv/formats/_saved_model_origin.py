"""What a SavedModel says about where it comes from and which of its variables are trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeconv.formats._model_bytes import LFS_HEAD, read_head
from edgeconv.formats._tensor_types import elements, shape_of
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


def trainable_elements(meta_graph: Any, signatures: Sequence[str], sizes: Mapping[str, int]) -> int | None:
    """Elements of the trainable variables that some signatures use; ``None`` where the file does not tell.

    Args:
        meta_graph: a ``MetaGraphDef``.
        signatures: names of the signatures.
        sizes: elements of the variables they use, by name; for TF1, which lists trainable ones by name.
    """
    if meta_graph.object_graph_def.nodes:
        return _trainable_by_object(meta_graph.object_graph_def, signatures)
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
    return sum(count for name, count in sizes.items() if name in names)


def _trainable_by_object(objects: Any, signatures: Sequence[str]) -> int | None:
    """Over the variables that the signatures' functions are bound to; names of objects need not be unique."""
    nodes = objects.nodes
    bound: set[int] = set()
    for child in nodes[0].children:
        if child.local_name != "signatures" or not 0 <= child.node_id < len(nodes):
            continue
        for entry in nodes[child.node_id].children:
            if entry.local_name not in signatures or not 0 <= entry.node_id < len(nodes):
                continue
            function = nodes[entry.node_id].bare_concrete_function.concrete_function_name
            if function not in objects.concrete_functions:
                return None
            bound.update(objects.concrete_functions[function].bound_inputs)
    total = 0
    for number in bound:
        if 0 <= number < len(nodes) and nodes[number].WhichOneof("kind") == "variable":
            variable = nodes[number].variable
            if variable.trainable:
                total += elements(shape_of(variable.shape)) or 0
    return total


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
