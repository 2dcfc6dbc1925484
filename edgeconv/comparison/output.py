"""The verdict on one output and its partner."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeconv.comparison import metrics
from edgeconv.comparison.archive import Array, is_text
from edgeconv.comparison.exactness import exactness
from edgeconv.comparison.mapping import real_values
from edgeconv.comparison.numbers import judge_numbers
from edgeconv.comparison.tolerances import Tolerance
from edgeconv.comparison.verdict import OutputVerdict
from edgeconv.formats.base import TensorSpec


@dataclass(frozen=True, slots=True)
class OutputValues:
    """One output on all probes that both sides ran: labels, reference, candidate (as they came)."""

    labels: tuple[str, ...]
    reference: tuple[Array, ...]
    candidate: tuple[Array, ...]


def judge_output(
    reference_spec: TensorSpec,
    candidate_spec: TensorSpec,
    values: OutputValues,
    unstable: tuple[bool, bool],
    tolerance: Tolerance,
    step: float | None = None,
) -> OutputVerdict:
    """Judge one output: shape, dtype, whether it is deterministic, NaN and infinity, then numbers.

    Args:
        reference_spec: of the reference.
        candidate_spec: of its partner.
        values: what both gave.
        unstable: whether reference and candidate gave different values for one input.
        tolerance: the bounds.
        step: between neighbouring values of a real output that the candidate computes in integers.
    """
    base = OutputVerdict(candidate_spec.name, reference_spec.name, "fail")

    def fail(reason: str) -> OutputVerdict:
        return dataclasses.replace(base, reason=reason)

    for label, one, two in zip(values.labels, values.reference, values.candidate, strict=True):
        if one.shape != two.shape:
            return fail(f"shape {list(two.shape)}, the reference has {list(one.shape)} (probe '{label}')")
    problem = _dtype_problem(reference_spec, candidate_spec, values, tolerance)
    if problem is not None:
        return fail(problem)
    for flag, side in zip(unstable, ("reference", "candidate"), strict=True):
        if flag:
            return fail(
                f"not deterministic: the {side} gives different values for the same input "
                "(a random op, or state kept between runs)"
            )
    exact = exactness(values.reference, values.candidate, reference_spec, candidate_spec, step)
    if exact is not None:
        base = dataclasses.replace(base, **dataclasses.asdict(exact))
    one_real = [real_values(array, reference_spec) for array in values.reference]
    two_real = [real_values(array, candidate_spec) for array in values.candidate]
    base = _measured(base, values.labels, one_real, two_real)
    if is_text(one_real[0]) or (one_real[0].dtype.kind in "biu" and two_real[0].dtype.kind in "biu"):
        return _judge_exact(base, one_real, two_real, tolerance)
    problem, note = _finiteness(values.labels, one_real, two_real, tolerance)
    if problem is not None:
        return dataclasses.replace(base, reason=problem)
    if note is not None:
        one_real, two_real = _only_finite(one_real, two_real)
        if not any(array.size for array in one_real):
            return dataclasses.replace(base, reason=f"{note}; no finite value is left to compare")
    stored = candidate_spec.quantization
    judgement = judge_numbers(one_real, two_real, tolerance, step=max(stored.scale) if stored else 0.0)
    if judgement.finding is not None:
        return dataclasses.replace(base, reason=judgement.finding.reason, channel=judgement.finding.channel)
    if tolerance.top1 is not None and base.top1 is not None and base.top1 < tolerance.top1:
        return dataclasses.replace(base, reason=f"top-1 agreement {base.top1:.4g}, wanted {tolerance.top1:g}")
    said = "; ".join(text for text in (note, judgement.note) if text) or None
    return dataclasses.replace(base, verdict="pass", reason=said)


def _dtype_problem(
    reference: TensorSpec, candidate: TensorSpec, values: OutputValues, tolerance: Tolerance
) -> str | None:
    for one, two in zip(values.reference, values.candidate, strict=True):
        if is_text(one) != is_text(two):
            return f"type {_kind(two)}, the reference has {_kind(one)}"
        if is_text(one):
            continue
        kind_one = np.dtype(np.float32) if reference.quantization is not None else one.dtype
        kind_two = np.dtype(np.float32) if candidate.quantization is not None else two.dtype
        if kind_one == kind_two:
            continue
        if candidate.quantization is None and kind_two.kind in "iu" and kind_one.kind == "f":
            return f"type {kind_two} without scale and zero point, the reference has {kind_one}"
        floats = {"float16", "bfloat16", "float32"}
        if tolerance.precision == "fp16" and {kind_one.name, kind_two.name} <= floats:
            continue
        return f"type {kind_two}, the reference has {kind_one}"
    return None


def _kind(values: Array) -> str:
    return "string" if is_text(values) else values.dtype.name


def _measured(
    base: OutputVerdict, labels: Sequence[str], reference: Sequence[Array], candidate: Sequence[Array]
) -> OutputVerdict:
    """The verdict with its metrics over all probes together, and the worst place.

    Places where both have NaN, or the same infinity, say nothing about distance and are left out of it.
    """
    compared = [
        (label, one, two) for label, one, two in zip(labels, reference, candidate, strict=True) if one.size
    ]
    if not compared:
        return base
    one_all, two_all = [one for _, one, _ in compared], [two for _, _, two in compared]
    if not is_text(one_all[0]):
        one_all, two_all = _only_finite(one_all, two_all)
    flat_one = np.concatenate([array.reshape(-1) for array in one_all])
    flat_two = np.concatenate([array.reshape(-1) for array in two_all])
    numbers = metrics.measure(flat_one, flat_two)
    # Classes are along the last axis, which the flat arrays have lost.
    shares = [metrics.top1(one, two) for one, two in zip(reference, candidate, strict=True) if one.size]
    known = [share for share in shares if share is not None]
    numbers["top1"] = sum(known) / len(known) if known else None
    fields = {field.name for field in dataclasses.fields(OutputVerdict)}
    own = {name: number for name, number in numbers.items() if name in fields}
    others = {name: number for name, number in numbers.items() if name not in fields}
    label, index, value_one, value_two = _worst(compared)
    return dataclasses.replace(
        base,
        **own,  # type: ignore[arg-type]
        other_metrics=others,
        worst_index=index,
        worst_probe=label,
        worst_reference_value=value_one,
        worst_candidate_value=value_two,
    )


def _worst(
    compared: Sequence[tuple[str, Array, Array]],
) -> tuple[str, tuple[int, ...], float | str | None, float | str | None]:
    worst: tuple[float, str, tuple[int, ...], object, object] | None = None
    for label, one, two in compared:
        if is_text(one) or is_text(two):
            error = metrics.unequal(one, two).astype(np.float64)
        else:
            error = metrics.difference(one, two)
            # A NaN on one side only is worse than any number; on both sides it is no distance.
            error = np.where(np.isnan(error), np.where(metrics.unequal(one, two), math.inf, 0.0), error)
        index = np.unravel_index(int(np.argmax(error)), error.shape) if error.shape else ()
        size = float(error[index])
        if worst is None or size > worst[0]:
            worst = (size, label, tuple(int(i) for i in index), one[index], two[index])
    assert worst is not None
    return worst[1], worst[2], _plain(worst[3]), _plain(worst[4])


def _plain(value: object) -> float | str | None:
    if isinstance(value, (bytes, str)):
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    array = np.asarray(value)
    if array.dtype.kind == "c":
        return str(array)
    number = float(array)
    return number if math.isfinite(number) else str(number)


def _judge_exact(
    base: OutputVerdict, reference: Sequence[Array], candidate: Sequence[Array], tolerance: Tolerance
) -> OutputVerdict:
    total = sum(array.size for array in reference)
    if total == 0:
        return dataclasses.replace(base, verdict="pass", reason="empty on every probe")
    wrong = sum(
        int(np.count_nonzero(metrics.unequal(a, b))) for a, b in zip(reference, candidate, strict=True)
    )
    # With few elements a share would let none differ or half of them.
    if wrong > tolerance.mismatched * total:
        reason = f"{wrong} of {total} elements differ, allowed {math.floor(tolerance.mismatched * total)}"
        return dataclasses.replace(base, reason=reason)
    said = f"{wrong} of {total} elements differ" if wrong else None
    return dataclasses.replace(base, verdict="pass", reason=said)


def _finiteness(
    labels: Sequence[str], reference: Sequence[Array], candidate: Sequence[Array], tolerance: Tolerance
) -> tuple[str | None, str | None]:
    """A reason to fail, and a note where what is not finite agrees and may be left out.

    NaN in the reference is a finding of its own: two models that are both broken do not prove each other.
    The same infinity at the same place is a value like any other (masks of attention are minus infinity).
    """
    note: str | None = None
    for label, one, two in zip(labels, reference, candidate, strict=True):
        nan_one, nan_two = np.isnan(one), np.isnan(two)
        if (nan_one != nan_two).any():
            side = "candidate" if (nan_two & ~nan_one).any() else "reference"
            place = _first(nan_two & ~nan_one if side == "candidate" else nan_one & ~nan_two)
            return f"NaN in the {side} alone, first at {place} (probe '{label}')", None
        if nan_one.any():
            text = f"the reference has NaN at {int(nan_one.sum())} places, first at {_first(nan_one)}"
            if not tolerance.allow_nan:
                return f"{text} (probe '{label}'), and so has the candidate", None
            note = f"{text}, and so has the candidate (allowed)"
        infinite = np.isinf(one) | np.isinf(two)
        if infinite.any():
            wrong = infinite & (one != two)
            if wrong.any():
                return f"infinity in only one of the two, first at {_first(wrong)} (probe '{label}')", None
            note = note or f"the same infinity in both at {int(infinite.sum())} places"
    return None, note


def _first(places: Array) -> list[int]:
    return [int(axis[0]) for axis in np.nonzero(places)] if places.ndim else []


def _only_finite(reference: Sequence[Array], candidate: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """The arrays, flat and without what is not finite where any has such; else as they are."""
    keep = [
        np.isfinite(metrics.wide(one)) & np.isfinite(metrics.wide(two))
        for one, two in zip(reference, candidate, strict=True)
    ]
    if all(bool(flags.all()) for flags in keep):
        return list(reference), list(candidate)
    return (
        [array[flags] for array, flags in zip(reference, keep, strict=True)],
        [array[flags] for array, flags in zip(candidate, keep, strict=True)],
    )
