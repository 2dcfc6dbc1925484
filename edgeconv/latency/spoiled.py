"""Launches that say something of the heat, the clock or the load, and not of the model.

All limits are in :class:`Limits`. A spoiled launch is kept, marked with its reasons, and not counted as long
as enough others are left (:attr:`edgeconv.latency.records.Measurement.trusted`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeconv.agent.sensors import pi_flag_names
from edgeconv.latency.records import LaunchRecord, Spoiled

_NOW_FLAGS = 0b1111


@dataclass(frozen=True)
class Limits:
    """What is borne.

    Attributes:
        celsius: of the hottest sensor; boards of the Raspberry Pi slow down from 80 on.
        frequency: share by which the fastest core's clock may fall, within a launch or below the others.
        waiting: share of the wall's time that one thread may wait for a processor.
        pushed: share of bursts in which it may be pushed aside where waiting is not known.
        stolen: share of the wall's time that other guests of the host may have, all cores together.
        warmer: degrees above the temperature at the beginning from which on is waited for it to fall.
    """

    celsius: float = 80.0
    frequency: float = 0.05
    waiting: float = 0.05
    pushed: float = 0.10
    stolen: float = 0.02
    warmer: float = 5.0


def hottest(reading: Mapping[str, Any]) -> float | None:
    """The highest temperature of a reading, °C."""
    values = list((reading.get("celsius") or {}).values())
    return max(values) if values else None


def fastest(reading: Mapping[str, Any]) -> float | None:
    """The clock of the fastest core of a reading, MHz."""
    return max(reading.get("mhz") or [], default=None)


def marked(
    launches: Sequence[LaunchRecord], *, one_thread: bool, limits: Limits | None = None
) -> tuple[LaunchRecord, ...]:
    """The launches of one measurement, each with its reasons.

    Args:
        launches: of one artifact in one setting.
        one_thread: whether the measuring thread does all the work, so that waiting is other programs' doing.
        limits: the default if ``None``.
    """
    limits = limits or Limits()
    clocks = [_clock(launch) for launch in launches]
    known = [clock for clock in clocks if clock is not None]
    usual = float(np.median(known)) if known else None
    found = []
    for launch, clock in zip(launches, clocks, strict=True):
        reasons = [
            *_heat(launch, limits),
            *_throttle(launch),
            *_frequency(launch, clock, usual, limits),
            *_load(launch, one_thread, limits),
        ]
        found.append(dataclasses.replace(launch, spoiled=tuple(reasons)))
    return tuple(found)


def _clock(launch: LaunchRecord) -> float | None:
    """The fastest clock seen while it worked; the first reading was before, where a governor may rest."""
    values = [value for value in map(fastest, launch.readings[1:] or launch.readings) if value is not None]
    return max(values, default=None)


def _heat(launch: LaunchRecord, limits: Limits) -> Iterable[Spoiled]:
    values = [value for value in map(hottest, launch.readings) if value is not None]
    if values and max(values) >= limits.celsius:
        yield Spoiled("heat", f"{max(values):.0f} °C, {limits.celsius:.0f} are borne")


def _throttle(launch: LaunchRecord) -> Iterable[Spoiled]:
    told = [reading.get("throttle") or {} for reading in launch.readings]
    flags = 0
    for each in told:
        flags |= int(each.get("flags", 0)) & _NOW_FLAGS
    if flags:
        yield Spoiled("throttle", ", ".join(pi_flag_names(flags)["now"]))
    for name, what in (("events", "slow-downs by heat"), ("overcurrent", "over-current events")):
        values = [int(each[name]) for each in told if name in each]
        if values and values[-1] > values[0]:
            yield Spoiled("throttle", f"{values[-1] - values[0]} {what}")
    cooling = max((int(each.get("cooling", 0)) for each in told), default=0)
    if cooling:
        yield Spoiled("throttle", f"the processor was slowed down to cool (state {cooling})")


def _frequency(
    launch: LaunchRecord, clock: float | None, usual: float | None, limits: Limits
) -> Iterable[Spoiled]:
    if clock is None or usual is None:
        return
    last = fastest(launch.readings[-1])
    if clock < (1 - limits.frequency) * usual:
        yield Spoiled("frequency", f"{clock:.0f} MHz, the others ran at {usual:.0f}")
    elif last is not None and last < (1 - limits.frequency) * clock:
        yield Spoiled("frequency", f"it fell from {clock:.0f} to {last:.0f} MHz")


def _load(launch: LaunchRecord, one_thread: bool, limits: Limits) -> Iterable[Spoiled]:
    wall = float(launch.samples.sum())
    cpu, pushed = launch.columns.get("cpu"), launch.columns.get("involuntary")
    if one_thread and cpu is not None and wall:
        waiting = 1 - float(cpu.sum()) / wall
        if waiting > limits.waiting:
            yield Spoiled("load", f"other programs had its processor for {waiting:.0%} of the time")
    elif pushed is not None and len(pushed):
        share = float((pushed > 0).mean())
        if share > limits.pushed:
            yield Spoiled("load", f"pushed aside by other programs in {share:.0%} of the bursts")
    stolen = [reading["steal_seconds"] for reading in launch.readings if "steal_seconds" in reading]
    seconds = (launch.readings[-1]["at"] - launch.readings[0]["at"]) / 1e9 if launch.readings else 0.0
    # The kernel counts in steps of a hundredth of a second.
    if len(stolen) > 1 and stolen[-1] - stolen[0] > max(limits.stolen * seconds, 0.02):
        yield Spoiled("load", f"other guests of the host had {stolen[-1] - stolen[0]:.2f} s of it")
