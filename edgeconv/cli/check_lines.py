"""How ``edgeconv check`` looks on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from edgeconv.checking.base import Problem, RuntimeVerdict, Verdict
from edgeconv.checking.memory import MemoryNeed
from edgeconv.checking.target import TargetVerdict
from edgeconv.cli.options import plain
from edgeconv.cli.tables import console_for_tables, print_wrapped
from edgeconv.targets.schema import show_size

_STYLE: dict[Verdict, str] = {"runs": "green", "refused": "bold red", "unknown": "yellow"}
_SAID: dict[Verdict, str] = {"runs": "runs", "refused": "refused", "unknown": "nobody can say"}
_SIGN = {"refused": "✗", "unknown": "?", "note": "·"}
_SIGN_STYLE = {"refused": "red", "unknown": "yellow", "note": "dim"}
_MOST = 6


def print_checks(found: Sequence[TargetVerdict], *, quiet: bool, verbose: bool) -> None:
    """A paragraph for each artifact and target: the verdict, the runtimes, what is in the way, what to do."""
    console = console_for_tables()
    for number, one in enumerate(found):
        if quiet and one.verdict == "runs":
            continue
        if number and not quiet:
            console.print()
        _print(console, one, quiet=quiet, verbose=verbose)


def _print(console: Console, made: TargetVerdict, *, quiet: bool, verbose: bool) -> None:
    head = Text.assemble(
        (plain(Path(made.artifact).name), "bold"),
        f" on {made.target}",
        (plain(f" ({made.release}): "), "dim"),
        (_SAID[made.verdict], _STYLE[made.verdict]),
    )
    if made.runs_with is not None and made.verdict == "runs":
        head.append(f" with {made.runs_with.runtime} {made.runs_with.version}")
    console.print(head, soft_wrap=True)
    _print_problems(console, made.problems, quiet, verbose)
    width = max((len(_name(one)) for one in made.runtimes), default=0)
    for one in made.runtimes:
        if not quiet:
            line = Text.assemble(f"  {_name(one):<{width}}  ", (_SAID[one.verdict], _STYLE[one.verdict]))
            console.print(line, soft_wrap=True)
        _print_problems(console, one.problems, quiet, verbose)
    if made.memory is not None and not quiet:
        print_wrapped(console, f"  {_memory(made, made.memory)}", "dim")
    if made.convert is not None:
        console.print(Text.assemble(("  → ", "cyan"), plain(made.convert)), soft_wrap=True)


def _memory(made: TargetVerdict, need: MemoryNeed) -> str:
    there = show_size(made.memory_there)
    weights, activations = show_size(need.weights), show_size(need.activations)
    if made.storage_there is not None:
        stored = show_size(made.storage_there)
        return f"storage: weights {weights} of {stored}; memory: activations {activations} of {there}"
    parts = f"weights {weights}, packed {show_size(need.packed)}, activations {activations}"
    return f"memory: about {show_size(need.total)} of {there} ({parts})"


def _name(one: RuntimeVerdict) -> str:
    return f"{one.runtime} {one.version}"


def _print_problems(console: Console, problems: Sequence[Problem], quiet: bool, verbose: bool) -> None:
    shown = [problem for problem in problems if not (quiet and problem.severity == "note")]
    hints: set[str] = set()
    for problem in shown if verbose else shown[:_MOST]:
        where = f" ({problem.where})" if problem.where else ""
        first = f"; first in {_version(problem.first)}" if problem.first else ""
        text = f"    {_SIGN[problem.severity]} {problem.what}{where}{first}"
        print_wrapped(console, text, _SIGN_STYLE[problem.severity], "      ")
        if problem.hint and problem.hint not in hints and not quiet:
            hints.add(problem.hint)
            print_wrapped(console, f"      → {problem.hint}", "", "        ")
    if len(shown) > _MOST and not verbose:
        print_wrapped(console, f"    and {len(shown) - _MOST} more (-v shows all)", "dim")


def _version(first: str) -> str:
    return f"version {first}" if first[:1].isdigit() else first
