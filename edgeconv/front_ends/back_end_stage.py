"""The worker's side of a detector's cut-off post-processing: finds the cut, writes the function, proves it.

Proven twice: the source's own tensors at the cut go into the function, and it has to give the source's own
detections; then what each artifact gives goes into it. Detections are compared as such, matched, not in
order.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.comparison.gate import judge
from edgeconv.comparison.observation import Observation, ProbeResult, observe
from edgeconv.comparison.probes import Probe, load_probes
from edgeconv.comparison.tolerances import TOLERANCES
from edgeconv.detection.back_end import back_end_text
from edgeconv.errors import ConversionError, EdgeconvError
from edgeconv.formats.base import Contract, TensorSpec, contract_from_json, tensor_from_json, to_json
from edgeconv.formats.graph_detection import ROLES, last_part
from edgeconv.front_ends.generate import write_front_end
from edgeconv.runtimes.registry import runtimes

GIVEN = {
    "boxes": "detection_boxes",
    "scores": "detection_scores",
    "classes": "detection_classes",
    "count": "num_detections",
}
"""Role of an output to the name that the module made from a ``pipeline.config`` gives it."""


def find(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Where the post-processing of a frozen graph begins.

    Args:
        payload: ``path`` of the graph, ``contract`` of it.

    Returns:
        ``cut`` (specs of tensors), ``inputs`` (specs of inputs that the rest takes too), ``given`` (names of
        outputs that the rest gives), ``needed`` (names of inputs that the first part takes),
        ``suppressions`` (how many).

    Raises:
        UsageError: there is nothing that can be cut off.
    """
    from edgeconv.surgery.post_processing import find_cut, shapes_of

    contract = _contract(payload["contract"])
    graph = _graph(Path(payload["path"]), contract)
    found = find_cut(graph)
    cut = [
        TensorSpec(reference, dtype, shape, tensor=_full(reference))
        for reference, (dtype, shape) in zip(found.tensors, shapes_of(graph, found.tensors), strict=True)
    ]
    fed = {_full(reference) for reference in found.inputs}
    return {
        "cut": to_json(cut),
        "inputs": to_json([spec for spec in contract.inputs if _full(spec.inner_name) in fed]),
        "given": [contract.outputs[index].name for index in found.given],
        "needed": _needed(graph, contract, [*found.tensors, *_beside(contract, found.given)]),
        "suppressions": len(found.suppressions),
    }


def _beside(contract: Contract, given: Sequence[int]) -> list[str]:
    """References to the outputs that do not come from the post-processing."""
    return [spec.inner_name for index, spec in enumerate(contract.outputs) if index not in given]


def _needed(graph: Any, contract: Contract, references: Sequence[str]) -> list[str]:
    """Names of the inputs that tensors need."""
    from edgeconv.formats.graph_reading import split_reference

    upstream = graph.upstream(references, stop=graph.inputs)
    return [spec.name for spec in contract.inputs if split_reference(spec.inner_name)[0] in upstream]


