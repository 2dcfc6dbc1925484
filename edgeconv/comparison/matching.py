"""Which inner tensor of one format is which of another: by name where it survived, and by value.

Converters rename, fuse, fold and transpose. A name says little by itself: TFLite calls the sum of a
convolution and its bias after the convolution. So a name proposes tensors (what it names, and what only it
leads to), values choose among them, and where no name survived values alone decide if they are clear.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgeconv.comparison.metrics import root_mean_square, wide
from edgeconv.comparison.tensor_sources.base import Array, InnerTensor, TensorSource

SURE = 0.05
"""Relative error up to which values alone say that two tensors are the same one."""
LIKELY = 0.35
"""The same where no other tensor is half as near (quantized tensors are off by a tenth or two)."""
CHAIN = 8
"""How many ops a fused op may have swallowed behind the one it is named after."""

_TRANSPOSES: Mapping[int, tuple[tuple[int, ...], ...]] = {
    3: ((0, 2, 1),),
    4: ((0, 2, 3, 1), (0, 3, 1, 2)),
    5: ((0, 2, 3, 4, 1), (0, 4, 1, 2, 3)),
}


@dataclass(frozen=True, slots=True)
class Match:
    """A tensor of the candidate and its partner.

    ``axes`` transposes the candidate's values to the reference's layout; ``found`` is ``input``, ``output``,
    ``name`` or ``value``.
    """

    reference: str
    candidate: InnerTensor
    axes: tuple[int, ...] | None
    found: Literal["input", "output", "name", "value"]


def as_reference(values: Array, match: Match) -> Array:
    """The candidate's values in the reference's layout."""
    return values if match.axes is None else np.transpose(values, match.axes)


def relative_error(reference: Array, candidate: Array) -> float:
    """``rms(c - r) / rms(r)``; ``inf`` for different shapes and where only one side is finite or zero."""
    if reference.shape != candidate.shape:
        return math.inf
    if reference.size == 0:
        return 0.0
    if reference.dtype.kind in "biu" and candidate.dtype.kind in "biu":
        return float(np.mean(reference != candidate))
    one, two = wide(reference), wide(candidate)
    finite = np.isfinite(one)
    if not np.array_equal(finite, np.isfinite(two)):
        return math.inf
    if not finite.any():
        return 0.0
    signal, noise = root_mean_square(one[finite]), root_mean_square(two[finite] - one[finite])
    if noise == 0.0:
        return 0.0
    return noise / signal if signal > 0.0 else math.inf


def match_tensors(
    reference: TensorSource,
    candidate: TensorSource,
    ours: Sequence[Mapping[str, Array]],
    theirs: Sequence[Mapping[str, Array]],
    outputs: Mapping[str, str],
    inputs: Mapping[str, str],
) -> dict[str, Match]:
    """Match inner tensors.

    Args:
        reference: one model.
        candidate: the other.
        ours: the reference's values by inner name, one mapping a probe.
        theirs: the candidate's.
        outputs: candidate's inner name of each output to the reference's.
        inputs: the same of inputs.

    Returns:
        The candidate's inner name to its match, inputs first, then in the candidate's order.
    """
    matches: dict[str, Match] = {}
    for name, partner in inputs.items():
        axes = _layout(ours, theirs, partner, name)
        matches[name] = Match(
            partner, InnerTensor(name, name, "input", ()), axes[0] if axes else None, "input"
        )
    names = _by_name(reference)
    followers = _followers(reference)
    by_size: dict[int, list[str]] = {}
    order = {tensor.name: place for place, tensor in enumerate(reference.tensors)}
    for tensor in reference.tensors:
        if tensor.name in ours[0] and ours[0][tensor.name].dtype.kind in "fiu":
            by_size.setdefault(ours[0][tensor.name].size, []).append(tensor.name)
    for tensor in candidate.tensors:
        if any(tensor.name not in values for values in theirs):
            continue
        if tensor.name in outputs:
            found = _best(ours, theirs, tensor, [outputs[tensor.name]], order, allowed=math.inf)
            if found is not None:
                matches[tensor.name] = Match(found[1], tensor, found[2], "output")
            continue
        same_size = by_size.get(theirs[0][tensor.name].size, [])
        named = [name for name in _proposed(tensor, names, followers) if all(name in v for v in ours)]
        match = _match(tensor, named, same_size, ours, theirs, order)
        if match is not None:
            matches[tensor.name] = match
    return _one_each(matches, ours, theirs)


def _one_each(
    matches: Mapping[str, Match],
    ours: Sequence[Mapping[str, Array]],
    theirs: Sequence[Mapping[str, Array]],
) -> dict[str, Match]:
    """Drop all but the nearest, and of those the last, of tensors with one partner.

    Where the reference has fused more than the candidate, a sum with a bias and the activation behind it
    both name the reference's one tensor; only the activation is it.
    """
    nearest: dict[str, tuple[float, str]] = {}
    for name, match in matches.items():
        if match.found == "input":
            continue
        error = _distance(ours, theirs, match.reference, name, match.axes)
        before = nearest.get(match.reference)
        if match.found == "output" or before is None or error <= 1.1 * before[0]:
            nearest[match.reference] = (error, name)
    kept = {name for _, name in nearest.values()}
    return {name: m for name, m in matches.items() if m.found in ("input", "output") or name in kept}


def _match(
    tensor: InnerTensor,
    named: Sequence[str],
    same_size: Sequence[str],
    ours: Sequence[Mapping[str, Array]],
    theirs: Sequence[Mapping[str, Array]],
    order: Mapping[str, int],
) -> Match | None:
    by_name = _best(ours, theirs, tensor, named, order, allowed=math.inf)
    if by_name is not None and by_name[0] <= SURE:
        return Match(by_name[1], tensor, by_name[2], "name")
    if not _constant(theirs, tensor.name):
        by_value = _best(ours, theirs, tensor, same_size, order, allowed=LIKELY)
        if by_value is not None:
            # A nearer tensor than the one it is named after: it was named after a part of what it computes.
            nearer = by_name is None or by_value[0] < 0.5 * by_name[0]
            if nearer and (by_value[0] <= SURE or _alone(ours, theirs, tensor, by_value, same_size)):
                return Match(by_value[1], tensor, by_value[2], "value")
    return None if by_name is None else Match(by_name[1], tensor, by_name[2], "name")


def _best(
    ours: Sequence[Mapping[str, Array]],
    theirs: Sequence[Mapping[str, Array]],
    tensor: InnerTensor,
    names: Sequence[str],
    order: Mapping[str, int],
    *,
    allowed: float,
) -> tuple[float, str, tuple[int, ...] | None] | None:
    """Nearest of ``names``; among those about as near, the last that the reference computes."""
    found: list[tuple[float, str, tuple[int, ...] | None]] = []
    for name in dict.fromkeys(names):
        for axes in _layout(ours, theirs, name, tensor.name):
            found.append((_distance(ours, theirs, name, tensor.name, axes), name, axes))
    if not found:
        return None
    nearest = min(error for error, _, _ in found)
    if nearest > allowed:
        return None
    level = [entry for entry in found if entry[0] <= 1.1 * nearest + 1e-9 or entry[0] == nearest]
    # Identities, and activations that change nothing here, are as near: a fused op ends with the last.
    return max(level, key=lambda entry: (order.get(entry[1], -1), entry[2] is None))


def _alone(
    ours: Sequence[Mapping[str, Array]],
    theirs: Sequence[Mapping[str, Array]],
    tensor: InnerTensor,
    best: tuple[float, str, tuple[int, ...] | None],
    names: Sequence[str],
) -> bool:
    chosen = [values[best[1]] for values in ours]
    for name in names:
        for axes in _layout(ours, theirs, name, tensor.name):
            if _distance(ours, theirs, name, tensor.name, axes) > 2 * best[0]:
                continue
            rival = [values[name] for values in ours]
            if any(relative_error(a, b) > SURE for a, b in zip(chosen, rival, strict=True)):
                return False
    return True


def _distance(
    ours: Sequence[Mapping[str, Array]],
    theirs: Sequence[Mapping[str, Array]],
    name: str,
    other: str,
    axes: tuple[int, ...] | None,
) -> float:
    errors = []
    for one, two in zip(ours, theirs, strict=True):
        values = two[other] if axes is None else np.transpose(two[other], axes)
        errors.append(relative_error(one[name], values))
    return max(errors)


def _layout(
    ours: Sequence[Mapping[str, Array]], theirs: Sequence[Mapping[str, Array]], name: str, other: str
) -> list[tuple[int, ...] | None]:
    """Transposes (``None`` is none) that give the candidate's values the reference's shape."""
    if name not in ours[0] or other not in theirs[0]:
        return []
    wanted, shape = ours[0][name].shape, theirs[0][other].shape
    if len(wanted) != len(shape):
        return []
    found: list[tuple[int, ...] | None] = [None] if wanted == shape else []
    found += [
        axes for axes in _TRANSPOSES.get(len(shape), ()) if tuple(shape[axis] for axis in axes) == wanted
    ]
    return found


def _constant(values: Sequence[Mapping[str, Array]], name: str) -> bool:
    return all(one[name].size < 2 or bool((one[name] == one[name].reshape(-1)[0]).all()) for one in values)


def _by_name(source: TensorSource) -> dict[str, str]:
    names: dict[str, str] = {}
    for tensor in source.tensors:
        for name in (tensor.name, *tensor.aliases):
            names.setdefault(_bare(name), tensor.name)
    return names


def _followers(source: TensorSource) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for tensor in source.tensors:
        for name in tensor.inputs:
            found.setdefault(name, []).append(tensor.name)
    return found


def _proposed(
    tensor: InnerTensor, names: Mapping[str, str], followers: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """What the candidate's names name in the reference, and the chains of single readers behind it."""
    for alias in (tensor.name, *tensor.aliases):
        bare = _bare(alias)
        # Converters add digits to a name that was taken.
        for spelling in (bare, re.sub(r"_?\d+$", "", bare)):
            current = names.get(spelling)
            if current is None:
                continue
            yield current
            for _ in range(CHAIN):
                readers = followers.get(current, ())
                if len(readers) != 1:
                    break
                current = readers[0]
                yield current
            break


def _bare(name: str) -> str:
    return name.removesuffix(":0").strip("/").lower()
