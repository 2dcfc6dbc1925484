"""Loops of TensorFlow 1 run ahead: each trip written down one behind the other.

before:  Enter(0) ─▶ Merge ─▶ Less(25) ─▶ LoopCond …, Switch ─▶ TensorArrayReadV3(i) ─▶ cell ─▶ NextIteration
after:   Unpack(x):0 ─▶ cell ─▶ cell ─▶ … ─▶ cell, 25 times

The counter is a constant in each trip, so what depends on it only (the condition, indices, masks of known
lengths) is computed while unrolling. Where the condition depends on data too, but cannot stay true beyond a
known number of trips (``i < min(25, longest)``), that many are written down, and a scalar of each decides
whether its results count. A branch inside whose predicate is known is followed on one side; else both sides
are computed and one is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeconv.formats.graph_reading import split_reference
from edgeconv.surgery import graph_tensor_arrays as arrays
from edgeconv.surgery.graph import Graph, short
from edgeconv.surgery.graph_loops_emitter import Emitter
from edgeconv.surgery.graph_loops_frames import ENTER, EXIT, MERGE, NEXT, SWITCH, Frame, Frames, Path
from edgeconv.surgery.graph_loops_while import Function, carries_state, run_as_while
from edgeconv.surgery.graph_tensor_arrays import Array, Cannot, Handle
from edgeconv.surgery.graph_vectorise import run_as_map

NODES = 20_000
"""More nodes than this are not written down for the loops of a model."""

TRIPS = 4_096
"""More trips than this are not unrolled."""

Value = Any
"""What a reference stands for: a reference to a new tensor (``str``), a list's state, or a list's handle."""


@dataclass(slots=True)
class Scope:
    """Where nodes are evaluated: outside of all loops, what stays the same in one, or one trip of it.

    Attributes:
        path: frames around.
        outer: the scope around; for a trip the one of what stays the same.
        emitter: that new nodes are made by.
        known: what references of the source stand for here.
        trip: whether it is a trip.
        prefix: that names of new nodes begin with.
        function: that is written here; what is seen from inside is taken through it.
    """

    path: Path
    outer: Scope | None
    emitter: Emitter
    known: dict[str, Value] = field(default_factory=dict)
    trip: bool = False
    prefix: str = ""
    function: Function | None = None


class Unroller:
    """Evaluates the nodes of a graph with loops; what it writes down has none.

    Attributes:
        graph: the source, which is also what is added to.
        frames: its loops.
        root: the scope outside of all loops.
        trips: name of a loop that was unrolled to how often it goes round.
        maps: names of loops that became one computation for all elements.
        whiles: name of a loop that became a node with functions to whether it carries tensors on.
        failed: path of a loop that could not be, to the reason.
    """

    def __init__(
        self,
        graph: Graph,
        frames: Frames,
        emitter: Emitter,
        most: int = TRIPS,
        *,
        functions: bool = False,
        inside: Sequence[Callable[[Graph], object]] = (),
    ) -> None:
        self.graph = graph
        self.most = most
        self.functions = functions
        self.inside = inside
        self.frames = frames
        self.root = Scope((), None, emitter)
        self.budget = NODES
        self.trips: dict[str, int] = {}
        self.maps: list[str] = []
        self.whiles: dict[str, bool] = {}
        self.failed: dict[Path, str] = {}
        self._literals: dict[str, frozenset[tuple[str, bool]]] = {}

    # Evaluating.

    def value(self, reference: str, scope: Scope) -> Value:
        """What a reference of the source stands for, as seen from a scope.

        Raises:
            Cannot: with the reason.
        """
        todo = [(short(reference), scope)]
        under_way: set[tuple[str, int, str]] = set()
        while todo:
            each, where = todo[-1]
            at = self._home(each, where)
            if each in at.known:
                todo.pop()
                continue
            missing = [
                (need, within) for need, within in self._needs(each, at)
                if need not in self._home(need, within).known
            ]  # fmt: skip
            if missing:
                asked = (each, id(at), missing[0][0])
                if asked in under_way:
                    raise Cannot(f"'{each}' depends on itself")
                under_way.add(asked)
                todo.extend(missing)
                continue
            todo.pop()
            self._compute(split_reference(each)[0], at)
            if each not in at.known:
                raise Cannot(f"'{each}' is not taken apart")
        return self._seen(short(reference), scope)

    def _seen(self, reference: str, scope: Scope) -> Value:
        at = self._home(reference, scope)
        return self._taken(at.known[short(reference)], at.emitter, scope)

    def _taken(self, value: Value, emitter: Emitter, scope: Scope) -> Value:
        """A value of ``emitter`` as seen from a scope, which may be inside of functions."""
        if emitter is scope.emitter:
            return value
        at = scope
        while at.function is None:
            assert at.outer is not None
            at = at.outer
        return at.function.take(self._taken(value, emitter, at.function.outer))

    def _home(self, reference: str, scope: Scope) -> Scope:
        """The scope, this one or one around, that a node is evaluated in."""
        name = split_reference(reference)[0]
        path = self.frames.gives(name)
        at: Scope | None = scope
        while at is not None and (at.path != path or (at.trip and not self._varies(name, path))):
            at = at.outer
        if at is None:
            raise Cannot(f"'{name}' is inside another loop")
        return at

    def _varies(self, name: str, path: Path) -> bool:
        return name in self.frames.frames[path].variant

    def _needs(self, reference: str, scope: Scope) -> list[tuple[str, Scope]]:
        """References that a node needs before it can be computed, and where they are looked up."""
        node = self._node(reference)
        if not scope.path and self._plain(node):
            return []
        inputs = self.graph.data_inputs(node)
        if node.op in ENTER:
            assert scope.outer is not None
            return [(inputs[0], scope.outer)]
        if node.op in EXIT:
            frame = self.frames.inner(node.name)
            return [
                (first, scope)
                for enter in frame.enters
                for first in self.graph.data_inputs(self.graph.nodes[enter])
            ]
        if node.op in SWITCH and node.name in self.frames.loop_switches:
            return [(inputs[0], scope)]
        if node.op in MERGE:
            predicate, _ = self._branches(node)
            needs = [(predicate, scope)]
            if predicate in self._home(predicate, scope).known:
                side = scope.emitter.value(self._text(predicate, scope))
                needs += [(r, scope) for r in self._sides(node, None if side is None else bool(side))]
            return needs
        return [(each, scope) for each in inputs]

    def _plain(self, node: Any) -> bool:
        """Whether a node outside of all loops can stay as it is (what it reads is redirected)."""
        return node.op not in EXIT and not arrays.kind(node.op)

    def _node(self, reference: str) -> Any:
        node = self.graph.node(reference)
        if node is None:
            raise Cannot(f"'{reference}' is not in the graph")
        return node

    def _text(self, reference: str, scope: Scope) -> str:
        value = self._seen(reference, scope)
        if not isinstance(value, str):
            raise Cannot(f"'{reference}' is a list, where a tensor is needed")
        return value

    def _compute(self, name: str, scope: Scope) -> None:
        node = self.graph.nodes[name]
        if not scope.path and self._plain(node):
            outputs = 1 + max([split_reference(r)[1] or 0 for reader in self.graph.readers(name)
                               for r in reader.input if split_reference(r)[0] == name]
                              + [split_reference(r)[1] or 0 for r in self.graph.outputs
                                 if split_reference(r)[0] == name] + [0])  # fmt: skip
            for port in range(outputs):
                scope.known[short(f"{name}:{port}")] = short(f"{name}:{port}")
            return
        inputs = self.graph.data_inputs(node)
        if node.op in ENTER:
            assert scope.outer is not None
            value = self._seen(inputs[0], scope.outer)
            scope.known[name] = self._taken(value, scope.outer.emitter, scope)
        elif node.op in EXIT:
            self.run(self.frames.inner(name), scope)
        elif node.op in SWITCH:
            scope.known[name] = scope.known[f"{name}:1"] = self._seen(inputs[0], scope)
        elif node.op in MERGE:
            self._merge(node, scope)
        elif node.op in ("Identity", "LoopCond", *NEXT):
            scope.known[name] = self._seen(inputs[0], scope)
        elif arrays.kind(node.op):
            self._array(node, scope)
        else:
            self._copy(node, scope)

    def _copy(self, node: Any, scope: Scope) -> None:
        self.budget -= 1
        if self.budget < 0:
            raise Cannot(f"unrolled, it would be more than {NODES} nodes")
        inputs = [self._text(reference, scope) for reference in self.graph.data_inputs(node)]
        emitter = scope.emitter
        if node.op == "Const":
            same = emitter.graph is self.graph
            if not same or any(reference.startswith("^") for reference in node.input):
                reference = emitter.graph.add("Const", scope.prefix + node.name, (), **dict(node.attr))
                if node.name in self.graph.values:
                    emitter.graph.values[reference] = self.graph.values[node.name]
                scope.known[node.name] = reference
            else:
                scope.known[node.name] = node.name
            return
        outputs = emitter.emit_all(node.op, scope.prefix + node.name, inputs, dict(node.attr))
        for port, reference in enumerate(outputs):
            scope.known[short(f"{node.name}:{port}")] = reference

    # Loops.

    def run(self, frame: Frame, scope: Scope) -> None:
        """Run a loop as seen from the scope around it; its exits are known there afterwards.

        Raises:
            Cannot: with the reason, at once where the same loop has failed before.
        """
        if frame.path in self.failed:
            raise Cannot(self.failed[frame.path])
        first = self._first(frame, scope)
        budget = self.budget
        try:
            self._run(frame, scope, first)
        except Cannot as reason:
            self.budget = budget
            last = self._otherwise(frame, scope, first, reason)
            self.trips.pop(frame.path[-1], None)
            shared = Scope(frame.path, scope, scope.emitter, prefix=scope.prefix)
            self._leave(frame, scope, Scope(frame.path, shared, scope.emitter, last, True, scope.prefix))

    def _otherwise(
        self, frame: Frame, scope: Scope, first: dict[str, Value], unrolled: Cannot
    ) -> dict[str, Value]:
        """What the variables of a loop are in the end, which could not be unrolled."""
        why = [str(unrolled)]
        try:
            last = run_as_map(self, frame, scope, first)
            self.maps.append(frame.path[-1])
            return last
        except Cannot as reason:
            why.append(f"as one computation for all elements: {reason}")
        if self.functions:
            try:
                last = run_as_while(self, frame, scope, first)
                self.whiles[frame.path[-1]] = carries_state(self, frame, first)
                return last
            except Cannot as reason:
                why.append(f"as a loop with functions: {reason}")
        self.failed[frame.path] = "; ".join(why)
        raise Cannot(self.failed[frame.path]) from unrolled

    def _run(self, frame: Frame, scope: Scope, first: dict[str, Value]) -> None:
        emitter = scope.emitter
        shared = Scope(frame.path, scope, emitter, prefix=scope.prefix)
        current = first
        result: dict[str, Value] | None = None
        active = ""
        for number in range(self.most + 1):
            trip = Scope(frame.path, shared, emitter, dict(current), True, f"{scope.prefix}trip_{number}/")
            condition = self.value(frame.condition, trip)
            known = emitter.value(condition)
            if known is not None and not known.any():
                break
            if known is None and certainly_false(condition, emitter):
                break
            if known is None:
                if not self._ends(condition, emitter):
                    raise Cannot(
                        f"how often the loop '{frame.path[-1]}' goes round depends on the data"
                        if number == 0 or result is not None
                        else f"the loop '{frame.path[-1]}' may end at any trip"
                    )
                result = dict(current) if result is None else result
            if number == self.most:
                raise Cannot(f"the loop '{frame.path[-1]}' goes round more than {self.most} times")
            following = {merge: self.value(later, trip) for merge, (_, later) in frame.merges.items()}
            trip.known.clear()
            if result is not None:
                active = (
                    condition if not active or known is not None else self._both(active, condition, emitter)
                )
                result = {
                    merge: self._choose(
                        active, following[merge], result[merge], current[merge], merge, emitter
                    )
                    for merge in frame.merges
                }
            current = following
        self.trips[frame.path[-1]] = max(self.trips.get(frame.path[-1], 0), number)
        last = Scope(
            frame.path, shared, emitter, dict(current if result is None else result), True, scope.prefix
        )
        self._leave(frame, scope, last)

    def _first(self, frame: Frame, scope: Scope) -> dict[str, Value]:
        current: dict[str, Value] = {}
        for merge, (first, later) in frame.merges.items():
            if not first or not later or not frame.condition:
                raise Cannot(f"the loop '{frame.path[-1]}' has no way round through '{merge}'")
            enter = self.graph.node(self.graph.origin(first))
            if enter is None or enter.op not in ENTER:
                raise Cannot(f"'{merge}' does not begin with an Enter")
            source = self.graph.data_inputs(enter)[0]
            current[merge] = self.value(source, scope)
        return current

    def _leave(self, frame: Frame, scope: Scope, last: Scope) -> None:
        for name in [n for n, path in self.frames.path_of.items() if path == frame.path]:
            node = self.graph.nodes[name]
            if node.op in EXIT:
                scope.known[name] = self.value(self.graph.data_inputs(node)[0], last)

    def _both(self, one: str, other: str, emitter: Emitter) -> str:
        return emitter.emit("LogicalAnd", "loop/active", [one, other])

    def _choose(
        self, active: str, one: Value, other: Value, before: Value, name: str, emitter: Emitter
    ) -> Value:
        if isinstance(one, Array) and isinstance(other, Array):
            return arrays.chosen(
                emitter, active, one, other, before if isinstance(before, Array) else None, name
            )
        if isinstance(one, str) and isinstance(other, str):
            return arrays.select(emitter, active, one, other, name)
        if one == other:
            return one
        raise Cannot(f"'{name}' is a list on one side and none on the other")

    def _ends(self, condition: str, emitter: Emitter) -> bool:
        """Whether a condition that is not known can be seen to become false as its counter grows."""
        node = emitter.graph.node(emitter.graph.origin(condition))
        if node is None:
            return False
        inputs = emitter.graph.data_inputs(node)
        if node.op == "LogicalAnd":
            return any(
                self._ends(reference, emitter) or bound_holds(reference, emitter) for reference in inputs
            )
        return bound_holds(condition, emitter)

    # Branches.

    def _merge(self, node: Any, scope: Scope) -> None:
        predicate, _ = self._branches(node)
        emitter = scope.emitter
        known = emitter.value(self._text(predicate, scope))
        if known is not None:
            (chosen,) = self._sides(node, bool(known))
            scope.known[node.name] = self._seen(chosen, scope)
            return
        no, yes = (self._seen(reference, scope) for reference in self._sides(node, None))
        text = self._text(predicate, scope)
        scope.known[node.name] = self._choose(text, yes, no, None, node.name, emitter)

    def _sides(self, node: Any, side: bool | None) -> list[str]:
        """The references that a branch's Merge reads: if false, if true; or the one of a side."""
        _, positions = self._branches(node)
        inputs = self.graph.data_inputs(node)
        ordered = [inputs[positions[False]], inputs[positions[True]]]
        return ordered if side is None else [ordered[int(side)]]

    def _branches(self, node: Any) -> tuple[str, dict[bool, int]]:
        """What decides a branch's Merge, and which of its inputs is which side's."""
        inputs = self.graph.data_inputs(node)
        if len(inputs) == 2:
            first, second = (self.literals(reference) for reference in inputs)
            for predicate, side in sorted(first):
                if (predicate, not side) in second:
                    return predicate, {side: 0, not side: 1}
            # One side may be a constant that has lost its control input.
            for own, other, position in ((first, second, 0), (second, first, 1)):
                extra = own - other
                if len(extra) == 1 and not other - own:
                    ((predicate, side),) = extra
                    return predicate, {side: position, not side: 1 - position}
        raise Cannot(f"it is not clear what decides '{node.name}'")

    def literals(self, reference: str) -> frozenset[tuple[str, bool]]:
        """Predicates, with their values, under which a tensor is alive; those of loops left out."""
        todo = [reference]
        while todo:
            each = todo[-1]
            if each in self._literals:
                todo.pop()
                continue
            node = self.graph.node(each)
            if node is None or node.op in ENTER or node.name in self.frames.rings:
                self._literals[each] = frozenset()
                continue
            if node.op in EXIT:
                enters = self.frames.inner(node.name).enters
                sources = [r for enter in enters for r in self.graph.nodes[enter].input]
            else:
                sources = [split_reference(r)[0] if r.startswith("^") else short(r) for r in node.input]
            missing = [r for r in sources if r not in self._literals]
            if missing:
                todo.extend(missing)
                continue
            todo.pop()
            found = [self._literals[r] for r in sources]
            union = frozenset().union(*found)
            if node.op in SWITCH and node.name not in self.frames.loop_switches:
                predicate = self.graph.origin(self.graph.data_inputs(node)[1])
                union |= {(predicate, split_reference(each)[1] == 1)}
            elif node.op in MERGE:
                union = frozenset(item for item in union if (item[0], not item[1]) not in union)
            self._literals[each] = union
        return self._literals[reference]

    # Lists.

    def _array(self, node: Any, scope: Scope) -> None:
        kind = arrays.kind(node.op)
        name, emitter = scope.prefix + node.name, scope.emitter
        inputs = self.graph.data_inputs(node)
        if kind == "TensorArray":
            handle, array = arrays.made(emitter, node, [self._text(inputs[0], scope)])
            scope.known[node.name], scope.known[f"{node.name}:1"] = handle, array
            return
        if kind == "TensorArrayClose":
            scope.known[node.name] = ""
            return
        state = self._seen(inputs[-1], scope)
        if isinstance(state, Handle) or not isinstance(state, Array):
            raise Cannot(f"'{node.name}' works on a list that comes from elsewhere")
        known = scope.known
        if kind == "TensorArrayRead":
            known[node.name] = arrays.read(emitter, state, self._text(inputs[1], scope), name)
        elif kind == "TensorArrayWrite":
            index, value = (self._text(reference, scope) for reference in inputs[1:3])
            known[node.name] = arrays.write(emitter, state, index, value, name)
        elif kind == "TensorArrayGather":
            known[node.name] = arrays.gather(emitter, state, self._text(inputs[1], scope), name)
        elif kind == "TensorArrayPack":
            known[node.name] = arrays.stacked(emitter, state, name)
        elif kind == "TensorArrayScatter":
            indices, value = (self._text(reference, scope) for reference in inputs[1:3])
            known[node.name] = arrays.scatter(emitter, state, indices, value, name)
        elif kind == "TensorArrayUnpack":
            value = self._text(inputs[1], scope)
            shape = emitter.shape(value)
            known[node.name] = Array(state.handle, value, {}, shape[0] if shape else None)
        elif kind == "TensorArraySize":
            known[node.name] = arrays.size(emitter, state, name)
        elif kind == "TensorArraySplit":
            value, lengths = (self._text(reference, scope) for reference in inputs[1:3])
            known[node.name] = arrays.split(emitter, state, value, lengths, name)
        elif kind == "TensorArrayConcat":
            known[node.name], known[f"{node.name}:1"] = arrays.concatenated(emitter, state, name)


