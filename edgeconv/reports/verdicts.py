"""What is said of regression verdicts, in words and as plain values: shared by all their reports."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from edgeconv.latency.regress import Comparison, Quantity
from edgeconv.latency.sequential import looks_up_to
from edgeconv.reports.amounts import show_size, show_time

NAMES = {"latency": "latency", "load": "load time", "memory": "memory", "bytes": "size"}


def amount(name: str, value: float) -> str:
    """An absolute number of a quantity with its unit: ``52.7 µs``, ``1.31 MB``."""
    return show_size(value) if name in ("memory", "bytes") else show_time(value)


def change(ratio: float, digits: int = 2) -> str:
    """A ratio as a change: ``+2.31 %``; ``?`` where it is not known or not finite."""
    return f"{100 * (ratio - 1):+.{digits}f} %" if math.isfinite(ratio) else "?"


def interval(low: float, high: float) -> str:
    """An interval of ratios as changes: ``+1.9 … +2.7 %``; open ends as such."""
    ends = [f"{100 * (end - 1):+.2f}" if math.isfinite(end) and end > 0 else "open" for end in (low, high)]
    return f"{ends[0]} … {ends[1]} %"


def share(value: float, digits: int = 2) -> str:
    """A probability or threshold in percent, without trailing zeros: ``0.2 %``."""
    if not math.isfinite(value):
        return "?"
    text = f"{100 * value:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def place(one: Comparison) -> str:
    """Where and how both were run: ``litert 2.3.0 on local, in one process``."""
    before, now = one.baseline, one.candidate
    runtimes = f"{before.runtime.name} {before.runtime.version}"
    if before.runtime != now.runtime:
        runtimes += f" against {now.runtime.name} {now.runtime.version}"
    threads = f", {before.threads} threads" if before.threads != 1 else ""
    accelerator = f", {before.accelerator}" if before.accelerator else ""
    how = "alternating in one process" if one.way == "one process" else "in lockstep, a process each"
    return f"{runtimes} on {before.device.name}{threads}{accelerator}; {how}"


def clock(one: Comparison) -> str:
    """What the samples are times of."""
    return "processor time of the measuring thread" if one.plan.processor_time else "wall clock"


def sentences(one: Comparison) -> list[str]:
    """The rates that hold for a pair, and what could have been seen."""
    decision, policy = one.decision, one.decision.policy
    alpha = sum(quantity.alpha for quantity in one.quantities)
    spent = decision.error_spent[_looks_done(one) - 1] if decision.error_spent else 0.0
    rates = (
        f"Equals are called changed with a probability of at most {share(alpha, 3)}, over all looks, "
        f"channels and quantities of this pair; a latency changed by {share(policy.threshold)} or more is "
        f"called ok with at most {share(policy.beta)}."
    )
    made = (
        f"{decision.launches} launches of both and {len(one.copies)} of the baseline twice, {clock(one)}; "
        f"{decision.seconds:.1f} s of measuring the latency, {one.seconds:.1f} s with everything. Looked at "
        f"{_looks_done(one)} times of {decision.planned_looks} planned, {share(spent, 3)} of error spent."
    )
    lines = [rates, made]
    noise = decision.noise.get("typical")
    typical = decision.channels.get("typical")
    if noise is not None:
        spread = interval(noise.low, noise.high)
        lines.append(f"Noise floor, the baseline against itself: {change(noise.ratio)} ({spread}).")
    if typical is not None and math.isfinite(typical.detectable):
        lines.append(
            f"Smallest slowdown that so many launches show nine times of ten: "
            f"{change(1 + typical.detectable)}; one of {share(policy.threshold)} is shown with a power of "
            f"{share(typical.power, 0)}."
        )
    return lines


def _looks_done(one: Comparison) -> int:
    return max(1, min(looks_up_to(one.decision.launches), one.decision.planned_looks))


def why(one: Comparison) -> str:
    """The verdict of a pair in one sentence."""
    regressed = [each for each in one.quantities if each.verdict == "regressed"]
    latency = one.quantities[0]
    if regressed:
        return "; ".join(f"{NAMES[each.name]} {_shift(each, one)}" for each in regressed)
    if one.verdict == "improved":
        better = [each for each in one.quantities if each.verdict == "improved"]
        return "; ".join(f"{NAMES[each.name]} {_shift(each, one)}" for each in better)
    if one.verdict == "ok":
        return (
            f"latency is within ±{share(latency.threshold)}: {change(latency.ratio)} "
            f"({interval(latency.low, latency.high)})"
        )
    if one.decision.launches < 8:
        return f"only {one.decision.launches} launches in the time given, too few; give more with --seconds"
    return (
        f"latency {change(latency.ratio)} ({interval(latency.low, latency.high)}) is neither proven within "
        f"±{share(latency.threshold)} nor proven changed; give more time with --seconds"
    )


def _shift(each: Quantity, one: Comparison) -> str:
    if each.name == "latency":
        alarmed = [
            (name, channel)
            for name, channel in one.decision.channels.items()
            if channel.verdict == one.decision.verdict
        ]
        if alarmed and "typical" not in dict(alarmed):
            name, channel = alarmed[0]
            label = f"p{100 * channel.percentile:g}" if channel.percentile else name
            return f"({label}) {change(channel.ratio)} ({interval(channel.low, channel.high)})"
    if each.alpha == 0:
        return change(each.ratio)
    return f"{change(each.ratio)} ({interval(each.low, each.high)})"


def as_document(one: Comparison) -> dict[str, Any]:
    """A pair as JSON values, without the raw samples."""
    decision = dataclasses.asdict(one.decision)
    return {
        "name": one.name,
        "verdict": one.verdict,
        "why": why(one),
        "baseline": _side(one.baseline),
        "candidate": _side(one.candidate),
        "quantities": [dataclasses.asdict(each) for each in one.quantities],
        "latency": {key: value for key, value in decision.items() if key not in ("baseline", "candidate")},
        "way": one.way,
        "plan": dataclasses.asdict(one.plan),
        "seconds": one.seconds,
        "equal_launches": len(one.copies),
        "notes": list(one.notes),
        "culprit": None if one.culprit is None else dataclasses.asdict(one.culprit),
    }


def _side(side: Any) -> Mapping[str, Any]:
    return {
        "path": str(side.path),
        "format": side.format,
        "bytes": side.bytes,
        "device": side.device.name,
        "emulated": side.device.emulated,
        "runtime": side.runtime.name,
        "version": side.runtime.version,
        "threads": side.threads,
        "accelerator": side.accelerator,
        "placement": side.placement,
    }


def culprit_lines(one: Comparison) -> Sequence[str]:
    """The culprit of a pair in words, none where none was looked for."""
    found = one.culprit
    if found is None:
        return ()
    lines = []
    for part in found.parts[:5]:
        moved = f"{part.difference_ns / 1e3:+.1f} µs ({part.low_ns / 1e3:+.1f} … {part.high_ns / 1e3:+.1f})"
        lines.append(f"{part.what}: {moved}, {part.kind}")
    lines += [f"ops: {text}" for text in found.ops]
    lines += [f"changed: {text}" for text in found.changes]
    lines += list(found.notes)
    return lines or ("nothing stands out: the difference is spread over the whole graph",)
