"""The gate: does the candidate give what its reference gives? Judged per output, never pooled.

In this order, and the first that fails is the reason: names and their mapping, order, shape, dtype, NaN and
infinity, then numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from edgeconv.comparison.archive import Array
from edgeconv.comparison.detections import judge_detections, judge_unbatched
from edgeconv.comparison.mapping import TensorMapping, map_outputs, real_values, relative_distance
from edgeconv.comparison.observation import Observation
from edgeconv.comparison.output import OutputValues, judge_output
from edgeconv.comparison.ties import explained_by_ties
from edgeconv.comparison.tolerances import Tolerance
from edgeconv.comparison.verdict import Outcome, OutputVerdict, Verdict
from edgeconv.errors import UsageError
from edgeconv.formats.base import Contract


def skipped(reason: str, *, reference: str = "", hint: str | None = None) -> Verdict:
    """The verdict where the candidate cannot be run here: never a pass."""
    return Verdict("skipped", reference, (), (), reason, hint)


def judge(
    reference: Observation,
    candidate: Observation,
    reference_contract: Contract,
    candidate_contract: Contract,
    tolerance: Tolerance,
    *,
    mapping: Mapping[str, str] | None = None,
    steps: Mapping[str, float] | None = None,
) -> Verdict:
    """Judge a candidate by its reference on the same probes.

    Args:
        reference: what the reference gave.
        candidate: what the candidate gave, on the same probes in the same order.
        reference_contract: names, order, dtypes and quantization of the reference's outputs.
        candidate_contract: of the candidate's.
        tolerance: the bounds.
        mapping: reference output to candidate output as the user said; the rest is found.
        steps: of real outputs that the candidate computes in integers, by its names; they decide nothing.

    Returns:
        The verdict. A probe that the reference refused is left out; one that only the candidate refused
        fails.

    Raises:
        UsageError: the probes of the two are not the same, none ran in the reference, or it is not clear
            which output is which.
    """
    labels = tuple(result.label for result in reference.results)
    if labels != tuple(result.label for result in candidate.results):
        raise UsageError(
            "the two were not run on the same probes", hint="observe both with one list of probes"
        )
    ran = [index for index, result in enumerate(reference.results) if result.error is None]
    notes = [
        f"the reference refuses the probe '{result.label}': {result.error}"
        for result in reference.results
        if result.error is not None
    ]
    if not ran:
        raise UsageError(
            "the reference ran on no probe",
            where=reference.subject,
            why=reference.results[0].error if reference.results else "there are no probes",
            hint="give inputs that it takes with --data FILE.npz, or shapes with --shape",
        )
    if not reference_contract.outputs:
        raise UsageError("the reference has no outputs", where=reference.subject, hint="name them: --outputs")
    inputs = tuple(labels[index] for index in ran)
    refused = [candidate.results[index] for index in ran if candidate.results[index].error is not None]
    if refused:
        return Verdict(
            "fail",
            reference.subject,
            inputs,
            (),
            f"the candidate refuses the probe '{refused[0].label}': {refused[0].error}",
            "fix the shape with --shape if the artifact need not take it",
            tolerance,
            tuple(notes),
        )
    values_one = [reference.results[index].outputs for index in ran]
    values_two = [candidate.results[index].outputs for index in ran]
    pairs = map_outputs(
        reference_contract.outputs, candidate_contract.outputs, values_one, values_two, given=mapping
    )
    unstable = (set(reference.unstable), set(candidate.unstable))
    collected = {
        pair.reference: OutputValues(
            inputs,
            tuple(values[pair.reference] for values in values_one),
            tuple(values[pair.candidate] for values in values_two),
        )
        for pair in pairs.pairs
        if all(pair.reference in v for v in values_one) and all(pair.candidate in v for v in values_two)
    }
    verdicts = _verdicts(
        reference_contract, candidate_contract, pairs, collected, unstable, tolerance, steps or {}
    )
    notes += _order_notes(reference_contract, pairs, candidate_contract)
    notes += [
        f"'{pair.reference}' is '{pair.candidate}' in the candidate, found by {pair.how}"
        for pair in pairs.pairs
        if pair.how not in ("name", "given")
    ]
    failed = [verdict for verdict in verdicts if verdict.verdict == "fail"]
    first = failed[0] if failed else None
    return Verdict(
        "fail" if first else "pass",
        reference.subject,
        inputs,
        tuple(verdicts),
        f"output '{first.reference_name or first.name}': {first.reason}" if first else None,
        _hint(first, tolerance) if first else None,
        tolerance,
        tuple(notes),
    )


def _verdicts(
    reference_contract: Contract,
    candidate_contract: Contract,
    pairs: TensorMapping,
    collected: Mapping[str, OutputValues],
    unstable: tuple[set[str], set[str]],
    tolerance: Tolerance,
    steps: Mapping[str, float],
) -> list[OutputVerdict]:
    verdicts: list[OutputVerdict] = []
    names = pairs.names
    for spec in reference_contract.outputs:
        partner = names.get(spec.name)
        if partner is None:
            verdicts.append(OutputVerdict("", spec.name, "fail", "the candidate has no such output"))
            continue
        if spec.name not in collected:
            verdicts.append(OutputVerdict(partner, spec.name, "fail", "was not given by every probe"))
            continue
        verdict = judge_output(
            spec,
            candidate_contract.output(partner),
            collected[spec.name],
            (spec.name in unstable[0], partner in unstable[1]),
            tolerance,
            steps.get(partner),
        )
        verdicts.append(verdict)
    verdicts = _with_ties(verdicts, reference_contract, collected, candidate_contract, tolerance)
    verdicts = _with_detections(verdicts, reference_contract, collected, candidate_contract, tolerance)
    verdicts = _with_swaps(verdicts, collected)
    verdicts += [
        OutputVerdict(name, "", "fail", "the reference has no such output")
        for name in pairs.unmatched_candidate
    ]
    return verdicts


def _with_ties(
    verdicts: Sequence[OutputVerdict],
    reference_contract: Contract,
    collected: Mapping[str, OutputValues],
    candidate_contract: Contract,
    tolerance: Tolerance,
) -> list[OutputVerdict]:
    """Verdicts where a failure is lifted if ties among the scores explain every difference."""
    if all(verdict.verdict == "pass" for verdict in verdicts):
        return list(verdicts)
    reference, candidate = _real_pairs(verdicts, reference_contract, collected, candidate_contract)
    failed = [v.reference_name for v in verdicts if v.verdict == "fail" and v.max_abs is not None]
    explained = explained_by_ties(reference, candidate, failed, tolerance)
    return [
        dataclasses.replace(verdict, verdict="pass", reason=explained[verdict.reference_name], channel=None)
        if verdict.verdict == "fail" and verdict.reference_name in explained
        else verdict
        for verdict in verdicts
    ]


def _with_detections(
    verdicts: Sequence[OutputVerdict],
    reference_contract: Contract,
    collected: Mapping[str, OutputValues],
    candidate_contract: Contract,
    tolerance: Tolerance,
) -> list[OutputVerdict]:
    """Verdicts where boxes, scores and classes that belong together were judged as matched detections.

    That decides over the numbers. A wrong shape or type, or what is not deterministic, fails as ever.
    """
    reference, candidate = _real_pairs(verdicts, reference_contract, collected, candidate_contract)
    structural = {v.reference_name for v in verdicts if v.verdict == "fail" and v.max_abs is None}
    said = judge_detections(reference, candidate, tolerance)
    if not said and any(verdict.verdict == "fail" for verdict in verdicts):
        pairs = _real_pairs(verdicts, reference_contract, collected, candidate_contract, rows=True)
        unbatched = judge_unbatched(*pairs, tolerance)
        if unbatched and all(judged.passes for judged in unbatched.values()):
            said, structural = unbatched, set()
    if not said or structural & set(said):
        return list(verdicts)
    result = []
    for verdict in verdicts:
        judged = said.get(verdict.reference_name)
        if judged is not None:
            outcome: Outcome = "pass" if judged.passes else "fail"
            verdict = dataclasses.replace(verdict, verdict=outcome, reason=judged.reason, channel=None)
        result.append(verdict)
    return result


def _real_pairs(
    verdicts: Sequence[OutputVerdict],
    reference_contract: Contract,
    collected: Mapping[str, OutputValues],
    candidate_contract: Contract,
    *,
    rows: bool = False,
) -> tuple[dict[str, list[Array]], dict[str, list[Array]]]:
    """Real values of reference and candidate by the reference's names, of the outputs of equal shapes.

    With ``rows``, their first dimensions may differ.
    """
    reference: dict[str, list[Array]] = {}
    candidate: dict[str, list[Array]] = {}
    for verdict in verdicts:
        values = collected.get(verdict.reference_name)
        first = 1 if rows else 0
        if values is None or any(
            a.ndim != b.ndim or a.shape[first:] != b.shape[first:]
            for a, b in zip(values.reference, values.candidate, strict=True)
        ):
            continue
        one, two = reference_contract.output(verdict.reference_name), candidate_contract.output(verdict.name)
        reference[verdict.reference_name] = [real_values(array, one) for array in values.reference]
        candidate[verdict.reference_name] = [real_values(array, two) for array in values.candidate]
    return reference, candidate


def _with_swaps(
    verdicts: Sequence[OutputVerdict], collected: Mapping[str, OutputValues]
) -> list[OutputVerdict]:
    """Failed verdicts that say so where the candidate's values are those of another output."""
    result: list[OutputVerdict] = []
    for verdict in verdicts:
        own = collected.get(verdict.reference_name)
        if verdict.verdict == "fail" and verdict.max_abs is not None and own is not None:
            for name, other in collected.items():
                if name != verdict.reference_name and _equal(other.reference, own.candidate):
                    reason = f"{verdict.reason}; it has the values of the reference's output '{name}'"
                    verdict = dataclasses.replace(verdict, reason=reason)
                    break
        result.append(verdict)
    return result


