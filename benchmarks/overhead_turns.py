"""Bursts of the harness and of a loop in C that take turns in one process. Used by ``overhead_*.py``."""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
_ROUNDS, _SETTLING = 80, 4


def compiled(folder: Path, source: str) -> Path:
    """A C file of this folder as a library."""
    library = folder / Path(source).with_suffix(".so")
    subprocess.run(["gcc", "-O2", "-w", "-shared", "-fPIC", "-o", library, HERE / source], check=True)
    return library


def burst_for(seconds: float) -> int:
    """Inferences in a row, for a model that takes so long."""
    return max(3, min(200, int(0.004 / max(seconds, 1e-7))))


def asked(command: Sequence[str], variables: Mapping[str, str] | None = None) -> tuple[float, float, float]:
    """What a fresh process with these variables, or those of this one, says by :func:`say_medians`."""
    ran = subprocess.run(command, env=variables, stdout=subprocess.PIPE, check=True)
    harness, plain, again = json.loads(ran.stdout.splitlines()[-1])
    return harness, plain, again


def say_medians(call: Callable[[], Any], time_calls: Callable[..., Any], loop: Any, burst: int) -> None:
    """Print the medians of the harness, of C in every second burst, and of C in the others, nanoseconds.

    Args:
        call: an inference as the harness makes it.
        time_calls: the harness' own loop.
        loop: ``overhead_loop`` of a library, int64 nanoseconds into a buffer.
        burst: inferences in a row; the first of them is left out.
    """

    def harness() -> array[int]:
        into = array("q", bytes(8 * burst))
        time_calls(call, into)
        return into

    def plain() -> array[int]:
        into = array("q", bytes(8 * burst))
        if loop(ctypes.c_void_p(into.buffer_info()[0]), burst):
            raise SystemExit("the loop in C was refused")
        return into

    samples: list[list[float]] = [[], [], []]  # of each the bursts before come from the other loop
    gc.disable()
    for number in range(_ROUNDS + _SETTLING):
        taken = [median(run()[1:]) for run in (harness, plain)]
        if number >= _SETTLING:
            samples[0].append(taken[0])
            samples[1 + number % 2].append(taken[1])
    print(json.dumps([median(each) for each in samples]))
