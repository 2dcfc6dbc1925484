"""What ``bench`` measured, into the history and out of it again without loss."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

import numpy as np
from sqlalchemy import select

from edgeconv.errors import UsageError
from edgeconv.history import tables
from edgeconv.history.entries import (
    ArtifactEntry,
    DeviceEntry,
    MeasurementEntry,
    Number,
    RunEntry,
    RuntimeEntry,
    key_of,
)
from edgeconv.history.recording import record, this_run
from edgeconv.history.samples import Samples, decode
from edgeconv.history.store import Store
from edgeconv.latency import records
from edgeconv.latency.channels import kept
from edgeconv.latency.percentiles import median_interval

_IDENTIFYING = ("model", "compatible", "machine", "usable_cores")
_PROCESSOR = ("name", "cores", "features")
_FORMS: dict[str, Callable[[records.LaunchRecord], float | None]] = {
    "typical": lambda launch: float(np.median(kept(launch.samples))) if launch.samples.size else None,
    "floor": lambda launch: (
        float(np.quantile(kept(launch.samples).min(axis=1), 0.25)) if launch.samples.size else None
    ),
    "load": lambda launch: launch.load_seconds * 1e9,
    "first": lambda launch: None if launch.first_ns is None else float(launch.first_ns),
    "memory": lambda launch: None if launch.peak_bytes is None else float(launch.peak_bytes),
}
"""One number a launch for each metric; nanoseconds, and bytes of memory."""
_UUID = re.compile(r"[0-9a-f]{32}")


def record_measurements(
    store: Store,
    measurements: Sequence[records.Measurement],
    *,
    references: Iterable[str] = (),
    command: str = "",
    run: RunEntry | None = None,
) -> list[str]:
    """Keep measurements with all their samples.

    One of an artifact that is a reference gives every other one of the same run, device, runtime and threads
    its ratios: launch by launch, over those that nothing spoiled in either.

    Args:
        store: the history.
        measurements: of one or several runs.
        references: SHA-256 of reference artifacts.
        command: what was typed.
        run: the run they are of, if something else is known than what is in them.

    Returns:
        The keys of the measurements. Recording the same ones again changes nothing.

    Raises:
        UsageError: a measurement without a launch, or a time that is none.
    """
    wanted, keys = set(references), []
    here = this_run(command)
    for run_name in dict.fromkeys(one.run for one in measurements):
        of_run = [one for one in measurements if one.run == run_name]
        entry = run or _run_entry(of_run[0], here)
        by_setting = {_setting_key(one): one for one in of_run if one.artifact.sha256 in wanted}
        entries = []
        for place, one in enumerate(of_run):
            reference = by_setting.get(_setting_key(one))
            if reference is not None and reference.artifact.sha256 == one.artifact.sha256:
                reference = None
            entries.append(entry_of(one, reference, key_of("measurement", run_name, place)))
        record(store, entry, entries)
        keys += [each.id for each in entries]
    return keys


def _run_entry(one: records.Measurement, here: RunEntry) -> RunEntry:
    """The run of a measurement that may have been made elsewhere: of here only what cannot differ."""
    commit, dash, _ = (one.commit or "").partition("-dirty")
    same = here.git_commit is not None and here.git_commit.startswith(commit or "?")
    return RunEntry(
        time=_time(one),
        host=here.host,
        tools={**here.tools, "edgeconv": one.edgeconv},
        git_commit=commit or None,
        git_branch=here.git_branch if same else None,
        git_dirty=bool(dash) if commit else None,
        command=here.command,
        id=one.run if _UUID.fullmatch(one.run) else key_of("run", one.run),
    )


def _time(one: records.Measurement) -> datetime:
    try:
        found = datetime.fromisoformat(one.at)
    except ValueError as error:
        raise UsageError(
            f"'{one.at[:60]}' is no time", hint="it is ISO 8601, as 2026-03-01T12:00:00Z"
        ) from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _setting_key(one: records.Measurement) -> tuple[Any, ...]:
    setting = one.setting
    return (
        device_entry(one.device).id,
        setting.runtime,
        setting.version,
        setting.threads,
        setting.accelerator,
    )


def artifact_entry(artifact: records.Artifact) -> ArtifactEntry:
    """The artifact of a record."""
    name = PurePath(artifact.path).name or artifact.path
    return ArtifactEntry(artifact.sha256, name, artifact.format, artifact.bytes, artifact.precision)


def device_entry(device: records.DeviceFacts) -> DeviceEntry:
    """The device of a record: its name and hardware make it this one, not what runs there today."""
    facts = {name: device.facts.get(name) for name in _IDENTIFYING}
    processor = device.facts.get("processor")
    if isinstance(processor, Mapping):
        facts["processor"] = {name: processor.get(name) for name in _PROCESSOR}
    return DeviceEntry(
        device.name,
        device.kind,
        device.target,
        device.emulated,
        {name: value for name, value in facts.items() if value is not None},
    )


def runtime_entry(setting: records.Setting) -> RuntimeEntry:
    """The runtime of a record."""
    return RuntimeEntry(setting.runtime, setting.version, setting.accelerator)


def entry_of(
    one: records.Measurement, reference: records.Measurement | None = None, key: str | None = None
) -> MeasurementEntry:
    """A measurement as it is kept, with its ratios to that of the reference."""
    if not one.launches:
        raise UsageError(f"{one.label} has no launch", why="there is nothing to remember")
    values = {}
    for metric, form in _FORMS.items():
        unit = "bytes" if metric == "memory" else "ns"
        found = [value for launch in one.trusted if (value := form(launch)) is not None]
        if found:
            middle, low, high = median_interval(np.array(found))
            values[metric] = Number(middle, low, high, unit)
    values["bytes"] = Number(float(one.artifact.bytes), unit="bytes")
    samples: dict[tuple[int, str], Samples] = {}
    for place, launch in enumerate(one.launches):
        samples[place, "ns"] = launch.samples
        samples[place, "warm"] = launch.warm
        samples.update({(place, f"column:{name}"): column for name, column in launch.columns.items()})
    context = records.as_mapping(dataclasses.replace(one, launches=()))
    context["launches"] = [_without_samples(launch) for launch in one.launches]
    return MeasurementEntry(
        artifact=artifact_entry(one.artifact),
        device=device_entry(one.device),
        runtime=runtime_entry(one.setting),
        threads=one.setting.threads,
        values=values,
        reference=None if reference is None else artifact_entry(reference.artifact),
        ratios={} if reference is None else ratios_between(one, reference),
        samples=samples,
        # A spoiled launch that is not counted spoils no number; where too few others are left, all count.
        marks=sorted(
            {
                spoiled.kind
                for counted in (one, reference or one)
                for launch in counted.trusted
                for spoiled in launch.spoiled
            }
        ),
        context={"record": context},
        time=_time(one),
        **({} if key is None else {"id": key}),
    )


def ratios_between(one: records.Measurement, reference: records.Measurement) -> dict[str, Number]:
    """Ratios one / reference, the median over launches of the same number with its interval."""
    numbers = {launch.number: launch for launch in reference.trusted}
    pairs = [(launch, numbers[launch.number]) for launch in one.trusted if launch.number in numbers]
    ratios = {}
    for metric, form in _FORMS.items():
        both = [(form(mine), form(theirs)) for mine, theirs in pairs]
        logs = [np.log(mine / theirs) for mine, theirs in both if mine and theirs and min(mine, theirs) > 0]
        if logs:
            middle, low, high = np.exp(median_interval(np.array(logs)))
            ratios[metric] = Number(float(middle), float(low) or None, float(high), "1")
    if reference.artifact.bytes:
        ratios["bytes"] = Number(one.artifact.bytes / reference.artifact.bytes, unit="1")
    return ratios


def _without_samples(launch: records.LaunchRecord) -> dict[str, Any]:
    empty = np.zeros(0, np.int64)
    bare = dataclasses.replace(launch, samples=empty, warm=empty, columns={})
    plain = records.as_mapping(bare)  # type: ignore[arg-type]
    return {name: value for name, value in plain.items() if name not in ("samples", "warm", "columns")}


def record_of(store: Store, key: str) -> records.Measurement:
    """A measurement as ``bench`` made it, with every sample.

    Raises:
        UsageError: there is none of that key, or it was recorded by something else than ``bench``.
    """
    with store.reading() as session:
        row = session.get(tables.Measurement, key)
        if row is None:
            raise UsageError(f"there is no measurement '{key[:40]}'", where=str(store.location))
        content = row.context.get("record")
        if not isinstance(content, dict):
            raise UsageError(f"measurement {key[:12]} is none of 'edgeconv bench'")
        arrays = {
            (each.launch, each.name): decode(each.data, each.shape)
            for each in session.scalars(
                select(tables.SampleArray).where(tables.SampleArray.measurement == key)
            )
        }
    launches = []
    for place, launch in enumerate(content["launches"]):
        columns = {
            name.removeprefix("column:"): array.tolist()
            for (of, name), array in arrays.items()
            if of == place and name.startswith("column:")
        }
        if (place, "ns") not in arrays:
            raise UsageError(f"the samples of measurement {key[:12]} were pruned")
        samples = arrays[place, "ns"]
        launches.append(
            {
                **launch,
                "samples": samples.tolist(),
                "warm": arrays[place, "warm"].tolist(),
                "columns": columns,
            }
        )
    return records.from_mapping({**content, "launches": launches}, f"measurement {key[:12]}")
