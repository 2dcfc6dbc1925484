"""Calibration sets: checked before they decide ranges, or made up where none is given.

A calibration set is a named, hashed input of the conversion (``samples_sha256`` of its file). What is
wrong with one is told by findings with these codes:

======================= ===============================================================================
code                    meaning
======================= ===============================================================================
``calibration-few``     fewer than 10 samples: ranges of activations will be too narrow
``calibration-nan``     an input holds NaN or infinite values
``calibration-constant`` an input has one value throughout, in all samples
``calibration-same``    samples equal each other, so there are fewer than it seems
``calibration-scale``   values look like raw pixels (0 to 255) where the model's normalisation, or its
                        test samples, say otherwise
``calibration-range``   the values lie far inside or outside of those of the reference samples
``calibration-outlier`` a sample's values lie far outside of all others'
======================= ===============================================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from edgeconv.comparison.probes import make_probes
from edgeconv.formats.base import Contract, Finding, TensorSpec

ENOUGH = 10
"""Samples below which a warning is given; 100 is a usual number."""

_RAW_PIXELS = 3.0
_OUTLIER = 20.0
_RANGE_FACTOR = 4.0

SYNTHETIC_NOTE = (
    "calibrated on seeded random inputs, as no samples were given: the artifact is well formed, "
    "its accuracy needs --calibration with real samples"
)

Samples = Sequence[Mapping[str, np.ndarray]]


def check_calibration(
    samples: Samples, contract: Contract, *, reference: Samples | None = None
) -> list[Finding]:
    """Look for what would spoil a calibration. Costs one pass over the samples.

    Args:
        samples: inputs by logical name, as :func:`edgeconv.comparison.samples.load_samples` gives them.
        contract: dtypes and, where stated, the normalisation (``{"mean": …, "std": …}`` or
            ``{"range": (low, high)}``) of the inputs.
        reference: samples of the same model that are known to be right (test data), if there are any.

    Returns:
        Findings, worst first; empty where nothing is wrong.
    """
    findings: list[Finding] = []
    for spec in contract.inputs:
        arrays = [np.asarray(sample[spec.name]) for sample in samples if spec.name in sample]
        if arrays and arrays[0].dtype.kind in "iuf" and any(array.size for array in arrays):
            others = [np.asarray(s[spec.name]) for s in reference or () if spec.name in s]
            findings += _check_input(spec, arrays, others, contract)
    findings += _check_repeats(samples)
    if len(samples) < ENOUGH:
        findings.append(
            Finding(
                code="calibration-few",
                message=f"{len(samples)} calibration sample{'s' if len(samples) != 1 else ''}; "
                f"ranges need at least {ENOUGH}, better 100",
                hint="give more samples with --calibration FILE.npz",
            )
        )
    return findings


def synthetic_calibration(contract: Contract, count: int = 100, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Seeded random samples (those that gates probe with) for when the user has given none.

    They exercise every operator, so that the artifact can be made and proven; but activations of random
    inputs are not those of real ones. Say :data:`SYNTHETIC_NOTE` with whatever is made of them.

    Args:
        contract: of the float model.
        count: number of samples, each of batch 1 where the batch is not fixed.
        seed: the same seed gives the same samples.

    Raises:
        UsageError: an input's rank is not known.
    """
    probes = make_probes(contract, seed=seed, count=count)
    return [
        {name: np.asarray(value) for name, value in probe.inputs.items()}
        for probe in probes
        if not probe.optional
    ][:count]


