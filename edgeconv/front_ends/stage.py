"""The worker's side of a front end: writes it, and proves it on the source's own tensors at the cut.

The front end is proven by itself here: TensorFlow computes the tensors of the cut by the source's own nodes,
the written function computes them from the same strings, and the two are compared. What the rest of the model
makes of them is judged by the gates of the artifacts, which are fed with the former, and a second time with
the latter: that is the proof from end to end.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.comparison.gate import judge
from edgeconv.comparison.observation import Observation, ProbeResult
from edgeconv.comparison.probes import Probe, load_probes, probes_sha256, save_probes
from edgeconv.comparison.tolerances import TOLERANCES
from edgeconv.errors import ConversionError, EdgeconvError
from edgeconv.formats.base import Contract, TensorSpec, contract_from_json, tensor_from_json, to_json
from edgeconv.front_ends.generate import NotSuppliedError, write_front_end
from edgeconv.front_ends.source_graph import SourceGraph, read_front_end

TOLERANCE = dataclasses.replace(TOLERANCES["fp32"], abs=1e-6, rel=1e-5)
"""Of a front end: floats within 1e-5 of the largest value, integers (pixels among them) equal."""
CODE, DATA = "front_end.py", "front_end.npz"


def make(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Write and prove the front end of a source.

    Args:
        payload: ``artifact`` (the source: path, format, contract), ``options``, ``probes`` (path),
            ``inputs``, ``cut`` and ``kept`` (specs), ``folder`` (where files go), ``title``, ``samples``
            (path of samples for calibration as the source takes them, or null).

    Returns:
        ``supplied``; ``reason`` where it is not; ``requires``; ``verdict`` as the manifest holds it;
        ``cut_probes`` and ``front_end_probes`` (file names in the folder, the latter null where there is no
        function), each with its hash; ``samples``, the same for calibration; ``files``.

    Raises:
        EdgeconvError: not even TensorFlow can compute the cut on the probes.
    """
    artifact = payload["artifact"]
    contract = contract_from_json(artifact["contract"])
    if contract is None:
        raise ConversionError("a front end was planned for a source without a contract")
    inputs, cut, kept = (
        tuple(tensor_from_json(spec) for spec in payload[name]) for name in ("inputs", "cut", "kept")
    )
    folder = Path(payload["folder"])
    probes = load_probes(Path(payload["probes"]))
    graph = read_front_end(
        Path(artifact["path"]), artifact["format"], contract, inputs, cut, payload["options"]
    )
    usable, given, left_out = _at_the_cut(graph, inputs, cut, probes)
    at_cut = [_with(probe, kept, values) for probe, values in zip(usable, given, strict=True)]
    samples = _samples(payload.get("samples"), contract, graph, inputs, cut, kept, folder)
    save_probes(folder / "cut_probes.npz", at_cut)
    result: dict[str, Any] = {
        "supplied": False,
        "reason": None,
        "requires": [],
        "cut_probes": {"file": "cut_probes.npz", "sha256": probes_sha256(at_cut)},
        "front_end_probes": None,
        "samples": samples,
        "files": [],
        "labels": [probe.label for probe in at_cut],
        "verdict": {
            "verdict": "skipped",
            "reference": "source",
            "outputs": [],
            "inputs": [],
            "notes": left_out,
        },
    }
    try:
        file = write_front_end(graph.graph_def, inputs, cut, graph.tables, payload["title"])
    except NotSuppliedError as error:
        result["reason"] = error.what
        result["verdict"]["reason"] = error.what
        result["verdict"]["hint"] = error.hint
        return result
    (folder / CODE).write_text(file.text, encoding="utf-8")
    if file.arrays:
        np.savez(folder / DATA, **file.arrays)
    result.update(requires=list(file.requires), files=[CODE, *([DATA] if file.arrays else [])])
    try:
        found = _by_function(folder / CODE, inputs, cut, usable)
    except Exception as error:  # whatever the written code raises is a failure of the front end, not ours
        reason = f"the written function raises {type(error).__name__}: {str(error)[:200]}"
        result["verdict"].update(verdict="fail", reason=reason, notes=left_out)
        return result
    verdict = to_json(
        judge(
            _observation("source", usable, given),
            _observation(CODE, usable, found),
            Contract((), cut),
            Contract((), cut),
            TOLERANCE,
        )
    )
    verdict.update(reference="source", inputs=[probe.label for probe in usable])
    verdict["notes"] = [*verdict.get("notes", ()), *left_out]
    by_function = [_with(probe, kept, values) for probe, values in zip(usable, found, strict=True)]
    save_probes(folder / "front_end_probes.npz", by_function)
    result.update(
        supplied=True,
        verdict=verdict,
        front_end_probes={"file": "front_end_probes.npz", "sha256": probes_sha256(by_function)},
    )
    return result


