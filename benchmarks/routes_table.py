"""Tables of two routes to one artifact, as Markdown; also from files that were written before.

python benchmarks/routes_table.py benchmarks/results/routes-fp32.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Coverage and medians of cost by precision and route, and each model where the routes part."""
    compared = [row for row in rows if "route" in row]
    left_out = [row for row in rows if "route" not in row]
    lines = [
        f"{len({row['model'] for row in compared})} models; {len(left_out)} have no source that runs.",
        "",
        "| precision | route | pass | gate fails | no file | does not run | CPU s, median (sum) | peak MB |",
        "| --- | --- | --: | --: | --: | --: | --: | --: |",
    ]
    groups = {(row["precision"], row["route"]): None for row in compared}
    for precision, route in groups:
        some = [r for r in compared if (r["precision"], r["route"]) == (precision, route)]
        lines.append(_group(precision, route, some, compared))
    lines += ["", "Where the routes differ in outcome, or by more than 3 dB:", "", *differences(compared)]
    return "\n".join(lines)


def _group(
    precision: str, route: str, some: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> str:
    counts = [
        sum(row["outcome"] == outcome for row in some)
        for outcome in ("pass", "fail", "failed", "does not run")
    ]
    # Costs are compared on the models that all routes take.
    routes = {row["route"] for row in rows}
    shared = [
        row
        for row in some
        if all(
            any("cpu_seconds" in r for r in rows if _key(r) == _key(row) and r["route"] == other)
            for other in routes
        )
    ]
    cpu = [row["cpu_seconds"] for row in shared]
    peak = [row["peak_mb"] for row in shared]
    cost = f"{median(cpu):.2f} ({sum(cpu):.1f}) | {median(peak):.0f} ({max(peak)})" if shared else "|"
    return f"| {precision} | {route} | {' | '.join(map(str, counts))} | {cost} |"


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["model"], row["precision"]


def differences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each model and precision whose routes end differently."""
    lines = [
        "| model | precision | route | outcome | SQNR dB | why |",
        "| --- | --- | --- | --- | --: | --- |",
    ]
    pairs: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        pairs.setdefault(_key(row), []).append(row)
    for (model, precision), pair in pairs.items():
        ratios = [row["sqnr_db"] for row in pair if row.get("sqnr_db") is not None]
        apart = bool(ratios) and min(ratios) < 60 and max(ratios) - min(ratios) > 3
        if len({row["outcome"] for row in pair}) == 1 and not apart:
            continue
        for row in pair:
            ratio = "" if row.get("sqnr_db") is None else f"{row['sqnr_db']:.1f}"
            why = (row.get("reason") or "").replace("|", "\\|")
            lines.append(f"| {model} | {precision} | {row['route']} | {row['outcome']} | {ratio} | {why} |")
    return lines


if __name__ == "__main__":
    read = [row for name in sys.argv[1:] for row in json.loads(Path(name).read_text())]
    print(table(read))
