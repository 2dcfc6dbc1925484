"""What ``regress`` decided, into the history."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeconv.errors import UsageError
from edgeconv.history.entries import MeasurementEntry, Number, RunEntry, VerdictEntry
from edgeconv.history.measured import artifact_entry, device_entry, runtime_entry
from edgeconv.history.recording import record, this_run
from edgeconv.history.store import Store
from edgeconv.latency import records
from edgeconv.latency.channels import Launch, between, kept
from edgeconv.latency.decisions import Decision
from edgeconv.latency.percentiles import median_interval


def record_decisions(
    store: Store,
    decisions: Sequence[Decision],
    artifacts: Mapping[str, records.Artifact],
    device: records.DeviceFacts,
    settings: Mapping[str, records.Setting],
    launches: Sequence[Launch] = (),
    *,
    quantity: str = "latency",
    reference: str | None = None,
    details: Mapping[str, Any] | None = None,
    command: str = "",
    run: RunEntry | None = None,
) -> str:
    """Keep verdicts, and the samples that they rest on as one measurement a model.

    Args:
        store: the history.
        decisions: all of one call.
        artifacts: name of a model in the decisions and launches to what it is.
        device: where all of it was measured.
        settings: name of a model to how it was run.
        launches: raw samples of the models, in the order of measuring; none if not to be kept.
        quantity: ``latency``, ``load``, ``memory`` or ``bytes``.
        reference: name of the model that is a frozen reference, where one was measured beside them; then
            the others get their ratios.
        details: anything else of the call (JSON), kept with every verdict.
        command: what was typed.
        run: the run that they belong to, where something was recorded of it already.

    Returns:
        The key of the run.

    Raises:
        UsageError: a model of a decision or launch is none of ``artifacts`` and ``settings``.
    """
    run = run or this_run(command)
    models = list(launches[0]) if launches else []
    for name in {*models, *(name for one in decisions for name in (one.baseline, one.candidate))}:
        if name not in artifacts or name not in settings:
            raise UsageError(f"nothing is said of the model '{name}' of a decision")
    measurements = []
    for name in models:
        ratios = (
            {}
            if reference in (None, name) or reference not in models
            else _ratios(launches, str(reference), name)
        )
        measurements.append(
            MeasurementEntry(
                artifact=artifact_entry(artifacts[name]),
                device=device_entry(device),
                runtime=runtime_entry(settings[name]),
                threads=settings[name].threads,
                values=_values([launch[name] for launch in launches]),
                reference=artifact_entry(artifacts[str(reference)]) if ratios else None,
                ratios=ratios,
                samples={(place, "ns"): launch[name] for place, launch in enumerate(launches)},
                context={"paired": True, "model": name},
                time=run.time,
            )
        )
    verdicts = [
        VerdictEntry(
            baseline=artifact_entry(artifacts[one.baseline]),
            candidate=artifact_entry(artifacts[one.candidate]),
            device=device_entry(device),
            baseline_runtime=runtime_entry(settings[one.baseline]),
            candidate_runtime=runtime_entry(settings[one.candidate]),
            verdict=one.verdict,
            quantity=quantity,
            details={
                "decision": dataclasses.asdict(one),
                "measurements": [
                    m.id for m in measurements if m.context["model"] in (one.baseline, one.candidate)
                ],
                **(details or {}),
            },
            time=run.time,
        )
        for one in decisions
    ]
    record(store, run, measurements, verdicts)
    return run.id


def _values(launches: Sequence[Any]) -> dict[str, Number]:
    """Absolute numbers of one model: one a launch, then their median with its interval."""
    typical = [float(np.median(kept(samples))) for samples in launches]
    floor = [float(np.quantile(kept(samples).min(axis=1), 0.25)) for samples in launches]
    return {
        "typical": Number(*median_interval(np.array(typical))),
        "floor": Number(*median_interval(np.array(floor))),
    }


def _ratios(launches: Sequence[Launch], reference: str, name: str) -> dict[str, Number]:
    ratios = {}
    for channel, series in between(launches, reference, name).items():
        if len(series.values):
            middle, low, high = np.exp(median_interval(series.values))
            ratios[channel] = Number(float(middle), float(low) or None, float(high), "1")
    return ratios
