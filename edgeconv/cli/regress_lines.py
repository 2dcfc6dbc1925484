"""How regression verdicts look on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from edgeconv.cli.options import plain
from edgeconv.cli.tables import console_for_tables, print_wrapped, table_with
from edgeconv.latency.regress import Comparison
from edgeconv.reports.verdicts import (
    NAMES,
    amount,
    change,
    culprit_lines,
    interval,
    place,
    sentences,
    share,
    why,
)

_STYLES = {"regressed": "bold red", "ok": "green", "improved": "bold blue", "inconclusive": "yellow"}
_MARKS = {"regressed": "✗", "ok": "✓", "improved": "✓", "inconclusive": "?"}


def print_verdicts(
    pairs: Sequence[Comparison], unmatched: Sequence[str], *, quiet: bool, verbose: bool
) -> None:
    """Each pair: the verdict and its reason, the table of quantities, then what it rests on."""
    console = console_for_tables()
    for one in pairs:
        if quiet and one.verdict in ("ok", "improved"):
            continue
        style = _STYLES[one.verdict]
        head = Text.assemble((f"{_MARKS[one.verdict]} {one.verdict}", style), f"  {plain(one.name)}")
        console.print(head, soft_wrap=True)
        print_wrapped(console, f"  {why(one)}", indent="  ")
        if quiet:
            continue
        table = table_with(
            "quantity", ">baseline", ">candidate", ">change", "interval", ">threshold", "verdict"
        )
        for each in one.quantities:
            exact = "exact" if each.alpha == 0 else interval(each.low, each.high)
            table.add_row(
                NAMES[each.name],
                amount(each.name, each.baseline),
                amount(each.name, each.candidate),
                change(each.ratio),
                exact,
                share(each.threshold),
                Text(each.verdict, style=_STYLES[each.verdict]),
            )
        for name, channel in one.decision.channels.items():
            if verbose or channel.verdict == "regressed":
                label = name if channel.percentile is None else f"{name}, p{100 * channel.percentile:g}"
                table.add_row(
                    Text(f"  {label}", style="dim"),
                    "",
                    "",
                    change(channel.ratio),
                    interval(channel.low, channel.high),
                    "",
                    Text(channel.verdict, style=_STYLES[channel.verdict]),
                )
        console.print(table)
        for line in (place(one), *sentences(one)):
            print_wrapped(console, f"  {line}", "dim", indent="  ")
        for note in (*one.notes, *(f"{NAMES[q.name]}: {q.note}" for q in one.quantities if _said(q.note))):
            print_wrapped(console, f"  note: {note}", "yellow", indent="  ")
        told = culprit_lines(one)
        if told:
            console.print(Text("  culprit", style="bold"))
            for line in told:
                print_wrapped(console, f"    {line}", indent="      ")
    for path in unmatched:
        print_wrapped(console, f"not compared: {path}", "yellow")


def _said(note: str | None) -> bool:
    return note is not None and note != "exact"
