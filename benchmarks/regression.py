"""What kept decisions of ``edgeconv drill`` say together: how rarely the regression verdict errs.

``python benchmarks/regression.py table FOLDER…`` prints verdicts, rates with intervals, calibration and the rules of other
tools of folders that ``edgeconv drill --keep FOLDER`` made; ``… pack FOLDER… FILE.jsonl.gz`` keeps their rows.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Sequence
from pathlib import Path

from edgeconv.latency.channels import between
from edgeconv.latency.drill import kept_trials
from edgeconv.latency.rates import summary
from edgeconv.latency.sources import BASELINE, CANDIDATE


def table(folders: Sequence[Path], threshold: float, most: int) -> None:
    """Print what the rows and raw samples of some folders say together."""
    said = summary([one for folder in folders for one in kept_trials(folder)], threshold / 100, most)
    heads = ("sample", "busy loops", "injected", "decisions", "regressed", "ok", "improved", "inconclusive")
    print_row(*heads, "right within 5 s", "seconds: median, p95, most", "95 % interval has it", "detectable")
    print("|---" * 12 + "|")
    for cell in said.cells:
        counts = [cell.verdicts.get(name, 0) for name in heads[4:]]
        seconds = ", ".join(f"{each:.1f}" for each in cell.seconds)
        print_row(cell.model, cell.loops, f"{cell.effect:g} %", cell.decisions, *counts, cell.right_within_5_s,
                  seconds, cell.covered, f"{100 * cell.detectable:.2g} %")  # fmt: skip
    print(f"\nload average {said.loads[0]:.1f} to {said.loads[1]:.1f}\n")
    rates = {"equals called changed": said.false_alarms, "equals called ok": said.ok}
    for effect, each in said.found.items():
        rates[f"+{effect:g} % called regressed"] = each
        rates[f"+{effect:g} % called regressed within 5 s"] = said.found_within_5_s[effect]
    rates["95 % intervals that have the true ratio"] = said.covered
    for level, each in said.calibration.items():
        rates[f"equals cut anew called different at {level:.0%}"] = each
    print_row("what", "how often", "95 % interval of the rate")
    print("|---" * 3 + "|")
    for name, each in rates.items():
        print_row(name, f"{each.hits} of {each.of}", f"{100 * each.low:.2f} to {100 * each.high:.2f} %")
    for title, rules in said.others.items():
        effects = list(rules["edgeconv"])
        print(f"\nCalled slower, {title}:\n")
        print_row("rule", *(f"+{effect:g} %" for effect in effects))
        print("|---" * (len(effects) + 1) + "|")
        for name, of in rules.items():
            print_row(name, *(f"{of[effect].hits} of {of[effect].of}" for effect in effects))


def print_row(*cells: object) -> None:
    """A row of a Markdown table."""
    print("| " + " | ".join(map(str, cells)) + " |")


def pack(folders: Sequence[Path], into: Path) -> None:
    """Keep the rows of folders in one compressed file, with each launch's typical log-ratio for its samples."""
    with gzip.open(into, "wt") as stream:
        for folder in folders:
            for one in kept_trials(folder):
                row = {key: value for key, value in vars(one).items() if key != "launches"}
                values = between(one.launches, BASELINE, CANDIDATE)["typical"].values
                typical = [round(value, 5) for value in values.tolist()]
                stream.write(json.dumps({"from": folder.name, **row, "typical": typical}) + "\n")


def main() -> None:
    """Parse and go."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("table", "pack"))
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--threshold", type=float, default=1.0, help="in percent")
    parser.add_argument(
        "--others", type=int, default=60, help="decisions of each effect that other tools' rules are tried on"
    )
    options = parser.parse_args()
    if options.what == "pack":
        *folders, into = options.folders
        pack(folders, into)
    else:
        table(options.folders, options.threshold, options.others)


if __name__ == "__main__":
    main()
