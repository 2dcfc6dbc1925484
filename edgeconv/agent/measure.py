"""Times of inferences: a monotonic clock of nanoseconds around the inference alone, nothing else in between.

Models take turns in short bursts, so that whatever the machine does beside hits all of them alike:

    round 0: A A A A A  B B B B B      round 1: B B B B B  A A A A A      round 2: A …

All samples are given back; which of them count (the first of a burst pays for the caches that the other
model filled) is decided by who asked.
"""

from __future__ import annotations

import contextlib
import gc
import random
import resource
import time
from array import array
from typing import Any, Callable, Iterator, List, NamedTuple, Sequence

from .backends.base import Model, explained
from .sensors import Sensors

clock = time.perf_counter_ns
"""Never set back or forth: ``CLOCK_MONOTONIC`` on Linux."""
LONG_CALL_NS = 1_000_000_000
"""From an inference that takes this long on, the heartbeat goes on while it is timed: it could not be
told from a device that hangs, and 50 microseconds a second are nothing to it."""
LARGEST_BURST = 1 << 16
MOST_SAMPLES = 1 << 23
_SECOND = 1_000_000_000
_WHO = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)
_STEADY_WINDOWS = 3
_STEADY_RATIO = 1.05
_WINDOW = 5

Inputs = List[Any]
"""One array for each input of a model, in their order."""

COLUMNS = (
    "begin", "position", "variant", "cpu", "minor_faults", "major_faults", "voluntary", "involuntary",
)  # fmt: skip
"""Of every burst: when it began (ns of :data:`clock`), its place in its round, which of the model's inputs it
was given, processor time of the whole process in it (ns), and of the measuring thread: page faults without
and with reading the disk, context switches by waiting and by being pushed aside (``getrusage(2)``)."""


class Schedule(NamedTuple):
    """What to run and for how long."""

    burst: int
    """Inferences of one model in a row."""
    rounds: int
    """At most; a round is one burst of every model."""
    seconds: float
    """At most; looked at between rounds, so that the last round is whole. There is at least one."""
    order: str = "abba"
    """``abba``: every other round backwards; ``random``: each round shuffled."""
    seed: int = 0
    warm_seconds: float = 0.0
    """How long inferences may be run before, which ends early when all models are steady."""


class Measured(NamedTuple):
    """What came of it. Samples are nanoseconds."""

    samples: list[array[int]]
    """Of each model, burst after burst."""
    rounds: int
    columns: list[dict[str, array[int]]]
    """Of each model; see :data:`COLUMNS`."""
    warm: list[array[int]]
    """Of each model, those before the first round."""
    steady: list[bool]
    """Whether each model was steady when the first round began: the lower quartiles of its last three windows
    of inferences within 5 %."""
    readings: list[dict[str, Any]]
    """Of the sensors: at the start, about each second between bursts, at the end."""
    nanoseconds: int
    """Of all rounds, with what lies between the inferences."""


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage collection within; what there is is collected before."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def time_calls(
    call: Callable[[], Any],
    into: array[int],
    due: int = 1 << 62,
    rest: Callable[[], int] | None = None,
) -> int:
    """Fill ``into`` with the nanoseconds of as many calls.

    Args:
        call: what is timed, alone.
        into: of type ``q``; its length is the number of calls.
        due: when to call ``rest``, on :data:`clock`.
        rest: something that has to be done now and then, between calls; gives when it is due again.

    Returns:
        When ``rest`` is due.
    """
    now = clock
    for index in range(len(into)):
        begin = now()
        call()
        end = now()
        into[index] = end - begin
        if end > due and rest is not None:
            due = rest()
    return due


def samples_of(call: Callable[[], Any], calls: int, warm: int = 0) -> array[int]:
    """Nanoseconds of ``calls`` calls in a row, after ``warm`` that are not timed; garbage is left lying."""
    into = array("q", bytes(8 * calls))
    with undisturbed():
        for _ in range(warm):
            call()
        time_calls(call, into)
    return into


def orders(models: int, schedule: Schedule) -> Iterator[list[int]]:
    """The order of the models in each round, without end."""
    forward = list(range(models))
    if schedule.order == "abba":
        while True:
            yield forward
            yield forward[::-1]
    shuffled = random.Random(schedule.seed)
    while True:
        order = list(forward)
        shuffled.shuffle(order)
        yield order


