"""ONNX to ONNX Runtime's own format: it loads, gives the same numbers, and is for any processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeconv.conversions import ort_from_onnx
from edgeconv.conversions.base import ConversionJob
from edgeconv.errors import ConversionError, UsageError
from edgeconv.formats.base import Artifact, Contract, TensorSpec
from edgeconv.runtimes.onnxruntime import RUNTIME


@pytest.fixture
def source(tmp_path: Path) -> Artifact:
    """Convolution, batch norm and ReLU with an open batch."""
    random = np.random.default_rng(2)
    names = {"w": (32, 16, 3, 3), "gamma": (32,), "beta": (32,), "mean": (32,), "variance": (32,)}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "w"], ["c"]),
            helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "variance"], ["n"]),
            helper.make_node("Relu", ["n"], ["y"]),
        ],
        "cnn",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 16, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 32, 6, 6])],
        [
            numpy_helper.from_array(random.uniform(0.1, 1, size=shape).astype(np.float32), name)
            for name, shape in names.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    contract = Contract(
        (TensorSpec("picture", "float32", (None, 16, 8, 8), "image"),),
        (TensorSpec("y", "float32", (None, 32, 6, 6)),),
    )
    return Artifact(path, "onnx", "fp32", "", contract)


def test_there_is_one_arrow_a_precision() -> None:
    pairs = {(arrow.source_precision, arrow.precisions) for arrow in ort_from_onnx.CONVERSION}
    assert pairs == {("fp32", ("fp32",)), ("fp16", ("fp16",)), ("int8", ("int8",))}
    assert {arrow.name for arrow in ort_from_onnx.CONVERSION} == {"ort_from_onnx"}


@pytest.mark.parametrize("level", ["basic", "extended", "all"])
def test_the_ort_file_is_the_same_function_under_the_same_names(
    tmp_path: Path, source: Artifact, level: str
) -> None:
    job = ConversionJob(source, tmp_path / "m.ort", "fp32", tmp_path, options={"ort_optimisation": level})
    result = ort_from_onnx.convert(job)
    assert (tmp_path / "m.ort").read_bytes()[4:8] == b"ORTM"
    assert result.contract == source.contract
    assert bool(result.notes) == (level == "all"), "only then it is for this processor"
    x = np.random.default_rng(0).normal(size=(2, 16, 8, 8)).astype(np.float32)
    with (
        RUNTIME.open(source.path, source.contract) as before,
        RUNTIME.open(tmp_path / "m.ort", result.contract) as after,
    ):
        np.testing.assert_allclose(
            after.infer({"picture": x})["y"], before.infer({"picture": x})["y"], rtol=1e-4, atol=1e-4
        )


def test_by_default_no_layout_of_this_processor_is_in_the_file(tmp_path: Path, source: Artifact) -> None:
    ort_from_onnx.convert(ConversionJob(source, tmp_path / "m.ort", "fp32", tmp_path))
    content = (tmp_path / "m.ort").read_bytes()
    assert b"ReorderInput" not in content
    assert b"BatchNormalization" not in content, "what any processor can have is done"


def test_the_same_model_gives_the_same_bytes(tmp_path: Path, source: Artifact) -> None:
    for name in ("1.ort", "2.ort"):
        ort_from_onnx.convert(ConversionJob(source, tmp_path / name, "fp32", tmp_path))
    assert (tmp_path / "1.ort").read_bytes() == (tmp_path / "2.ort").read_bytes()


def test_an_unknown_level_and_a_broken_model_are_refused(tmp_path: Path, source: Artifact) -> None:
    with pytest.raises(UsageError, match="'most'"):
        ort_from_onnx.convert(
            ConversionJob(source, tmp_path / "m.ort", "fp32", tmp_path, options={"ort_optimisation": "most"})
        )
    source.path.write_bytes(b"no model")
    with pytest.raises(ConversionError, match="refuses"):
        ort_from_onnx.convert(ConversionJob(source, tmp_path / "m.ort", "fp32", tmp_path))
