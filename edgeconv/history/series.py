"""Series over time: one model on one device by one metric, as ratios to one reference artifact."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Select, select

from edgeconv.history import tables
from edgeconv.history.change_points import LONGEST, ChangePoint, change_points
from edgeconv.history.store import Store

SLOWER_IS_MORE = ("typical", "floor", "tail", "load", "first", "memory", "bytes")
"""Metrics of which more is worse: all that there are."""


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """What stays the same along a series. The runtime's version does not: it is what may have changed it.

    Attributes:
        label: of the model.
        metric: ``typical``, ``floor``, ``tail``, ``load``, ``first``, ``memory`` or ``bytes``.
        device, device_id: name, and the key of this one of that name.
        runtime, accelerator, threads: how it was run.
        reference: SHA-256 of the artifact that it is divided by; ``None`` for absolute numbers.
        paired: whether ``regress`` measured it in turns with another artifact, by the clock that a verdict
            needs; ``bench`` measures each alone.
    """

    label: str
    metric: str
    device: str
    device_id: str
    runtime: str
    accelerator: str | None
    threads: int
    reference: str | None
    paired: bool = False

    def __str__(self) -> str:
        extra = f", {self.accelerator}" if self.accelerator else ""
        threads = f", {self.threads} threads" if self.threads != 1 else ""
        paired = ", by regress" if self.paired else ""
        return f"{self.label} {self.metric} on {self.device} ({self.runtime}{extra}{threads}{paired})"


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement in a series: a ratio, or an absolute number in ``unit``; what it was measured with."""

    time: datetime
    value: float
    low: float | None
    high: float | None
    unit: str
    measurement: str
    artifact: str
    git_commit: str | None
    runtime_version: str | None
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """Points in the order of time."""

    key: SeriesKey
    points: tuple[Point, ...] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Change:
    """A change of level in a series, between two of its points.

    Attributes:
        series: where.
        point: the first one after it, ``previous`` the last one before.
        found: index, levels and p-value.
    """

    series: Series
    previous: Point
    point: Point
    found: ChangePoint

    @property
    def worse(self) -> bool:
        """Whether there is more of it than before; of all metrics less is better."""
        return self.found.after > self.found.before


def read_series(
    store: Store,
    *,
    label: str | None = None,
    metric: str | None = None,
    device: str | None = None,
    absolute: bool = False,
    marked: bool = False,
    last: int = LONGEST,
) -> list[Series]:
    """All series of the store, or some of them.

    Args:
        store: the history.
        label, metric, device: only these.
        absolute: absolute numbers and not ratios: they say as much of the machine's day as of the model.
        marked: also measurements that something spoiled.
        last: so many points of each at most, the latest.
    """
    query = _absolute() if absolute else _ratios()
    if label is not None:
        query = query.where(tables.Measurement.label == label)
    if device is not None:
        query = query.where(tables.Device.name == device)
    if metric is not None:
        query = query.where((tables.Value if absolute else tables.Ratio).metric == metric)
    found: dict[SeriesKey, list[Point]] = {}
    with store.reading() as session:
        rows = session.execute(query.order_by(tables.Measurement.time, tables.Measurement.id))
        for measurement, machine, runtime, run, number in rows:
            if measurement.marks and not marked:
                continue
            ratio = isinstance(number, tables.Ratio)
            key = SeriesKey(
                measurement.label,
                number.metric,
                machine.name,
                machine.id,
                runtime.name,
                runtime.accelerator,
                measurement.threads,
                number.reference if ratio else None,
                bool(measurement.context.get("paired")),
            )
            point = Point(
                measurement.time,
                number.ratio if ratio else number.value,
                number.low,
                number.high,
                "1" if ratio else number.unit,
                measurement.id,
                measurement.artifact,
                run.git_commit,
                runtime.version,
                tuple(measurement.marks),
            )
            found.setdefault(key, []).append(point)
    return [Series(key, tuple(points[-last:])) for key, points in sorted(found.items(), key=_order)]


def _order(item: tuple[SeriesKey, list[Point]]) -> tuple[str, ...]:
    key = item[0]
    return (
        key.label,
        key.device,
        key.runtime,
        str(key.accelerator),
        f"{key.threads:9}",
        key.metric,
        key.device_id,
        str(key.paired),
    )


def _ratios() -> Select[tables.Measurement, tables.Device, tables.Runtime, tables.Run, tables.Ratio]:
    return (
        select(tables.Measurement, tables.Device, tables.Runtime, tables.Run, tables.Ratio)
        .join(tables.Device, tables.Device.id == tables.Measurement.device)
        .join(tables.Runtime, tables.Runtime.id == tables.Measurement.runtime)
        .join(tables.Run, tables.Run.id == tables.Measurement.run)
        .join(tables.Ratio, tables.Ratio.measurement == tables.Measurement.id)
    )


def _absolute() -> Select[tables.Measurement, tables.Device, tables.Runtime, tables.Run, tables.Value]:
    return (
        select(tables.Measurement, tables.Device, tables.Runtime, tables.Run, tables.Value)
        .join(tables.Device, tables.Device.id == tables.Measurement.device)
        .join(tables.Runtime, tables.Runtime.id == tables.Measurement.runtime)
        .join(tables.Run, tables.Run.id == tables.Measurement.run)
        .join(tables.Value, tables.Value.measurement == tables.Measurement.id)
    )


def find_changes(series: list[Series], alpha: float = 0.01) -> list[Change]:
    """Changes of level in all series together.

    Args:
        series: those that are looked at.
        alpha: the probability that any change is found in all of them where there is none; each series has
            an equal share.
    """
    found = []
    share = max(1e-6, alpha / max(1, len(series)))
    for one in series:
        for change in change_points([point.value for point in one.points], share):
            before, after = one.points[change.index - 1 : change.index + 1]
            found.append(Change(one, before, after, change))
    return found
