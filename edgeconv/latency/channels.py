"""What a launch says about two models: one number a channel.

A launch is one fresh process that opened the models and measured them in alternating bursts. Where buffers
and weights came to lie is drawn once a launch and shifts all its samples together (1 to 2 % for small
models), so a launch is one observation however many samples it has, and everything here reduces it to one
log-ratio a channel, candidate over baseline:

- *floor*: the lower quartile over bursts of the least sample of a burst: what the work costs when nothing
  disturbs;
- *typical*: the median of the log-ratios of each sample to each of the neighbouring burst of the other;
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
"""Model to samples in nanoseconds, of shape (bursts, burst length); bursts i of all models are neighbours."""

DECIDING = ("floor", "typical")
CHANNELS = (*DECIDING, "tail")

_LEAST_TO_DROP = 3
_FLOOR_FROM_BURSTS = 4
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
    """The samples that count: without the first of each burst, which pays for the switch between the models.

    Bursts of one or two samples, as slow models have, are kept whole: there the switch is little beside the
    inference and both models pay it.
    """
    return (bursts[:, 1:] if bursts.shape[1] >= _LEAST_TO_DROP else bursts).astype(np.float64)


def checked(launches: Sequence[Launch], models: Iterable[str]) -> None:
    """Refuse samples that cannot be judged.

    Raises:
        UsageError: a model is missing, a shape is not (bursts, length) or differs, or a time is not positive.
    """
    for number, launch in enumerate(launches):
        shapes = set()
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
            raise UsageError(
                f"the models of launch {number} have samples of different shapes: {sorted(shapes)}"
            )


def floor(baseline: Floats, candidate: Floats) -> float:
    """The floor's log-ratio of one launch, from kept samples of shape (bursts, length)."""
    low, high = np.quantile(baseline.min(axis=1), 0.25), np.quantile(candidate.min(axis=1), 0.25)
    return float(np.log(high / low))


def typical(baseline: Floats, candidate: Floats) -> float:
    """The typical log-ratio of one launch, from kept samples of shape (bursts, length)."""
    return float(np.median(np.log(candidate[:, :, np.newaxis] / baseline[:, np.newaxis, :])))


def series(pairs: Sequence[tuple[Floats, Floats]]) -> dict[str, Series]:
    """All channels of launches given as kept samples (baseline, candidate).

    The floor is missing where launches have fewer than four bursts, as those of slow models: it would say
    the same as the typical channel, and each channel costs the others precision. The tail has no value yet
    where all launches together have too few samples for one.
    """
    found = {"typical": Series(np.array([typical(*pair) for pair in pairs]))}
    if min((len(pair[0]) for pair in pairs), default=0) >= _FLOOR_FROM_BURSTS:
        found["floor"] = Series(np.array([floor(*pair) for pair in pairs]))
    size = min((pair[0].size for pair in pairs), default=0)
    if size:
        pooled = -(-samples_needed(_TAIL_FROM) // size)
        fraction = highest_percentile(size * pooled)
        values = [
            _tail(pairs[begun : begun + pooled], fraction or _TAIL_FROM)
            for begun in range(0, len(pairs) - pooled + 1, pooled)
        ]
        found["tail"] = Series(np.array(values), pooled, fraction)
    return found


def _tail(pairs: Sequence[tuple[Floats, Floats]], fraction: float) -> float:
    baseline, candidate = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    return float(np.log(np.quantile(candidate, fraction) / np.quantile(baseline, fraction)))


def between(launches: Sequence[Launch], baseline: str, candidate: str) -> dict[str, Series]:
    """All channels of two models of the same launches."""
    return series([(kept(launch[baseline]), kept(launch[candidate])) for launch in launches])


def against_itself(launches: Sequence[Launch], model: str) -> dict[str, Series]:
    """All channels of a model against itself: one burst against the next, which of the two is first
    alternating.

    Both halves are of one opened model, so what differs between two openings is not in it; a second copy of
    the baseline among the models of each launch shows that too (:func:`between` with its name).
    """
    pairs = []
    for launch in launches:
        bursts = kept(launch[model])
        even = len(bursts) // 2 * 2
        if not even:
            return {}
        order = np.arange(even).reshape(-1, 2)
        order[1::2] = order[1::2, ::-1]
        pairs.append((bursts[order[:, 0]], bursts[order[:, 1]]))
    return series(pairs)