def bound_holds(condition: str, emitter: Emitter) -> bool:
    """Whether ``a < b`` compares a counter that is known with what has a known upper bound."""
    node = emitter.graph.node(emitter.graph.origin(condition))
    if node is None or node.op not in ("Less", "LessEqual", "Greater", "GreaterEqual"):
        return False
    left, right = emitter.graph.data_inputs(node)
    if node.op.startswith("Greater"):
        left, right = right, left
    return emitter.value(left) is not None and upper_bound(right, emitter) is not None


def certainly_false(condition: str, emitter: Emitter) -> bool:
    """Whether a condition that is not known cannot be true: its counter is at the upper bound."""
    node = emitter.graph.node(emitter.graph.origin(condition))
    if node is None:
        return False
    inputs = emitter.graph.data_inputs(node)
    if node.op == "LogicalAnd":
        return any(certainly_false(each, emitter) for each in inputs)
    if not bound_holds(condition, emitter):
        known = emitter.value(condition)
        return known is not None and not known.any()
    left, right = inputs if node.op.startswith("Less") else inputs[::-1]
    counter, bound = upper_bound(left, emitter), upper_bound(right, emitter)
    assert counter is not None
    assert bound is not None
    return counter > bound if node.op.endswith("Equal") else counter >= bound


def upper_bound(reference: str, emitter: Emitter) -> float | None:
    """The largest value that a scalar can have, where that is known."""
    known = emitter.value(reference)
    if known is not None and known.size == 1:
        return float(known)
    node = emitter.graph.node(emitter.graph.origin(reference))
    if node is None:
        return None
    bounds = [upper_bound(each, emitter) for each in emitter.graph.data_inputs(node)] if node.op in (
        "Minimum", "Maximum", "Cast"
    ) else []  # fmt: skip
    known_bounds = [bound for bound in bounds if bound is not None]
    if node.op == "Minimum" and known_bounds:
        return min(known_bounds)
    if bounds and len(known_bounds) == len(bounds):
        return max(known_bounds)
    return None
