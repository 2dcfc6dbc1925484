"""The worker's side of a detector's cut-off post-processing: writes it, and proves it on the source.

The source is run whole: it gives what is at the cut and what the detections are. The written module makes
detections of the former, and the two are compared as matched detections.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.comparison.gate import judge
from edgeconv.comparison.observation import Observation, ProbeResult, observe
from edgeconv.comparison.probes import load_probes
from edgeconv.comparison.tolerances import TOLERANCES
from edgeconv.detection.back_end import back_end_text
from edgeconv.errors import ConversionError
from edgeconv.formats.base import Contract, contract_from_json, to_json
from edgeconv.formats.graph_detection import ROLES, last_part
from edgeconv.runtimes.registry import runtimes

GIVEN = {
    "boxes": "detection_boxes",
    "scores": "detection_scores",
    "classes": "detection_classes",
    "count": "num_detections",
}
"""Role of an output to the name that the written module gives it."""


def make(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Write and prove a back end.

    Args:
        payload: ``artifact`` (the source: path, and the contract with what is at the cut and the detections),
            ``runtime``, ``options``, ``probes`` (path), ``parameters`` and ``title`` of the module,
            ``destination`` (its path).

    Returns:
        ``verdict`` as the manifest holds it, ``outputs`` that the module gives.
    """
    contract = contract_from_json(payload["artifact"]["contract"])
    if contract is None:
        raise ConversionError("a back end was planned for a source without a contract")
    destination = Path(payload["destination"])
    destination.write_text(back_end_text(payload["parameters"], payload["title"]), encoding="utf-8")
    probes = load_probes(Path(payload["probes"]))
    runtime = runtimes()[payload["runtime"]]
    path = Path(payload["artifact"]["path"])
    with runtime.open(path, contract, options=payload["options"]) as session:
        seen = observe(session, probes, subject="source", contract_inputs=contract.inputs, repeat=False)
    module = _imported(destination)
    roles = {
        spec.name: GIVEN[role]
        for spec in contract.outputs
        for role, pattern in ROLES.items()
        if pattern.fullmatch(last_part(spec.name))
    }
    detections = Contract((), tuple(spec for spec in contract.outputs if spec.name in roles))
    results = []
    for result in seen.results:
        if result.error is not None:
            results.append(ProbeResult(result.label, error=result.error))
            continue
        made = module.back_end(dict(result.outputs))
        shaped = {
            name: np.asarray(made[given]).reshape(np.shape(result.outputs[name])).astype(np.float32)
            for name, given in roles.items()
            if np.size(made[given]) == np.size(result.outputs[name])
        }
        results.append(ProbeResult(result.label, shaped))
    verdict = judge(
        Observation("source", seen.results),
        Observation(destination.name, tuple(results)),
        detections,
        detections,
        TOLERANCES["fp32"],
    )
    return {"verdict": to_json(verdict), "outputs": sorted(roles.values())}


def _imported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("edgeconv_written_back_end", path)
    if spec is None or spec.loader is None:
        raise ConversionError(f"the written back end {path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
