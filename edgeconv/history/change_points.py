"""Where a series changed its level: rank sums at every place, tested at their maximum.

The statistic of a place is the standardised sum of the ranks of the values before it (Wilcoxon's), with mean
ranks for ties, taken in the whole series and in parts of it that overlap and become shorter, so that what
goes up and comes back is seen too (S. Kovács and others, "Seeded binary segmentation" (2023)). That of
the series is the largest over all of them that leave ``LEAST`` values on both sides. It is compared with the
*maximum* over all of them of series in which nothing changed, made of the values themselves in another
order, so looking everywhere costs no false alarms, and neither tails, outliers nor ties do. Source of the
maximum of rank sums: A. Pettitt, "A non-parametric approach to the change-point problem" (1979).

Where neighbours resemble each other (a machine that is slow all week), another order is not as likely as
the one seen, and plain permutations raise false alarms. So the orders are drawn as those of a Gaussian
autoregressive series with the autocorrelation of the ranks about their levels; with none that is every
order alike, the plain permutation test.

Segments are divided again as long as a change is found in one, each tested at its share by length of the
error of the whole (N. Meinshausen, "Hierarchical testing of variable importance" (2008)): whatever the true
changes are, segments without any have shares that add up to the whole at most. At the end every change is
tested once more between its neighbours.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from edgeconv.errors import UsageError

Floats = npt.NDArray[np.float64]

LEAST = 2
"""Values on each side of a change. One alone is an outlier until the next one has come."""
SHORTEST = 8
"""A series shorter than this is not tested: hardly any order of it is rare enough."""
LONGEST = 5000
_SHORTEST_PART = 16
_THREE_LEVELS_FROM = 40
_GRID = 150
_ENOUGH = 20
_MOST_DRAWS = 100_000
_AT_ONCE = 2_000_000
_DRAWS_FOR = 10
"""As many draws as give this many below the level on average, at most."""


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """One change of level.

    Attributes:
        index: of the first value after it.
        before, after: medians of the values between the neighbouring changes.
        p: of no change between the neighbouring changes; at most the share of the error that it had.
    """

    index: int
    before: float
    after: float
    p: float


def change_points(values: npt.ArrayLike, alpha: float = 0.01, *, seed: int = 0) -> list[ChangePoint]:
    """Changes of the level of a series, in order.

    Args:
        values: in the order of time; finite.
        alpha: the probability that anything is found in a series without a change.
        seed: the same series, alpha and seed give the same answer.

    Raises:
        UsageError: values that are no finite numbers, more than :data:`LONGEST`, or an alpha that is none.
    """
    series = np.asarray(values, np.float64)
    if series.ndim != 1 or not np.isfinite(series).all():
        raise UsageError("a series is of finite numbers, one after the other")
    if len(series) > LONGEST:
        raise UsageError(f"a series of {len(series)} values", hint=f"take the latest {LONGEST}, with --last")
    if not 1e-6 <= alpha <= 0.5:
        raise UsageError(f"alpha is {alpha}", why="error rates are from 0.000001 to 0.5")
    found: list[int] = []
    _divide(series, 0, len(series), alpha, seed, found)
    return _confirmed(series, sorted(found), alpha, seed)


def _divide(series: Floats, start: int, end: int, alpha: float, seed: int, found: list[int]) -> None:
    if end - start < SHORTEST:
        return
    share = alpha * (end - start) / len(series)
    p, place = greatest_change(series[start:end], share, seed=seed)
    if p <= share:
        found.append(start + place)
        _divide(series, start, start + place, alpha, seed, found)
        _divide(series, start + place, end, alpha, seed, found)


def _confirmed(series: Floats, places: list[int], alpha: float, seed: int) -> list[ChangePoint]:
    """The changes that hold between their neighbours; one that fell lets the next ones see further."""
    while True:
        ends = [0, *places, len(series)]
        found, worst = [], (1.0, -1)
        for number, (start, end) in enumerate(zip(ends, ends[2:], strict=False)):
            share = alpha * (end - start) / len(series)
            p, place = greatest_change(series[start:end], share, seed=seed)
            index = start + place
            before, after = float(np.median(series[start:index])), float(np.median(series[index:end]))
            found.append(ChangePoint(index, before, after, p))
            if p > share and p / share > worst[0]:
                worst = (p / share, number)
        if worst[1] < 0:
            return found
        del places[worst[1]]


def greatest_change(values: Floats, level: float, *, seed: int = 0) -> tuple[float, int]:
    """The p-value of "the level did not change", and the likeliest place of a change.

    Args:
        values: at least :data:`SHORTEST`; fewer give 1.
        level: what the p-value will be held to: how many orders are drawn depends on it.
        seed: of the orders, together with the values.

    Returns:
        A p-value that is at most the level with a probability of at most the level (by drawing until
        enough orders are as extreme: J. Besag, P. Clifford, "Sequential Monte Carlo p-values" (1991)), and
        the index of the first value after the change.
    """
    count = len(values)
    if count < SHORTEST or values.min() == values.max():
        return 1.0, count // 2
    ranks = _mean_ranks(values)
    heights = _heights(ranks[np.newaxis])[0]
    place, height = int(_places(count)[1][heights.argmax()]), float(heights.max())
    most = min(_MOST_DRAWS, max(999, math.ceil(_DRAWS_FOR / level) - 1))
    # The 1 below is the order that was seen: without it a p-value could be 0.
    rng = np.random.default_rng(_seed_of(ranks, seed))
    resemblance = _autocorrelation(ranks)
    ordered = np.sort(ranks)
    above = drawn = 0
    while drawn < most:
        batch = min(
            most - drawn,
            min(200, _AT_ONCE // len(_places(count)[0]))
            if not drawn
            else max(1, _AT_ONCE // len(_places(count)[0])),
        )
        orders = _orders(rng, batch, count, resemblance)
        heights_of = _heights(ordered[orders]).max(axis=1)
        extreme = np.flatnonzero(heights_of >= height - 1e-9)
        if above + len(extreme) >= _ENOUGH:
            return _ENOUGH / (drawn + int(extreme[_ENOUGH - above - 1]) + 1), place
        above, drawn = above + len(extreme), drawn + batch
    return (above + 1) / (drawn + 1), place


def _mean_ranks(values: Floats) -> Floats:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[place]
    return ranks - (len(values) + 1) / 2


@lru_cache(maxsize=64)
def _places(count: int) -> tuple[npt.NDArray[np.intp], ...]:
    """Begin, place and end of every split that is looked at: of the whole series, and of parts of it that
    overlap by half, each layer's parts being half as long as those of the layer before."""
    found: list[npt.NDArray[np.intp]] = []
    length = float(count)
    while not found or length >= _SHORTEST_PART:
        shifts = 1 if length == count else 2 * math.ceil(count / length) - 1
        for start in np.linspace(0, count - length, shifts).round().astype(int):
            end = min(count, start + round(length))
            middle = np.arange(start + LEAST, end - LEAST + 1)
            found.append(np.stack([np.full_like(middle, start), middle, np.full_like(middle, end)]))
        length /= 2
    begin, place, end = np.concatenate(found, axis=1)
    return begin, place, end


