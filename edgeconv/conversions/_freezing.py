"""From a graph as training left it to a frozen one: inline, cut, rewrite to inference, fold, check.

The same for the graph of a SavedModel, of a checkpoint and of a GraphDef that somebody gave; only where the
values of variables come from differs, and that is nobody's business here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from edgeconv.conversions._freezing_editor import PLACEHOLDERS, WRITES, Editor, node_of
from edgeconv.conversions._variable_folding import VARIABLE_OPS, fold_variables
from edgeconv.conversions._variable_values import stored_keys
from edgeconv.errors import ConversionError
from edgeconv.formats.base import Contract
from edgeconv.formats.graph_reading import pruned, reachable, split_reference
from edgeconv.runtimes._tensorflow import as_conversion_error, refuse_untrusted, shape_text
from edgeconv.surgery.changes import Change, Replaced
from edgeconv.surgery.graph import Graph, Value, full
from edgeconv.surgery.graph_editing import CALLS, check_known_ops, clean, inlined
from edgeconv.surgery.inference import to_inference


@dataclass(frozen=True, slots=True)
class FrozenGraph:
    """A frozen graph that lacks only the values of its constants.

    Attributes:
        graph_def: the GraphDef; nodes named as ``variables`` or in ``values`` are Const without a value.
        variables: NodeDefs of the variables that these constants stand for.
        keys: variable node to its key in the checkpoint.
        contract: ``tensor`` of its inputs and outputs are endpoints of ``graph_def``.
        notes: what a person should know.
        changes: what the rewrites to inference did; their tensors are endpoints of the source's graph, or of
            that graph with its calls inlined.
        values: constants of the source that were left out of the graph, by node.
    """

    graph_def: Any
    variables: tuple[Any, ...]
    keys: Mapping[str, str]
    contract: Contract
    notes: tuple[str, ...]
    changes: tuple[Change, ...] = ()
    values: Mapping[str, Value] = field(default_factory=dict)


def bare(graph_def: Any) -> Any:
    """A GraphDef as :func:`freeze` takes it: a meta graph without signatures and without a saver."""
    return SimpleNamespace(
        graph_def=graph_def, signature_def={}, saver_def=SimpleNamespace(restore_op_name="")
    )


def freeze(
    meta_graph: Any,
    contract: Contract,
    path: str,
    options: Mapping[str, Any],
    values: Mapping[str, Value] | None = None,
) -> FrozenGraph:
    """Freeze what ``contract`` names in ``meta_graph``, whose GraphDef is used up.

    Args:
        meta_graph: a ``MetaGraphDef``, or what :func:`bare` makes of a GraphDef.
        contract: the inputs, which stay inputs whatever they are, and the outputs.
        path: of the model, for errors.
        options: the user's options.
        values: constants that were left out of the graph, by node.

    Raises:
        UsageError: a tensor of the contract is not in the graph.
        UntrustedModelError: what is needed runs Python or touches files.
        ConversionError: custom ops, tables, iterators, queues, inputs that nobody declared, variables that
            inference changes, or a training graph that lacks what inference needs; names the node and the
            way out.
    """
    graph_def = meta_graph.graph_def
    names = {node.name for node in graph_def.node}
    restore = meta_graph.saver_def.restore_op_name
    roots = {node_of(spec) for spec in (*contract.outputs, *contract.inputs)} & names
    signature = meta_graph.signature_def.get(contract.signature or "")
    if signature is not None:
        # Tensors inside functions have names only once their function is inlined, from its call on.
        roots |= {split_reference(info.name)[0] for info in signature.outputs.values()} & names
    graph_def, calls = _without_calls(graph_def, sorted(roots), restore if restore in names else None, path)
    keys = stored_keys(graph_def)
    clean(graph_def)
    editor = Editor(graph_def, path)
    original = {spec.name: spec.inner_name for spec in contract.inputs}
    contract = editor.cut(contract, meta_graph, calls)
    graph = Graph(
        graph_def,
        outputs=[spec.inner_name for spec in contract.outputs],
        inputs=[spec.inner_name for spec in contract.inputs],
        values=values,
        path=path,
    )
    changes = to_inference(graph)
    outputs = zip(contract.outputs, graph.outputs, strict=True)
    contract = replace(
        contract, outputs=tuple(replace(spec, tensor=full(reference)) for spec, reference in outputs)
    )
    defaulted = Editor(graph_def, path).fix_defaults(contract)
    graph_def = _needed(graph_def, contract)
    check_known_ops(graph_def, path)
    left = {node.name for node in graph_def.node}
    notes = [*editor.notes, *(f"'{n}' keeps its default, as it is no input" for n in defaulted if n in left)]
    tidier = Editor(graph_def, path)
    tidier.drop_side_effects()
    graph_def = _needed(graph_def, contract)
    refuse_untrusted(graph_def.node, path, options)
    _check_state(graph_def, path)
    _check_inputs(graph_def, contract, path)
    try:
        variables = fold_variables(graph_def, path)
    except KeyError as error:
        raise ConversionError(
            f"the graph calls the function {error}, which it does not have", where=path
        ) from error
    _bypass_reads(graph_def, contract)
    graph_def = _needed(graph_def, contract)
    left = {node.name for node in graph_def.node}
    fresh = {full(spec.inner_name): full(original[spec.name]) for spec in contract.inputs}
    return FrozenGraph(
        graph_def,
        tuple(v for v in variables if v.name in left),
        keys,
        contract,
        (*notes, *tidier.notes),
        tuple(_in_source(change, fresh) for change in changes),
        {name: value for name, value in graph.values.items() if name in left},
    )


def _without_calls(graph_def: Any, roots: list[str], restore: str | None, path: str) -> tuple[Any, set[str]]:
    """The graph with calls inlined, and the names of the nodes that called.

    Nothing beside the way to the outputs may be lost where it tells something: which variables hold moving
    statistics is known from the ops that update them.
    """
    import tensorflow as tf

    if not graph_def.library.function:
        return graph_def, set()
    kept = roots if restore is None else [*roots, restore]
    restoring = set() if restore is None else reachable(graph_def, [restore])
    if not any(node.op in WRITES and node.name not in restoring for node in graph_def.node):
        graph_def = pruned(graph_def, kept)
    check_known_ops(pruned(graph_def, kept), path)
    clean(graph_def)
    calls = {node.name for node in graph_def.node if node.op in CALLS}
    try:
        return inlined(graph_def, kept), calls
    except (tf.errors.OpError, ValueError) as error:
        raise as_conversion_error(
            error, "TensorFlow cannot inline the functions of the model", path
        ) from error


def _needed(graph_def: Any, contract: Contract) -> Any:
    return pruned(graph_def, _nodes(contract.outputs), _nodes(contract.inputs))


def _nodes(specs: Iterable[Any]) -> list[str]:
    return [node_of(spec) for spec in specs]


def _in_source(change: Change, fresh: Mapping[str, str]) -> Change:
    """The change with tensors of the source where it names the inputs that took their places."""

    def told(item: Replaced) -> Replaced:
        inputs = tuple(fresh.get(full(reference), full(reference)) for reference in item.inputs)
        return replace(item, tensor=full(item.tensor), inputs=inputs)

    return replace(change, replaced=tuple(told(item) for item in change.replaced))


def _bypass_reads(graph_def: Any, contract: Contract) -> None:
    """Let consumers read constants themselves where an Identity was only the reading of a variable."""
    nodes = {node.name: node for node in graph_def.node}
    kept = {node_of(spec) for spec in contract.outputs}
    reads = {
        node.name: node.input[0]
        for node in graph_def.node
        if node.op == "Identity"
        and node.name not in kept
        and len(node.input) == 1
        and nodes[split_reference(node.input[0])[0]].op == "Const"
        and not nodes[split_reference(node.input[0])[0]].input
    }
    for node in graph_def.node:
        for index, reference in enumerate(node.input):
            if reference in reads:
                node.input[index] = reads[reference]


def _check_inputs(graph_def: Any, contract: Contract, path: str) -> None:
    declared = {node_of(spec) for spec in contract.inputs}
    for node in graph_def.node:
        if node.op in PLACEHOLDERS and node.name not in declared:
            raise ConversionError(
                f"the outputs need the placeholder '{node.name}', which is not among the inputs",
                where=path,
                why=f"the inputs are {', '.join(s.name for s in contract.inputs) or 'none'}",
                hint=f"add it with --inputs (…,{node.name}:0), or choose outputs that do not need it",
            )
    for spec in contract.inputs:
        if spec.dtype in ("resource", "variant"):
            raise ConversionError(
                f"the input '{spec.name}' {shape_text(spec.shape)} is a {spec.dtype}, not an array",
                where=path,
                hint="cut the model behind it with --inputs TENSOR",
            )


def _check_state(graph_def: Any, path: str) -> None:
    """Refuse what holds state that a constant cannot stand for: tables, iterators, queues, readers."""
    from tensorflow.core.framework import types_pb2
    from tensorflow.python.framework import op_def_registry

    consumers: dict[str, Any] = {}
    for node in graph_def.node:
        for reference in node.input:
            consumers.setdefault(split_reference(reference)[0], node)
    for node in graph_def.node:
        definition = op_def_registry.get(node.op)
        if definition is None or node.op in VARIABLE_OPS or node.op in CALLS or node.input:
            continue
        holds = any(output.type == types_pb2.DT_RESOURCE or output.is_ref for output in definition.output_arg)
        if definition.is_stateful and holds:
            user = consumers.get(node.name)
            by = f", which {user.op} ('{user.name}') uses," if user is not None else ""
            raise ConversionError(
                f"the op {node.op} ('{node.name}'){by} holds state that a frozen graph cannot hold",
                where=path,
                why="lookup tables, iterators and queues are filled outside of the graph",
                hint="convert to TFLite straight from the SavedModel, or cut behind it with --inputs TENSOR",
            )
