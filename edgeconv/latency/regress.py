"""Baseline beside candidate: latency, load time, memory and size, each with its verdict.

The probability that equals are called changed, ``Policy.alpha``, is shared by all pairs of a call and within
a pair by its quantities (:data:`SHARES`), so that it holds for all of them together. Sizes are compared
exactly and take none of it. Load time and memory are those of launches that open one artifact alone, in
pairs drawn like the others, and judged by the same test over launches.
"""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeconv.errors import UsageError
from edgeconv.latency import duet
from edgeconv.latency.channels import DECIDING, Launch, kept
from edgeconv.latency.decisions import ChannelVerdict, Decision, Policy, Verdict, judge_values, noise_floor
from edgeconv.latency.plan import LaunchPlan
from edgeconv.latency.sequential import LOOKS, looks_up_to
from edgeconv.latency.sources import BASELINE, CANDIDATE, COPY, Paired, Side, Way, plan_for, way_for

SHARES = {"latency": 0.8, "load": 0.1, "memory": 0.1}
"""How alpha is shared within a pair."""
OPENINGS = 28
"""Pairs of launches for load time and memory, at most."""
_OPENING_SECONDS = 0.4
"""At most so much of the time for latency goes to load time and memory, of each pair."""
LEAST_MEMORY = 512 << 10
"""Below so many bytes two amounts of memory are the same: the kernel counts pages, and counts them late."""
LEAST_LOAD_NS = 200_000
"""Below so much two load times are the same to whoever waits for them."""
_NOISE_LAUNCHES = LOOKS[0]


@dataclass(frozen=True)
class Thresholds:
    """The changes that matter in what is no latency, as fractions of the baseline's; 0 is any change."""

    load: float = 0.10
    memory: float = 0.05
    bytes: float = 0.05

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if not 0 <= value < math.inf:
                raise UsageError(
                    f"a threshold of {value} for {each.name}", hint="write it as a percentage: 5%"
                )


@dataclass(frozen=True)
class Quantity:
    """What is said of one quantity of a pair.

    Attributes:
        name: ``latency``, ``load``, ``memory`` or ``bytes``.
        verdict: of it.
        baseline, candidate: medians over launches, in nanoseconds or bytes; NaN where not measured.
        ratio: candidate over baseline; NaN where not measured.
        low, high: its interval at ``Policy.confidence``, that of all looks; both the ratio where it is exact.
        threshold: the change that matters, as a fraction.
        alpha: the probability that equals are called changed in it; 0 where it is exact.
        power: the probability of finding a change of the threshold; 1 where it is exact.
        detectable: the increase (a fraction) that would have been found nine times of ten.
        values: launches that it rests on.
        note: what a person should know of it.
    """

    name: str
    verdict: Verdict
    baseline: float
    candidate: float
    ratio: float
    low: float
    high: float
    threshold: float
    alpha: float
    power: float
    detectable: float
    values: int
    note: str | None = None


@dataclass(frozen=True)
class Comparison:
    """What came of one pair.

    Attributes:
        name: of the pair, for reports.
        baseline, candidate: what was measured.
        verdict: of the whole: regressed where any quantity is; else that of the latency, which is also
            improved where only load time, memory or size are and the latency is ok.
        decision: of the latency, with its channels and the noise floor.
        quantities: latency first.
        way: ``one process`` or ``lockstep``.
        plan: of a launch.
        seconds: of wall time, with everything.
        launches: raw samples of baseline and candidate.
        copies: raw samples of the baseline twice.
        notes: what a person should know.
    """

    name: str
    baseline: Side
    candidate: Side
    verdict: Verdict
    decision: Decision
    quantities: tuple[Quantity, ...]
    way: str
    plan: LaunchPlan
    seconds: float
    launches: Sequence[Launch]
    copies: Sequence[Launch]
    notes: tuple[str, ...] = ()
    culprit: Any = field(default=None)


