"""Checkpoints: values of variables by name (TF1, format V1 and V2) or by object (TF2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from edgeconv.errors import EdgeconvError, InvalidModelError
from edgeconv.formats._checkpoint_files import STATE_FILE, CheckpointFiles, checkpoint_files
from edgeconv.formats._graph_findings import graph_findings
from edgeconv.formats._graph_view import GraphView, tensor_node
from edgeconv.formats._graph_vocabulary import in_training_scope
from edgeconv.formats._model_bytes import read_file, total_size
from edgeconv.formats._session_bundle import session_bundle_signatures
from edgeconv.formats._sstable import is_table
from edgeconv.formats._tensor_bundle import (
    OBJECT_GRAPH_KEY,
    BundleIndex,
    CheckpointVariable,
    check_shards,
    is_shard_name,
    read_index,
    read_object_graph,
    read_v1_variables,
)
from edgeconv.formats._tensor_types import FLOATS, elements
from edgeconv.formats._tensorflow_protos import parse_binary, parse_text, tensorflow_protos
from edgeconv.formats._wire import looks_like_meta_graph, text_begins_with
from edgeconv.formats.base import Candidate, Contract, Description, Finding, Signature
from edgeconv.formats.graph_candidates import (
    RIVAL_SCORE,
    candidate_inputs,
    candidate_outputs,
    contract_for_graph,
)

_META_FIELDS = ("meta_info_def", "graph_def", "saver_def")
SHADOW = "/ExponentialMovingAverage"
"""What TensorFlow 1 appends to the name of a variable for the moving average of its values."""
_SLOT = "/.OPTIMIZER_SLOT/"
_NOT_MODEL = frozenset(
    {
        "optimizer",
        "_optimizer",
        "optimizers",
        "save_counter",
        "keras_api",
        "metrics",
        "_metrics",
        "compiled_metrics",
    }
    | {"_compile_metrics", "loss", "compiled_loss", "step", "global_step"}
)
"""Children of an object-based checkpoint's root that hold training state, not the model."""
_TRAINING_WORDS = ("/Adam", "/Momentum", "/RMSProp", "/Adagrad", "/Ftrl", "/ExponentialMovingAverage")
_TRAINING_NAMES = ("beta1_power", "beta2_power", "global_step", "learning_rate")


class Checkpoint:
    """The format ``checkpoint``; see :class:`edgeconv.formats.base.Format`."""

    name = "checkpoint"
    suffix = ""

    def recognise(self, path: Path, head: bytes) -> float:
        """By the table that lists the tensors, the graph beside it, or the state file that names it."""
        try:
            return self._recognise(path, head)
        except OSError:
            return 0.0

    def _recognise(self, path: Path, head: bytes) -> float:
        if path.is_dir():
            if (path / STATE_FILE).is_file():
                return 0.7
            return 0.5 if any(c.name.endswith((".index", ".meta")) for c in path.iterdir()) else 0.0
        if not path.exists():
            return 1.0 if path.with_name(f"{path.name}.index").is_file() else 0.0
        if is_table(path):
            return 1.0
        if text_begins_with(head, ("model_checkpoint_path",)):
            return 0.9
        if text_begins_with(head, _META_FIELDS):
            return 0.8
        shard = is_shard_name(path.name)
        if shard is not None and shard["v2"] and path.with_name(f"{shard['prefix']}.index").is_file():
            return 0.6
        # A table cut short lost its magic number; an index still begins with the empty key.
        if path.name.endswith(".index") and head.startswith(b"\0\0"):
            return 0.4
        sure = looks_like_meta_graph(head, path.stat().st_size)
        # What is called so and is none of the above is a broken one, of which more can be said than nothing.
        return sure or (0.1 if path.name.endswith(".meta") and head.startswith(b"\n") else 0.0)

    def describe(self, path: Path) -> Description:
        """Describe the checkpoint, and the graph beside it if there is one.

        Raises:
            InvalidModelError: a file is missing (named), truncated or corrupt.
            UsageError: a folder holds several checkpoints.
        """
        files = checkpoint_files(path)
        index = read_index(files.index) if files.index is not None else None
        if index is not None:
            check_shards(index)
        graph = read_object_graph(index) if index is not None else None
        variables = list_variables(path, files=files, index=index)
        kind = "tf1-v1" if index is None else "tf1-v2" if graph is None else "tf2-object"
        meta_graph = read_meta_graph(files.meta) if files.meta is not None else None
        signatures = meta_graph_signatures(meta_graph) if meta_graph is not None else ()
        candidates, graph_notes, operations = _graph(meta_graph, signatures)
        model = model_variables(variables, graph)
        metadata: dict[str, Any] = {
            "kind": kind,
            "prefix": files.prefix.name,
            "shards": index.shards if index is not None else len(files.tables),
            "variables": [
                {"name": v.name, "dtype": v.dtype, "shape": None if v.shape is None else list(v.shape)}
                for v in variables
            ],
            "objects": _objects(graph),
            "graph": files.meta.name if files.meta is not None else None,
        }
        return Description(
            format=self.name,
            path=str(path),
            bytes=total_size(self.files(path)),
            producer=meta_graph_producer(meta_graph) if meta_graph is not None else None,
            version={"tf1-v1": "V1", "tf1-v2": "V2, by name", "tf2-object": "V2, by object"}[kind],
            signatures=signatures,
            candidates=candidates,
            parameters=sum(elements(v.shape) or 0 for v in model),
            ops=operations,
            metadata=metadata,
            findings=(*_findings(kind, files, path), *_moving_averages(variables), *graph_notes),
        )

    def contract(
        self, path: Path, inputs: Sequence[str] | None, outputs: Sequence[str] | None
    ) -> Contract | None:
        """The contract of the graph beside the values; ``None`` where there is none to tell.

        Raises:
            UsageError: see :func:`edgeconv.formats.graph_candidates.contract_for_graph`.
            InvalidModelError: a file is missing, truncated or corrupt.
        """
        if path.is_file() and path.name.endswith(".meta"):
            return contract_for_graph(read_meta_graph(path).graph_def, inputs, outputs)
        files = checkpoint_files(path)
        if files.meta is None or (files.index is not None and read_object_graph(read_index(files.index))):
            return None
        return contract_for_graph(read_meta_graph(files.meta).graph_def, inputs, outputs)

    def files(self, path: Path) -> list[Path]:
        """Index and shards, or tables, the graph, and the state file where that named it."""
        try:
            found = checkpoint_files(path)
        except EdgeconvError:
            return [path] if path.is_file() else []
        files = list(found.tables)
        if found.index is not None:
            try:
                index = read_index(found.index)
                shards = [index.shard_path(number) for number in range(index.shards)]
            except InvalidModelError:
                shards = []
            files += [found.index, *(shard for shard in shards if shard.is_file())]
        if found.meta is not None:
            files.append(found.meta)
        if found.state is not None and path.is_dir():
            files.append(found.state)
        return sorted(files)


