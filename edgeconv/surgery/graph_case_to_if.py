"""A choice between many branches becomes choices between two.

before:  i ─▶ StatelessCase(branches a, b, c) ─▶ y
after:   i ─▶ Equal(0) ─▶ StatelessIf(then a, else: i ─▶ Equal(1) ─▶ StatelessIf(then b, else c)) ─▶ y

Neither TFLite nor ONNX has a choice by number. TensorFlow takes the last branch for every number that is
none of a branch; so does the last "else" here. Case becomes If. Nodes inside of functions are rewritten too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgeconv.surgery.changes import Change, places
from edgeconv.surgery.graph import Graph, set_attribute

_NAME = "case_to_if"
_IFS = {"Case": "If", "StatelessCase": "StatelessIf"}
_CALLS = {"Case": "StatefulPartitionedCall", "StatelessCase": "PartitionedCall"}


def rewrite(graph: Graph) -> list[Change]:
    """Replace Case and StatelessCase; a choice that a constant decides is left to ``prune_conditionals``."""
    if not any(
        node.op in _IFS
        for nodes in (graph.graph_def.node, *(f.node_def for f in graph.graph_def.library.function))
        for node in nodes
    ):
        return []
    graph.prune()
    functions = _Functions(graph.graph_def.library)
    count = 0
    for node in [each for each in graph.graph_def.node if each.op in _IFS]:
        _replace(node, functions, lambda name, value: graph.add_constant(name, value), graph.add)
        # Who reads whom is noted where the inputs are set.
        graph.set_inputs(node, list(node.input))
        count += 1
    # A function that is copied may hold a choice itself: the list grows while it is gone through.
    functions_of, done = graph.graph_def.library.function, 0
    while done < len(functions_of):
        function = functions_of[done]
        done += 1
        for node in [each for each in function.node_def if each.op in _IFS]:
            body = _Body(function)
            _replace(node, functions, body.add_constant, body.add)
            count += 1
    graph.prune()
    return [Change(_NAME, f"choices by number became choices between two {places(count)}")] if count else []


class _Functions:
    """The functions of a graph, and new ones."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._names = {function.signature.name: function for function in library.function}

    def add(self, name: str) -> Any:
        """A new empty function; its name made unique."""
        fresh, number = name, 1
        while fresh in self._names:
            fresh, number = f"{name}_{number}", number + 1
        function = self._library.function.add()
        function.signature.name = fresh
        self._names[fresh] = function
        return function

    def with_index(self, name: str) -> str:
        """A copy of a function that takes the number besides, as its last argument, and has no use for it."""
        from tensorflow.core.framework import types_pb2

        function = self.add(f"{name}_with_index")
        fresh = str(function.signature.name)
        function.CopyFrom(self._names[name])
        function.signature.name = fresh
        taken = {each.name for each in function.signature.input_arg} | {n.name for n in function.node_def}
        function.signature.input_arg.add(name=_free("branch_index", taken), type=types_pb2.DT_INT32)
        return fresh


class _Body:
    """The nodes of a function, to which nodes are added as :class:`Graph` does to a graph."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self._taken = {node.name for node in function.node_def}
        self._taken |= {each.name for each in function.signature.input_arg}

    def add(self, op: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node of one output ``z``; returns the reference to it."""
        return self._add(op, name, inputs, "z", attributes)

    def add_constant(self, name: str, value: Any) -> str:
        """Add a constant; returns the reference to it."""
        import tensorflow as tf

        return self._add("Const", name, (), "output", {"dtype": tf.as_dtype(value.dtype), "value": value})

    def _add(self, op: str, name: str, inputs: Sequence[str], output: str, attributes: Any) -> str:
        node = self._function.node_def.add(name=_free(name, self._taken), op=op)
        self._taken.add(node.name)
        node.input.extend(inputs)
        for key, value in attributes.items():
            set_attribute(node.attr[key], value)
        return f"{node.name}:{output}:0"


def _free(name: str, taken: set[str]) -> str:
    fresh, number = name, 1
    while fresh in taken:
        fresh, number = f"{name}_{number}", number + 1
    return fresh


def _replace(
    node: Any,
    functions: _Functions,
    constant: Callable[[str, Any], str],
    add: Callable[..., str],
) -> None:
    """Turn the Case ``node`` into an If, in the place where ``constant`` and ``add`` put nodes."""
    import tensorflow as tf

    branches = [each.name for each in node.attr["branches"].list.func]
    types = tuple([type(node.attr[key])() for key in ("Tin", "Tout", "output_shapes")])
    for copy, key in zip(types, ("Tin", "Tout", "output_shapes"), strict=True):
        copy.CopyFrom(node.attr[key])
    index, *rest = node.input
    choice = _IFS[node.op]
    if len(branches) == 1:
        node.op = _CALLS[node.op]
        _set(node, rest, Tin=types[0], Tout=types[1], f=_function_attribute(types[0], branches[0]))
        return
    data = [each for each in rest if not each.startswith("^")]
    controls = [each for each in rest if each.startswith("^")]
    for number in range(len(branches) - 1):
        following = branches[number + 1 :]
        equal = _equal(node.name, index, number, constant, add)
        node.op = choice
        if len(following) == 1:
            _if(node, [equal, *data, *controls], types, branches[number], following[0])
            return
        inner = functions.add(f"{branches[number]}_or_another")
        type_in = type(types[0])()
        type_in.CopyFrom(types[0])
        # Inside of the chain the number is handed on as the last argument already.
        if number == 0:
            type_in.list.type.append(tf.int32.as_datatype_enum)
            data = [*data, index]
            branches = [functions.with_index(each) for each in branches]
        types = (type_in, *types[1:])
        _if(node, [equal, *data, *controls], types, branches[number], inner.signature.name)
        # What remains is chosen inside of the new function.
        for position, dtype in enumerate(type_in.list.type):
            inner.signature.input_arg.add(name=f"x{position}", type=dtype)
        data, controls = [f"x{position}" for position in range(len(type_in.list.type))], []
        index = data[-1]
        body = _Body(inner)
        constant, add = body.add_constant, body.add
        node = inner.node_def.add(name="choice")
        for position, dtype in enumerate(types[1].list.type):
            inner.signature.output_arg.add(name=f"y{position}", type=dtype)
            inner.ret[f"y{position}"] = f"choice:output:{position}"


def _equal(
    name: str, index: str, number: int, constant: Callable[[str, Any], str], add: Callable[..., str]
) -> str:
    import numpy
    import tensorflow as tf

    value = constant(f"{name}/number", numpy.asarray(number, numpy.int32))
    return add("Equal", f"{name}/is_{number}", (index, value), T=tf.int32, incompatible_shape_error=True)


def _if(node: Any, inputs: Sequence[str], types: Sequence[Any], then: str, otherwise: str) -> None:
    import tensorflow as tf

    type_in, type_out, shapes = types
    _set(
        node,
        inputs,
        Tcond=tf.bool,
        Tin=type_in,
        Tout=type_out,
        output_shapes=shapes,
        then_branch=_function_attribute(type_in, then),
        else_branch=_function_attribute(type_in, otherwise),
    )


def _set(node: Any, inputs: Sequence[str], **attributes: Any) -> None:
    del node.input[:]
    node.input.extend(inputs)
    node.attr.clear()
    for key, value in attributes.items():
        set_attribute(node.attr[key], value)


def _function_attribute(example: Any, name: str) -> Any:
    attribute = type(example)()
    attribute.func.name = name
    return attribute
