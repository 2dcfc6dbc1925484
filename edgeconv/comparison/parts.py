"""The worker's side of proving parts: one against the whole that it was cut from, two against the whole.

What a part is fed with is what the whole computes at the tensors where the part begins, on the probes of the
whole: values that occur, instead of made-up ones that fit only the shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.comparison.gate import judge
from edgeconv.comparison.observation import (
    Observation,
    ProbeResult,
    adapt_inputs,
    load_observation,
    observe,
    repeats,
    save_observation,
)
from edgeconv.comparison.probes import Probe, load_probes, save_probes
from edgeconv.comparison.tensor_sources.base import open_source
from edgeconv.comparison.tolerances import Tolerance
from edgeconv.errors import ConversionError, EdgeconvError, UsageError
from edgeconv.formats.base import Contract, contract_from_json, to_json
from edgeconv.runtimes.registry import runtimes


def gate_part(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Prove that a part computes what the whole does between the same tensors.

    Args:
        payload: ``whole`` (path, format, contract), ``part`` (path, format, contract), ``runtime`` of the
            part, ``options``, ``tensors`` (contract of the part in the tensors of the whole), ``probes``
            for the whole, ``part_probes`` (path to write what the part was fed with), ``observation``
            (path to write), ``reference`` (id of the whole), ``tolerance``.

    Returns:
        ``verdict`` as the manifest holds it.

    Raises:
        ConversionError: the whole computes none of the tensors on any probe.
    """
    whole, part = payload["whole"], payload["part"]
    tensors = _contract(payload["tensors"])
    probes = load_probes(Path(payload["probes"]))
    captured, expected = _captured(whole, tensors, probes)
    save_probes(Path(payload["part_probes"]), captured)
    contract = _contract(part["contract"])
    opened = runtimes()[payload["runtime"]].open(Path(part["path"]), contract, options=payload["options"])
    with opened as session:
        seen = observe(session, captured, subject=Path(part["path"]).name, contract_inputs=tensors.inputs)
    save_observation(Path(payload["observation"]), seen)
    judged = judge(expected, seen, tensors, contract, Tolerance(**payload["tolerance"]))
    labels = [probe.label for probe in captured]
    return {"verdict": {**to_json(judged), "reference": payload["reference"], "inputs": labels}}


def gate_composed(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Prove that two parts, the second fed with what the first gives, compute what the whole does.

    Args:
        payload: ``head`` and ``tail`` (path, format, contract, runtime), ``whole_contract``, ``probes``,
            ``reference_observation`` (what the whole gave), ``reference``, ``tolerance``.

    Returns:
        ``verdict`` as the manifest holds it.
    """
    whole = _contract(payload["whole_contract"])
    probes = load_probes(Path(payload["probes"]))
    head, tail = payload["head"], payload["tail"]
    first, second = _contract(head["contract"]), _contract(tail["contract"])
    results = []
    with (
        runtimes()[head["runtime"]].open(Path(head["path"]), first, options={}) as one,
        runtimes()[tail["runtime"]].open(Path(tail["path"]), second, options={}) as other,
    ):
        for probe in probes:
            given = adapt_inputs(probe, whole.inputs, whole.inputs)
            try:
                middle = one.infer({spec.name: given[spec.name] for spec in first.inputs})
                rest = {s.name: given[s.name] for s in second.inputs if s.name not in middle}
                fed = {**rest, **{s.name: middle[s.name] for s in second.inputs if s.name in middle}}
                outputs = other.infer(fed)
                again = other.infer(fed)
            except EdgeconvError as error:
                if not probe.optional:
                    raise
                results.append(ProbeResult(probe.label, error=str(error)))
                continue
            unstable = tuple(
                n for n, v in outputs.items() if not repeats(np.asarray(v), np.asarray(again[n]))
            )
            arrays = {name: np.asarray(value) for name, value in outputs.items()}
            results.append(ProbeResult(probe.label, arrays, unstable=unstable))
    expected = load_observation(Path(payload["reference_observation"]))
    seen = Observation("head and tail", tuple(results))
    judged = judge(expected, seen, whole, second, Tolerance(**payload["tolerance"]))
    labels = [probe.label for probe in probes]
    return {"verdict": {**to_json(judged), "reference": payload["reference"], "inputs": labels}}


def _captured(
    whole: Mapping[str, Any], tensors: Contract, probes: Sequence[Probe]
) -> tuple[list[Probe], Observation]:
    """What the whole computes at the ends of a part, as the part's probes and the expected results."""
    contract = _contract(whole["contract"])
    wanted = [_tensor(s.inner_name, whole["format"]) for s in (*tensors.inputs, *tensors.outputs)]
    fed, expected = [], []
    refused: EdgeconvError | Exception | None = None
    with open_source(Path(whole["path"]), whole["format"], contract) as source:
        for probe in probes:
            given = adapt_inputs(probe, contract.inputs, contract.inputs)
            try:
                values = source.values(list(dict.fromkeys(wanted)), given)
            except Exception as error:  # whatever a runtime says of one batch; another may do
                refused = error
                continue
            if not set(wanted) <= set(values):
                continue
            inputs = {s.name: values[w] for s, w in zip(tensors.inputs, wanted, strict=False)}
            outputs = zip(tensors.outputs, wanted[len(tensors.inputs) :], strict=True)
            fed.append(Probe(probe.label, inputs, probe.optional))
            expected.append(ProbeResult(probe.label, {s.name: np.asarray(values[w]) for s, w in outputs}))
    if not fed:
        raise ConversionError(
            "the whole model computes none of these tensors on any input tried",
            where=str(whole["path"]),
            why=" ".join(str(refused).split())[:300] if refused else "they lie on a branch that is not taken",
            hint="give real inputs with --data FILE.npz, or cut elsewhere",
        )
    return fed, Observation("whole", tuple(expected))


def _tensor(name: str, kind: str) -> str:
    if kind != "frozen_graph":
        return name
    return name if name.rpartition(":")[2].isdigit() and ":" in name else f"{name}:0"


def _contract(data: Any) -> Contract:
    contract = contract_from_json(data)
    if contract is None:
        raise UsageError("its inputs and outputs are not known")
    return contract