def is_steady(samples: Sequence[int], window: int) -> bool:
    """Whether the lower quartiles of the last three windows of ``samples`` lie within 5 %."""
    if len(samples) < _STEADY_WINDOWS * window:
        return False
    levels = []
    for back in range(_STEADY_WINDOWS):
        end = len(samples) - back * window
        levels.append(sorted(samples[end - window : end])[window // 4])
    return max(levels) <= _STEADY_RATIO * max(min(levels), 1)


class _Turns:
    """One model's turns: its inputs, and the call that runs them."""

    def __init__(self, model: Model, variants: list[Inputs], alone: bool) -> None:
        self.model = model
        self._variants = variants
        self._fixed = alone and len(variants) == 1
        self._call: Callable[[], Any] | None = None

    def call(self, number: int) -> tuple[Callable[[], Any], int]:
        """What to time in the round ``number``, and which of the inputs it runs.

        Both rounds of a pair get the same, so that inputs and order are not mixed up.
        """
        variant = (number // 2) % len(self._variants)
        if self._call is None or not self._fixed:
            self._call = self.model.prepare(self._variants[variant])
        return self._call, variant


def measure(
    models: Sequence[Model],
    inputs: Sequence[list[Inputs]],
    schedule: Schedule,
    *,
    beat: Callable[[], None],
    sensors: Sensors,
) -> Measured:
    """Run ``schedule`` over ``models``.

    Args:
        models: that are open; one may be there twice.
        inputs: for each of them one or more sets of arrays, taken in turn.
        schedule: see :class:`Schedule`.
        beat: called about each second, never within what is timed.
        sensors: read at most each second, between bursts.
    """
    turns = [
        _Turns(model, variants, sum(other is model for other in models) == 1)
        for model, variants in zip(models, inputs)
    ]
    buffer = array("q", bytes(8 * schedule.burst))
    samples = [array("q") for _ in models]
    columns = [{name: array("q") for name in COLUMNS} for _ in models]
    warm = [array("q") for _ in models]

    def rest() -> int:
        beat()
        return clock() + _SECOND

    readings = [sensors.read()]
    with undisturbed():
        due = clock() + _SECOND
        if schedule.warm_seconds:
            due = _warm_up(turns, schedule, warm, due, rest)
        steady = [is_steady(each, max(_WINDOW, schedule.burst)) for each in warm]
        begun = clock()
        until = begun + int(schedule.seconds * _SECOND)
        next_reading = begun + _SECOND
        rounds = 0
        for order in orders(len(models), schedule):
            for position, index in enumerate(order):
                with explained(models[index]):
                    call, variant = turns[index].call(rounds)
                    due = _burst(call, buffer, columns[index], due, rest)
                columns[index]["position"].append(position)
                columns[index]["variant"].append(variant)
                samples[index].extend(buffer)
                if clock() > next_reading:
                    readings.append(sensors.read())
                    next_reading = clock() + _SECOND
            rounds += 1
            if rounds >= schedule.rounds or clock() >= until:
                break
        nanoseconds = clock() - begun
    readings.append(sensors.read())
    return Measured(samples, rounds, columns, warm, steady, readings, nanoseconds)


def _burst(
    call: Callable[[], Any],
    buffer: array[int],
    columns: dict[str, array[int]],
    due: int,
    rest: Callable[[], int],
) -> int:
    before = resource.getrusage(_WHO)
    cpu = time.process_time_ns()
    columns["begin"].append(clock())
    due = time_calls(call, buffer, due, rest)
    columns["cpu"].append(time.process_time_ns() - cpu)
    after = resource.getrusage(_WHO)
    columns["minor_faults"].append(after.ru_minflt - before.ru_minflt)
    columns["major_faults"].append(after.ru_majflt - before.ru_majflt)
    columns["voluntary"].append(after.ru_nvcsw - before.ru_nvcsw)
    columns["involuntary"].append(after.ru_nivcsw - before.ru_nivcsw)
    return due


def _warm_up(
    turns: list[_Turns], schedule: Schedule, warm: list[array[int]], due: int, rest: Callable[[], int]
) -> int:
    window = max(_WINDOW, schedule.burst)
    buffer = array("q", bytes(8 * schedule.burst))
    until = clock() + int(schedule.warm_seconds * _SECOND)
    for number, order in enumerate(orders(len(turns), schedule)):
        for index in order:
            with explained(turns[index].model):
                due = time_calls(turns[index].call(number)[0], buffer, due, rest)
            warm[index].extend(buffer)
        if clock() >= until or len(warm[0]) >= MOST_SAMPLES or all(is_steady(each, window) for each in warm):
            break
    return due
