"""How a drill looks on a terminal."""

from __future__ import annotations

from rich.text import Text

from edgeconv.cli.options import plain
from edgeconv.cli.tables import console_for_tables, print_wrapped, table_with
from edgeconv.recipe.drilling import Drilled
from edgeconv.reports.drilled import sentences

_TITLES = {
    "mean": "mean > 5 %",
    "u_test": "U test, launch means",
    "u_test_raw": "U test, inferences",
    "pytest_benchmark": "pytest-benchmark, min:5%",
    "criterion": "Criterion-like bootstrap",
    "asv": "asv, factor 1.1",
    "edgeconv": "edgeconv",
}


def print_drilled(found: Drilled, *, quiet: bool) -> None:
    """Decisions by kind, what they show, and what the rules of other tools say of the same samples."""
    console = console_for_tables()
    said = found.summary
    if not quiet:
        table = table_with("what", ">loops", ">injected", ">right", ">wrong", ">open", ">s, median", ">p95")
        for cell in said.cells:
            open_ones = cell.decisions - cell.right.hits - cell.wrong
            table.add_row(
                plain(cell.model),
                str(cell.loops),
                f"+{cell.effect:g} %" if cell.effect else "none",
                f"{cell.right.hits} of {cell.decisions}",
                Text(str(cell.wrong), style="bold red" if cell.wrong else ""),
                Text(str(open_ones), style="yellow" if open_ones else ""),
                f"{cell.seconds[0]:.1f}",
                f"{cell.seconds[1]:.1f}",
            )
        console.print(table)
        console.print()
    for line in sentences(found):
        print_wrapped(console, plain(line), indent="  ")
    if quiet:
        return
    for title, rules in said.others.items():
        effects = list(rules["edgeconv"])
        heads = [f">+{effect:g} %" if effect else ">equals" for effect in effects]
        table = table_with(f"called slower, {title}", *heads)
        for name, rates in rules.items():
            cells = [f"{rates[effect].hits} of {rates[effect].of}" for effect in effects]
            table.add_row(Text(_TITLES.get(name, name), style="bold" if name == "edgeconv" else ""), *cells)
        console.print()
        console.print(table)
    console.print()
    for line in found.left:
        print_wrapped(console, f"note: {plain(line)}", "yellow")
    runtimes = ", ".join(sorted(set(found.runtimes.values())))
    load = f"load average {said.loads[0]:.1f} to {said.loads[1]:.1f}"
    print_wrapped(console, f"{runtimes} on {found.request.device}; {load}; --seed {found.seed}", "dim")
