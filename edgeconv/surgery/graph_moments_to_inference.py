"""A batch normalisation written with small ops takes the moving statistics instead of the batch's moments.

before:  x ─▶ Mean ─▶ Squeeze('mean') ─▶ Sub/Mul … ─▶ y
         x, Mean ─▶ SquaredDifference ─▶ Mean ─▶ Squeeze('variance') ─▶ Add(epsilon) ─▶ Rsqrt ─▶ Mul …
              mean, variance ─▶ AssignSub(moving_mean), AssignSub(moving_variance)
after:   moving_mean/read ─▶ Sub/Mul … ─▶ y      moving_variance/read ─▶ Add(epsilon) ─▶ Rsqrt ─▶ Mul …

Only moments over the batch (axis 0) count: those of layer, instance and group normalisation belong to
inference. The moments may be those of tf.nn.moments, of sufficient statistics (sums divided by a count), or
E[x²] - E[x]². Where no variable holds moving statistics of a layer that has the parameters of a batch
normalisation, a warning names it: its outputs depend on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgeconv.surgery import _moving_statistics as moving
from edgeconv.surgery._liveness import repairable
from edgeconv.surgery._scalars import scalar
from edgeconv.surgery._variables import shape_of, variable_of
from edgeconv.surgery.changes import Change, Replaced
from edgeconv.surgery.graph import Graph, full, short

_NAME = "moments_to_inference"
_ADDS = ("Add", "AddV2")
_REDUCTIONS = ("Mean", "Sum")
_SHAPING = ("Squeeze", "Reshape", "Identity", "StopGradient", "Cast", "ExpandDims", "Snapshot")
_STATISTIC = frozenset(
    {"Add", "AddV2", "Sub", "Mul", "RealDiv", "Div", "Square", "Pow", "SquaredDifference", "Maximum"}
    | {"Inv", "Reciprocal", "Relu", "Abs", *_SHAPING}
)
_COUNTING = frozenset({"Const", "Shape", "Size", "Prod", "StridedSlice", "GatherV2", "Gather", "Cast"})
_ROOTS = ("Rsqrt", "Sqrt", "Pow")
_AROUND = frozenset({"Mul", "Sub", "Add", "AddV2", "RealDiv", "Div", "Neg", "Reciprocal", "Inv", *_SHAPING})
_SQUARES = frozenset({"SquaredDifference", "Square", "Pow", "Abs"})


@dataclass(frozen=True, slots=True)
class _Norm:
    root: Any
    variance: str
    mean: str
    parameters: tuple[str, ...]


def rewrite(graph: Graph) -> list[Change]:
    """Let each unfused batch normalisation on the path use the moving statistics."""
    changes = []
    for name in repairable(graph):
        node = graph.nodes[name]
        if node.op in _ROOTS and (norm := _norm(graph, node)) is not None:
            changes += _repair(graph, norm)
    return changes


def _norm(graph: Graph, root: Any) -> _Norm | None:
    """The batch normalisation that divides by this root."""
    variance = _under_root(graph, root)
    if variance is None or not _is_statistic(graph, variance, squares=True):
        return None
    means: dict[str, None] = {}
    parameters: dict[str, None] = {}
    for node in _arithmetic_behind(graph, root.name):
        for reference in graph.data_inputs(node):
            producer = graph.node(reference)
            if producer is not None and producer.op in ("Sub", *_ADDS, "Mul", "Neg"):
                for each in graph.data_inputs(producer):
                    if _is_statistic(graph, each, squares=False):
                        means[each] = None
            if _is_statistic(graph, reference, squares=False):
                means[reference] = None
            if variable_of(graph, reference) is not None or _is_vector(graph, reference):
                parameters[reference] = None
    outer = [m for m in means if not any(m != other and _within(graph, m, other) for other in means)]
    return _Norm(root, variance, outer[0], tuple(parameters)) if len(outer) == 1 else None


def _under_root(graph: Graph, root: Any) -> str | None:
    """v of 1 / sqrt(v + epsilon), or of sqrt(v + epsilon)."""
    inputs = graph.data_inputs(root)
    if root.op == "Pow":
        power = scalar(graph, inputs[1])
        if power is None or power.size != 1 or abs(float(power.reshape(()))) != 0.5:
            return None
    total = graph.node(graph.origin(inputs[0]))
    if total is None or total.op not in (*_ADDS, "Maximum"):
        return None
    sides = graph.data_inputs(total)
    for value, epsilon in ((sides[0], sides[1]), (sides[1], sides[0])):
        if scalar(graph, epsilon) is not None and scalar(graph, value) is None:
            return value
    return None


def _is_statistic(graph: Graph, reference: str, *, squares: bool) -> bool:
    """Whether a tensor is made of reductions over the batch and of nothing else.

    Args:
        graph: the graph.
        reference: of the tensor.
        squares: whether squares must go into it (a variance) or must not (a mean).
    """
    reductions = squared = False
    todo, seen = [short(reference)], set()
    while todo:
        reference = todo.pop()
        node = graph.node(reference)
        if node is None or node.name in graph.inputs:
            return False
        if node.name in seen:
            continue
        seen.add(node.name)
        if len(seen) > 40:
            return False
        if node.op in _REDUCTIONS:
            if not _over_batch(graph, node):
                return False
            reductions = True
            inner = graph.node(graph.origin(graph.data_inputs(node)[0]))
            squared = squared or (inner is not None and inner.op in _SQUARES)
        elif node.op in _STATISTIC:
            # The square of a mean is part of a variance only in a difference, so it does not count.
            todo.extend(graph.data_inputs(node)[: 1 if node.op in _SHAPING else None])
        elif node.op not in _COUNTING or not _counts(graph, reference):
            return False
    return reductions and squared == squares


def _counts(graph: Graph, reference: str) -> bool:
    """Whether a tensor is a constant or the size of something."""
    value = graph.constant(reference)
    return value is not None or (
        graph.node(graph.origin(reference)) is not None
        and all(
            graph.nodes[name].op not in _REDUCTIONS
            for name in graph.upstream([reference], stop=_shapes(graph))
        )
    )


def _shapes(graph: Graph) -> list[str]:
    return [node.name for node in graph.graph_def.node if node.op in ("Shape", "Size")]


def _over_batch(graph: Graph, node: Any) -> bool:
    """Whether a reduction goes over axis 0 and leaves another one."""
    axes = scalar(graph, graph.data_inputs(node)[1])
    return axes is not None and axes.size > 0 and 0 in axes.reshape(-1).tolist()


def _arithmetic_behind(graph: Graph, name: str) -> Iterator[Any]:
    """Nodes of the normalisation's own arithmetic: from the root on, three steps at most."""
    path = graph.on_path()
    wave, seen = [name], {name}
    for _ in range(5):
        following = []
        for each in wave:
            for reader in graph.readers(each):
                if reader.name in path and reader.name not in seen and reader.op in _AROUND:
                    seen.add(reader.name)
                    following.append(reader.name)
                    yield reader
        wave = following


