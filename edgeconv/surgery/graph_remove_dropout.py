"""Dropout that is on lets everything through.

before:  x ─▶ Div(keep_prob) ─▶ Mul ─▶ y      RandomUniform ─▶ Add(keep_prob) ─▶ Floor ─▶ Mul
after:   x ─▶ Identity ─▶ y

Known forms: the mask made by floor(u + keep), u >= rate, u < keep, and as Select; the factor 1 / keep
before or behind the mask, as Div or Mul, computed by the graph or written into it; alpha dropout (Klambauer
and others 2017); Gaussian dropout (x times a normal of mean 1) and Gaussian noise (x plus a normal of mean
0). The probability may be a number or a tensor that nobody has fixed. A mask that is not made up for by 1 /
keep is left alone where its probability is a number, because inference is then x · keep for some and x for
others; where the probability is a placeholder, that is fixed so that nothing is dropped.
"""

from __future__ import annotations

from typing import Any

from edgeconv.formats import _graph_vocabulary as vocabulary
from edgeconv.formats._tensor_types import dtype_name
from edgeconv.formats.graph_reading import split_reference
from edgeconv.surgery._dropout_forms import (
    NORMAL,
    Mask,
    Probability,
    affine_random,
    behind,
    is_filled,
    mask,
    opposite_of,
    undoes,
)
from edgeconv.surgery._frames import in_loops
from edgeconv.surgery._liveness import repairable
from edgeconv.surgery._scalars import scalar
from edgeconv.surgery._variables import stated_sizes
from edgeconv.surgery.changes import Change, Replaced
from edgeconv.surgery.graph import Graph, full

_NAME = "remove_dropout"
_ALPHA = -1.7580993408473766  # minus lambda times alpha of the SELU
_ADDS = ("Add", "AddV2")


def rewrite(graph: Graph) -> list[Change]:
    """Bypass each dropout, Gaussian dropout and Gaussian noise on the path."""
    changes: list[Change] = []
    loops = in_loops(graph)
    for name in repairable(graph):
        node = graph.nodes[name]
        found = None
        if node.op in ("Mul", "Select", "SelectV2"):
            found = _dropout(graph, node) or _gaussian_dropout(graph, node)
        elif node.op in _ADDS:
            found = _gaussian_noise(graph, node)
        if found is not None:
            changes.append(_bypass(graph, *found, loops))
        elif node.op in ("Mul", "Select", "SelectV2"):
            changes += _without_scale(graph, node)
    return changes


def _bypass(graph: Graph, node: Any, kept: str, kind: str, loops: set[str]) -> Change:
    controls = [each for each in node.input if each.startswith("^")]
    graph.become(node, "Identity", [kept, *controls], T=node.attr["T"])
    where = " in a loop" if node.name in loops else ""
    return Change(
        _NAME,
        f"{kind} '{node.name}'{where} lets everything through",
        (Replaced(full(node.name), "identity", (full(kept),)),),
    )


def _applied(graph: Graph, node: Any) -> tuple[str, Mask] | None:
    """What a mask is applied to, and the mask, if ``node`` is where that is done.

    Not where the probability is made of an input: who names it as one wants to decide it at each run.
    """
    found = _masked(graph, node)
    if found is None:
        return None
    return None if _from_an_input(graph, found[1].keep.root) else found


def _from_an_input(graph: Graph, reference: str) -> bool:
    """Whether a tensor is computed from an input; what only waits for one (in a loop's frame) is not."""
    todo, seen = [reference], set()
    while todo:
        name = split_reference(todo.pop())[0]
        if name in graph.inputs:
            return True
        if name not in seen and name in graph.nodes:
            seen.add(name)
            todo.extend(graph.data_inputs(graph.nodes[name]))
    return False


def _masked(graph: Graph, node: Any) -> tuple[str, Mask] | None:
    inputs = graph.data_inputs(node)
    if node.op == "Mul":
        for kept, other in ((inputs[0], inputs[1]), (inputs[1], inputs[0])):
            found = mask(graph, other)
            if found is not None and mask(graph, kept) is None:
                return kept, found
        return None
    found = mask(graph, inputs[0])
    if found is None or not is_filled(graph, inputs[2], 0.0) or is_filled(graph, inputs[1], 1.0):
        return None
    return inputs[1], found


def _dropout(graph: Graph, node: Any) -> tuple[Any, str, str] | None:
    """The last node of a dropout, what it is of, and what to call it."""
    applied = _applied(graph, node)
    if applied is None:
        return _alpha_dropout_by_select(graph, node)
    kept, found = applied
    scaled = graph.node(kept)
    if scaled is not None and (inner := _unscaled(graph, scaled, found.keep)) is not None:
        return node, inner, "dropout"
    readers = [reader for reader in graph.readers(node.name) if reader.name in graph.on_path()]
    for reader in readers:
        if (inner := _unscaled(graph, reader, found.keep)) is not None and behind(graph, inner) == node.name:
            # All that read the mask's product must be the scaling, or someone else sees it unscaled.
            return (reader, kept, "dropout") if len(readers) == 1 else None
        if (alpha := _alpha_dropout(graph, reader, kept, found)) is not None:
            return alpha, kept, "alpha dropout"
    if found.keep.value is not None and found.keep.value >= 1.0:
        return node, kept, "dropout"
    return None


