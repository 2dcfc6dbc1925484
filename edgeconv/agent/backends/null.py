"""A model that does nothing, through the same path as all others: what a measurement itself costs.

It opens any file. Its one input, ``x``, is its one output, ``y``. With the option ``spin_ns`` it works for
that long, by the clock, and with ``sleep_seconds`` it waits: what it is to take is then known.
"""

from __future__ import annotations

import functools
import time
from typing import Any, Callable

from .. import fields
from .base import Backend, Model, Placement, fitting, shares


class NullModel(Model):
    """Gives back what it gets."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self.inputs = [{"name": "x", "dtype": "float32", "shape": [None]}]
        self.outputs = [{"name": "y", "dtype": "float32", "shape": [None]}]

    def infer(self, arrays: list[Any]) -> list[Any]:
        self._call()
        return list(arrays)

    def prepare(self, arrays: list[Any]) -> Callable[[], Any]:
        fitting(self.inputs[0], arrays[0])
        return self._call

    def placement(self, arrays: list[Any] | None = None) -> Placement | None:
        return shares("cpu", {"cpu": 1}, [])


class NullBackend(Backend):
    """See the module."""

    name = "null"
    formats = ("null",)
    options = ("spin_ns", "sleep_seconds")

    def version(self) -> str | None:
        return "1"

    def open(self, path: str, fmt: str, options: dict[str, Any]) -> Model:
        spin = fields.whole(options, "spin_ns", 0)
        sleep = fields.seconds(options, "sleep_seconds", 0.0)
        if spin:
            return NullModel(functools.partial(_spin, spin))
        return NullModel(functools.partial(time.sleep, sleep) if sleep else _nothing)


BACKEND = NullBackend()


def _nothing() -> None:
    return None


def _spin(nanoseconds: int) -> None:
    until = time.perf_counter_ns() + nanoseconds
    while time.perf_counter_ns() < until:
        pass
