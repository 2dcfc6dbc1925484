"""The forms that dropout and its relatives have in graphs: masks of random numbers, and how they are applied.

Everything is told from what the ops compute. A *mask* is a tensor of zeros and ones made of uniform random
numbers and one probability: floor(u + keep), u >= rate, u < keep. Dropout is x · mask / keep in any order
of the factors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgeconv.surgery._scalars import scalar
from edgeconv.surgery.graph import Graph, short

UNIFORM = frozenset(
    {"RandomUniform", "StatelessRandomUniform", "StatelessRandomUniformV2", "StatefulUniform"}
)
NORMAL = frozenset(
    {"RandomStandardNormal", "StatelessRandomNormal", "StatelessRandomNormalV2", "StatefulStandardNormalV2"}
    | {"StatefulStandardNormal"}
)
_PASSING = frozenset({"Identity", "StopGradient", "Cast", "Reshape", "Snapshot", "PreventGradient", "Enter"})
_CLOSE = 2e-3  # rates stored as float16


@dataclass(frozen=True, slots=True)
class Probability:
    """The probability that a mask is 1.

    Attributes:
        value: where constants decide it.
        root: reference to the tensor that it comes from.
        keeps: whether the root is that probability itself, or one minus it (a dropout rate).
    """

    value: float | None
    root: str
    keeps: bool


@dataclass(frozen=True, slots=True)
class Mask:
    """A tensor of zeros and ones.

    Attributes:
        random: name of the random op.
        keep: probability of a one.
    """

    random: str
    keep: Probability


def behind(graph: Graph, reference: str) -> str:
    """The reference behind casts, reshapes and identities."""
    seen = set()
    while (node := graph.node(reference)) is not None and node.op in _PASSING and node.name not in seen:
        seen.add(node.name)
        reference = graph.data_inputs(node)[0]
    return short(reference)


def affine_random(graph: Graph, reference: str, kinds: frozenset[str]) -> tuple[str, float, float] | None:
    """A random op seen through a constant scaling and shift: its name, the factor and the addend."""
    factor, addend = 1.0, 0.0
    for _ in range(8):
        node = graph.node(behind(graph, reference))
        if node is None:
            return None
        if node.op in kinds:
            return str(node.name), factor, addend
        if node.op not in ("Mul", "Add", "AddV2", "Sub"):
            return None
        left, right = graph.data_inputs(node)
        value = scalar(graph, right)
        if value is None and node.op != "Sub":
            left, right = right, left
            value = scalar(graph, right)
        if value is None or value.size != 1:
            return None
        number = float(value.reshape(()))
        if node.op == "Mul":
            factor *= number
        else:
            addend += factor * (-number if node.op == "Sub" else number)
        reference = left
    return None


def uniform(graph: Graph, reference: str) -> str | None:
    """Name of the random op if the tensor is uniform between 0 and 1."""
    found = affine_random(graph, reference, UNIFORM)
    return found[0] if found is not None and found[1:] == (1.0, 0.0) else None


def mask(graph: Graph, reference: str) -> Mask | None:
    """The mask that a tensor is; ``None`` if it is none."""
    node = graph.node(behind(graph, reference))
    if node is None:
        return None
    inputs = graph.data_inputs(node)
    if node.op == "Floor":
        total = graph.node(behind(graph, inputs[0]))
        if total is None or total.op not in ("Add", "AddV2"):
            return None
        for noise, amount in _both_ways(graph.data_inputs(total)):
            if (random := uniform(graph, noise)) is not None:
                return Mask(random, probability(graph, amount, keeps=True))
        return None
    if node.op in ("Less", "LessEqual", "Greater", "GreaterEqual"):
        for side, (noise, amount) in enumerate(_both_ways(inputs)):
            if (random := uniform(graph, noise)) is not None:
                # u < keep, keep > u; u >= rate, rate <= u.
                keeps = node.op.startswith("Less") != (side == 1)
                return Mask(random, probability(graph, amount, keeps=keeps))
        return None
    if node.op in ("Select", "SelectV2"):
        chosen = mask(graph, inputs[0])
        if chosen is not None and is_filled(graph, inputs[1], 1.0) and is_filled(graph, inputs[2], 0.0):
            return chosen
    return None


def opposite_of(graph: Graph, reference: str) -> Mask | None:
    """The mask that a tensor is one minus of."""
    node = graph.node(behind(graph, reference))
    if node is None:
        return None
    if node.op == "LogicalNot":
        return mask(graph, graph.data_inputs(node)[0])
    if node.op == "Sub" and is_filled(graph, graph.data_inputs(node)[0], 1.0):
        return mask(graph, graph.data_inputs(node)[1])
    return None


def probability(graph: Graph, reference: str, *, keeps: bool) -> Probability:
    """The probability that ``reference`` (of keeping, or else of dropping) stands for."""
    value = scalar(graph, reference)
    number = None if value is None or value.size != 1 else float(value.reshape(()))
    keep = number if number is None or keeps else 1.0 - number
    root = behind(graph, reference)
    while (node := graph.node(root)) is not None and node.op == "Sub":
        one, rest = graph.data_inputs(node)
        if not is_filled(graph, one, 1.0):
            break
        root, keeps = behind(graph, rest), not keeps
    return Probability(keep, root, keeps)


def undoes(graph: Graph, reference: str, keep: Probability, *, divides: bool) -> bool:
    """Whether multiplying by the tensor (or dividing) makes up for a mask of this probability."""
    value = scalar(graph, reference)
    if value is not None and keep.value is not None:
        if value.size != 1:
            return False
        number = float(value.reshape(()))
        product = keep.value / number if divides and number else keep.value * number
        return abs(product - 1.0) < _CLOSE
    if divides:
        other = probability(graph, reference, keeps=True)
        return (other.root, other.keeps) == (keep.root, keep.keeps)
    node = graph.node(behind(graph, reference))
    if node is None:
        return False
    inputs = graph.data_inputs(node)
    if node.op in ("Reciprocal", "Inv"):
        return undoes(graph, inputs[0], keep, divides=True)
    if node.op in ("RealDiv", "Div") and is_filled(graph, inputs[0], 1.0):
        return undoes(graph, inputs[1], keep, divides=True)
    return False


def is_filled(graph: Graph, reference: str, value: float) -> bool:
    """Whether a tensor has this value everywhere, as far as it can be seen."""
    node = graph.node(behind(graph, reference))
    if node is None:
        return False
    if node.op == "Const":
        array = graph.constant(behind(graph, reference))
        return bool(array is not None and array.dtype.kind in "fiub" and (array == value).all())
    if node.op == "Fill":
        return is_filled(graph, graph.data_inputs(node)[1], value)
    if node.op == "Mul" and value == 0.0:
        return any(is_filled(graph, each, 0.0) for each in graph.data_inputs(node))
    return bool(node.op == {0.0: "ZerosLike", 1.0: "OnesLike"}.get(value))


def _both_ways(inputs: list[str]) -> Iterator[tuple[str, str]]:
    yield inputs[0], inputs[1]
    yield inputs[1], inputs[0]
