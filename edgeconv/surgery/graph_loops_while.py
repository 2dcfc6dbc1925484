"""A loop of TensorFlow 1 whose length is data, as one node with two functions (control flow v2).

before:  Enter ─▶ Merge ─▶ Switch ─▶ TensorArrayReadV3(i) ─▶ cell ─▶ TensorArrayWriteV3(i) ─▶ NextIteration
after:   StatelessWhile(cond, body) of counter, limit, state, list: [time, …], and what stays the same

A list is carried as the tensor of its elements: a read gathers a row, a write replaces one, and a list that
grows is made anew one row longer. What the functions need from around them is one more loop variable, small
values and constants are repeated inside. The first two variables count the trips and say that there is no
limit: tf2onnx takes loops of that form only, and a runtime pays two scalars for it.

The shape that a variable keeps is not said in the graph: it is what the variable has at first, made wider as
often as the body gives another one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgeconv.formats.graph_reading import split_reference
from edgeconv.surgery import graph_tensor_arrays as arrays
from edgeconv.surgery.graph import Graph, short
from edgeconv.surgery.graph_loops_emitter import Emitter
from edgeconv.surgery.graph_loops_frames import SWITCH, Frame
from edgeconv.surgery.graph_tensor_arrays import Array, Cannot, Handle

if TYPE_CHECKING:
    from edgeconv.surgery.graph_unroll import Scope, Unroller

_ATTEMPTS = 6
"""A shape is widened at most once for each of its axes; more attempts than this mean that it has no end."""

Shape = tuple[int | None, ...] | None


class Function:
    """A function while its body is written: its graph, and what it takes from around.

    Attributes:
        emitter: of its body, whose graph holds nothing else.
        outer: scope around the loop.
        arguments: references to its loop variables, inside.
        taken: reference around it to the argument that stands for it.
    """

    def __init__(self, outer: Scope) -> None:
        from tensorflow.core.framework import graph_pb2

        self.outer = outer
        self.emitter = Emitter(Graph(graph_pb2.GraphDef(), outputs=()))
        self.arguments: list[str] = []
        self.taken: dict[str, str] = {}
        self._lists: list[tuple[Array, Array]] = []
        self._copied: dict[str, str] = {}

    def argument(self, dtype: Any, shape: Shape) -> str:
        """A new argument."""
        import tensorflow as tf

        graph = self.emitter.graph
        return graph.add("Placeholder", "argument", (), dtype=dtype, shape=tf.TensorShape(shape).as_proto())

    def take(self, value: Any) -> Any:
        """What stands inside for a value (a tensor or a list) from around."""
        if isinstance(value, Handle):
            return replace(value, size="")
        if isinstance(value, Array):
            for known, inside in self._lists:
                if known is value or known == value:
                    return inside
            whole = arrays.stacked(self.outer.emitter, value, value.handle.name)
            inside = Array(self.take(value.handle), self.take(whole), {}, value.count)
            self._lists.append((value, inside))
            return inside
        return self._take_tensor(short(str(value)))

    def _take_tensor(self, reference: str) -> str:
        if not reference:
            return reference
        if reference in self._copied:
            return self._copied[reference]
        around = self.outer.emitter
        known = around.value(reference)
        if known is not None and around.dtype(reference) != "string":
            return self.emitter.constant(known)
        origin = around.graph.origin(reference)
        node = around.graph.node(origin)
        if node is not None and node.op == "Const" and node.name not in around.graph.values:
            self._copied[reference] = self.emitter.graph.add("Const", node.name, (), **dict(node.attr))
            return self._copied[reference]
        if reference not in self.taken:
            self.taken[reference] = self.argument(around.dtype(reference), around.shape(reference))
        return self.taken[reference]


@dataclass
class _Variable:
    """A loop variable: the Merge it goes round through, what it is at first, and its shape in all trips."""

    merge: str
    first: str | Array
    dtype: Any
    shape: Shape
    known: bool = True
    """Whether the shape is; that of a list may be seen only from what is written to it."""


@dataclass
class _Written:
    """Both functions, and the references that they give."""

    cond: Function
    body: Function
    condition: str = ""
    results: list[str] = field(default_factory=list)


def run_as_while(unroller: Unroller, frame: Frame, scope: Scope, first: dict[str, Any]) -> dict[str, Any]:
    """What the loop variables are after all trips.

    Args:
        unroller: that evaluates what is inside.
        frame: the loop.
        scope: around the loop.
        first: merge to what its variable is at first.

    Raises:
        Cannot: with the reason.
    """
    variables = [_variable(scope.emitter, merge, first[merge]) for merge in frame.merges]
    # A list that goes round through several variables, or a handle, is the same outside.
    fixed = {v.merge: v.first for v in variables if isinstance(v.first, Handle) or v.first == ""}
    variables = [v for v in variables if v.merge not in fixed]
    for _ in range(_ATTEMPTS):
        body = Function(scope)
        results, wider = _body(unroller, frame, body, variables, fixed)
        if not wider:
            break
    else:
        raise Cannot(f"the loop '{frame.path[-1]}' carries a tensor of a shape that does not settle")
    cond = Function(scope)
    trip = _trip(frame, cond, variables, fixed)
    condition = unroller.value(frame.condition, trip)
    if not isinstance(condition, str):
        raise Cannot(f"the loop '{frame.path[-1]}' has no condition")
    return fixed | _node(unroller, frame, scope, variables, _Written(cond, body, condition, results))


def carries_state(unroller: Unroller, frame: Frame, first: dict[str, Any]) -> bool:
    """Whether a loop carries more from trip to trip than lists, numbers of trips, and what stays the same."""
    for merge, (_, later) in frame.merges.items():
        if not isinstance(first[merge], str):
            continue
        node = unroller.graph.node(unroller.graph.origin(later))
        others = _merges_behind(unroller.graph, frame, later) - {merge}
        if others or node is None or node.op not in ("Add", "AddV2", *SWITCH):
            return True
    return False


def _merges_behind(graph: Graph, frame: Frame, reference: str) -> set[str]:
    """The loop variables that a tensor is computed from; what only decides a Switch is none of them."""
    found: set[str] = set()
    todo, seen = [split_reference(reference)[0]], set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in frame.merges:
            found.add(name)
            continue
        node = graph.nodes[name]
        inputs = graph.data_inputs(node)
        inputs = inputs[:1] if node.op in SWITCH else inputs
        todo += [split_reference(each)[0] for each in inputs]
    return found


def _variable(emitter: Emitter, merge: str, first: Any) -> _Variable:
    if isinstance(first, Handle) or first == "":
        return _Variable(merge, first, None, ())
    if not isinstance(first, Array):
        return _Variable(merge, first, emitter.dtype(first), emitter.shape(first))
    import tensorflow as tf

    element = first.handle.element
    candidates = [emitter.shape(each) for each in first.elements.values()]
    if first.whole and (whole := emitter.shape(first.whole)):
        candidates.append(whole[1:])
    for each in candidates:
        if each is not None and (element is None or None in element):
            element = each
    count = None if first.handle.grows else first.count
    known = element is not None and (None not in element or bool(first.whole))
    shape = (count, *element) if element is not None else None
    return _Variable(merge, first, tf.as_dtype(first.handle.dtype.type), shape, known)


def _trip(frame: Frame, function: Function, variables: Sequence[_Variable], fixed: dict[str, Any]) -> Scope:
    """The scope of one trip inside a function."""
    import tensorflow as tf

    from edgeconv.surgery.graph_unroll import Scope

    counter, limit = (function.argument(tf.int32, ()) for _ in range(2))
    function.arguments = [counter, limit]
    known = {merge: function.take(value) for merge, value in fixed.items()}
    for variable in variables:
        inside = function.argument(variable.dtype, variable.shape)
        function.arguments.append(inside)
        if isinstance(variable.first, Array):
            handle = function.take(variable.first.handle)
            count = None if handle.grows else variable.first.count
            known[variable.merge] = Array(handle, inside, {}, count)
        else:
            known[variable.merge] = inside
    shared = Scope(frame.path, function.outer, function.emitter, function=function)
    return Scope(frame.path, shared, function.emitter, known, True)


def _body(
    unroller: Unroller, frame: Frame, body: Function, variables: Sequence[_Variable], fixed: dict[str, Any]
) -> tuple[list[str], bool]:
    """What the variables are after a trip, and whether one of them has become wider than it was thought."""
    trip = _trip(frame, body, variables, fixed)
    emitter = body.emitter
    results, wider = [], False
    for variable in variables:
        value = unroller.value(frame.merges[variable.merge][1], trip)
        if isinstance(variable.first, Array) != isinstance(value, Array) or value == "":
            raise Cannot(f"'{variable.merge}' is a list in one trip and none in the next")
        if isinstance(value, Array):
            if not variable.known:
                written = emitter.written.get(value.handle.name)
                if not written and variable.shape is None:
                    raise Cannot(f"the shape of the elements of '{value.handle.name}' is not known")
                if written:
                    variable.shape = (None if value.handle.grows else value.count, *written[0])
                variable.known = wider = True
                # What this trip gives was computed from a list of another shape.
                continue
            value = arrays.stacked(emitter, value, variable.merge)
        results.append(value)
        shape = _wider(variable.shape, emitter.shape(value), variable.merge)
        if shape != variable.shape:
            variable.shape, wider = shape, True
    for merge, value in fixed.items():
        later = unroller.value(frame.merges[merge][1], trip)
        if isinstance(value, Handle) != isinstance(later, Handle):
            raise Cannot(f"'{merge}' is another list in each trip")
    return results, wider


def _wider(one: Shape, other: Shape, name: str) -> Shape:
    """The shape that both have: an axis on which they differ is open."""
    if one is None or other is None:
        # Where only one is known, the other is so because nothing is known of it.
        return one
    if len(one) != len(other):
        raise Cannot(f"'{name}' has {len(one)} axes in one trip and {len(other)} in the next")
    return tuple(a if a == b else None for a, b in zip(one, other, strict=True))


def _node(
    unroller: Unroller, frame: Frame, scope: Scope, variables: Sequence[_Variable], written: _Written
) -> dict[str, Any]:
    """Put the node in place; returns what its outputs are."""
    import numpy
    import tensorflow as tf
    from tensorflow.core.framework import attr_value_pb2

    emitter, name = scope.emitter, frame.path[-1]
    cond, body = written.cond, written.body
    counter = emitter.constant(numpy.int32(0))
    limit = emitter.constant(numpy.int32(-1))
    references = [counter, limit]
    for variable in variables:
        references.append(
            _dense(emitter, variable.first, variable) if isinstance(variable.first, Array) else variable.first
        )
    taken = list(dict.fromkeys([*body.taken, *cond.taken]))
    for function in (cond, body):
        for reference in taken:
            if reference not in function.taken:
                function.taken[reference] = function.argument(
                    emitter.dtype(reference), emitter.shape(reference)
                )
    one = body.emitter.constant(numpy.int32(1))
    counted = body.emitter.emit("AddV2", "counted", [body.arguments[0], one], T=tf.int32)
    inside = [body.taken[reference] for reference in taken]
    results = [counted, body.arguments[1], *written.results, *inside]
    dtypes = [tf.int32, tf.int32, *(v.dtype for v in variables), *(emitter.dtype(r) for r in taken)]
    shapes = [(), (), *(v.shape for v in variables), *(emitter.shape(r) for r in taken)]
    # A result may be an argument as it came, or one tensor twice: each gets a node of its own.
    results = [
        body.emitter.emit("Identity", "result", [reference], T=dtype)
        for reference, dtype in zip(results, dtypes, strict=True)
    ]
    ended = cond.emitter.emit("Identity", "result", [written.condition], T=tf.bool)
    library = unroller.graph.graph_def.library
    functions = {}
    for role, function, gives in (("cond", cond, [ended]), ("body", body, results)):
        arguments = [*function.arguments, *(function.taken[reference] for reference in taken)]
        graph = function.emitter.graph
        graph.inputs, graph.outputs = arguments, gives
        for rewrite in unroller.inside:
            rewrite(graph)
        gives = graph.outputs
        functions[role] = attr_value_pb2.AttrValue()
        functions[role].func.name = define(library, f"{name}_{role}", graph, arguments, gives)
    stateful = any(_stateful(node) for f in (cond, body) for node in f.emitter.graph.graph_def.node)
    ends = emitter.emit_all(
        "While" if stateful else "StatelessWhile",
        f"{scope.prefix}{name}/while",
        [*references, *taken],
        {
            **functions,
            **_attributes(
                T=dtypes, output_shapes=[tf.TensorShape(s).as_proto() for s in shapes], parallel_iterations=10
            ),
        },
    )
    for end, shape in zip(ends, shapes, strict=True):
        emitter.tensor(end).set_shape(shape)
    return {
        variable.merge: Array(
            variable.first.handle, end, {}, None if variable.first.handle.grows else variable.first.count
        )
        if isinstance(variable.first, Array)
        else end
        for variable, end in zip(variables, ends[2:], strict=False)
    }


def _attributes(**values: Any) -> dict[str, Any]:
    from tensorflow.core.framework import attr_value_pb2

    from edgeconv.surgery.graph import set_attribute

    found = {}
    for key, value in values.items():
        found[key] = attr_value_pb2.AttrValue()
        set_attribute(found[key], value)
    return found


def _stateful(node: Any) -> bool:
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(node.op)
    return definition is None or (definition.is_stateful and node.op != "Placeholder")


def _dense(emitter: Emitter, array: Array, variable: _Variable) -> str:
    """The elements that a list has before the loop, as one tensor; zeros where nothing was written."""
    import numpy
    import tensorflow as tf

    name = variable.merge
    if array.whole or (array.count is not None and array.elements):
        return arrays.stacked(emitter, array, name)
    element = (variable.shape or ())[1:]
    if None in element:
        raise Cannot(
            f"the size of the elements of the list '{array.handle.name}' is open: no loop can begin with it"
        )
    zero = emitter.constant(numpy.zeros((), variable.dtype.as_numpy_dtype))
    size = arrays.expanded(
        emitter, arrays.size(emitter, array, name) if not array.handle.grows else array.handle.size, name
    )
    axis = emitter.constant(numpy.int32(0))
    shape = emitter.emit(
        "ConcatV2", f"{name}/shape", [size, emitter.constant(numpy.asarray(element, numpy.int32)), axis],
        N=2, T=tf.int32, Tidx=tf.int32,
    ) if element else size  # fmt: skip
    whole = emitter.emit("Fill", f"{name}/empty", [shape, zero], T=variable.dtype, index_type=tf.int32)
    for index, value in array.elements.items():
        at = emitter.constant(numpy.int32(index))
        whole = arrays.replaced_row(emitter, whole, at, value, name)
    return whole


def define(library: Any, wished: str, graph: Graph, arguments: Sequence[str], results: Sequence[str]) -> str:
    """Add a function to a ``FunctionDefLibrary``.

    Args:
        library: that is added to.
        wished: its name, of which what a name may not have is left out; made unique.
        graph: the body.
        arguments: names of the placeholders of the body that are its arguments.
        results: references of the body, which it gives.

    Returns:
        Its name.
    """
    taken = {function.signature.name for function in library.function}
    bare = re.sub(r"[^A-Za-z0-9_]+", "_", wished).strip("_") or "function"
    name, number = bare, 1
    while name in taken:
        name, number = f"{bare}_{number}", number + 1
    function = library.function.add()
    function.signature.name = name
    inside: dict[str, str] = {}
    for index, argument in enumerate(arguments):
        inside[argument] = f"argument_{index}"
        entry = function.signature.input_arg.add(name=f"argument_{index}")
        entry.type = graph.nodes[argument].attr["dtype"].type
    emitter = Emitter(graph)
    for index, result in enumerate(results):
        entry = function.signature.output_arg.add(name=f"result_{index}")
        entry.type = emitter.dtype(result).as_datatype_enum
        function.ret[f"result_{index}"] = _inside(graph, result, inside)
    needed = graph.upstream(results)
    for node in graph.graph_def.node:
        if node.name not in needed or node.name in inside:
            continue
        copy = function.node_def.add()
        copy.CopyFrom(node)
        del copy.input[:]
        copy.input.extend(_inside(graph, r, inside) for r in node.input if not r.startswith("^"))
    return name


def _inside(graph: Graph, reference: str, arguments: dict[str, str]) -> str:
    """A reference as the nodes of a function write it: ``node:output:number``."""
    from tensorflow.python.framework import op_def_registry

    name, port = split_reference(reference)
    if name in arguments:
        return arguments[name]
    node, left = graph.nodes[name], port or 0
    definition = op_def_registry.get(node.op)
    defaults = {attribute.name: attribute.default_value for attribute in definition.attr}
    for output in definition.output_arg:
        count = 1
        if output.number_attr:
            count = node.attr.get(output.number_attr, defaults[output.number_attr]).i
        elif output.type_list_attr:
            listed = node.attr.get(output.type_list_attr, defaults[output.type_list_attr]).list
            count = len(listed.type)
        if left < count:
            return f"{name}:{output.name}:{left}"
        left -= count
    raise Cannot(f"'{reference}' is no output of its node")
