"""Where the moving statistics of a batch normalisation are, told by evidence.

In this order: the variables that are updated from the statistics of the batch; the statistics that the op
itself takes; variables that are called like moving statistics beside the layer's own; shadows that are
called after the tensors they average.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edgeconv.surgery._variables import (
    VARIABLES,
    node_name,
    read,
    scope_of,
    shape_of,
    values_of,
    variable_of,
    writes_fed_by,
)
from edgeconv.surgery.graph import Graph

_MEAN = re.compile(
    r"(^|/)((moving|running|pop|population|mov|avg|global|ema)_?(mean|avg|mu)\w*|mean_?(moving|ema))(:|$|/|_\d+)"
)
_VARIANCE = re.compile(
    r"(^|/)((moving|running|pop|population|mov|avg|global|ema)_?(var|variance|sigma)\w*|var(iance)?_?(moving|ema))(:|$|/|_\d+)"
)


@dataclass(frozen=True, slots=True)
class Moving:
    """The moving statistics of one layer.

    Attributes:
        mean: reference to the value.
        variance: likewise.
        evidence: how they were found, for a person.
    """

    mean: str
    variance: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Layer:
    """What is known of a batch normalisation.

    Attributes:
        name: of its op.
        mean: references that have the batch's mean.
        variance: references that have the batch's variance.
        parameters: references to scale and offset, as far as it has them.
        channels: number of elements of each statistic; ``None``: unknown.
        taken: references to the moving mean and variance that the op itself takes, if it does.
    """

    name: str
    mean: Sequence[str]
    variance: Sequence[str]
    parameters: Sequence[str] = ()
    channels: int | None = None
    taken: Sequence[str] = ()


def find(graph: Graph, layer: Layer) -> Moving | None:
    """The moving statistics of a layer; ``None`` where nothing in the graph speaks for any."""
    mean = _updated(graph, layer, layer.mean)
    variance = _updated(graph, layer, layer.variance)
    if mean is not None and variance is not None and mean != variance:
        return Moving(read(graph, mean), read(graph, variance), "they are updated from the batch's")
    if (own := _taken(graph, layer)) is not None:
        return own
    for scope in _scopes(graph, layer):
        means, variances = _named(graph, scope, _MEAN, layer), _named(graph, scope, _VARIANCE, layer)
        if len(means) == len(variances) == 1:
            evidence = f"they are called so in the scope '{scope}'"
            return Moving(_value(graph, means[0]), _value(graph, variances[0]), evidence)
    mean, variance = _shadow(graph, layer.mean, layer), _shadow(graph, layer.variance, layer)
    if mean is not None and variance is not None:
        evidence = "they are called after the batch's"
        return Moving(_value(graph, mean), _value(graph, variance), evidence)
    return None


def channels_of(graph: Graph, references: Iterable[str]) -> int | None:
    """Number of elements of the first of some tensors (parameters) for which it is known."""
    for reference in references:
        variable = variable_of(graph, reference)
        node = graph.nodes[variable] if variable is not None else graph.node(graph.origin(reference))
        if node is None or node.op not in VARIABLES | {"Const"}:
            continue
        shape = shape_of(node)
        if shape is not None:
            return _size(shape)
    return None


def _updated(graph: Graph, layer: Layer, statistics: Iterable[str]) -> str | None:
    own = {variable_of(graph, parameter) for parameter in layer.parameters}
    writes = writes_fed_by(graph, statistics)
    # Nearest first: what is farther away is somebody else's.
    for variable in dict.fromkeys(write.variable for write in writes):
        if variable not in own and _fits(graph.nodes[variable], layer):
            return _unbiased(graph, variable, layer) or variable
    return None


def _taken(graph: Graph, layer: Layer) -> Moving | None:
    """What the op takes to update, or takes without using it, as the fused one of Keras does."""
    if len(layer.taken) != 2:
        return None
    evidence = "the op itself takes them"
    mean, variance = (variable_of(graph, reference) for reference in layer.taken)
    if mean is not None and variance is not None and mean != variance:
        fits = _fits(graph.nodes[mean], layer) and _fits(graph.nodes[variance], layer)
        return Moving(read(graph, mean), read(graph, variance), evidence) if fits else None
    sizes = [channels_of(graph, [reference]) for reference in layer.taken]
    if layer.channels is not None and sizes == [layer.channels] * 2:
        return Moving(layer.taken[0], layer.taken[1], evidence)
    return None


def _unbiased(graph: Graph, biased: str, layer: Layer) -> str | None:
    """The variable that is made of ``biased`` by correcting its bias: a division by 1 - decay ** steps."""
    for reference in values_of(graph, biased):
        for reader, index in graph.readers_of(reference):
            if reader.op not in ("RealDiv", "Div") or index != 0:
                continue
            for write in writes_fed_by(graph, [reader.name]):
                if write.variable != biased and _fits(graph.nodes[write.variable], layer):
                    return write.variable
    return None


def _fits(node: Any, layer: Layer) -> bool:
    shape = shape_of(node)
    if shape is None or layer.channels is None:
        return shape != ()
    return _size(shape) == layer.channels and (shape != () or layer.channels == 1)


def _scopes(graph: Graph, layer: Layer) -> list[str]:
    """Scopes of the layer's own variables, and those around its op, nearest first."""
    named = [variable_of(graph, p) or node_name(graph.origin(p)) for p in layer.parameters]
    scopes = [scope_of(name) for name in named]
    around = scope_of(layer.name)
    while around:
        scopes.append(around)
        around = scope_of(around)
    return [scope for scope in dict.fromkeys(scopes) if scope]


def _named(graph: Graph, scope: str, pattern: re.Pattern[str], layer: Layer) -> list[str]:
    inside = f"{scope}/"
    return [
        node.name
        for node in graph.graph_def.node
        if node.name.startswith(inside)
        and node.op in VARIABLES | {"Const"}
        and pattern.search(node.name[len(inside) :])
        and not re.search(r"(biased|local_step|[Ii]nitial|Adam|Momentum|RMSProp)", node.name[len(inside) :])
        and layer.channels is not None
        and _fits(node, layer)
    ]


def _shadow(graph: Graph, statistics: Iterable[str], layer: Layer) -> str | None:
    """A variable ``TENSOR/ExponentialMovingAverage``, as TensorFlow calls the average of a tensor."""
    for reference in statistics:
        prefix = f"{node_name(reference)}/"
        found = [
            node.name
            for node in graph.graph_def.node
            if node.op in VARIABLES and node.name.startswith(prefix) and "/" not in node.name[len(prefix) :]
            if _fits(node, layer) and "biased" not in node.name and "local_step" not in node.name
        ]
        if len(found) == 1:
            return str(found[0])
    return None


def _value(graph: Graph, name: str) -> str:
    return name if graph.nodes[name].op == "Const" else read(graph, name)


def _size(shape: Sequence[int]) -> int:
    size = 1
    for each in shape:
        size *= each
    return size
