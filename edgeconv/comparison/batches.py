"""Does a sample give alone what it gives within a batch? A graph that is still training mixes its samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeconv.comparison.archive import Array
from edgeconv.comparison.observation import Observation, adapt_inputs
from edgeconv.comparison.probes import Probe
from edgeconv.errors import EdgeconvError
from edgeconv.formats.base import TensorSpec
from edgeconv.runtimes.base import Session

ALIKE = 1e-3
"""Largest deviation of a sample alone from the same one in a batch, relative to the largest value. Kernels
for several samples sum in another order, which costs less than a thousandth of this; statistics of a batch
change everything."""


def mixed_outputs(
    session: Session,
    probes: Sequence[Probe],
    observation: Observation,
    *,
    contract_inputs: Sequence[TensorSpec] | None = None,
    input_names: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """Outputs in which a sample depends on the others of its batch.

    Args:
        session: the loaded artifact.
        probes: those of several samples, where there are some, are taken apart.
        observation: what the session gave on them.
        contract_inputs: see :func:`edgeconv.comparison.observation.observe`.
        input_names: probe's input name to the session's.

    Returns:
        Names of floating-point outputs, sorted; none where there is no batch or the model refuses one.
    """
    results = {result.label: result for result in observation.results}
    found: set[str] = set()
    for probe in probes:
        result = results.get(probe.label)
        size = _samples(probe)
        if size < 2 or result is None or result.error is not None:
            continue
        for index in range(size):
            alone = Probe(
                probe.label, {name: _taken(value, index, size) for name, value in probe.inputs.items()}
            )
            try:
                outputs = session.infer(adapt_inputs(alone, session.inputs, contract_inputs, input_names))
            except (EdgeconvError, ValueError, RuntimeError):
                return ()
            for name, value in result.outputs.items():
                if not _alike(value, np.asarray(outputs[name]), index, size):
                    found.add(name)
    return tuple(sorted(found))


def _samples(probe: Probe) -> int:
    """How many samples all inputs have that have an axis for them."""
    sizes = {np.shape(value)[0] for value in probe.inputs.values() if np.ndim(value)}
    return sizes.pop() if len(sizes) == 1 else 0


def _taken(value: Array, index: int, size: int) -> Array:
    return value[index : index + 1] if np.ndim(value) and np.shape(value)[0] == size else value


def _alike(whole: Array, alone: Array, index: int, size: int) -> bool:
    if whole.dtype.kind != "f" or not whole.ndim or whole.shape[0] != size or alone.shape[:1] != (1,):
        return True
    one, other = whole[index].astype("float64"), alone[0].astype("float64")
    if one.shape != other.shape:
        return True  # a shape that the values decide, such as the number of boxes
    finite = np.isfinite(one)
    if not np.array_equal(finite, np.isfinite(other)):
        return False
    largest = float(np.abs(whole[np.isfinite(whole)]).max(initial=0.0))
    return bool(np.abs(one[finite] - other[finite]).max(initial=0.0) <= ALIKE * largest)
