"""Made-up inputs outside of what a model takes prove nothing: they are left out, if others remain.

Nobody said what values the model is made for, and seeded numbers may lie where its logarithm or square root
gives NaN. That it gives NaN there says nothing of the artifact. A sample that the user gave is never left
out, and where the reference gives NaN on every probe, the gate says so and fails.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeconv.comparison.observation import Observation, ProbeResult
from edgeconv.comparison.probes import Probe


def in_domain(probes: Sequence[Probe], reference: Observation) -> tuple[list[Probe], list[str]]:
    """The probes on which the reference gives numbers, and what to say of the others.

    All of them where that would leave none. What an earlier gate of the chain left out is not said again.
    """
    tried = {result.label for result in reference.results}
    probes = [probe for probe in probes if probe.label in tried]
    outside = {result.label for result in reference.results if _is_nan(result)}
    kept = [probe for probe in probes if probe.label not in outside]
    if not kept or len(kept) == len(probes):
        return list(probes), []
    left_out = [probe.label for probe in probes if probe.label in outside]
    listed = ", ".join(f"'{label}'" for label in left_out)
    return kept, [f"made-up inputs for which the source gives NaN were left out: {listed}"]


def _is_nan(result: ProbeResult) -> bool:
    values = [np.asarray(array) for array in result.outputs.values()]
    return any(bool(np.isnan(array).any()) for array in values if array.dtype.kind in "fc")
