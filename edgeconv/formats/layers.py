"""The layers of a model on disk: their names, their weights, and which of them training would move.

Nothing is run and TensorFlow is not imported: a Keras file says it in its configuration, a SavedModel of
TensorFlow 2 in its object graph and the metadata of Keras, one of TensorFlow 1 and a checkpoint with a
``.meta`` in their collections.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeconv.errors import UsageError
from edgeconv.formats._checkpoint_files import checkpoint_files
from edgeconv.formats._graph_analysis import variables_in
from edgeconv.formats._graph_view import GraphView
from edgeconv.formats._keras_archive import (
    CONFIG,
    ZIP_MAGIC,
    Weight,
    is_parameter,
    json_member,
    open_zip,
    parse_json,
    read_hdf5,
    read_weights,
)
from edgeconv.formats._keras_config import entries_of, is_model, layers_of
from edgeconv.formats._model_bytes import read_head
from edgeconv.formats._saved_model_files import find_saved_model, read_saved_model
from edgeconv.formats._tensor_types import elements, shape_of
from edgeconv.formats._tensorflow_protos import tensorflow_protos
from edgeconv.formats._wire import BYTES, walk
from edgeconv.formats.checkpoint import read_meta_graph
from edgeconv.formats.registry import identify
from edgeconv.formats.saved_model import choose_meta_graph

_STATISTICS = ("moving_mean", "moving_variance", "running_mean", "running_std")
_WITH_STATISTICS = {"BatchNormalization": 2, "SyncBatchNormalization": 2, "Normalization": 3}
_METADATA_LIMIT = 64 * 2**20


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One layer, or one scope of variables.

    Attributes:
        name: with the names of the models around it (``backbone/conv``).
        kind: its class; empty where only variables are known.
        trainable: whether training moves its weights; ``None`` where the file does not say.
        parameters: number of weight elements; ``None`` where not known.
        trainable_parameters: those of them that training moves.
        variables: names of its variables, where they have names.
    """

    name: str
    kind: str
    trainable: bool | None
    parameters: int | None
    trainable_parameters: int | None
    variables: tuple[str, ...] = ()


def layers_in(path: Path, tags: Sequence[str] | None = None) -> tuple[LayerInfo, ...]:
    """The layers of the model at ``path``, in its own order.

    Raises:
        UsageError: a format without layers or variables.
        InvalidModelError: truncated or corrupt.
    """
    kind = identify(path).name
    if kind == "keras":
        return _of_keras(path)
    if kind == "saved_model":
        return _of_saved_model(path, tags)
    if kind == "checkpoint":
        files = checkpoint_files(path)
        if files.meta is not None:
            return _by_collections(read_meta_graph(files.meta))
        raise UsageError(
            "a checkpoint without its '.meta' does not say which of its variables are trained",
            where=str(path),
            hint="'edgeconv inspect' without --layers lists the variables",
        )
    raise UsageError(
        f"a {kind} has no layers and no variables any more",
        where=str(path),
        why="they became constants when it was made",
        hint="inspect the model it was made of; 'edgeconv thaw' makes variables of a frozen graph's weights"
        if kind == "frozen_graph"
        else "inspect the model it was made of",
    )


def keras_config(path: Path) -> dict[str, Any]:
    """The configuration in a Keras file.

    Raises:
        InvalidModelError: damaged, or weights only.
        UsageError: there is none.
    """
    return _read_keras(path)[0]


def layer_weights(
    config: Mapping[str, Any], weights: Sequence[Weight], packed: bool
) -> dict[str, list[Weight]]:
    """Layer (with its models' names) to its weights, in the order of the file."""
    found: dict[str, list[Weight]] = {}
    if packed:
        # Archives name a layer by its class and number within its model.
        stems = sorted(_archive_paths(config, "", ""), key=lambda item: -len(item[1]))
        for weight in weights:
            path = weight.path.replace("\\", "/").replace("_layer_checkpoint_dependencies/", "layers/")
            owner = next((name for name, stem in stems if path.startswith(stem + "/")), None)
            if owner is not None:
                found.setdefault(owner, []).append(weight)
        return found
    names = [layer.name for layer in layers_of(config)]
    last: dict[str, list[str]] = {}
    for name in names:
        last.setdefault(name.rpartition("/")[2], []).append(name)
    for weight in weights:
        parts = weight.path.split("/")
        owners: list[str] = []
        for part in reversed(parts[:-1]):
            # Keras 1 and 2 made names unique within a session by a number at their end.
            owners = last.get(part) or last.get(re.sub(r"_\d+$", "", part)) or []
            if owners:
                break
        # Of several with one name, the one whose model is the group that holds the weight.
        within = [name for name in owners if name.split("/")[0] == parts[0]]
        if within or owners:
            found.setdefault((within or owners)[0], []).append(weight)
    return found