def _at_the_cut(
    graph: SourceGraph, inputs: Sequence[TensorSpec], cut: Sequence[TensorSpec], probes: Sequence[Probe]
) -> tuple[list[Probe], list[dict[str, Any]], list[str]]:
    """What TensorFlow computes at the cut; a probe whose shape was chosen freely may be refused."""
    import tensorflow as tf

    usable: list[Probe] = []
    given: list[dict[str, Any]] = []
    left_out: list[str] = []
    for probe in probes:
        try:
            given += graph.run(inputs, cut, [probe.inputs])
            usable.append(probe)
        except (tf.errors.OpError, EdgeconvError) as error:
            if not probe.optional:
                raise _as_ours(error) from error
            left_out.append(f"the source refuses the probe '{probe.label}'")
    return usable, given, left_out


def _samples(
    path: str | None,
    contract: Contract,
    graph: SourceGraph,
    inputs: Sequence[TensorSpec],
    cut: Sequence[TensorSpec],
    kept: Sequence[TensorSpec],
    folder: Path,
) -> dict[str, str] | None:
    """Samples for calibration as they are at the cut."""
    from edgeconv.comparison.samples import load_samples, samples_sha256, save_samples

    if path is None:
        return None
    given = load_samples(Path(path), contract)
    made = graph.run(inputs, cut, given)
    whole = [
        {**{spec.name: sample[spec.name] for spec in kept}, **values}
        for sample, values in zip(given, made, strict=True)
    ]
    save_samples(folder / "samples.npz", whole)
    return {"file": "samples.npz", "sha256": samples_sha256(folder / "samples.npz")}


def _as_ours(error: Exception) -> EdgeconvError:
    from edgeconv.runtimes._tensorflow import as_conversion_error

    return as_conversion_error(
        error, "TensorFlow could not run the front end", "source", "give real inputs with --data FILE.npz"
    )


def _by_function(
    code: Path, inputs: Sequence[TensorSpec], cut: Sequence[TensorSpec], probes: Sequence[Probe]
) -> list[dict[str, Any]]:
    spec = importlib.util.spec_from_file_location("edgeconv_written_front_end", code)
    if spec is None or spec.loader is None:
        raise ConversionError(f"the written front end {code} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    names = {each.name for each in inputs}
    found = []
    for probe in probes:
        values = module.front_end({name: value for name, value in probe.inputs.items() if name in names})
        found.append({each.name: np.asarray(values[each.name]) for each in cut})
    return found


def _with(probe: Probe, kept: Sequence[TensorSpec], values: Mapping[str, Any]) -> Probe:
    """The probe as what is left of the model takes it."""
    whole = {**{spec.name: probe.inputs[spec.name] for spec in kept}, **values}
    return Probe(probe.label, whole, probe.optional)


def _observation(subject: str, probes: Sequence[Probe], values: Sequence[Mapping[str, Any]]) -> Observation:
    results = [ProbeResult(probe.label, each) for probe, each in zip(probes, values, strict=True)]
    return Observation(subject, tuple(results))
