"""What the agent itself costs: a request there and back, and what it adds to a time that it measures.

    python benchmarks/agent.py            prints the figures
    python benchmarks/agent.py --write    and writes them into docs/agent.md and benchmarks/results/agent.json

Everything goes through the null model on the local device, the same path as every other model. Each launch is
an agent of its own; what other programs do meanwhile is in the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.devices.client import AgentClient
from edgeconv.devices.local import LocalDevice

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "agent.md"
RAW = HERE / "results" / "agent.json"
BEGIN, END = "<!-- figures: benchmarks/agent.py -->", "<!-- end of figures -->"
X = np.arange(4, dtype=np.float32)


def round_trips(requests: int) -> dict[str, Any]:
    """Microseconds of requests ``infer`` with 16 bytes there and back, after 300 that are not counted."""
    begun = time.perf_counter()
    with AgentClient(LocalDevice()) as client:
        start = time.perf_counter() - begun
        model = client.open("null", "null", Path(__file__))
        for _ in range(300):
            client.infer(model, {"x": X})
        ns = np.empty(requests, np.int64)
        for index in range(requests):
            before = time.perf_counter_ns()
            client.infer(model, {"x": X})
            ns[index] = time.perf_counter_ns() - before
    return {"start_ms": start * 1e3, **quantiles(ns / 1e3)}


def throughput() -> float:
    """Megabytes a second of 40 MB there and back."""
    big = np.zeros(10 << 20, np.float32)
    with AgentClient(LocalDevice()) as client:
        model = client.open("null", "null", Path(__file__))
        client.infer(model, {"x": big})
        before = time.perf_counter()
        for _ in range(5):
            client.infer(model, {"x": big})
        return 5 * 2 * big.nbytes / 1e6 / (time.perf_counter() - before)


def timed_region(rounds: int) -> dict[str, Any]:
    """Nanoseconds that the null model seems to take: what is in every sample beside the inference."""
    with AgentClient(LocalDevice()) as client:
        one, other = (client.open("null", "null", Path(__file__)) for _ in range(2))
        fields = {
            "models": [one.number, other.number],
            "inputs": [[{"x": 0}]] * 2,
            "burst": 5,
            "rounds": rounds,
        }
        result, arrays = client.ask("measure", {**fields, "seconds": 60}, [("x", X)])
        ns = dict(arrays)["ns"]
    return {
        **quantiles(ns[:, :, 1:].ravel()),
        "first_of_burst": float(np.median(ns[:, :, 0])),
        "between_us": (result["nanoseconds"] - int(ns.sum())) / 1e3 / (2 * result["rounds"]),
    }


def quantiles(values: Any) -> dict[str, float]:
    """5 %, median and 95 %."""
    low, median, high = np.percentile(values, (5, 50, 95))
    return {"p5": float(low), "median": float(median), "p95": float(high)}


def page(found: dict[str, Any]) -> str:
    """The figures as they stand in docs/agent.md."""
    trips, regions = found["round_trips"], found["timed_region"]
    where = (
        f"{len(trips)} launches of {found['requests']:,} requests each on {found['machine']}, with a load of "
        f"{found['load'][0]:.1f} to {found['load'][1]:.1f} by other programs and these:"
    )
    lines = [
        where,
        "",
        "| | 5 % | median | 95 % |",
        "| --- | --- | --- | --- |",
    ]
    for title, rows, digits, unit in (
        ("request and answer, null model", trips, 0, "µs"),
        ("what the null model seems to take when it is measured", regions, 0, "ns"),
    ):
        values = [float(np.median([row[key] for row in rows])) for key in ("p5", "median", "p95")]
        lines.append(f"| {title} | " + " | ".join(f"{value:.{digits}f} {unit}" for value in values) + " |")
    medians = [row["median"] for row in trips]
    first = float(np.median([row["first_of_burst"] for row in regions]))
    between = float(np.median([row["between_us"] for row in regions]))
    more = (
        f"Medians of launches lie between {min(medians):.0f} and {max(medians):.0f} µs. The first sample of a burst reads "
        f"{first:.0f} ns. Around a burst, and in no sample, lie {between:.0f} µs (counters, columns, buffers). An agent says "
        f"hello after {np.median([row['start_ms'] for row in trips]):.0f} ms; arrays of 40 MB go at "
        f"{found['throughput']:.0f} MB/s. Made by `python benchmarks/agent.py --write`."
    )
    return "\n".join([*lines, "", more])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--launches", type=int, default=9)
    parser.add_argument("--requests", type=int, default=4000)
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    found: dict[str, Any] = {"requests": arguments.requests}
    found["round_trips"] = [round_trips(arguments.requests) for _ in range(arguments.launches)]
    found["timed_region"] = [timed_region(4000) for _ in range(arguments.launches)]
    found["throughput"] = throughput()
    found["load"] = sorted((before, os.getloadavg()[0]))
    found["machine"] = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    text = page(found)
    print(text)
    if arguments.write:
        RAW.write_text(json.dumps(found, indent=1) + "\n")
        place = re.compile(re.escape(BEGIN) + ".*" + re.escape(END), re.S)
        PAGE.write_text(place.sub(lambda _: f"{BEGIN}\n\n{text}\n\n{END}", PAGE.read_text()))


if __name__ == "__main__":
    main()
