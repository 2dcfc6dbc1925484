"""Whether the regression verdict errs as rarely as it says, on real runtimes with work injected by count.

``python benchmarks/regression.py run OUT`` makes decisions by ``edgeconv.latency.duet`` on forked launches; their rows go to
``OUT/rows.jsonl``, the raw samples to ``OUT/raw``, as ``edgeconv drill --keep OUT`` does with the launches of ``edgeconv regress``. The
models are given with ``--tflite``; a sample of an arm is so many inferences that the share of injected work is exact.

``… table OUT…`` prints verdicts, rates with intervals, calibration and the rules of other tools, of folders of either kind;
``… pack OUT FILE.jsonl.gz`` keeps the rows; ``… units OUT`` compares forked launches with interpreters started anew.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from duet_launches import Arm, launch, launch_anew, opened, preload

from edgeconv.latency.channels import Launch, between
from edgeconv.latency.decisions import Policy
from edgeconv.latency.drill import keep_trial, kept_trials
from edgeconv.latency.duet import run
from edgeconv.latency.other_load import toggling
from edgeconv.latency.plan import launch_plan
from edgeconv.latency.rates import Trial, summary
from edgeconv.latency.sources import BASELINE, CANDIDATE


def inference_seconds(path: str) -> float:
    """The median time of one inference, measured in a process of its own."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        call, times = opened(path), []
        for _ in range(220):
            begun = time.perf_counter_ns()
            call()
            times.append(time.perf_counter_ns() - begun)
        os.write(writing, str(int(np.median(times[20:]))).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        said = int(stream.read()) / 1e9
    os.wait()
    return said


def cases(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Models as (name, file, inferences a sample); the work of a sample is a multiple of a hundred inferences."""
    found = []
    for path in options.tflite:
        seconds = inference_seconds(path)
        for wanted in options.microseconds:
            units = max(1, round(wanted / 1e6 / seconds / 100)) * 100
            if 0.4 < units * seconds / (wanted / 1e6) < 2.5:
                name = f"{Path(path).stem} ×{units}"
                found.append({"name": name, "path": path, "units": units, "seconds": units * seconds})
                break
    return found


def measure(options: argparse.Namespace) -> None:
    """Make decisions in random order of models, effects and load until all are made or the time is over."""
    preload(options.tflite)
    begun, made = time.monotonic(), 0
    tasks = [
        (case, effect, loops)
        for case in cases(options)
        for effect, number in zip(options.effects, options.decisions, strict=True)
        for loops in options.loops
        for _ in range(number)
    ]
    random.Random(options.seed).shuffle(tasks)
    for number, (case, effect, loops) in enumerate(tasks):
        if time.monotonic() - begun > options.minutes * 60:
            break
        arms = {
            "A": Arm(case["path"], case["units"]),
            "B": Arm(case["path"], round(case["units"] * (1 + effect / 100))),
        }
        plan = launch_plan(case["seconds"])
        seed = options.seed * 1_000_003 + number * 1009
        policy = Policy(threshold=options.threshold / 100, seconds=options.seconds)
        with toggling(loops, seed):
            (decision,), launches = run(
                lambda n, s=seed, a=arms, p=plan: launch(a, p, s + n), "A", ["B"], policy
            )
        typical = decision.channels["typical"]
        one = Trial(
            model=case["name"],
            effect=effect,
            true=arms["B"].units / arms["A"].units,
            loops=loops,
            verdict=decision.verdict,
            seconds=decision.seconds,
            low=typical.low,
            high=typical.high,
            detectable=typical.detectable,
            launches=[{BASELINE: each["A"], CANDIDATE: each["B"]} for each in launches],
            load=os.getloadavg()[0],
        )
        keep_trial(options.out, f"{options.seed}-{number}", one)
        made += 1
    print(f"{made} of {len(tasks)} decisions in {time.monotonic() - begun:.0f} s")


def units(options: argparse.Namespace) -> None:
    """Compare forked launches with interpreters started anew, in turns: spread and centre of equals, and seconds."""
    preload(options.tflite)
    print(
        "| model | launch | launches | median log-ratio, % | its standard error, % | standard deviation, % | by the median deviation, % | ms a launch |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for case in cases(options):
        arms = {name: Arm(case["path"], case["units"]) for name in "AB"}
        plan = launch_plan(case["seconds"])
        made: dict[str, list[Launch]] = {"forked": [], "started anew": []}
        spent = dict.fromkeys(made, 0.0)
        for number in range(options.decisions[0]):
            for kind, way in zip(made, (launch, launch_anew), strict=True):
                begun = time.monotonic()
                made[kind].append(way(arms, plan, options.seed * 1_000_003 + number))
                spent[kind] += time.monotonic() - begun
        for kind, launches in made.items():
            values = 100 * between(launches, "A", "B")["typical"].values
            robust = 1.4826 * np.median(np.abs(values - np.median(values)))
            error = 1.2533 * robust / np.sqrt(len(values))
            print(
                f"| {case['name']} | {kind} | {len(values)} | {np.median(values):+.2f} | {error:.2f} | {values.std():.2f} | {robust:.2f} | {1000 * spent[kind] / len(values):.0f} |",
                flush=True,
            )


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


def pack(folder: Path, into: Path) -> None:
    """Keep the rows of a folder in one compressed file, with each launch's typical log-ratio for its samples."""
    with gzip.open(into, "wt") as stream:
        for one in kept_trials(folder):
            row = {key: value for key, value in vars(one).items() if key != "launches"}
            values = between(one.launches, BASELINE, CANDIDATE)["typical"].values
            stream.write(
                json.dumps({**row, "typical": [round(value, 5) for value in values.tolist()]}) + "\n"
            )


def main() -> None:
    """Parse and go."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "units", "table", "pack"))
    parser.add_argument("out", type=Path, nargs="+")
    parser.add_argument("--tflite", nargs="+", default=[], help="model files, TFLite or ONNX")
    parser.add_argument(
        "--microseconds",
        nargs="+",
        type=float,
        default=[40, 1000, 20000],
        help="the first that fits a file is taken",
    )
    parser.add_argument(
        "--effects", nargs="+", type=float, default=[0, 1, 2, 5], help="injected work in percent"
    )
    parser.add_argument(
        "--decisions", nargs="+", type=int, default=[40, 10, 20, 20], help="for each effect, model and load"
    )
    parser.add_argument("--loops", nargs="+", type=int, default=[0, 4], help="busy loops that are toggled")
    parser.add_argument("--seconds", type=float, default=15, help="of measuring a decision")
    parser.add_argument("--threshold", type=float, default=1.0, help="in percent")
    parser.add_argument(
        "--others", type=int, default=60, help="decisions of each effect that other tools' rules are tried on"
    )
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.what == "table":
        return table(options.out, options.threshold, options.others)
    if options.what == "pack":
        return pack(*options.out)
    (options.out,) = options.out
    return measure(options) if options.what == "run" else units(options)


if __name__ == "__main__":
    main()
