"""Several hypotheses at once without more false alarms."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def holm(p_values: Mapping[Key, float], weights: Mapping[Key, float] | None = None) -> dict[Key, float]:
    """Adjusted p-values: any true hypothesis has one of at most alpha with a probability of at most alpha.

    Holds however the hypotheses depend on each other. Source: S. Holm, "A simple sequentially rejective
    multiple test procedure" (1979), section 4 for weights.

    Args:
        p_values: of the hypotheses.
        weights: the share of alpha that each begins with, positive and in any unit; equal shares if ``None``.
    """
    of = weights or dict.fromkeys(p_values, 1.0)
    adjusted: dict[Key, float] = {}
    largest = 0.0
    order = sorted(p_values, key=lambda key: p_values[key] / of[key])
    for place, key in enumerate(order):
        left = sum(of[other] for other in order[place:])
        largest = max(largest, min(1.0, left / of[key] * p_values[key]))
        adjusted[key] = largest
    return adjusted
