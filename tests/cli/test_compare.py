"""``edgeconv compare``: the gate by itself, between any two artifacts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Call = Callable[..., Any]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [("tflite", "onnx"), ("onnx", "ort"), ("ort", "tflite"), ("onnx", "onnx")],
)
def test_equal_artifacts_of_any_formats_pass(
    reference: str, candidate: str, artifacts: Path, edgeconv: Call
) -> None:
    ran = edgeconv("compare", artifacts / f"digits.fp32.{reference}", artifacts / f"digits.fp32.{candidate}")
    assert ran.code == 0, ran.all
    assert "pass at the tolerance of fp32" in ran.out
    assert "scores" in ran.out


def test_the_source_itself_is_a_reference(artifacts: Path, digits: Path, edgeconv: Call) -> None:
    ran = edgeconv(
        *("compare", digits / "digits.keras", artifacts / "digits.int8.tflite", "--json"),
        *("--data", digits / "samples.npz"),
    )
    assert ran.code == 0, ran.err
    assert ran.json["precision"] == "int8"
    assert "sample 0" in ran.json["inputs"]
    (output,) = ran.json["outputs"]
    assert output["verdict"] == "pass"
    assert 0 < output["max_abs"] < 0.3


def test_a_difference_fails_with_the_output_named_and_the_numbers(
    artifacts: Path, edgeconv: Call, tmp_path: Path
) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(artifacts / "digits.fp32.onnx")
    weights = [t for t in model.graph.initializer if len(t.dims) == 2 and t.data_type == 1]
    weights[0].CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weights[0]), weights[0].name))
    onnx.save(model, tmp_path / "wrong.onnx")
    ran = edgeconv("compare", artifacts / "digits.fp32.onnx", "wrong.onnx")
    assert ran.code == 1
    assert "fail at the tolerance of fp32" in ran.out
    assert "scores: " in ran.out
    assert "--locate" in ran.out
    quiet = edgeconv("compare", artifacts / "digits.fp32.onnx", "wrong.onnx", "--json", "--tolerance", "100")
    assert quiet.code == 0
    located = edgeconv("compare", artifacts / "digits.fp32.onnx", "wrong.onnx", "--locate", "--json")
    assert located.code == 1
    assert located.json["divergence"]["kind"] == "single-op"
    assert "explanation" in located.json["divergence"]


def test_what_is_wrong_with_the_call_exits_2(artifacts: Path, edgeconv: Call, tmp_path: Path) -> None:
    one, two = artifacts / "digits.fp32.onnx", artifacts / "digits.fp32.ort"
    np.savez(tmp_path / "bad.npz", image=np.zeros((3, 9, 9, 1), np.float32))
    for flags, said in (
        (["--data", "bad.npz"], "do not fit the input 'image'"),
        (["--data", "none.npz"], "no such sample file"),
        (["--tolerance", "snr=3"], "did you mean 'sqnr'?"),
        (["--shape", "imag=1,8,8,1"], "did you mean 'image'?"),
        (["--map", "scores=nothing"], "nothing"),
    ):
        ran = edgeconv("compare", one, two, *flags)
        assert ran.code == 2, (flags, ran.all)
        assert said in ran.err
