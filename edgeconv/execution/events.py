"""What a run says while it goes on, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: ``planned`` once for each artifact asked for, then for each step ``started`` and one of
            ``done``, ``cached``, ``failed``; ``note`` for a sentence to the user.
        node: id of the artifact; empty for a note about the whole run.
        step: ``convert`` or ``gate``.
        text: what to say (the conversion, the verdict, the error).
        seconds: what the step took.
    """

    kind: Literal["planned", "started", "done", "cached", "failed", "note"]
    node: str = ""
    step: str = ""
    text: str = ""
    seconds: float | None = None


Listener = Callable[[Event], None]
"""Receives each event, on the thread of the run."""