def _unscaled(graph: Graph, node: Any, keep: Probability) -> str | None:
    """What ``node`` divides by the probability of keeping, if it does."""
    inputs = graph.data_inputs(node)
    if node.op in ("Div", "RealDiv") and undoes(graph, inputs[1], keep, divides=True):
        return inputs[0]
    if node.op == "Mul":
        for x, factor in ((inputs[0], inputs[1]), (inputs[1], inputs[0])):
            if undoes(graph, factor, keep, divides=False):
                return x
    return None


def _alpha_dropout(graph: Graph, mixed: Any, kept: str, found: Mask) -> Any | None:
    """The node that ends a · (x · mask + alpha · (1 - mask)) + b, where ``mixed`` is the sum in brackets."""
    if mixed.op not in _ADDS:
        return None
    for each in graph.data_inputs(mixed):
        product = graph.node(each)
        if product is None or product.op != "Mul":
            continue
        sides = graph.data_inputs(product)
        for constant, rest in ((sides[0], sides[1]), (sides[1], sides[0])):
            opposite = opposite_of(graph, rest)
            if opposite is not None and opposite.random == found.random and _is_alpha(graph, constant):
                return _end_of_affine(graph, mixed)
    return None


def _alpha_dropout_by_select(graph: Graph, node: Any) -> tuple[Any, str, str] | None:
    """The same where the sum in brackets is Select(mask, x, alpha)."""
    inputs = graph.data_inputs(node)
    if node.op == "Mul" or mask(graph, inputs[0]) is None or not _is_alpha(graph, inputs[2]):
        return None
    end = _end_of_affine(graph, node)
    return None if end is None else (end, inputs[1], "alpha dropout")


def _is_alpha(graph: Graph, reference: str) -> bool:
    value = scalar(graph, behind(graph, reference))
    if value is None or value.size != 1:
        return False
    return abs(float(value.reshape(())) - _ALPHA) < 1e-2


def _end_of_affine(graph: Graph, node: Any) -> Any | None:
    path = graph.on_path()
    for op in ("Mul", _ADDS):
        readers = [reader for reader in graph.readers(node.name) if reader.name in path]
        if len(readers) != 1 or readers[0].op not in op:
            return None
        others = [r for r in graph.data_inputs(readers[0]) if behind(graph, r) != node.name]
        if len(others) != 1 or scalar(graph, others[0]) is None:
            return None
        node = readers[0]
    return node


def _gaussian_dropout(graph: Graph, node: Any) -> tuple[Any, str, str] | None:
    inputs = graph.data_inputs(node)
    if node.op != "Mul":
        return None
    for kept, noise in ((inputs[0], inputs[1]), (inputs[1], inputs[0])):
        found = affine_random(graph, noise, NORMAL)
        if found is not None and found[2] == 1.0 and affine_random(graph, kept, NORMAL) is None:
            return node, kept, "Gaussian dropout"
    return None


def _gaussian_noise(graph: Graph, node: Any) -> tuple[Any, str, str] | None:
    inputs = graph.data_inputs(node)
    for kept, noise in ((inputs[0], inputs[1]), (inputs[1], inputs[0])):
        found = affine_random(graph, noise, NORMAL)
        # A constant added is the mean of the random numbers themselves, not noise upon something.
        if found is None or found[2] != 0.0 or scalar(graph, kept) is not None:
            continue
        if affine_random(graph, kept, NORMAL) is None and graph.node(behind(graph, kept)) is not None:
            return node, kept, "Gaussian noise"
    return None


def _without_scale(graph: Graph, node: Any) -> list[Change]:
    """Fix the probability of a mask that nothing makes up for, if it is a placeholder nobody named."""
    import numpy

    applied = _applied(graph, node)
    if applied is None:
        return []
    keep = applied[1].keep
    root = graph.node(keep.root)
    if root is None or root.op not in vocabulary.PLACEHOLDER_OPS or root.name in graph.inputs:
        return []
    kind = dtype_name(root.attr["dtype"].type)
    if any(size != 1 for size in stated_sizes(root) or ()):
        return []
    value = numpy.full(stated_sizes(root) or (), 1.0 if keep.keeps else 0.0, kind)
    attributes = {"value": value.tolist(), "dtype": kind}
    replaced = Replaced(full(root.name), "constant", (), attributes)
    graph.become(root, "Const", (), dtype=root.attr["dtype"], value=value)
    what = "probability of keeping" if keep.keeps else "rate"
    return [
        Change(
            _NAME,
            f"the placeholder '{root.name}' is the {what} of a dropout: fixed to {value.flat[0]:g}",
            (replaced,),
        ),
        *rewrite(graph),
    ]
