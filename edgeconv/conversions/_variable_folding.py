"""Variables to constants in a GraphDef whose calls are inlined, through loops, branches and functions.

before:  VarHandleOp ─resource─▶ While(T=[resource]) … body: ReadVariableOp(arg) ─▶ MatMul
after:   Const ─float─▶ While(T=[float]) … body: Identity(arg) ─▶ MatMul

The change is one of types: what flowed as a handle flows as the value. So a wave of "this endpoint now
carries a value of that dtype" goes through the graph, and every op that it meets is replaced by the op
that does the same to a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeconv.errors import ConversionError
from edgeconv.formats.graph_reading import split_reference
from edgeconv.surgery.graph_editing import BRANCHES, CALLS, LOOPS

VARIABLE_OPS = ("VarHandleOp", "VariableV2", "Variable")
_PASSING = {
    "Identity": 1, "StopGradient": 1, "Enter": 1, "Exit": 1, "NextIteration": 1, "Switch": 2, "Merge": 1,
    "RefEnter": 1, "RefExit": 1, "RefNextIteration": 1, "RefSwitch": 2, "RefMerge": 1, "RefIdentity": 1,
}  # fmt: skip
_SIMPLE = {"ReadVariableOp": "Identity", "ResourceGather": "GatherV2", "ResourceGatherNd": "GatherNd",
           "VariableShape": "Shape"}  # fmt: skip
_VALUELESS = ("DisableCopyOnRead", "VarIsInitializedOp", "DestroyResourceOp")
_REFERENCE = 100  # DT_FLOAT_REF is DT_FLOAT + 100, and so on


@dataclass(slots=True)
class _Scope:
    """A graph or the body of a function while handles become values.

    ``carried`` maps endpoints (``node:port`` in a graph, ``node:output_name:index`` or an argument in a
    function) to the dtype enum of the value that they now carry.
    """

    nodes: Any
    name: str
    carried: dict[str, int] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    in_function: bool = False


def fold_variables(graph_def: Any, path: str) -> list[Any]:
    """Turn the variables of ``graph_def`` into Const nodes without values, in place.

    Args:
        graph_def: inlined, pruned to what inference needs.
        path: for errors.

    Returns:
        Copies of the NodeDefs of the variables as they were.

    Raises:
        ConversionError: an op changes a variable, or uses one in a way that a constant has not; names it.
    """
    from tensorflow.core.framework import node_def_pb2

    functions = {function.signature.name: function for function in graph_def.library.function}
    scope = _Scope(graph_def.node, "")
    variables = []
    for node in graph_def.node:
        if node.op in VARIABLE_OPS:
            kept = node_def_pb2.NodeDef()
            kept.CopyFrom(node)
            variables.append(kept)
            scope.carried[f"{node.name}:0"] = node.attr["dtype"].type % _REFERENCE
    _strip_references(graph_def)
    _fold(scope, functions, path)
    for variable in variables:
        dtype = variable.attr["dtype"].type % _REFERENCE
        for node in graph_def.node:
            if node.name == variable.name:
                node.Clear()
                node.name, node.op = variable.name, "Const"
                node.attr["dtype"].type = dtype
                break
    _finish(graph_def, scope)
    return variables


def _strip_references(graph_def: Any) -> None:
    for node in graph_def.node:
        for value in node.attr.values():
            if value.HasField("type") and value.type > _REFERENCE:
                value.type %= _REFERENCE
        if node.op.startswith("Ref") and node.op in _PASSING:
            node.op = node.op[3:]


def _fold(scope: _Scope, functions: dict[str, Any], path: str) -> None:
    consumers: dict[str, list[Any]] = {}
    for node in scope.nodes:
        for reference in node.input:
            if not reference.startswith("^"):
                consumers.setdefault(_endpoint(reference, scope), []).append(node)
    wave = list(scope.carried)
    done: set[tuple[str, str]] = set()
    while wave:
        endpoint = wave.pop()
        for node in consumers.get(endpoint, ()):
            if (endpoint, node.name) in done:
                continue
            done.add((endpoint, node.name))
            for fresh, dtype in _carry(node, endpoint, scope, functions, path):
                if fresh not in scope.carried:
                    scope.carried[fresh] = dtype
                    wave.append(fresh)


def _carry(
    node: Any, endpoint: str, scope: _Scope, functions: dict[str, Any], path: str
) -> list[tuple[str, int]]:
    """Make ``node`` take a value at ``endpoint``; gives the endpoints that carry values because of it."""
    dtype = scope.carried[endpoint]
    positions = [
        i for i, r in enumerate(node.input) if not r.startswith("^") and _endpoint(r, scope) == endpoint
    ]
    if node.op in _SIMPLE:
        _replace_read(node, dtype, scope)
        return []
    if node.op in _VALUELESS:
        scope.removed.add(node.name)
        return []
    if node.op in _PASSING:
        node.attr["T"].type = dtype
        return [(_output(node, port, scope), dtype) for port in range(_PASSING[node.op])]
    if node.op == "IdentityN":
        for position in positions:
            node.attr["T"].list.type[position] = dtype
        return [(_output(node, position, scope), dtype) for position in positions]
    if node.op in LOOPS:
        for position in positions:
            node.attr["T"].list.type[position] = dtype
        for attribute in ("cond", "body"):
            _enter_function(node.attr[attribute].func.name, dict.fromkeys(positions, dtype), functions, path)
        return [(_output(node, position, scope), dtype) for position in positions]
    if node.op in BRANCHES or node.op in CALLS:
        return _carry_call(node, positions, dtype, scope, functions, path)
    if not _takes_handle(node):
        return []  # the op takes the value of a TF1 variable anyway
    raise _refused(node, scope, path)


def _carry_call(
    node: Any, positions: list[int], dtype: int, scope: _Scope, functions: dict[str, Any], path: str
) -> list[tuple[str, int]]:
    first = 1 if node.op in BRANCHES else 0
    arguments = {position - first: dtype for position in positions if position >= first}
    for argument in arguments:
        node.attr["Tin"].list.type[argument] = dtype
    names = [f.name for value in node.attr.values() for f in (value.list.func or [value.func]) if f.name]
    results: dict[int, int] = {}
    for name in names:
        results.update(_enter_function(name, arguments, functions, path))
    for port, result in results.items():
        node.attr["Tout"].list.type[port] = result
    return [(_output(node, port, scope), result) for port, result in results.items()]


def _enter_function(
    name: str, arguments: Mapping[int, int], functions: dict[str, Any], path: str
) -> dict[int, int]:
    """Make a function take values for ``arguments``; gives the results that are values because of it."""
    function = functions[name]
    scope = _Scope(function.node_def, name, in_function=True)
    for position, dtype in arguments.items():
        argument = function.signature.input_arg[position]
        argument.type = dtype
        argument.ClearField("handle_data")
        scope.carried[argument.name] = dtype
        if position in function.arg_attr:
            del function.arg_attr[position]
        if position in function.resource_arg_unique_id:
            del function.resource_arg_unique_id[position]
    _fold(scope, functions, path)
    _finish(function, scope)
    results = {}
    for port, output in enumerate(function.signature.output_arg):
        source = function.ret[output.name]
        function.ret[output.name] = scope.renamed.get(source, source)
        if source in scope.carried:
            output.type = scope.carried[source]
            output.ClearField("handle_data")
            results[port] = scope.carried[source]
    return results


def _replace_read(node: Any, dtype: int, scope: _Scope) -> None:
    from tensorflow.core.framework import types_pb2

    old = node.op
    output_dtype = node.attr["out_type"].type if "out_type" in node.attr else types_pb2.DT_INT32
    indices = node.attr["Tindices"].type
    batch = node.attr["batch_dims"].i
    node.op = _SIMPLE[old]
    node.attr.clear()
    if old == "ReadVariableOp":
        node.attr["T"].type = dtype
        if scope.in_function:
            scope.renamed[f"{node.name}:value:0"] = f"{node.name}:output:0"
    elif old == "VariableShape":
        node.attr["T"].type = dtype
        node.attr["out_type"].type = output_dtype
    else:
        node.attr["Tparams"].type = dtype
        node.attr["Tindices"].type = indices
    if old == "ResourceGather":
        node.attr["batch_dims"].i = batch
        node.attr["Taxis"].type = types_pb2.DT_INT32
        axis = scope.nodes.add(name=f"{node.name}/axis", op="Const")
        axis.attr["dtype"].type = types_pb2.DT_INT32
        axis.attr["value"].tensor.dtype = types_pb2.DT_INT32
        axis.attr["value"].tensor.tensor_shape.SetInParent()
        axis.attr["value"].tensor.int_val.append(batch)
        # A constant without inputs lies outside of the loop that its consumer may be in; this ties it there.
        producer = _producer(node.input[1])
        if not (scope.in_function and ":" not in node.input[1]):
            axis.input.append(f"^{producer}")
        control = [reference for reference in node.input if reference.startswith("^")]
        data = [reference for reference in node.input if not reference.startswith("^")]
        del node.input[:]
        node.input.extend([*data, f"{axis.name}:output:0" if scope.in_function else axis.name, *control])


def _finish(holder: Any, scope: _Scope) -> None:
    """Drop the nodes that have nothing left to do, and follow renamed endpoints."""
    nodes = scope.nodes
    if scope.removed:
        kept = [node for node in nodes if node.name not in scope.removed]
        copies = [type(node).FromString(node.SerializeToString()) for node in kept]
        del nodes[:]
        nodes.extend(copies)
    for node in nodes:
        inputs = [
            scope.renamed.get(reference, reference)
            for reference in node.input
            if not (reference.startswith("^") and reference[1:] in scope.removed)
        ]
        if inputs != list(node.input):
            del node.input[:]
            node.input.extend(inputs)
    if scope.in_function and scope.removed:
        for key in [k for k, v in holder.control_ret.items() if v in scope.removed]:
            del holder.control_ret[key]
        names = set(holder.control_ret)
        outputs = [name for name in holder.signature.control_output if name in names]
        del holder.signature.control_output[:]
        holder.signature.control_output.extend(outputs)


def _endpoint(reference: str, scope: _Scope) -> str:
    if scope.in_function:
        return reference
    name, port = split_reference(reference)
    return f"{name}:{port}"


def _output(node: Any, port: int, scope: _Scope) -> str:
    if not scope.in_function:
        return f"{node.name}:{port}"
    if node.op == "Switch":
        return f"{node.name}:output_{'true' if port else 'false'}:0"
    return f"{node.name}:output:{port}"


def _producer(reference: str) -> str:
    return reference.split(":")[0].lstrip("^")


def _takes_handle(node: Any) -> bool:
    from tensorflow.core.framework import types_pb2
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(node.op)
    if definition is None:
        return True
    return any(argument.type == types_pb2.DT_RESOURCE or argument.is_ref for argument in definition.input_arg)


def _refused(node: Any, scope: _Scope, path: str) -> ConversionError:
    place = f" in the function '{scope.name}'" if scope.in_function else ""
    return ConversionError(
        f"the op {node.op} ('{node.name}'){place} changes a variable while the model runs",
        where=path,
        why="a frozen graph has constants only, so a model with state of its own cannot be frozen as it is",
        hint="export it with the state as inputs and outputs (a stateful RNN with stateful=False), "
        "or in inference mode if this is part of training",
    )