def _check_input(
    spec: TensorSpec, arrays: list[np.ndarray], reference: list[np.ndarray], contract: Contract
) -> list[Finding]:
    where = f"input '{spec.name}'"
    bad = [index for index, array in enumerate(arrays) if not np.all(np.isfinite(array))]
    if bad:
        return [
            Finding(
                code="calibration-nan",
                message=f"{len(bad)} of {len(arrays)} samples hold NaN or infinity (first: sample {bad[0]})",
                where=where,
                hint="remove these samples",
            )
        ]
    lows = np.array([float(array.min()) for array in arrays if array.size])
    highs = np.array([float(array.max()) for array in arrays if array.size])
    low, high = float(lows.min()), float(highs.max())
    if low == high and arrays[0].size > 1:
        return [
            Finding(
                code="calibration-constant",
                message=f"all values of all samples are {low:g}",
                where=where,
                hint="give real inputs: ranges cannot be found on constant ones",
            )
        ]
    found = _check_scale(spec, low, high, reference, contract, where)
    magnitudes = np.maximum(np.abs(lows), np.abs(highs))
    outliers = _outliers(magnitudes)
    if outliers:
        found.append(
            Finding(
                code="calibration-outlier",
                message=f"sample {outliers[0]} reaches {magnitudes[outliers[0]]:g}, "
                f"half of the others stay below {_typical(magnitudes):g}",
                where=where,
                hint="a single outlier widens every range: leave it out unless such inputs are usual",
            )
        )
    return found


def _check_scale(
    spec: TensorSpec,
    low: float,
    high: float,
    reference: list[np.ndarray],
    contract: Contract,
    where: str,
) -> list[Finding]:
    expected = _expected_range(contract, reference)
    if spec.dtype != "float32" or expected is None:
        return []
    wanted_low, wanted_high = expected
    seen, wanted = max(abs(low), abs(high)), max(abs(wanted_low), abs(wanted_high))
    span = f"values from {low:g} to {high:g}, expected {wanted_low:g} to {wanted_high:g}"
    if low >= 0 and _RAW_PIXELS < high <= 255 and seen > _RANGE_FACTOR * wanted:
        return [
            Finding(
                code="calibration-scale",
                message=f"the samples look like pixels that were not normalised: {span}",
                where=where,
                hint="normalise them as for training before saving them",
            )
        ]
    if seen > _RANGE_FACTOR * wanted or (wanted > 0 and seen * _RANGE_FACTOR < wanted):
        return [
            Finding(
                code="calibration-range",
                message=f"the samples' range is not that of the model's inputs: {span}",
                where=where,
                hint="prepare the calibration samples like the model's inputs",
            )
        ]
    return []


def _expected_range(contract: Contract, reference: list[np.ndarray]) -> tuple[float, float] | None:
    """The range of right inputs: of the reference samples, else what the contract's normalisation says."""
    filled = [array for array in reference if array.size and array.dtype.kind in "iuf"]
    if filled:
        return min(float(a.min()) for a in filled), max(float(a.max()) for a in filled)
    said = contract.normalisation
    if not said:
        return None
    try:
        if "range" in said:
            low, high = said["range"]
            return float(low), float(high)
        if "mean" in said and "std" in said:
            mean, std = np.ravel(said["mean"]).astype(float), np.ravel(said["std"]).astype(float)
            top = 255.0 if mean.max() > 1 or std.max() > 1 else 1.0
            return float(((0.0 - mean) / std).min()), float(((top - mean) / std).max())
    except (TypeError, ValueError):
        return None
    return None


def _typical(magnitudes: np.ndarray) -> float:
    return float(np.median(magnitudes))


def _outliers(magnitudes: np.ndarray) -> list[int]:
    """Samples whose magnitude is far above the usual, where there are enough to tell."""
    typical = _typical(magnitudes)
    if len(magnitudes) < ENOUGH or typical == 0:
        return []
    return [int(index) for index in np.flatnonzero(magnitudes > _OUTLIER * typical)]


def _check_repeats(samples: Samples) -> list[Finding]:
    first: dict[bytes, int] = {}
    repeats: list[tuple[int, int]] = []
    for index, sample in enumerate(samples):
        digest = hashlib.sha256()
        for name in sorted(sample):
            array = np.asarray(sample[name])
            is_text = array.dtype.kind == "O"
            digest.update(name.encode() + b"\0")
            digest.update(repr(array.tolist()).encode() if is_text else np.ascontiguousarray(array).tobytes())
        before = first.setdefault(digest.digest(), index)
        if before != index:
            repeats.append((before, index))
    if not repeats:
        return []
    return [
        Finding(
            code="calibration-same",
            message=f"{len(repeats)} of {len(samples)} samples repeat another one "
            f"(sample {repeats[0][1]} equals sample {repeats[0][0]})",
            hint="repeated samples add nothing: give different ones",
        )
    ]
