"""Whether the numbers of one output are close enough: the last step of the gate.

An output is judged in parts that have a scale of their own, so that nothing hides behind a large range:
each group of channels whose magnitudes are far apart (boxes and scores in one tensor), each probe, each
item of a batch, and each channel of the last axis where there are enough rows to judge one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeconv.comparison import metrics
from edgeconv.comparison.archive import Array
from edgeconv.comparison.tolerances import Tolerance

ROWS_FOR_CHANNELS = 16
"""Rows (all axes but the channels', over all probes) from which on a channel is judged by itself."""
GAP = 30.0
"""Ratio of magnitudes that parts channels into groups: 500 pixels and scores of 1 are 500 apart."""
MOST_CHANNELS = 4096
MOST_ITEMS = 16
STUCK_SHARE = 0.05
"""Share of elements with one and the same value from which on they are looked at by themselves."""
STUCK_RATIO = 4.0


@dataclass(frozen=True, slots=True)
class Finding:
    """Why the numbers fail: what, which bound, and which channels of the last axis (or ``None``)."""

    reason: str
    channel: int | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """``finding`` is ``None`` for a pass; ``note`` is what a person should know of a pass."""

    finding: Finding | None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    reference: tuple[Array, ...]
    candidate: tuple[Array, ...]
    first_channel: int | None


def judge_numbers(
    reference: Sequence[Array], candidate: Sequence[Array], tolerance: Tolerance, *, step: float = 0.0
) -> Judgement:
    """Judge finite real or complex values of one output.

    Args:
        reference: real values, one array a probe; not empty.
        candidate: of the same shapes.
        tolerance: the bounds.
        step: largest quantization step of the candidate's output, 0 where it is not known.
    """
    one, two = [metrics.wide(values) for values in reference], [metrics.wide(values) for values in candidate]
    kept = [index for index, values in enumerate(one) if values.size]
    one, two = [one[index] for index in kept], [two[index] for index in kept]
    if not one:
        return Judgement(None, "empty on every probe")
    if all(np.array_equal(a, b) for a, b in zip(one, two, strict=True)):
        return Judgement(None)
    groups = channel_groups(one, two)
    channels = _judge_channels(one, two, tolerance, step) if len(groups) == 1 else []
    for group in groups:
        finding = _judge_group(group, tolerance, step)
        if finding is not None:
            # A few wrong channels are the better reason than what they do to the whole.
            few = 0 < len(channels) <= one[0].shape[-1] // 4
            lost = _below_resolution(one, two, tolerance, step)
            return Judgement(lost or (channels[0] if few else finding))
    return Judgement(channels[0] if channels else None)


def channel_groups(reference: Sequence[Array], candidate: Sequence[Array]) -> list[_Group]:
    """Parts of the last axis whose magnitudes are more than :data:`GAP` apart, if they lie in one piece.

    One piece, because a concatenation does, and channels that are small by chance do not.
    """
    whole = [_Group("", tuple(reference), tuple(candidate), None)]
    sizes = _channel_sizes(reference)
    if sizes is None:
        return whole
    live = np.sort(sizes[sizes > 0])
    if live.size < 2 or _is_distribution(reference):
        return whole
    ratios = live[1:] / live[:-1]
    if ratios.max() < GAP:
        return whole
    bounds = live[:-1][ratios >= GAP] * math.sqrt(GAP)
    levels = np.searchsorted(bounds, sizes)
    starts = [0, *[int(i) + 1 for i in np.flatnonzero(np.diff(levels))], len(sizes)]
    pieces = list(itertools.pairwise(starts))
    # Boxes, objectness, classes: a handful of pieces. Many alternating ones are noise of dead channels.
    if len(pieces) > 4:
        return whole
    return [
        _Group(
            f"channels {start} to {stop - 1} of the last axis" if stop - start > 1 else f"channel {start}",
            tuple(values[..., start:stop] for values in reference),
            tuple(values[..., start:stop] for values in candidate),
            start,
        )
        for start, stop in pieces
    ]


def _judge_group(group: _Group, tolerance: Tolerance, step: float) -> Finding | None:
    where = f" in {group.name}" if group.name else ""
    all_reference, all_candidate = _flat(group.reference), _flat(group.candidate)
    largest = _largest(all_reference)
    if largest == 0.0:
        worst = _largest(all_candidate)
        if worst <= max(tolerance.abs, step):
            return None
        return Finding(
            f"the reference is all zero{where}, the candidate up to {worst:.3g}", group.first_channel
        )
    stuck = _stuck(all_reference, all_candidate, tolerance, largest, step)
    if stuck is not None:
        return Finding(stuck + where, group.first_channel)
    ratio = metrics.sqnr_db(all_reference, all_candidate)
    if ratio is not None and ratio < tolerance.sqnr:
        reason = f"signal-to-noise ratio {ratio:.1f} dB, wanted {tolerance.sqnr:g} dB"
        return Finding(reason + where + _shape_of_error(all_reference, all_candidate), group.first_channel)
    angle = metrics.cosine(all_reference, all_candidate)
    if angle is not None and angle < tolerance.cosine:
        return Finding(f"cosine {angle:.6g}, wanted {tolerance.cosine:g}{where}", group.first_channel)
    linear = _varying_correlation(all_reference, all_candidate, tolerance, largest)
    if linear is not None and linear < tolerance.corr:
        return Finding(f"correlation {linear:.4g}, wanted {tolerance.corr:g}{where}", group.first_channel)
    for index, (one, two) in enumerate(zip(group.reference, group.candidate, strict=True)):
        # A grid has one step for all probes; floating point has its digits on each.
        scale = largest if tolerance.quantized else _largest(one)
        error = metrics.difference(one, two)
        excess = error - (max(tolerance.abs, 0.0) + tolerance.rel * scale)
        if excess.max() > 0 and error.max() > step:
            return Finding(
                f"off by {error.max():.4g}, allowed {tolerance.abs + tolerance.rel * scale:.4g} "
                f"at a largest value of {scale:.4g}{where}",
                group.first_channel,
            )
        for name, part_one, part_two in _items(one, two):
            finding = _judge_part(name, part_one, part_two, tolerance, largest, step)
            if finding is not None:
                return Finding(f"{finding}, probe {index}{where}", group.first_channel)
    return None


def _judge_part(
    name: str, reference: Array, candidate: Array, tolerance: Tolerance, largest: float, step: float
) -> str | None:
    """One probe, one item of a batch, or one channel against the bounds for channels."""
    own = _largest(reference)
    floor = max(tolerance.resolution * largest, step)
    error = metrics.difference(reference, candidate)
    if own <= floor:
        allowed = max(2 * floor, tolerance.abs)
        return None if error.max() <= allowed else f"{name} off by {error.max():.3g}, allowed {allowed:.3g}"
    ratio = metrics.sqnr_db(reference, candidate)
    if ratio is not None and ratio < tolerance.channel_sqnr and error.max() > floor:
        return f"{name}: signal-to-noise ratio {ratio:.1f} dB, wanted {tolerance.channel_sqnr:g} dB"
    return None


def _judge_channels(
    reference: Sequence[Array], candidate: Sequence[Array], tolerance: Tolerance, step: float
) -> list[Finding]:
    """One finding a wrong channel of the last axis, where there are rows enough to judge one."""
    sizes = _channel_sizes(reference)
    if sizes is None:
        return []
    largest = float(sizes.max())
    one, two = _by_channel(reference), _by_channel(candidate)
    findings: list[Finding] = []
    for channel in range(one.shape[0]):
        part_one, part_two = one[channel], two[channel]
        reason = _judge_part(f"channel {channel}", part_one, part_two, tolerance, largest, step)
        if reason is None:
            linear = _varying_correlation(part_one, part_two, tolerance, largest)
            if linear is not None and linear < tolerance.channel_corr:
                reason = f"channel {channel}: correlation {linear:.3g}, wanted {tolerance.channel_corr:g}"
        if reason is not None:
            twin = "" if findings else _twin(part_two, one, channel)
            findings.append(Finding(reason + twin, channel))
    return findings


def _twin(candidate: Array, reference: Array, channel: int) -> str:
    """Names the channel of the reference that the candidate's channel equals instead."""
    for other in range(reference.shape[0]):
        if other == channel:
            continue
        ratio = metrics.sqnr_db(reference[other], candidate)
        if ratio is not None and ratio > 10.0:
            return f" (it equals channel {other} of the reference)"
    return ""


def _below_resolution(
    reference: Sequence[Array], candidate: Sequence[Array], tolerance: Tolerance, step: float
) -> Finding | None:
    """The better reason where a quantized output fails because its type cannot carry the signal at all.

    Every value may then be the nearest the type can hold, and still nothing is left of the output (1,000
    classes at 0.001 each in a softmax with steps of 1/256). Nothing is proven by that, so it is no pass.
    """
    if not tolerance.quantized:
        return None
    one, two = _flat(reference), _flat(candidate)
    if np.iscomplexobj(one) or np.iscomplexobj(two):
        return None
    known = step
    if known <= 0.0 and _is_distribution(reference):
        known = 1 / 256 if tolerance.precision == "int8" else 1 / 32768
    if known <= 0.0 or _largest(one) > known or _largest(two - one) > known:
        return None
    return Finding(
        f"the reference is nowhere larger than one quantization step ({known:.3g}), so nothing is left of it:"
        " keep the operator that makes this output in float"
    )


def _stuck(
    reference: Array, candidate: Array, tolerance: Tolerance, largest: float, step: float
) -> str | None:
    """Elements that share one value in the candidate and are far more wrong than the others.

    A zeroed quarter of small scores is invisible in any sum over all of them; here it is not: honest
    errors do not care whether many elements happen to round to the same value.
    """
    if candidate.size < ROWS_FOR_CHANNELS or np.iscomplexobj(candidate) or np.iscomplexobj(reference):
        return None
    values, counts = np.unique(candidate, return_counts=True)
    common = values[counts.argmax()]
    share = float(counts.max() / candidate.size)
    if share < STUCK_SHARE or share == 1.0:
        return None
    same = candidate == common
    error = metrics.difference(reference, candidate)
    # Values closer together than a rounding error are one step of no grid.
    gaps = np.diff(values)
    gaps = gaps[gaps > 1e-6 * largest]
    grid = max(step, float(gaps.min()) if tolerance.quantized and gaps.size else 0.0)
    inside, outside = metrics.root_mean_square(error[same]), metrics.root_mean_square(error[~same])
    signal = metrics.root_mean_square(reference[same] - common)
    floor = max(grid, tolerance.resolution / 4 * largest if not tolerance.quantized else 0.0, tolerance.abs)
    lost = int(np.count_nonzero(same & (error > STUCK_RATIO * max(outside, floor))))
    if inside > STUCK_RATIO * outside and inside >= 0.5 * signal and lost >= max(2, 0.01 * candidate.size):
        return f"{lost} of {candidate.size} elements are stuck at {common:.4g}"
    return None


def _shape_of_error(reference: Array, candidate: Array) -> str:
    """A guess worth saying: a sign, a scale or a shift that would explain the error."""
    angle = metrics.cosine(reference, candidate)
    if angle is None or np.iscomplexobj(reference):
        return ""
    if _largest(candidate) == 0.0:
        return " (the candidate is all zero)"
    if angle < -0.9:
        return " (the sign is flipped)"
    if angle > 0.995:
        gain = metrics.root_mean_square(candidate) / metrics.root_mean_square(reference)
        return f" (it is the reference times {gain:.4g})"
    shifted = metrics.sqnr_db(reference[:-1], candidate[1:])
    back = metrics.sqnr_db(reference[1:], candidate[:-1])
    if max(shifted or -math.inf, back or -math.inf) > 15.0:
        return " (it is shifted by one element)"
    return ""


def _varying_correlation(
    reference: Array, candidate: Array, tolerance: Tolerance, largest: float
) -> float | None:
    if reference.size < 8 or float(np.std(reference)) <= tolerance.resolution * largest:
        return None
    return metrics.correlation(reference, candidate)


def _items(reference: Array, candidate: Array) -> list[tuple[str, Array, Array]]:
    if reference.ndim >= 2 and 1 < reference.shape[0] <= MOST_ITEMS:
        return [
            (f"item {index} of the batch", reference[index], candidate[index])
            for index in range(reference.shape[0])
        ]
    return [("the output", reference, candidate)]


def _channel_sizes(reference: Sequence[Array]) -> Array | None:
    """Largest magnitude of each channel, or ``None`` where channels are not to be judged alone."""
    if len({values.shape[-1:] for values in reference}) != 1 or reference[0].ndim < 2:
        return None
    channels = reference[0].shape[-1]
    rows = sum(values.size for values in reference) // channels
    if not 2 <= channels <= MOST_CHANNELS or rows < ROWS_FOR_CHANNELS:
        return None
    sizes = [np.abs(values).reshape(-1, channels).max(axis=0) for values in reference]
    return np.asarray(np.max(sizes, axis=0))


def _by_channel(values: Sequence[Array]) -> Array:
    """``[channels, rows]``, each channel in one piece of memory."""
    rows = np.concatenate([part.reshape(-1, part.shape[-1]) for part in values])
    return np.ascontiguousarray(rows.T)


def _is_distribution(reference: Sequence[Array]) -> bool:
    """Whether rows of the last axis are probabilities: none negative, each row sums to 1."""
    return all(
        not np.iscomplexobj(values)
        and values.ndim >= 1
        and values.min() >= 0.0
        and bool(np.allclose(values.sum(axis=-1), 1.0, atol=1e-3))
        for values in reference
    )


def _flat(values: Sequence[Array]) -> Array:
    return np.concatenate([part.reshape(-1) for part in values])


def _largest(values: Array) -> float:
    return float(np.abs(values).max()) if values.size else 0.0