def list_variables(
    path: Path, *, files: CheckpointFiles | None = None, index: BundleIndex | None = None
) -> tuple[CheckpointVariable, ...]:
    """Name, element type and shape of each variable in the checkpoint, by name.

    Args:
        path: prefix, folder, state file or a file of the checkpoint.
        files: its files, where they are known already.
        index: its index, where it is known already.

    Raises:
        InvalidModelError: missing, truncated or corrupt.
    """
    files = files or checkpoint_files(path)
    if files.index is None:
        return read_v1_variables(files.tables)
    index = index or read_index(files.index)
    return tuple(sorted((v for v in index.variables if v.name != OBJECT_GRAPH_KEY), key=lambda v: v.name))


def describe_meta_graph(path: Path) -> Description:
    """Describe the graph of a checkpoint, whose values are elsewhere or not needed.

    Args:
        path: the ``.meta`` file, or any other name of the checkpoint that it lies beside.

    Raises:
        InvalidModelError: missing, truncated or corrupt.
    """
    file: Path | None = path
    if not (path.is_file() and path.name.endswith(".meta")):
        file = checkpoint_files(path).meta
    if file is None:
        raise InvalidModelError(
            "the checkpoint has no graph", where=str(path), why=f"there is no '{path.name}.meta' beside it"
        )
    meta_graph = read_meta_graph(file)
    signatures = meta_graph_signatures(meta_graph)
    candidates, findings, operations = _graph(meta_graph, signatures)
    return Description(
        format=Checkpoint.name,
        path=str(file),
        bytes=total_size([file]),
        producer=meta_graph_producer(meta_graph),
        signatures=signatures,
        candidates=candidates,
        ops=operations,
        metadata={"kind": "meta-graph", "graph": file.name},
        findings=findings,
    )


def is_by_name(path: Path) -> bool:
    """Whether the checkpoint holds values by the names of variables, as those of TensorFlow 1 do.

    Raises:
        InvalidModelError: missing, truncated or corrupt.
    """
    files = checkpoint_files(path)
    return files.index is None or OBJECT_GRAPH_KEY not in read_index(files.index).extents


def model_variables(variables: Sequence[CheckpointVariable], graph: Any | None) -> list[CheckpointVariable]:
    """The variables that belong to the model and not to its training, as far as names and objects tell.

    Args:
        variables: all of them.
        graph: the ``TrackableObjectGraph`` of an object-based checkpoint, else ``None``.
    """
    weights = [v for v in variables if v.dtype in FLOATS or v.dtype in ("int8", "uint8")]
    if graph is None or not graph.nodes:
        return [
            v
            for v in weights
            if not any(word in v.name for word in _TRAINING_WORDS)
            and v.name.rpartition("/")[2] not in _TRAINING_NAMES
        ]
    keys: set[str] = set()
    seen: set[int] = set()
    todo = [0]
    while todo:
        number = todo.pop()
        if number in seen or not 0 <= number < len(graph.nodes):
            continue
        seen.add(number)
        node = graph.nodes[number]
        keys.update(attribute.checkpoint_key for attribute in node.attributes)
        todo.extend(child.node_id for child in node.children if child.local_name not in _NOT_MODEL)
    return [v for v in weights if v.name in keys and _SLOT not in v.name]


