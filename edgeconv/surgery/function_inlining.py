"""The body of a function in the place of the node that calls it.

before:  x ─▶ If('cond', then_branch=f) ─▶ y          f(a): Relu(a)
after:   x ─▶ cond/Relu ─▶ Identity('cond') ─▶ y
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeconv.errors import ConversionError
from edgeconv.formats.graph_reading import split_reference
from edgeconv.surgery.graph import Graph
from edgeconv.surgery.graph_editing import CALLS


def inline_call(graph: Graph, node: Any, function: str, arguments: Sequence[str]) -> None:
    """Put the body of ``function`` in the place of ``node``, and the bodies of the functions it calls.

    Side effects that the body has beside its outputs are not kept alive.

    Args:
        node: NodeDef whose outputs are those of the function; becomes an Identity or IdentityN of them.
        function: name in the graph's library.
        arguments: references for the function's arguments.

    Raises:
        ConversionError: the library has no such function.
    """
    body = next((f for f in graph.graph_def.library.function if f.signature.name == function), None)
    if body is None:
        raise ConversionError(
            f"'{node.name}' ({node.op}) calls the function {function}, which the graph does not have",
            where=graph.path,
        )
    prefix = node.name
    inner = {each.name: graph.unique(f"{prefix}/{each.name}") for each in body.node_def}
    outer = dict(zip((a.name for a in body.signature.input_arg), arguments, strict=True))
    definitions = {each.name: each for each in body.node_def}
    library = {each.signature.name: each.signature for each in graph.graph_def.library.function}

    def translated(reference: str) -> str:
        if reference.startswith("^"):
            name = reference[1:]
            return f"^{inner[name]}" if name in inner else f"^{split_reference(outer[name])[0]}"
        name, _, rest = reference.partition(":")
        if name in outer:
            return str(outer[name])
        output, _, index = rest.partition(":")
        port = _flat_port(definitions[name], output, int(index or 0), library)
        return f"{inner[name]}:{port}" if port else inner[name]

    made = []
    controls = [each for each in node.input if each.startswith("^")]
    for each in body.node_def:
        inputs = [translated(reference) for reference in each.input]
        if not inputs:
            inputs = list(controls)
        graph.add(each.op, inner[each.name], inputs, **dict(each.attr.items()))
        made.append(inner[each.name])
    results = [translated(body.ret[output.name]) for output in body.signature.output_arg]
    types = [_type_of(output, node, index) for index, output in enumerate(body.signature.output_arg)]
    if len(results) == 1:
        graph.become(node, "Identity", [*results, *controls], T=types[0])
    else:
        graph.become(node, "IdentityN", [*results, *controls])
        node.attr["T"].list.type.extend(value.type for value in types)
    for name in made:
        call = graph.nodes[name]
        if call.op in CALLS:
            inline_call(graph, call, call.attr["f"].func.name, graph.data_inputs(call))


def _type_of(output: Any, node: Any, index: int) -> Any:
    from tensorflow.core.framework import attr_value_pb2

    stated = node.attr["Tout"].list.type if "Tout" in node.attr else ()
    return attr_value_pb2.AttrValue(type=stated[index] if len(stated) > index else output.type)


def _flat_port(node: Any, output: str, index: int, library: dict[str, Any]) -> int:
    """Number of the output ``output:index`` of a node in a function, as main graphs count outputs."""
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(node.op) or library.get(node.op)
    position = 0
    for argument in definition.output_arg if definition is not None else ():
        if argument.name == output:
            return position + index
        if argument.number_attr:
            position += int(node.attr[argument.number_attr].i)
        elif argument.type_list_attr:
            position += len(node.attr[argument.type_list_attr].list.type)
        else:
            position += 1
    return index
