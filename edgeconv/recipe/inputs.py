"""The inputs of a run: samples of the user's, or seeded probes where there are none."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeconv.errors import UsageError
from edgeconv.execution.atomic import explained_disk_errors, temporary_beside
from edgeconv.execution.plan import InputSet
from edgeconv.formats.base import Contract, to_json
from edgeconv.recipe.request import ConversionRequest

if TYPE_CHECKING:
    import numpy as np

    from edgeconv.front_ends.probes import Maker
    from edgeconv.recipe.front_ends import PlannedFrontEnd

GATE_SAMPLES = 3
"""Samples of the user's that a gate runs one by one; two more go in as one batch where it is dynamic."""
SYNTHETIC_SAMPLES = 32
"""Random samples that stand in where quantization needs some and the user gave none."""


_MADE_UP_STRINGS = (
    "calibrated with what the front end makes of made-up strings, as no samples were given: give typical "
    "inputs with --calibration FILE.npz"
)


def made_up_samples(planned: PlannedFrontEnd, count: int, seed: int) -> list[dict[str, Any]]:
    """Valid inputs of a model with a front end, each of batch 1."""
    from edgeconv.comparison.probes import make_probes

    probes = make_probes(planned.source, seed=seed, count=count, strings=planned.makers)
    return [dict(probe.inputs) for probe in probes[:count]]


