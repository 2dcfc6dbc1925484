"""How quick and how lean edgeconv is, both sides of every ratio in one run on one machine.

    python benchmarks/speed.py matrix     whole matrix with gates against the tools' own calls without
    python benchmarks/speed.py memory     peak memory of every worker on ResNet50 and InceptionV3
    python benchmarks/speed.py cold       one small model to one TFLite file, against importing TensorFlow
    python benchmarks/speed.py rerun      the same command again with nothing changed
    python benchmarks/speed.py start      --help, and inspect of a TFLite and an ONNX file
    python benchmarks/speed.py report     writes docs/benchmarks.md from the raw numbers of all these

Each writes its raw numbers to ``benchmarks/results/NAME.json`` and prints a table.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WORK = Path("build/benchmarks")
MATRIX = ["MobileNetV2", "EfficientNetB0", "ResNet50"]
TARGETS = "frozen_graph,tflite:fp32,tflite:fp16,tflite:dynamic,tflite:int8,onnx:fp32,onnx:int8"
EDGECONV = [sys.executable, "-m", "edgeconv"]
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


def run(command: list[str], accepted: tuple[int, ...] = (0,), **environment: str) -> tuple[float, float, str]:
    """Run a command; wall seconds, CPU seconds with all its children, and its standard output.

    Ends the program where the exit code is not one of ``accepted``.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    done = subprocess.run(
        command,
        env={**os.environ, **QUIET, **environment},
        capture_output=True,
        text=True,
    )
    wall = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in accepted:
        raise SystemExit(
            f"{' '.join(command)} ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        )
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, done.stdout


def model(name: str) -> tuple[str, str]:
    """SavedModel and calibration samples of a network, built if they are not there."""
    run([sys.executable, str(HERE / "models.py"), name, str(WORK)])
    return str(WORK / name), str(WORK / f"{name}.npz")


def convert(name: str, targets: str, *more: str, fresh: bool = True) -> tuple[float, float, Any]:
    """Wall and CPU seconds and the manifest of a whole ``edgeconv convert`` from the shell."""
    saved_model, samples = model(name)
    out, cache = WORK / f"{name}.edgeconv", WORK / "cache"
    if fresh:
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(cache, ignore_errors=True)
    command = [*EDGECONV, "convert", saved_model, "--to", targets, "--calibration", samples, "-o", str(out)]
    # A gate that fails on a random network (1) costs what a good one costs, and its row says so.
    wall, cpu, printed = run([*command, "--json", "-q", *more], (0, 1), EDGECONV_CACHE_DIR=str(cache))
    return wall, cpu, json.loads(printed)


def matrix(repeats: int = 2) -> None:
    """The full matrix: edgeconv with all gates, by hand without, in turns."""
    rows = []
    for name in MATRIX:
        saved_model, samples = model(name)
        for _ in range(repeats):
            ours, our_cpu, manifest = convert(name, TARGETS)
            hand, hand_cpu, printed = run(
                [
                    sys.executable,
                    str(HERE / "by_hand.py"),
                    saved_model,
                    samples,
                    str(WORK / f"{name}.by_hand"),
                ]
            )
            rows.append(
                {
                    "model": name,
                    "edgeconv_s": ours,
                    "edgeconv_cpu_s": our_cpu,
                    "by_hand_s": hand,
                    "by_hand_cpu_s": hand_cpu,
                    "ratio": ours / hand,
                    "gates": {a["id"]: a["gate"]["verdict"] for a in manifest["artifacts"]},
                    "steps": {a["id"]: a["seconds"] for a in manifest["artifacts"]},
                    "peaks": {a["id"]: a["peak_rss_bytes"] for a in manifest["artifacts"]},
                    "by_hand_steps": json.loads(printed.strip().splitlines()[-1]),
                }
            )
            print(f"{name:16} {ours:6.1f} s, by hand {hand:6.1f} s: {ours / hand:.0%}", flush=True)
    save("matrix", rows)
    for name in MATRIX:
        ratio = statistics.median(row["ratio"] for row in rows if row["model"] == name)
        print(f"{name:16} median ratio {ratio:.0%}")


def memory() -> None:
    """Peak memory of every worker, against 1 GB and six times the weights."""
    rows = []
    for name in ("ResNet50", "InceptionV3"):
        _, _, manifest = convert(name, f"{TARGETS},tflite:int16x8,onnx:fp16,ort")
        weights = next(a["bytes"] for a in manifest["artifacts"] if a["id"] == "tflite.fp32")
        bound = 1e9 + 6 * weights
        peaks = {("source", "gate"): manifest["source"]["peak_rss_bytes"]}
        for artifact in manifest["artifacts"]:
            peaks[artifact["id"], "convert"] = artifact["peak_rss_bytes"]
            peaks[artifact["id"], "gate"] = artifact["gate"]["peak_rss_bytes"]
        for (artifact, step), peak in peaks.items():
            rows.append({"model": name, "artifact": artifact, "step": step, "peak": peak, "bound": bound})
            print(f"{name:12} {artifact:18} {step:8} {peak / 1e6:6.0f} MB, {peak / bound:4.0%} of the bound")
    save("memory", rows)


def cold(repeats: int = 3) -> None:
    """One small SavedModel to one TFLite file, everything cold, against ``import tensorflow``."""
    folder = WORK / "small"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "small").exists():
        run([sys.executable, str(HERE / "small_model.py"), str(folder / "small")])
    rows = []
    for _ in range(repeats):
        bare, _, _ = run([sys.executable, "-c", "import tensorflow"])
        for path in (folder / "small", folder / "small.keras"):
            shutil.rmtree(folder / "out", ignore_errors=True)
            shutil.rmtree(folder / "cache", ignore_errors=True)
            command = [*EDGECONV, "convert", str(path), "--to", "tflite", "-o", str(folder / "out"), "-q"]
            ours, _, _ = run(command, EDGECONV_CACHE_DIR=str(folder / "cache"))
            rows.append({"source": path.name, "edgeconv_s": ours, "import_s": bare, "more_s": ours - bare})
            print(
                f"{path.name:12} {ours:.2f} s, import tensorflow {bare:.2f} s: {ours - bare:+.2f} s",
                flush=True,
            )
    save("cold", rows)


