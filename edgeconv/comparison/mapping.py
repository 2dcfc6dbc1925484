"""Which output of the candidate is which of the reference: by name, and where names were lost by value."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeconv.comparison.affine import dequantize
from edgeconv.comparison.archive import Array, is_text
from edgeconv.comparison.assignment import assign
from edgeconv.comparison.metrics import difference, mismatched, root_mean_square, wide
from edgeconv.errors import UsageError
from edgeconv.formats.base import TensorSpec

ALIKE = 0.5
"""Largest relative distance of two outputs that can be the same one (unrelated ones are about 1.4)."""
CLEARLY = 0.4
"""The chosen partner must be at most this share of the distance to the next best."""
EQUAL = 1e-6
"""Below this two outputs are the same numbers, and it does not matter which is which."""
MOST_PERMUTATIONS = 24

_ANONYMOUS = re.compile(r"^(statefulpartitionedcall|partitionedcall|identity|output|input|args)(_\d+)?$")
_PREFIXES = ("serving_default_", "signature_wrapper_")


@dataclass(frozen=True, slots=True)
class Pair:
    """One tensor of the reference and its partner.

    ``how`` is ``name``, ``tensor`` (name inside the artifact), ``decorated name``, ``shape``, ``value``,
    ``only one left`` or ``given`` (by the user).
    """

    reference: str
    candidate: str
    how: str


@dataclass(frozen=True, slots=True)
class TensorMapping:
    """Pairs in the reference's order, and what has no partner."""

    pairs: tuple[Pair, ...]
    unmatched_reference: tuple[str, ...] = ()
    unmatched_candidate: tuple[str, ...] = ()

    @property
    def names(self) -> dict[str, str]:
        """Reference name to candidate name."""
        return {pair.reference: pair.candidate for pair in self.pairs}


def plain_name(name: str) -> str | None:
    """A tensor's name without what tools add to it, in lower case; ``None`` where nothing is left.

    ``serving_default_image:0`` is ``image``; ``StatefulPartitionedCall:1`` and ``Identity_1`` say nothing.
    """
    plain = name.strip().lstrip("^").lower()
    plain, _, port = plain.rpartition(":") if re.search(r":\d+$", plain) else (plain, "", "0")
    for prefix in _PREFIXES:
        plain = plain.removeprefix(prefix)
    if not plain or _ANONYMOUS.match(plain):
        return None
    return plain if port == "0" else f"{plain}:{port}"


def map_outputs(
    reference: Sequence[TensorSpec],
    candidate: Sequence[TensorSpec],
    reference_values: Sequence[Mapping[str, Array]] = (),
    candidate_values: Sequence[Mapping[str, Array]] = (),
    *,
    given: Mapping[str, str] | None = None,
) -> TensorMapping:
    """Pair the outputs of two artifacts.

    Names decide first: the logical name, the name inside the artifact, then either without decorations.
    What is left is paired by shape and by values on the probes: one to one, and clearly better than any
    other way.

    Args:
        reference: outputs of the reference in its order.
        candidate: outputs of the candidate.
        reference_values: outputs by name, one mapping a probe.
        candidate_values: of the same probes in the same order.
        given: reference name to candidate name, as said with ``--map``.

    Returns:
        The pairs. An output that can have no partner (none of its shape is left) is listed as unmatched.

    Raises:
        UsageError: ``given`` names what is not there, or several ways to pair are about as good.
    """
    pairs = _by_name(reference, candidate, given or {}, "output")
    left = [spec for spec in reference if spec.name not in pairs]
    taken = {pair.candidate for pair in pairs.values()}
    right = [spec for spec in candidate if spec.name not in taken]
    if left and right:
        cost = np.array(
            [[_distance(a, b, reference_values, candidate_values) for b in right] for a in left]
        ).reshape(len(left), len(right))
        for row, column, how in _by_value(cost, left, right, reference_values):
            pairs[left[row].name] = Pair(left[row].name, right[column].name, how)
    return _finished(reference, candidate, pairs)


