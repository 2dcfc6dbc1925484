"""What a session gave on a set of probes, and whether it gives the same again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.comparison.affine import dequantize, quantize
from edgeconv.comparison.archive import Array, as_bytes, dtype_named, is_text, read_archive, write_archive
from edgeconv.comparison.probes import Probe, misfit
from edgeconv.errors import EdgeconvError, UsageError
from edgeconv.formats.base import TensorSpec
from edgeconv.runtimes.base import Session

REPEATABLE = 1e-5
"""Largest deviation between two runs on the same input, relative to the largest value: sums over threads
may differ in the last bits, a random op differs in all."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Outputs on one probe.

    Attributes:
        label: of the probe.
        outputs: an array for each output by logical name; empty where ``error`` is set.
        error: why the session refused the probe.
        unstable: outputs that differed when the same probe was run again.
    """

    label: str
    outputs: Mapping[str, Array] = field(default_factory=dict)
    error: str | None = None
    unstable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Observation:
    """Results of one artifact, in the order of the probes.

    Attributes:
        subject: a name of the artifact for reports (its file name).
        results: one a probe.
    """

    subject: str
    results: tuple[ProbeResult, ...]

    @property
    def outputs(self) -> list[Mapping[str, Array]]:
        """Outputs of the probes that ran, one mapping each."""
        return [result.outputs for result in self.results if result.error is None]

    @property
    def unstable(self) -> tuple[str, ...]:
        """Outputs that are not deterministic, sorted."""
        return tuple(sorted({name for result in self.results for name in result.unstable}))


def observe(
    session: Session,
    probes: Sequence[Probe],
    *,
    subject: str = "",
    contract_inputs: Sequence[TensorSpec] | None = None,
    input_names: Mapping[str, str] | None = None,
    repeat: bool = True,
) -> Observation:
    """Run every probe, and the first of each setting of the bool switches a second time.

    Args:
        session: the loaded artifact.
        probes: what to run.
        subject: a name for reports.
        contract_inputs: specs that the probes were made for, where they are not the session's own: real
            values are then quantized, and stored ones turned back, as the session's inputs want them.
        input_names: probe's input name to session's, where they differ.
        repeat: run again to find what is not deterministic.

    Returns:
        One result a probe. An ``optional`` probe that the session refuses has its ``error`` set.

    Raises:
        EdgeconvError: what the session raised for a probe that is not optional.
    """
    results: list[ProbeResult] = []
    settings: set[tuple[tuple[str, bool], ...]] = set()
    for probe in probes:
        try:
            inputs = adapt_inputs(probe, session.inputs, contract_inputs, input_names)
            outputs = _arrays(session.infer(inputs))
        except EdgeconvError as error:
            if not probe.optional:
                raise
            results.append(ProbeResult(probe.label, error=str(error)))
            continue
        except (ValueError, RuntimeError) as error:
            if not probe.optional:
                raise
            results.append(ProbeResult(probe.label, error=f"{type(error).__name__}: {error}"))
            continue
        unstable: tuple[str, ...] = ()
        setting = setting_of(probe)
        if repeat and setting not in settings:
            settings.add(setting)
            again = _arrays(session.infer(inputs))
            unstable = tuple(name for name in outputs if not repeats(outputs[name], again.get(name)))
        results.append(ProbeResult(probe.label, outputs, unstable=unstable))
    return Observation(subject, tuple(results))


def adapt_inputs(
    probe: Probe,
    wanted: Sequence[TensorSpec],
    made_for: Sequence[TensorSpec] | None = None,
    input_names: Mapping[str, str] | None = None,
) -> dict[str, Array]:
    """The probe as the inputs ``wanted`` take it: their names and stored types.

    Args:
        probe: values by the names of ``made_for``.
        wanted: inputs of the session.
        made_for: specs that the probe was made for; ``None`` where they are ``wanted`` themselves.
        input_names: name in the probe to name in the session.

    Raises:
        UsageError: an input is missing, has another shape, or a type that cannot be turned into the
            wanted one without loss of meaning.
    """
    renamed = {(input_names or {}).get(name, name): value for name, value in probe.inputs.items()}
    specs = {(input_names or {}).get(spec.name, spec.name): spec for spec in made_for or ()}
    problem = misfit(Probe(probe.label, renamed), wanted)
    if problem is not None:
        raise UsageError(f"the probe '{probe.label}' does not fit", why=problem, hint="see --shape and --map")
    return {spec.name: _as_wanted(renamed[spec.name], spec, specs.get(spec.name)) for spec in wanted}


def repeats(first: Array, second: Array | None) -> bool:
    """Whether two runs gave the same: equal, or floats within :data:`REPEATABLE` of the largest value."""
    if second is None or first.shape != second.shape or first.dtype != second.dtype:
        return False
    if is_text(first):
        return [as_bytes(v) for v in first.reshape(-1)] == [as_bytes(v) for v in second.reshape(-1)]
    if first.dtype.kind in "biu":
        return bool(np.array_equal(first, second))
    one, two = (a.astype(np.complex128 if a.dtype.kind == "c" else np.float64) for a in (first, second))
    finite = np.isfinite(one)
    if not np.array_equal(finite, np.isfinite(two)):
        return False
    if not np.array_equal(one[~finite], two[~finite], equal_nan=True):
        return False
    if not finite.any():
        return True
    deviation = np.abs(one[finite] - two[finite])
    return bool(deviation.max() <= REPEATABLE * np.abs(one[finite]).max())


def save_observation(path: Path, observation: Observation) -> None:
    """Write to an ``.npz`` without pickle; any tensor name is safe."""
    arrays: dict[str, Array] = {}
    entries: list[dict[str, Any]] = []
    for result in observation.results:
        keys: dict[str, str] = {}
        for name, value in result.outputs.items():
            keys[name] = f"a{len(arrays)}"
            arrays[keys[name]] = np.asarray(value)
        entries.append(
            {
                "label": result.label,
                "outputs": keys,
                # A JSON object does not promise an order; the order of outputs is part of what is judged.
                "order": list(keys),
                "error": result.error,
                "unstable": list(result.unstable),
            }
        )
    header = {"kind": "observation", "subject": observation.subject, "results": entries}
    write_archive(path, header, arrays)


def load_observation(path: Path) -> Observation:
    """Read what :func:`save_observation` wrote.

    Raises:
        UsageError: no such file, or it holds no observation.
    """
    header, arrays = read_archive(path)
    if not isinstance(header, dict) or header.get("kind") != "observation":
        raise UsageError("the file holds no observation", where=str(path), hint="save_observation writes one")
    return Observation(
        header["subject"],
        tuple(
            ProbeResult(
                entry["label"],
                {name: arrays[entry["outputs"][name]] for name in entry["order"]},
                entry["error"],
                tuple(entry["unstable"]),
            )
            for entry in header["results"]
        ),
    )


def _arrays(outputs: Mapping[str, Any]) -> dict[str, Array]:
    # A runtime may hand out views into its own memory, which the next run overwrites.
    return {name: np.array(value, copy=True) for name, value in outputs.items()}


def setting_of(probe: Probe) -> tuple[tuple[str, bool], ...]:
    """How the bool switches among a probe's inputs are set."""
    return tuple(
        (name, bool(value))
        for name, value in sorted(probe.inputs.items())
        if np.asarray(value).dtype.kind == "b" and np.asarray(value).shape == ()
    )