def _heights(ranks: Floats) -> Floats:
    """The standardised rank sum of every split, of shape (series, splits); ranks have the mean 0."""
    begin, place, end = _places(ranks.shape[1])
    sums = np.zeros((len(ranks), ranks.shape[1] + 1))
    np.cumsum(ranks, axis=1, out=sums[:, 1:])
    left, whole = place - begin, end - begin
    over = sums[:, place] - sums[:, begin] - left / whole * (sums[:, end] - sums[:, begin])
    spread = np.sqrt((ranks[:1] ** 2).mean() * left * (whole - left) / whole)
    heights: Floats = np.abs(over) / spread
    return heights


def _autocorrelation(ranks: Floats) -> float:
    """The first autocorrelation of the ranks about their levels, on the safe side.

    The levels are two, and in longer series three, so that a series that goes up and comes back is not taken
    for one whose neighbours resemble each other. About k fitted levels an autocorrelation r comes out too
    small, by about k (1 + 3 r) / n: M. Kendall, "Note on bias in the estimation of autocorrelation" (1954)
    has it for one. Half a standard error a split is added: too large a value costs a little power, too small
    a one false alarms.
    """
    count = len(ranks)
    ends = _best_levels(ranks)
    levels = len(ends) - 1
    rest = np.concatenate(
        [ranks[a:b] - ranks[a:b].mean() for a, b in itertools.pairwise(ends)],
    )
    power = float(rest @ rest)
    if power <= 1e-9:
        return 0.0
    raw = float(rest[1:] @ rest[:-1]) / power
    safe = raw + levels * (1 + 3 * raw) / count + 0.5 * (levels - 1) / math.sqrt(count)
    return min(0.95, max(0.0, safe))


def _best_levels(ranks: Floats) -> list[int]:
    """Where the two or three levels begin and end that fit best by least squares."""
    count = len(ranks)
    sums = np.concatenate([[0.0], np.cumsum(ranks)])
    first = np.arange(LEAST, count - LEAST + 1)
    if count < _THREE_LEVELS_FROM:
        gain = sums[first] ** 2 * (1 / first + 1 / (count - first))
        return [0, int(first[gain.argmax()]), count]
    first = np.unique(np.linspace(LEAST, count - LEAST, min(len(first), _GRID)).round().astype(int))
    one, two = first[:, np.newaxis], first[np.newaxis]
    between = np.where(two - one >= LEAST, two - one, np.inf)
    gain = sums[one] ** 2 / one + (sums[two] - sums[one]) ** 2 / between + sums[two] ** 2 / (count - two)
    gain[two - one < LEAST] = -1
    left, right = np.unravel_index(int(gain.argmax()), gain.shape)
    return [0, int(first[left]), int(first[right]), count]


def _orders(rng: np.random.Generator, batch: int, count: int, resemblance: float) -> npt.NDArray[np.intp]:
    """Ranks, from 0, of series of an autocorrelation; each row is an order."""
    noise = rng.standard_normal((batch, count), dtype=np.float32)
    if resemblance > 0:
        fresh = math.sqrt(1 - resemblance**2)
        for step in range(1, count):
            noise[:, step] = resemblance * noise[:, step - 1] + fresh * noise[:, step]
    order = np.argsort(noise, axis=1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(count)[np.newaxis], axis=1)
    return ranks


def _seed_of(ranks: Floats, seed: int) -> int:
    digest = hashlib.sha256(ranks.tobytes() + seed.to_bytes(8, "little"))
    return int.from_bytes(digest.digest()[:8], "little")
