"""What many decisions say of the rule that made them: rates and intervals, calibration, other rules."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgeconv.latency.channels import Launch
from edgeconv.latency.decisions import Policy, judge
from edgeconv.latency.rules_of_others import RULES, one_after_the_other, together
from edgeconv.latency.sources import BASELINE, CANDIDATE

CUT = 24
"""Launches of a run, where launches are cut anew."""
LEVELS = (0.01, 0.05, 0.10)
CHANCE = 0.01
"""The probability at which wrong decisions are taken to be more than the stated rate explains."""
ARRANGEMENTS = {"measured together": together, "baseline first, then candidate": one_after_the_other}


@dataclass(frozen=True)
class Trial:
    """One decision whose truth is known.

    Attributes:
        model: what was measured, with the size of a sample.
        effect: work injected, in percent of the baseline's.
        true: the ratio of the work.
        loops: busy loops that were toggled beside it.
        verdict, seconds: of the decision.
        low, high: its 95 % interval of the typical channel.
        detectable: the slowdown that as many launches would have shown, a fraction; infinite where none.
        launches: raw samples under the names ``baseline`` and ``candidate``; one or more.
        load: the load average of the machine at the end.
    """

    model: str
    effect: float
    true: float
    loops: int
    verdict: str
    seconds: float
    low: float
    high: float
    detectable: float
    launches: Sequence[Launch]
    load: float


@dataclass(frozen=True)
class Rate:
    """``hits`` of ``of``, with the exact 95 % interval of the rate."""

    hits: int
    of: int
    low: float
    high: float


def rate(hits: int, of: int, confidence: float = 0.95) -> Rate:
    """The rate and its interval.

    Source: C. Clopper, E. Pearson, "The use of confidence or fiducial limits illustrated in the case of the
    binomial" (1934). At no hit, or none missed, the whole error is on the one side that is left.
    """
    from scipy.stats import beta

    if not of:
        return Rate(0, 0, 0.0, 1.0)
    error = (1 - confidence) / (1 if hits in (0, of) else 2)
    low = float(beta.ppf(error, hits, of - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - error, hits + 1, of - hits)) if hits < of else 1.0
    return Rate(hits, of, low, high)


@dataclass(frozen=True)
class Cell:
    """Decisions of one model, effect and load.

    Attributes:
        verdicts: how often which.
        right: ``ok`` for equals, else ``regressed``.
        wrong: a change called of equals; of an effect, ``improved``, or ``ok`` from the threshold on.
        seconds: median, 95th percentile, most.
        covered: intervals that have the true ratio.
        detectable: median over decisions.
    """

    model: str
    effect: float
    loops: int
    decisions: int
    verdicts: Mapping[str, int]
    right: Rate
    right_within_5_s: int
    wrong: int
    seconds: tuple[float, float, float]
    covered: int
    detectable: float


@dataclass(frozen=True)
class Summary:
    """What trials say together.

    Attributes:
        cells: by model, load and effect.
        false_alarms: equals that were called regressed or improved.
        found: by effect those called regressed; the same within 5 s.
        ok: equals that were called ok.
        covered: 95 % intervals that have the true ratio.
        calibration: by level, runs of :data:`CUT` launches of equals that were called different at it.
        others: by arrangement, rule and effect, decisions that were called slower. edgeconv among them.
        loads: least and most load average.
    """

    cells: Sequence[Cell]
    false_alarms: Rate
    found: Mapping[float, Rate]
    found_within_5_s: Mapping[float, Rate]
    ok: Rate
    covered: Rate
    calibration: Mapping[float, Rate]
    others: Mapping[str, Mapping[str, Mapping[float, Rate]]] = field(default_factory=dict)
    loads: tuple[float, float] = (0.0, 0.0)


def summary(trials: Sequence[Trial], threshold: float, most_for_others: int = 60) -> Summary:
    """All of it; other tools' rules on at most so many trials of each effect, the first of them."""
    groups: dict[tuple[str, int, float], list[Trial]] = defaultdict(list)
    by_effect: dict[float, list[Trial]] = defaultdict(list)
    for one in trials:
        groups[one.model, one.loops, one.effect].append(one)
        by_effect[one.effect].append(one)
    equals, effects = by_effect.get(0.0, []), sorted(set(by_effect) - {0.0})
    alarms = sum(one.verdict in ("regressed", "improved") for one in equals)
    loads = [one.load for one in trials] or [0.0]
    return Summary(
        cells=[_cell(key, group, threshold) for key, group in sorted(groups.items())],
        false_alarms=rate(alarms, len(equals)),
        found={effect: _found(by_effect[effect], np.inf) for effect in effects},
        found_within_5_s={effect: _found(by_effect[effect], 5.0) for effect in effects},
        ok=rate(sum(one.verdict == "ok" for one in equals), len(equals)),
        covered=rate(sum(one.low <= one.true <= one.high for one in trials), len(trials)),
        calibration=_calibration(groups),
        others=_others({effect: group[:most_for_others] for effect, group in sorted(by_effect.items())}),
        loads=(min(loads), max(loads)),
    )


