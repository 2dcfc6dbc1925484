"""The graph that the values of a checkpoint belong to: from a metagraph, another file, or a builder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeconv.errors import ConversionError, EdgeconvError, UsageError
from edgeconv.formats._checkpoint_files import checkpoint_files
from edgeconv.formats._saved_model_files import find_saved_model
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.formats.checkpoint import meta_graph_signatures, read_meta_graph
from edgeconv.formats.graph_candidates import contract_for_graph
from edgeconv.formats.graph_reading import split_reference
from edgeconv.formats.registry import identify
from edgeconv.runtimes._checkpoint_values import (
    VARIABLE_OPS,
    GraphValues,
    StoredValues,
    rules_of,
    variables_for,
)
from edgeconv.runtimes._model_builder import find_builder
from edgeconv.runtimes._saved_model_reading import (
    choose_graph,
    contract_in,
    read_saved_model,
    variables_prefix,
)
from edgeconv.runtimes._tensorflow import shape_of
from edgeconv.runtimes.tensorflow_graph import read_graph

_PREFERRED = ("serving_default", "predict")


@dataclass(frozen=True, slots=True)
class TrainedGraph:
    """A graph with variables, and the checkpoint that has their values.

    Attributes:
        meta_graph: ``MetaGraphDef``; its saver, if it has one, knows how the checkpoint is restored.
        contract: names the tensors where the model begins and ends.
        checkpoint: as it was given.
        own: whether the graph was saved with the checkpoint, so that its saver fits.
        base: where its variables have values of their own (those of a SavedModel), or ``None``.
        notes: what a person should know.
    """

    meta_graph: Any
    contract: Contract
    checkpoint: Path
    own: bool
    base: Path | None = None
    notes: tuple[str, ...] = ()

    def variables(self) -> list[Any]:
        """NodeDefs of the variables that inference needs."""
        return variables_for(
            self.meta_graph.graph_def,
            _nodes(self.contract.outputs),
            _nodes(self.contract.inputs),
        )

    def values(self, options: Mapping[str, Any], variables: Sequence[Any] | None = None) -> GraphValues:
        """Where the values of the variables come from (of all that inference needs where ``None``).

        Raises:
            UsageError, InvalidModelError, ConversionError: see :class:`GraphValues`.
        """
        return GraphValues(
            self.meta_graph.graph_def,
            self.meta_graph.saver_def.restore_op_name,
            self.variables() if variables is None else variables,
            StoredValues(self.checkpoint),
            rules_of(options),
            StoredValues(self.base) if self.base is not None else None,
        )


_OLD_CODE = (
    "code for TensorFlow 1 runs with 'import tensorflow.compat.v1 as tf'; tf.contrib.slim is the package "
    "tf_slim now, the rest of tf.contrib is gone; with the checkpoint's .meta no code is needed at all"
)


def trained_graph(path: Path, contract: Contract | None, options: Mapping[str, Any]) -> TrainedGraph:
    """The graph for the checkpoint at ``path``.

    Args:
        path: the checkpoint.
        contract: of the model; ``None`` where only a builder tells.
        options: of the user's options ``graph`` (a file that has the graph), ``model_builder``,
            ``signature``, ``tags``, ``restore``, ``map_variable``.

    Raises:
        UsageError: there is no graph, or nothing says where the model begins and ends.
        InvalidModelError: a file is missing or corrupt.
        ConversionError: a builder gave no graph.
    """
    if options.get("graph"):
        return _from_file(Path(str(options["graph"])), path, contract, options)
    if options.get("model_builder"):
        return _built(str(options["model_builder"]), path, contract)
    files = checkpoint_files(path)
    if files.meta is None:
        raise no_graph(files.prefix)
    meta_graph = _with_tensorflow(read_meta_graph(files.meta))
    return TrainedGraph(meta_graph, _stated(contract, meta_graph, options, files.meta), path, own=True)


def no_graph(prefix: Path) -> UsageError:
    """The refusal of a checkpoint whose graph nobody named."""
    return UsageError(
        "the checkpoint holds values by name, and the graph that they belong to is missing",
        where=str(prefix),
        why=f"there is no '{prefix.name}.meta' beside it",
        hint="name a file that has the graph (.meta, GraphDef or SavedModel) with --graph FILE, or the "
        "function that builds it with --model-builder MODULE:FUNCTION; inspect lists the variables",
    )


def _from_file(
    file: Path, checkpoint: Path, contract: Contract | None, options: Mapping[str, Any]
) -> TrainedGraph:
    kind = "checkpoint" if file.is_file() and file.name.endswith(".meta") else identify(file).name
    if kind == "checkpoint":
        meta = file if file.name.endswith(".meta") else checkpoint_files(file).meta
        if meta is None:
            raise no_graph(file)
        meta_graph = _with_tensorflow(read_meta_graph(meta))
        return TrainedGraph(meta_graph, _stated(contract, meta_graph, options, meta), checkpoint, own=False)
    if kind == "saved_model":
        chosen = choose_graph(read_saved_model(file), contract, options, str(file))
        return TrainedGraph(
            chosen,
            contract_in(chosen, contract, options, str(file)),
            checkpoint,
            own=False,
            base=Path(variables_prefix(find_saved_model(file).folder)),
        )
    if kind != "frozen_graph":
        raise UsageError(
            f"a {kind} file has no graph of TensorFlow that values could be put into",
            where=str(file),
            hint="give --graph a .meta file, a GraphDef or a SavedModel",
        )
    meta_graph = _meta_graph(read_graph(file))
    thawed = _thaw(meta_graph.graph_def, checkpoint, options)
    graph = TrainedGraph(
        meta_graph, _stated(contract, meta_graph, options, file), checkpoint, own=False, notes=thawed
    )
    if not graph.variables():
        raise UsageError(
            "the graph has no variables, and no constant of it is called like a value of the checkpoint",
            where=str(file),
            why="there is nothing that the checkpoint could complete",
            hint="convert it without --checkpoint, or map names with --map-variable PATTERN=REPLACEMENT",
        )
    return graph


def _thaw(graph_def: Any, checkpoint: Path, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Let constants of a frozen graph that the checkpoint has values for be variables again, in place."""
    import tensorflow as tf

    if any(node.op in VARIABLE_OPS for node in graph_def.node):
        return ()
    rules = rules_of(options)
    stored = StoredValues(checkpoint)
    known = stored.known()
    stored.close()
    thawed = []
    for node in graph_def.node:
        if node.op != "Const" or not rules.takes(node.name):
            continue
        tensor = node.attr["value"].tensor
        shape = shape_of(tensor.tensor_shape)
        if not shape or known.get(rules.renamed(node.name), (None,))[0] != shape:
            continue
        dtype = tf.as_dtype(tensor.dtype)
        node.op = "VariableV2"
        node.attr.clear()
        node.attr["dtype"].type = dtype.as_datatype_enum
        node.attr["shape"].shape.CopyFrom(tf.TensorShape(shape).as_proto())
        thawed.append(node.name)
    if not thawed:
        return ()
    return (f"{len(thawed)} constants of the graph get the checkpoint's values",)


