"""How the tests of inference rewrites prove one: three runs by TensorFlow that must agree.

The rewritten graph; the source under the values that the rewrite says its tensors should have; and the same
network built for inference in the first place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.runtimes._inference_reference import as_reference
from edgeconv.surgery.changes import Change, Replaced
from edgeconv.surgery.graph import Graph
from edgeconv.surgery.graph_editing import clean
from edgeconv.surgery.inference import to_inference

Build = Callable[[Any], Any]
"""Builds a network onto its input, a placeholder ``x``; gives the output."""


@dataclass(frozen=True)
class Built:
    """A graph with the values of its variables, as a checkpoint would have them.

    Attributes:
        graph_def: of the graph.
        values: by variable.
        output: reference.
    """

    graph_def: Any
    values: Mapping[str, Any]
    output: str


@contextmanager
def control_flow(version: int) -> Iterator[None]:
    """Build conditions and loops as ``Switch`` and ``Merge`` (1) or as functions (2)."""
    import tensorflow as tf

    v1 = tf.compat.v1
    before = v1.control_flow_v2_enabled()
    (v1.enable_control_flow_v2 if version == 2 else v1.disable_control_flow_v2)()
    try:
        yield
    finally:
        (v1.enable_control_flow_v2 if before else v1.disable_control_flow_v2)()


def built(build: Build, shape: Sequence[int | None], *, resource: bool = True, flow: int = 1) -> Built:
    """Build a TF1 graph: placeholder ``x`` of float32, ``build``, variables with random values."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, control_flow(flow):
        before = v1.resource_variables_enabled()
        (v1.enable_resource_variables if resource else v1.disable_resource_variables)()
        try:
            output = build(v1.placeholder(tf.float32, shape, name="x"))
        finally:
            (v1.enable_resource_variables if before else v1.disable_resource_variables)()
        variables = {v.op.name: v.shape.as_list() for v in v1.global_variables() if v.dtype.is_floating}
        return Built(
            stripped(graph.as_graph_def()), {n: value_of(n, s) for n, s in variables.items()}, output.name
        )


def stripped(graph_def: Any) -> Any:
    """A GraphDef without attributes that have their default, as SavedModels are written."""
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow.python.framework import meta_graph

    whole = meta_graph_pb2.MetaGraphDef(graph_def=graph_def)
    meta_graph.strip_graph_default_valued_attrs(whole)
    return whole.graph_def


def value_of(name: str, shape: Sequence[int]) -> Any:
    """Values that a variable of this name may have after training, the same at each call."""
    rng = np.random.default_rng(sum(name.encode()))
    if "var" in name.lower() and "variable" not in name.lower():
        return rng.uniform(0.5, 2.0, shape).astype("float32")
    return rng.normal(0.3, 0.5, shape).astype("float32")


def copied(graph_def: Any) -> Any:
    """A GraphDef of its own, without what binds nodes to places."""
    copy = type(graph_def).FromString(graph_def.SerializeToString())
    clean(copy)
    return copy


def session_of(graph_def: Any, values: Mapping[str, Any]) -> Any:
    """A session on a graph whose variables have these values."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
        session = v1.Session(graph=graph)
        for node in graph_def.node:
            if node.op not in ("VarHandleOp", "VariableV2", "Variable") or node.name not in values:
                continue
            tensor = graph.get_tensor_by_name(f"{node.name}:0")
            value = tf.constant(values[node.name])
            if node.op == "VarHandleOp":
                assign = tf.raw_ops.AssignVariableOp(resource=tensor, value=value)
            else:
                assign = v1.raw_ops.Assign(ref=tensor, value=value, validate_shape=False)
                assign = assign.op
            session.run(assign)
    return session


def rewritten(source: Built, *, inputs: Sequence[str] = ("x",)) -> tuple[Graph, list[Change]]:
    """The source made an inference graph, and what was changed."""
    graph = Graph(copied(source.graph_def), outputs=[source.output], inputs=inputs)
    return graph, to_inference(graph)


def run(graph: Graph, values: Mapping[str, Any], feeds: Mapping[str, Any]) -> Any:
    """What a rewritten graph gives, of which only what the output needs is there."""
    graph.prune()
    with session_of(graph.graph_def, values) as session:
        return session.run(f"{graph.outputs[0]}:0", dict(feeds))


def run_source(source: Built, changes: Sequence[Change], feeds: Mapping[str, Any]) -> Any:
    """What the source gives where the tensors that were replaced have the values they should."""
    specs = tuple(
        TensorSpec(name.partition(":")[0], value.dtype.name, value.shape, name)
        for name, value in feeds.items()
    )
    outputs = (TensorSpec("y", "float32", None, source.output),)
    replaced: list[Replaced] = [item for change in changes for item in change.replaced]
    reference = as_reference(copied(source.graph_def), Contract(specs, outputs), replaced, "source")
    session = session_of(reference.graph_def, source.values)
    with reference.session(session, specs, reference.contract.outputs, "source") as running:
        return running.infer({spec.name: feeds[spec.tensor] for spec in specs})["y"]


def prove(
    training: Build,
    inference: Build | None,
    x: Any,
    *,
    resource: bool = True,
    flow: int = 1,
    tolerance: float = 2e-6,
) -> list[Change]:
    """Hold the three runs together, and that rewriting again changes nothing; gives the changes.

    Args:
        training: builds the network as it is trained.
        inference: builds it as it should have been exported; ``None`` where there is no such thing.
        x: what is fed.
        resource: kind of variables.
        flow: version of control flow.
        tolerance: between the runs.
    """
    shape = (None, *x.shape[1:])
    source = built(training, shape, resource=resource, flow=flow)
    graph, changes = rewritten(source)
    before = graph.graph_def.SerializeToString(deterministic=True)
    assert not [c for c in to_inference(graph) if not c.warning]
    assert graph.graph_def.SerializeToString(deterministic=True) == before, (
        "the second time changed something"
    )
    made = run(graph, source.values, {"x:0": x})
    np.testing.assert_allclose(run_source(source, changes, {"x:0": x}), made, atol=tolerance, rtol=1e-5)
    if inference is not None:
        plain = built(inference, shape, resource=resource, flow=flow)
        graph, nothing = rewritten(plain)
        assert not [change for change in nothing if change.replaced], "an inference graph was changed"
        assert set(plain.values) <= set(source.values), "the two networks have other variables"
        wanted = run(graph, {**source.values}, {"x:0": x})
        np.testing.assert_allclose(made, wanted, atol=tolerance, rtol=1e-5)
    return changes