def make(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Write and prove a back end.

    Args:
        payload: ``artifact`` (the source: path, and the contract with what is at the cut and the detections),
            ``runtime``, ``options``, ``probes`` (path), ``title`` of the module, ``destination`` (its path),
            ``artifacts`` (id, path, runtime, contract and precision of each that it is put behind), and
            either ``parameters`` (of a ``pipeline.config``), or ``cut``, ``inputs`` and ``given`` as
            :func:`find` says them, for a frozen graph.

    Returns:
        ``verdict`` as the manifest holds it; ``composed``, the same for each artifact by its id; ``data``,
        the name of the file with its arrays or null.
    """
    contract = _contract(payload["artifact"]["contract"])
    destination = Path(payload["destination"])
    path = Path(payload["artifact"]["path"])
    data = _write(payload, path, contract, destination)
    probes = load_probes(Path(payload["probes"]))
    runtime = runtimes()[payload["runtime"]]
    with runtime.open(path, contract, options=payload["options"]) as session:
        seen = observe(session, probes, subject="source", contract_inputs=contract.inputs, repeat=False)
    module = _imported(destination)
    names = _names(payload, contract)
    detections = Contract((), tuple(spec for spec in contract.outputs if spec.name in names))
    verdict = _judged(seen, _behind(module, seen, probes, names, seen), detections, "fp32")
    composed = {}
    for each in payload.get("artifacts", ()):
        own = _contract(each["contract"])
        try:
            with runtimes()[each["runtime"]].open(Path(each["path"]), own, options={}) as session:
                taken = _for(own, probes)
                gave = observe(session, taken, subject=each["id"], contract_inputs=own.inputs, repeat=False)
            behind = _behind(module, gave, probes, names, seen)
            composed[each["id"]] = _judged(seen, behind, detections, each["precision"])
        except EdgeconvError as error:
            composed[each["id"]] = {"verdict": "fail", "reason": str(error), "hint": error.hint}
    return {"verdict": verdict, "composed": composed, "data": data}


def _for(contract: Contract, probes: Sequence[Probe]) -> list[Probe]:
    """The probes with what an artifact takes: the size of an image may only be known behind it."""
    names = {spec.name for spec in contract.inputs}
    return [
        Probe(probe.label, {n: v for n, v in probe.inputs.items() if n in names}, probe.optional)
        for probe in probes
    ]


def _write(payload: Mapping[str, Any], path: Path, contract: Contract, destination: Path) -> str | None:
    if payload.get("parameters"):
        destination.write_text(back_end_text(payload["parameters"], payload["title"]), encoding="utf-8")
        return None
    cut, inputs = (tuple(tensor_from_json(spec) for spec in payload[name]) for name in ("cut", "inputs"))
    given = set(payload["given"])
    outputs = [spec for spec in contract.outputs if spec.name in given]
    graph = _graph(path, contract)
    file = write_front_end(graph.graph_def, [*cut, *inputs], outputs, {}, payload["title"], "back_end")
    destination.write_text(file.text, encoding="utf-8")
    if not file.arrays:
        return None
    arrays = destination.with_suffix(".npz")
    np.savez(arrays, **file.arrays)
    return arrays.name


def _names(payload: Mapping[str, Any], contract: Contract) -> dict[str, str]:
    """Output of the source to the name that the module gives it."""
    if not payload.get("parameters"):
        return {name: name for name in payload["given"]}
    return {
        spec.name: GIVEN[role]
        for spec in contract.outputs
        for role, pattern in ROLES.items()
        if pattern.fullmatch(last_part(spec.name))
    }


def _behind(
    module: Any, gave: Observation, probes: Sequence[Probe], names: Mapping[str, str], seen: Observation
) -> Observation:
    """What the module makes of an observation, in the types of the source, and its shapes where they fit."""
    results = []
    for result, probe, reference in zip(gave.results, probes, seen.results, strict=True):
        if result.error is not None or reference.error is not None:
            results.append(ProbeResult(result.label, error=result.error or reference.error))
            continue
        made = module.back_end({**probe.inputs, **result.outputs})
        shaped = {}
        for name, given in names.items():
            like = np.asarray(reference.outputs[name])
            value = np.asarray(made[given])
            shaped[name] = value.reshape(like.shape) if value.size == like.size else value
            shaped[name] = shaped[name].astype(like.dtype)
        results.append(ProbeResult(result.label, shaped))
    return Observation("back end", tuple(results))


def _judged(seen: Observation, made: Observation, detections: Contract, precision: str) -> dict[str, Any]:
    verdict = judge(Observation("source", seen.results), made, detections, detections, TOLERANCES[precision])
    said: dict[str, Any] = to_json(verdict)
    return said


def _graph(path: Path, contract: Contract) -> Any:
    from edgeconv.runtimes.tensorflow_graph import read_graph
    from edgeconv.surgery.graph import Graph

    return Graph(
        read_graph(path),
        outputs=[spec.inner_name for spec in contract.outputs],
        inputs=[spec.inner_name for spec in contract.inputs],
        path=str(path),
    )


def _contract(said: Any) -> Contract:
    contract = contract_from_json(said)
    if contract is None:
        raise ConversionError("a back end was planned for a source without a contract")
    return contract


def _full(reference: str) -> str:
    return reference if ":" in reference else f"{reference}:0"


def _imported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("edgeconv_written_back_end", path)
    if spec is None or spec.loader is None:
        raise ConversionError(f"the written back end {path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