def _equal(reference: Sequence[Array], candidate: Sequence[Array]) -> bool:
    return all(
        one.dtype == two.dtype and relative_distance(one, two) < 1e-3
        for one, two in zip(reference, candidate, strict=True)
    )


def _order_notes(reference: Contract, pairs: TensorMapping, candidate: Contract) -> list[str]:
    wanted = [pair.candidate for pair in pairs.pairs]
    found = [spec.name for spec in candidate.outputs if spec.name in set(wanted)]
    if wanted == found:
        return []
    return [f"the order of the outputs differs ({', '.join(found)}): ask for them by name, not by position"]


def _hint(first: OutputVerdict, tolerance: Tolerance) -> str:
    reason = first.reason or ""
    if not first.name or not first.reference_name:
        return "say which output is which with --map REF=CAND, or choose outputs with --outputs"
    if "deterministic" in reason:
        return (
            "make what is drawn by chance an input, --inputs NAME,… with the random op beside the others, "
            "or end the model before it with --outputs; 'edgeconv inspect' names such ops"
        )
    if "NaN" in reason:
        return f"try inputs of your own with --data, or --tolerance {tolerance.precision}:allow_nan=1"
    if reason.startswith(("shape", "type")):
        return "compare the contracts with 'edgeconv inspect'"
    return "find the first wrong tensor with 'edgeconv compare REFERENCE CANDIDATE --locate'"
