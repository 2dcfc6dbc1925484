"""A model that does nothing, through the same path as all others: what a measurement itself costs.

It opens any file. Its one input, ``x``, is its one output, ``y``.
"""

from __future__ import annotations

from typing import Any, Callable

from .base import Backend, Model


class NullModel(Model):
    """Gives back what it gets."""

    def __init__(self) -> None:
        self.inputs = [{"name": "x", "dtype": "float32", "shape": [None]}]
        self.outputs = [{"name": "y", "dtype": "float32", "shape": [None]}]

    def infer(self, arrays: list[Any]) -> list[Any]:
        return list(arrays)

    def prepare(self, arrays: list[Any]) -> Callable[[], Any]:
        return _nothing


class NullBackend(Backend):
    """See the module."""

    name = "null"
    formats = ("null",)

    def version(self) -> str | None:
        return "1"

    def open(self, path: str, fmt: str, options: dict[str, Any]) -> Model:
        return NullModel()


BACKEND = NullBackend()


def _nothing() -> None:
    return None