def rerun(repeats: int = 5) -> None:
    """The whole matrix of ResNet50 and MobileNetV2 again, with nothing changed."""
    rows = []
    for name in ("MobileNetV2", "ResNet50"):
        convert(name, TARGETS)
        for _ in range(repeats):
            wall, cpu, manifest = convert(name, TARGETS, fresh=False)
            assert all(artifact["cached"] for artifact in manifest["artifacts"])
            rows.append({"model": name, "wall_s": wall, "cpu_s": cpu})
        print(f"{name:16} median {statistics.median(r['wall_s'] for r in rows if r['model'] == name):.2f} s")
    save("rerun", rows)


def start(repeats: int = 7) -> None:
    """Commands that must answer at once."""
    convert("MobileNetV2", TARGETS)
    out = WORK / "MobileNetV2.edgeconv"
    rows = []
    commands = [
        ["--help"],
        ["convert", "--help"],
        ["inspect", str(out / "MobileNetV2.fp32.tflite")],
        ["inspect", str(out / "MobileNetV2.fp32.onnx")],
        ["inspect", str(WORK / "MobileNetV2")],
    ]
    for words in commands:
        times = [run([*EDGECONV, *words])[0] for _ in range(repeats)]
        rows.append({"command": words, "wall_s": times})
        print(f"{' '.join(words):60} median {statistics.median(times):.2f} s")
    save("start", rows)


def save(name: str, rows: list[dict[str, Any]]) -> None:
    """Keep the raw numbers with the machine they were taken on."""
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    (results / f"{name}.json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    commands = {"matrix": matrix, "memory": memory, "cold": cold, "rerun": rerun, "start": start}
    if sys.argv[1] == "report":
        from report import write_report

        write_report(HERE / "results", Path("docs/benchmarks.md"))
    else:
        commands[sys.argv[1]]()
