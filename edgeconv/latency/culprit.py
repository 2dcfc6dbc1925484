"""What of the graph slowed down: the time of its ops, or of its parts, in both, side by side over launches.

Where the runtimes have a profiler each launch gives the time of every op. An op is the same in both where its
name and type are, else it counts with its type. Where they have none the graph is cut after tensors that both
have, and the beginnings are measured beside each other: what lies between two cuts is a part. Differences
are of launches, with the interval of their median; one whose interval has zero in it is not named.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeconv.latency.channels import kept
from edgeconv.latency.percentiles import median_interval
from edgeconv.latency.regress import Comparison
from edgeconv.latency.signed_rank import Floats
from edgeconv.latency.sources import Side, Way

LAUNCHES = 12
"""Of profiles, or of parts: the interval of a median needs six."""
RUNS = 20
_MOST_SECONDS = 0.05
"""Inferences that are profiled in a launch take about so long, and are at least two."""
_MOST_PARTS = 5
_LONG = 60
"""Characters of a name that are shown."""
_SMALL = 0.1
"""Parts that changed by less than this share of the greatest change are not named."""
_MATCHED = 0.5
"""At least so much of the time has to be in ops that both have, or ops are matched by their types alone."""


@dataclass(frozen=True)
class Part:
    """An op, a type of op, or a part of the graph that changed.

    Attributes:
        what: its name.
        kind: how it was found and what it is.
        difference_ns: candidate less baseline, the median over launches.
        low_ns, high_ns: its interval, 95 %.
        baseline_ns, candidate_ns: medians; 0 where it is not in one.
    """

    what: str
    kind: str
    difference_ns: float
    low_ns: float
    high_ns: float
    baseline_ns: float
    candidate_ns: float


@dataclass(frozen=True)
class Culprit:
    """What came of the search.

    Attributes:
        parts: slower ones first, by how much; those whose interval leaves zero out and that are not small.
        ops: types of ops that one has more of.
        changes: what is different in how both were made or run.
        notes: how it was found.
    """

    parts: tuple[Part, ...]
    ops: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cut:
    """The beginnings of both up to a tensor that both have."""

    after: str
    baseline: Side
    candidate: Side


def by_profile(way: Way, found: Comparison) -> tuple[tuple[Part, ...], str] | None:
    """Ops by the runtimes' own profilers; ``None`` where they tell no times.

    Returns:
        What changed, and a sentence on how that is known.
    """
    seconds = found.quantities[0].baseline / 1e9
    runs = max(2, min(RUNS, int(_MOST_SECONDS / max(seconds, 1e-9))))
    seed = random.SystemRandom().randrange(1 << 40)
    taken: list[tuple[dict[tuple[str, str], float], dict[tuple[str, str], float]]] = []
    how = ""
    for number in range(LAUNCHES):
        told = way.profiled((found.baseline, found.candidate), runs, seed + number)
        sides = [_times(one) for one in told]
        if sides[0] is None or sides[1] is None:
            return None
        how = str((told[0] or {}).get("how"))
        taken.append((sides[0], sides[1]))
    parts = matched(taken)
    return parts, f"by {how}, {LAUNCHES} launches of {runs} inferences each"


def matched(
    taken: Sequence[tuple[Mapping[tuple[str, str], float], Mapping[tuple[str, str], float]]],
) -> tuple[Part, ...]:
    """What changed, from profiles of launches: of each side (op, name) to nanoseconds."""
    shared = {key for key in taken[0][0] if key in taken[0][1]}
    total = sum(taken[0][0].values())
    named = bool(total) and sum(taken[0][0][key] for key in shared) >= _MATCHED * total
    if named:
        rows = [(dict(before), dict(now)) for before, now in taken]
    else:
        rows = [(_by_type(before), _by_type(now)) for before, now in taken]
    keys = {key for before, now in rows for key in (*before, *now)}
    parts = []
    for key in keys:
        before, now = (np.array([row[side].get(key, 0.0) for row in rows]) for side in (0, 1))
        what = f"{key[0]} '{_short(key[1])}'" if key[1] else f"all {key[0]}"
        kind = "new" if not before.any() else "gone" if not now.any() else "in both"
        part = _part(what, f"op, {kind}" if named else f"type of op, {kind}", before, now)
        if part is not None:
            parts.append(part)
    return _ranked(parts)


def by_parts(way: Way, found: Comparison, cuts: Sequence[Cut], end: str) -> tuple[tuple[Part, ...], str]:
    """Parts of the graph, from beginnings of both that are measured beside each other.

    Args:
        way: how launches are made.
        found: the pair.
        cuts: in the order of the graph.
        end: what the whole model is called.

    Returns:
        What changed, and a sentence on how that is known.
    """
    cuts = [*cuts, Cut(end, found.baseline, found.candidate)]
    sides = {}
    for number, cut in enumerate(cuts):
        sides[f"baseline {number}"], sides[f"candidate {number}"] = cut.baseline, cut.candidate
    seed = random.SystemRandom().randrange(1 << 40)
    times: list[list[tuple[float, float]]] = []
    for number in range(LAUNCHES):
        (launch,) = way.launches(sides, found.plan, [seed + number])
        level = {name: float(np.median(kept(samples))) for name, samples in launch.items()}
        times.append(
            [(level[f"baseline {place}"], level[f"candidate {place}"]) for place in range(len(cuts))]
        )
    levels = np.array(times)  # (launches, cuts, sides)
    spans = np.diff(levels, axis=1, prepend=0.0)
    parts = []
    for place, cut in enumerate(cuts):
        start = _short(cuts[place - 1].after) if place else "the inputs"
        what = f"from {start} to {_short(cut.after)}"
        part = _part(what, "part of the graph", spans[:, place, 0], spans[:, place, 1])
        if part is not None:
            parts.append(part)
    said = (
        f"the runtime has no profiler: the graph was cut after {len(cuts) - 1} tensors that both have, and "
        f"the beginnings measured beside each other in {LAUNCHES} launches"
    )
    return _ranked(parts), said


def spread(names: Sequence[str], most: int = _MOST_PARTS) -> list[str]:
    """At most so many of some names, at even distances, neither the first nor the last of them alone."""
    if len(names) <= most:
        return list(names)
    return [names[round((place + 1) * len(names) / (most + 1)) - 1] for place in range(most)]


def _short(name: str) -> str:
    """The first of the names that a fused op has, without the folders that it lies in where it is long."""
    first, more, _ = name.partition(";")
    shown = first if len(first) <= _LONG else f"…{first[-_LONG:]}"
    return f"{shown};…" if more else shown


def _times(told: Mapping[str, Any] | None) -> dict[tuple[str, str], float] | None:
    nodes = (told or {}).get("nodes") or []
    found: dict[tuple[str, str], float] = {}
    for node in nodes:
        if not node.get("ns"):
            return None
        key = (str(node["op"]), str(node["name"]))
        found[key] = found.get(key, 0.0) + float(np.mean(node["ns"]))
    return found or None


def _by_type(times: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for (op, _), nanoseconds in times.items():
        found[op, ""] = found.get((op, ""), 0.0) + nanoseconds
    return found


def _ranked(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The slower ones first, without those that are small beside the greatest."""
    greatest = max((abs(part.difference_ns) for part in parts), default=0.0)
    large = [part for part in parts if abs(part.difference_ns) >= _SMALL * greatest]
    return tuple(sorted(large, key=lambda part: -part.difference_ns))


def _part(what: str, kind: str, before: Floats, now: Floats) -> Part | None:
    """A part with its interval; ``None`` where that has zero in it."""
    middle, low, high = median_interval(now - before)
    if low <= 0 <= high:
        return None
    return Part(what, kind, middle, low, high, float(np.median(before)), float(np.median(now)))
