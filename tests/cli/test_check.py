"""``edgeconv check``: what it prints, and its exit codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tflite_builder import dense


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    (tmp_path / "dense.tflite").write_bytes(dense().bytes())
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(np.ones((4, 3), np.float32), "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "dense.onnx").write_bytes(model.SerializeToString())
    return tmp_path


def test_what_runs_exits_with_0_and_names_the_runtime(edgeconv: Callable[..., Any], artifacts: Path) -> None:
    ran = edgeconv("check", "dense.onnx", "--target", "rpi4@bullseye")
    assert ran.code == 0
    first, *rest = ran.out.splitlines()
    assert first.startswith("dense.onnx on rpi4@bullseye (Raspberry Pi OS 11")
    assert first.endswith("runs with onnxruntime 1.19.2")
    assert any("memory: about" in line for line in rest)


def test_what_is_refused_exits_with_1_and_ends_with_the_conversion(
    edgeconv: Callable[..., Any], artifacts: Path
) -> None:
    ran = edgeconv("check", "dense.onnx", "--target", "rpi4-32")
    assert ran.code == 1
    assert "✗ no runtime there takes onnx; rpi4-32 takes tflite" in ran.out
    assert ran.out.rstrip().endswith("→ edgeconv convert SOURCE --target rpi4-32 --to tflite:fp32")


def test_what_nobody_can_say_exits_with_3(edgeconv: Callable[..., Any], artifacts: Path) -> None:
    ran = edgeconv("check", "dense.onnx", "--target", "jetson-nano-jp4", "--runtime", "tensorrt")
    assert ran.code == 3
    assert "nobody can say" in ran.out


def test_one_that_is_refused_among_several_decides_the_exit_code(
    edgeconv: Callable[..., Any], artifacts: Path
) -> None:
    ran = edgeconv(
        "check", "dense.onnx", "--target", "rpi4@bullseye,rpi4-32", "--target", "jetson-nano-jp4", "--json"
    )
    assert ran.code == 1
    assert ran.json["verdict"] == "refused"
    assert [(one["target"], one["verdict"]) for one in ran.json["checks"]] == [
        ("rpi4@bullseye", "runs"),
        ("rpi4-32", "refused"),
        ("jetson-nano-jp4", "runs"),
    ]


def test_quiet_says_only_what_does_not_run(edgeconv: Callable[..., Any], artifacts: Path) -> None:
    ran = edgeconv("check", "dense.onnx", "--target", "rpi4@bullseye,rpi4-32", "-q")
    assert ran.code == 1
    assert "rpi4-32" in ran.out.splitlines()[0]
    assert "bullseye" not in ran.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dense.onnx", "--target", "rpi44"], "did you mean 'rpi4'?"),
        (["dense.onnx", "--target", "rpi4@bulseye"], "did you mean 'bullseye'?"),
        (["dense.onnx", "--target", "rpi4", "--runtime", "onnx-runtime"], "did you mean 'onnxruntime'?"),
        (["dense.onnx", "--target", ","], "no target is named"),
        (["dense.onnx"], "--target"),
        (["none.onnx", "--target", "rpi4"], "no such file"),
    ],
)
def test_a_wrong_call_exits_with_2(
    edgeconv: Callable[..., Any], artifacts: Path, words: list[str], said: str
) -> None:
    ran = edgeconv("check", *words)
    assert ran.code == 2
    assert said in ran.err


def test_a_truncated_artifact_exits_with_2(edgeconv: Callable[..., Any], artifacts: Path) -> None:
    path = artifacts / "dense.tflite"
    path.write_bytes(path.read_bytes()[:-40])
    ran = edgeconv("check", path, "--target", "rpi4")
    assert ran.code == 2
    assert "truncated or corrupt" in ran.err


def test_names_in_a_model_steer_no_terminal(edgeconv: Callable[..., Any], artifacts: Path) -> None:
    model = dense(batch_free=True)
    model.model.signatureDefs[0].inputs[0].name = "\x1b[2Jimage"
    (artifacts / "odd.tflite").write_bytes(model.bytes())
    ran = edgeconv("check", "odd.tflite", "--target", "coral-edgetpu")
    assert ran.code == 1
    assert "\x1b" not in ran.out
    assert "\\x1b[2Jimage" in ran.out
