"""Quantized files for old runtimes: made until the tables say that they run, giving up the least."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.checking.tflite import CHECKER, refused_operators
from edgeconv.comparison.samples import save_samples
from edgeconv.conversions.base import ConversionJob, ConversionResult
from edgeconv.conversions.tflite_from_tflite import CONVERSION
from edgeconv.formats.base import Artifact
from edgeconv.formats.tflite import load_tflite

OLD = "tflite-runtime==2.14.0"
NEW = "ai-edge-litert==2.3.0"


@pytest.fixture(scope="module")
def float_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution, a depthwise one, a division and a dense layer."""
    import tensorflow as tf

    rng = np.random.default_rng(3)

    def weights(*shape: int) -> Any:
        return tf.constant(rng.normal(0, 0.2, shape), tf.float32)

    kernel, depth, dense = weights(3, 3, 3, 64), weights(3, 3, 64, 1), weights(64, 32)

    @tf.function(input_signature=[tf.TensorSpec([1, 8, 8, 3], tf.float32, "image")])
    def serve(image: Any) -> Any:
        x = tf.nn.relu(tf.nn.conv2d(image, kernel, 1, "SAME"))
        x = tf.nn.depthwise_conv2d(x, depth, [1, 1, 1, 1], "SAME")
        x = x / (tf.nn.relu(x) + 1.5)
        return {"y": tf.reduce_mean(x, [1, 2]) @ dense}

    path = tmp_path_factory.mktemp("variants") / "model.tflite"
    path.write_bytes(
        tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()]).convert()
    )
    return path


def convert(source: Path, folder: Path, precision: str, *places: list[str]) -> tuple[Path, ConversionResult]:
    samples = folder / "samples.npz"
    save_samples(
        samples, [{"image": np.random.default_rng(i).random((1, 8, 8, 3), np.float32)} for i in range(8)]
    )
    destination = folder / f"{precision}-{len(places)}-{places[0][0] if places else 'any'}.tflite"
    options = {"runs_on": {"places": list(places)}} if places else {}
    job = ConversionJob(
        Artifact(source, "tflite", "fp32", "", None), destination, precision, folder, samples, options
    )
    return destination, CONVERSION.convert(job)


def versions(path: Path, name: str) -> set[tuple[int, str]]:
    """Version and type of the first input of each operator of a kind."""
    model = load_tflite(path)
    return {
        (operator.version, graph.tensors[operator.inputs[0]].dtype)
        for graph, operator in model.operators()
        if operator.name == name
    }


def test_a_dense_layer_gets_one_scale_for_the_runtime_of_2023(float_file, tmp_path):
    usual, _ = convert(float_file, tmp_path, "dynamic")
    assert versions(usual, "FULLY_CONNECTED") == {(12, "float32")}
    path, result = convert(float_file, tmp_path, "dynamic", [OLD])
    assert versions(path, "FULLY_CONNECTED") == {(9, "float32")}
    assert not CHECKER.check(path, *OLD.split("=="))
    assert any("one scale each" in note and "tflite-runtime 2.14.0" in note for note in result.notes)


def test_what_has_no_integer_kernel_there_stays_float32_and_the_rest_does_not(float_file, tmp_path):
    path, result = convert(float_file, tmp_path, "int8", [OLD])
    assert versions(path, "DIV") == {(1, "float32")}
    assert {kind for _, kind in versions(path, "CONV_2D")} == {"int8"}
    assert not CHECKER.check(path, *OLD.split("=="))
    assert any("float32" in note and "DIV" in note for note in result.notes)


def test_depthwise_weights_stay_float32_for_the_releases_whose_delegate_fails_on_them(float_file, tmp_path):
    path, _ = convert(float_file, tmp_path, "fp16", ["ai-edge-litert==1.2.0"])
    assert not refused_operators(path, "ai-edge-litert", "1.2.0")
    halves = [t for g in load_tflite(path).subgraphs for t in g.tensors if t.dtype == "float16"]
    assert halves


def test_nothing_is_given_up_where_one_runtime_of_a_place_takes_it(float_file, tmp_path):
    usual, _ = convert(float_file, tmp_path, "dynamic")
    path, result = convert(float_file, tmp_path, "dynamic", [OLD, NEW])
    assert path.read_bytes() == usual.read_bytes()
    assert not any("scale each" in note for note in result.notes)


def test_every_place_has_to_take_it(float_file, tmp_path):
    path, _ = convert(float_file, tmp_path, "dynamic", [NEW], [OLD])
    assert versions(path, "FULLY_CONNECTED") == {(9, "float32")}
