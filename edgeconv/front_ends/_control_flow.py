"""Loops and branches of a graph as ``while`` and ``if`` of Python.

Enter ▸ Merge ▸ LoopCond ▸ Switch ▸ … ▸ NextIteration          while True:
                              └▸ Exit                              if not condition: break
While(cond, body), If(then, else)                          ▸       …
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeconv.formats._graph_calls import port_of
from edgeconv.front_ends.generate import HINT, NotSuppliedError, Scope


def _exit(scope: Scope, node: Any) -> None:
    """The whole loop that a node leaves: writes it, and says what all its exits are."""
    switches = _switches(scope, node)
    condition = switches[0].input[1]
    merges = [scope.nodes[scope.resolve(switch.input[0])[0]] for switch in switches]
    inner_names: dict[tuple[str, int], str] = {}
    frame = _frame_of(scope, merges[0])
    for enter in (n for n in scope.nodes.values() if n.op == "Enter" and n.attr["frame_name"].s == frame):
        inner_names[(enter.name, 0)] = scope.value(enter.input[0])
    carried: list[str] = []
    for merge in merges:
        name = scope.writer.name(merge.name)
        scope.say(f"{name} = {inner_names[scope.resolve(merge.input[0])]}")
        inner_names[(merge.name, 0)] = name
        carried.append(name)
    scope.say("while True:")
    inner = Scope(scope.writer, scope.nodes, inner_names, scope.indent + 1, scope.resolve, scope.lines)
    inner.say(f"if not {inner.value(scope.nodes[scope.resolve(condition)[0]].input[0])}:")
    inner.say("    break")
    for switch, name in zip(switches, carried, strict=True):
        inner_names[(switch.name, 1)] = name
    following = [inner.value(scope.nodes[scope.resolve(m.input[1])[0]].input[0]) for m in merges]
    inner.say(f"{', '.join(carried)} = {', '.join(following)}")
    for leaving in (n for n in scope.nodes.values() if n.op in ("Exit", "RefExit")):
        source = scope.resolve(leaving.input[0])
        for switch, name in zip(switches, carried, strict=True):
            if source == (switch.name, 0):
                scope.give(leaving, 0, name)
    if (node.name, 0) not in scope.names:
        raise NotSuppliedError(f"the loop that '{node.name}' leaves has an unusual form", hint=HINT)


def _switches(scope: Scope, leaving: Any) -> list[Any]:
    """The switches of the loop that a node leaves, one for each value that it carries."""
    own = scope.nodes.get(scope.resolve(leaving.input[0])[0])
    if own is None or own.op not in ("Switch", "RefSwitch"):
        raise NotSuppliedError(f"the loop that '{leaving.name}' leaves has an unusual form", hint=HINT)
    condition = scope.resolve(own.input[1])
    found = [
        node
        for node in scope.nodes.values()
        if node.op == "Switch"
        and scope.resolve(node.input[1]) == condition
        and scope.nodes[scope.resolve(node.input[0])[0]].op == "Merge"
    ]
    if scope.nodes[condition[0]].op != "LoopCond" or not found:
        raise NotSuppliedError(f"the branch at '{own.name}' is not known here", hint=HINT)
    return found


def _frame_of(scope: Scope, merge: Any) -> bytes:
    enter = scope.nodes[scope.resolve(merge.input[0])[0]]
    if enter.op != "Enter":
        raise NotSuppliedError(f"the loop at '{merge.name}' has an unusual form", hint=HINT)
    return bytes(enter.attr["frame_name"].s)


def _inside(scope: Scope, function: Any, arguments: list[str], indent: int) -> Scope:
    """A scope for a function's body, whose arguments are expressions."""
    nodes = {node.name: node for node in function.node_def}
    parameters = {argument.name: index for index, argument in enumerate(function.signature.input_arg)}

    def resolve(reference: str) -> tuple[str, int]:
        if reference in parameters:
            return f"\0{reference}", 0
        name, *output = reference.split(":")
        if name not in nodes or len(output) != 2:
            return name, 0
        return name, port_of(nodes[name], output[0], int(output[1]))

    names = {(f"\0{name}", 0): arguments[index] for name, index in parameters.items()}
    return Scope(scope.writer, nodes, names, indent, resolve, scope.lines)


def _function(scope: Scope, node: Any, attribute: str) -> Any:
    name = node.attr[attribute].func.name
    if name not in scope.writer.library:
        raise NotSuppliedError(f"'{node.name}' calls '{name}', which the graph does not have", hint=HINT)
    return scope.writer.library[name]


def _results(inner: Scope, function: Any) -> list[str]:
    return [inner.value(function.ret[output.name]) for output in function.signature.output_arg]


def _while(scope: Scope, node: Any) -> None:
    carried = []
    for index, reference in enumerate(scope.inputs(node)):
        name = scope.writer.name(f"{node.name}_{index}")
        scope.say(f"{name} = {scope.value(reference)}")
        carried.append(name)
    condition, body = _function(scope, node, "cond"), _function(scope, node, "body")
    scope.say("while True:")
    inner = _inside(scope, condition, carried, scope.indent + 1)
    (decides,) = _results(inner, condition)
    inner.say(f"if not {decides}:")
    inner.say("    break")
    following = _results(_inside(scope, body, carried, scope.indent + 1), body)
    inner.say(f"{', '.join(carried)} = {', '.join(following)}")
    for port, name in enumerate(carried):
        scope.give(node, port, name)


def _if(scope: Scope, node: Any) -> None:
    condition, *arguments = [scope.value(reference) for reference in scope.inputs(node)]
    branches = [_function(scope, node, name) for name in ("then_branch", "else_branch")]
    outputs = [
        scope.writer.name(f"{node.name}_{port}") for port in range(len(branches[0].signature.output_arg))
    ]
    scope.say(f"if {condition}:")
    for index, branch in enumerate(branches):
        if index:
            scope.say("else:")
        inner = _inside(scope, branch, arguments, scope.indent + 1)
        results = _results(inner, branch)
        inner.say(f"{', '.join(outputs)} = {', '.join(results)}" if outputs else "pass")
    for port, name in enumerate(outputs):
        scope.give(node, port, name)


def _call(scope: Scope, node: Any) -> None:
    function = _function(scope, node, "f")
    inner = _inside(scope, function, [scope.value(r) for r in scope.inputs(node)], scope.indent)
    for port, result in enumerate(_results(inner, function)):
        scope.give(node, port, result)


CONTROL_FLOW: dict[str, Callable[[Scope, Any], None]] = {
    "Exit": _exit,
    "RefExit": _exit,
    "While": _while,
    "StatelessWhile": _while,
    "If": _if,
    "StatelessIf": _if,
    "PartitionedCall": _call,
    "StatefulPartitionedCall": _call,
}
