"""Launch after launch until the verdict stands or the time is spent."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

from edgeconv.latency.channels import Launch
from edgeconv.latency.decisions import Decision, Policy, judge
from edgeconv.latency.sequential import LOOKS, next_look

Source = Callable[[int], Launch]
"""Makes launch n (from 0): a fresh process that opens the models in an order that is drawn, and measures."""

_ROOM = 1.5
_FIRST = 3


def run(
    source: Source,
    baseline: str,
    candidates: Sequence[str],
    policy: Policy | None = None,
    *,
    control: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[list[Decision], list[Launch]]:
    """Measure until every candidate has a verdict, or the policy's seconds or launches are spent.

    How many looks share the error is fixed after the first three launches from the time they took, with
    half as much room again: the time has no part in the statistic. A verdict, once reached, stays; the
    other candidates go on.

    Args:
        source: makes the launches; what it raises ends the run.
        baseline: a model of each launch.
        candidates: others.
        policy: the default if ``None``.
        control: a second copy of the baseline, for the noise floor.
        clock: seconds.

    Returns:
        A decision a candidate, in order, and the raw samples of all launches.
    """
    policy = policy or Policy()
    begun, launches = clock(), list[Launch]()
    settled: dict[str, Decision] = {}
    planned, wanted = policy.launches, LOOKS[0]

    def look() -> list[Decision]:
        spent = clock() - begun
        found = judge(launches, baseline, candidates, policy, planned_launches=planned, control=control)
        for decision in found:
            if decision.verdict != "inconclusive":
                settled.setdefault(decision.candidate, dataclasses.replace(decision, seconds=spent))
        return [settled.get(one.candidate, dataclasses.replace(one, seconds=spent)) for one in found]

    while True:
        launches.append(source(len(launches)))
        elapsed = clock() - begun
        if len(launches) == _FIRST:
            expected = int(_ROOM * policy.seconds / max(elapsed / _FIRST, 1e-9))
            planned = max(LOOKS[0], min(policy.launches, expected))
        if len(launches) >= wanted:
            decisions = look()
            following = next_look(len(launches))
            if len(settled) == len(candidates) or following is None or following > planned:
                return decisions, launches
            wanted = following
        if elapsed + elapsed / len(launches) > policy.seconds or len(launches) >= policy.launches:
            return look(), launches
