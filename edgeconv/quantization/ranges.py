"""Calibration of a float TFLite file: the range of each activation over a set of samples.

The result is what LiteRT Quantizer takes as its calibration result. Its own calibrator copies every tensor
to Python and visits every op for each sample; here the tensors are looked up once and read in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from edgeconv.errors import ConversionError
from edgeconv.runtimes.litert import LiteRTSession

Ranges = dict[str, dict[str, np.ndarray]]
"""Tensor name to ``{"min": array, "max": array}``, each with one element and the tensor's rank."""

RULES = ("min_max", "moving_average")
"""``min_max`` covers all that was seen; ``moving_average`` (0.95 of the old, 0.05 of the new) is the
default of LiteRT Quantizer, depends on the order of the samples and cuts off rare large values."""

_SMOOTHING = 0.95
# LiteRT Quantizer leaves out what only a bfloat16 infinity can be, such as the filling of a PADV2.
_LARGEST = 3e38


def collect_ranges(
    session: LiteRTSession,
    tensor_indices: Mapping[int, str],
    samples: Iterable[Mapping[str, np.ndarray]],
    *,
    rule: str = "min_max",
) -> Ranges:
    """Run the samples and collect the range of each tensor.

    Args:
        session: of the float file, opened with ``preserve_all_tensors``.
        tensor_indices: tensors of the graph that ``session`` runs, index to name.
        samples: inputs by logical name.
        rule: one of :data:`RULES`.

    Returns:
        A range for each tensor that has had a value; with ``moving_average`` equal to that of LiteRT
        Quantizer's own calibrator.

    Raises:
        ConversionError: no sample; or a sample makes a tensor NaN throughout.
    """
    if rule not in RULES:
        raise ValueError(f"no rule {rule!r}; there are {', '.join(RULES)}")
    ranges: Ranges = {}
    number = -1
    for number, sample in enumerate(samples):
        session.infer(sample)
        for index, name in tensor_indices.items():
            seen = _range(session, index)
            if seen is None:
                continue
            if np.isnan(seen["min"]) or np.isnan(seen["max"]):
                raise ConversionError(
                    f"calibration sample {number} makes the tensor '{name}' NaN",
                    hint="leave the sample out, or look at the float model with 'edgeconv inspect'",
                )
            ranges[name] = _joined(ranges[name], seen, rule) if name in ranges else seen
    if number < 0:
        raise ConversionError("there are no calibration samples", hint="give --calibration FILE.npz")
    return ranges


def _joined(old: dict[str, np.ndarray], new: dict[str, np.ndarray], rule: str) -> dict[str, np.ndarray]:
    if rule == "min_max":
        return {"min": np.minimum(old["min"], new["min"]), "max": np.maximum(old["max"], new["max"])}
    return {side: _SMOOTHING * old[side] + (1.0 - _SMOOTHING) * new[side] for side in ("min", "max")}


def _range(session: LiteRTSession, index: int) -> dict[str, np.ndarray] | None:
    """Smallest and largest value of one tensor; ``None`` where it has no value."""
    values = _peek(session, index)
    if values is None or values.size == 0 or values.dtype.kind not in "iuf":
        return None
    shape = (1,) * values.ndim
    smallest, largest = values.min(), values.max()
    if values.dtype.kind == "f" and not (smallest > -_LARGEST and largest < _LARGEST):
        inside = values[(values > -_LARGEST) & (values < _LARGEST)]
        if inside.size:
            smallest, largest = inside.min(), inside.max()
    return {"min": np.reshape(smallest, shape), "max": np.reshape(largest, shape)}


def _peek(session: LiteRTSession, index: int) -> Any | None:
    """The tensor's value, in place where the interpreter offers that; not to be kept."""
    try:
        if session.subgraph == 0:
            return session.interpreter.tensor(index)()
        return session.interpreter.get_tensor(index, session.subgraph)
    except ValueError:  # it has no memory: fused away, or dynamic and never computed
        return None
