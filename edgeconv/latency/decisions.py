"""The verdict on a candidate beside its baseline, with the rates at which it errs.

With a threshold d (say 1 %) and log-ratios candidate / baseline:

- **regressed**: a channel is slower, by a test that calls equals different with a probability of at most
  alpha over all looks, channels and models together, and its estimate is at least d / 2;
- **improved**: the same the other way, and nothing regressed;
- **ok**: floor and typical are both *proven* within d: the interval that a change of d or more misses with
  a probability of at most beta lies inside (two one-sided tests; D. Schuirmann, "A comparison of the two
  one-sided tests procedure and the power approach" (1987)). A real change below d is ok too, and is said;
- **inconclusive**: neither; never an ok for want of samples.

So equals are called changed at most alpha of the time, a change of d or more is called ok at most beta of
the time, and between the two either answer is right. The tail can raise an alarm, by a threshold of its
own, but is not waited for: it needs many more samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from edgeconv.errors import UsageError
from edgeconv.latency import sequential
from edgeconv.latency.channels import CHANNELS, DECIDING, Launch, Series, against_itself, between, checked
from edgeconv.latency.multiplicity import holm
from edgeconv.latency.sequential import LOOKS, looks_up_to
from edgeconv.latency.signed_rank import Floats

WEIGHTS = {"typical": 0.7, "floor": 0.15, "tail": 0.15}
"""How alpha is shared between the channels of a candidate, those that it has.

