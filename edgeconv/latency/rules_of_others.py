"""What well-known tools would say of the same samples: rules to compare with, not to use.

Each takes the samples of both sides as one array a launch, in any unit, and says whether it would call the
candidate slower. They are written from the tools' documentation, with their defaults:

- ``mean``: the means of all samples differ by more than 5 %, as continuous-integration scripts do it;
- ``u_test``: the Mann-Whitney U test on the launches' means, p < 0.05;
- ``u_test_raw``: the same on single inferences as if each were independent;
- ``pytest_benchmark``: ``--benchmark-compare-fail=min:5%``;
- ``criterion``: bootstrap of the means of single inferences, t test by resampling with p < 0.05, and the
  interval of the change above a noise threshold of 1 % (the defaults of Criterion.rs);
- ``asv``: ``asv continuous``: medians differ by a factor of more than 1.1, and the U test says so at p <
  0.002.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from edgeconv.latency.channels import Launch
from edgeconv.latency.signed_rank import Floats

Side = Sequence[npt.NDArray[np.int64] | Floats]
Rule = Callable[[Side, Side], bool]

_RESAMPLES = 1000
_MOST = 5000


def together(launches: Sequence[Launch], baseline: str, candidate: str) -> tuple[Side, Side]:
    """The samples of all launches, both models in each."""
    return [launch[baseline].ravel() for launch in launches], [
        launch[candidate].ravel() for launch in launches
    ]


def one_after_the_other(launches: Sequence[Launch], baseline: str, candidate: str) -> tuple[Side, Side]:
    """The same launches as these tools measure: the baseline first, then the candidate."""
    half = len(launches) // 2
    return (
        [launch[baseline].ravel() for launch in launches[:half]],
        [launch[candidate].ravel() for launch in launches[half:]],
    )


def mean(baseline: Side, candidate: Side) -> bool:
    """The mean of all samples is more than 5 % above."""
    return bool(np.concatenate(candidate).mean() > 1.05 * np.concatenate(baseline).mean())


def _slower_by_u(baseline: Floats, candidate: Floats, level: float) -> bool:
    from scipy.stats import mannwhitneyu

    return bool(mannwhitneyu(candidate, baseline, alternative="greater").pvalue < level)


def u_test(baseline: Side, candidate: Side) -> bool:
    """The U test on the launches' means."""
    sides = [np.array([launch.mean() for launch in side]) for side in (baseline, candidate)]
    return _slower_by_u(sides[0], sides[1], 0.05)


def u_test_raw(baseline: Side, candidate: Side) -> bool:
    """The U test on single inferences."""
    first, second = (np.concatenate(side).astype(np.float64) for side in (baseline, candidate))
    return _slower_by_u(first, second, 0.05)


def pytest_benchmark(baseline: Side, candidate: Side) -> bool:
    """The least time is more than 5 % above."""
    return bool(np.concatenate(candidate).min() > 1.05 * np.concatenate(baseline).min())


def criterion(baseline: Side, candidate: Side) -> bool:
    """Bootstrap of the means of single inferences; at most 5,000 of each side, evenly taken."""
    first, second = (_thinned(np.concatenate(side).astype(np.float64)) for side in (baseline, candidate))
    rng = np.random.default_rng(0)

    def resampled(values: Floats, size: int) -> tuple[Floats, Floats]:
        means, variances = np.empty(_RESAMPLES), np.empty(_RESAMPLES)
        for number in range(_RESAMPLES):
            drawn = values[rng.integers(0, len(values), size)]
            means[number], variances[number] = drawn.mean(), drawn.var(ddof=1) / size
        return means, variances

    def t(difference: Floats | float, variance: Floats | float) -> Floats:
        return np.asarray(difference / np.sqrt(np.maximum(variance, 1e-300)))

    seen = t(second.mean() - first.mean(), first.var(ddof=1) / len(first) + second.var(ddof=1) / len(second))
    pooled = np.concatenate([first, second])
    one, two = resampled(pooled, len(first)), resampled(pooled, len(second))
    p_value = float((np.abs(t(two[0] - one[0], one[1] + two[1])) >= abs(seen)).mean())
    change = resampled(second, len(second))[0] / resampled(first, len(first))[0] - 1
    return p_value < 0.05 and float(np.quantile(change, 0.025)) > 0.01


def _thinned(values: Floats) -> Floats:
    return values[:: -(-len(values) // _MOST)]


def asv(baseline: Side, candidate: Side) -> bool:
    """The medians differ by a factor of more than 1.1 and the U test on single inferences says so."""
    first, second = (np.concatenate(side).astype(np.float64) for side in (baseline, candidate))
    return bool(np.median(second) > 1.1 * np.median(first)) and _slower_by_u(first, second, 0.002)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "mean": mean,
        "u_test": u_test,
        "u_test_raw": u_test_raw,
        "pytest_benchmark": pytest_benchmark,
        "criterion": criterion,
        "asv": asv,
    }
)
"""All of them by name."""