def _of_keras(path: Path) -> tuple[LayerInfo, ...]:
    config, weights, packed = _read_keras(path)
    owned = layer_weights(config, [w for w in weights if is_parameter(w)], packed)
    found = []
    for layer in layers_of(config):
        mine = owned.get(layer.name, [])
        total = sum(weight.elements for weight in mine)
        fixed = sum(weight.elements for weight in mine if weight.path.split("/")[-1].startswith(_STATISTICS))
        if packed and layer.kind in _WITH_STATISTICS:
            fixed = sum(weight.elements for weight in mine[-_WITH_STATISTICS[layer.kind] :])
        found.append(
            LayerInfo(
                layer.name,
                layer.kind,
                layer.trainable,
                total,
                total - fixed if layer.trainable else 0,
                tuple(weight.path for weight in mine),
            )
        )
    return tuple(found)


def _read_keras(path: Path) -> tuple[dict[str, Any], list[Weight], bool]:
    with path.open("rb") as stream:
        packed = stream.read(4) == ZIP_MAGIC
    if packed:
        with open_zip(path) as archive:
            return json_member(archive, CONFIG, path), list(read_weights(archive, path).weights), True
    found = read_hdf5(path, path)
    text = found.attributes.get("model_config")
    if text is None:
        raise UsageError(
            "the file holds weights, but no configuration of layers",
            where=str(path),
            hint="use the file that the whole model was saved to",
        )
    return parse_json(text, "model_config", path), list(found.weights), False


def _archive_paths(model: Mapping[str, Any], prefix: str, place: str) -> Iterator[tuple[str, str]]:
    used: dict[str, int] = {}
    for entry in entries_of(model):
        kind = str(entry.get("class_name") or "")
        settings = entry.get("config") if isinstance(entry.get("config"), dict) else {}
        name = str(entry.get("name") or (settings or {}).get("name") or kind)
        snake = _snake_case(kind)
        if snake in used:
            used[snake] += 1
            snake = f"{snake}_{used[snake]}"
        else:
            used[snake] = 0
        yield f"{prefix}{name}", f"{place}layers/{snake}"
        if is_model(entry):
            yield from _archive_paths(entry, f"{prefix}{name}/", f"{place}layers/{snake}/")
        elif isinstance((settings or {}).get("layer"), dict):
            inner = (settings or {})["layer"]
            inside = inner.get("config") if isinstance(inner.get("config"), dict) else {}
            called = str(inner.get("name") or (inside or {}).get("name") or inner.get("class_name"))
            yield f"{prefix}{name}/{called}", f"{place}layers/{snake}/layer"


def _snake_case(name: str) -> str:
    text = re.sub(r"\W+", "", name)
    text = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", text)
    return re.sub("([a-z])([A-Z])", r"\1_\2", text).lower()


def _of_saved_model(path: Path, tags: Sequence[str] | None) -> tuple[LayerInfo, ...]:
    folder = find_saved_model(path)
    graph = choose_meta_graph(
        read_saved_model(folder), None if tags is None else tuple(tags), where=str(folder.proto)
    )
    if not graph.object_graph_def.nodes:
        return _by_collections(graph)
    nodes = graph.object_graph_def.nodes
    # Objects may share a name (several training runs in one process): variables are told by their number.
    variables = {
        number: (
            node.variable.name.partition(":")[0],
            elements(shape_of(node.variable.shape)),
            bool(node.variable.trainable),
        )
        for number, node in enumerate(nodes)
        if node.WhichOneof("kind") == "variable" and not _is_state(node.variable.name)
    }
    slots = {slot.slot_variable_node_id for node in nodes for slot in node.slot_variables}
    found = []
    taken: set[int] = set(slots)
    for number, facts in _keras_objects(folder.folder, graph):
        if not 0 <= number < len(nodes):
            continue
        mine = [
            c.node_id for c in nodes[number].children if c.node_id in variables and c.node_id not in taken
        ]
        mine = list(dict.fromkeys(mine))
        if not mine or facts.get("class_name") in ("Functional", "Sequential", "Model"):
            continue
        taken.update(mine)
        trainable = facts.get("trainable")
        found.append(
            _scope(
                str(facts.get("name") or variables[mine[0]][0].rpartition("/")[0]),
                str(facts.get("class_name") or ""),
                [variables[i] for i in mine],
                trainable if isinstance(trainable, bool) else None,
            )
        )
    rest = [variables[number] for number in variables if number not in taken]
    return (*found, *_by_scope(rest))