def more_often_than_stated(cells: Sequence[Cell], policy: Policy) -> dict[str, tuple[int, int, float]]:
    """Which of the rates that a policy states the wrong decisions contradict, and not by chance.

    Args:
        cells: of all decisions.
        policy: theirs.

    Returns:
        What was done wrongly to how often, of how many, and the rate that is stated: what so many wrong
        decisions or more have a probability below :data:`CHANCE` at (binomial).
    """
    from scipy.stats import binom

    claims = {
        "equals called changed": ([cell for cell in cells if not cell.effect], policy.alpha),
        "changes called ok or improved": (
            [cell for cell in cells if cell.effect],
            policy.alpha + policy.beta,
        ),
    }
    found = {}
    for what, (judged, stated) in claims.items():
        wrong, of = sum(cell.wrong for cell in judged), sum(cell.decisions for cell in judged)
        if wrong and binom.sf(wrong - 1, of, stated) < CHANCE:
            found[what] = (wrong, of, stated)
    return found


def _found(trials: Sequence[Trial], within: float) -> Rate:
    return rate(sum(one.verdict == "regressed" and one.seconds <= within for one in trials), len(trials))


def _cell(key: tuple[str, int, float], group: Sequence[Trial], threshold: float) -> Cell:
    model, loops, effect = key
    wanted = "regressed" if effect else "ok"
    seconds = [one.seconds for one in group]
    wrong = {"regressed", "improved"} if not effect else {"improved"}
    if effect / 100 >= threshold and effect:
        wrong.add("ok")
    return Cell(
        model=model,
        effect=effect,
        loops=loops,
        decisions=len(group),
        verdicts=dict(Counter(one.verdict for one in group)),
        right=rate(sum(one.verdict == wanted for one in group), len(group)),
        right_within_5_s=sum(one.verdict == wanted and one.seconds <= 5 for one in group),
        wrong=sum(one.verdict in wrong for one in group),
        seconds=(float(np.median(seconds)), float(np.quantile(seconds, 0.95)), max(seconds)),
        covered=sum(one.low <= one.true <= one.high for one in group),
        detectable=float(np.median([one.detectable for one in group])),
    )


def cut(trials: Iterable[Trial]) -> Iterator[list[Launch]]:
    """The launches of trials in order, cut into runs of :data:`CUT` of one shape."""
    held: list[Launch] = []
    for one in trials:
        if held and held[0][BASELINE].shape != one.launches[0][BASELINE].shape:
            held = []
        held += one.launches
        while len(held) >= CUT:
            yield held[:CUT]
            held = held[CUT:]


def _calibration(groups: Mapping[tuple[str, int, float], Sequence[Trial]]) -> dict[float, Rate]:
    """When decisions stopped had to do with what they saw; runs cut anew are all of the same length."""
    p_values = []
    for (_, _, effect), group in sorted(groups.items()):
        if not effect:
            for launches in cut(group):
                (decision,) = judge(launches, BASELINE, [CANDIDATE], planned_launches=CUT)
                p_values.append(min(one.p_adjusted for one in decision.channels.values()))
    return {level: rate(sum(p <= level for p in p_values), len(p_values)) for level in LEVELS}


def _others(by_effect: Mapping[float, Sequence[Trial]]) -> dict[str, dict[str, dict[float, Rate]]]:
    found: dict[str, dict[str, dict[float, Rate]]] = {}
    for title, arranged in ARRANGEMENTS.items():
        sides = {
            effect: [arranged(one.launches, BASELINE, CANDIDATE) for one in group]
            for effect, group in by_effect.items()
        }
        found[title] = {
            name: {
                effect: rate(sum(rule(*each) for each in group), len(group))
                for effect, group in sides.items()
            }
            for name, rule in RULES.items()
        }
        found[title]["edgeconv"] = {effect: _found(group, np.inf) for effect, group in by_effect.items()}
    return found
