"""Measurements and models to put into a history."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from edgeconv.history.entries import (
    ArtifactEntry,
    DeviceEntry,
    MeasurementEntry,
    Number,
    RunEntry,
    RuntimeEntry,
    VerdictEntry,
)
from edgeconv.latency import records
from edgeconv.latency.channels import Launch

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
BOARD = DeviceEntry("pi", "ssh", "rpi4", False, {"model": "Raspberry Pi 4", "usable_cores": 4})
RUNTIME = RuntimeEntry("litert", "2.3.0", None)


def sha(text: str) -> str:
    """The hash of a file that is not there."""
    return hashlib.sha256(text.encode()).hexdigest()


def artifact(name: str = "digits.int8.tflite", build: str = "1") -> ArtifactEntry:
    """An artifact; another ``build`` has other bytes."""
    return ArtifactEntry(sha(name + build), name, "tflite", 6500, "int8")


REFERENCE = artifact("reference.tflite")


def run(day: int = 0, **changes: object) -> RunEntry:
    """A run on one of the days from March on."""
    fields = {
        "time": BEGIN + timedelta(days=day),
        "host": "builder",
        "tools": {"edgeconv": "0.1.0", "tensorflow": "2.21.0"},
        "git_commit": sha(f"commit {day}")[:40],
        "git_branch": "main",
        "git_dirty": False,
        "command": "edgeconv bench digits.int8.tflite",
    }
    return RunEntry(**{**fields, **changes})  # type: ignore[arg-type]


def measurement(day: int = 0, ratio: float = 1.2, **changes: object) -> MeasurementEntry:
    """One measurement with the ratio to a reference."""
    samples = np.array([[40213, 40190], [40255, 40201]], np.int64)
    fields = {
        "artifact": artifact(build=str(day)),
        "device": BOARD,
        "runtime": RUNTIME,
        "threads": 1,
        "values": {"typical": Number(40200.0, 40100.0, 40300.0)},
        "reference": REFERENCE,
        "ratios": {"typical": Number(ratio, ratio - 0.01, ratio + 0.01, "1")},
        "samples": {(0, "ns"): samples, (1, "ns"): samples + 7},
        "time": BEGIN + timedelta(days=day),
    }
    return MeasurementEntry(**{**fields, **changes})  # type: ignore[arg-type]


def verdict(day: int = 0, said: str = "ok") -> VerdictEntry:
    """A verdict on a new build beside the first."""
    return VerdictEntry(
        baseline=artifact(),
        candidate=artifact(build=str(day)),
        device=BOARD,
        baseline_runtime=RUNTIME,
        candidate_runtime=RUNTIME,
        verdict=said,
        details={"ratio": 1.01},
        time=BEGIN + timedelta(days=day),
    )


def bench(
    name: str = "digits.int8.tflite",
    *,
    run: str = "run-1",
    slower: float = 1.0,
    launches: int = 8,
    build: str = "1",
) -> records.Measurement:
    """What ``bench`` returns of one artifact."""
    draw = np.random.default_rng(launches)
    found = []
    for number in range(launches):
        samples = (40_000 * slower + draw.integers(0, 400, (6, 5))).astype(np.int64)
        found.append(
            records.LaunchRecord(
                number=number,
                place=0,
                load_seconds=0.002,
                first_ns=90_000,
                warm=np.array([60_000, 50_000, 41_000], np.int64),
                samples=samples,
                columns={"faults": np.arange(6, dtype=np.int64)},
                steady=True,
                readings=({"temperature": 51.5},),
                nanoseconds=int(samples.sum()),
                peak_bytes=30_000_000,
            )
        )
    return records.Measurement(
        run=run,
        at="2026-03-01T12:00:00+00:00",
        artifact=records.Artifact(f"build/{name}", sha(name + build), 6500, "tflite", "int8"),
        device=records.DeviceFacts("pi", "ssh", False, "rpi4", {"model": "Raspberry Pi 4", "libc": "2.36"}),
        setting=records.Setting("litert", "2.3.0", 1, None, None),
        launches=tuple(found),
        overhead_ns=(250.0,),
        edgeconv="0.1.0",
        commit="0123456789abcdef-dirty",
    )


def onnx_model(path: Path, value: float = 1.0) -> Path:
    """A real model of a few bytes."""
    from onnx import TensorProto, helper, save

    node = helper.make_node("Add", ["x", "c"], ["y"])
    constant = helper.make_tensor("c", TensorProto.FLOAT, [1], [value])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([node], "add", ends[:1], ends[1:], [constant])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), str(path))
    return path


def simulated(launches: int, factors: Mapping[str, float], seed: int) -> list[Launch]:
    """Launches of models that take so many times 50 us, with a little noise."""
    draw = np.random.default_rng(seed)
    return [
        {
            name: np.rint(50_000 * factor * np.exp(draw.gamma(1, 0.004, (16, 5)))).astype(np.int64)
            for name, factor in factors.items()
        }
        for _ in range(launches)
    ]
