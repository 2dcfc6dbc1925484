"""The worker's side of a gate: runs an artifact on the probes and judges what it gave."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeconv.comparison.batches import mixed_outputs
from edgeconv.comparison.domain import in_domain
from edgeconv.comparison.gate import judge
from edgeconv.comparison.mapping import map_inputs, relative_distance
from edgeconv.comparison.observation import (
    Observation,
    load_observation,
    observe,
    save_observation,
    setting_of,
)
from edgeconv.comparison.probes import Probe, load_probes, misfit, save_probes
from edgeconv.comparison.tolerances import Tolerance
from edgeconv.comparison.whole_numbers import whole_numbers
from edgeconv.devices.base import RuntimeChoice
from edgeconv.devices.registry import find_device
from edgeconv.devices.session import DeviceSession, Wish
from edgeconv.errors import EdgeconvError, UsageError
from edgeconv.formats.base import Contract, TensorSpec, contract_from_json, to_json
from edgeconv.runtimes.base import Session
from edgeconv.runtimes.registry import runtimes

_MIXES = "{}: a sample gives something else alone than within a batch"
_MIXES_HINT = (
    "something in the graph is still training, such as a batch normalisation that uses the batch's own "
    "statistics: 'edgeconv inspect' names what it finds; a model that is meant to mix its samples needs a "
    "batch of fixed size: --shape"
)


def gate(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Observe an artifact, and judge it where there is a reference.

    Args:
        payload: ``artifact`` (path, format, contract or null), ``runtime``, ``options``, ``probes``
            (path), ``observation`` (path to write), ``reference`` (its id, or null where the artifact is
            itself the reference), ``reference_observation`` (path or null), ``reference_contract``,
            ``tolerance``, ``input_map`` and ``output_map`` (reference name to candidate name),
            ``end_to_end`` (``probes`` that a written front end made, ``observation`` of the source on what
            they were made of, ``contract`` of what is behind the front end),
            ``replaced`` (how many tensors of the reference were replaced for it to be that of inference),
            ``made_up`` (whether the probes are numbers of nobody's),
            ``alone`` (whether to try samples of a batch alone too),
            ``other_probes`` (where to write those that were taken in place of what the source refused;
            only for the source itself, and for made-up ones),
            ``device`` (``name``, ``runtime``, ``threads``, ``accelerator``; null for this process),
            ``fewer_where_slow`` (whether an emulated one may leave probes out),
            ``steps`` (of the artifact's outputs, see :func:`edgeconv.comparison.gate.judge`).

    Returns:
        ``verdict`` as the manifest holds it, ``contract``, completed by what the runtime said, and ``ran``,
        where it was, if that was a device.
    """
    artifact = payload["artifact"]
    contract = contract_from_json(artifact["contract"])
    reference_contract = contract_from_json(payload.get("reference_contract"))
    probes = load_probes(Path(payload["probes"]))
    seen = payload.get("reference_observation")
    reference = load_observation(Path(seen)) if seen is not None else None
    outside: list[str] = []
    if reference is not None and payload.get("made_up"):
        probes, outside = in_domain(probes, reference)
    path = Path(artifact["path"])
    slow: list[str] = []
    with _opened(payload, path, contract) as session:
        ran = session.ran if isinstance(session, DeviceSession) else None
        if ran is not None and ran.emulated and payload.get("fewer_where_slow"):
            probes, slow = _fewer(probes)
        if contract is None:
            contract = Contract(session.inputs, session.outputs)
        names = _input_names(session, probes, reference, reference_contract, payload.get("input_map"))
        probes, left_out = _fitting(probes, names, contract)
        if reference is not None:
            reference = _only(reference, probes)
        made_for = reference_contract.inputs if reference_contract is not None else None
        observation, probes = _observed(session, probes, path.name, made_for, names, payload)
        mixed = _mixed(session, probes, observation, payload, made_for, names)
        end_to_end = _end_to_end(payload, session, contract, made_for, names)
    save_observation(Path(payload["observation"]), observation)
    labels = [probe.label for probe in probes]
    verdict: dict[str, Any]
    if payload["reference"] is None:
        verdict = _without_numbers("pass", None, None)
    elif reference is None or reference_contract is None:
        verdict = _without_numbers("skipped", payload["reference"], "the reference could not be run")
    else:
        tolerance = Tolerance(**payload["tolerance"])
        mapping = payload.get("output_map") or None
        steps = payload.get("steps")
        verdict = to_json(
            judge(
                reference,
                observation,
                reference_contract,
                contract,
                tolerance,
                mapping=mapping,
                steps=steps,
            )
        )
    verdict.update(reference=payload["reference"], inputs=labels)
    replaced = payload.get("replaced", 0)
    notes = [*verdict.get("notes", ()), *outside, *left_out, *slow, *_about_reference(replaced)]
    if mixed and replaced and verdict["verdict"] == "pass":
        verdict.update(verdict="fail", reason=_MIXES.format(mixed), hint=_MIXES_HINT)
    elif mixed:
        notes.append(_MIXES.format(mixed))
    verdict["notes"] = notes
    if end_to_end is not None:
        verdict["end_to_end"] = end_to_end
        if end_to_end["verdict"] == "fail" and verdict["verdict"] == "pass":
            verdict.update(verdict="fail", reason=f"from end to end: {end_to_end['reason']}")
    return {"verdict": verdict, "contract": to_json(contract), "ran": to_json(ran)}


