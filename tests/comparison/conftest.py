"""Small real models in several formats, made once for the tests that look inside of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgeconv.formats.base import Contract, Quantization, TensorSpec


@dataclass(frozen=True)
class SmallModel:
    """One CNN as frozen graph, TFLite fp32 and int8, and ONNX, with the contract of each."""

    folder: Path
    contracts: dict[str, Contract]

    def path(self, name: str) -> Path:
        """The file of that variant (``frozen_graph``, ``tflite``, ``tflite_int8``, ``onnx``)."""
        suffix = {"frozen_graph": ".pb", "onnx": ".onnx"}.get(name, ".tflite")
        return self.folder / f"{name}{suffix}"


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> SmallModel:
    """A CNN of four convolutions with biases, a residual sum and a dense head, built with TensorFlow."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf
    import tf2onnx

    folder = tmp_path_factory.mktemp("small_model")
    rng = np.random.default_rng(3)

    def weight(*shape: int) -> tf.Tensor:
        fan = int(np.prod(shape[:-1]))
        return tf.constant(rng.normal(0, 1.5 / np.sqrt(fan), shape).astype(np.float32))

    def bias(size: int) -> tf.Tensor:
        return tf.constant(rng.normal(0, 0.2, size).astype(np.float32))

    graph = tf.Graph()
    with graph.as_default():
        image = tf.compat.v1.placeholder(tf.float32, (1, 16, 16, 3), "image")
        x: tf.Tensor = image
        for number, (size, stride) in enumerate(((8, 1), (16, 2), (16, 1)), start=1):
            with tf.name_scope(f"block{number}"):
                y = tf.nn.conv2d(x, weight(3, 3, x.shape[-1], size), stride, "SAME", name="conv")
                y = tf.nn.relu(tf.nn.bias_add(y, bias(size), name="bias"), name="relu")
                x = tf.add(x, y, name="sum") if number == 3 else y
        with tf.name_scope("head"):
            x = tf.nn.conv2d(x, weight(1, 1, 16, 12), 1, "SAME", name="conv")
            x = tf.nn.relu(tf.nn.bias_add(x, bias(12), name="bias"), name="relu")
            x = tf.reduce_mean(x, [1, 2], name="pool")
            x = tf.add(tf.matmul(x, weight(12, 5), name="dense"), bias(5), name="add")
        tf.identity(x, "logits")
    graph_def = graph.as_graph_def()
    (folder / "frozen_graph.pb").write_bytes(graph_def.SerializeToString())
    spec_in = TensorSpec("image", "float32", (1, 16, 16, 3), "image:0")
    spec_out = TensorSpec("logits", "float32", (1, 5), "logits:0")

    def converter() -> tf.lite.TFLiteConverter:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            tf.graph_util.import_graph_def(graph_def, name="")
            get = session.graph.get_tensor_by_name
            return tf.compat.v1.lite.TFLiteConverter(session.graph_def, [get("image:0")], [get("logits:0")])

    (folder / "tflite.tflite").write_bytes(converter().convert())
    quantizer = converter()
    quantizer.optimizations = [tf.lite.Optimize.DEFAULT]
    quantizer.representative_dataset = lambda: (
        [rng.random((1, 16, 16, 3), dtype=np.float32)] for _ in range(20)
    )
    quantizer.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    (folder / "tflite_int8.tflite").write_bytes(quantizer.convert())
    tf2onnx.convert.from_graph_def(
        graph_def,
        input_names=["image:0"],
        output_names=["logits:0"],
        opset=15,
        output_path=str(folder / "onnx.onnx"),
    )
    contract = Contract((spec_in,), (spec_out,))
    plain = Contract(
        (TensorSpec("image", "float32", (1, 16, 16, 3), "image"),),
        (TensorSpec("logits", "float32", (1, 5), "logits"),),
    )
    return SmallModel(
        folder, {"frozen_graph": contract, "onnx": contract, "tflite": plain, "tflite_int8": plain}
    )


__all__ = ["Quantization", "SmallModel", "small_model"]