Mostly one channel's: what shifts a launch shifts all channels, so with equal shares three channels would
alarm a third as often as stated, and find that much less.
"""
Verdict = Literal["regressed", "ok", "improved", "inconclusive"]
POWER = 0.9
"""The power that the smallest detectable effect is given for."""


@dataclass(frozen=True)
class Policy:
    """What is asked for, and how often the answer may be wrong.

    Attributes:
        threshold: the change that matters, as a fraction of the baseline's time; 0 asks for any change.
        tail_threshold: the same of the tail.
        alpha: the probability that equals are called regressed or improved.
        beta: the probability that a change of ``threshold`` or more is called ok.
        confidence: that of the intervals that are shown; it holds at every look.
        seconds: of measuring, at most.
        launches: at most; more than the last look are of no use.
    """

    threshold: float = 0.01
    tail_threshold: float = 0.10
    alpha: float = 0.002
    beta: float = 0.02
    confidence: float = 0.95
    seconds: float = 15.0
    launches: int = LOOKS[-1]

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            if not 1e-6 <= getattr(self, name) <= 0.5:
                raise UsageError(
                    f"{name} is {getattr(self, name)}", why="error rates are from 0.000001 to 0.5"
                )
        if not 0.5 <= self.confidence < 1:
            raise UsageError(f"a confidence of {self.confidence}", why="it is at least 0.5 and below 1")
        if min(self.threshold, self.tail_threshold) < 0 or not math.isfinite(self.threshold):
            raise UsageError(f"a threshold of {self.threshold}", hint="write it as a fraction: 0.05 for 5 %")
        if self.launches < LOOKS[0]:
            raise UsageError(f"{self.launches} launches", why=f"no verdict is possible below {LOOKS[0]}")


@dataclass(frozen=True)
class ChannelVerdict:
    """One channel of one comparison.

    Attributes:
        channel: ``floor``, ``typical`` or ``tail``.
        percentile: that of the tail as a fraction.
        verdict: of this channel by itself.
        ratio: candidate over baseline, the median over launches.
        low, high: the interval of ``Policy.confidence``; infinite ends where launches are too few.
        p_slower, p_faster: one-sided sequential p-values, not corrected for other channels.
        p_adjusted: two-sided, corrected for all channels and models that were judged together.
        values: how many launches, or groups of launches, it rests on.
        detectable: the slowdown (a fraction) that would have been found with the probability :data:`POWER`
            by as many launches; infinite where they are too few.
        power: the probability of finding a slowdown of the threshold with as many launches.
    """

    channel: str
    percentile: float | None
    verdict: Verdict
    ratio: float
    low: float
    high: float
    p_slower: float
    p_faster: float
    p_adjusted: float
    values: int
    detectable: float
    power: float


@dataclass(frozen=True)
class NoiseFloor:
    """The baseline against itself in the same launches.

    Attributes:
        channel: as above.
        ratio: the median over launches; 1 but for noise.
        low, high: its interval.
        differs: whether it is called different from itself, at the policy's alpha: then the launches are no
        fair comparison. copies: whether it is of two opened copies; else of the bursts of one.
    """

    channel: str
    ratio: float
    low: float
    high: float
    differs: bool
    copies: bool


@dataclass(frozen=True)
class Decision:
    """What is said of one candidate.

    Attributes:
        candidate, baseline: names of the models.
        verdict: of the whole.
        channels: those that could be judged, by name.
        noise: the baseline against itself, by channel.
        policy: the rates that hold for it.
        family: how many channels of all candidates were corrected for.
        launches: measured so far.
        planned_looks: how many looks the error was divided over.
        error_spent: for each of them, how much of alpha was spent up to it, at most.
        seconds: spent on measuring.
    """

    candidate: str
    baseline: str
    verdict: Verdict
    channels: Mapping[str, ChannelVerdict]
    noise: Mapping[str, NoiseFloor]
    policy: Policy
    family: int
    launches: int
    planned_looks: int
    error_spent: Sequence[float]
    seconds: float = math.nan


@dataclass(frozen=True)
class _Measured:
    series: Series
    planned: int
    p_slower: float
    p_faster: float

    @property
    def p_two_sided(self) -> float:
        return min(1.0, 2 * min(self.p_slower, self.p_faster))


def judge(
    launches: Sequence[Launch],
    baseline: str,
    candidates: Sequence[str],
    policy: Policy | None = None,
    *,
    planned_launches: int | None = None,
    control: str | None = None,
) -> list[Decision]:
    """Judge candidates beside a baseline, all measured together.

    Args:
        launches: in the order of measuring. Only those up to the last look count.
        baseline: a model of each launch.
        candidates: others; what is said of all of them together keeps the policy's rates.
        policy: the default if ``None``.
        planned_launches: how many were planned before the first, as far as is known; ``policy.launches`` if
            ``None``. It must not be chosen by what the samples say of the models' difference.
        control: a second copy of the baseline among the models, for the noise floor.

    Raises:
        UsageError: samples that cannot be judged.
    """
    policy = policy or Policy()
    checked(launches, {baseline, *candidates, *([control] if control else [])})
    planned = max(len(launches), min(planned_launches or policy.launches, policy.launches))
    measured: dict[tuple[str, str], _Measured] = {}
    for candidate in candidates:
        for channel, series in between(launches, baseline, candidate).items():
            looks = looks_up_to(planned // series.launches)
            if not looks and channel not in DECIDING:
                continue  # it can reach no verdict, and would cost the others precision
            looks = max(1, looks)
            measured[candidate, channel] = _Measured(
                series,
                looks,
                sequential.p_value(series.values, looks),
                sequential.p_value(-series.values, looks),
            )
    shares = _shares(measured)
    adjusted = holm({key: one.p_two_sided for key, one in measured.items()}, shares)
    noise = noise_floor(launches, baseline, policy, planned, control)
    looks = max(1, looks_up_to(planned))
    spent = _spent(measured, shares, policy.alpha, looks)
    decisions = []
    for candidate in candidates:
        channels = {
            channel: _channel(
                channel,
                measured[candidate, channel],
                adjusted[candidate, channel],
                policy,
                shares[candidate, channel],
            )
            for channel in CHANNELS
            if (candidate, channel) in measured and len(measured[candidate, channel].series.values)
        }
        decisions.append(
            Decision(
                candidate=candidate,
                baseline=baseline,
                verdict=overall(channels),
                channels=channels,
                noise=noise,
                policy=policy,
                family=len(measured),
                launches=len(launches),
                planned_looks=looks,
                error_spent=spent,
            )
        )
    return decisions


def judge_values(name: str, values: Floats, policy: Policy, planned: int) -> ChannelVerdict:
    """Judge log-ratios, one a launch, of something that has one channel (load time, memory).

    Args:
        name: of the channel.
        values: log-ratios candidate / baseline in the order of measuring, at least one.
        policy: all of its alpha is this one's.
        planned: how many looks were planned.
    """
    p_slower, p_faster = sequential.p_value(values, planned), sequential.p_value(-values, planned)
    one = _Measured(Series(values), planned, p_slower, p_faster)
    return _channel(name, one, one.p_two_sided, policy, 1.0)


def _shares(measured: Mapping[tuple[str, str], _Measured]) -> dict[tuple[str, str], float]:
    """The part of alpha that each channel of each candidate begins with; all together 1."""
    candidates = {candidate for candidate, _ in measured}
    whole = {name: sum(WEIGHTS[channel] for of, channel in measured if of == name) for name in candidates}
    return {key: WEIGHTS[key[1]] / whole[key[0]] / len(candidates) for key in measured}


def _spent(
    measured: Mapping[tuple[str, str], _Measured],
    shares: Mapping[tuple[str, str], float],
    alpha: float,
    looks: int,
) -> list[float]:
    """For each look, how much of alpha all channels and directions have spent up to it, at most."""
    total = np.zeros(looks)
    for key, one in measured.items():
        own = [0.0, *sequential.spending(alpha / 2 * shares[key], one.planned)]
        for look in range(looks):
            done = looks_up_to(LOOKS[look] // one.series.launches)
            total[look] += 2 * own[min(done, one.planned)]
    return [float(share) for share in total]


def overall(channels: Mapping[str, ChannelVerdict]) -> Verdict:
    """One verdict of all channels: an alarm anywhere; else what the deciding channels say together."""
    if any(one.verdict == "regressed" for one in channels.values()):
        return "regressed"
    said = {channels[channel].verdict for channel in DECIDING if channel in channels}
    if "improved" in said:
        return "improved"
    return "ok" if said == {"ok"} else "inconclusive"


def _channel(channel: str, one: _Measured, adjusted: float, policy: Policy, share: float) -> ChannelVerdict:
    threshold = math.log1p(policy.tail_threshold if channel == "tail" else policy.threshold)
    values = one.series.values
    used = values[: LOOKS[max(0, min(looks_up_to(len(values)), one.planned) - 1)]]
    estimate = float(np.median(used))
    shown = (1 - policy.confidence) / 2
    low, high = sequential.bounds(values, shown, shown, one.planned)
    inner_low, inner_high = sequential.bounds(values, policy.beta, policy.beta, one.planned)
    verdict: Verdict = "inconclusive"
    if -threshold < inner_low and inner_high < threshold:
        verdict = "ok"
    elif adjusted <= policy.alpha and abs(estimate) >= threshold / 2:
        verdict = "regressed" if estimate > 0 else "improved"
    level = policy.alpha / 2 * share
    return ChannelVerdict(
        channel=channel,
        percentile=one.series.percentile,
        verdict=verdict,
        ratio=math.exp(estimate),
        low=math.exp(low),
        high=math.exp(high),
        p_slower=one.p_slower,
        p_faster=one.p_faster,
        p_adjusted=adjusted,
        values=len(values),
        detectable=math.expm1(detectable(values, level, one.planned, POWER)),
        power=power(values, level, one.planned, threshold),
    )


def _reach(values: Floats, level: float, planned: int) -> tuple[float, float]:
    """Half the width of the interval at the last look, and the standard error that it stands for."""
    look = min(looks_up_to(len(values)), planned) - 1
    low, high = sequential.bounds(values, level, level, planned)
    if not math.isfinite(high - low):
        return math.inf, math.inf
    half = (high - low) / 2
    nominal = sequential.nominal_level(level, look, planned)
    return half, half / NormalDist().inv_cdf(1 - nominal)


def detectable(values: Floats, level: float, planned: int, chance: float) -> float:
    """The shift of a log-ratio that the launches would show with a probability of ``chance``.

    A shift is shown when the interval around it leaves zero out, so it has to be half the interval's width
    and as many standard errors more as the chance asks for. The error is taken from the width;
    ``tests/latency/test_decisions.py`` holds the result to simulation.
    """
    half, error = _reach(values, level, planned)
    return half + NormalDist().inv_cdf(chance) * error if math.isfinite(half) else math.inf


def power(values: Floats, level: float, planned: int, shift: float) -> float:
    """The probability that the launches would show a shift of a log-ratio at their last look."""
    half, error = _reach(values, level, planned)
    if not math.isfinite(half):
        return 0.0
    if error == 0:
        return float(shift > half)
    return NormalDist().cdf((shift - half) / error)


def noise_floor(
    launches: Sequence[Launch], baseline: str, policy: Policy, planned: int, control: str | None = None
) -> dict[str, NoiseFloor]:
    """The baseline against itself in the same launches, by channel."""
    series = between(launches, baseline, control) if control else against_itself(launches, baseline)
    found = {}
    shown = (1 - policy.confidence) / 2
    p_values = {}
    for channel, one in series.items():
        if not len(one.values):
            continue
        looks = max(1, looks_up_to(planned // one.launches))
        low, high = sequential.bounds(one.values, shown, shown, looks)
        found[channel] = (math.exp(float(np.median(one.values))), math.exp(low), math.exp(high))
        p_values[channel] = min(
            1.0, 2 * min(sequential.p_value(side * one.values, looks) for side in (1.0, -1.0))
        )
    adjusted = holm(p_values)
    return {
        channel: NoiseFloor(
            channel, *numbers, differs=adjusted[channel] <= policy.alpha, copies=control is not None
        )
        for channel, numbers in found.items()
    }