def map_inputs(
    reference: Sequence[TensorSpec],
    candidate: Sequence[TensorSpec],
    *,
    given: Mapping[str, str] | None = None,
    distance_of: Callable[[Mapping[str, str]], float] | None = None,
) -> TensorMapping:
    """Pair the inputs of two artifacts, by name, then by unique shape and dtype, then by trying.

    Args:
        reference: inputs of the reference in its order.
        candidate: inputs of the candidate.
        given: reference name to candidate name, as said with ``--map``.
        distance_of: feeds the candidate by a full mapping and returns how far its outputs are from the
            reference's (0 is equal, ``inf`` where it refuses); tried where shapes and dtypes leave few
            ways.

    Raises:
        UsageError: ``given`` names what is not there, or several ways to pair are about as good.
    """
    pairs = _by_name(reference, candidate, given or {}, "input")
    left = [spec for spec in reference if spec.name not in pairs]
    taken = {pair.candidate for pair in pairs.values()}
    right = [spec for spec in candidate if spec.name not in taken]
    ways = _ways(left, right)
    if len(ways) == 1:
        pairs.update({a.name: Pair(a.name, b.name, "shape") for a, b in ways[0]})
    elif ways:
        best = None
        if distance_of is not None and len(ways) <= MOST_PERMUTATIONS:
            fixed = {name: pair.candidate for name, pair in pairs.items()}
            costs = [distance_of({**fixed, **{a.name: b.name for a, b in way}}) for way in ways]
            order = sorted(range(len(ways)), key=lambda index: costs[index])
            if costs[order[0]] <= ALIKE and not _rivals(costs[order[0]], costs[order[1]]):
                best = ways[order[0]]
        if best is None:
            raise _ambiguous("input", [spec.name for spec in left], [spec.name for spec in right])
        pairs.update({a.name: Pair(a.name, b.name, "value") for a, b in best})
    return _finished(reference, candidate, pairs)


def relative_distance(reference: Array, candidate: Array) -> float:
    """``rms(c - r) / rms(r)`` of real values, or the share of unequal elements of integers and text.

    0 is equal, about 1.4 is unrelated, ``inf`` means different shapes or kinds.
    """
    if reference.shape != candidate.shape or is_text(reference) != is_text(candidate):
        return math.inf
    if reference.size == 0:
        return 0.0
    if is_text(reference) or reference.dtype.kind in "biu":
        return mismatched(reference, candidate) or 0.0
    finite = np.isfinite(wide(reference)) & np.isfinite(wide(candidate))
    if not finite.any():
        return 0.0 if bool(np.array_equal(np.isnan(reference), np.isnan(candidate))) else 1.0
    signal = root_mean_square(wide(reference)[finite])
    noise = root_mean_square(difference(reference, candidate)[finite])
    if signal == 0.0:
        return 0.0 if noise == 0.0 else 2.0
    return min(noise / signal, 1e6) + 2.0 * float(np.mean(~finite))


def real_values(values: Array, spec: TensorSpec) -> Array:
    """Dequantized where the spec says how, else as they are."""
    return values if spec.quantization is None or is_text(values) else dequantize(values, spec.quantization)


def compatible(one: TensorSpec, other: TensorSpec) -> bool:
    """Whether the declared shapes can be those of one tensor (an open dimension fits any)."""
    if one.shape is None or other.shape is None:
        return True
    return len(one.shape) == len(other.shape) and all(
        a is None or b is None or a == b for a, b in zip(one.shape, other.shape, strict=True)
    )


def _by_name(
    reference: Sequence[TensorSpec], candidate: Sequence[TensorSpec], given: Mapping[str, str], role: str
) -> dict[str, Pair]:
    names = {spec.name for spec in candidate}
    for said, partner in given.items():
        if said not in {spec.name for spec in reference}:
            raise UsageError(f"the reference has no {role} '{said}'", where="--map", hint=_list(reference))
        if partner not in names:
            raise UsageError(f"the candidate has no {role} '{partner}'", where="--map", hint=_list(candidate))
    if len(set(given.values())) < len(given):
        raise UsageError(f"two {role}s are mapped to one", where="--map", hint="give each its own partner")
    pairs = {said: Pair(said, partner, "given") for said, partner in given.items()}
    ways: tuple[tuple[str, Callable[[TensorSpec], set[str]]], ...] = (
        ("name", lambda spec: {spec.name}),
        ("tensor", lambda spec: {spec.name, spec.inner_name}),
        (
            "decorated name",
            lambda spec: {p for p in (plain_name(spec.name), plain_name(spec.inner_name)) if p is not None},
        ),
    )
    for how, names_of in ways:
        taken = {pair.candidate for pair in pairs.values()}
        left = [spec for spec in reference if spec.name not in pairs]
        right = [spec for spec in candidate if spec.name not in taken]
        for one in left:
            found = [other for other in right if names_of(one) & names_of(other)]
            rivals = [rival for rival in left if found and names_of(rival) & names_of(found[0])]
            # Two that share a name once its decorations are off are left to their values. Exporters call
            # outputs output_0, identity_1: such names only count where they are the logical ones.
            if len(found) == 1 and len(rivals) == 1:
                pairs[one.name] = Pair(one.name, found[0].name, how)
    return pairs


def _distance(
    one: TensorSpec,
    other: TensorSpec,
    reference_values: Sequence[Mapping[str, Array]],
    candidate_values: Sequence[Mapping[str, Array]],
) -> float:
    """Mean distance over probes; by declared shapes alone (0.0 or inf) where there are no values."""
    if not compatible(one, other):
        return math.inf
    distances = [
        relative_distance(real_values(a[one.name], one), real_values(b[other.name], other))
        for a, b in zip(reference_values, candidate_values, strict=False)
        if one.name in a and other.name in b
    ]
    if any(math.isinf(distance) for distance in distances):
        return math.inf
    return sum(distances) / len(distances) if distances else 0.0


