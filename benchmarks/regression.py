"""Whether the regression verdict errs as rarely as it says, on real runtimes with work injected by count.

Run as ``python benchmarks/regression.py run OUT`` (options below), then ``python benchmarks/regression.py table OUT``. Each
decision is a run of ``edgeconv.latency.duet`` on fresh forked launches; its row goes to ``OUT/rows.jsonl`` and the raw samples of all
its launches to ``OUT/raw``. The models: a TFLite file given with ``--tflite`` (a small one) and one with ``--larger``; a sample of
an arm is so many inferences of it that the share of injected work is exact (``duet_launches.py``).

``python benchmarks/regression.py units OUT --tflite …`` compares forked launches with interpreters started anew.

The table has, for each model, load and effect: how often which verdict, seconds of measuring, how often the 95 % interval has the
injected ratio; for equals how often a test at 1, 5 and 10 % calls them different (by cutting the launches anew into
runs of 24, looked at seven times); and what the rules of other tools say of the same samples.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from duet_launches import Arm, launch, launch_anew, opened, preload, toggling

from edgeconv.latency.channels import Launch, between
from edgeconv.latency.decisions import Policy, judge
from edgeconv.latency.duet import run
from edgeconv.latency.plan import launch_plan
from edgeconv.latency.rules_of_others import RULES, one_after_the_other, together

CUT = 24
LEVELS = (0.01, 0.05, 0.10)


def processor_seconds() -> float:
    """Processor time of this process and of the launches that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


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
    out = Path(options.out)
    (out / "raw").mkdir(parents=True, exist_ok=True)
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
    with (out / "rows.jsonl").open("a") as rows:
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
            before = processor_seconds()
            with toggling(loops, seed):
                decisions, launches = run(
                    lambda n, s=seed, a=arms, p=plan: launch(a, p, s + n), "A", ["B"], policy
                )
                processor = processor_seconds() - before
            raw = f"{options.seed}-{number}.npz"
            np.savez_compressed(
                out / "raw" / raw, **{name: np.stack([one[name] for one in launches]) for name in arms}
            )
            (decision,) = decisions
            row = {
                "model": case["name"],
                "units": [arms["A"].units, arms["B"].units],
                "effect": effect,
                "loops": loops,
                "load": os.getloadavg()[0],
                "verdict": decision.verdict,
                "seconds": round(decision.seconds, 3),
                "processor_seconds": round(processor, 3),
                "launches": decision.launches,
                "planned_looks": decision.planned_looks,
                "raw": raw,
                "channels": {
                    name: [
                        one.verdict,
                        one.ratio,
                        one.low,
                        one.high,
                        one.p_slower,
                        one.p_faster,
                        one.detectable,
                    ]
                    for name, one in decision.channels.items()
                },
            }
            rows.write(json.dumps(row) + "\n")
            rows.flush()
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


def table(out: Path, most: int) -> None:
    """Print what the rows and raw samples say."""
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    groups = defaultdict(list)
    for row in rows:
        groups[row["model"], row["loops"], row["effect"]].append(row)
    print(
        "| model | busy loops | injected | decisions | regressed | ok | improved | inconclusive | seconds, median and p95 | of processor time | found within 5 s | 95 % interval has it |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for (model, loops, effect), group in sorted(groups.items()):
        seconds = [row["seconds"] for row in group]
        used = [row.get("processor_seconds", np.nan) for row in group]
        verdicts = [
            sum(row["verdict"] == verdict for row in group)
            for verdict in ("regressed", "ok", "improved", "inconclusive")
        ]
        quick = sum(row["verdict"] == "regressed" and row["seconds"] <= 5 for row in group)
        true = group[0]["units"][1] / group[0]["units"][0]
        covered = np.mean(
            [row["channels"]["typical"][2] <= true <= row["channels"]["typical"][3] for row in group]
        )
        shown = " | ".join(str(count) for count in verdicts)
        print(
            f"| {model} | {loops} | {effect} % | {len(group)} | {shown} | {np.median(seconds):.1f}, {np.quantile(seconds, 0.95):.1f} | {np.median(used):.1f} | {quick} | {covered:.1%} |"
        )
    calibration(out, groups)
    rng = random.Random(0)
    by_effect = defaultdict(list)
    for row in rows:
        by_effect[row["effect"]].append(row)
    others(out, [row for group in by_effect.values() for row in rng.sample(group, min(len(group), most))])


def raw_launches(out: Path, row: dict[str, Any]) -> list[Launch]:
    """The samples of one decision, a launch each."""
    with np.load(out / "raw" / row["raw"]) as stored:
        return [
            dict(zip(stored.files, pair, strict=True))
            for pair in zip(*(stored[name] for name in stored.files), strict=True)
        ]


def cut(out: Path, group: list[dict[str, Any]]) -> Iterator[list[Launch]]:
    """The launches of a group of decisions, in order, cut into runs of the same length and of one plan."""
    held: list[Launch] = []
    for row in group:
        found = raw_launches(out, row)
        if held and held[0]["A"].shape != found[0]["A"].shape:
            held = []
        held += found
        while len(held) >= CUT:
            yield held[:CUT]
            held = held[CUT:]


def calibration(out: Path, groups: dict[Any, list[dict[str, Any]]]) -> None:
    """How often equals are called different by a test at some levels, and what the intervals cover."""
    p_values, inside = [], []
    for (_, _, effect), group in groups.items():
        true = group[0]["units"][1] / group[0]["units"][0]
        for launches in cut(out, group):
            (decision,) = judge(launches, "A", ["B"], planned_launches=CUT)
            typical = decision.channels["typical"]
            inside.append(typical.low <= true <= typical.high)
            if effect == 0:
                p_values.append(min(one.p_adjusted for one in decision.channels.values()))
    rates = (
        ", ".join(f"{np.mean(np.array(p_values) <= level):.2%} at {level:.0%}" for level in LEVELS)
        if p_values
        else "none"
    )
    print(
        f"\nEquals called different, all channels and looks together, {len(p_values)} runs of {CUT} launches: {rates}"
    )
    print(
        f"95 % intervals that have the injected ratio: {np.mean(inside):.1%} of {len(inside)} runs of {CUT} launches"
    )


def others(out: Path, rows: list[dict[str, Any]]) -> None:
    """The rules of other tools on the same samples, measured together and as if one after the other."""
    for title, arranged in (
        ("as measured, together", together),
        ("baseline first, then the candidate", one_after_the_other),
    ):
        said: dict[str, dict[float, list[bool]]] = defaultdict(lambda: defaultdict(list))
        for row in rows:
            sides = arranged(raw_launches(out, row), "A", "B")
            for name, rule in RULES.items():
                said[name][row["effect"]].append(rule(*sides))
            said["edgeconv"][row["effect"]].append(row["verdict"] == "regressed")
        effects = sorted({row["effect"] for row in rows})
        print(f"\nCalled slower, {title}:\n")
        print("| rule | " + " | ".join(f"+{effect} %" for effect in effects) + " |")
        print("|---" * (len(effects) + 1) + "|")
        for name, of in said.items():
            print(f"| {name} | " + " | ".join(f"{np.mean(of[effect]):.1%}" for effect in effects) + " |")


def main() -> None:
    """Parse and go."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "units", "table"))
    parser.add_argument("out", type=Path)
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
    if options.what == "run":
        measure(options)
    elif options.what == "units":
        units(options)
    else:
        table(options.out, options.others)


if __name__ == "__main__":
    main()