def _built(text: str, checkpoint: Path, contract: Contract | None) -> TrainedGraph:
    """Call a builder in an empty graph and take the graph that it leaves."""
    import tensorflow as tf

    builder = find_builder(text)
    graph = tf.Graph()
    try:
        with graph.as_default():
            result = builder()
    except EdgeconvError:
        raise
    except Exception as error:  # the user's own code
        raise UsageError(
            f"the model builder '{text}' failed in a graph of TensorFlow 1",
            why=f"{type(error).__name__}: {error}",
            hint=_OLD_CODE
            if isinstance(error, (AttributeError, ImportError))
            else "let it build the graph with tf.compat.v1 and return its outputs, or (inputs, outputs)",
        ) from error
    inputs, outputs = _ends(result, graph, text)
    with graph.as_default():
        variables = tf.compat.v1.global_variables()
        saver = tf.compat.v1.train.Saver(variables).as_saver_def() if variables else None
        meta_graph = tf.compat.v1.train.export_meta_graph(graph=graph, saver_def=saver)
    if contract is None:
        names = [spec.inner_name for spec in inputs] or None
        found = contract_for_graph(meta_graph.graph_def, names, [spec.inner_name for spec in outputs])
        contract = replace(found, inputs=inputs or found.inputs, outputs=outputs)
    return TrainedGraph(meta_graph, contract, checkpoint, own=False)


