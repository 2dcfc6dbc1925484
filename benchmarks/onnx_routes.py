"""Two ways from a frozen graph to ONNX, and two ways to int8, each in a process of its own.

    python benchmarks/onnx_routes.py MobileNetV2 ResNet50 lstm > docs/onnx-routes.md

Prints a Markdown table: seconds (wall and CPU, after imports), peak memory of the whole process, nodes,
latency in ONNX Runtime (one thread, minimum of 30, the two files interleaved) and the largest difference
from TensorFlow. Weights are random: nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHAPES = {"InceptionV3": (299, 299, 3), "lstm": (20, 16)}


def build(name: str, folder: Path) -> None:
    """Freeze a model with random weights into ``folder/NAME.pb``."""
    import keras
    import numpy
    import tensorflow
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    keras.utils.set_random_seed(1)
    if name == "lstm":
        layers = [keras.layers.LSTM(64, return_sequences=True), keras.layers.GRU(64)]
        model = keras.Sequential([keras.Input(SHAPES[name]), *layers, keras.layers.Dense(10)])
    else:
        model = getattr(keras.applications, name)(weights=None)
    random = numpy.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([w + random.uniform(0, 0.2, w.shape).astype("f") for w in layer.get_weights()])
    function = tensorflow.function(lambda x: model(x, training=False)).get_concrete_function(
        tensorflow.TensorSpec(model.input_shape, tensorflow.float32, name="x")
    )
    frozen = convert_variables_to_constants_v2(function, lower_control_flow=False)
    (folder / f"{name}.pb").write_bytes(frozen.graph.as_graph_def().SerializeToString())
    x = random.normal(size=(1, *model.input_shape[1:])).astype("f")
    numpy.savez(folder / f"{name}.npz", x=x, y=frozen(tensorflow.constant(x))[0].numpy())
    samples = random.normal(size=(100 if name != "InceptionV3" else 50, *model.input_shape[1:]))
    numpy.savez(folder / f"{name}.samples.npz", x=samples.astype("f"))


def edgeconv_fp32(name: str, folder: Path) -> Callable[[], Any]:
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import tf2onnx  # noqa: F401

    from edgeconv.conversions.base import ConversionJob
    from edgeconv.conversions.onnx_from_frozen_graph import convert

    source = artifact(folder / f"{name}.pb", "frozen_graph", name)
    return lambda: convert(ConversionJob(source, folder / f"{name}.edgeconv.onnx", "fp32", folder))


def plain_fp32(name: str, folder: Path) -> Callable[[], Any]:
    import tensorflow
    import tf2onnx

    def work() -> None:
        graph = tensorflow.compat.v1.GraphDef.FromString((folder / f"{name}.pb").read_bytes())
        tf2onnx.convert.from_graph_def(
            graph,
            input_names=["x:0"],
            output_names=["Identity:0"],
            opset=17,
            output_path=str(folder / f"{name}.plain.onnx"),
        )

    return work


def edgeconv_int8(name: str, folder: Path) -> Callable[[], Any]:
    import onnx  # noqa: F401
    import onnxruntime.quantization  # noqa: F401

    from edgeconv.conversions.base import ConversionJob
    from edgeconv.conversions.onnx_from_onnx import convert

    source = artifact(folder / f"{name}.edgeconv.onnx", "onnx", name)
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    job = ConversionJob(
        source, folder / f"{name}.edgeconv.int8.onnx", "int8", scratch, folder / f"{name}.samples.npz"
    )
    return lambda: convert(job)


def plain_int8(name: str, folder: Path) -> Callable[[], Any]:
    # Its shape inference leaves a file in the working folder where it fails.
    os.chdir(folder)
    import numpy
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    samples = numpy.load(folder / f"{name}.samples.npz")["x"]

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(samples)

        def get_next(self) -> dict[str, Any] | None:
            sample = next(self.left, None)
            return None if sample is None else {"x:0": sample[None]}

    def work() -> None:
        prepared = folder / f"{name}.prepared.onnx"
        quant_pre_process(str(folder / f"{name}.plain.onnx"), str(prepared))
        quantize_static(
            str(prepared),
            str(folder / f"{name}.plain.int8.onnx"),
            Reader(),
            per_channel=True,
            activation_type=QuantType.QUInt8,
        )

    return work


ROUTES = {
    ("edgeconv", "fp32"): edgeconv_fp32,
    ("plain", "fp32"): plain_fp32,
    ("edgeconv", "int8"): edgeconv_int8,
    ("plain", "int8"): plain_int8,
}


def artifact(path: Path, kind: str, name: str) -> Any:
    from edgeconv.formats.base import Artifact, Contract, TensorSpec

    shape = (None, *SHAPES.get(name, (224, 224, 3)))
    tensors = ("x:0", "Identity:0") if kind == "frozen_graph" else (None, None)
    contract = Contract(
        (TensorSpec("x", "float32", shape, tensors[0]),),
        (TensorSpec("y", "float32", (None, 10 if name == "lstm" else 1000), tensors[1]),),
    )
    return Artifact(path, kind, "fp32", "", contract)


def measure(route: str, precision: str, name: str, folder: Path) -> dict[str, Any]:
    """Run one route here and say what it took."""
    work = ROUTES[route, precision](name, folder)
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def judge(precision: str, name: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Nodes, size, interleaved latency and error of the files of both routes."""
    import numpy
    import onnx
    import onnxruntime

    data = numpy.load(folder / f"{name}.npz")
    suffix = "" if precision == "fp32" else f".{precision}"
    found: dict[str, dict[str, Any]] = {}
    sessions: dict[str, Any] = {}
    for route in ("edgeconv", "plain"):
        path = folder / f"{name}.{route}{suffix}.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(str(path), options)
        except Exception as error:
            found[route] = {"refused": str(error).split(":")[-1].strip()[:60]}
            continue
        sessions[route] = session
        output = session.run(None, {session.get_inputs()[0].name: data["x"]})[0]
        found[route] = {
            "nodes": len(onnx.load(str(path)).graph.node),
            "mb": path.stat().st_size / 1e6,
            "error": float(numpy.abs(output - data["y"]).max() / numpy.abs(data["y"]).max()),
            "ms": float("inf"),
        }
    for _ in range(30):
        for route, session in sessions.items():
            feed = {session.get_inputs()[0].name: data["x"]}
            begin = time.perf_counter()
            session.run(None, feed)
            found[route]["ms"] = min(found[route]["ms"], (time.perf_counter() - begin) * 1e3)
    return found


