"""How long a launch is measured, and how it is divided into bursts."""

from __future__ import annotations

import math
from dataclasses import dataclass

_AIM_SECONDS = 0.010
_WARM_SECONDS = 0.002
_BURSTS = ((5, 4, 0.0005), (3, 6, 0.002), (2, 6, 0.006), (1, 4, 0.012), (1, 2, math.inf))
"""Length of a burst, the least number of bursts, and below which seconds an inference gets them.

Of networks with weights of 10 to 26 MB a launch so measured takes about as long as opening them, and what it
says is about as exact as what differs between launches lets it be (docs/regression.md).
"""
_WARM_BELOW_SECONDS = 0.006
"""From here on the first inference is all the warming up: one more would cost a quarter of a launch."""
_MOST_BURSTS = 64
PROCESSOR_TIME_FROM_SECONDS = 0.0005
"""From this inference on, models of one thread are timed by the thread's own clock, not by the wall's.

A sample of a few microseconds is rarely interrupted and its median never; one of some milliseconds is
interrupted each time where others want the same processor, by as much as it is long itself. What the thread
waits for by itself is not on its clock: models of several threads belong on the wall clock.
"""


@dataclass(frozen=True)
class LaunchPlan:
    """How each model is measured in one launch.

    Attributes:
        length: samples of a burst.
        bursts: bursts of each model; even, so that halves of one can be compared.
        warm: inferences of each model after its first one and before its first burst.
        processor_time: whether samples are processor time of the measuring thread, else of the wall clock.
    """

    length: int
    bursts: int
    warm: int
    processor_time: bool


def launch_plan(seconds: float, aim: float = _AIM_SECONDS) -> LaunchPlan:
    """A plan for models whose inference takes about ``seconds``.

    Launches are short and many, since what differs between them is what limits the precision: about ``aim``
    seconds of each pair of models, and the least number of bursts where that is longer.
    """
    length, least = next((length, least) for length, least, below in _BURSTS if seconds < below)
    wanted = aim / 2 / max(seconds * length, 1e-9)
    bursts = max(least, min(_MOST_BURSTS, int(wanted) // 2 * 2))
    warm = max(int(seconds < _WARM_BELOW_SECONDS), min(50, int(_WARM_SECONDS / max(seconds, 1e-9))))
    return LaunchPlan(length, bursts, warm, seconds >= PROCESSOR_TIME_FROM_SECONDS)
