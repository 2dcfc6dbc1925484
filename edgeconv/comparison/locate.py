"""Finds the first tensor at which two formats of one model part, and says whether one op is to blame.

An error at the output may come from one op that computes something else, or from the rounding of many ops
that has added up. The two look alike in a list of errors by depth. What separates them is the error of each
op *on the candidate's own inputs*: the reference's part of the graph is run once more, fed with the inner
values that the candidate computed, and its answer is compared with the candidate's. A drift that came in
through the inputs is then on both sides and drops out.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgeconv.comparison.matching import Match, as_reference, match_tensors, relative_error
from edgeconv.comparison.tensor_sources.base import Array, TensorSource
from edgeconv.comparison.tolerances import Tolerance
from edgeconv.errors import UsageError

Kind = Literal["single-op", "accumulated", "none"]

OUTLIER = 6.0
"""An op's own error must be this many times the median of all ops' to be an error and no rounding."""
JUMP = 10.0
"""Where no side can be run in part: growth of the error from an op's inputs to its output that counts."""
ROUNDING = {"fp32": 1e-4, "fp16": 2e-2, "dynamic": 0.1, "int8": 0.15, "int16x8": 0.1}
"""Own error of an op, relative to its output, that its precision explains."""


@dataclass(frozen=True, slots=True)
class TensorError:
    """One tensor that both models have.

    Attributes:
        reference: its name in the reference.
        candidate: its name in the candidate.
        op: the candidate's op that computes it.
        op_type: its type.
        accumulated: ``rms(candidate - reference) / rms(reference)``, largest over the probes.
        own: the same for this op alone (with all ops since the last matched tensors), fed with equal
            inputs; ``None`` where it could not be run alone.
        since: the matched tensors it was fed with, in the candidate.
        found: how the two were matched (``name``, ``value``, ``output``).
    """

    reference: str
    candidate: str
    op: str
    op_type: str
    accumulated: float
    own: float | None
    since: tuple[str, ...]
    found: str


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where two models part.

    Attributes:
        first: the candidate's tensor where they do; ``None`` if nowhere.
        op: the op that computes it, with its type.
        kind: ``single-op`` (one op is wrong), ``accumulated`` (no op is, the sum of rounding is too large),
            or ``none`` (within tolerance all the way).
        curve: errors of all matched tensors in the candidate's order.
        explanation: some sentences for a person.
    """

    first: str | None
    op: str | None
    kind: Kind
    curve: tuple[TensorError, ...]
    explanation: str


def locate(
    reference: TensorSource,
    candidate: TensorSource,
    probes: Sequence[tuple[Mapping[str, Array], Mapping[str, Array]]],
    tolerance: Tolerance,
    *,
    outputs: Mapping[str, str] | None = None,
) -> Divergence:
    """Find the first tensor at which the candidate parts from the reference.

    Args:
        reference: opened by :func:`~edgeconv.comparison.tensor_sources.base.open_source`.
        candidate: likewise.
        probes: the same probe as each side takes it (see
            :func:`~edgeconv.comparison.observation.adapt_inputs`); two tell tensors apart better than one.
        tolerance: of the candidate's precision.
        outputs: reference output to candidate output where their names differ.

    Raises:
        UsageError: there is no probe, or nothing inside the two could be matched.
    """
    if not probes:
        raise UsageError("there is nothing to run", hint="give at least one probe")
    ours = [_values(reference, inputs) for inputs, _ in probes]
    theirs = [_values(candidate, inputs) for _, inputs in probes]
    partners = outputs or {name: name for name in reference.outputs if name in candidate.outputs}
    pairs = {candidate.outputs[b]: reference.outputs[a] for a, b in partners.items()}
    feeds = {
        candidate.inputs[name]: reference.inputs[name]
        for name in reference.inputs
        if name in candidate.inputs
    }
    matches = match_tensors(reference, candidate, ours, theirs, pairs, feeds)
    if not any(match.found != "input" for match in matches.values()):
        raise UsageError(
            "no tensor inside the two models could be matched",
            hint="are they the same model? 'edgeconv inspect' shows both",
        )
    curve = tuple(
        _error_of(match, matches, reference, candidate, ours, theirs, probes)
        for match in matches.values()
        if match.found != "input"
    )
    return diagnose(curve, tolerance)


def diagnose(curve: Sequence[TensorError], tolerance: Tolerance) -> Divergence:
    """Tell one wrong op from accumulated drift.

    Args:
        curve: errors in the candidate's order.
        tolerance: of the candidate's precision.
    """
    rounding = ROUNDING.get(tolerance.precision, ROUNDING["int8"])
    own = [_own(error, curve) for error in curve]
    usual = statistics.median(own) if own else 0.0
    limit = max(rounding, OUTLIER * usual)
    for error, size in zip(curve, own, strict=True):
        if size <= limit:
            continue
        since = ", ".join(error.since) or "the inputs"
        how = (
            f"fed with the same values of {since}, the reference gives another result for it: own error "
            f"{size:.3g}, where the other ops have {usual:.2g}"
            if error.own is not None
            else f"the error grows from {_before(error, curve):.2g} at {since} to {error.accumulated:.3g} "
            "here; neither model can be run in part, so this is by the growth alone"
        )
        return Divergence(
            error.candidate,
            f"{error.op} ({error.op_type})",
            "single-op",
            tuple(curve),
            f"{error.op_type} '{error.op}' is the first to compute something else: {how}.",
        )
    allowed = 10 ** (-tolerance.sqnr / 20)
    beyond = [error for error in curve if error.accumulated > allowed]
    if not beyond or not _reaches_the_end(curve, allowed):
        return Divergence(
            None,
            None,
            "none",
            tuple(curve),
            f"{len(curve)} matched tensors agree: the largest error of an op alone is "
            f"{max(own, default=0.0):.3g}, the error at the last tensor {curve[-1].accumulated:.3g}.",
        )
    first = beyond[0]
    return Divergence(
        first.candidate,
        f"{first.op} ({first.op_type})",
        "accumulated",
        tuple(curve),
        f"no op is wrong by itself (largest own error {max(own):.3g}, typically {usual:.2g}), but rounding "
        f"adds up: it passes {allowed:.2g} at '{first.candidate}' and ends at {curve[-1].accumulated:.3g}.",
    )


def _reaches_the_end(curve: Sequence[TensorError], allowed: float) -> bool:
    ends = [error for error in curve if error.found == "output"] or [curve[-1]]
    return any(error.accumulated > allowed for error in ends)


def _own(error: TensorError, curve: Sequence[TensorError]) -> float:
    if error.own is not None:
        return error.own
    before = _before(error, curve)
    # Without a run of the op alone only a jump can be told from what came in through the inputs.
    return error.accumulated if error.accumulated > JUMP * before else 0.0


def _before(error: TensorError, curve: Sequence[TensorError]) -> float:
    return max((other.accumulated for other in curve if other.candidate in error.since), default=0.0)


def _values(source: TensorSource, inputs: Mapping[str, Array]) -> dict[str, Array]:
    names = [tensor.name for tensor in source.tensors]
    found = source.values(names, inputs)
    found.update({source.inputs[name]: np.asarray(value) for name, value in inputs.items()})
    return found


def _error_of(
    match: Match,
    matches: Mapping[str, Match],
    reference: TensorSource,
    candidate: TensorSource,
    ours: Sequence[Mapping[str, Array]],
    theirs: Sequence[Mapping[str, Array]],
    probes: Sequence[tuple[Mapping[str, Array], Mapping[str, Array]]],
) -> TensorError:
    tensor = match.candidate
    since = _last_matched(tensor.name, matches, candidate)
    accumulated = max(
        relative_error(one[match.reference], as_reference(two[tensor.name], match))
        for one, two in zip(ours, theirs, strict=True)
    )
    own = None
    if reference.can_rerun or candidate.can_rerun:
        own = _own_error(match, [matches[name] for name in since], reference, candidate, ours, theirs, probes)
    return TensorError(
        match.reference, tensor.name, tensor.op, tensor.op_type, accumulated, own, tuple(since), match.found
    )


def _own_error(
    match: Match,
    since: Sequence[Match],
    reference: TensorSource,
    candidate: TensorSource,
    ours: Sequence[Mapping[str, Array]],
    theirs: Sequence[Mapping[str, Array]],
    probes: Sequence[tuple[Mapping[str, Array], Mapping[str, Array]]],
) -> float | None:
    worst: float | None = None
    for one, two, (our_inputs, their_inputs) in zip(ours, theirs, probes, strict=True):
        if reference.can_rerun:
            feeds = {m.reference: as_reference(two[m.candidate.name], m) for m in since if m.found != "input"}
            # A change of type only: both tensors of the candidate stand for one of the reference.
            again = feeds.pop(match.reference, None)
            if again is None:
                again = reference.rerun(match.reference, feeds, our_inputs)
            given = as_reference(two[match.candidate.name], match)
        else:
            feeds = {
                m.candidate.name: _as_candidate(one[m.reference], m) for m in since if m.found != "input"
            }
            found = candidate.rerun(match.candidate.name, feeds, their_inputs)
            if found is None:
                continue
            again, given = one[match.reference], as_reference(found, match)
        if again is None or again.shape != given.shape:
            continue
        error = relative_error(again, given)
        worst = error if worst is None else max(worst, error)
    return worst


def _as_candidate(values: Array, match: Match) -> Array:
    if match.axes is None:
        return values
    return np.transpose(values, np.argsort(match.axes))


def _last_matched(name: str, matches: Mapping[str, Match], candidate: TensorSource) -> list[str]:
    """The nearest tensors before ``name`` that have a partner, going back through those that have none."""
    reads = {tensor.name: tensor.inputs for tensor in candidate.tensors}
    stack, seen, found = list(reads.get(name, ())), {name}, []
    while stack:
        current = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        if current in matches:
            found.append(current)
        else:
            stack += reads.get(current, ())
    return sorted(found)