def child(*arguments: str) -> dict[str, Any] | None:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "ORT_DISABLE_TELEMETRY": "1"}
    shown = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    if shown.returncode:
        print(shown.stderr.strip().splitlines()[-1][:200], file=sys.stderr)
        return None
    result: dict[str, Any] = json.loads(shown.stdout.strip().splitlines()[-1])
    return result


def main() -> None:
    """Build, convert and compare each model named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=["MobileNetV2", "ResNet50", "lstm"])
    parser.add_argument(
        "--only", nargs=4, metavar=("STEP", "PRECISION", "MODEL", "FOLDER"), help=argparse.SUPPRESS
    )
    asked = parser.parse_args()
    if asked.only:
        step, precision, name, folder = asked.only
        if step == "build":
            build(name, Path(folder))
            print("{}")
        elif step == "judge":
            print(json.dumps(judge(precision, name, Path(folder))))
        else:
            print(json.dumps(measure(step, precision, name, Path(folder))))
        return
    print("| model | precision | route | wall s | CPU s | peak MB | nodes | MB | ms | error / range |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in asked.models:
        with tempfile.TemporaryDirectory() as folder:
            child("--only", "build", "-", name, folder)
            for precision in ("fp32", "int8"):
                routes = ("edgeconv", "plain")
                taken = {r: child("--only", r, precision, name, folder) for r in routes}
                judged = child("--only", "judge", precision, name, folder) or {}
                for route in routes:
                    print(row(name, precision, route, taken[route], judged.get(route, {})), flush=True)


def row(name: str, precision: str, route: str, taken: dict[str, Any] | None, judged: dict[str, Any]) -> str:
    cost = f"{taken['wall']:.1f} | {taken['cpu']:.1f} | {taken['peak']:.0f}" if taken else "failed | |"
    if "nodes" in judged:
        quality = f"{judged['nodes']} | {judged['mb']:.1f} | {judged['ms']:.2f} | {judged['error']:.1e}"
    else:
        quality = f"refused: {judged.get('refused', 'no file')} | | |"
    return f"| {name} | {precision} | {route} | {cost} | {quality} |"


if __name__ == "__main__":
    main()