def _is_state(name: str) -> bool:
    return name.partition(":")[0].rpartition("/")[2] in ("seed_generator_state", "count", "total")


def _keras_objects(folder: Path, graph: Any) -> list[tuple[int, dict[str, Any]]]:
    """Numbers in the object graph of the layers of Keras 2, with what their metadata says."""
    found: list[tuple[int, dict[str, Any]]] = []
    data = read_head(folder / "keras_metadata.pb", _METADATA_LIMIT)
    try:
        for node in walk(data or b""):
            if node.number != 1 or node.kind != BYTES:
                continue
            number, identifier, text = -1, "", ""
            for piece in walk(node.payload):
                if piece.number == 2 and piece.kind != BYTES:
                    number = int(piece.value)
                elif piece.number == 3 and piece.kind == BYTES:
                    identifier = piece.payload.decode("utf-8", errors="replace")
                elif piece.number == 4 and piece.kind == BYTES:
                    text = piece.payload.decode("utf-8", errors="replace")
            if "layer" in identifier or "rnn" in identifier:
                found.append((number, _facts(text)))
    except ValueError:
        return []
    if not found:
        # Before TF 2.5 the same metadata stood in the object graph itself.
        for number, node in enumerate(graph.object_graph_def.nodes):
            if node.WhichOneof("kind") == "user_object" and "layer" in node.user_object.identifier:
                found.append((number, _facts(node.user_object.metadata)))
    return found


def _facts(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _by_collections(meta_graph: Any) -> tuple[LayerInfo, ...]:
    view = GraphView(meta_graph.graph_def)
    sizes = variables_in(view.all_nodes(view.nodes))
    trained = _collection(meta_graph, "trainable_variables")
    listed = _collection(meta_graph, "variables") or {}
    if trained is None and not listed:
        return _by_scope([(name, size, None) for name, (_, size) in sizes.items()])
    everything = {**listed, **(trained or {})}
    return _by_scope(
        [
            (name, sizes[node][1] if node in sizes else None, None if trained is None else name in trained)
            for name, node in everything.items()
        ]
    )


def _collection(meta_graph: Any, name: str) -> dict[str, str] | None:
    """Names of the variables of a collection, to the nodes that make them."""
    if name not in meta_graph.collection_def:
        return None
    from google.protobuf.message import DecodeError

    found = {}
    for packed in meta_graph.collection_def[name].bytes_list.value:
        variable = tensorflow_protos().VariableDef()
        try:
            variable.ParseFromString(packed)
        except DecodeError:
            continue
        bare = variable.variable_name.partition(":")[0]
        found[bare] = bare
    return found


def _by_scope(variables: Sequence[tuple[str, int | None, bool | None]]) -> tuple[LayerInfo, ...]:
    scopes: dict[str, list[tuple[str, int | None, bool | None]]] = {}
    for variable in variables:
        scopes.setdefault(variable[0].rpartition("/")[0], []).append(variable)
    return tuple(_scope(name, "", mine, None) for name, mine in scopes.items())


def _scope(
    name: str, kind: str, variables: Sequence[tuple[str, int | None, bool | None]], trainable: bool | None
) -> LayerInfo:
    sizes = [size for _, size, _ in variables]
    flags = [flag for _, _, flag in variables]
    if trainable is None and None not in flags:
        trainable = any(flags)
    total = None if None in sizes else sum(size or 0 for size in sizes)
    moved = sum(size or 0 for _, size, flag in variables if flag)
    unknown = total is None or None in flags
    return LayerInfo(
        name, kind, trainable, total, None if unknown else moved, tuple(name for name, _, _ in variables)
    )
