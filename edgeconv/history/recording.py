"""Entries to rows: one transaction for all of a run, and nothing that is there already is written twice."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import node, python_version
from typing import Any

from sqlalchemy.orm import Session

from edgeconv.errors import UsageError
from edgeconv.history import tables
from edgeconv.history.entries import (
    ArtifactEntry,
    DeviceEntry,
    MeasurementEntry,
    RunEntry,
    RuntimeEntry,
    VerdictEntry,
    clean,
    key_of,
)
from edgeconv.history.samples import encode
from edgeconv.history.store import Store, insert_new

TOOLS = ("edgeconv", "tensorflow", "ai-edge-litert", "onnxruntime", "onnx", "tf2onnx", "numpy")
_GIT_SECONDS = 10.0
_HEX = frozenset("0123456789abcdef")


def this_run(command: str = "", folder: Path | None = None) -> RunEntry:
    """A run that begins now, here: host, versions of the tools, and the repository of the current folder."""
    tools = {"python": python_version()}
    for name in TOOLS:
        try:
            tools[name] = version(name)
        except PackageNotFoundError:
            continue
    commit = _git(folder, "rev-parse", "HEAD")
    branch = _git(folder, "rev-parse", "--abbrev-ref", "HEAD") if commit else None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no") if commit else None
    return RunEntry(
        host=node(),
        tools=tools,
        git_commit=commit or None,
        git_branch=None if branch in (None, "", "HEAD") else branch,
        git_dirty=None if changed is None else bool(changed),
        command=command,
    )


def _git(folder: Path | None, *arguments: str) -> str | None:
    try:
        ran = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=_GIT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ran.stdout.strip() if ran.returncode == 0 else None


def record(
    store: Store,
    run: RunEntry,
    measurements: Sequence[MeasurementEntry] = (),
    verdicts: Sequence[VerdictEntry] = (),
) -> None:
    """Write a run with what it measured and decided; all of it or nothing. Twice is the same as once.

    Raises:
        UsageError: an entry that cannot be kept (a hash that is none, a time without a zone).
        UnavailableError: the store cannot be written.
    """
    with store.writing() as session:
        _add_run(session, run)
        artifacts = [one.artifact for one in measurements]
        artifacts += [one.reference for one in measurements if one.reference is not None]
        artifacts += [part for one in verdicts for part in (one.baseline, one.candidate)]
        add_artifacts(session, artifacts)
        _add_devices(session, [one.device for one in measurements] + [one.device for one in verdicts])
        runtimes = [one.runtime for one in measurements]
        runtimes += [part for one in verdicts for part in (one.baseline_runtime, one.candidate_runtime)]
        _add_runtimes(session, runtimes)
        for one in measurements:
            _add_measurement(session, run, one)
        insert_new(session, tables.Verdict, [_verdict_row(run, one) for one in verdicts])


def add_artifacts(session: Session, artifacts: Sequence[ArtifactEntry]) -> None:
    """Make artifacts known."""
    for one in artifacts:
        check_sha256(one.sha256)
    insert_new(
        session,
        tables.Artifact,
        [
            {
                "sha256": one.sha256,
                "name": clean(one.name),
                "format": clean(one.format),
                "precision": clean(one.precision),
                "bytes": one.bytes,
            }
            for one in artifacts
        ],
    )


def check_sha256(text: str) -> None:
    """Refuse what is no hash."""
    if len(text) != 64 or not _HEX.issuperset(text):
        raise UsageError(f"'{text[:80]}' is no SHA-256 in hexadecimal")


def _add_run(session: Session, run: RunEntry) -> None:
    if run.time.tzinfo is None:
        raise UsageError("the time of a run has no time zone", hint="write it like 2026-03-01T12:00:00+00:00")
    row = {
        "id": run.id,
        "time": run.time,
        "host": clean(run.host),
        "git_commit": clean(run.git_commit),
        "git_branch": clean(run.git_branch),
        "git_dirty": run.git_dirty,
        "command": clean(run.command),
    }
    insert_new(session, tables.Run, [row])
    tools = {key_of(name, number): (clean(name), clean(number)) for name, number in run.tools.items()}
    insert_new(
        session, tables.Tool, [{"id": key, "name": name, "version": v} for key, (name, v) in tools.items()]
    )
    insert_new(session, tables.RunTool, [{"run": run.id, "tool": key} for key in tools])


def _add_devices(session: Session, devices: Sequence[DeviceEntry]) -> None:
    rows = {
        one.id: {
            "id": one.id,
            "name": clean(one.name),
            "kind": clean(one.kind),
            "target": clean(one.target),
            "emulated": one.emulated,
            "facts": clean(one.facts),
        }
        for one in devices
    }
    insert_new(session, tables.Device, list(rows.values()))


def _add_runtimes(session: Session, runtimes: Sequence[RuntimeEntry]) -> None:
    rows = {
        one.id: {
            "id": one.id,
            "name": clean(one.name),
            "version": clean(one.version),
            "accelerator": clean(one.accelerator),
        }
        for one in runtimes
    }
    insert_new(session, tables.Runtime, list(rows.values()))


def _add_measurement(session: Session, run: RunEntry, one: MeasurementEntry) -> None:
    row = {
        "id": one.id,
        "run": run.id,
        "time": one.time,
        "artifact": one.artifact.sha256,
        "label": clean(one.label or one.artifact.name),
        "device": one.device.id,
        "runtime": one.runtime.id,
        "threads": one.threads,
        "marks": clean(list(one.marks)),
        "context": clean(one.context),
    }
    insert_new(session, tables.Measurement, [row])
    insert_new(
        session,
        tables.SampleArray,
        [
            {
                "measurement": one.id,
                "launch": launch,
                "name": clean(name),
                "shape": list(array.shape),
                "data": encode(array),
            }
            for (launch, name), array in one.samples.items()
        ],
    )
    values: list[dict[str, Any]] = []
    for metric, number in one.values.items():
        if clean(number.value) is not None:
            values.append(
                {
                    "measurement": one.id,
                    "metric": clean(metric),
                    "unit": clean(number.unit),
                    "value": float(number.value),
                    "low": clean(number.low),
                    "high": clean(number.high),
                }
            )
    insert_new(session, tables.Value, values)
    if one.reference is not None:
        ratios = [
            {
                "measurement": one.id,
                "reference": one.reference.sha256,
                "metric": clean(metric),
                "ratio": float(number.value),
                "low": clean(number.low),
                "high": clean(number.high),
            }
            for metric, number in one.ratios.items()
            if clean(number.value) is not None
        ]
        insert_new(session, tables.Ratio, ratios)


def _verdict_row(run: RunEntry, one: VerdictEntry) -> dict[str, Any]:
    return {
        "id": one.id,
        "run": run.id,
        "time": one.time,
        "label": clean(one.label or one.candidate.name),
        "quantity": clean(one.quantity),
        "baseline": one.baseline.sha256,
        "candidate": one.candidate.sha256,
        "baseline_runtime": one.baseline_runtime.id,
        "candidate_runtime": one.candidate_runtime.id,
        "device": one.device.id,
        "verdict": clean(one.verdict),
        "details": clean(one.details),
    }