def _opened(payload: Mapping[str, Any], path: Path, contract: Contract | None) -> Session:
    """The artifact in a runtime of this process, or on a device."""
    there = payload.get("device")
    if there is None:
        return runtimes()[payload["runtime"]].open(path, contract, options=payload["options"])
    runtime = there.get("runtime")
    wish = Wish(
        None if runtime is None else RuntimeChoice.parse(runtime),
        int(there.get("threads") or 1),
        there.get("accelerator"),
        payload["options"],
    )
    return DeviceSession(find_device(there["name"]), path, payload["artifact"]["format"], contract, wish)


def _fewer(probes: Sequence[Probe]) -> tuple[list[Probe], list[str]]:
    """For a processor some hundred times slower: one probe, or one for each setting of the bool switches."""
    kept: dict[object, Probe] = {}
    for probe in probes:
        kept.setdefault(setting_of(probe), probe)
    if len(kept) == len(probes):
        return list(probes), []
    said = f"{len(kept)} of {len(probes)} probes were run, as emulation is slow: give your own with --data"
    return list(kept.values()), [said]


def _observed(
    session: Session,
    probes: list[Probe],
    subject: str,
    made_for: Sequence[TensorSpec] | None,
    names: Mapping[str, str] | None,
    payload: Mapping[str, Any],
) -> tuple[Observation, list[Probe]]:
    """What the session gives, and on what: on whole numbers where the source refuses what was made up."""

    def run(chosen: Sequence[Probe]) -> Observation:
        return observe(session, chosen, subject=subject, contract_inputs=made_for, input_names=names)

    try:
        return run(probes), probes
    except UsageError:
        raise
    except EdgeconvError:
        other = payload.get("other_probes")
        for chosen in whole_numbers(probes) if other is not None else ():
            try:
                observation = run(chosen)
            except EdgeconvError:
                continue
            save_probes(Path(str(other)), chosen)
            return observation, chosen
        raise


def _end_to_end(
    payload: Mapping[str, Any],
    session: Session,
    contract: Contract,
    made_for: Sequence[TensorSpec] | None,
    names: Mapping[str, str] | None,
) -> dict[str, Any] | None:
    """The artifact behind its written front end, judged by the outputs of the whole source."""
    wanted = payload.get("end_to_end")
    if wanted is None:
        return None
    probes, _ = _fitting(load_probes(Path(wanted["probes"])), names, contract)
    reference = _only(load_observation(Path(wanted["observation"])), probes)
    source = contract_from_json(wanted["contract"])
    if source is None or not reference.results:
        return None
    seen = observe(session, probes, contract_inputs=made_for, input_names=names, repeat=False)
    judged = judge(reference, seen, source, contract, Tolerance(**payload["tolerance"]))
    verdict: dict[str, Any] = to_json(judged)
    return {**{key: verdict[key] for key in ("verdict", "outputs", "reason")}, "reference": "source"}


