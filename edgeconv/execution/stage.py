"""What a worker is asked to do, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Limits:
    """What one worker may use before it is stopped.

    Attributes:
        seconds: wall time.
        rss_bytes: resident memory; ``None`` leaves it to the machine.
    """

    seconds: float = 3600.0
    rss_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One call in a worker process.

    Attributes:
        name: for messages and file names (``convert tflite.int8``).
        call: ``module:function``; it takes one mapping and returns one, both as JSON takes them.
        payload: the argument.
        preload: modules that are imported once in the process that the worker is forked from.
        log: file that receives what the worker and the libraries in it print.
        memory_bytes: resident memory it is expected to need, for admission.
        priority: of two stages that wait, the higher one starts first.
        background: nobody waits for it yet; it yields the processor to those that are waited for.
    """

    name: str
    call: str
    payload: Mapping[str, Any]
    preload: tuple[str, ...]
    log: Path
    memory_bytes: int = 1 << 30
    priority: float = 0.0
    background: bool = False


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage returned, and what it took.

    Attributes:
        value: what the function returned.
        seconds: wall time of the call, in the worker.
        peak_rss_bytes: highest resident memory of the worker process.
    """

    value: dict[str, Any]
    seconds: float
    peak_rss_bytes: int