def compare(
    name: str,
    baseline: Side,
    candidate: Side,
    policy: Policy,
    thresholds: Thresholds | None = None,
    *,
    pairs: int = 1,
    seed: int | None = None,
    say: Callable[[str], None] = lambda text: None,
    after: Callable[[Way, Comparison], Any] | None = None,
) -> Comparison:
    """Measure a pair until there is a verdict or the time is spent.

    Args:
        name: of the pair.
        baseline, candidate: see :func:`edgeconv.latency.sources.look_at`.
        policy: its alpha is that of all pairs together; its seconds are for the latency of this one.
        thresholds: of the other quantities.
        pairs: how many there are in the call.
        seed: of all that is drawn; from the system where ``None``.
        say: told what is being done.
        after: asked, while the agents are still there, for the culprit of a pair that regressed.

    Raises:
        UsageError: the two are not on one device, or it is emulated.
        DeviceError: the device went away.
        ConversionError: a runtime fails in a model.
    """
    if baseline.device.name != candidate.device.name:
        raise UsageError(f"{name}: baseline and candidate are measured on one device")
    begun = time.monotonic()
    thresholds = thresholds or Thresholds()
    seed = random.SystemRandom().randrange(1 << 40) if seed is None else seed
    alphas = {quantity: policy.alpha * share / pairs for quantity, share in SHARES.items()}
    own = dataclasses.replace(policy, alpha=max(1e-6, alphas["latency"]), beta=policy.beta)
    with way_for(baseline, candidate) as way:
        say(f"{name}: a first look")
        plan, _ = plan_for(way, (baseline, candidate), seed)
        way.ready((baseline, candidate))
        say(f"{name}: launches")
        source = Paired(way, baseline, candidate, plan, seed + 1)
        decision, launches, notes = decide(source, own)
        say(f"{name}: load time and memory")
        others = _openings(way, baseline, candidate, own, thresholds, alphas, seed + 2)
        quantities = (
            _latency(decision, launches, own, alphas["latency"]),
            *others,
            _bytes(baseline, candidate, thresholds.bytes),
        )
        found = Comparison(
            name=name,
            baseline=baseline,
            candidate=candidate,
            verdict=whole([(one.name, one.verdict) for one in quantities]),
            decision=decision,
            quantities=quantities,
            way=way.name,
            plan=plan,
            seconds=time.monotonic() - begun,
            launches=launches,
            copies=source.copies,
            notes=(*notes, *_notes(baseline, candidate)),
        )
        if after is not None:
            say(f"{name}: the culprit")
            found = dataclasses.replace(found, culprit=after(way, found))
            found = dataclasses.replace(found, seconds=time.monotonic() - begun)
    return found


def decide(source: Paired, policy: Policy) -> tuple[Decision, list[Launch], tuple[str, ...]]:
    """The verdict on the latency with its noise floor, the launches, and what a person should know of it."""
    (decision,), launches = duet.run(source, BASELINE, [CANDIDATE], policy)
    while len(source.copies) < _NOISE_LAUNCHES:
        source.copy()
    decision, notes = with_noise(decision, source.copies, policy)
    return decision, launches, notes


def with_noise(
    decision: Decision, copies: Sequence[Launch], policy: Policy
) -> tuple[Decision, tuple[str, ...]]:
    """The decision with the noise floor of launches of equals; none where those are called different."""
    noise = noise_floor(copies, BASELINE, policy, len(copies), COPY)
    decision = dataclasses.replace(decision, noise=noise)
    differing = [channel for channel in DECIDING if channel in noise and noise[channel].differs]
    if not differing or decision.verdict in ("ok", "inconclusive"):
        return decision, ()
    told = f"the baseline differs from itself ({', '.join(differing)}): its launches are no fair comparison"
    return dataclasses.replace(decision, verdict="inconclusive"), (told,)


