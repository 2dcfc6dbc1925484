"""What the harness adds to a plain loop in C over the same library on the same model.

Run as ``python benchmarks/overhead.py [MODEL …] [--launches N]``, models in ONNX or TFLite; needs gcc, and for TFLite the side
environment ``tflite-runtime==2.14.0``. In fresh processes the agent's own loop and back end and a loop in C take turns in
short bursts (``overhead_ort.py``, ``overhead_tflite.py``). Of each launch the difference of the medians is kept, and
printed is the median over launches with its 95 % interval. Raw medians go to ``results/overhead.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import overhead_ort
import overhead_tflite
from overhead_turns import HERE, compiled

from edgeconv.latency.built_in import network
from edgeconv.latency.percentiles import median_interval


def made_up(folder: Path) -> list[Path]:
    """Models of either format, from microseconds to milliseconds."""
    made = [dense(folder, 2, 64), dense(folder, 8, 512), dense(folder, 160, 64, shared=True)]
    for layers, image in ((1, 3), (10, 12), (100, 20), (100, 48)):
        path = folder / f"layers-{layers}x{image}.tflite"
        path.write_bytes(network(layers, image))
        made.append(path)
    return made


def dense(folder: Path, layers: int, width: int, *, shared: bool = False) -> Path:
    """A float32 model of so many square matrix products with ReLU, of weights of their own or shared."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for layer in range(layers):
        if not shared or not layer:
            values = rng.standard_normal((width, width)).astype(np.float32) / np.float32(width)
            weights.append(numpy_helper.from_array(values, f"w{layer}"))
        name = "y" if layer == layers - 1 else f"h{layer}"
        nodes.append(helper.make_node("MatMul", [last, "w0" if shared else f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [name]))
        last = name
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "dense", ends[:1], ends[1:], weights)
    path = folder / f"dense-{layers}x{width}{'-shared' * shared}.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", type=Path, help="float32, of one input; made up if none")
    parser.add_argument("--launches", type=int, default=12)
    parser.add_argument("--write", action="store_true", help="keep it in results/overhead.json")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for_ort, for_tflite = (
            compiled(Path(folder), part.SOURCE) for part in (overhead_ort, overhead_tflite)
        )
        print(
            "| model | C, µs | harness, µs | more, ns | 95 % | of it | C against C, ns | within 1 µs or 0.5 % |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for model in options.models or made_up(Path(folder)):
            if model.suffix == ".tflite":
                once, runtime = partial(overhead_tflite.launch, for_tflite, model), overhead_tflite.RUNTIME
            else:
                once = partial(overhead_ort.launch, for_ort, model)
                runtime = f"onnxruntime=={version('onnxruntime')}"
            pilot = once(0.001)[1] / 1e9
            found = [once(pilot) for _ in range(options.launches)]
            harness, plain, again = np.array(found).T
            more, low, high = median_interval(harness - (plain + again) / 2)
            base = float(np.median((plain + again) / 2))
            rows.append(
                {
                    "model": model.name,
                    "runtime": runtime,
                    "load": os.getloadavg()[0],
                    "launches_ns": found,
                    "more_ns": [more, low, high],
                }
            )
            within = high <= 1000 or high <= 0.005 * base
            print(
                f"| {model.name} | {base / 1e3:.2f} | {np.median(harness) / 1e3:.2f} | {more:+.0f} |"
                f" {low:+.0f} to {high:+.0f} | {more / base:+.2%} | {np.median(plain - again):+.0f} |"
                f" {'yes' if within else 'no'} |",
                flush=True,
            )
    if options.write:
        results = HERE / "results/overhead.json"
        kept = json.loads(results.read_text()) if results.exists() else []
        names = {row["model"] for row in rows}
        rows = [row for row in kept if row["model"] not in names and "runtime" in row] + rows
        results.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
