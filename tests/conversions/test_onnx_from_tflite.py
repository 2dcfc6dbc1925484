"""TFLite to ONNX, the second way to an ONNX file: same function, the contract's names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeconv.conversions import onnx_from_frozen_graph, onnx_from_tflite
from edgeconv.conversions.base import ConversionJob
from edgeconv.errors import ConversionError
from edgeconv.formats.base import Artifact, Contract, TensorSpec
from edgeconv.formats.tflite import FORMAT
from edgeconv.runtimes.onnxruntime import RUNTIME


@pytest.fixture
def source(tmp_path: Path) -> Artifact:
    """A dense layer and a softmax."""
    import tensorflow

    weight = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)

    @tensorflow.function(input_signature=[tensorflow.TensorSpec((1, 4), tensorflow.float32, name="x")])
    def dense(x: object) -> object:
        return {"probabilities": tensorflow.nn.softmax(tensorflow.matmul(x, weight))}

    converter = tensorflow.lite.TFLiteConverter.from_concrete_functions([dense.get_concrete_function()])
    path = tmp_path / "m.tflite"
    path.write_bytes(converter.convert())
    signature = FORMAT.describe(path).signatures[0]
    contract = Contract(
        tuple(TensorSpec("features", spec.dtype, spec.shape, spec.inner_name) for spec in signature.inputs),
        signature.outputs,
    )
    return Artifact(path, "tflite", "fp32", "", contract)


def test_the_function_and_the_names_are_kept(tmp_path: Path, source: Artifact) -> None:
    result = onnx_from_tflite.convert(ConversionJob(source, tmp_path / "m.onnx", "fp32", tmp_path))
    from edgeconv.runtimes.litert import RUNTIME as LITERT

    x = np.random.default_rng(0).normal(size=(1, 4)).astype(np.float32)
    with (
        RUNTIME.open(tmp_path / "m.onnx", result.contract) as candidate,
        LITERT.open(source.path, source.contract) as reference,
    ):
        expected = reference.infer({"features": x})
        found = candidate.infer({"features": x})
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6)


def test_outputs_that_are_inputs_or_one_tensor_twice(tmp_path: Path, source: Artifact) -> None:
    (features,), (probabilities,) = source.contract.inputs, source.contract.outputs
    passed = TensorSpec("passed", "float32", (1, 4), features.inner_name)
    again = TensorSpec("again", "float32", (1, 3), probabilities.inner_name)
    contract = Contract((features,), (passed, probabilities, again))
    twice = Artifact(source.path, "tflite", "fp32", "", contract)
    result = onnx_from_tflite.convert(ConversionJob(twice, tmp_path / "m.onnx", "fp32", tmp_path))
    x = np.random.default_rng(0).normal(size=(1, 4)).astype(np.float32)
    with RUNTIME.open(tmp_path / "m.onnx", result.contract) as session:
        found = session.infer({"features": x})
    assert list(found) == ["passed", probabilities.name, "again"]
    np.testing.assert_array_equal(found["passed"], x)
    np.testing.assert_array_equal(found["again"], found[probabilities.name])


def test_it_costs_more_than_the_way_from_the_frozen_graph() -> None:
    assert onnx_from_tflite.CONVERSION.cost > onnx_from_frozen_graph.CONVERSION.cost


def test_an_output_that_is_not_in_the_file_is_named(tmp_path: Path, source: Artifact) -> None:
    assert source.contract is not None
    contract = Contract(source.contract.inputs, (TensorSpec("logits", "float32", (1, 3)),))
    wrong = Artifact(source.path, "tflite", "fp32", "", contract)
    with pytest.raises(ConversionError, match="'logits' was lost"):
        onnx_from_tflite.convert(ConversionJob(wrong, tmp_path / "m.onnx", "fp32", tmp_path))
    assert not (tmp_path / "m.onnx").exists()
