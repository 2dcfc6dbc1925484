"""The same artifacts by the tools' own calls, one after another in one process, without gates.

Run as ``python benchmarks/by_hand.py SAVED_MODEL SAMPLES.npz OUT``. It is what a person would write from the
tools' documentation: frozen graph, TFLite fp32, fp16, dynamic and int8, ONNX fp32 and QDQ int8. Prints one
JSON object with the seconds of each step.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")


def main(saved_model: str, samples: str, out: Path) -> None:
    """Make everything; see the module's docstring."""
    seconds: dict[str, float] = {}
    start = time.monotonic()
    import numpy as np
    import onnxruntime.quantization as quantization
    import tensorflow as tf
    import tf2onnx
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    seconds["imports"] = time.monotonic() - start
    out.mkdir(parents=True, exist_ok=True)
    images = np.load(samples)["image"]

    def timed(name: str, begun: float) -> None:
        seconds[name] = time.monotonic() - begun

    start = time.monotonic()
    loaded = tf.saved_model.load(saved_model)
    frozen = convert_variables_to_constants_v2(loaded.signatures["serving_default"])
    graph_def = frozen.graph.as_graph_def()
    (out / "model.pb").write_bytes(graph_def.SerializeToString())
    timed("frozen graph", start)

    def representative() -> Iterator[list[Any]]:
        for image in images:
            yield [image[np.newaxis]]

    for precision in ("fp32", "fp16", "dynamic", "int8"):
        start = time.monotonic()
        converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
        if precision != "fp32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "fp16":
            converter.target_spec.supported_types = [tf.float16]
        if precision == "int8":
            converter.representative_dataset = representative
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        (out / f"model.{precision}.tflite").write_bytes(converter.convert())
        timed(f"tflite {precision}", start)

    start = time.monotonic()
    inputs = [tensor.name for tensor in frozen.inputs]
    outputs = [tensor.name for tensor in frozen.outputs]
    model, _ = tf2onnx.convert.from_graph_def(graph_def, input_names=inputs, output_names=outputs, opset=15)
    (out / "model.onnx").write_bytes(model.SerializeToString())
    timed("onnx fp32", start)

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._feeds = iter({inputs[0]: image[np.newaxis]} for image in images)

        def get_next(self) -> Any:
            return next(self._feeds, None)

    start = time.monotonic()
    quantization.quant_pre_process(str(out / "model.onnx"), str(out / "pre.onnx"))
    quantization.quantize_static(
        str(out / "pre.onnx"),
        str(out / "model.int8.onnx"),
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
    )
    timed("onnx int8", start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak_rss_bytes": peak}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