def whole(said: Sequence[tuple[str, Verdict]]) -> Verdict:
    """The verdict of a pair from those of its quantities, the latency among them."""
    verdicts = dict(said)
    if "regressed" in verdicts.values():
        return "regressed"
    if verdicts["latency"] == "ok" and "improved" in verdicts.values():
        return "improved"
    return verdicts["latency"]


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of a call from those of its pairs."""
    order: tuple[Verdict, ...] = ("regressed", "inconclusive", "improved")
    return next((verdict for verdict in order if verdict in verdicts), "ok")


def _latency(decision: Decision, launches: Sequence[Launch], policy: Policy, alpha: float) -> Quantity:
    typical = decision.channels.get("typical")
    low, high = (
        float(np.median([np.median(kept(launch[side])) for launch in launches]))
        for side in (BASELINE, CANDIDATE)
    )
    return _quantity("latency", decision.verdict, low, high, typical, policy.threshold, alpha)


def _quantity(
    name: str,
    verdict: Verdict,
    baseline: float,
    candidate: float,
    one: ChannelVerdict | None,
    threshold: float,
    alpha: float,
    note: str | None = None,
) -> Quantity:
    if one is None:
        nan = math.nan
        return Quantity(
            name, verdict, baseline, candidate, nan, nan, nan, threshold, alpha, 0.0, math.inf, 0, note
        )
    return Quantity(
        name=name,
        verdict=verdict,
        baseline=baseline,
        candidate=candidate,
        ratio=one.ratio,
        low=one.low,
        high=one.high,
        threshold=threshold,
        alpha=alpha,
        power=one.power,
        detectable=one.detectable,
        values=one.values,
        note=note,
    )


def _openings(
    way: Way,
    baseline: Side,
    candidate: Side,
    policy: Policy,
    thresholds: Thresholds,
    alphas: Mapping[str, float],
    seed: int,
) -> list[Quantity]:
    """Load time and memory, of launches of one artifact alone."""
    drawn = random.Random(seed)
    own_clock = all(side.computes_alone for side in (baseline, candidate))
    sides = {BASELINE: baseline, CANDIDATE: candidate}
    taken: dict[str, list[Any]] = {name: [] for name in sides}
    begun, wanted = time.monotonic(), LOOKS[0]
    found: list[Quantity] = []
    while True:
        number = len(taken[BASELINE])
        for name in drawn.sample(list(sides), 2):
            taken[name].append(way.alone(sides[name], seed + 2 * number))
        number += 1
        spent = time.monotonic() - begun
        over = spent + spent / number > _OPENING_SECONDS * policy.seconds or number >= OPENINGS
        if number >= wanted or over:
            found = [
                _opened(quantity, taken, own_clock, policy, thresholds, alphas[quantity])
                for quantity in ("load", "memory")
            ]
            if over or all(one.verdict != "inconclusive" for one in found):
                return found
            wanted = next((look for look in LOOKS if look > number), OPENINGS)


def _opened(
    name: str,
    taken: Mapping[str, Sequence[Any]],
    own_clock: bool,
    policy: Policy,
    thresholds: Thresholds,
    alpha: float,
) -> Quantity:
    threshold = thresholds.load if name == "load" else thresholds.memory
    attribute = "memory_bytes" if name == "memory" else "load_thread_ns" if own_clock else "load_ns"
    sides = [[getattr(each, attribute) for each in taken[side]] for side in (BASELINE, CANDIDATE)]
    if any(value is None for side in sides for value in side):
        return _quantity(
            name, "inconclusive", math.nan, math.nan, None, threshold, alpha, "the system does not tell"
        )
    low, high = (np.asarray(side, np.float64) for side in sides)
    least = LEAST_MEMORY if name == "memory" else LEAST_LOAD_NS
    own = dataclasses.replace(policy, threshold=threshold, alpha=max(1e-6, alpha))
    one = judge_values(name, np.log(high / low), own, looks_up_to(OPENINGS))
    verdict, note = one.verdict, None
    shown = float(np.median(low)), float(np.median(high))
    if verdict in ("regressed", "improved", "inconclusive") and abs(shown[1] - shown[0]) < least:
        differences = judge_difference(high - low, least, own)
        if differences:
            verdict, note = "ok", "the difference is too small to matter"
        elif verdict != "inconclusive":
            verdict = "inconclusive"
    return _quantity(name, verdict, *shown, one, threshold, alpha, note)


def judge_difference(differences: Any, least: float, policy: Policy) -> bool:
    """Whether differences are proven to be smaller than ``least``, either way, at the policy's beta."""
    from edgeconv.latency import sequential

    low, high = sequential.bounds(differences, policy.beta, policy.beta, looks_up_to(OPENINGS))
    return bool(-least < low and high < least)


def _bytes(baseline: Side, candidate: Side, threshold: float) -> Quantity:
    """Sizes, which are known exactly."""
    low, high = baseline.bytes, candidate.bytes
    ratio = high / max(low, 1)
    verdict: Verdict = "ok"
    if ratio > 1 + threshold:
        verdict = "regressed"
    elif ratio < 1 / (1 + threshold):
        verdict = "improved"
    return Quantity(
        "bytes", verdict, low, high, ratio, ratio, ratio, threshold, 0.0, 1.0, threshold, 1, "exact"
    )


def _notes(baseline: Side, candidate: Side) -> list[str]:
    notes = []
    for label, side in ((BASELINE, baseline), (CANDIDATE, candidate)):
        placement = side.placement
        share = placement.get("share_of_ops") if placement else None
        if placement and share is not None and share < 1:
            elsewhere = ", ".join(map(str, list(placement.get("elsewhere") or ())[:6]))
            notes.append(
                f"{label}: {1 - share:.0%} of the ops ran outside {placement['asked']} ({elsewhere})"
            )
    if baseline.device.emulated:
        notes.append("the device is emulated: its times say nothing of a real board")
    return notes
