"""Checkpoints of TensorFlow 2 run through the model that a builder function makes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeconv.formats.base import Contract
from edgeconv.runtimes._checkpoint_loading import load_checkpoint_program
from edgeconv.runtimes._programs import ProgramSession, configure_threads, renamed


class CheckpointRuntime:
    """Runs the restored model in inference mode; needs the option ``model_builder``."""

    name = "tf_checkpoint"
    formats = ("checkpoint",)
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
        program, _ = load_checkpoint_program(path, options or {})
        return ProgramSession(renamed(program, contract), str(path))


RUNTIME = CheckpointRuntime()
