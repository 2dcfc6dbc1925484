"""Ops that a target lacks, said in ops that it has.

before:  x ─▶ EuclideanNorm(axis 1)
after:   x ─▶ Square ─▶ Sum(axis 1) ─▶ Sqrt

Each entry of a table is a function that says the op in TensorFlow's own Python: it is given the node's
attributes and its inputs as tensors (constants as constants, the others with the shape that is known of
them) and gives the outputs. What it builds takes the node's place. Nodes inside the functions of a graph and
inside loops of TensorFlow 1 are not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgeconv.formats.graph_reading import split_reference
from edgeconv.surgery.changes import Change, places
from edgeconv.surgery.graph import Graph, short
from edgeconv.surgery.graph_loops_emitter import Emitter, output_types
from edgeconv.surgery.graph_loops_frames import Frames

NAME = "decompose"


class NotHere(Exception):  # noqa: N818  (nothing is wrong: the node is left as it is)
    """A node cannot be said in other ops with what is known of it."""


Decomposition = Callable[[Mapping[str, Any], Sequence[Any]], Sequence[Any]]
"""Attributes and inputs (``tf.Tensor``) to outputs (``tf.Tensor``); raises :class:`NotHere`."""


def rewrite(graph: Graph, table: Mapping[str, Decomposition]) -> list[Change]:
    """Replace the nodes of ``graph`` whose op is in ``table``.

    Returns:
        One change an op type, saying how many nodes were replaced.
    """
    if not any(node.op in table for node in graph.graph_def.node):
        return []
    graph.prune()
    frames = Frames(graph)
    emitter = Emitter(graph)
    counts: dict[str, int] = {}
    for name in frames.order:
        node = graph.nodes[name]
        op = str(node.op)
        if op not in table or name in frames.path_of:
            continue
        try:
            _replace(graph, emitter, node, table[op])
        except NotHere:
            continue
        counts[op] = counts.get(op, 0) + 1
    graph.prune()
    return [
        Change(NAME, f"{op} was put in other ops {places(count)}") for op, count in sorted(counts.items())
    ]


def static(tensor: Any, what: str = "its shape") -> list[int]:
    """The sizes of a tensor's axes; :class:`NotHere` unless all of them are known."""
    if not tensor.shape.is_fully_defined():
        raise NotHere(what)
    return [int(size) for size in tensor.shape.as_list()]


def value_of(tensor: Any) -> Any:
    """The ``numpy.ndarray`` of an input that is a constant; else :class:`NotHere`."""
    import tensorflow as tf

    found = tf.get_static_value(tensor)
    if found is None:
        raise NotHere("an argument that is not known")
    return found


def _replace(graph: Graph, emitter: Emitter, node: Any, how: Decomposition) -> None:
    read = {
        split_reference(r)[1] or 0
        for reader in graph.readers(node.name)
        for r in reader.input
        if split_reference(r)[0] == node.name
    }
    read |= {split_reference(r)[1] or 0 for r in graph.outputs if split_reference(r)[0] == node.name}
    types = output_types(node)

    def build(inputs: Sequence[Any]) -> Sequence[Any]:
        outputs = how({**_attributes(node), "read": read}, inputs)
        if any(output.dtype != dtype for output, dtype in zip(outputs, types, strict=True)):
            raise NotHere("an output of another type")
        return outputs

    made = spliced(graph, emitter, node.name, graph.data_inputs(node), build)
    for port, reference in enumerate(made):
        graph.redirect(short(f"{node.name}:{port}"), reference)


def spliced(
    graph: Graph,
    emitter: Emitter,
    name: str,
    references: Sequence[str],
    build: Callable[[Sequence[Any]], Sequence[Any]],
) -> list[str]:
    """Add to ``graph`` what ``build`` makes of tensors of it; returns the references to what it gives.

    Args:
        graph: that is added to.
        emitter: that knows its tensors.
        name: that names of new nodes begin with.
        references: to the tensors that ``build`` is given.
        build: from ``tf.Tensor`` to ``tf.Tensor``; raises :class:`NotHere`, and nothing is added then.
    """
    import tensorflow as tf

    with tf.Graph().as_default() as made:
        inputs = []
        for index, reference in enumerate(references):
            known = emitter.value(reference)
            if known is not None:
                inputs.append(tf.constant(known, name=f"input_{index}"))
            else:
                shape = emitter.shape(reference)
                inputs.append(
                    tf.compat.v1.placeholder(emitter.dtype(reference), shape, name=f"input_{index}")
                )
        ends = [tf.identity(output, name=f"output_{port}") for port, output in enumerate(build(inputs))]
    names = {tensor.op.name: reference for tensor, reference in zip(inputs, references, strict=True)}
    fresh: dict[str, str] = dict(names)
    for each in made.as_graph_def().node:
        if each.name in names:
            continue
        sources = [_moved(reference, fresh) for reference in each.input if not reference.startswith("^")]
        attributes = {key: value for key, value in each.attr.items() if not key.startswith("_")}
        fresh[each.name] = graph.add(each.op, f"{name}/{each.name}", sources, **attributes)
    return [fresh[end.op.name] for end in ends]


def _moved(reference: str, fresh: Mapping[str, str]) -> str:
    name, port = split_reference(reference)
    return fresh[name] if not port else f"{fresh[name]}:{port}"


def _attributes(node: Any) -> dict[str, Any]:
    """Attributes of a node in plain Python, those it does not state by their default."""
    from tensorflow.python.framework import op_def_registry

    found: dict[str, Any] = {}
    for attribute in op_def_registry.get(node.op).attr:
        value = node.attr.get(attribute.name, attribute.default_value)
        kind = value.WhichOneof("value")
        if kind == "list":
            listed = value.list
            found[attribute.name] = list(listed.i or listed.f or listed.b or listed.s or listed.type)
        elif kind == "s":
            found[attribute.name] = value.s.decode(errors="replace")
        elif kind is not None:
            found[attribute.name] = getattr(value, kind)
    return found
