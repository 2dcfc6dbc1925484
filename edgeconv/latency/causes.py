"""What two measurements of one run say of each other in plain words: "int8 is not faster here", and why.

A cause is only named where something shows it: the processor's features, where the ops ran, kinds of ops in
the file, or the time of each op.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeconv.latency.profile import Profiled
from edgeconv.latency.records import Measurement
from edgeconv.latency.summary import ratio

_FULL = ("fp32", None)
_CONVERTING = {
    "QUANTIZE",
    "DEQUANTIZE",
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "Cast",
    "CAST",
}
_INT8_FEATURES = {
    "x86_64": ("avx512-vnni", "avx-vnni", "amx-int8"),
    "aarch64": ("dotprod", "i8mm"),
    "armv7l": ("dotprod",),
}
"""What makes eight-bit products several times as quick as those of 32 bits, by the words of targets."""
_FP16_FEATURES = {"x86_64": ("avx512-fp16",), "aarch64": ("fp16",), "armv7l": ("fp16",)}
_SMALL_NS = 50_000
_MUCH = 0.10


def reference_of(measurement: Measurement, others: tuple[Measurement, ...]) -> Measurement | None:
    """What a measurement is compared with: the first of full precision of its device and threads, one of the
    same model before others, or the same artifact with fewer threads; ``None`` for those that are compared
    with."""
    same = [other for other in others if other.device.name == measurement.device.name]
    beside = [other for other in same if other.setting.threads == measurement.setting.threads]
    if not beside or not same:
        return None
    full = [other for other in beside if other.artifact.precision in _FULL]
    first = (full or beside)[0]
    own = next((other for other in full if _model(other) == _model(measurement)), measurement)
    if own is not measurement:
        first = own
    if first.artifact.sha256 != measurement.artifact.sha256:
        return first
    fewer = next(other for other in same if other.artifact.sha256 == measurement.artifact.sha256)
    return None if fewer is measurement else fewer


def said(
    of: Measurement,
    to: Measurement,
    ops: Mapping[str, int],
    profiled: Profiled | None = None,
) -> list[str]:
    """Sentences on how one does beside the other, the first the finding, the rest its causes."""
    found = ratio(of, to)
    if found is None:
        return []
    threads = of.setting.threads != to.setting.threads
    name = f"{of.setting.threads} threads" if threads else _name(of, to)
    other = f"{to.setting.threads}" if threads else _name(to, of)
    interval = (
        f" ({found.low:.2f} to {found.high:.2f})" if found.low is not None and found.high is not None else ""
    )
    if found.verdict == "faster":
        return [f"{name} is faster than {other}: {found.ratio:.2f} of its time{interval}"]
    if not interval:
        few = "launches are too few to tell it from chance"
        return [f"{name} takes {found.ratio:.2f} of the time of {other}; {few}"]
    slower = ", but slower" if found.verdict == "slower" else ""
    line = f"{name} is not faster here{slower}: {found.ratio:.2f} of the time of {other}{interval}"
    if threads:
        return [line, *_thread_causes(of)]
    if of.artifact.precision in _FULL:
        return [line]
    return [line, *_causes(of, to, ops, profiled)]


def _name(one: Measurement, other: Measurement) -> str:
    """What tells the two apart."""
    a, b = one.artifact, other.artifact
    of_one_model = a.format == b.format and _model(one) == _model(other)
    if of_one_model and a.precision != b.precision and a.precision is not None:
        return a.precision
    return Path(a.path).name


def _model(of: Measurement) -> str:
    """``digits`` of ``digits.int8.tflite``, as ``edgeconv convert`` names what it makes."""
    return Path(of.artifact.path).name.split(".", 1)[0]


def _causes(of: Measurement, to: Measurement, ops: Mapping[str, int], profiled: Profiled | None) -> list[str]:
    causes = []
    precision = of.artifact.precision or ""
    for word, features in (("int8", _INT8_FEATURES), ("fp16", _FP16_FEATURES)):
        lacking = _lacking(of.device.facts, features)
        if word in precision and lacking:
            causes.append(f"this processor has none of {', '.join(lacking)}, which make {word} fast")
    if precision == "fp16" and of.artifact.format == "tflite":
        causes.append("fp16 weights are made fp32 when they are loaded; what it saves is the file's size")
    place = of.setting.placement
    if place is not None and place.get("elsewhere"):
        ran = place.get("ran") or {}
        total = sum(ran.values())
        elsewhere = total - ran.get(place.get("asked"), 0)
        kinds = ", ".join(list(place["elsewhere"])[:4])
        causes.append(f"{elsewhere} of its {total} ops are not run by {place.get('asked')}: {kinds}")
    converting = {kind: count for kind, count in ops.items() if kind in _CONVERTING}
    total_ops = sum(ops.values())
    if profiled is not None and profiled.ops:
        whole = sum(op.ns for op in profiled.ops) or 1.0
        spent = sum(ns for kind, ns, _ in profiled.by_kind() if kind in _CONVERTING) / whole
        if spent > _MUCH:
            causes.append(f"{spent:.0%} of its time only converts between types")
        if profiled.outside is not None and profiled.outside > _MUCH:
            causes.append(f"{profiled.outside:.0%} of its time is outside {profiled.asked}")
        kind, slowest, count = profiled.by_kind()[0]
        causes.append(f"most of its time, {slowest / whole:.0%}, is {kind} ({count} ops)")
    elif converting and sum(converting.values()) > _MUCH * total_ops:
        kinds = ", ".join(sorted(converting))
        causes.append(
            f"{sum(converting.values())} of its {total_ops} ops only convert between types: {kinds}"
        )
    floor = min(float(launch.samples.min()) for launch in to.trusted)
    if floor < _SMALL_NS:
        causes.append(
            f"the model takes only {floor / 1e3:.1f} µs, much of it calls and not arithmetic, which is what"
            " becomes cheaper"
        )
    if profiled is None:
        causes.append("where its time goes: --profile")
    return causes


def _thread_causes(of: Measurement) -> list[str]:
    cores = of.device.facts.get("usable_cores")
    if isinstance(cores, int) and of.setting.threads > cores:
        return [f"there are {cores} cores"]
    return []


def _lacking(facts: Mapping[str, Any], by_machine: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Features that would help and are not there; empty where one is, or nothing is known."""
    wanted = by_machine.get(str(facts.get("machine")), ())
    has = (facts.get("processor") or {}).get("features")
    if not wanted or not has or any(feature in has for feature in wanted):
        return ()
    return wanted
