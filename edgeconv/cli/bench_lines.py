"""How measurements look on a terminal and in JSON."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeconv.cli.options import plain
from edgeconv.cli.tables import console_for_tables, plain_text, print_wrapped, show_bytes, table_with
from edgeconv.latency import causes
from edgeconv.latency.records import Measurement
from edgeconv.latency.steady import curve
from edgeconv.latency.summary import PERCENTILES, Spread, Summary, ratio, summarise
from edgeconv.reports.amounts import show_time

if TYPE_CHECKING:
    from rich.console import Console

    from edgeconv.latency.profile import Profiled
    from edgeconv.recipe.benching import Benched

_BARS = "▁▂▃▄▅▆▇█"
_MOST_KINDS = 8
_WATCHED = 1.3
"""From so many times its own time on, what a profile adds up to says more of the profiler."""


def print_bench(
    benched: Benched, *, quiet: bool, verbose: bool, kept: tuple[list[str], str] | None = None
) -> None:
    """The measurements of each device, what they say of each other, what is to be doubted, what was kept."""
    from edgeconv.cli.guard import show_error

    measured = benched.run.measurements
    summaries = [summarise(each) for each in measured]
    if not quiet:
        console = console_for_tables()
        for name in dict.fromkeys(each.device.name for each in measured):
            chosen = [place for place, each in enumerate(measured) if each.device.name == name]
            _print_device(console, benched, summaries, chosen, verbose=verbose)
        if kept is not None:
            click.echo(plain(_kept_line(benched, *kept)))
    for broken in benched.run.broken:
        click.echo(f"not measured: {plain(broken.case.artifact.path)} on {broken.case.device.name}", err=True)
        show_error(broken.error)


def _print_device(
    console: Console, benched: Benched, summaries: list[Summary], chosen: list[int], *, verbose: bool
) -> None:
    measured = benched.run.measurements
    compared = _compared(benched)
    labels = [_label(each, benched) for each in measured]
    print_wrapped(console, _heading(measured[chosen[0]]), "bold")
    if measured[chosen[0]].device.emulated:
        print_wrapped(console, "emulated: these times say nothing of a real board", "yellow")
    first = table_with(
        "latency", "runtime", ">median", ">95 % interval", ">p90", ">p99", ">p99.9", ">per second"
    )
    for place in chosen:
        first.add_row(*_latency_row(measured[place], summaries[place], labels[place]))
    console.print(first)
    second = table_with(
        "start and cost", "warm-up", ">load", ">first", ">memory", ">model", ">size", ">launches"
    )
    for place in chosen:
        second.add_row(*_cost_row(measured[place], summaries[place], labels[place]))
    console.print(second)
    for place in chosen:
        one = measured[place]
        frozen = one.artifact.sha256 in benched.references
        reference = None if frozen else causes.reference_of(one, compared)
        if reference is not None:
            lines = causes.said(one, reference, benched.ops[place], benched.profiles[place])
            for number, line in enumerate(lines):
                print_wrapped(
                    console, line if number == 0 else f"  because {line}" if number == 1 else f"  and {line}"
                )
    for line in _doubts(
        [measured[place] for place in chosen], [summaries[place] for place in chosen], verbose
    ):
        print_wrapped(console, line, "dim")
    for place in chosen:
        told = benched.profiles[place]
        if told is not None:
            _print_profile(console, measured[place], told, verbose=verbose)


def _heading(measurement: Measurement) -> str:
    facts = measurement.device.facts
    processor = facts.get("processor") or {}
    name = facts.get("model") or processor.get("name") or facts.get("machine")
    cores = facts.get("usable_cores") or processor.get("cores")
    parts = [str(name)] if name else []
    if processor.get("name") and processor["name"] != name:
        parts.append(str(processor["name"]))
    if cores:
        parts.append(f"{cores} cores")
    return f"{measurement.device.name}: {', '.join(parts)}"


def _kept_line(benched: Benched, keys: list[str], where: str) -> str:
    line = f"kept: {len(keys)} measurement{'s' if len(keys) != 1 else ''} in {where}"
    if not benched.unreferenced:
        return line
    names = " or ".join(benched.unreferenced)
    return f"{line}, without ratios of {names}: 'edgeconv history set-reference FILE' sets what they are to"


def _compared(benched: Benched) -> tuple[Measurement, ...]:
    """The measurements of what was asked for, without those of references."""
    return tuple(each for each in benched.run.measurements if each.artifact.sha256 not in benched.references)


def _label(measurement: Measurement, benched: Benched) -> str:
    name = Path(measurement.artifact.path).name
    return f"{name} (reference)" if measurement.artifact.sha256 in benched.references else name


def _latency_row(measurement: Measurement, summary: Summary, label: str) -> list[Any]:
    setting = measurement.setting
    threads = f", {setting.threads} threads" if setting.threads != 1 else ""
    accelerator = f", {setting.accelerator}" if setting.accelerator else ""
    told = [
        show_time(value) if value is not None else f"n too small ({summary.needed[fraction]:,})"
        for fraction, value in summary.percentiles.items()
    ]
    return [
        plain_text(label, "bold"),
        plain_text(f"{setting.runtime} {setting.version}{threads}{accelerator}"),
        plain_text(show_time(summary.latency.median), "bold"),
        _interval(summary.latency),
        *told,
        _count(summary.per_second.median),
    ]


def _cost_row(measurement: Measurement, summary: Summary, label: str) -> list[Any]:
    settled = summary.warm_inferences
    warm = "not settled" if settled is None else f"{settled:.0f} inferences"
    spoiled = f", {summary.made - summary.launches} spoiled" if summary.made > summary.launches else ""
    return [
        plain_text(label, "bold"),
        f"{_bars(curve(measurement.trusted[0]))} {warm}",
        show_time(summary.load_seconds.median * 1e9),
        "" if summary.first_ns is None else show_time(summary.first_ns),
        "" if summary.peak_bytes is None else show_bytes(int(summary.peak_bytes)),
        "" if summary.model_bytes is None else show_bytes(max(0, int(summary.model_bytes))),
        show_bytes(measurement.artifact.bytes),
        f"{summary.launches} of {summary.made}{spoiled}" if spoiled else str(summary.launches),
    ]


def _doubts(measured: list[Measurement], summaries: list[Summary], verbose: bool) -> list[str]:
    lines = []
    for measurement, summary in zip(measured, summaries, strict=True):
        name = Path(measurement.artifact.path).name
        if measurement.setting.threads != 1:
            name += f" with {measurement.setting.threads} threads"
        if summary.spoiled:
            kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(summary.spoiled.items()))
            counted = (
                "they are not counted"
                if summary.launches < summary.made
                else "too few others are left, so that all are counted"
            )
            lines.append(f"{name}: launches spoiled: {kinds}, of {summary.made}; {counted}")
            if verbose:
                for launch in measurement.launches:
                    lines += [f"  launch {launch.number + 1}: {each.what}" for each in launch.spoiled]
        if summary.steady < summary.launches:
            lines.append(
                f"{name}: {summary.launches - summary.steady} of {summary.launches} launches not steady"
            )
        placement = measurement.setting.placement or {}
        if placement.get("elsewhere"):
            ran = placement["ran"]
            kinds = ", ".join(plain(str(kind)) for kind in placement["elsewhere"][:6])
            own = ran.get(placement["asked"], 0)
            lines.append(
                f"{name}: {placement['asked']} ran {own} of {sum(ran.values())} ops; elsewhere: {kinds}"
            )
        cooled = sum(launch.cooled_seconds for launch in measurement.launches)
        if cooled:
            lines.append(f"{name}: waited {cooled:.0f} s for the device to cool down")
    overheads = sorted({round(each.overhead_ns) for each in summaries if each.overhead_ns is not None})
    if overheads:
        shown = " to ".join(f"{value} ns" for value in dict.fromkeys((overheads[0], overheads[-1])))
        lines.append(f"the harness itself: {shown} of every sample (a model that does nothing, same path)")
    return lines


def _print_profile(console: Console, measurement: Measurement, told: Profiled, *, verbose: bool) -> None:
    name = Path(measurement.artifact.path).name
    if told.reason is not None:
        print_wrapped(console, f"profile of {name}: none ({told.reason})", "yellow")
        return
    total = sum(op.ns for op in told.ops) or 1.0
    outside = ""
    if told.outside is not None:
        outside = f"; {told.outside:.0%} of the time outside {told.asked}"
    print_wrapped(console, f"profile of {name}: {told.how}{outside}", "bold")
    alone = summarise(measurement).latency.median
    if total > _WATCHED * alone:
        print_wrapped(
            console,
            f"the ops add up to {show_time(total)}, and alone the model takes {show_time(alone)}:"
            " these shares are coarse",
            "yellow",
        )
    table = table_with("op", "ran on", ">time", ">share", ">ops")
    if verbose:
        for op in told.ops:
            table.add_row(
                plain_text(f"{op.op}  {op.name}"),
                op.by or "several",
                show_time(op.ns),
                f"{op.ns / total:.0%}",
                "1",
            )
    else:
        kinds = told.by_kind()
        for kind, ns, count in kinds[:_MOST_KINDS]:
            places = ", ".join(sorted({op.by or "several" for op in told.ops if op.op == kind}))
            table.add_row(plain_text(kind), places, show_time(ns), f"{ns / total:.0%}", str(count))
        if rest := kinds[_MOST_KINDS:]:
            ns = sum(row[1] for row in rest)
            table.add_row("others", "", show_time(ns), f"{ns / total:.0%}", str(sum(row[2] for row in rest)))
    console.print(table)


def bench_document(benched: Benched, kept: tuple[list[str], str] | None = None) -> dict[str, Any]:
    """What ``--json`` prints: numbers, not samples; those are in ``--output`` and in the history."""
    measured, compared = benched.run.measurements, _compared(benched)
    entries = []
    for place, each in enumerate(measured):
        summary = summarise(each)
        frozen = each.artifact.sha256 in benched.references
        reference = None if frozen else causes.reference_of(each, compared)
        found = None if reference is None else ratio(each, reference)
        told = benched.profiles[place]
        entries.append(
            {
                "artifact": dataclasses.asdict(each.artifact),
                "device": {
                    "name": each.device.name,
                    "emulated": each.device.emulated,
                    "target": each.device.target,
                },
                "setting": dataclasses.asdict(each.setting),
                **_summary_fields(summary),
                "reference": frozen,
                "against": None
                if reference is None or found is None
                else {
                    "artifact": reference.artifact.path,
                    "threads": reference.setting.threads,
                    **dataclasses.asdict(found),
                    "verdict": found.verdict,
                    "said": causes.said(each, reference, benched.ops[place], told),
                },
                "profile": None if told is None else dataclasses.asdict(told),
            }
        )
    broken = [
        {
            "artifact": each.case.artifact.path,
            "device": each.case.device.name,
            "threads": each.case.wish.threads,
            "what": each.error.what,
            "hint": each.error.hint,
            "exit_code": int(each.error.exit_code),
        }
        for each in benched.run.broken
    ]
    first = measured[0]
    return {
        "run": first.run,
        "at": first.at,
        "commit": first.commit,
        "edgeconv": first.edgeconv,
        "measurements": entries,
        "broken": broken,
        "kept": None if kept is None else {"measurements": kept[0], "store": kept[1]},
    }


def _summary_fields(summary: Summary) -> dict[str, Any]:
    fields = dataclasses.asdict(summary)
    fields["percentiles"] = {
        f"p{100 * fraction:g}": {"ns": summary.percentiles[fraction], "needs": summary.needed[fraction]}
        for fraction in PERCENTILES
    }
    del fields["needed"]
    fields["latency_ns"] = fields.pop("latency")
    fields["floor_ns"] = fields.pop("floor")
    return fields


def _interval(spread: Spread) -> str:
    if spread.low is None or spread.high is None:
        return "too few launches"
    low, high = show_time(spread.low), show_time(spread.high)
    if low.split()[1] == high.split()[1]:
        low = low.split()[0]
    return f"{low} to {high}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _bars(values: list[float]) -> str:
    """A curve in one line, on a logarithmic scale from the level up."""
    import math

    logs = [max(0.0, math.log(max(value, 1e-9))) for value in values[:24]]
    top = max([*logs, math.log(2)])
    return "".join(_BARS[min(7, int(7.99 * value / top))] for value in logs)
