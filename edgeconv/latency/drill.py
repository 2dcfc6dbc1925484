"""The proof of the regression verdict, repeated where it is to be used: decisions whose truth is known.

Equals are an artifact beside itself. A change is work injected by count, 102 units for each 100: the layers
of two networks made for it, or the inferences of one sample where the artifact is the user's own. So it is
2 % whatever a clock says. Launches are those of ``edgeconv regress``, and so is the rule, with the share of
alpha that it leaves to the latency. The decisions of all models, effects and loads come in random order.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.errors import UsageError
from edgeconv.latency.channels import Launch
from edgeconv.latency.decisions import Decision, Policy
from edgeconv.latency.other_load import toggling
from edgeconv.latency.plan import LaunchPlan, launch_plan
from edgeconv.latency.rates import Trial
from edgeconv.latency.regress import SHARES, decide
from edgeconv.latency.sources import BASELINE, CANDIDATE, Paired, Side, Together

LONGEST_SAMPLE = 0.12
"""Seconds; an effect whose samples would take longer is not injected into an artifact."""
_WARM_SECONDS, _MOST_WARM = 0.002, 5000
_LEAST_SHARE = 1000


@dataclass(frozen=True)
class Subject:
    """What is drilled.

    Attributes:
        name: for the report.
        of: what has so many units of work in a sample.
        seconds: of a unit.
        inference: seconds of an inference.
        units: of a sample of the baseline, where an effect needs no more.
    """

    name: str
    of: Callable[[int], Side]
    seconds: float
    inference: float
    units: int = 1


@dataclass(frozen=True)
class Task:
    """One decision to make.

    Attributes:
        subject: of it.
        effect: injected work, in percent.
        loops: busy loops that are toggled beside it.
        units: of work in a sample of baseline and candidate.
    """

    subject: Subject
    effect: float
    loops: int
    units: tuple[int, int]


def inference_seconds(way: Together, side: Side, seed: int = 0) -> float:
    """About how long an inference takes: the least of some."""
    few = way.timed(side, LaunchPlan(2, 2, 1, processor_time=False), seed)
    if few.min() < 5_000_000:
        few = way.timed(side, LaunchPlan(20, 10, 20, processor_time=False), seed)
    return float(few.min()) / 1e9


def units_for(effect: float, least: int = 1) -> tuple[int, int]:
    """The units of a sample of both sides, at least ``least``, whose ratio is 1 + effect / 100 exactly.

    >>> units_for(5), units_for(2, 100), units_for(0, 7)
    ((20, 21), (100, 102), (7, 7))

    Raises:
        UsageError: the effect is no share of a thousand inferences at most.
    """
    share = Fraction(str(effect)) / 100
    if not 0 <= share <= 1 or share.denominator > _LEAST_SHARE:
        raise UsageError(
            f"an effect of {effect} % cannot be injected",
            why="it is units more of a thousand at most, and no more than as many again",
            hint="give percentages as 0, 0.5, 1, 2, 5",
        )
    baseline = math.ceil(least / share.denominator) * share.denominator
    return baseline, baseline + int(baseline * share)


def tasks_of(
    subjects: Sequence[Subject], effects: Sequence[float], loops: Sequence[int]
) -> tuple[list[Task], list[str]]:
    """One of each, and what was left out and why."""
    tasks, left = [], []
    for subject in subjects:
        for effect in effects:
            units = units_for(effect, subject.units)
            if effect and units[1] * subject.seconds > LONGEST_SAMPLE:
                took = f"{units[0]} times {1000 * subject.seconds:.3g} ms are too long for one sample"
                left.append(f"+{effect:g} % was not injected into {subject.name}: {took}")
                continue
            tasks += [Task(subject, effect, each, units) for each in loops]
    return tasks, left


def trials(
    tasks: Sequence[Task],
    policy: Policy,
    seconds: float,
    *,
    seed: int,
    equals: int = 2,
    most: int | None = None,
    keep: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Trial]:
    """Make decisions until the time is over: all tasks in random order, again and again.

    Args:
        tasks: one of each kind.
        policy: as ``edgeconv regress`` is given it.
        seconds: after which none is begun.
        seed: of all that is drawn.
        equals: how often a task of equals comes in each round; their rate is the least one to show.
        most: rounds at most; ``None`` for as many as the time allows.
        keep: a folder for rows and raw samples, see :func:`kept_trials`.
        clock: seconds.

    Raises:
        UsageError: there is no task.
    """
    if not tasks:
        raise UsageError("there is nothing to drill", why="no effect can be injected into what was given")
    drawn, begun, number, rounds = random.Random(seed), clock(), 0, 0
    own = dataclasses.replace(policy, alpha=max(1e-6, policy.alpha * SHARES["latency"]))
    with Together() as way:
        while most is None or rounds < most:
            order = [task for task in tasks for _ in range(1 if task.effect else equals)]
            drawn.shuffle(order)
            for task in order:
                if clock() - begun > seconds:
                    return
                one = _trial(way, task, own, drawn.randrange(1 << 40))
                if keep is not None:
                    keep_trial(keep, f"{seed}-{number}", one)
                number += 1
                yield one
            rounds += 1


def _trial(way: Together, task: Task, policy: Policy, seed: int) -> Trial:
    baseline, candidate = (task.subject.of(units) for units in task.units)
    sample = task.units[0] * task.subject.seconds
    plan = launch_plan(sample)
    own_clock = baseline.computes_alone and plan.processor_time
    warm = max(plan.warm, min(_MOST_WARM, int(_WARM_SECONDS / max(task.subject.inference, 1e-9))))
    plan = dataclasses.replace(plan, processor_time=own_clock, warm=warm)
    source = Paired(way, baseline, candidate, plan, seed)
    with toggling(task.loops, seed):
        decision, launches, _ = decide(source, policy)
        load = os.getloadavg()[0]
    return _told(task, decision, launches, load)


def _told(task: Task, decision: Decision, launches: Sequence[Launch], load: float) -> Trial:
    typical = decision.channels["typical"]
    return Trial(
        model=task.subject.name,
        effect=task.effect,
        true=task.units[1] / task.units[0],
        loops=task.loops,
        verdict=decision.verdict,
        seconds=decision.seconds,
        low=typical.low,
        high=typical.high,
        detectable=typical.detectable,
        launches=launches,
        load=load,
    )


def keep_trial(folder: Path, name: str, one: Trial) -> None:
    """Add a row to ``rows.jsonl`` of a folder, and its raw samples to ``raw``."""
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    samples = {side: np.stack([launch[side] for launch in one.launches]) for side in (BASELINE, CANDIDATE)}
    first = np.array([next(iter(launch)) for launch in one.launches])
    np.savez_compressed(folder / "raw" / f"{name}.npz", first=first, **samples)  # type: ignore[arg-type]
    row = {each.name: getattr(one, each.name) for each in dataclasses.fields(one) if each.name != "launches"}
    with (folder / "rows.jsonl").open("a") as rows:
        rows.write(json.dumps({**row, "raw": f"{name}.npz"}) + "\n")


def kept_trials(folder: Path) -> list[Trial]:
    """What :func:`trials` kept in a folder."""
    found = []
    for line in (folder / "rows.jsonl").read_text().splitlines():
        row: dict[str, Any] = json.loads(line)
        with np.load(folder / "raw" / row.pop("raw")) as stored:
            arrays = {name: stored[name] for name in stored.files}
        launches = []
        for number, first in enumerate(arrays.pop("first").tolist()):
            turns = sorted(arrays, key=lambda side, first=first: side != first)  # type: ignore[misc]
            launches.append({side: arrays[side][number] for side in turns})
        found.append(Trial(**row, launches=launches))
    return found
