"""A GraphDef that is being rewritten: its nodes by name, who reads whom, constants, edits.

One object of this kind is handed from rewrite to rewrite. Each rewrite is a module ``graph_*`` of this room
with one function ``rewrite(graph) -> list[Change]`` and a before and after in its docstring; the order they
run in, with the reason for each place, is the list in ``edgeconv.surgery.inference``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from edgeconv.formats.graph_reading import pruned, split_reference

Value = Callable[[], Any]
"""Reads one constant's value as ``numpy.ndarray``."""

_FORWARDING = frozenset(
    {"Identity", "StopGradient", "Snapshot", "PreventGradient", "EnsureShape", "CheckNumerics"}
)
LARGE_ELEMENTS = 1 << 16
"""Constants above this many elements are not compared or folded by looking at all of their values."""


class Graph:
    """The main graph of a GraphDef, editable.

    References are as in a NodeDef: ``node`` for its port 0, ``node:1``, ``^node`` for control.

    Attributes:
        graph_def: the GraphDef, edited in place.
        nodes: NodeDefs by name.
        inputs: node names where the model begins (they are kept, whatever they are).
        outputs: references where the model ends.
        values: constants whose value is not in the graph but read when needed (weights of a checkpoint).
        path: of the model, for errors.
    """

    def __init__(
        self,
        graph_def: Any,
        *,
        outputs: Sequence[str],
        inputs: Sequence[str] = (),
        values: Mapping[str, Value] | None = None,
        path: str = "",
    ) -> None:
        self.graph_def = graph_def
        self.inputs = [split_reference(name)[0] for name in inputs]
        self.outputs = [short(reference) for reference in outputs]
        self.values = dict(values or {})
        self.path = path
        self.nodes: dict[str, Any] = {node.name: node for node in graph_def.node}
        self._readers: dict[str, dict[str, None]] | None = None

    # Looking.

    def node(self, reference: str) -> Any | None:
        """The NodeDef that makes a reference; ``None`` if the graph has none of that name."""
        return self.nodes.get(split_reference(reference)[0])

    def data_inputs(self, node: Any) -> list[str]:
        """The data inputs of a node, in short form, without its control inputs."""
        return [short(reference) for reference in node.input if not reference.startswith("^")]

    def readers(self, name: str) -> Iterator[Any]:
        """NodeDefs that read any output of the node ``name`` or wait for it; each once."""
        if self._readers is None:
            self._readers = {}
            for node in self.graph_def.node:
                for reference in node.input:
                    self._readers.setdefault(split_reference(reference)[0], {})[node.name] = None
        for reader in list(self._readers.get(name, ())):
            node = self.nodes.get(reader)
            if node is not None and any(split_reference(r)[0] == name for r in node.input):
                yield node

    def readers_of(self, reference: str) -> Iterator[tuple[Any, int]]:
        """NodeDefs that read exactly this output, with the index of the input that does."""
        wanted = short(reference)
        for node in self.readers(split_reference(reference)[0]):
            for index, each in enumerate(node.input):
                if not each.startswith("^") and short(each) == wanted:
                    yield node, index

    def origin(self, reference: str) -> str:
        """The reference behind a chain of nodes that hand their first input on unchanged."""
        seen = set()
        while (node := self.node(reference)) is not None and node.op in _FORWARDING and node.name not in seen:
            seen.add(node.name)
            inputs = self.data_inputs(node)
            if split_reference(reference)[1] != 0 or not inputs:
                break
            reference = inputs[0]
        return short(reference)

    def constant(self, reference: str, *, limit: int | None = LARGE_ELEMENTS) -> Any | None:
        """The value of a reference that is a constant, seen through identities; else ``None``.

        Args:
            reference: of the tensor.
            limit: most elements to read; ``None`` for any number.

        Returns:
            ``numpy.ndarray``, or ``None`` where it is no constant or has more elements.
        """
        import numpy
        import tensorflow as tf

        node = self.node(self.origin(reference))
        if node is None or node.op != "Const":
            return None
        if node.name in self.values:
            value = self.values[node.name]()
        else:
            proto = node.attr["value"].tensor
            if limit is not None and int(numpy.prod([d.size for d in proto.tensor_shape.dim] or [1])) > limit:
                return None
            value = tf.make_ndarray(proto)
        return None if limit is not None and value.size > limit else value

    def upstream(self, references: Iterable[str], *, stop: Iterable[str] = ()) -> set[str]:
        """Names of all nodes that the references need, themselves included; not beyond nodes in ``stop``."""
        ends = set(stop)
        found: set[str] = set()
        todo = [split_reference(reference)[0] for reference in references]
        while todo:
            name = todo.pop()
            if name in found or name not in self.nodes:
                continue
            found.add(name)
            if name not in ends:
                todo.extend(split_reference(reference)[0] for reference in self.nodes[name].input)
        return found

    def on_path(self) -> set[str]:
        """Names of the nodes that the outputs need, from the inputs on."""
        return self.upstream(self.outputs, stop=self.inputs)

    # Editing.

    def unique(self, name: str) -> str:
        """``name``, or the first free one of ``name_1``, ``name_2`` …"""
        fresh, number = name, 1
        while fresh in self.nodes:
            fresh, number = f"{name}_{number}", number + 1
        return fresh

    def add(self, op: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node and return the reference to its first output.

        Args:
            op: op type.
            name: wished for; made unique.
            inputs: references.
            attributes: by name. ``int``, ``float``, ``bool``, ``bytes`` and ``str`` go to the field of that
                kind, a ``tf.DType`` to ``type``, a ``numpy.ndarray`` to ``tensor``, an ``AttrValue`` is
                copied, a ``TensorShapeProto`` goes to ``shape``, a list to the list of its kind.
        """
        node = self.graph_def.node.add(name=self.unique(name), op=op)
        node.input.extend(inputs)
        for key, value in attributes.items():
            set_attribute(node.attr[key], value)
        self.nodes[node.name] = node
        self._note_reads(node)
        return str(node.name)

    def add_constant(self, name: str, value: Any) -> str:
        """Add a ``Const`` of a ``numpy.ndarray`` (or what becomes one) and return the reference to it."""
        import numpy
        import tensorflow as tf

        array = numpy.asarray(value)
        return self.add("Const", name, (), dtype=tf.as_dtype(array.dtype), value=array)

    def set_inputs(self, node: Any, inputs: Sequence[str]) -> None:
        """Replace all inputs of a node, control inputs included."""
        del node.input[:]
        node.input.extend(inputs)
        self._note_reads(node)

    def become(self, node: Any, op: str, inputs: Sequence[str], **attributes: Any) -> None:
        """Turn a node into another one of the same name: op, inputs and all attributes."""
        node.op = op
        node.attr.clear()
        for key, value in attributes.items():
            set_attribute(node.attr[key], value)
        self.values.pop(node.name, None)
        self.set_inputs(node, inputs)

    def redirect(self, old: str, new: str, *, within: Iterable[str] | None = None) -> int:
        """Let all who read ``old`` read ``new``, the outputs included; returns how many changed.

        Args:
            old: reference that is not read any more.
            new: reference that takes its place.
            within: names of the readers to change; ``None`` for all and the outputs.
        """
        changed = 0
        names = None if within is None else set(within)
        for node, index in list(self.readers_of(old)):
            if names is None or node.name in names:
                node.input[index] = new
                changed += 1
                self._note_reads(node)
        if names is None:
            self.outputs = [new if reference == short(old) else reference for reference in self.outputs]
        return changed

    def remove(self, names: Iterable[str]) -> None:
        """Remove nodes, and the control inputs that name them. Nobody may read their data any more."""
        gone = set(names)
        kept = [node for node in self.graph_def.node if node.name not in gone]
        for node in kept:
            if any(r.startswith("^") and r[1:] in gone for r in node.input):
                self.set_inputs(node, [r for r in node.input if not (r.startswith("^") and r[1:] in gone)])
        self._replace_nodes(kept)

    def prune(self) -> None:
        """Keep only what the outputs need, the inputs, and the functions that these call."""
        result = pruned(self.graph_def, [split_reference(o)[0] for o in self.outputs], self.inputs)
        self.graph_def.library.CopyFrom(result.library)
        names = {node.name for node in result.node}
        self._replace_nodes([node for node in self.graph_def.node if node.name in names])

    def _replace_nodes(self, kept: Sequence[Any]) -> None:
        copies = [type(node).FromString(node.SerializeToString()) for node in kept]
        del self.graph_def.node[:]
        self.graph_def.node.extend(copies)
        self.nodes = {node.name: node for node in self.graph_def.node}
        self.values = {name: value for name, value in self.values.items() if name in self.nodes}
        self._readers = None

    def _note_reads(self, node: Any) -> None:
        if self._readers is not None:
            for reference in node.input:
                self._readers.setdefault(split_reference(reference)[0], {})[node.name] = None


def short(reference: str) -> str:
    """A reference as NodeDefs write it: without ``:0``."""
    return reference.removesuffix(":0")


def full(reference: str) -> str:
    """A data reference with its port: ``node:0``."""
    name, port = split_reference(reference)
    return f"{name}:{0 if port is None else port}"


def set_attribute(attribute: Any, value: Any) -> None:
    """Fill an ``AttrValue``; see :meth:`Graph.add` for what goes where."""
    import numpy
    import tensorflow as tf

    if isinstance(value, type(attribute)):
        attribute.CopyFrom(value)
    elif isinstance(value, bool):
        attribute.b = value
    elif isinstance(value, int):
        attribute.i = value
    elif isinstance(value, float):
        attribute.f = value
    elif isinstance(value, (bytes, str)):
        attribute.s = value.encode() if isinstance(value, str) else value
    elif isinstance(value, tf.DType):
        attribute.type = value.as_datatype_enum
    elif isinstance(value, numpy.ndarray):
        attribute.tensor.CopyFrom(tf.make_tensor_proto(value))
    elif isinstance(value, (list, tuple)):
        _set_list(attribute.list, value)
    else:
        attribute.shape.CopyFrom(value)


def _set_list(target: Any, values: Sequence[Any]) -> None:
    import tensorflow as tf

    target.SetInParent()
    for value in values:
        if isinstance(value, bool):
            target.b.append(value)
        elif isinstance(value, int):
            target.i.append(value)
        elif isinstance(value, float):
            target.f.append(value)
        elif isinstance(value, (bytes, str)):
            target.s.append(value.encode() if isinstance(value, str) else value)
        elif isinstance(value, tf.DType):
            target.type.append(value.as_datatype_enum)
        else:
            target.shape.add().CopyFrom(value)
