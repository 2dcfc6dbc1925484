"""The reference of a gate behind an arrow that made an inference graph: the source, told what it lacks.

A training graph cannot be the reference as it stands: its batch normalisations use the batch, its dropout
drops. What it is in inference is said by the tensors that the arrow replaced, each with the formula of the
value it should have (``edgeconv.surgery.changes``). Here the *source* is run by TensorFlow with these tensors
having those values; of the rewritten graph nothing is used::

    x ─▶ conv ─▶ batch_norm ─▶ dropout ─▶ dense ─▶ logits
          fetched   fed            │       └ reads what the dropout reads ┘
            └─ formula in NumPy ─┘

Where a tensor should have the value of another one, or a constant's, its readers read that instead. All
others are fed: segment by segment, what the formulas take is fetched with all that is known by then fed, so
that TensorFlow computes from the last segment on only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from edgeconv.errors import ConversionError, UsageError
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.formats.graph_reading import split_reference
from edgeconv.runtimes._tensorflow import (
    GraphSession,
    as_array,
    as_conversion_error,
    shape_of,
    shape_text,
    tensor_name,
)
from edgeconv.runtimes.binding import checked_inputs
from edgeconv.runtimes.formulas import FORMULAS
from edgeconv.surgery.changes import Replaced, replaced_from_json
from edgeconv.surgery.graph import Graph, full, short
from edgeconv.surgery.graph_editing import clean, inlined

_WRITES = frozenset(
    {"Assign", "AssignAdd", "AssignSub", "AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"}
    | {"ScatterUpdate", "ScatterAdd", "ScatterSub", "ResourceScatterUpdate", "ResourceScatterAdd"}
)
Segment = tuple[Replaced, ...]
"""Tensors whose formulas take nothing that comes behind another one of them."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A source that is ready to be run as the reference.

    Attributes:
        graph_def: the source's graph, with calls inlined where a replaced tensor lies in one.
        contract: of the source, with outputs where they are now.
        segments: what is fed, in order.
    """

    graph_def: Any
    contract: Contract
    segments: tuple[Segment, ...]

    def session(
        self, session: Any, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], path: str
    ) -> ReferenceSession:
        """The session of TensorFlow as one of ours; the arguments are those of :class:`GraphSession`."""
        return ReferenceSession(session, inputs, outputs, path, self.segments)


def replaced_in(options: Mapping[str, Any] | None) -> tuple[Replaced, ...]:
    """The tensors to replace that the options of a runtime name."""
    return tuple(replaced_from_json(item) for item in (options or {}).get("replaced", ()))


def as_reference(
    graph_def: Any,
    contract: Contract,
    replaced: Sequence[Replaced],
    path: str,
    loads: Iterable[str] = (),
    keep: Iterable[str] = (),
) -> Reference:
    """Prepare a source's graph, which is edited in place or copied.

    Args:
        graph_def: the main graph and its functions.
        contract: whose tensors are in the graph.
        replaced: what an arrow replaced.
        path: of the source, for errors.
        loads: nodes that are run to restore and initialise the model.
        keep: more nodes that must keep their names.

    Raises:
        ConversionError: a tensor named there is not in the graph.
    """
    known = {node.name for node in graph_def.node}
    named = {split_reference(r)[0] for item in replaced for r in (item.tensor, *item.inputs)}
    if not named <= known and graph_def.library.function:
        specs = (*contract.inputs, *contract.outputs)
        ends = {split_reference(spec.inner_name)[0] for spec in specs} & known
        clean(graph_def)
        graph_def = inlined(graph_def, sorted({*ends, *(known & {*keep, *loads})}))
        known = {node.name for node in graph_def.node}
    if missing := sorted(named - known):
        raise ConversionError(
            f"the source has no node '{missing[0]}', which was replaced for inference", where=path
        )
    fed = {full(spec.inner_name) for spec in contract.inputs}
    todo = [item for item in replaced if full(item.tensor) not in fed]
    graph = Graph(
        graph_def,
        outputs=[spec.inner_name for spec in contract.outputs],
        inputs=[spec.inner_name for spec in contract.inputs],
        path=path,
    )
    _drop_writes(graph, known.intersection(loads))
    aliases = {full(item.tensor): full(item.inputs[0]) for item in todo if item.formula == "identity"}
    for item in todo:
        if item.formula == "constant":
            aliases[full(item.tensor)] = full(_add_constant(graph, item))
    for tensor in aliases:
        graph.redirect(tensor, _behind(tensor, aliases))
    outputs = zip(contract.outputs, graph.outputs, strict=True)
    contract = replace(
        contract, outputs=tuple(replace(s, tensor=full(reference)) for s, reference in outputs)
    )
    rest = [
        replace(item, inputs=tuple(_behind(full(reference), aliases) for reference in item.inputs))
        for item in todo
        if item.formula not in ("identity", "constant")
    ]
    return Reference(graph_def, contract, _segments(graph, rest, fed))


class ReferenceSession(GraphSession):
    """Runs a source in segments, each fed with what the formulas made of the one before."""

    def __init__(
        self,
        session: Any,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        path: str,
        segments: Sequence[Segment],
    ) -> None:
        super().__init__(session, inputs, outputs, path)
        self._segments = segments

    def infer(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See :meth:`edgeconv.runtimes.base.Session.infer`."""
        import tensorflow as tf

        feeds = checked_inputs(inputs, self.inputs, self._path)
        if self._session is None:
            raise UsageError("this session is closed", where=self._path)
        known = {tensor_name(spec): feeds[spec.name] for spec in self._fed}
        try:
            for segment in self._segments:
                wanted = list(dict.fromkeys(reference for item in segment for reference in item.inputs))
                values = dict(zip(wanted, self._session.run(wanted, feed_dict=known), strict=True))
                known.update((full(item.tensor), self._value(item, values)) for item in segment)
            names = [tensor_name(spec) for spec in self.outputs]
            results = self._session.run(names, feed_dict=known)
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise as_conversion_error(error, "TensorFlow could not run the source", self._path) from error
        return {spec.name: as_array(value) for spec, value in zip(self.outputs, results, strict=True)}

    def prepare(self, inputs: Mapping[str, Any]) -> Callable[[], object]:
        """See :meth:`edgeconv.runtimes.base.Session.prepare`: what is replaced is computed anew each time."""
        return partial(self.infer, inputs)

    def _value(self, item: Replaced, values: Mapping[str, Any]) -> Any:
        import numpy

        value = FORMULAS[item.formula]([values[reference] for reference in item.inputs], item.attributes)
        tensor = self._session.graph.get_tensor_by_name(full(item.tensor))
        stated = shape_of(tensor.shape)
        array = numpy.asarray(value, tensor.dtype.base_dtype.as_numpy_dtype)
        if not tensor.shape.is_compatible_with(array.shape):
            raise ConversionError(
                f"the formula {item.formula} gives {list(array.shape)} for '{item.tensor}', "
                f"which is {shape_text(stated)}",
                where=self._path,
            )
        return array