def _ends(result: Any, graph: Any, text: str) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs (none where the builder does not say) and outputs of what a builder returned."""
    inputs: tuple[TensorSpec, ...] = ()
    if isinstance(result, tuple) and len(result) == 2:
        first = _tensors(result[0], graph)
        if first and all(t.op.type.startswith("Placeholder") for t in first.values()):
            inputs, result = _specs(first), result[1]
    outputs = _tensors(result, graph)
    if not outputs:
        raise ConversionError(
            f"the model builder '{text}' returned {type(result).__name__}, not tensors of the graph it built",
            why="the checkpoint holds values by name, as those of TensorFlow 1 do",
            hint="let it build the graph with tf.compat.v1 and return its outputs, or (inputs, outputs), "
            "each a tensor, a list or a dict",
        )
    return inputs, _specs(outputs)


def _tensors(value: Any, graph: Any) -> dict[str, Any]:
    """Tensors of ``graph`` by logical name; empty where ``value`` is no tensor, list or dict of them."""
    import tensorflow as tf

    if isinstance(value, Mapping):
        named = {str(name): tensor for name, tensor in value.items()}
    else:
        items = list(value) if isinstance(value, (list, tuple)) else [value]
        if not all(tf.is_tensor(item) for item in items):
            return {}
        named = {item.name.removesuffix(":0"): item for item in items}
    if not named or not all(tf.is_tensor(t) and getattr(t, "graph", None) is graph for t in named.values()):
        return {}
    return named


def _specs(tensors: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, str(tensor.dtype.base_dtype.name), shape_of(tensor.shape), tensor.name)
        for name, tensor in tensors.items()
    )


def _stated(contract: Contract | None, meta_graph: Any, options: Mapping[str, Any], file: Path) -> Contract:
    """The contract given, else that of the metagraph's signature, else of the graph's candidates."""
    if contract is not None:
        return contract
    signatures = {signature.name: signature for signature in meta_graph_signatures(meta_graph)}
    names = [options["signature"]] if options.get("signature") else [*_PREFERRED, *signatures]
    for name in names:
        if name in signatures:
            chosen = signatures[name]
            return Contract(chosen.inputs, chosen.outputs, chosen.name)
    if options.get("signature"):
        raise UsageError(
            f"there is no signature '{options['signature']}'",
            where=str(file),
            hint=f"it has: {', '.join(signatures) or 'none'}",
        )
    return contract_for_graph(meta_graph.graph_def)


def _with_tensorflow(meta_graph: Any) -> Any:
    """The same message in TensorFlow's own class, which its functions insist on."""
    from tensorflow.core.protobuf import meta_graph_pb2

    own = meta_graph_pb2.MetaGraphDef
    return meta_graph if isinstance(meta_graph, own) else own.FromString(meta_graph.SerializeToString())


def _meta_graph(graph_def: Any) -> Any:
    from tensorflow.core.protobuf import meta_graph_pb2

    meta_graph = meta_graph_pb2.MetaGraphDef()
    meta_graph.graph_def.CopyFrom(graph_def)
    return meta_graph


def _nodes(specs: Iterable[TensorSpec]) -> list[str]:
    return [split_reference(spec.inner_name)[0] for spec in specs]
