"""Shows a run while it goes on: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from edgeconv.cli.options import plain
from edgeconv.execution.events import Event, Listener
from edgeconv.execution.plan import SOURCE

_MARKS = {"done": ("✓", "green"), "cached": ("✓", "green"), "failed": ("✗", "red")}
_STEPS = ("convert", "gate")
_SHORT = 120


@contextlib.contextmanager
def progress(*, quiet: bool, verbose: bool) -> Iterator[Listener]:
    """A listener for the events of a run; shows nothing when ``quiet``."""
    console = Console(stderr=True)
    if quiet:
        yield lambda event: None
    elif console.is_terminal:
        board = _Board()
        with Live(board, console=console, refresh_per_second=8, transient=True):
            yield board.receive
    else:
        yield lambda event: _print_line(event, verbose)


def _print_line(event: Event, verbose: bool) -> None:
    if event.kind == "note":
        line = f"note: {event.text}"
    elif event.kind == "planned" or (event.kind in ("started", "cached") and not verbose):
        return
    else:
        took = f"  {event.seconds:.1f} s" if event.seconds is not None else ""
        text = event.text
        if event.kind == "failed" and not verbose and len(text) > _SHORT:
            text = f"{text[:_SHORT]}…"  # the whole is said at the end
        line = f"{event.kind:8} {event.step:8} {event.node:20} {text}{took}"
    print(plain(" ".join(line.split("\n"))).rstrip(), file=sys.stderr, flush=True)


@dataclass
class _Step:
    kind: str = ""
    text: str = ""
    since: float = 0.0
    seconds: float | None = None


@dataclass
class _Board:
    """The live table: a row an artifact, a column a step."""

    rows: dict[str, dict[str, _Step]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _spinner: Spinner = field(default_factory=lambda: Spinner("dots", style="cyan"))

    def receive(self, event: Event) -> None:
        if event.kind == "note":
            self.notes.append(event.text)
            return
        row = self.rows.setdefault(event.node, {})
        if event.step:
            row[event.step] = _Step(event.kind, event.text, time.monotonic(), event.seconds)

    def __rich__(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for name, row in self.rows.items():
            steps = _STEPS if name != SOURCE else ("", "gate")
            cells = (self._cell(step, row.get(step)) if step else Text() for step in steps)
            table.add_row(Text(name, style="bold"), *cells)
        for note in self.notes:
            table.add_row(Text("note"), Text(plain(note), style="dim"))
        return table

    def _cell(self, name: str, step: _Step | None) -> Text:
        if step is None:
            return Text(f"· {name}", style="dim")
        if step.kind == "started":
            frame = self._spinner.render(time.monotonic())
            running = Text.assemble(frame if isinstance(frame, Text) else Text("…"), f" {name} ")
            return running.append(f"{time.monotonic() - step.since:.0f} s", style="dim")
        mark, style = _MARKS[step.kind]
        took = "cached" if step.kind == "cached" else f"{step.seconds:.1f} s" if step.seconds else ""
        if step.kind == "failed":
            took = plain(step.text)[:70]
        return Text.assemble((mark, style), f" {name} ", (took, "dim"))
