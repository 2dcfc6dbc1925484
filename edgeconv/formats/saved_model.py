"""SavedModels of TF1 and TF2: a folder with graphs, signatures, variables and assets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeconv.errors import EdgeconvError, InvalidModelError, UsageError
from edgeconv.formats._front_end_findings import front_end_findings
from edgeconv.formats._graph_analysis import constant_weights, variables_in
from edgeconv.formats._graph_findings import control_flow, graph_findings
from edgeconv.formats._graph_macs import multiply_accumulates
from edgeconv.formats._graph_view import GraphView, tensor_node
from edgeconv.formats._model_bytes import total_size
from edgeconv.formats._saved_model_files import (
    SavedModelFolder,
    asset_files,
    find_saved_model,
    model_files,
    proto_in,
    read_saved_model,
    variables_index,
    version_folders,
)
from edgeconv.formats._saved_model_functions import MADE
from edgeconv.formats._saved_model_origin import fingerprint, keras_version, trainable_elements
from edgeconv.formats._tensor_bundle import OBJECT_GRAPH_KEY, check_shards, read_index
from edgeconv.formats._tensor_types import dtype_name, elements, shape_of
from edgeconv.formats._wire import looks_like_saved_model, text_begins_with
from edgeconv.formats.base import Description, Finding, Signature, TensorSpec, contract_of
from edgeconv.formats.checkpoint import meta_graph_producer

_SERVE = "serve"
_FOR_TRAINING = frozenset(("train", "eval"))
_DEFAULT_SIGNATURE = "serving_default"
_HIDDEN_SIGNATURES = ("__saved_model_init_op", "__saved_model_train_op")
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")


class SavedModelFormat:
    """The format ``saved_model``; see :class:`edgeconv.formats.base.Format`."""

    name = "saved_model"
    suffix = ""

    def recognise(self, path: Path, head: bytes) -> float:
        """By ``saved_model.pb`` in the folder, in its only version folder, or given by itself."""
        try:
            if path.is_dir():
                if proto_in(path) is not None:
                    return 1.0
                if version_folders(path):
                    return 0.6
                return 0.5 if (path / "variables" / "variables.index").is_file() else 0.0
            if not head:
                return 0.0
            if text_begins_with(head, ("saved_model_schema_version", "meta_graphs")):
                return 0.9
            return looks_like_saved_model(head, path.stat().st_size)
        except OSError:
            return 0.0

    def describe(self, path: Path) -> Description:
        """Describe the graph tagged ``serve``, or the only one.

        Raises:
            InvalidModelError: a file is missing, truncated or corrupt; names it.
            UsageError: several versions, or several graphs and none of them tagged ``serve``.
        """
        return describe_saved_model(path)

    def describe_part(self, path: Path, tags: Sequence[str] | None, signature: str | None) -> Description:
        """Describe the graph of those tags, with what one signature of it runs; see :meth:`describe`."""
        return describe_saved_model(path, tags, signature)

    def files(self, path: Path) -> list[Path]:
        """The graph, variables, assets and metadata; nothing else that lies in the folder."""
        try:
            return model_files(find_saved_model(path))
        except EdgeconvError:
            return [path] if path.is_file() else []


def describe_saved_model(
    path: Path, tags: Sequence[str] | None = None, signature: str | None = None
) -> Description:
    """Describe the graph of those ``tags``; see :meth:`SavedModelFormat.describe`.

    Ops, weights, multiply-accumulates and findings are those of ``signature``; without one, of
    ``serving_default`` or the only signature, else of all together.
    """
    found = find_saved_model(path)
    saved_model = read_saved_model(found)
    meta_graph = choose_meta_graph(saved_model, None if tags is None else tuple(tags), where=str(found.proto))
    view = GraphView(meta_graph.graph_def)
    signatures = signatures_of(meta_graph)
    main = _main_signatures(signatures, signature, str(found.proto))
    running, anywhere = _running(view, main, meta_graph), _running(view, signatures, meta_graph)
    ordered = [name for name in view.nodes if name in running]
    nodes = list(view.all_nodes(ordered))
    assets, missing_assets = asset_files(meta_graph, found)
    on_disk = _variables_on_disk(found, variables_in(view.all_nodes(view.nodes)), meta_graph)
    counted = _parameters(view, ordered, nodes, meta_graph, on_disk, [s.name for s in main])
    graphs = [sorted_tags(graph) for graph in saved_model.meta_graphs]
    metadata: dict[str, Any] = {
        "tag_sets": graphs,
        "tags": sorted_tags(meta_graph),
        "schema": int(saved_model.saved_model_schema_version),
        "generation": "TF2" if meta_graph.object_graph_def.nodes else "TF1",
        "graph_def_producer": view.producer,
        "fingerprint": fingerprint(found.folder),
        "assets": assets,
        "described_signatures": [s.name for s in main],
        "keras_version": keras_version(found.folder, meta_graph),
        "functions": len(view.functions),
        "control_flow": list(control_flow(nodes)),
        "version_folder": found.version,
        **counted,
    }
    parameters = metadata.pop("parameters")
    return Description(
        format=FORMAT.name,
        path=str(path),
        bytes=total_size(model_files(found)),
        producer=meta_graph_producer(meta_graph),
        version=f"SavedModel schema {saved_model.saved_model_schema_version}",
        signatures=signatures,
        parameters=parameters,
        macs=multiply_accumulates(view, ordered),
        ops=view.operations(ordered),
        metadata=metadata,
        findings=(
            *_own_findings(meta_graph, signatures),
            *_asset_findings(missing_assets, found),
            *(f for f in graph_findings(view, ordered) if f.code != "untrusted-op"),
            *(f for s in main for f in front_end_findings(meta_graph.graph_def, contract_of(s))),
            *_dangers(view, anywhere | _initialisation(view, meta_graph), bool(assets)),
        ),
    )


def choose_meta_graph(
    saved_model: Any, tags: tuple[str, ...] | None = None, *, where: str | None = None
) -> Any:
    """One graph of a ``SavedModel``: that with exactly those tags; without any, ``serve``'s or the only one.

    Args:
        saved_model: the message.
        tags: the tag set wanted; the empty tuple is the empty tag set.
        where: what an error names as the place.

    Raises:
        UsageError: there is none, or it is not clear which; lists the tag sets.
    """
    graphs = list(saved_model.meta_graphs)
    listed = "; ".join(_tags_text(graph) for graph in graphs)
    if tags is not None:
        wanted = [graph for graph in graphs if set(graph.meta_info_def.tags) == set(tags)]
        if wanted:
            return wanted[0]
        raise UsageError(
            f"the SavedModel has no graph tagged '{','.join(tags)}'",
            where=where,
            why=f"its tag sets are {listed}",
            hint=f"try --tags {_tags_flag(graphs[0])}",
        )
    exact = [graph for graph in graphs if list(graph.meta_info_def.tags) == [_SERVE]]
    if exact:
        return exact[0]
    if len(graphs) == 1:
        return graphs[0]
    serving = [graph for graph in graphs if _SERVE in graph.meta_info_def.tags]
    if len(serving) == 1:
        return serving[0]
    bare = [graph for graph in graphs if not graph.meta_info_def.tags]
    if len(bare) == 1 and all(_FOR_TRAINING & set(g.meta_info_def.tags) for g in graphs if g is not bare[0]):
        return bare[0]  # as modules of TensorFlow Hub have it: the other graphs train and evaluate
    raise UsageError(
        f"the SavedModel holds {len(graphs)} graphs, and it is not clear which is meant",
        where=where,
        why=f"their tag sets are {listed}",
        hint=f"name one, for example --tags {_tags_flag((serving or graphs)[0])}",
    )


def signatures_of(meta_graph: Any) -> tuple[Signature, ...]:
    """The signatures of a ``MetaGraphDef``, ``serving_default`` first, the others by name.

    Inputs and outputs are in the order of their keys, which is TensorFlow's; their logical names are the
    keys, and ``tensor`` is the name in the graph. The hidden initialisation ops are left out. Where the
    graph contradicts a signature that calls a tensor a scalar, the exporter left shapes out, as early ones
    did: the graph's are taken.
    """
    names = sorted(
        (name for name in meta_graph.signature_def if name not in _HIDDEN_SIGNATURES),
        key=lambda name: (name != _DEFAULT_SIGNATURE, name),
    )
    signatures = [
        Signature(
            name,
            _specs(meta_graph.signature_def[name].inputs),
            _specs(meta_graph.signature_def[name].outputs),
        )
        for name in names
    ]
    if any(spec.shape == () for signature in signatures for spec in (*signature.inputs, *signature.outputs)):
        view = GraphView(meta_graph.graph_def)
        signatures = [_with_shapes_of_graph(signature, view) for signature in signatures]
    return tuple(signatures)


def _with_shapes_of_graph(signature: Signature, view: GraphView) -> Signature:
    def told(spec: TensorSpec) -> TensorSpec:
        node, port = tensor_node(spec.inner_name)
        stated = view.shape(node, port) if spec.shape == () and node in view.nodes else None
        return dataclasses.replace(spec, shape=stated) if stated else spec

    return dataclasses.replace(
        signature, inputs=tuple(map(told, signature.inputs)), outputs=tuple(map(told, signature.outputs))
    )


def sorted_tags(meta_graph: Any) -> list[str]:
    """The tags of a ``MetaGraphDef``."""
    return sorted(meta_graph.meta_info_def.tags)


def _specs(infos: Any) -> tuple[TensorSpec, ...]:
    return tuple(_spec(key, infos[key]) for key in sorted(infos))


def _spec(key: str, info: Any) -> TensorSpec:
    encoding = info.WhichOneof("encoding")
    tensor = info.coo_sparse.values_tensor_name if encoding == "coo_sparse" else info.name
    return TensorSpec(
        name=key, dtype=dtype_name(info.dtype), shape=shape_of(info.tensor_shape), tensor=tensor or None
    )


def _main_signatures(
    signatures: tuple[Signature, ...], wanted: str | None, where: str
) -> tuple[Signature, ...]:
    if wanted is not None:
        chosen = tuple(s for s in signatures if s.name == wanted)
        if not chosen:
            raise UsageError(
                f"the SavedModel has no signature '{wanted}'",
                where=where,
                why=f"it has {', '.join(s.name for s in signatures) or 'none'}",
                hint=f"try --signature {signatures[0].name}" if signatures else "name --inputs and --outputs",
            )
        return chosen
    if signatures and signatures[0].name == _DEFAULT_SIGNATURE:
        return signatures[:1]
    return signatures


def _running(view: GraphView, signatures: tuple[Signature, ...], meta_graph: Any) -> set[str]:
    """The nodes that some of these signatures depend on; without any, all but those of the saver."""
    ends = [
        tensor_node(spec.inner_name)[0]
        for signature in signatures
        for spec in (*signature.outputs, *signature.inputs)
    ]
    if ends:
        return view.upstream(ends)
    saver = meta_graph.saver_def
    saving = (saver.save_tensor_name, saver.restore_op_name, saver.filename_tensor_name)
    return set(view.nodes) - view.upstream(tensor_node(name)[0] for name in saving)


def _variables_on_disk(
    found: SavedModelFolder, in_graph: dict[str, tuple[str, int | None]], meta_graph: Any
) -> dict[str, int | None]:
    """Variables in ``variables/`` by name, with their elements."""
    index_path = variables_index(found)
    if index_path is None:
        if in_graph:
            missing = found.folder / "variables" / "variables.index"
            raise InvalidModelError(
                f"the values of the model's {len(in_graph)} variables are missing",
                where=str(missing),
                why="the graph has variables, and this file says where their values are",
                hint="copy the whole folder of the model, with 'variables/'",
            )
        return {}
    index = read_index(index_path)
    check_shards(index)
    return {v.name: elements(v.shape) for v in index.variables if v.name != OBJECT_GRAPH_KEY}


def _parameters(
    view: GraphView,
    ordered: list[str],
    nodes: list[tuple[str, Any]],
    meta_graph: Any,
    on_disk: dict[str, int | None],
    signatures: Sequence[str],
) -> dict[str, Any]:
    """How many weights the signatures use, and how many of them are trainable."""
    used = variables_in((name, view.nodes[name]) for name in ordered)
    sizes = {
        name: count if count is not None else on_disk.get(_shared_name(view.nodes[name]))
        for name, (dtype, count) in used.items()
        if dtype.startswith(("float", "bfloat", "int8", "uint8"))
    }
    total = constant_weights(nodes) + sum(count or 0 for count in sizes.values())
    known = {_shared_name(view.nodes[name]): count or 0 for name, count in sizes.items()}
    return {
        "parameters": None if None in sizes.values() else total,
        "variables": len(on_disk),
        "variables_used": sorted(used),
        "trainable_parameters": trainable_elements(meta_graph, signatures, known),
    }


def _shared_name(node: Any) -> str:
    shared = (
        node.attr["shared_name"].s.decode("utf-8", errors="replace") if "shared_name" in node.attr else ""
    )
    return shared or str(node.name)


def _own_findings(meta_graph: Any, signatures: tuple[Signature, ...]) -> list[Finding]:
    found = []
    if not signatures:
        found.append(
            Finding(
                "no-signature",
                "the SavedModel has no signature, so it does not say what its inputs and outputs are",
                hint="export it with signatures=…, or name them with --inputs and --outputs",
            )
        )
    made = [n for n, definition in meta_graph.signature_def.items() if definition.method_name == MADE]
    if made:
        found.append(
            Finding(
                "function-signature",
                "the SavedModel has no signature: its functions are taken for such: "
                + ", ".join(sorted(made)),
                hint="choose with --signature" if len(made) > 1 else None,
            )
        )
    for name, signature in meta_graph.signature_def.items():
        sparse = [
            key for key, info in signature.inputs.items() if info.WhichOneof("encoding") == "coo_sparse"
        ]
        if sparse:
            found.append(
                Finding(
                    "sparse-input",
                    f"signature '{name}' takes sparse tensors, which no edge format has: {', '.join(sparse)}",
                    where=name,
                )
            )
    for signature in signatures:
        tensors = [spec.inner_name for spec in signature.inputs]
        twice = sorted({tensor for tensor in tensors if tensors.count(tensor) > 1})
        if twice:
            found.append(
                Finding(
                    "shared-input",
                    f"signature '{signature.name}' has several names for one tensor: {', '.join(twice)}",
                    where=signature.name,
                )
            )
        if not signature.inputs:
            found.append(
                Finding("no-input", f"signature '{signature.name}' takes no input", where=signature.name)
            )
    return found


def _asset_findings(missing: list[str], found: SavedModelFolder) -> list[Finding]:
    if not missing:
        return []
    return [
        Finding(
            "missing-asset",
            f"files that the model may read are missing: {', '.join(missing[:5])}",
            where=str(found.folder / "assets"),
            hint="copy the whole folder of the model, with 'assets/'",
        )
    ]


def _initialisation(view: GraphView, meta_graph: Any) -> set[str]:
    """What runs when the model is loaded. Its restore op is TensorFlow's own and not among it."""
    ends: list[str] = []
    for name in _HIDDEN_SIGNATURES[:1]:
        if name in meta_graph.signature_def:
            ends += [info.name for info in meta_graph.signature_def[name].outputs.values()]
    for collection in _INIT_COLLECTIONS:
        if collection in meta_graph.collection_def:
            ends += list(meta_graph.collection_def[collection].node_list.value)
    return view.upstream(tensor_node(end)[0] for end in ends)


def _dangers(view: GraphView, names: set[str], has_assets: bool) -> list[Finding]:
    """Untrusted ops in any signature or in what runs at loading."""
    found = graph_findings(view, [n for n in view.nodes if n in names], has_assets=has_assets)
    return [finding for finding in found if finding.code == "untrusted-op"]


def _tags_text(meta_graph: Any) -> str:
    tags = sorted_tags(meta_graph)
    return ",".join(tags) if tags else "(empty)"


def _tags_flag(meta_graph: Any) -> str:
    return ",".join(sorted_tags(meta_graph)) or "''"


FORMAT = SavedModelFormat()
