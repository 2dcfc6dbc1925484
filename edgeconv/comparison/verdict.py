"""What the gate says, as data that goes to the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgeconv.comparison.tolerances import Tolerance

Outcome = Literal["pass", "fail", "skipped"]


@dataclass(frozen=True, slots=True)
class OutputVerdict:
    """The verdict on one output.

    Attributes:
        name: in the candidate; empty where the candidate has no such output.
        reference_name: in the reference; empty where the reference has no such output.
        verdict: ``pass`` or ``fail``.
        reason: why it fails, or what a person should know of a pass.
        max_abs: largest absolute difference of real values over all probes; ``None`` where values were not
            compared. The metrics below likewise; ``sqnr_db`` is also ``None`` where the two are equal.
        worst_index: where ``max_abs`` is, in the array of the probe ``worst_probe``.
        channel: first channel of the last axis that the reason speaks of.
        differing: elements that are not the very same; ``None`` where the two do not store values alike.
        elements: of how many.
        step: between neighbouring values of a quantized output, in its unit.
        most_steps: largest difference in such steps.
    """

    name: str
    reference_name: str
    verdict: Outcome
    reason: str | None = None
    max_abs: float | None = None
    max_rel: float | None = None
    rms: float | None = None
    cosine: float | None = None
    correlation: float | None = None
    sqnr_db: float | None = None
    mismatched: float | None = None
    top1: float | None = None
    worst_index: tuple[int, ...] | None = None
    worst_probe: str | None = None
    worst_reference_value: float | str | None = None
    worst_candidate_value: float | str | None = None
    channel: int | None = None
    differing: int | None = None
    elements: int | None = None
    step: float | None = None
    most_steps: int | None = None
    other_metrics: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one arrow.

    Attributes:
        verdict: ``pass`` only if every output passes; ``skipped`` where nothing could be compared.
        reference: what the candidate was compared with.
        inputs: labels of the probes that were compared.
        outputs: one verdict an output, in the reference's order, candidates without a partner last.
        reason: the first reason of a failure or skip.
        hint: the next thing to type.
        tolerance: the bounds it was judged by.
        notes: what a person should know that is no failure.
    """

    verdict: Outcome
    reference: str
    inputs: tuple[str, ...]
    outputs: tuple[OutputVerdict, ...]
    reason: str | None = None
    hint: str | None = None
    tolerance: Tolerance | None = None
    notes: tuple[str, ...] = ()
