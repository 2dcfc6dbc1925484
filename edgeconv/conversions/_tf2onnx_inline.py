"""Function calls out of a GraphDef: each call is replaced by the nodes of the function's body.

Before::

    x ─▶ StatefulPartitionedCall(f=body) ─▶ y

After::

    x ─▶ call/conv ─▶ call/relu ─▶ IdentityN ─▶ y

tf2onnx leaves a call that its own grappler pass did not inline (a function marked ``_noinline``, or
compiled by XLA) as an op of that name in the ONNX file, which no runtime takes.
"""

from __future__ import annotations

from typing import Any

from edgeconv.errors import ConversionError

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_MAXIMUM_DEPTH = 64


def inline_calls(graph: Any) -> int:
    """Inline every function call at the top level of ``graph`` (a GraphDef), in place, nested ones too.

    Bodies of control flow (``While``, ``If``) stay functions; calls inside them are inlined as well.

    Returns:
        How many calls were inlined.

    Raises:
        ConversionError: a function calls itself, or is not in the library.
    """
    library = {function.signature.name: function for function in graph.library.function}
    if not library:
        return 0
    inlined = 0
    for _ in range(_MAXIMUM_DEPTH):
        calls = [node for node in graph.node if _callee(node, library) is not None]
        if not calls:
            return inlined
        inlined += len(calls)
        _inline_once(graph, library)
    raise ConversionError(
        "function calls are nested without end",
        where=calls[0].name,
        why=f"'{_callee(calls[0], library)}' calls itself, directly or through others",
        hint="cut the recursive part out with '--outputs TENSOR' before it",
    )


def _callee(node: Any, library: dict[str, Any]) -> str | None:
    if node.op in _CALLS:
        name = str(node.attr["f"].func.name)
        if name not in library:
            raise ConversionError(
                f"the function '{name}' is called but is not in the graph",
                where=node.name,
                hint="export the model again; its function library was lost",
            )
        return name
    return node.op if node.op in library else None


def _inline_once(graph: Any, library: dict[str, Any]) -> None:
    kept: list[Any] = []
    for node in graph.node:
        name = _callee(node, library)
        if name is None:
            kept.append(node)
            continue
        nodes, outputs = _body(node, library[name])
        kept.extend(nodes)
        if outputs:
            kept.append(_joint(node, outputs, library[name]))
    copies = [type(node).FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(copies)


def _joint(call: Any, outputs: list[str], function: Any) -> Any:
    """A node of the call's name with the call's outputs, for whoever names them (a contract, say)."""
    joint = type(call)(name=call.name, op="IdentityN", input=outputs)
    types = joint.attr["T"].list.type
    for index, argument in enumerate(function.signature.output_arg):
        given = call.attr["Tout"].list.type
        types.append(given[index] if index < len(given) else argument.type)
    return joint


def _body(call: Any, function: Any) -> tuple[list[Any], list[str]]:
    """The nodes of one call, renamed under the call's name, and the tensors that it returns."""
    from tensorflow.python.framework import function_def_to_graph

    body, flat = function_def_to_graph.function_def_to_graph_def(function)
    arguments = [argument.name for argument in function.signature.input_arg]
    given = [name for name in call.input if not name.startswith("^")]
    feeds: dict[str, str] = dict(zip(arguments, given, strict=True))

    def outside(name: str) -> str:
        if name.startswith("^"):
            inner = name[1:]
            return f"^{feeds[inner].split(':')[0]}" if inner in feeds else f"^{call.name}/{inner}"
        inner, _, _ = name.partition(":")
        return feeds.get(inner, f"{call.name}/{name}")

    nodes = []
    for node in body.node:
        if node.name in feeds:
            continue
        node.name = f"{call.name}/{node.name}"
        inputs = [outside(name) for name in node.input]
        del node.input[:]
        node.input.extend(inputs)
        nodes.append(node)
    outputs = [
        outside(flat.get(function.ret[a.name], function.ret[a.name])) for a in function.signature.output_arg
    ]
    return nodes, outputs
