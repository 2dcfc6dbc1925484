"""Loops and branches with functions (control flow v2) written down, where it is known how they go.

Before::

    image [1, h, w, 3] ─▶ TensorListFromTensor ─▶ StatelessWhile(body: GetItem ─▶ resize ─▶ SetItem) ─▶ Stack

After, for a batch of 1::

    image ─▶ StridedSlice ─▶ resize ─▶ Pack

A map over a batch is such a loop, and its lists have elements of open shape where each image is resized to a
size of its own, which TFLite refuses. Only few trips are written down: a recurrent layer stays the loop that
TFLite and ONNX take, and so does every loop whose number of trips depends on the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeconv.formats._graph_calls import port_of
from edgeconv.surgery.changes import Change
from edgeconv.surgery.graph import Graph, short
from edgeconv.surgery.graph_loops_emitter import Emitter

MOST = 4
"""Trips that are written down."""
_WHILE = frozenset({"While", "StatelessWhile"})
_IF = frozenset({"If", "StatelessIf"})
_CALL = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_DEEPEST = 16

_List = list["str | None"]
"""What a list of tensors holds: references, ``None`` where nothing was written yet."""


class _CannotError(Exception):
    """Why a loop is not written down."""


class _OpenError(_CannotError):
    """It goes over something of open length, which the caller may pin."""


def rewrite(graph: Graph) -> list[Change]:
    """Write down the loops with functions of the main graph that take few trips, with their lists.

    A loop over a tensor of open length is left, and said: it can be written down for a batch of 1.
    """
    loops = [node.name for node in graph.graph_def.node if node.op in _WHILE]
    if not loops:
        return []
    graph.prune()
    changes = []
    for name in loops:
        if name not in graph.nodes:
            continue
        try:
            trips = _Writer(graph).write(graph.nodes[name])
        except _CannotError as reason:
            graph.prune()
            if isinstance(reason, _OpenError):
                changes.append(
                    Change("loops", f"the loop '{name}' was left as it is: {reason}", warning=True)
                )
            continue
        graph.prune()
        changes.append(
            Change(
                "loops", f"the loop '{name}' was written down: {trips} {'trip' if trips == 1 else 'trips'}"
            )
        )
    return changes


class _Writer:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._emitter = Emitter(graph)
        self._functions = {f.signature.name: f for f in graph.graph_def.library.function}

    def write(self, loop: Any) -> int:
        """Write down a loop and redirect its readers; returns the number of trips."""
        condition, body = (self._function(loop, which) for which in ("cond", "body"))
        carried = [self._outer(reference) for reference in self._graph.data_inputs(loop)]
        trips = 0
        while self._goes_on(condition, carried):
            trips += 1
            if trips > MOST:
                raise _CannotError("many trips")
            carried = self._expanded(body, carried, loop.name, 0)
        # Lists first: where one of them is read in an unusual way nothing must have been changed.
        stacked = []
        for port, value in enumerate(carried):
            if isinstance(value, list):
                for reader, _ in list(self._graph.readers_of(f"{loop.name}:{port}" if port else loop.name)):
                    stacked.append((reader.name, self._read(reader, value)))
        for port, value in enumerate(carried):
            if isinstance(value, str):
                self._graph.redirect(f"{loop.name}:{port}" if port else loop.name, value)
        for name, value in stacked:
            self._graph.redirect(name, value)
        return trips

    def _goes_on(self, condition: Any, carried: Sequence[str | _List]) -> bool:
        (decided,) = self._expanded(condition, carried, "condition", 0)
        value = self._emitter.value(decided) if isinstance(decided, str) else None
        if value is None:
            raise _CannotError("the number of trips depends on the data")
        return bool(value)

    def _outer(self, reference: str) -> str | _List:
        """A value that goes into a loop: lists by what they hold."""
        node = self._graph.node(self._graph.origin(reference))
        if node is None:
            raise _CannotError(reference)
        inputs = self._graph.data_inputs(node)
        if node.op in ("TensorListFromTensor", "TensorListReserve"):
            return self._made(node.op, inputs)
        if node.op.startswith(("TensorList", "EmptyTensorList")):
            raise _CannotError(node.op)
        return short(reference)

    def _made(self, op: str, inputs: Sequence[str]) -> _List:
        """A new list, of the parts of a tensor or of nothing."""
        if op == "TensorListReserve":
            if self._emitter.value(inputs[1]) is None:
                raise _OpenError("the length of its lists is open")
            count = self._number(inputs[1])
            if count > MOST:
                raise _CannotError("a long list")
            return [None] * count
        shape = self._emitter.shape(inputs[0])
        if not shape or (shape[0] or 0) > MOST:
            raise _CannotError("a long list")
        if shape[0] is None:
            raise _OpenError("it goes over a tensor of open length")
        return [self._part(inputs[0], index) for index in range(shape[0])]

    def _part(self, reference: str, index: int) -> str:
        import numpy
        import tensorflow as tf

        begin, end, step = (
            self._emitter.constant(numpy.array([number], numpy.int32)) for number in (index, index + 1, 1)
        )
        return self._emitter.emit(
            "StridedSlice",
            "loop/item",
            [reference, begin, end, step],
            T=self._emitter.dtype(reference),
            Index=tf.int32,
            begin_mask=0,
            end_mask=0,
            ellipsis_mask=0,
            new_axis_mask=0,
            shrink_axis_mask=1,
        )

    def _read(self, reader: Any, items: _List) -> str:
        import numpy

        if reader.op == "TensorListStack":
            return self._stacked(items)
        if reader.op == "TensorListLength":
            return self._emitter.constant(numpy.asarray(len(items), numpy.int32))
        if reader.op == "TensorListGetItem":
            return self._item(items, self._graph.data_inputs(reader)[1])
        raise _CannotError(f"{reader.op} reads a list")

    def _stacked(self, items: _List) -> str:
        written = [item for item in items if item is not None]
        if len(written) != len(items) or not written:
            raise _CannotError("an element was never written")
        dtype = self._emitter.dtype(written[0])
        return self._emitter.emit("Pack", "loop/stack", written, N=len(written), T=dtype, axis=0)

    def _item(self, items: _List, reference: str) -> str:
        index = self._number(reference)
        if not 0 <= index < len(items) or (item := items[index]) is None:
            raise _CannotError("an element was never written")
        return item

    def _number(self, reference: str) -> int:
        value = self._emitter.value(reference)
        if value is None or value.size != 1:
            raise _CannotError("an index depends on the data")
        return int(value.reshape(-1)[0])

    def _function(self, node: Any, attribute: str) -> Any:
        function = self._functions.get(node.attr[attribute].func.name)
        if function is None:
            raise _CannotError("a function is missing")
        return function

    def _expanded(
        self, function: Any, arguments: Sequence[str | _List], name: str, depth: int
    ) -> list[str | _List]:
        """The results of a function whose nodes are written into the graph."""
        if depth > _DEEPEST:
            raise _CannotError("functions call each other without end")
        values: dict[tuple[str, int], str | _List] = {
            (f"\0{argument.name}", 0): value
            for argument, value in zip(function.signature.input_arg, arguments, strict=True)
        }
        nodes = {node.name: node for node in function.node_def}
        parameters = {argument.name for argument in function.signature.input_arg}

        def resolve(reference: str) -> tuple[str, int]:
            if reference in parameters:
                return f"\0{reference}", 0
            parts = reference.split(":")
            if len(parts) != 3:
                return parts[0], 0
            return parts[0], port_of(nodes[parts[0]], parts[1], int(parts[2]))

        def value_of(reference: str) -> str | _List:
            wanted = resolve(reference)
            todo = [wanted[0]]
            while todo:
                node = nodes.get(todo[-1])
                if node is None or (node.name, 0) in values:
                    todo.pop()
                    continue
                inputs = [resolve(r) for r in node.input if not r.startswith("^")]
                missing = [each[0] for each in inputs if each not in values]
                if missing:
                    if len(todo) > len(nodes) + 1:
                        raise _CannotError("a function's node needs itself")
                    todo.extend(missing)
                    continue
                todo.pop()
                made = self._node(node, [values[each] for each in inputs], name, depth)
                for port, value in enumerate(made):
                    values[(node.name, port)] = value
            if wanted not in values:
                raise _CannotError(f"'{reference}' is not given")
            return values[wanted]

        return [value_of(function.ret[output.name]) for output in function.signature.output_arg]

    def _node(self, node: Any, inputs: list[str | _List], name: str, depth: int) -> Sequence[str | _List]:
        """What a node of a function gives: written down, or known, or the results of what it calls."""
        import numpy
        import tensorflow as tf

        op = node.op
        if op == "Const":
            return [self._emitter.constant(numpy.asarray(tf.make_ndarray(node.attr["value"].tensor)))]
        if op in _CALL:
            return self._expanded(self._function(node, "f"), inputs, f"{name}/{node.name}", depth + 1)
        if op in ("Identity", "StopGradient", "IdentityN"):
            return inputs
        if op == "TensorListSetItem":
            items, index, value = inputs
            if not isinstance(items, list) or isinstance(index, list) or isinstance(value, list):
                raise _CannotError("lists of lists")
            where = self._number(index)
            if not 0 <= where < len(items):
                raise _CannotError("behind the end of a list")
            return [[*items[:where], value, *items[where + 1 :]]]
        if op.startswith(("TensorList", "EmptyTensorList")):
            return [self._of_list(op, inputs)]
        if op in _IF:
            predicate, *arguments = inputs
            decided = self._emitter.value(predicate) if isinstance(predicate, str) else None
            if decided is not None and decided.size == 1:
                branch = self._function(node, "then_branch" if decided.any() else "else_branch")
                return self._expanded(branch, arguments, f"{name}/{node.name}", depth + 1)
        plain = [each for each in inputs if isinstance(each, str)]
        if len(plain) != len(inputs):
            raise _CannotError(f"{op} takes a list")
        return self._emitter.emit_all(op, f"{name}/{node.name}", plain, node.attr)

    def _of_list(self, op: str, inputs: list[str | _List]) -> str | _List:
        import numpy

        items = inputs[0]
        if isinstance(items, list):
            if op == "TensorListStack":
                return self._stacked(items)
            if op == "TensorListLength":
                return self._emitter.constant(numpy.asarray(len(items), numpy.int32))
            if op == "TensorListGetItem" and isinstance(inputs[1], str):
                return self._item(items, inputs[1])
        elif op in ("TensorListFromTensor", "TensorListReserve"):
            return self._made(op, [each for each in inputs if isinstance(each, str)])
        raise _CannotError(op)
