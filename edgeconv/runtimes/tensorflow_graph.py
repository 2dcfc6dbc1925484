"""Frozen graphs run by TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeconv.errors import InvalidModelError, UsageError
from edgeconv.formats.base import Contract
from edgeconv.formats.graph_reading import all_nodes, pruned, reachable, split_reference
from edgeconv.runtimes._inference_reference import Reference, as_reference, replaced_in
from edgeconv.runtimes._tensorflow import (
    GraphSession,
    as_conversion_error,
    bound,
    refuse_untrusted,
    session_config,
)


class TensorFlowGraphRuntime:
    """Runs a GraphDef without variables in a session of its own."""

    name = "tensorflow_graph"
    formats = ("frozen_graph",)
    preload = ("tensorflow",)
    tools = ("tensorflow",)

    def open(
        self,
        path: Path,
        contract: Contract | None,
        *,
        threads: int = 1,
        options: Mapping[str, Any] | None = None,
    ) -> GraphSession:
        """See :meth:`edgeconv.runtimes.base.Runtime.open`; the contract must name the tensors."""
        import tensorflow as tf

        if contract is None:
            raise UsageError(
                "a frozen graph does not say which tensors are its inputs and outputs",
                where=str(path),
                hint="name them with --inputs and --outputs; 'edgeconv inspect' ranks the likely ones",
            )
        graph_def = read_graph(path)
        reference = None
        if replaced := replaced_in(options):
            reference = as_reference(graph_def, contract, replaced, str(path))
            graph_def, contract = reference.graph_def, reference.contract
        graph_def = _needed(graph_def, contract, reference)
        refuse_untrusted(all_nodes(graph_def), str(path), options or {})
        config = session_config(threads, all_nodes(graph_def))
        try:
            try:
                graph = _imported(graph_def)
            except ValueError:
                # Frozen with the updates of a training step, which take variables: what they would update
                # is constant now, so that waiting for them has no effect.
                graph = _imported(_without_control(graph_def, contract))
            # The session gets its own copy; this one would only take memory.
            graph_def.Clear()
            inputs, outputs = bound(graph, contract)
        except KeyError as error:
            raise UsageError(
                f"the graph has no tensor {error.args[0]}",
                where=str(path),
                hint="'edgeconv inspect --ops' lists what there is",
            ) from error
        except (tf.errors.OpError, ValueError) as error:
            raise as_conversion_error(error, "TensorFlow cannot import the graph", str(path)) from error
        session = tf.compat.v1.Session(graph=graph, config=config)
        if reference is not None:
            return reference.session(session, inputs, outputs, str(path))
        return GraphSession(session, inputs, outputs, str(path))


def _imported(graph_def: Any) -> Any:
    import tensorflow as tf

    for node in graph_def.node:
        # Where to place a node says nothing about its value, and may name a node that was cut off.
        node.attr.pop("_class", None)
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(graph_def, name="")
    return graph


def _without_control(graph_def: Any, contract: Contract) -> Any:
    """The graph that the outputs take their data from; what is only waited for is left out."""
    bare = type(graph_def)()
    bare.CopyFrom(graph_def)
    _keep_inputs(bare, lambda source, port: port is not None)
    needed = reachable(bare, [split_reference(spec.inner_name)[0] for spec in contract.outputs])
    bare.CopyFrom(graph_def)
    # Constants in a loop stand in its frame by waiting for a tensor of it, which is needed anyhow.
    _keep_inputs(bare, lambda source, port: port is not None or source in needed)
    return _needed(bare, contract, None)


def _keep_inputs(graph_def: Any, wanted: Callable[[str, int | None], bool]) -> None:
    for node in graph_def.node:
        kept = [reference for reference in node.input if wanted(*split_reference(reference))]
        del node.input[:]
        node.input.extend(kept)


def _needed(graph_def: Any, contract: Contract, reference: Reference | None) -> Any:
    """The graph without what lies beside the way to the outputs, which need not even be known ops."""
    formulas = [item for segment in reference.segments for item in segment] if reference is not None else []
    roots = [split_reference(spec.inner_name)[0] for spec in contract.outputs]
    roots += [split_reference(r)[0] for item in formulas for r in (item.tensor, *item.inputs)]
    inputs = [split_reference(spec.inner_name)[0] for spec in contract.inputs]
    known = {node.name for node in graph_def.node}
    if not known.issuperset((*roots, *inputs)) or known == reachable(graph_def, roots) | set(inputs):
        return graph_def
    return pruned(graph_def, roots, inputs)


def read_graph(path: Path) -> Any:
    """The GraphDef at ``path``, binary or text.

    Raises:
        InvalidModelError: it is neither.
    """
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework import graph_pb2

    graph_def = graph_pb2.GraphDef()
    try:
        graph_def.ParseFromString(path.read_bytes())
        if graph_def.node:
            return graph_def
    except DecodeError as error:
        failure: Exception = error
    else:
        failure = ValueError("no nodes in it")
    try:
        graph_def = graph_pb2.GraphDef()
        text_format.Parse(path.read_text(encoding="utf-8"), graph_def)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise InvalidModelError(
            "not a readable graph", where=str(path), why=str(failure)[:200], hint="copy the file again"
        ) from error
    return graph_def


RUNTIME = TensorFlowGraphRuntime()