def _by_value(
    cost: Array,
    left: Sequence[TensorSpec],
    right: Sequence[TensorSpec],
    reference_values: Sequence[Mapping[str, Array]],
) -> list[tuple[int, int, str]]:
    found: list[tuple[int, int, str]] = []
    rows, columns = list(range(len(left))), list(range(len(right)))
    # First what shapes alone decide, however far the values are: the gate will say how far.
    while True:
        certain = _certain(cost, rows, columns)
        if certain is None:
            break
        row, column = certain
        alone = len(rows) == 1 and len(columns) == 1
        found.append((row, column, "only one left" if alone else "shape"))
        rows.remove(row)
        columns.remove(column)
    rows = [row for row in rows if any(math.isfinite(cost[row, column]) for column in columns)]
    columns = [column for column in columns if any(math.isfinite(cost[row, column]) for row in rows)]
    if not rows or not columns:
        return found
    part = cost[np.ix_(rows, columns)]
    finite = np.where(np.isfinite(part), part, 1e9)
    if len(rows) <= len(columns):
        chosen = list(enumerate(assign(finite)))
    else:
        chosen = [(row, column) for column, row in enumerate(assign(finite.T))]
    for row, column in chosen:
        if not _clear(part, row, column, [left[index] for index in rows], reference_values):
            raise _ambiguous("output", [left[i].name for i in rows], [right[i].name for i in columns])
        found.append((rows[row], columns[column], "value"))
    return found


def _certain(cost: Array, rows: Sequence[int], columns: Sequence[int]) -> tuple[int, int] | None:
    for row in rows:
        fitting = [column for column in columns if math.isfinite(cost[row, column])]
        if len(fitting) == 1:
            rivals = [other for other in rows if math.isfinite(cost[other, fitting[0]])]
            if rivals == [row]:
                return row, fitting[0]
    return None


def _clear(
    part: Array,
    row: int,
    column: int,
    left: Sequence[TensorSpec],
    reference_values: Sequence[Mapping[str, Array]],
) -> bool:
    own = float(part[row, column])
    if own > ALIKE:
        return False
    rows = [r for r in range(part.shape[0]) if r != row and _rivals(own, float(part[r, column]))]
    # Two outputs of the reference that are the same numbers may have either partner.
    if not all(_same(left, row, other, reference_values) for other in rows):
        return False
    columns = [c for c in range(part.shape[1]) if c != column and _rivals(own, float(part[row, c]))]
    if not columns:
        return True
    # So may two of the candidate, if both are the reference's very numbers.
    return bool(reference_values) and own <= EQUAL and all(float(part[row, c]) <= EQUAL for c in columns)


def _rivals(own: float, other: float) -> bool:
    return other <= EQUAL or own > CLEARLY * other


def _same(
    left: Sequence[TensorSpec], one: int, other: int, reference_values: Sequence[Mapping[str, Array]]
) -> bool:
    first, second = left[one], left[other]
    return bool(reference_values) and all(
        first.name in values
        and second.name in values
        and relative_distance(values[first.name], values[second.name]) <= EQUAL
        for values in reference_values
    )


def _ways(
    left: Sequence[TensorSpec], right: Sequence[TensorSpec]
) -> list[tuple[tuple[TensorSpec, TensorSpec], ...]]:
    if not left or len(left) != len(right) or len(left) > 6:
        return []
    return [
        tuple(zip(left, order, strict=True))
        for order in itertools.permutations(right)
        if all(compatible(a, b) and _same_kind(a, b) for a, b in zip(left, order, strict=True))
    ]


def _same_kind(one: TensorSpec, other: TensorSpec) -> bool:
    return one.dtype == other.dtype or one.quantization is not None or other.quantization is not None


def _finished(
    reference: Sequence[TensorSpec], candidate: Sequence[TensorSpec], pairs: Mapping[str, Pair]
) -> TensorMapping:
    taken = {pair.candidate for pair in pairs.values()}
    return TensorMapping(
        tuple(pairs[spec.name] for spec in reference if spec.name in pairs),
        tuple(spec.name for spec in reference if spec.name not in pairs),
        tuple(spec.name for spec in candidate if spec.name not in taken),
    )


def _ambiguous(role: str, left: Sequence[str], right: Sequence[str]) -> UsageError:
    return UsageError(
        f"it is not clear which {role} is which",
        where=", ".join(left),
        why=f"the candidate has {', '.join(right)}, and names, shapes and values do not decide",
        hint=f"--map {left[0]}={right[0]} (one for each {role})",
    )


def _list(specs: Sequence[TensorSpec]) -> str:
    return f"it has {', '.join(spec.name for spec in specs) or 'none'}"
