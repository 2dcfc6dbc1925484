"""What every back end offers. A back end is a module of this package with the constant ``BACKEND``.

Names, shapes and dtypes are the file's own: which logical name a tensor has is known to the host only.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any, Callable, Dict

Tensor = Dict[str, Any]
"""``name``, ``dtype`` (numpy's, or ``string``), ``shape`` (``None`` for what is open), and what a runtime
adds (``scales``, ``zero_points``, ``axis`` of a quantized tensor; ``key`` in a signature)."""


class Model:
    """A model that is loaded and stays loaded."""

    inputs: list[Tensor]
    outputs: list[Tensor]

    def infer(self, arrays: list[Any]) -> list[Any]:
        """Run one inference: arrays in the order of ``inputs`` to arrays in the order of ``outputs``.

        Raises:
            AgentError: the runtime refused (``refused``), or an array does not fit (``usage``).
        """
        raise NotImplementedError

    def prepare(self, arrays: list[Any]) -> Callable[[], Any]:
        """Put the inputs where the runtime wants them and return what runs one inference on them.

        What is returned is all that a measurement times: no copy of an input or output that the runtime does
        not need is made in it, and it may be called any number of times.
        """
        raise NotImplementedError

    def placement(self) -> dict[str, Any] | None:
        """Where the ops ran: ``asked`` (accelerator), ``ran`` (name to ops); ``None`` if not known."""
        return None

    def close(self) -> None:
        """Give the memory back."""


class Backend:
    """One runtime."""

    name: str
    formats: tuple[str, ...]
    options: tuple[str, ...] = ()
    """Names of the options that ``open`` knows, beside ``threads`` and ``accelerator``."""

    def version(self) -> str | None:
        """Version that is installed here, ``None`` where the runtime is not; imports nothing heavy."""
        raise NotImplementedError

    def open(self, path: str, fmt: str, options: dict[str, Any]) -> Model:
        """Load a model.

        Args:
            path: file or folder.
            fmt: name of the format (``tflite``).
            options: ``threads`` (int), ``accelerator`` (name or library), and those of ``self.options``.

        Raises:
            AgentError: the runtime refuses the model, or is not here.
        """
        raise NotImplementedError


def backends() -> dict[str, Backend]:
    """All back ends by name, whether their runtime is installed or not."""
    package = importlib.import_module(__package__ or "")
    found = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda i: i.name):
        part = getattr(importlib.import_module("." + info.name, __package__), "BACKEND", None)
        if part is not None:
            found[part.name] = part
    return found


def installed_version(*distributions: str) -> str | None:
    """Version of the first of these distributions that is installed."""
    from importlib import metadata

    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None