def _mixed(
    session: Session,
    probes: Sequence[Probe],
    observation: Observation,
    payload: Mapping[str, Any],
    made_for: Sequence[TensorSpec] | None,
    names: Mapping[str, str] | None,
) -> str:
    """The outputs that mix the samples of a batch, in words; empty where none does or nobody asked."""
    if not payload.get("alone"):
        return ""
    found = mixed_outputs(session, probes, observation, contract_inputs=made_for, input_names=names)
    if not found:
        return ""
    return f"output{'s' if len(found) > 1 else ''} {', '.join(repr(name) for name in found)}"


def _about_reference(replaced: int) -> list[str]:
    """How the reference of an arrow to an inference graph came about."""
    if not replaced:
        return []
    tensors = "1 tensor of the source was" if replaced == 1 else f"{replaced} tensors of the source were"
    return [f"the reference is the source run in inference: {tensors} replaced by what each is worth there"]


def _input_names(
    session: Session,
    probes: Sequence[Probe],
    reference: Observation | None,
    reference_contract: Contract | None,
    given: Mapping[str, str] | None,
) -> dict[str, str] | None:
    """Names of the probes' inputs to those of the session; by trying where only values can tell."""
    if reference_contract is None:
        return None
    inputs = reference_contract.inputs

    def distance_of(way: Mapping[str, str]) -> float:
        if reference is None:
            return math.inf
        try:
            tried = observe(session, probes[:1], contract_inputs=inputs, input_names=dict(way), repeat=False)
        except (EdgeconvError, ValueError, RuntimeError):
            return math.inf
        return _nearest(reference, tried)

    mapping = map_inputs(inputs, session.inputs, given=given, distance_of=distance_of)
    if mapping.unmatched_candidate:
        lonely = next(spec for spec in session.inputs if spec.name == mapping.unmatched_candidate[0])
        raise UsageError(
            f"nothing in the reference goes into the candidate's input '{lonely.name}'",
            why=f"it takes {lonely.dtype} of shape {list(lonely.shape or ())}; the reference has "
            + ", ".join(f"'{s.name}' {s.dtype} {list(s.shape or ())}" for s in inputs),
            hint="are the two the same model? if so, pair the inputs with --map-input REFERENCE=CANDIDATE",
        )
    return mapping.names


def _fitting(
    probes: Sequence[Probe], names: Mapping[str, str] | None, contract: Contract
) -> tuple[list[Probe], list[str]]:
    """The probes without those of another batch that the artifact states it does not take."""
    kept, left_out = [], []
    for probe in probes:
        renamed = Probe(probe.label, {(names or {}).get(n, n): v for n, v in probe.inputs.items()})
        problem = misfit(renamed, contract.inputs) if probe.optional else None
        if problem is None:
            kept.append(probe)
        else:
            left_out.append(f"'{probe.label}' was left out: the artifact's shape is fixed ({problem})")
    return kept, left_out


def _only(reference: Observation, probes: Sequence[Probe]) -> Observation:
    labels = {probe.label for probe in probes}
    return Observation(reference.subject, tuple(r for r in reference.results if r.label in labels))


def _nearest(reference: Observation, tried: Observation) -> float:
    """Largest distance of a reference output on the first probe to the nearest of those tried."""
    if not reference.outputs or not tried.outputs:
        return math.inf
    candidates = list(tried.outputs[0].values())
    return max(
        min(
            (relative_distance(value, other) for other in candidates if other.shape == value.shape),
            default=math.inf,
        )
        for value in reference.outputs[0].values()
    )


def _without_numbers(verdict: str, reference: str | None, reason: str | None) -> dict[str, Any]:
    return {"verdict": verdict, "reference": reference, "outputs": [], "reason": reason, "hint": None}
