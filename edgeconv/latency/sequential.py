"""Looking several times at launches as they come, with the error of all looks together.

At look k, after n_k launches, the exact signed-rank test gives a nominal p-value p_k. What is judged is the
least weighted one so far, T = min p_k / w_k with w_k = sqrt(n_k / n_1): early looks get less of the error.
Under the hypothesis the signs are fair coins and the ranks are those of any sample, so the distribution of
T over all planned looks does not depend on that of the values. It was simulated for the statistic itself
(``boundaries.json``, made by ``python -m edgeconv.latency.sequential PATHS``), since a normal approximation
is wrong where few launches give few distinct p-values. The *sequential p-value* is P(T <= t): it may be
read at any look, and stopping as soon as it is small enough keeps the level.

Sources: the least p-value over looks and its use with Holm's procedure, Q. Liu, K. Anderson, "On adaptive
extensions of group sequential trials for clinical investigations" (2008); intervals that hold at every
look, C. Jennison, B. Turnbull, "Interim analyses: the repeated confidence interval approach" (1989).
"""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeconv.latency.signed_rank import Floats, interval, p_greater, tails

LOOKS = (8, 10, 12, 14, 17, 20, 24, 28, 33, 39, 46, 54, 64, 76, 90, 107, 127, 150, 178, 211, 250)
"""Numbers of launches at which is looked."""

_FILE = Path(__file__).with_name("boundaries.json")
_PER_DECADE = 40
_DECADES = 5
_GRID: Floats = 10.0 ** (-np.arange(_PER_DECADE * _DECADES, -1, -1) / _PER_DECADE)
_WEIGHTS: Floats = np.sqrt(np.asarray(LOOKS, np.float64) / LOOKS[0])


def looks_up_to(launches: int) -> int:
    """How many looks fit into a number of launches."""
    return int(np.searchsorted(LOOKS, launches, side="right"))


def next_look(launches: int) -> int | None:
    """The number of launches at which is looked next, after ``launches``; ``None`` after the last."""
    place = looks_up_to(launches)
    return LOOKS[place] if place < len(LOOKS) else None


@lru_cache(maxsize=1)
def _table() -> Floats:
    """P(T <= t) by simulation: shape (planned looks, points of t).

    Three more than were counted: of what was never seen at most that many are expected (95 %), and none is
    zero.
    """
    stored = json.loads(_FILE.read_text())
    if tuple(stored["looks"]) != LOOKS or stored["per_decade"] != _PER_DECADE:
        raise AssertionError("boundaries.json was made for other looks")
    counts: Floats = np.cumsum(np.asarray(stored["counts"], np.float64), axis=1)
    shares: Floats = np.minimum(1.0, (counts + 3) / stored["paths"])
    return shares


def spent(t: float, planned: int) -> float:
    """P(T <= t) when ``planned`` looks are planned: the error of all of them together.

    The next point of the table above ``t``, or the sum of the looks' own levels where that is less.
    """
    together = float(t * _WEIGHTS[:planned].sum())
    place = int(np.searchsorted(_GRID, t * (1 - 1e-12)))
    if place >= len(_GRID):
        return min(1.0, together)
    return min(1.0, together, float(_table()[planned - 1, place]))


def boundary(level: float, planned: int) -> float:
    """The greatest t of the table whose looks together spend at most ``level``."""
    places = np.flatnonzero(_table()[planned - 1] <= level)
    alone = float(level / _WEIGHTS[:planned].sum())
    return max(alone, float(_GRID[places[-1]]) if len(places) else 0.0)


def nominal_level(level: float, look: int, planned: int) -> float:
    """The level of the exact test at look ``look`` (from 0) when all ``planned`` together have ``level``."""
    return min(0.5, boundary(level, planned) * float(_WEIGHTS[look]))


def spending(level: float, planned: int) -> list[float]:
    """For each look the error spent up to it, at most, when all together have ``level``."""
    t = boundary(level, planned)
    return [min(level, spent(t, look + 1)) for look in range(planned)]


def p_value(values: Floats, planned: int) -> float:
    """The one-sided sequential p-value of "symmetric about zero" against "about something greater".

    Args:
        values: one number a launch in the order of measuring. All looks that fit are taken; what came after
            the last of them is not used.
        planned: how many looks were planned before the first, at least as many as fit.
    """
    least = 1.0
    for look in range(min(looks_up_to(len(values)), planned)):
        least = min(least, p_greater(values[: LOOKS[look]]) / float(_WEIGHTS[look]))
    return spent(least, planned)


def bounds(values: Floats, low_level: float, high_level: float, planned: int) -> tuple[float, float]:
    """Bounds of the centre that hold at all looks together, taken at the last look that fits.

    Returns:
        See :func:`edgeconv.latency.signed_rank.interval`; infinite before the first look.
    """
    look = min(looks_up_to(len(values)), planned) - 1
    if look < 0:
        return -np.inf, np.inf
    return interval(
        values[: LOOKS[look]],
        nominal_level(low_level, look, planned),
        nominal_level(high_level, look, planned),
    )


def simulated(paths: int, seed: int = 1, chunk: int = 8192) -> npt.NDArray[np.int64]:
    """Counts of T in the bins of the grid under the hypothesis, of shape (planned looks, points of t).

    W after n launches is that after n-1 and the number of i <= n with x_i + x_n > 0 (J. Tukey), so the
    looks of one path cost one comparison for each pair.
    """
    rng = np.random.default_rng(seed)
    counts = np.zeros((len(LOOKS), len(_GRID)), np.int64)
    tables = [tails(launches) for launches in LOOKS]
    for begun in range(0, paths, chunk):
        size = min(chunk, paths - begun)
        values = rng.standard_normal((LOOKS[-1], size), np.float32)
        rank_sum, least, look = np.zeros(size, np.int64), np.ones(size), 0
        for place in range(LOOKS[-1]):
            rank_sum += np.count_nonzero(values[: place + 1] > -values[place], axis=0)
            if place + 1 == LOOKS[look]:
                least = np.minimum(least, tables[look][rank_sum] / _WEIGHTS[look])
                bins = np.searchsorted(_GRID, least * (1 - 1e-12))
                counts[look] += np.bincount(np.minimum(bins, len(_GRID) - 1), minlength=len(_GRID))
                look += 1
    return counts


def main(paths: int) -> None:
    """Make ``boundaries.json``."""
    counts = simulated(paths)
    rows = ",\n".join(json.dumps(row.tolist(), separators=(",", ":")) for row in counts)
    _FILE.write_text(
        f'{{"looks": {list(LOOKS)}, "per_decade": {_PER_DECADE}, "paths": {paths}, "counts": [\n{rows}\n]}}\n'
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
