"""How many values differ at all, and by how many steps of the quantization: what a tolerance hides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeconv.comparison import metrics
from edgeconv.comparison.archive import Array, is_text
from edgeconv.formats.base import TensorSpec


@dataclass(frozen=True, slots=True)
class Exactness:
    """Of one output over all probes.

    Attributes:
        differing: elements that are not the same value; NaN is the same as NaN.
        elements: of how many.
        step: between two neighbouring values that the candidate can give; ``None`` if it is not quantized.
        most_steps: largest difference in such steps, to the nearest whole one.
    """

    differing: int
    elements: int
    step: float | None = None
    most_steps: int | None = None

    def __str__(self) -> str:
        if not self.differing:
            return "exact"
        text = f"{self.differing} of {self.elements} values differ"
        if self.most_steps is None or self.step is None:
            return text
        if self.most_steps == 0:
            return f"{text}, by less than half a step of {self.step:.3g}"
        steps = "1 step" if self.most_steps == 1 else f"{self.most_steps} steps"
        return f"{text}, by {steps} of {self.step:.3g} at most"


def exactness(
    reference: Sequence[Array],
    candidate: Sequence[Array],
    reference_spec: TensorSpec,
    candidate_spec: TensorSpec,
    step: float | None = None,
) -> Exactness | None:
    """Compare what was given as it was given; arrays in pairs of equal shapes.

    Args:
        reference, candidate: one array a probe.
        reference_spec, candidate_spec: their types and quantization.
        step: of real outputs that the candidate computes in integers, as the file says.

    Returns:
        ``None`` where the two do not store values alike, so that nothing can be the same.
    """
    if reference_spec.quantization != candidate_spec.quantization:
        return None
    pairs = list(zip(reference, candidate, strict=True))
    if any(is_text(a) != is_text(b) or (not is_text(a) and a.dtype != b.dtype) for a, b in pairs):
        return None
    differing = sum(int(np.count_nonzero(metrics.unequal(a, b))) for a, b in pairs)
    elements = sum(a.size for a, _ in pairs)
    quantization = candidate_spec.quantization
    if quantization is not None:
        # Stored values are whole numbers: one is one step, whatever the scale of its channel.
        step, unit = max(quantization.scale), 1.0
    elif step is not None:
        unit = step
    if step is None or step <= 0:
        return Exactness(differing, elements)
    return Exactness(differing, elements, step, max((_steps(a, b, unit) for a, b in pairs), default=0))


def _steps(one: Array, two: Array, unit: float) -> int:
    apart = metrics.difference(one, two) / unit
    finite = apart[np.isfinite(apart)]
    return int(np.rint(finite.max())) if finite.size else 0
