"""Which route to a quantized TFLite file is better: TensorFlow's converter, or LiteRT Quantizer on fp32.

Both start from the same frozen graph and get the same calibration samples; each conversion runs in a
process of its own, so that its peak memory is its own. Seconds leave imports out, memory does not.

    python benchmarks/quantization_routes.py [--models small,mobilenet_v2] [--precisions int8] [--samples 100]
        [--json FILE]

The corpus' models need EDGECONV_CORPUS (or the corpus beside the project).
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

import numpy as np

CORPUS = Path(os.environ.get("EDGECONV_CORPUS", Path(__file__).parents[2] / "shared" / "corpus"))
PRECISIONS = ("fp16", "dynamic", "int8", "int16x8")
TEST_SAMPLES = 5

# Frozen graphs of the corpus: file, input tensor, its shape, output tensors, lowest and highest input.
FROZEN: dict[str, tuple[str, str, tuple[int, ...], tuple[str, ...], float, float]] = {
    "facemask_ssd": (
        "fz-facemask-ssd/face_mask_detection.pb", "data_1:0", (1, 260, 260, 3),
        ("loc_branch_concat_1/concat:0", "cls_branch_concat_1/concat:0"), 0, 1,
    ),
    "kws_ds_cnn_core": (
        "fz-kws-armmcu/DS_CNN_S.pb", "Mfcc:0", (1, 49, 10), ("labels_softmax:0",), -30, 30,
    ),
    "openpose_small": (
        "fz-openpose/mobilenet_v2_small/graph_opt.pb", "image:0", (1, 368, 432, 3),
        ("Openpose/concat_stage7:0",), -1, 1,
    ),
}  # fmt: skip
KERAS = ("small", "mobilenet_v2", "efficientnet_b0", "resnet50")


def images(count: int, shape: tuple[int, ...], low: float, high: float, seed: int) -> np.ndarray:
    """Smooth random images of differing contrast, as arrays of shape ``(count, *shape)``."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        coarse = rng.normal(size=(1, *(max(2, s // 16) for s in shape[1:3]), *shape[3:]))
        for axis, size in enumerate(shape[1:3], start=1):
            coarse = np.repeat(coarse, -(-size // coarse.shape[axis]), axis=axis)
        smooth = coarse[:, : shape[1], : shape[2]] + 0.1 * rng.normal(size=shape)
        unit = np.clip(0.5 + smooth * rng.uniform(0.1, 0.4), 0, 1)
        made.append((low + unit * (high - low)).astype(np.float32))
    return np.stack(made)


def keras_function(name: str) -> tuple[Any, tuple[int, ...], float, float]:
    """A Keras model with batch statistics of real-looking data, as a concrete function of batch 1."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    shape = (1, 32, 32, 3) if name == "small" else (1, 224, 224, 3)
    low, high = (0.0, 255.0) if name == "efficientnet_b0" else (-1.0, 1.0)
    if name == "small":
        inputs = x = keras.Input(shape[1:])
        for filters in (16, 32, 64):
            x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = keras.layers.MaxPooling2D()(keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(x)))
        x = keras.layers.Dense(32, activation="relu")(keras.layers.GlobalAveragePooling2D()(x))
        model = keras.Model(inputs, keras.layers.Dense(10)(x))
    else:
        factory = {"mobilenet_v2": "MobileNetV2", "efficientnet_b0": "EfficientNetB0", "resnet50": "ResNet50"}
        model = getattr(keras.applications, factory[name])(weights=None, classifier_activation=None)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.3
    for step in range(4):
        model(images(4, shape, low, high, 1000 + step)[:, 0], training=True)
    function = tf.function(lambda x: {"logits": model(x, training=False)})
    return function.get_concrete_function(tf.TensorSpec(shape, tf.float32, name="x")), shape, low, high


def prepare(name: str, folder: Path, samples: int) -> None:
    """Write ``frozen.pb``, ``io.json``, ``fp32.tflite``, ``calibration.npz`` and ``test.npz``."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    if name in FROZEN:
        file, given, shape, wanted, low, high = FROZEN[name]
        graph = tf.compat.v1.GraphDef.FromString((CORPUS / file).read_bytes())
        outputs = list(wanted)
    else:
        function, shape, low, high = keras_function(name)
        frozen = convert_variables_to_constants_v2(function)
        graph, given = frozen.graph.as_graph_def(), frozen.inputs[0].name
        outputs = [tensor.name for tensor in frozen.outputs]
    (folder / "frozen.pb").write_bytes(graph.SerializeToString())
    (folder / "io.json").write_text(json.dumps({"input": given, "shape": shape, "outputs": outputs}))
    (folder / "fp32.tflite").write_bytes(converter(folder).convert())
    key = given.removesuffix(":0").replace("/", "|")
    np.savez(folder / "calibration.npz", **{key: images(samples, shape, low, high, 1)})
    np.savez(folder / "test.npz", **{key: images(TEST_SAMPLES, shape, low, high, 2)})


def converter(folder: Path) -> Any:
    """TensorFlow's converter on the frozen graph, pruned to its inputs and outputs."""
    import tensorflow as tf

    io = json.loads((folder / "io.json").read_text())
    graph = tf.compat.v1.GraphDef.FromString((folder / "frozen.pb").read_bytes())
    wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    given = wrapped.graph.get_tensor_by_name(io["input"])
    given.set_shape(io["shape"])
    pruned = wrapped.prune(given, [wrapped.graph.get_tensor_by_name(name) for name in io["outputs"]])
    return tf.lite.TFLiteConverter.from_concrete_functions([pruned], None)


def by_tensorflow(folder: Path, precision: str) -> tuple[Callable[[], bytes], str]:
    """TensorFlow's converter with its documented settings for the precision."""
    import tensorflow as tf

    made = converter(folder)
    made.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "fp16":
        made.target_spec.supported_types = [tf.float16]
    elif precision != "dynamic":
        [data] = np.load(folder / "calibration.npz").values()
        made.representative_dataset = lambda: ([sample] for sample in data)
        if precision == "int16x8":
            made.target_spec.supported_ops = [
                tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
                tf.lite.OpsSet.TFLITE_BUILTINS,
            ]
    return made.convert, ""


def by_litert(folder: Path, precision: str, **options: Any) -> tuple[Callable[[], bytes], str]:
    """edgeconv's arrow from the fp32 file, including its own check that the result opens and runs."""
    from edgeconv.conversions.base import ConversionJob
    from edgeconv.conversions.tflite_from_tflite import CONVERSION
    from edgeconv.formats.base import Artifact

    for module in CONVERSION.preload:
        __import__(module)
    scratch = Path(tempfile.mkdtemp(dir=folder))
    source = Artifact(folder / "fp32.tflite", "tflite", "fp32", "", None)
    job = ConversionJob(
        source, scratch / "out.tflite", precision, scratch, folder / "calibration.npz", options
    )

    def convert() -> bytes:
        CONVERSION.convert(job)
        return job.destination.read_bytes()

    return convert, ""


ROUTES: dict[str, Callable[[Path, str], tuple[Callable[[], bytes], str]]] = {
    "tensorflow": by_tensorflow,
    "litert": by_litert,
    "litert, moving average": lambda folder, precision: by_litert(
        folder, precision, calibration_rule="moving_average"
    ),
}


def measure(folder: Path, route: str, precision: str) -> dict[str, Any]:
    """Convert once and compare with the fp32 file; runs in a process of its own."""
    row: dict[str, Any] = {"route": route, "precision": precision}
    start_cpu = time.process_time()
    try:
        convert, _ = ROUTES[route](folder, precision)
        start, start_cpu = time.perf_counter(), time.process_time()
        data = convert()
    except Exception as error:
        return {**row, "error": str(error).strip().split("\n")[0][:160]}
    row["seconds"] = time.perf_counter() - start
    row["cpu_seconds"] = time.process_time() - start_cpu
    row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    row["bytes"] = len(data)
    path = folder / "measured.tflite"
    path.write_bytes(data)
    try:
        row["decibels"] = error_of(folder / "fp32.tflite", path, folder / "test.npz")
        row["loads"] = True
    except Exception as error:
        row.update(loads=False, error=str(error).strip().split("\n")[0][:160])
    return row


def error_of(reference: Path, candidate: Path, test: Path) -> float:
    """Signal to quantization noise in dB over the test samples: the worst of the outputs."""
    from ai_edge_litert.interpreter import Interpreter

    [data] = np.load(test).values()

    def run(path: Path) -> list[np.ndarray]:
        interpreter = Interpreter(model_path=str(path), num_threads=2)
        interpreter.allocate_tensors()
        results: list[list[np.ndarray]] = []
        for sample in data:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample)
            interpreter.invoke()
            results.append([interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()])
        return [np.stack(column).astype(np.float64) for column in zip(*results, strict=True)]

    expected, found = run(reference), run(candidate)
    return min(
        float(10 * np.log10((e**2).sum() / max(((e - f) ** 2).sum(), 1e-30)))
        for e, f in zip(expected, sorted_like(expected, found), strict=True)
    )


def sorted_like(expected: list[np.ndarray], found: list[np.ndarray]) -> list[np.ndarray]:
    """``found`` in the order of ``expected``, by shape: converters may reorder outputs."""
    left = list(found)
    ordered = []
    for one in expected:
        match = next(index for index, other in enumerate(left) if other.shape == one.shape)
        ordered.append(left.pop(match))
    return ordered


def child(arguments: list[str]) -> dict[str, Any]:
    """Run this file in a process of its own; the last line it prints is its answer."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False)
    try:
        answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {"error": f"exit code {done.returncode}: {done.stderr.strip()[-160:]}"}
    return answer


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| model | precision | route | s | CPU s | peak MB | KB | SQNR dB | runs |",
        "| --- | --- | --- | --: | --: | --: | --: | --: | --- |",
    ]
    for row in rows:
        if "seconds" in row:
            decibels = f"{row['decibels']:.1f}" if "decibels" in row else ""
            numbers = (
                f"{row['seconds']:.2f} | {row['cpu_seconds']:.2f} | {row['peak_mb']:.0f} | "
                f"{row['bytes'] / 1024:.0f} | {decibels}"
            )
        else:
            numbers = " | | | |"
        says = "yes" if row.get("loads") else f"no: {row.get('error', '')}"
        lines.append(f"| {row['model']} | {row['precision']} | {row['route']} | {numbers} | {says} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join((*KERAS, *FROZEN)))
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
    if arguments.child:
        folder, what, which = Path(arguments.child[0]), arguments.child[1], arguments.child[2]
        if what == "prepare":
            prepare(which, folder, arguments.samples)
            print(json.dumps({"prepared": True}))
        else:
            print(json.dumps(measure(folder, what, which)))
        return
    rows: list[dict[str, Any]] = []
    for model in arguments.models.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            samples = ["--samples", str(arguments.samples)]
            made = child([*samples, "--child", scratch, "prepare", model])
            if "error" in made:
                rows.append({"model": model, "precision": "", "route": "prepare", "error": made["error"]})
                continue
            for precision in arguments.precisions.split(","):
                for route in ROUTES:
                    if "moving" in route and precision not in ("int8", "int16x8"):
                        continue
                    row = child(["--child", scratch, route, precision])
                    rows.append({"precision": precision, "route": route, **row, "model": model})
                    print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
