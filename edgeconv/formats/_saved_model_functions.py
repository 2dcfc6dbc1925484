"""Functions of a SavedModel without signatures, as signatures of its graph.

``tf.saved_model.save`` of a module whose functions state no shapes writes no signature, as many modules of
TensorFlow Hub have it: what can be called are the traces of its functions, which the graph does not call.

Before::

    signature_def {}      object graph: root.__call__ = [trace (x: ?×2, training=False), trace (x: 1×2, True)]

After::

    signature_def {"__call__": x -> y}      __call___x (Placeholder) ─▶ __call__ (StatefulPartitionedCall)

Of the traces of one function that is taken which is for inference, and of these the one that takes most.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

MADE = "edgeconv/function"
"""``method_name`` of the signatures made here, by which they are known: no file has them."""
_HIDDEN = ("__saved_model_init_op", "__saved_model_train_op")
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_OF_KERAS = "_default_save_signature"
_DOUBLED = ("call_and_return_conditional_losses", "call_and_return_all_conditional_losses")
"""What Keras stores beside ``__call__``, with the losses of training."""


@dataclass(frozen=True, slots=True)
class _Trace:
    name: str
    function: str
    inputs: tuple[tuple[str, Any], ...]
    outputs: tuple[tuple[str, Any], ...]
    training: bool
    bound: tuple[int, ...]

    def takes_all_of(self, other: _Trace) -> bool:
        """Whether it takes whatever the other takes."""
        return len(self.inputs) == len(other.inputs) and all(
            mine.dtype == theirs.dtype and _covers(mine.shape, theirs.shape)
            for (_, mine), (_, theirs) in zip(self.inputs, other.inputs, strict=True)
        )


def add_function_signatures(meta_graph: Any) -> tuple[str, ...]:
    """Give a ``MetaGraphDef`` without signatures one for each function that the model's root has.

    Functions that need what the graph does not have (tables, states of other objects) are left out.

    Returns:
        The names of the signatures; empty where the graph has signatures, or no function.
    """
    if any(value.outputs for name, value in meta_graph.signature_def.items() if name not in _HIDDEN):
        return ()
    if not meta_graph.object_graph_def.nodes:
        return ()
    for key in [k for k in meta_graph.signature_def if k not in _HIDDEN]:
        del meta_graph.signature_def[key]
    handles = _handles(meta_graph)
    added = []
    for trace in _chosen(meta_graph.object_graph_def):
        captured = [handles.get(number) for number in trace.bound]
        if None not in captured:
            _add(meta_graph, trace, [name for name in captured if name is not None])
            added.append(trace.name)
    return tuple(added)


def _chosen(objects: Any) -> list[_Trace]:
    """The trace to offer of each function of the root."""
    functions: dict[str, list[_Trace]] = {}
    for child in objects.nodes[0].children:
        if not 0 <= child.node_id < len(objects.nodes):
            continue
        node = objects.nodes[child.node_id]
        name = child.local_name
        if node.WhichOneof("kind") != "function" or name in _DOUBLED:
            continue
        if name.startswith("_") and name not in ("__call__", _OF_KERAS):
            continue
        for concrete in node.function.concrete_functions:
            trace = _trace(name, concrete, objects.concrete_functions[concrete])
            if trace is not None:
                functions.setdefault(name, []).append(trace)
    if _OF_KERAS in functions:
        functions = {_OF_KERAS: functions[_OF_KERAS]}
    offered = []
    for name, traces in functions.items():
        inference = [trace for trace in traces if not trace.training] or traces
        widest = [t for t in inference if all(t.takes_all_of(other) for other in inference)]
        if widest:
            offered.append(widest[0])
            continue
        # None takes all: each is offered under a name of its own.
        offered += [
            _Trace(f"{name}_{n}", t.function, t.inputs, t.outputs, t.training, t.bound)
            for n, t in enumerate(inference)
        ]
    return offered


def _trace(name: str, concrete: str, function: Any) -> _Trace | None:
    """What a concrete function takes and gives; ``None`` where that is more than plain tensors."""
    inputs = list(_leaves(function.canonicalized_input_signature, ""))
    outputs = list(_leaves(function.output_signature, ""))
    if any(kind == "other" for _, kind, _ in (*inputs, *outputs)):
        return None
    takes = [(key or spec.name, spec) for key, kind, spec in inputs if kind == "tensor"]
    gives = [(key or f"output_{n}", spec) for n, (key, kind, spec) in enumerate(outputs) if kind == "tensor"]
    if not gives or len(gives) != len(outputs):
        return None
    training = any(kind == "constant" and value is True for _, kind, value in inputs)
    return _Trace(
        name,
        concrete,
        _unique([(spec.name or key, spec) for key, spec in takes], "input"),
        _unique(gives, "output"),
        training,
        tuple(function.bound_inputs),
    )


def _unique(named: Sequence[tuple[str, Any]], kind: str) -> tuple[tuple[str, Any], ...]:
    taken: dict[str, Any] = {}
    for number, (name, spec) in enumerate(named):
        taken[name if name and name not in taken else f"{kind}_{number}"] = spec
    return tuple(taken.items())


def _leaves(value: Any, key: str) -> Iterator[tuple[str, str, Any]]:
    """``(key, kind, value)`` of the leaves of a ``StructuredValue``, in the order they are passed."""
    kind = value.WhichOneof("kind")
    if kind in ("tensor_spec_value", "bounded_tensor_spec_value"):
        yield key, "tensor", getattr(value, kind)
    elif kind in ("tuple_value", "list_value"):
        for inner in getattr(value, kind).values:
            yield from _leaves(inner, "")
    elif kind == "dict_value":
        for name in sorted(value.dict_value.fields):
            yield from _leaves(value.dict_value.fields[name], name)
    elif kind == "named_tuple_value":
        for pair in value.named_tuple_value.values:
            yield from _leaves(pair.value, pair.key)
    elif kind in ("type_spec_value",):
        yield key, "other", None
    else:
        yield key, "constant", getattr(value, kind) if kind == "bool_value" else None


def _handles(meta_graph: Any) -> dict[int, str]:
    """Object number to the node of the graph that stands for it: variables, and constants.

    The graph has a handle for every variable, but names do not tell which, as many share one. What tells is
    the restoring: it gives the stored value of a key to a handle, and the key is the path of the object.
    """
    graph = meta_graph.graph_def
    names = {node.name for node in graph.node}
    by_key = _restored(meta_graph)
    objects = meta_graph.object_graph_def.nodes
    found: dict[int, str] = {}
    for number, path in _paths(objects).items():
        kind = objects[number].WhichOneof("kind")
        if kind == "constant" and objects[number].constant.operation in names:
            found[number] = objects[number].constant.operation
        elif kind == "variable" and f"{path}{_VALUE}" in by_key:
            found[number] = by_key[f"{path}{_VALUE}"]
    return found


def _paths(objects: Any) -> dict[int, str]:
    """Object number to its shortest path from the root, which is the beginning of its key."""
    paths, queue = {0: ""}, deque([0])
    while queue:
        number = queue.popleft()
        for child in objects[number].children:
            if child.node_id in paths or not 0 <= child.node_id < len(objects):
                continue
            escaped = child.local_name.replace(".", "..").replace("/", ".S")
            paths[child.node_id] = f"{paths[number]}/{escaped}" if paths[number] else escaped
            queue.append(child.node_id)
    return paths


def _restored(meta_graph: Any) -> dict[str, str]:
    """Key in the checkpoint to the handle that the restoring function gives its value to."""
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    call = nodes.get(meta_graph.saver_def.restore_op_name)
    functions = {f.signature.name: f for f in meta_graph.graph_def.library.function}
    function = functions.get(call.attr["f"].func.name) if call is not None else None
    if call is None or function is None:
        return {}
    given = dict(zip((arg.name for arg in function.signature.input_arg), call.input, strict=False))
    body = {node.name: node for node in function.node_def}
    found: dict[str, str] = {}
    for node in function.node_def:
        if node.op != "AssignVariableOp" or len(node.input) < 2:
            continue
        source, _, port = node.input[1].partition(":")
        for _ in range(8):
            if source not in body or body[source].op != "Identity":
                break
            source, _, port = body[source].input[0].partition(":")
        restore = body.get(source)
        if restore is None or restore.op != "RestoreV2" or node.input[0] not in given:
            continue
        keys = body[restore.input[1].partition(":")[0]].attr["value"].tensor.string_val
        index = int(port.rpartition(":")[2] or 0)
        if index < len(keys):
            found[keys[index].decode("utf-8", errors="replace")] = given[node.input[0]]
    return found


def _add(meta_graph: Any, trace: _Trace, captured: Sequence[str]) -> None:
    graph = meta_graph.graph_def
    names = {node.name for node in graph.node}
    by_name = {node.name: node for node in graph.node}
    signature = meta_graph.signature_def[trace.name]
    signature.method_name = MADE
    call = graph.node.add(name=_free(_identifier(trace.name), names), op="StatefulPartitionedCall")
    names.add(call.name)
    types = []
    for key, spec in trace.inputs:
        placeholder = graph.node.add(name=_free(_identifier(f"{trace.name}_{key}"), names), op="Placeholder")
        names.add(placeholder.name)
        placeholder.attr["dtype"].type = spec.dtype
        placeholder.attr["shape"].shape.CopyFrom(spec.shape)
        info = signature.inputs[key]
        info.name, info.dtype = f"{placeholder.name}:0", spec.dtype
        info.tensor_shape.CopyFrom(spec.shape)
        call.input.append(placeholder.name)
        types.append(spec.dtype)
    for name in captured:
        call.input.append(name)
        node = by_name[name]
        types.append(node.attr["dtype"].type if node.op == "Const" else _RESOURCE)
    call.attr["f"].func.name = trace.function
    call.attr["Tin"].list.type.extend(types)
    call.attr["Tout"].list.type.extend(spec.dtype for _, spec in trace.outputs)
    for number, (key, spec) in enumerate(trace.outputs):
        info = signature.outputs[key]
        info.name, info.dtype = f"{call.name}:{number}", spec.dtype
        info.tensor_shape.CopyFrom(spec.shape)


_RESOURCE = 20
"""``DT_RESOURCE``."""


def _covers(mine: Any, theirs: Any) -> bool:
    if mine.unknown_rank:
        return True
    if theirs.unknown_rank or len(mine.dim) != len(theirs.dim):
        return False
    return all(m.size == -1 or m.size == t.size for m, t in zip(mine.dim, theirs.dim, strict=True))


def _identifier(text: str) -> str:
    clean = re.sub(r"[^A-Za-z0-9_.]", "_", text)
    return clean if re.match(r"[A-Za-z0-9.]", clean) else f"f{clean}"


def _free(name: str, taken: set[str]) -> str:
    fresh, number = name, 1
    while fresh in taken:
        fresh, number = f"{name}_{number}", number + 1
    return fresh


REBOUND = "edgeconv/rebound"
"""Collection of the calls that :func:`bind_variables` changed; no file has it."""


def bind_variables(meta_graph: Any) -> int:
    """Let calls of functions take the variables that the restoring gives the stored values to.

    ``tf.saved_model.save`` of a model of Keras 3 writes two handles for each variable: one is restored, and
    the signatures take the other, which TensorFlow 1's loader leaves without a value. The objects tell what
    belongs together: which of them a function captured, and the key that each is stored under.

    Before::

        restore ─▶ Variable_3        signature ◀─ net/kernel

    After::

        restore ─▶ Variable_3 ─▶ signature

    Returns:
        How many captured variables were changed.
    """
    objects = meta_graph.object_graph_def
    calls = [
        node
        for node in meta_graph.graph_def.node
        if node.op in ("PartitionedCall", "StatefulPartitionedCall")
        and node.attr["f"].func.name in objects.concrete_functions
    ]
    if not calls:
        return 0
    handles = _handles(meta_graph)
    restored = set(handles.values())
    variables = {node.name for node in meta_graph.graph_def.node if node.op == "VarHandleOp"}
    changed = 0
    for call in calls:
        bound = objects.concrete_functions[call.attr["f"].func.name].bound_inputs
        first = sum(not each.startswith("^") for each in call.input) - len(bound)
        for index, number in enumerate(bound, first):
            handle = handles.get(number)
            if first < 0 or handle is None or call.input[index] not in variables - restored:
                continue
            call.input[index] = handle
            changed += 1
            meta_graph.collection_def[REBOUND].node_list.value.append(call.name)
    return changed
