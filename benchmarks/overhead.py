"""What the harness adds to a plain loop in C over the same library on the same model.

Run as ``python benchmarks/overhead.py [MODEL …] [--launches N]``, models in ONNX or TFLite; needs gcc. Of each launch the
difference of the medians is kept, and printed is the median over launches with its 95 % interval. Raw medians
go to ``results/overhead.json``.

ONNX Runtime: two fresh processes at a time, the agent as ``edgeconv bench`` starts it and ``overhead_ort.c`` on the same wheel's
libonnxruntime, take turns in short bursts of the same number of inferences. They are two processes, where weights come to
lie differently. TFLite: see ``overhead_tflite.py``, one process and one interpreter.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import overhead_tflite

from edgeconv.devices.base import RuntimeChoice
from edgeconv.devices.client import AgentClient
from edgeconv.devices.local import LocalDevice
from edgeconv.latency.built_in import network
from edgeconv.latency.percentiles import median_interval

HERE = Path(__file__).parent
ROUNDS = 60


class Loop:
    """The C program, which measures when it is asked."""

    def __init__(self, program: Path, library: Path, model: Path, inputs: Any, outputs: list[str]) -> None:
        dims = ",".join(str(size) for size in inputs["shape"])
        command = [str(program), str(library), str(model), inputs["name"], dims, *outputs]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def measure(self, count: int) -> Any:
        """So many samples, ns."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"%d\n" % count)
        self._process.stdin.flush()
        data = self._process.stdout.read(8 * count)
        if len(data) != 8 * count:
            raise SystemExit("the loop in C ended")
        return np.frombuffer(data, np.int64)

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def launch(program: Path, library: Path, model: Path, took: float) -> tuple[float, float, float]:
    """Medians of the harness, of C, and of C again in the bursts between, of one launch, ns."""
    burst = max(5, min(200, int(0.004 / max(took, 1e-7))))
    with AgentClient(LocalDevice(), RuntimeChoice("onnxruntime")) as client:
        opened = client.open("onnxruntime", "onnx", model, (model,), {"threads": 1})
        (fed,) = opened.inputs
        fed = {"name": fed["name"], "shape": [size or 1 for size in fed["shape"]]}
        arrays = [(fed["name"], np.ones(fed["shape"], np.float32))]
        fields = {"models": [opened.number], "inputs": [[{fed["name"]: 0}]], "burst": burst, "rounds": 1}
        loop = Loop(program, library, model, fed, [str(each["name"]) for each in opened.outputs])
        samples: dict[str, list[Any]] = {"harness": [], "c": [], "again": []}
        try:
            for number in range(ROUNDS):
                for kind in ("c", "harness", "again") if number % 2 else ("again", "harness", "c"):
                    if kind == "harness":
                        told = dict(client.ask("measure", fields, arrays)[1])["ns"].ravel()
                    else:
                        told = loop.measure(burst)
                    # The first of a burst pays for the caches that the other filled.
                    samples[kind].append(np.median(told[1:]))
        finally:
            loop.close()
    return tuple(float(np.median(samples[kind][5:])) for kind in ("harness", "c", "again"))  # type: ignore[return-value]


def made_up(folder: Path) -> list[Path]:
    """Models of either format, from microseconds to milliseconds."""
    made = [dense(folder, 2, 64), dense(folder, 8, 512)]
    for layers, image in ((1, 3), (10, 12), (100, 20), (100, 48)):
        path = folder / f"layers-{layers}x{image}.tflite"
        path.write_bytes(network(layers, image))
        made.append(path)
    return made


def dense(folder: Path, layers: int, width: int) -> Path:
    """A float32 model of so many square matrix products with ReLU, for a time of choice."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for layer in range(layers):
        values = rng.standard_normal((width, width)).astype(np.float32) / np.float32(width)
        weights.append(numpy_helper.from_array(values, f"w{layer}"))
        name = "y" if layer == layers - 1 else f"h{layer}"
        nodes.append(helper.make_node("MatMul", [last, f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [name]))
        last = name
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "dense", ends[:1], ends[1:], weights)
    path = folder / f"dense-{layers}x{width}.onnx"
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
    import onnxruntime

    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "loop"
        source = HERE / "overhead_ort.c"
        subprocess.run(["gcc", "-O2", "-w", "-o", program, source, "-ldl"], check=True)
        print(
            "| model | C, µs | harness, µs | more, ns | 95 % | of it | C against C, ns | within 1 µs or 0.5 % |"
        )
        print("|---|---|---|---|---|---|---|---|")
        preloaded = overhead_tflite.compiled(Path(folder))
        for model in options.models or made_up(Path(folder)):
            if model.suffix == ".tflite":
                once, runtime = partial(overhead_tflite.launch, preloaded, model), overhead_tflite.RUNTIME
            else:
                once = partial(launch, program, library, model)
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
        rows = [row for row in kept if row["model"] not in names] + rows
        results.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
