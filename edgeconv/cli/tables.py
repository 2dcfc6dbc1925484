"""How results look on a terminal."""

from __future__ import annotations

import io
import re
import shlex
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgeconv.cli.front_end_lines import front_end_lines
from edgeconv.cli.options import plain
from edgeconv.formats.base import Shape

if TYPE_CHECKING:
    from edgeconv.execution.manifest import ArtifactRecord, FailureRecord, Manifest

VERDICT_STYLE = {"pass": "green", "fail": "bold red", "skipped": "yellow"}
_SHORT_NOTE = 240
_KEPT_END = 80


def print_manifest(manifest: Manifest, folder: Path, *, quiet: bool, verbose: bool = False) -> None:
    """The artifacts with their gates, then what failed and what to do about it.

    Notes that go on and on, as where names of fused operators are in them, lose their middle unless
    ``verbose``: what to do stands at the end.
    """
    console = console_for_tables()
    if not quiet and manifest.artifacts:
        table = table_with("artifact", "from", ">size", "gate", ">max abs", ">seconds", ">peak MB")
        for record in manifest.artifacts:
            table.add_row(*_artifact_row(record))
        console.print(table)
        console.print(_where(folder))
        notes: dict[str, list[str]] = {}
        for record in manifest.artifacts:
            for note in record.notes:
                notes.setdefault(note, []).append(record.id)
        for note in manifest.source.notes:
            notes.setdefault(note, []).append("source")
        for note, ids in notes.items():
            print_wrapped(console, f"{', '.join(ids)}: {note if verbose else _shortened(note)}", "dim")
    if manifest.front_end is not None and not quiet:
        for line in front_end_lines(manifest.front_end):
            print_wrapped(console, line, "dim")
    for record in manifest.artifacts:
        if record.gate.verdict != "pass":
            what = f"{record.id}: gate {record.gate.verdict}, kept in {record.path}"
            hint = _with_paths(record.gate.hint, record, manifest, folder)
            console.print(problem(console, what, record.gate.reason, hint), soft_wrap=True)
    if not quiet:
        for failure in manifest.failures:
            if failure.superseded_by is not None:
                good = any(a.id == failure.artifact and a.gate.verdict == "pass" for a in manifest.artifacts)
                said = f"{failure.superseded_by} took the place of" if good else "no better by"
                what = f"{failure.artifact}: {said} {failure.conversion}"
                print_wrapped(console, f"{what} ({failure.reason})", "dim")
    _print_failures(console, [f for f in manifest.failures if f.superseded_by is None], folder)


def _where(folder: Path) -> Text:
    """Where the artifacts lie: in a folder with the manifest, or one file with the manifest beside it."""
    if folder.is_dir():
        return Text.assemble("in ", (plain(f"{folder}/"), "bold"), ", with manifest.json")
    return Text.assemble("in ", (plain(str(folder)), "bold"), plain(f", with {folder.name}.manifest.json"))


def _print_failures(console: Console, failures: list[FailureRecord], folder: Path) -> None:
    """What could not be made: each reason once, whichever ways it stopped; then what hung on it."""
    for identifier in dict.fromkeys(f.artifact for f in failures if not f.follows):
        ways: dict[tuple[str, str | None], list[FailureRecord]] = {}
        for failure in failures:
            if failure.artifact == identifier and not failure.follows:
                ways.setdefault((failure.reason, failure.hint), []).append(failure)
        for (reason, hint), same in ways.items():
            names = ", ".join(failure.conversion for failure in same)
            text = problem(console, f"{identifier}: {names} failed", reason, hint)
            if same[0].repro and same[0].log:
                text.append(f"\n    log:    {folder / same[0].log}", "dim")
                text.append(f"\n    repeat: python {folder / same[0].repro}", "dim")
            console.print(text, soft_wrap=True)
    told = {failure.artifact for failure in failures if not failure.follows}
    if follow := [f.artifact for f in failures if f.follows and f.artifact not in told]:
        print_wrapped(console, f"  not made for that reason: {', '.join(dict.fromkeys(map(str, follow)))}")


def show_shape(shape: Shape | None) -> str:
    """A shape for people: ``1×224×224×3``, ``?`` for an open dimension, ``scalar``, ``any rank``."""
    if shape is None:
        return "any rank"
    return "×".join("?" if d is None else str(d) for d in shape) or "scalar"


