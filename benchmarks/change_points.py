"""How often change points are found where none is, and how often where one is.

Run as ``python benchmarks/change_points.py [--scale 1.0]``: prints the tables of ``docs/history.md``, some minutes at scale 1.

Series without a change: normal, with heavy tails (Student's t with 1.5 degrees of freedom), skewed, with many ties, with 10 %
outliers, and such whose neighbours resemble each other (first-order autoregressive). Beside edgeconv's rule: the same rank sums
with permutations of any order (``any order``), and the p-value of a single rank sum taken at the largest one (``uncorrected``).
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from edgeconv.history import change_points as rule

ALPHAS = (0.01, 0.05)
LENGTHS = {10: 1000, 20: 1000, 50: 1000, 100: 600, 200: 300, 500: 100}


def autoregressive(rng: np.random.Generator, count: int, phi: float) -> np.ndarray:
    noise = rng.standard_normal(count + 100)
    for step in range(1, count + 100):
        noise[step] = phi * noise[step - 1] + math.sqrt(1 - phi**2) * noise[step]
    return noise[100:]


SERIES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, count: rng.standard_normal(count),
    "heavy tails": lambda rng, count: rng.standard_t(1.5, count),
    "skewed": lambda rng, count: rng.lognormal(0, 1, count),
    "many ties": lambda rng, count: np.round(rng.standard_normal(count)),
    "outliers": lambda rng, count: rng.standard_normal(count) * np.where(rng.random(count) < 0.1, 50, 1),
    "autoregressive 0.3": lambda rng, count: autoregressive(rng, count, 0.3),
    "autoregressive 0.5": lambda rng, count: autoregressive(rng, count, 0.5),
}


def any_order(values: np.ndarray, draws: int = 499) -> float:
    """The p-value where every order is as likely."""
    rng = np.random.default_rng(int(abs(values).sum() * 1e6) % 2**32)
    ranks = rule._mean_ranks(values)
    height = rule._heights(ranks[np.newaxis]).max()
    orders = np.argsort(rng.standard_normal((draws, len(values))), axis=1)
    return (1 + int((rule._heights(ranks[orders]).max(axis=1) >= height - 1e-9).sum())) / (draws + 1)


def uncorrected(values: np.ndarray) -> float:
    """The two-sided normal p-value of the largest rank sum of the whole series, as if no other had been looked at."""
    ranks, count = rule._mean_ranks(values), len(values)
    place = np.arange(rule.LEAST, count - rule.LEAST + 1)
    spread = np.sqrt((ranks**2).mean() * place * (count - place) / (count - 1))
    return math.erfc(float((np.abs(np.cumsum(ranks)[place - 1]) / spread).max()) / math.sqrt(2))


def false_alarms(scale: float) -> None:
    print("| series | length | at 1 % | at 5 % | any order, at 1 % | uncorrected, at 1 % | series drawn |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, make in SERIES.items():
        for length, number in LENGTHS.items():
            rng, number = np.random.default_rng(length), max(20, round(number * scale))
            drawn = [make(rng, length) for _ in range(number)]
            found = [np.mean([bool(rule.change_points(one, alpha)) for one in drawn]) for alpha in ALPHAS]
            plain = np.mean([any_order(one) <= 0.01 for one in drawn])
            naive = np.mean([uncorrected(one) <= 0.01 for one in drawn])
            cells = [f"{100 * rate:.1f} %" for rate in (*found, plain, naive)]
            print(f"| {name} | {length} | {' | '.join(cells)} | {number} |", flush=True)


def power(scale: float) -> None:
    print("| change | length | 1 | 2 | 3 | 5 |")
    print("| --- | --- | --- | --- | --- | --- |")
    places = {
        "in the middle": lambda count: slice(count // 2, count),
        "before the last five": lambda count: slice(count - 5, count),
        "in the middle third, and back": lambda count: slice(count // 3, 2 * count // 3),
    }
    for name, place in places.items():
        for length in (10, 20, 50, 100):
            cells = []
            for size in (1, 2, 3, 5):
                rng, found, number = np.random.default_rng(length), 0, max(20, round(100 * scale))
                for _ in range(number):
                    values = rng.standard_normal(length)
                    values[place(length)] += size
                    found += bool(rule.change_points(values, 0.01))
                cells.append(f"{100 * found / number:.0f} %")
            print(f"| {name} | {length} | {' | '.join(cells)} |", flush=True)


def more_than_there_are(scale: float) -> None:
    rng, number = np.random.default_rng(1), max(20, round(300 * scale))
    found = []
    for _ in range(number):
        values = rng.standard_normal(100)
        values[60:] += 4
        found.append(len(rule.change_points(values, 0.05)))
    print(
        f"one change of 4 s.d. in 100 values: {np.mean(np.array(found) > 1):.1%} with more than one found, at 5 %"
    )


def looked_at_daily(scale: float) -> None:
    number, alarmed = max(20, round(100 * scale)), 0
    rng = np.random.default_rng(2)
    for _ in range(number):
        values = rng.standard_normal(100)
        alarmed += any(rule.change_points(values[:end], 0.01) for end in range(rule.SHORTEST, 101))
    print(
        f"a series without a change looked at after each of its 100 values, at 1 %: {alarmed / number:.0%} ever raise an alarm"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    scale = parser.parse_args().scale
    false_alarms(scale)
    print()
    power(scale)
    print()
    more_than_there_are(scale)
    looked_at_daily(scale)
