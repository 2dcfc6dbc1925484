"""Trains a small network for some seconds, saves a checkpoint, and takes it the whole way.

Run it by ``make demo``. It leaves everything under ``build/demo``.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HERE = Path(__file__).parent
FOLDER = Path("build/demo")
TARGETS = "frozen_graph,tflite:fp32,tflite:fp16,tflite:dynamic,tflite:int8,onnx:fp32,onnx:int8,ort"
ORDER = ["saved_model", "frozen_graph", "tflite", "onnx", "ort"]
ROUNDS = 30
BURST = 20

console = Console()


def main() -> None:
    """Train, convert, measure, show."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    images, labels = digits()
    train_x, test_x, train_y, test_y = train_test_split(images, labels, test_size=0.3, random_state=0)
    np.savez(FOLDER / "calibration.npz", image=train_x[:100])
    console.rule("a checkpoint")
    step("train on scikit-learn's digits", lambda: train(train_x, train_y))
    console.rule("the whole way")
    manifest = convert()
    console.rule(f"accuracy on {len(test_x)} test images, latency of one image on this machine")
    show(manifest, test_x, test_y)


def digits() -> tuple[Any, Any]:
    """The data set: 1,797 images [N, 8, 8, 1] float32 in [0, 1], and their labels [N]."""
    data = load_digits()
    return (data.images[..., np.newaxis] / 16).astype(np.float32), data.target


def train(images: Any, labels: Any) -> str:
    """Train in a process of its own, so that this one stays without TensorFlow; returns what it said."""
    np.savez(FOLDER / "train.npz", images=images, labels=labels)
    program = [sys.executable, str(HERE / "train.py"), str(FOLDER / "train.npz"), str(FOLDER / "digits.ckpt")]
    done = subprocess.run(program, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return done.stdout.strip()


def convert() -> Any:
    """Convert the checkpoint to everything, as a user would, and read the manifest."""
    from edgeconv.execution.manifest import read_manifest

    command = [
        *(sys.executable, "-m", "edgeconv", "convert", str(FOLDER / "digits.ckpt")),
        *("--model-builder", f"{HERE / 'model.py'}:build"),
        *("--to", TARGETS),
        *("--calibration", str(FOLDER / "calibration.npz")),
        *("-o", str(FOLDER / "digits.edgeconv")),
    ]
    console.print(
        Text("$ edgeconv " + " ".join(command[3:]).replace(f"{Path.cwd()}{os.sep}", ""), style="dim")
    )
    subprocess.run(command, check=True)
    return read_manifest(FOLDER / "digits.edgeconv")


def show(manifest: Any, images: Any, labels: Any) -> None:
    """One table: what each artifact weighs, how it was proven, how right and how quick it is."""
    sessions = open_all(manifest)
    right = {name: accuracy(session, images, labels) for name, session in sessions.items()}
    times = latencies(sessions, images[:1])
    slowest = max(times.values())
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("artifact", "size", "gate", "worst", "accuracy", "latency", ""):
        side = "left" if column in ("artifact", "gate", "") else "right"
        table.add_column(column, justify=side, no_wrap=True)
    for record in sorted(manifest.artifacts, key=lambda r: (ORDER.index(r.format), -r.bytes)):
        worst = max(output.max_abs or 0.0 for output in record.gate.outputs)
        micros = times[record.id]
        table.add_row(
            Text(record.id, style="bold"),
            f"{record.bytes / 1000:,.1f} kB",
            Text(f"✓ {record.gate.verdict}", style="green")
            if record.gate.verdict == "pass"
            else Text(f"✗ {record.gate.verdict}", style="red"),
            f"{worst:.1e}",
            f"{right[record.id]:.2%}",
            f"{micros:,.0f} µs",
            Text("▇" * max(1, round(10 * micros / slowest)), style="cyan"),
        )
    console.print(table)
    console.print(
        Text(
            f"worst: largest difference to its predecessor; latency: median of {ROUNDS * BURST} inferences, "
            f"1 thread, in {ROUNDS} rounds that take turns; int8 was calibrated on 100 training images",
            style="dim",
        )
    )
    console.print(f"artifacts and manifest.json are in [bold]{FOLDER / 'digits.edgeconv'}[/]")


def open_all(manifest: Any) -> dict[str, Any]:
    """A loaded session an artifact, by id."""
    import edgeconv

    folder = FOLDER / "digits.edgeconv"
    names = {record.id: record for record in manifest.artifacts}
    opened = {}
    for identifier, record in names.items():
        ends = {}
        if record.format == "frozen_graph":  # a GraphDef does not say where it begins and ends
            contract = record.contract
            ends = {key: [t["tensor"] for t in contract[key]] for key in ("inputs", "outputs")}
        with silenced():
            opened[identifier] = edgeconv.load(folder / record.path, **ends)
    return opened


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Without what native libraries print on standard error while they are loaded."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def accuracy(session: Any, images: Any, labels: Any) -> float:
    """Share of test images whose class the session names."""
    (name,) = (spec.name for spec in session.inputs)
    found = [next(iter(session.infer({name: image[np.newaxis]}).values())).argmax() for image in images]
    return float(np.mean(np.asarray(found) == labels))


def latencies(sessions: dict[str, Any], image: Any) -> dict[str, float]:
    """Median latency of one image in microseconds; all take turns, so that all meet the same noise."""
    samples: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(ROUNDS):
        for name, session in sessions.items():
            feed = {session.inputs[0].name: image}
            session.infer(feed)
            for _ in range(BURST):
                start = time.perf_counter_ns()
                session.infer(feed)
                samples[name].append((time.perf_counter_ns() - start) / 1000)
    return {name: float(np.median(values)) for name, values in samples.items()}


def step(name: str, work: Callable[[], str]) -> None:
    """Do one thing with its name and time on the terminal."""
    start = time.monotonic()
    with console.status(name):
        said = work()
    console.print(f"[green]✓[/] {name}: {said} [dim]{time.monotonic() - start:.0f} s[/]")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    main()
