"""What a measurement says in a few numbers, each only as far as launches and samples allow it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from edgeconv.latency.percentiles import median_interval, percentile, samples_needed
from edgeconv.latency.records import LEAST_TRUSTED, LaunchRecord, Measurement
from edgeconv.latency.signed_rank import interval
from edgeconv.latency.steady import is_steady, level_of, settled_after

PERCENTILES = (0.9, 0.99, 0.999)
_TAIL = 0.025


@dataclass(frozen=True)
class Spread:
    """A median over launches with its interval at 95 %, ``None`` where the launches are too few for one."""

    median: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Of one number a launch."""
        median, low, high = median_interval(np.array(values, np.float64))
        return cls(median, low if math.isfinite(low) else None, high if math.isfinite(high) else None)


@dataclass(frozen=True)
class Summary:
    """A measurement in numbers, nanoseconds unless a name says otherwise.

    Attributes:
        launches: how many count, of ``made``.
        samples: inferences in them.
        latency: of the launches' medians.
        floor: of the launches' least samples.
        percentiles: fraction to value over all samples; ``None`` where they are fewer than it needs.
        needed: fraction to the samples it needs.
        per_second: inferences one after another, with nothing between them.
        load_seconds, first_ns: of a launch.
        warm_inferences: until the launches had settled; ``None`` where half of them had not.
        peak_bytes: most memory of the process; ``None`` where the device does not tell.
        model_bytes: of it what came with the model.
        steady: launches that were warm and did not drift.
        spoiled: kind to number of launches.
        overhead_ns: of the harness, the median of the null model's launches.
    """

    launches: int
    made: int
    samples: int
    latency: Spread
    floor: float
    percentiles: dict[float, float | None]
    needed: dict[float, int]
    per_second: Spread
    load_seconds: Spread
    first_ns: float | None
    warm_inferences: float | None
    peak_bytes: float | None
    model_bytes: float | None
    steady: int
    spoiled: dict[str, int]
    overhead_ns: float | None


def summarise(measurement: Measurement) -> Summary:
    """A measurement in numbers."""
    counted = measurement.trusted
    pooled = np.concatenate([launch.samples.ravel() for launch in counted])
    firsts = [launch.first_ns for launch in counted if launch.first_ns is not None]
    settled = [settled_after(launch.warm, level_of(launch)) for launch in counted]
    warm = [value for value in settled if value is not None]
    peaks = [launch.peak_bytes for launch in counted if launch.peak_bytes is not None]
    added = [
        launch.peak_bytes - launch.import_bytes
        for launch in counted
        if launch.peak_bytes is not None and launch.import_bytes is not None
    ]
    kinds = Counter(
        kind for launch in measurement.launches for kind in sorted({s.kind for s in launch.spoiled})
    )
    return Summary(
        launches=len(counted),
        made=len(measurement.launches),
        samples=pooled.size,
        latency=Spread.of([_median(launch) for launch in counted]),
        floor=float(np.median([launch.samples.min() for launch in counted])),
        percentiles={fraction: percentile(pooled, fraction) for fraction in PERCENTILES},
        needed={fraction: samples_needed(fraction) for fraction in PERCENTILES},
        per_second=Spread.of([1e9 / max(float(launch.samples.mean()), 1.0) for launch in counted]),
        load_seconds=Spread.of([launch.load_seconds for launch in counted]),
        first_ns=float(np.median(firsts)) if firsts else None,
        warm_inferences=float(np.median(warm)) if 2 * len(warm) > len(settled) else None,
        peak_bytes=float(np.median(peaks)) if peaks else None,
        model_bytes=float(np.median(added)) if added else None,
        steady=sum(is_steady(launch) for launch in counted),
        spoiled=dict(kinds),
        overhead_ns=float(np.median(measurement.overhead_ns)) if measurement.overhead_ns else None,
    )


@dataclass(frozen=True)
class Ratio:
    """Time of one measurement over that of another, over launches made side by side.

    Attributes:
        ratio: the median over launches; below 1 the first is faster.
        low, high: its interval at 95 %; ``None`` where launches are too few.
        launches: pairs that count.
    """

    ratio: float
    low: float | None
    high: float | None
    launches: int

    @property
    def verdict(self) -> str:
        """``faster``, ``slower`` or ``no difference shown``."""
        if self.high is not None and self.high < 1:
            return "faster"
        if self.low is not None and self.low > 1:
            return "slower"
        return "no difference shown"


def comparable(one: Measurement, other: Measurement) -> bool:
    """Whether the times of two may be compared: one run, one device, which is a real one or itself."""
    return one.run == other.run and one.device.name == other.device.name


def ratio(of: Measurement, to: Measurement) -> Ratio | None:
    """Times of one over the other's, launch by launch; ``None`` where they may not be compared.

    Launches that were spoiled on either side are left out as long as enough are left. The interval is that
    of the signed-rank test on log-ratios (:mod:`edgeconv.latency.signed_rank`).
    """
    if not comparable(of, to):
        return None
    pairs = _pairs(of.launches, to.launches)
    good = [pair for pair in pairs if not pair[0].spoiled and not pair[1].spoiled]
    chosen = good if len(good) >= LEAST_TRUSTED else pairs
    if not chosen:
        return None
    logs = np.array([math.log(_median(first) / _median(second)) for first, second in chosen])
    low, high = interval(logs, _TAIL, _TAIL)
    return Ratio(
        math.exp(float(np.median(logs))),
        math.exp(low) if math.isfinite(low) else None,
        math.exp(high) if math.isfinite(high) else None,
        len(chosen),
    )


def _pairs(
    first: tuple[LaunchRecord, ...], second: tuple[LaunchRecord, ...]
) -> list[tuple[LaunchRecord, LaunchRecord]]:
    by_number = {launch.number: launch for launch in second}
    return [(launch, by_number[launch.number]) for launch in first if launch.number in by_number]


def _median(launch: LaunchRecord) -> float:
    return max(float(np.median(launch.samples)), 1.0)
