"""A graph of TensorFlow 1 with its variables restored, run by TensorFlow.

Where the graph was saved with the checkpoint, TensorFlow restores by the graph's own restore op, which shares
nothing with the way that a conversion takes: the gate that compares the two proves the mapping of names too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeconv.errors import UsageError
from edgeconv.formats._checkpoint_files import checkpoint_files
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.formats.graph_reading import all_nodes, pruned, split_reference
from edgeconv.runtimes._checkpoint_values import restore_pattern, rules_of, variables_for, without_private
from edgeconv.runtimes._inference_reference import Reference, as_reference, replaced_in
from edgeconv.runtimes._tensorflow import (
    GraphSession,
    as_conversion_error,
    bound,
    refuse_untrusted,
    session_config,
)
from edgeconv.runtimes._trained_graphs import TrainedGraph, trained_graph


def open_trained_graph(
    path: Path, contract: Contract | None, threads: int, options: Mapping[str, Any]
) -> GraphSession:
    """Open the checkpoint at ``path`` with its graph.

    Args:
        path: the checkpoint.
        contract: of the model; ``None`` to take what the graph says.
        threads: intra-op threads.
        options: the user's.

    Raises:
        UsageError, InvalidModelError, ConversionError: see ``trained_graph``; or a tensor is not there.
        UntrustedModelError: what is needed runs Python or touches files.
    """
    import tensorflow as tf

    trained = trained_graph(path, contract, options)
    contract, whole = trained.contract, trained.meta_graph.graph_def
    saver = trained.meta_graph.saver_def
    by_saver = trained.own and rules_of(options).plain and bool(saver.restore_op_name)
    restoring = [split_reference(saver.restore_op_name)[0]] if by_saver else []
    reference = None
    if replaced := replaced_in(options):
        copied = type(whole)()
        copied.CopyFrom(whole)
        reference = as_reference(copied, contract, replaced, str(path), restoring)
        contract, whole = reference.contract, reference.graph_def
    roots = _roots(contract, reference)
    running = pruned(whole, roots)
    refuse_untrusted(all_nodes(running), str(path), options)
    variables = variables_for(whole, roots, _nodes(contract.inputs))
    config = session_config(threads, all_nodes(running))
    graph = tf.Graph()
    try:
        with graph.as_default():
            tf.graph_util.import_graph_def(
                without_private(pruned(whole, [*roots, *restoring])),
                name="",
                producer_op_list=trained.meta_graph.meta_info_def.stripped_op_list,
            )
        inputs, outputs = bound(graph, contract)
    except KeyError as error:
        raise UsageError(
            f"the graph has no tensor {error.args[0]}",
            where=str(path),
            hint="'edgeconv inspect' ranks the likely inputs and outputs",
        ) from error
    except (tf.errors.OpError, ValueError) as error:
        raise as_conversion_error(error, "TensorFlow cannot import the graph", str(path)) from error
    session = tf.compat.v1.Session(graph=graph, config=config)
    try:
        if not (by_saver and _restored(session, saver, path)):
            _assign(session, trained, variables, options)
    except BaseException:
        session.close()
        raise
    if reference is not None:
        return reference.session(session, inputs, outputs, str(path))
    return GraphSession(session, inputs, outputs, str(path))


def _nodes(specs: Iterable[TensorSpec]) -> list[str]:
    return [split_reference(spec.inner_name)[0] for spec in specs]


def _roots(contract: Contract, reference: Reference | None) -> list[str]:
    """Nodes that are fetched or fed."""
    roots = _nodes((*contract.outputs, *contract.inputs))
    for segment in reference.segments if reference is not None else ():
        for item in segment:
            roots += [split_reference(tensor)[0] for tensor in (item.tensor, *item.inputs)]
    return roots


def _restored(session: Any, saver: Any, path: Path) -> bool:
    """Run the graph's restore op; whether it could (it may want more than inference needs)."""
    import tensorflow as tf

    name, port = split_reference(saver.filename_tensor_name)
    feeds = {f"{name}:{port or 0}": restore_pattern(checkpoint_files(path))}
    try:
        session.run(session.graph.get_operation_by_name(split_reference(saver.restore_op_name)[0]), feeds)
    except (tf.errors.OpError, KeyError, ValueError, TypeError):
        return False
    return True


def _assign(
    session: Any, trained: TrainedGraph, variables: Sequence[Any], options: Mapping[str, Any]
) -> None:
    """Give each variable that inference needs its value, one by one."""
    import tensorflow as tf

    values = trained.values(options, variables)
    try:
        with session.graph.as_default():
            for node in variables:
                variable = session.graph.get_tensor_by_name(f"{node.name}:0")
                value = values.get(node)
                fed = tf.compat.v1.placeholder(tf.as_dtype(node.attr["dtype"].type).base_dtype, value.shape)
                if node.op == "VarHandleOp":
                    assign = tf.raw_ops.AssignVariableOp(resource=variable, value=fed)
                else:
                    assign = tf.raw_ops.Assign(ref=variable, value=fed, validate_shape=False).op
                session.run(assign, {fed: value})
    except tf.errors.OpError as error:
        raise as_conversion_error(
            error, "a variable does not take its value", str(trained.checkpoint)
        ) from error
    finally:
        values.close()