def _is_vector(graph: Graph, reference: str) -> bool:
    node = graph.node(graph.origin(reference))
    return node is not None and node.op == "Const" and shape_of(node) not in ((), None)


def _within(graph: Graph, inner: str, outer: str) -> bool:
    """Whether one statistic is computed from another one (a squeezed one from that with all axes)."""
    return short(inner) in {short(r) for n in graph.upstream([outer]) for r in graph.nodes[n].input}


def _repair(graph: Graph, norm: _Norm) -> list[Change]:
    layer = moving.Layer(
        name=norm.root.name,
        mean=_forms(graph, norm.mean),
        variance=_forms(graph, norm.variance),
        parameters=norm.parameters,
        channels=moving.channels_of(graph, norm.parameters),
    )
    found = moving.find(graph, layer)
    if found is None:
        if not norm.parameters:
            return []
        return [
            Change(
                _NAME,
                f"'{norm.root.name}' normalises with the mean and variance of the batch, and no variable of "
                "the graph is known to hold moving ones: an output depends on what else is in its batch",
                warning=True,
            )
        ]
    path = graph.on_path()
    replaced = []
    for statistic, value in ((norm.mean, found.mean), (norm.variance, found.variance)):
        shape = _target_shape(graph, statistic, value)
        if shape is None:
            made = value
            replaced.append(Replaced(full(statistic), "identity", (full(value),)))
        else:
            made = _reshaped(graph, statistic, value, shape)
            replaced.append(Replaced(full(statistic), "reshape", (full(value),), {"shape": shape}))
        graph.redirect(statistic, made, within=path)
    return [
        Change(
            _NAME,
            f"the normalisation '{norm.root.name}' used the statistics of the batch: it uses "
            f"'{_shown(found.mean)}' and '{_shown(found.variance)}' ({found.evidence})",
            tuple(replaced),
        )
    ]


def _forms(graph: Graph, statistic: str) -> list[str]:
    """A statistic and the same numbers in other shapes, any of which an update may take."""
    forms = [statistic]
    while (node := graph.node(forms[-1])) is not None and node.op in _SHAPING:
        forms.append(graph.data_inputs(node)[0])
    return forms


def _target_shape(graph: Graph, statistic: str, value: str) -> list[int] | None:
    """The shape to bring a moving statistic to; ``None`` where it has it."""
    variable = variable_of(graph, value)
    node = graph.nodes[variable] if variable is not None else graph.node(graph.origin(value))
    have = shape_of(node) if node is not None else None
    rank = _ones(graph, statistic)
    if rank is None:
        return None if have is None or len(have) == 1 else [-1]
    return None if have is not None and len(have) == len(rank) else rank


def _ones(graph: Graph, statistic: str) -> list[int] | None:
    """``[1, 1, 1, -1]`` for a statistic that keeps the axes it is over; ``None`` for a flat one."""
    for reference in _forms(graph, statistic):
        node = graph.node(reference)
        if node is None or node.op in ("Squeeze", "Reshape"):
            return None
        if node.op in _REDUCTIONS:
            if "keep_dims" not in node.attr or not node.attr["keep_dims"].b:
                return None
            axes = scalar(graph, graph.data_inputs(node)[1])
            if axes is None:
                return None
            over = {int(axis) for axis in axes.reshape(-1)}
            return [1 if axis in over else -1 for axis in range(max(max(over) + 1, len(over) + 1))]
    return None


def _reshaped(graph: Graph, statistic: str, value: str, shape: list[int]) -> str:
    import numpy

    name = f"{short(statistic).replace(':', '_')}/moving"
    sizes = graph.add_constant(f"{name}/shape", numpy.asarray(shape, "int32"))
    variable = variable_of(graph, value)
    node = graph.nodes[variable] if variable is not None else graph.node(value)
    assert node is not None
    from tensorflow.core.framework import attr_value_pb2, types_pb2

    dtype = attr_value_pb2.AttrValue(type=node.attr["dtype"].type % 100)
    int32 = attr_value_pb2.AttrValue(type=types_pb2.DT_INT32)
    return graph.add("Reshape", name, [value, sizes], T=dtype, Tshape=int32)


def _shown(reference: str) -> str:
    return reference.removesuffix("/ReadVariableOp").removesuffix("/Read").removesuffix("/read")
