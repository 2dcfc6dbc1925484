"""When a model has warmed up, and whether it stayed where it was: two rules, both stated and shown.

- *Warm*: the device runs inferences until the lower quartiles of the last three windows of samples lie within
  5 % (:func:`edgeconv.agent.measure.is_steady`). How many inferences that took is found again here, against
  the level that the launch came to afterwards.
- *Steady*: over the bursts that count, medians may not drift. A launch drifts when Kendall's rank correlation
  of the medians with time is beyond chance at 1 % **and** the median of its last third is more than 3 % away
  from that of its first. Either alone is nothing: many bursts make the smallest slope certain, and few make a
  large one by chance. Source of the variance: M. Kendall, "Rank correlation methods", section 4.
"""

from __future__ import annotations

import math

import numpy as np

from edgeconv.latency.records import LaunchRecord, Nanoseconds

WINDOW = 5
CLOSE = 1.05
DRIFT = 0.03
_LEVEL_Z = 2.576  # two-sided 1 %
_LEAST_BURSTS = 6


def settled_after(warm: Nanoseconds, level: float) -> int | None:
    """How many inferences of a warm-up were above the level that they came to.

    Args:
        warm: samples in their order, ns, the first inference of all among them or not.
        level: lower quartile of the samples that follow, ns.

    Returns:
        The least number from which on each window of five has its lower quartile within 5 % of ``level``;
        ``None`` where the last window has not.
    """
    count = len(warm)
    if count < WINDOW:
        return 0 if not count or float(np.quantile(warm, 0.25)) <= CLOSE * level else None
    windows = np.lib.stride_tricks.sliding_window_view(warm, WINDOW)
    above = np.flatnonzero(np.quantile(windows, 0.25, axis=1) > CLOSE * level)
    if not len(above):
        return 0
    last = int(above[-1])
    return None if last == len(windows) - 1 else last + 1


def level_of(launch: LaunchRecord) -> float:
    """What a launch came to: the lower quartile of its samples, ns."""
    return float(np.quantile(launch.samples, 0.25))


def drift(samples: Nanoseconds) -> float:
    """How far the last third of a launch is from its first, as a share of it; 0 where that may be chance.

    Args:
        samples: shape (bursts, samples of a burst), in their order.
    """
    medians = np.median(samples, axis=1)
    count = len(medians)
    if count < _LEAST_BURSTS:
        return 0.0
    if count > 2000:  # pairs are counted: as many as fit into memory
        medians = np.median(medians[: count // 1000 * 1000].reshape(1000, -1), axis=1)
        count = 1000
    above = np.sign(medians[None, :] - medians[:, None])
    concordance = float(np.triu(above, 1).sum())
    if abs(concordance) / math.sqrt(count * (count - 1) * (2 * count + 5) / 18) < _LEVEL_Z:
        return 0.0
    third = count // 3
    first, last = float(np.median(medians[:third])), float(np.median(medians[-third:]))
    return last / first - 1


def is_steady(launch: LaunchRecord) -> bool:
    """Whether a launch was warm when it began to count, and did not drift."""
    return launch.steady and abs(drift(launch.samples)) <= DRIFT


def curve(launch: LaunchRecord, points: int = 24) -> list[float]:
    """The way down of a launch: its first inference and its warm-up, thinned, as multiples of its level."""
    level = max(level_of(launch), 1.0)
    first = [] if launch.first_ns is None else [launch.first_ns]
    warm = launch.warm.astype(np.float64)
    if len(warm) > points:
        # Steps that grow: what is done once shows in the first few, and then little happens.
        edges = np.unique(np.geomspace(1, len(warm), points).astype(int))
        warm = np.array([np.median(warm[a:b]) for a, b in zip([0, *edges[:-1]], edges, strict=True)])
    return [value / level for value in [*first, *warm.tolist()]]
