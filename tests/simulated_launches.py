"""Launches as machines give them, drawn: what the tests of the statistics are calibrated on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgeconv.latency.channels import Launch
from edgeconv.latency.signed_rank import Floats

Values = Callable[[np.random.Generator, int], Floats]

SYMMETRIC: Mapping[str, Values] = {
    "normal": lambda rng, count: rng.standard_normal(count),
    "heavy tails": lambda rng, count: rng.standard_t(1.5, count),
    "two modes": lambda rng, count: rng.choice([-1.0, 1.0], count) + 0.05 * rng.standard_normal(count),
    "outliers": lambda rng, count: rng.standard_normal(count) * np.where(rng.random(count) < 0.1, 50, 1),
    "noise that grows": lambda rng, count: rng.standard_normal(count) * np.linspace(0.5, 2, count),
}
"""Log-ratios of equals: symmetric about zero, and otherwise what was seen or feared."""


def launch(
    rng: np.random.Generator,
    *,
    effect: float = 0.0,
    between: float = 0.012,
    bursts: int = 16,
    length: int = 5,
    interrupted: float = 0.03,
    nanoseconds: float = 50_000,
) -> Launch:
    """One launch of ``A`` and ``B``, which takes ``effect`` more.

    The machine is at another speed in each launch and drifts within it; each model is shifted by where its
    memory came to lie (``between``, of both together); a share of the samples is interrupted for a long
    time.
    """
    speed = np.exp(rng.normal(0, 0.1) + np.cumsum(rng.normal(0, 0.01, bursts)))[:, np.newaxis]
    found = {}
    for model, factor in (("A", 1.0), ("B", 1.0 + effect)):
        shift = np.exp(rng.normal(0, between / np.sqrt(2)))
        times = nanoseconds * factor * shift * speed * np.exp(rng.gamma(1.0, 0.004, (bursts, length)))
        times = times + (rng.random((bursts, length)) < interrupted) * rng.exponential(4e6, (bursts, length))
        found[model] = np.maximum(1, np.rint(times)).astype(np.int64)
    return found
