"""Launches and measurements with samples of choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeconv.latency.records import Artifact, DeviceFacts, LaunchRecord, Measurement, Setting


def launch(samples: Any, number: int = 0, **fields: Any) -> LaunchRecord:
    """A launch with these samples, bursts by length, that used its processor all the time."""
    array = np.array(samples, np.int64)
    zeros = np.zeros(len(array), np.int64)
    columns = {"cpu": array.sum(axis=1), "involuntary": zeros, **fields.pop("columns", {})}
    given = {
        "number": number,
        "place": 0,
        "load_seconds": 0.001,
        "first_ns": 5000,
        "warm": np.array([3000, 2000, 1000], np.int64),
        "steady": True,
        "readings": ({"at": 0}, {"at": 10**9}),
        "nanoseconds": int(array.sum()),
        "peak_bytes": 50_000_000,
        "import_bytes": 40_000_000,
    }
    return LaunchRecord(samples=array, columns=columns, **{**given, **fields})


def measurement(launches: Sequence[LaunchRecord], **fields: Any) -> Measurement:
    """A measurement of them; ``precision``, ``features`` and fields of its parts by their names."""
    name, precision = fields.pop("name", "m.tflite"), fields.pop("precision", "fp32")
    features = fields.pop("features", ["avx2"])
    facts = {"machine": "x86_64", "processor": {"features": features}, "usable_cores": 2}
    device = fields.pop("device", "local")
    setting = Setting("litert", "2.3.0", fields.pop("threads", 1), placement=fields.pop("placement", None))
    given = {
        "run": "r",
        "at": "2026-01-01T00:00:00+00:00",
        "artifact": Artifact(name, name.encode().hex().ljust(64, "0")[:64], 10, "tflite", precision),
        "device": DeviceFacts(device, "local", fields.pop("emulated", False), facts=facts),
        "setting": setting,
        "launches": tuple(launches),
        "overhead_ns": (70.0, 72.0),
        "edgeconv": "1",
    }
    return Measurement(**{**given, **fields})


def around(level: float, launches: int = 8, seed: int = 0) -> list[LaunchRecord]:
    """Launches whose samples lie within 1 % of a level, ns."""
    rng = np.random.default_rng(seed)
    return [launch(level * (1 + 0.01 * rng.random((20, 5))), number=number) for number in range(launches)]