class InputMaker:
    """Makes the inputs for gates and calibration, each once a run, as files under ``folder``."""

    def __init__(
        self,
        request: ConversionRequest,
        folder: Path,
        front_end: PlannedFrontEnd | None = None,
        ranges: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self._request = request
        self._ranges = ranges
        self._folder = folder
        self._front_end = front_end
        self._probes: tuple[Contract, InputSet] | None = None
        self._calibration: InputSet | None = None

    def check(self, contract: Contract) -> None:
        """Look at the user's samples before anything is begun.

        Raises:
            UsageError: a file cannot be read, does not fit the model, or holds NaN.
        """
        self.probes(contract)
        if self._front_end is not None and self._front_end.cuts:
            self.before_front_end()
        elif self._request.calibration is not None:
            self.calibration(contract)

    def probes(self, contract: Contract) -> InputSet:
        """The inputs of the gates; see :func:`probes_for`."""
        request = self._request
        if self._probes is None or self._probes[0] != contract:
            # With a front end samples for calibration may be what goes in behind it: no inputs of gates.
            cuts = self._front_end is not None and self._front_end.cuts
            calibration = None if cuts else request.calibration
            strings = self._front_end.makers if self._front_end is not None else None
            made = probes_for(
                contract,
                request.data,
                calibration,
                request.seed,
                self._folder,
                ranges=self._ranges,
                strings=strings,
            )
            self._probes = (contract, made)
        return self._probes[1]

    def before_front_end(self) -> InputSet | None:
        """Samples for calibration as the front end takes them; ``None`` where the user's go in behind it.

        Raises:
            UsageError: the user's samples fit neither the model nor what is left of it.
        """
        from edgeconv.comparison.samples import load_samples, samples_sha256, save_samples

        planned, path = self._front_end, self._request.calibration
        if planned is None:
            return None
        if path is None:
            made = made_up_samples(planned, SYNTHETIC_SAMPLES, self._request.seed)
        else:
            try:
                load_samples(path, planned.rest, limit=1)
            except UsageError:
                made = load_samples(path, planned.source)
            else:
                self.calibration(planned.rest)
                return None
        with explained_disk_errors(self._folder), temporary_beside(self._folder / "samples.npz") as fresh:
            save_samples(fresh, made)
            sha256 = samples_sha256(fresh)
            kept = self._folder / f"samples-{sha256[:16]}.npz"
            fresh.replace(kept)
        notes = () if path is not None else (_MADE_UP_STRINGS,)
        return InputSet(kept, sha256, (kept.name,), notes, path is None)

    def calibration(self, contract: Contract) -> InputSet:
        """The calibration set: the user's, else seeded random samples, which is said.

        Raises:
            UsageError: as :meth:`check` says.
        """
        from edgeconv.comparison.samples import samples_sha256, save_samples
        from edgeconv.quantization.calibration import SYNTHETIC_NOTE, synthetic_calibration

        if self._calibration is None:
            path, notes = self._request.calibration, tuple[str, ...]()
            if path is None:
                samples = synthetic_calibration(contract, SYNTHETIC_SAMPLES, self._request.seed)
                notes = (SYNTHETIC_NOTE,)
                with (
                    explained_disk_errors(self._folder),
                    temporary_beside(self._folder / "synthetic.npz") as fresh,
                ):
                    save_samples(fresh, samples)
                    path = self._folder / f"synthetic-{samples_sha256(fresh)[:16]}.npz"
                    fresh.replace(path)
            else:
                _require_finite(path, contract)
                path = _under_logical_names(path, contract, self._folder)
            self._calibration = InputSet(
                path.absolute(), samples_sha256(path), (path.name,), notes, self._request.calibration is None
            )
        return self._calibration


def _under_logical_names(path: Path, contract: Contract, folder: Path) -> Path:
    """The samples under the names that all artifacts share, where their keys are tensors of the source."""
    import numpy as np

    from edgeconv.comparison.samples import load_samples, samples_sha256, save_samples

    if path.suffix != ".npz":
        return path
    with np.load(path) as arrays:
        if set(arrays.files) <= {spec.name for spec in contract.inputs}:
            return path
    named = folder / f"calibration-{samples_sha256(path)[:16]}.npz"
    with explained_disk_errors(folder), temporary_beside(named) as fresh:
        save_samples(fresh, load_samples(path, contract))
        fresh.replace(named)
    return named


def _require_finite(path: Path, contract: Contract) -> None:
    """Refuse calibration samples that do not fit or that would make every range NaN."""
    from edgeconv.comparison.samples import load_samples
    from edgeconv.quantization.calibration import check_calibration

    for finding in check_calibration(load_samples(path, contract), contract):
        if finding.code == "calibration-nan":
            raise UsageError(
                f"the calibration samples cannot be used: {finding.message}",
                where=f"{path}, {finding.where}",
                hint=finding.hint,
            )


def probes_for(
    contract: Contract,
    data: Path | None,
    calibration: Path | None,
    seed: int,
    folder: Path,
    *,
    ranges: Mapping[str, Sequence[float]] | None = None,
    strings: Mapping[str, Maker] | None = None,
) -> InputSet:
    """Write the inputs of gates into ``folder``.

    The user's samples are taken where there are some, those for calibration too: a quantized model owes
    nothing to inputs unlike what it was calibrated on. Else probes are seeded, within the range that
    quantized inputs can hold.

    Args:
        contract: of the reference.
        data: samples for the gates.
        calibration: samples for quantization, taken where ``data`` is ``None``.
        seed: of the probes.
        folder: where the file goes, named by its content.
        ranges: what inputs can carry, by name: floats that are quantized at once, indices into a table.
        strings: what makes valid strings, by input name.
    """
    from edgeconv.comparison.probes import (
        make_probes,
        probes_from_samples,
        probes_sha256,
        ranges_of_quantized,
        save_probes,
    )
    from edgeconv.comparison.samples import load_samples

    given = data or calibration
    if given is not None:
        samples = load_samples(given, contract, limit=GATE_SAMPLES)
        probes = probes_from_samples(samples, contract)
        if pair := _batch_of_two(samples, contract):
            # A model that fixes its batch inside may refuse it; that is no difference between two artifacts.
            (both,) = probes_from_samples(pair, contract)
            probes.append(dataclasses.replace(both, label="samples 0 and 1 in a batch", optional=True))
    else:
        names = {spec.name for spec in contract.inputs}
        known: dict[str, tuple[float, float]] = dict(ranges_of_quantized(contract))
        known.update({name: (low, high) for name, (low, high) in (ranges or {}).items() if name in names})
        probes = make_probes(contract, seed=seed, ranges=known, strings=strings)
    sha256 = probes_sha256(probes)
    path = folder / f"probes-{sha256[:16]}.npz"
    if not path.exists():
        with explained_disk_errors(folder), temporary_beside(path) as fresh:
            save_probes(fresh, probes)
            fresh.replace(path)
    return InputSet(path, sha256, tuple(probe.label for probe in probes), made_up=given is None)


def gate_tolerances(texts: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Precision to tolerance as JSON takes it, with the user's overrides.

    Raises:
        UsageError: a text cannot be read.
    """
    from edgeconv.comparison.tolerances import TOLERANCES, parse_tolerances, tolerance_for

    overrides = parse_tolerances(texts)
    return {precision: to_json(tolerance_for(precision, overrides)) for precision in TOLERANCES}


def _batch_of_two(
    samples: list[dict[str, np.ndarray[Any, Any]]], contract: Contract
) -> list[Mapping[str, np.ndarray[Any, Any]]]:
    """Two samples as one batch, where the leading dimension of every input is dynamic."""
    import numpy as np

    dynamic = all(spec.shape and spec.shape[0] is None for spec in contract.inputs)
    if (
        not dynamic
        or len(samples) < 2
        or any(a.shape[1:] != samples[1][n].shape[1:] for n, a in samples[0].items())
    ):
        return []
    return [{name: np.concatenate([samples[0][name], samples[1][name]]) for name in samples[0]}]
