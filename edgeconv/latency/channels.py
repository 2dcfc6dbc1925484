"""What a launch says about two models: one number a channel.

A launch is one fresh process that opened the models and measured them in alternating bursts. Where buffers
and weights came to lie is drawn once a launch and shifts all its samples together (1 to 2 % for small
models), so a launch is one observation however many samples it has, and everything here reduces it to one
log-ratio a channel, candidate over baseline:

- *floor*: the lower quartile over bursts of the least sample of a burst: what the work costs when nothing
  disturbs;
- *typical*: the median of the log-ratios of each sample to that at the same place of the other's burst before
  and after it, which cancels a drift and what a cache has lost to the other model;
- *tail*: the highest percentile that the samples allow, of launches pooled until they allow p90.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeconv.errors import UsageError
from edgeconv.latency.percentiles import highest_percentile, samples_needed
from edgeconv.latency.signed_rank import Floats

Launch = Mapping[str, npt.NDArray[np.int64]]
"""Model to samples in nanoseconds, of shape (bursts, burst length), the models in the order of their bursts:
burst 0 of each, then burst 1 of each, and so on."""

Flags = npt.NDArray[np.bool_]

DECIDING = ("floor", "typical")
CHANNELS = (*DECIDING, "tail")

_LEAST_TO_DROP = 3
_FLOOR_FROM_BURSTS = 8
_TAIL_FROM = 0.9


@dataclass(frozen=True)
class Series:
    """One channel of two models over launches.

    Attributes:
        values: log-ratios candidate / baseline in the order of measuring.
        launches: how many launches make one value.
        percentile: that of the tail, else ``None``.
    """

    values: Floats
    launches: int = 1
    percentile: float | None = None


def kept(bursts: npt.NDArray[np.int64]) -> Floats:
    """The samples that count where they are not paired by place: without the first of each burst, which pays
    for the switch between the models.

    Bursts of one or two samples, as slow models have, are kept whole: there the switch is little beside the
    inference and both models pay it. The shape is (…, bursts, length).
    """
    return (bursts[..., 1:] if bursts.shape[-1] >= _LEAST_TO_DROP else bursts).astype(np.float64)


def checked(launches: Sequence[Launch], models: Iterable[str]) -> None:
    """Refuse samples that cannot be judged.

    Raises:
        UsageError: there is no launch, a model is missing, a shape is not (bursts, length) or differs, or a
            time is not positive.
    """
    if not launches:
        raise UsageError("there is no launch to judge")
    shapes = set()
    for number, launch in enumerate(launches):
        for model in models:
            if model not in launch:
                raise UsageError(
                    f"launch {number} has no samples of '{model}'", why=f"it has {sorted(launch)}"
                )
            bursts = launch[model]
            if bursts.ndim != 2 or bursts.size == 0:
                raise UsageError(
                    f"samples of '{model}' have the shape {bursts.shape}", why="not (bursts, length)"
                )
            if bursts.min() <= 0:
                raise UsageError(f"launch {number} has a time of {bursts.min()} ns for '{model}'")
            shapes.add(bursts.shape)
        if len(shapes) > 1:
            raise UsageError(f"the samples up to launch {number} have different shapes: {sorted(shapes)}")


def floor(baseline: Floats, candidate: Floats) -> Floats:
    """The floor's log-ratio of each launch, from kept samples of shape (launches, bursts, length)."""
    low, high = (np.quantile(side.min(axis=2), 0.25, axis=1) for side in (baseline, candidate))
    ratios: Floats = np.log(high / low)
    return ratios


def typical(baseline: Floats, candidate: Floats, before: Flags) -> Floats:
    """The typical log-ratio of each launch, from samples of shape (launches, bursts, length).

    Args:
        baseline, candidate: all their samples, the first of each burst as well.
        before: of each launch, whether a burst of the baseline comes before that of the candidate.
    """
    swapped = ~before[:, np.newaxis, np.newaxis]
    first = np.log(np.where(swapped, candidate, baseline))
    second = np.log(np.where(swapped, baseline, candidate))
    neighbours = np.concatenate((second - first, second[:, :-1] - first[:, 1:]), axis=1)
    slower = np.median(neighbours.reshape(len(neighbours), -1), axis=1)
    return np.asarray(np.where(before, slower, -slower))


def series(baseline: Floats, candidate: Floats, change: Floats) -> dict[str, Series]:
    """All channels of two models.

    The floor is missing where launches have few bursts, as those of slow models: it would say the same as
    the typical channel, and each channel costs the others precision. The tail has no value yet where all
    launches together have too few samples for one.

    Args:
        baseline, candidate: kept samples of shape (launches, bursts, length).
        change: the typical log-ratio of each launch.
    """
    launches, bursts, length = baseline.shape
    found = {"typical": Series(change)}
    if bursts >= _FLOOR_FROM_BURSTS:
        found["floor"] = Series(floor(baseline, candidate))
    pooled = -(-samples_needed(_TAIL_FROM) // (bursts * length))
    fraction = highest_percentile(bursts * length * pooled) or _TAIL_FROM
    groups = launches // pooled
    values = np.empty(0)
    if groups:
        low, high = (
            np.quantile(side[: groups * pooled].reshape(groups, -1), fraction, axis=1)
            for side in (baseline, candidate)
        )
        values = np.log(high / low)
    found["tail"] = Series(values, pooled, fraction)
    return found


def between(launches: Sequence[Launch], baseline: str, candidate: str) -> dict[str, Series]:
    """All channels of two models of the same launches, which are at least one and of one shape."""
    sides = [np.stack([launch[name] for launch in launches]) for name in (baseline, candidate)]
    turns = [list(launch) for launch in launches]
    before = np.array([each.index(baseline) < each.index(candidate) for each in turns])
    low, high = (side.astype(np.float64) for side in sides)
    return series(kept(sides[0]), kept(sides[1]), typical(low, high, before))


def against_itself(launches: Sequence[Launch], model: str) -> dict[str, Series]:
    """All channels of a model against itself: one burst against the next, in an order that alternates.

    Both halves are of one opened model, so what differs between two openings is not in it; a second copy of
    the baseline among the models of each launch shows that too (:func:`between` with its name).
    """
    bursts = np.stack([launch[model] for launch in launches])
    even = bursts.shape[1] // 2 * 2
    if not even:
        return {}
    order = np.arange(even).reshape(-1, 2)
    order[1::2] = order[1::2, ::-1]
    low, high = (bursts[:, order[:, side]] for side in (0, 1))
    change = np.median(np.log(high / low).reshape(len(bursts), -1), axis=1)
    return series(kept(low), kept(high), change)
