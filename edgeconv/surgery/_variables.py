"""Variables of a graph: whose value a tensor is, how to read one, what updates it with what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edgeconv.formats.graph_reading import split_reference
from edgeconv.surgery.graph import Graph, short

VARIABLES = frozenset({"Variable", "VariableV2", "VarHandleOp"})
WRITES = frozenset(
    {"Assign", "AssignAdd", "AssignSub", "AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"}
)
_HANDING_ON = frozenset(
    {"Identity", "ReadVariableOp", "StopGradient", "Snapshot", "RefIdentity", "Enter", "RefEnter", "Switch"}
    | {"RefSwitch", "Cast"}
)
_ARITHMETIC = frozenset(
    {
        "Identity",
        "Snapshot",
        "StopGradient",
        "PreventGradient",
        "EnsureShape",
        "CheckNumerics",
        "Print",
        "Cast",
    }
    | {"Add", "AddV2", "AddN", "Sub", "Mul", "RealDiv", "Div", "DivNoNan", "Squeeze", "Reshape", "ExpandDims"}
    | {"Select", "SelectV2", "Switch", "Merge", "Enter", "Exit", "Neg"}
)


@dataclass(frozen=True, slots=True)
class Write:
    """An update of a variable.

    Attributes:
        variable: name of its node.
        node: NodeDef of the op that writes.
    """

    variable: str
    node: Any


def variable_of(graph: Graph, reference: str) -> str | None:
    """Name of the variable whose value (or handle) a reference is; ``None`` if it is none's."""
    seen: set[str] = set()
    while (node := graph.node(reference)) is not None and node.name not in seen:
        seen.add(node.name)
        if node.op in VARIABLES:
            return str(node.name)
        if node.op not in _HANDING_ON or not graph.data_inputs(node):
            return None
        reference = graph.data_inputs(node)[0]
    return None


def shape_of(node: Any) -> tuple[int, ...] | None:
    """The shape that a variable's or constant's NodeDef states; ``None`` if it is not known whole."""
    # Asking a NodeDef for an attribute that it lacks gives it an empty one, which nothing can read.
    if node.op == "Const":
        stored = "value" in node.attr
        return tuple(dim.size for dim in node.attr["value"].tensor.tensor_shape.dim) if stored else None
    return stated_sizes(node) if all(size >= 0 for size in stated_sizes(node) or ()) else None


def stated_sizes(node: Any) -> tuple[int, ...] | None:
    """What the attribute ``shape`` says, -1 for an open size; ``None`` for nothing or an unknown rank."""
    if "shape" not in node.attr or node.attr["shape"].shape.unknown_rank:
        return None
    return tuple(dim.size for dim in node.attr["shape"].shape.dim)


def read(graph: Graph, variable: str) -> str:
    """A reference to the value of a variable, which is read without waiting for anything.

    One that the graph has is used where there is one, so that the source has it as well.
    """
    node = graph.nodes[variable]
    wanted = "ReadVariableOp" if node.op == "VarHandleOp" else "Identity"
    reads = sorted(
        (
            reader.name
            for reader in graph.readers(variable)
            if reader.op == wanted and list(map(short, reader.input)) == [variable]
        ),
        key=lambda name: (not name.startswith(f"{variable}/"), len(name), name),
    )
    if reads:
        return str(reads[0])
    if wanted == "Identity":
        return variable
    return graph.add(
        "ReadVariableOp", f"{variable}/Read/ReadVariableOp", [variable], dtype=node.attr["dtype"]
    )


def writes_fed_by(graph: Graph, references: Iterable[str]) -> list[Write]:
    """The updates of variables to which the values of ``references`` flow by plain arithmetic.

    Nearest first; each write once.
    """
    found: dict[str, Write] = {}
    todo = [short(reference) for reference in references]
    seen = set(todo)
    while todo:
        wave, todo = todo, []
        for reference in wave:
            for reader, index in graph.readers_of(reference):
                if reader.op in WRITES:
                    variable = variable_of(graph, reader.input[0])
                    if index == 1 and variable is not None:
                        found.setdefault(reader.name, Write(variable, reader))
                    continue
                for onward in _outputs(reader, index):
                    if onward not in seen:
                        seen.add(onward)
                        todo.append(onward)
    return list(found.values())


def values_of(graph: Graph, variable: str) -> list[str]:
    """References to the value of a variable at any time, before and after its updates."""
    found = [] if graph.nodes[variable].op == "VarHandleOp" else [variable]
    for reader in graph.readers(variable):
        if variable_of(graph, reader.input[0]) != variable:
            continue
        if reader.op in ("Identity", "ReadVariableOp"):
            found.append(reader.name)
        elif reader.op in WRITES and reader.op.endswith(("Assign", "Add", "Sub")):
            found += [reader.name, *(r.name for r in graph.readers(reader.name) if r.op == "Identity")]
    return found


def _outputs(node: Any, index: int) -> list[str]:
    if node.op == "IdentityN":
        return [short(f"{node.name}:{index}")]
    if node.op not in _ARITHMETIC:
        return []
    if node.op == "Switch":
        return [node.name, f"{node.name}:1"] if index == 0 else []
    return [node.name]


def scope_of(name: str) -> str:
    """``a/b`` of ``a/b/gamma``; empty at the root."""
    return name.rpartition("/")[0]


def node_name(reference: str) -> str:
    """The node of a reference."""
    return split_reference(reference)[0]