def show_bytes(count: int) -> str:
    """A size for people, in units of 1,000 bytes: ``3.4 MB``."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def show_count(count: int | None) -> str:
    """A count for people: ``3.54 M``."""
    if count is None:
        return "unknown"
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return str(count)


def console_for_tables() -> Console:
    """Standard output; where it is no terminal, wide enough that no name is cut."""
    console = Console()
    return console if console.is_terminal else Console(width=160, file=_WithoutTrailingSpaces())


def print_wrapped(console: Console, text: str, style: str = "", indent: str = "    ") -> None:
    """A line of prose: broken between words on a terminal, left whole where programs read it."""
    shown = plain(text)
    if console.is_terminal:
        shown = "\n".join(_wrapped(line, console.width, indent) for line in shown.split("\n"))
    console.print(Text(shown, style=style), soft_wrap=True)


def _wrapped(line: str, width: int, indent: str) -> str:
    # Names and paths are never broken: a terminal continues them on the next line, and they can be copied.
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _shortened(note: str) -> str:
    """A note without its middle where it is long; whole words at both ends."""
    if len(note) <= _SHORT_NOTE:
        return note
    beginning = note[: _SHORT_NOTE - _KEPT_END].rsplit(" ", 1)[0]
    return f"{beginning} … {note[-_KEPT_END:].split(' ', 1)[-1]} (-v shows all)"


class _WithoutTrailingSpaces(io.StringIO):
    """Standard output without the spaces that fill a table's last column."""

    def write(self, text: str, /) -> int:
        return sys.stdout.write(re.sub(r" +(?=\n|$)", "", text) if text.endswith("\n") else text)

    def flush(self) -> None:
        sys.stdout.flush()


def _artifact_row(record: ArtifactRecord) -> tuple[Any, ...]:
    gate = record.gate
    worst = max((o.max_abs for o in gate.outputs if o.max_abs is not None), default=None)
    seconds = "cached" if record.cached else f"{record.seconds:.1f}"
    return (
        plain_text(record.path if record.path != "." else record.format, "bold"),
        Text(record.from_, style="dim"),
        show_bytes(record.bytes),
        Text(gate.verdict, style=VERDICT_STYLE[gate.verdict]),
        "" if worst is None else f"{worst:.2g}",
        Text(seconds, style="dim" if record.cached else ""),
        Text(f"{record.peak_rss_bytes / 1e6:,.0f}", style="dim" if record.cached else ""),
    )


def problem(console: Console, what: str, reason: str | None, hint: str | None) -> Text:
    """What went wrong under a red cross: what, why, and what to do."""
    text = Text.assemble(("✗ ", "red"), (plain(what), "bold"))

    def shown(line: str) -> str:
        # A command in quotes stays on one line, so that it can be copied.
        return (
            _wrapped(line, console.width, "      ")
            if console.is_terminal and "'edgeconv" not in line
            else line
        )

    for line in plain(reason or "").splitlines():
        text.append(f"\n{shown(f'    {line}')}")
    if hint:
        text.append("\n    →", "cyan").append(shown(f"    → {plain(hint)}").removeprefix("    →"))
    return text


def _with_paths(hint: str | None, record: ArtifactRecord, manifest: Manifest, folder: Path) -> str | None:
    """The hint with the files that a command in it is to be given, so that it can be typed as it stands."""
    paths = {a.id: folder / a.path for a in manifest.artifacts} | {"source": Path(manifest.source.path)}
    if hint is None or record.gate.reference not in paths:
        return hint
    both = f"{shlex.quote(str(paths[record.gate.reference]))} {shlex.quote(str(paths[record.id]))}"
    return hint.replace("REFERENCE CANDIDATE", both)


def plain_text(text: str, style: str = "") -> Text:
    """A text from a model or a message: neither markup nor control characters in it do anything."""
    return Text(plain(text), style=style)


def table_with(*columns: str) -> Table:
    """A table without lines; a column that begins with ``>`` is of numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for number, column in enumerate(columns):
        # On a narrow terminal the second column gives way, before names of files or numbers are cut.
        justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
        table.add_column(column.lstrip(">"), justify=justify, no_wrap=number != 1)
    return table
