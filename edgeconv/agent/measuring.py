"""The verb ``measure``: a request to a schedule, what was measured to arrays."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

from . import fields, wire
from .backends.base import explained, in_order
from .errors import AgentError
from .measure import COLUMNS, LARGEST_BURST, LONG_CALL_NS, MOST_SAMPLES, Inputs, Schedule, samples_of
from .measure import measure as run
from .memory import memory
from .sensors import Sensors

if TYPE_CHECKING:
    from .verbs import Answer, Opened, Session

MOST_MODELS = 16


def measure(session: Session, header: wire.Header, body: bytearray) -> Answer:
    """Run a schedule over open models.

    ``models``: their numbers. ``inputs``: for each model a list of variants, each an object that gives for
    every input by its name the place of an array in ``arrays``. ``burst``, ``rounds``, ``seconds``,
    ``order``, ``seed``, ``warm_seconds``: see :class:`edgeconv.agent.measure.Schedule`. Gives the array
    ``ns`` of shape (models, rounds, burst), an array of shape (models, rounds) for every name of
    ``COLUMNS``, an array ``warm:N`` for every model where there was a warm-up; and ``rounds``,
    ``nanoseconds``, ``steady``, ``first_ns``, ``readings``, ``memory``, ``quiet`` (whether no heartbeat was
    running).
    """
    import numpy as np

    arrays = [value for _, value in wire.unpack(header.get("arrays", []), body)]
    opened = _models(session, header)
    inputs = _inputs(opened, header.get("inputs"), arrays)
    schedule = _schedule(header, len(opened))
    usual = [_try(each, variants[0]) for each, variants in zip(opened, inputs)]
    quiet = max(usual) < LONG_CALL_NS
    with session.heartbeat.quiet() if quiet else contextlib.nullcontext():
        found = run(
            [each.model for each in opened],
            inputs,
            schedule,
            beat=session.heartbeat.beat if quiet else _nothing,
            sensors=_sensors(),
        )
    result = {
        "rounds": found.rounds,
        "nanoseconds": found.nanoseconds,
        "steady": found.steady,
        "first_ns": [each.first_ns for each in opened],
        "readings": found.readings,
        "memory": memory(),
        "quiet": quiet,
    }
    told = [("ns", np.array(found.samples, np.int64).reshape((len(opened), found.rounds, schedule.burst)))]
    for name in COLUMNS:
        told.append((name, np.array([columns[name] for columns in found.columns], np.int64)))
    if schedule.warm_seconds:
        told += [("warm:%d" % place, np.array(each, np.int64)) for place, each in enumerate(found.warm)]
    return result, told


def _models(session: Session, header: wire.Header) -> list[Opened]:
    numbers = header.get("models")
    if not isinstance(numbers, list) or not 1 <= len(numbers) <= MOST_MODELS:
        raise AgentError("usage", "'models' must be a list of 1 to %d numbers" % MOST_MODELS)
    return [session.opened(number) for number in numbers]


def _inputs(opened: list[Opened], asked: Any, arrays: list[Any]) -> list[list[Inputs]]:
    if not isinstance(asked, list) or len(asked) != len(opened):
        raise AgentError("usage", "'inputs' must have a list of variants for every model")
    found = []
    for each, variants in zip(opened, asked):
        if not isinstance(variants, list) or not variants:
            raise AgentError("usage", "'inputs' must have at least one variant for every model")
        found.append([in_order(each.model, list(_named(variant, arrays))) for variant in variants])
    return found


def _named(variant: Any, arrays: list[Any]) -> Any:
    if not isinstance(variant, dict):
        raise AgentError("usage", "a variant of 'inputs' must be an object")
    for name, place in variant.items():
        yield name, arrays[fields.whole({name: place}, name, most=len(arrays) - 1)]


def _schedule(header: wire.Header, models: int) -> Schedule:
    order = header.get("order", "abba")
    if order not in ("abba", "random"):
        raise AgentError("usage", "'order' is abba or random, not %.40r" % (order,))
    burst = fields.whole(header, "burst", 5, 1, LARGEST_BURST)
    most = MOST_SAMPLES // (models * burst)
    return Schedule(
        burst=burst,
        rounds=fields.whole(header, "rounds", most, 1, most),
        seconds=fields.seconds(header, "seconds", 1.0),
        order=order,
        seed=fields.whole(header, "seed", 0),
        warm_seconds=fields.seconds(header, "warm_seconds", 0.0),
    )


def _try(opened: Opened, inputs: Inputs) -> int:
    """Nanoseconds that an inference takes; keeps those of a model's first one."""
    with explained(opened.model):
        call = opened.model.prepare(inputs)
        took = int(samples_of(call, 1)[0])
        if not opened.has_run:
            opened.has_run, opened.first_ns = True, took
            if took >= LONG_CALL_NS:  # much of it may be what is done once
                took = int(samples_of(call, 1)[0])
    return took


@functools.lru_cache(maxsize=None)
def _sensors() -> Sensors:
    return Sensors()


def _nothing() -> None:
    return None