def _drop_writes(graph: Graph, loads: Iterable[str]) -> None:
    """Let no run change a variable: the second would have other moving statistics than the first.

    Only writes that nobody reads the result of; those that restore and initialise the model stay.
    """
    for name in graph.upstream(graph.outputs, stop=graph.inputs) - graph.upstream(loads):
        node = graph.nodes[name]
        read = any(short(r) == name for reader in graph.readers(name) for r in reader.input if r[:1] != "^")
        if node.op in _WRITES and not read:
            graph.become(node, "NoOp", [r for r in node.input if r.startswith("^")])


def _add_constant(graph: Graph, item: Replaced) -> str:
    """A constant with the value of a formula, in the loop or branch where the tensor it replaces is."""
    node = graph.node(item.tensor)
    assert node is not None
    producers = {split_reference(reference)[0]: None for reference in node.input}
    constant = graph.add_constant(f"{node.name}/in_inference", FORMULAS["constant"]((), item.attributes))
    graph.set_inputs(graph.nodes[constant], [f"^{name}" for name in producers])
    return constant


def _behind(tensor: str, aliases: Mapping[str, str]) -> str:
    """The tensor at the end of a chain of tensors that each have the value of the next."""
    seen = {tensor}
    while tensor in aliases and aliases[tensor] not in seen:
        tensor = aliases[tensor]
        seen.add(tensor)
    return tensor


def _segments(graph: Graph, items: Sequence[Replaced], fed: set[str]) -> tuple[Segment, ...]:
    """The items that the outputs need, each in the first segment that all it takes is known before."""
    by_tensor = {full(item.tensor): item for item in items}
    needs: dict[str, set[str]] = {}
    todo = list(_fed_above(graph, graph.outputs, set(by_tensor), fed))
    while todo:
        tensor = todo.pop()
        if tensor not in needs:
            needs[tensor] = _fed_above(graph, by_tensor[tensor].inputs, set(by_tensor), fed)
            todo.extend(needs[tensor])
    segments: list[Segment] = []
    done: set[str] = set()
    while len(done) < len(needs):
        ready = [tensor for tensor in needs if tensor not in done and needs[tensor] <= done]
        if not ready:
            raise ConversionError(
                f"'{min(set(needs) - done)}' is needed for its own value in inference", where=graph.path
            )
        segments.append(tuple(by_tensor[tensor] for tensor in ready))
        done.update(ready)
    return tuple(segments)


def _fed_above(graph: Graph, references: Iterable[str], ours: set[str], fed: set[str]) -> set[str]:
    """Which of the tensors ``ours`` the references need, without what lies behind these or behind ``fed``."""
    found: set[str] = set()
    seen: set[str] = set()
    todo = [full(reference) for reference in references]
    while todo:
        tensor = todo.pop()
        if tensor in fed:
            continue
        if tensor in ours:
            found.add(tensor)
            continue
        name = split_reference(tensor)[0]
        if name in graph.nodes and name not in seen:
            seen.add(name)
            todo += [r if r.startswith("^") else full(r) for r in graph.nodes[name].input]
    return found