def read_meta_graph(path: Path) -> Any:
    """The ``MetaGraphDef`` in a ``.meta`` file, binary or text.

    Raises:
        InvalidModelError: missing, truncated or corrupt.
    """
    data = read_file(path)
    text = text_begins_with(data[:4096], _META_FIELDS)
    kind = tensorflow_protos().MetaGraphDef
    return (parse_text if text else parse_binary)(kind, data, path, "checkpoint's graph")


def meta_graph_signatures(meta_graph: Any) -> tuple[Signature, ...]:
    """The signatures that a ``MetaGraphDef`` states, also in the way of session bundles."""
    from edgeconv.formats.saved_model import signatures_of  # that module knows this one

    return signatures_of(meta_graph) or session_bundle_signatures(meta_graph, GraphView(meta_graph.graph_def))


def shadows(names: Iterable[str]) -> dict[str, str]:
    """Names of variables to the names of their moving averages, where both are among ``names``."""
    known = set(names)
    return {name: name + SHADOW for name in known if name + SHADOW in known}


def meta_graph_producer(meta_graph: Any) -> str | None:
    """``TensorFlow 1.13.1 (v1.13.1-0-g…)`` as the metagraph says it; ``None`` if it does not."""
    info = meta_graph.meta_info_def
    if not info.tensorflow_version:
        return None
    version = info.tensorflow_git_version.removeprefix("b'").removesuffix("'")
    git = f" ({version})" if version and version != "unknown" else ""
    return f"TensorFlow {info.tensorflow_version}{git}"


def _graph(
    meta_graph: Any | None, signatures: Sequence[Signature]
) -> tuple[tuple[Candidate, ...], tuple[Finding, ...], dict[str, int]]:
    if meta_graph is None:
        return (), (), {}
    view = GraphView(meta_graph.graph_def)
    inputs = candidate_inputs(meta_graph.graph_def) if not signatures else ()
    outputs = candidate_outputs(meta_graph.graph_def) if not signatures else ()
    stated = [spec.inner_name for signature in signatures for spec in signature.outputs]
    likely = [
        tensor_node(name)[0]
        for name in (*stated, *(c.tensor.inner_name for c in outputs if c.score >= RIVAL_SCORE))
    ]
    running = view.upstream(likely) if likely else {n for n in view.nodes if not in_training_scope(n)}
    ordered = [name for name in view.nodes if name in running]
    # That the variables have no values in the graph is no finding: they are in the checkpoint.
    findings = tuple(f for f in graph_findings(view, ordered) if f.code != "not-frozen")
    return (*inputs, *outputs), findings, view.operations(ordered)


def _objects(graph: Any | None) -> list[str]:
    """Names of what the root of an object-based checkpoint holds."""
    if graph is None or not graph.nodes:
        return []
    return sorted({child.local_name for child in graph.nodes[0].children})


def _findings(kind: str, files: CheckpointFiles, path: Path) -> list[Finding]:
    found = []
    if files.prefix.name == "variables" and files.prefix.parent.name == "variables":
        found.append(
            Finding(
                "inside-saved-model",
                "these are the variables of a SavedModel, not the model",
                hint=f"pass the folder {path.parent if path.is_dir() else files.prefix.parent.parent}",
            )
        )
    elif kind == "tf2-object":
        found.append(
            Finding(
                "needs-builder",
                "the checkpoint holds values, not the model's code",
                hint="say how the model is built: --model-builder MODULE:FUNCTION",
            )
        )
    elif files.meta is None:
        found.append(
            Finding(
                "no-graph",
                f"there is no '{files.prefix.name}.meta' beside it, so the graph of these values is missing",
                hint="copy the '.meta' file too, name a file that has the graph with --graph FILE, or say "
                "how it is built: --model-builder MODULE:FUNCTION",
            )
        )
    return found


def _moving_averages(variables: Sequence[CheckpointVariable]) -> list[Finding]:
    found = sorted(shadows(variable.name for variable in variables))
    if not found:
        return []
    return [
        Finding(
            "moving-averages",
            f"the checkpoint has moving averages of {len(found)} variables: {', '.join(found[:3])}"
            f"{' …' if len(found) > 3 else ''}",
            where=f"{found[0]}{SHADOW}",
            hint="many models are meant to be used with them: --moving-averages takes them",
        )
    ]


FORMAT = Checkpoint()
