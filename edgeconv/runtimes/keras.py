"""Keras files (``.keras``, HDF5) run by the Keras of their generation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeconv.formats.base import Contract
from edgeconv.runtimes._keras_loading import load_keras_program
from edgeconv.runtimes._programs import ProgramSession, configure_threads, renamed


class KerasRuntime:
    """Runs a Keras model in inference mode, as one traced function."""

    name = "keras"
    formats = ("keras",)
    preload = ("tensorflow", "keras")
    tools = ("tensorflow", "keras", "tf_keras")

    def open(
        self,
        path: Path,
        contract: Contract | None,
        *,
        threads: int = 1,
        options: Mapping[str, Any] | None = None,
    ) -> ProgramSession:
        """See :meth:`edgeconv.runtimes.base.Runtime.open`."""
        configure_threads(threads)
        program, _ = load_keras_program(path, options or {}, contract)
        return ProgramSession(renamed(program, contract), str(path))


RUNTIME = KerasRuntime()