def _as_wanted(value: Array, wanted: TensorSpec, made_for: TensorSpec | None) -> Array:
    value = np.asarray(value)
    if wanted.dtype == "string" or is_text(value):
        if wanted.dtype != "string" or not is_text(value):
            raise UsageError(
                f"input '{wanted.name}' takes {wanted.dtype}, the probe has {value.dtype}",
                hint="choose the partner with --map REF=CAND",
            )
        return value
    if made_for is not None and made_for.quantization is not None:
        if made_for.quantization == wanted.quantization and made_for.dtype == wanted.dtype:
            return value
        value = dequantize(value, made_for.quantization)
    stored = dtype_named(wanted.dtype)
    if wanted.quantization is not None and (made_for is not None or value.dtype.kind == "f"):
        if value.dtype == stored and value.dtype.kind != "f" and made_for is None:
            return value
        return quantize(value, wanted.dtype, wanted.quantization)
    if value.dtype == stored:
        return value
    if stored.kind in "fVc" and value.dtype.kind in "fiuVc":
        return np.asarray(value).astype(stored)
    if stored.kind in "iu" and value.dtype.kind in "iu":
        narrowed = value.astype(stored)
        if np.array_equal(narrowed.astype(np.object_), value.astype(np.object_)):
            return narrowed
    raise UsageError(
        f"input '{wanted.name}' takes {wanted.dtype}, the probe has {value.dtype}",
        why="the values would change",
        hint="choose the partner with --map REF=CAND",
    )
