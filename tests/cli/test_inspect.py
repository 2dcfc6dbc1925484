"""``edgeconv inspect``: what a model is, quickly and without running it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]
FORMATS = {
    "digits.keras": "keras",
    "digits.h5": "keras",
    "digits_saved_model": "saved_model",
    "run/ckpt-1": "checkpoint",
    "digits.edgeconv/digits.fp32.pb": "frozen_graph",
    "digits.edgeconv/digits.fp32.tflite": "tflite",
    "digits.edgeconv/digits.fp32.onnx": "onnx",
    "digits.edgeconv/digits.fp32.ort": "ort",
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "format_name"), FORMATS.items())
def test_each_format_is_recognised_whatever_its_name(
    name: str, format_name: str, digits: Path, artifacts: Path, edgeconv: Call, tmp_path: Path
) -> None:
    model = digits / name
    if model.is_file():
        model = Path((tmp_path / "model.bin").write_bytes(model.read_bytes()) and tmp_path / "model.bin")
    ran = edgeconv("inspect", model, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["format"] == format_name
    assert ran.json["bytes"] > 0
    shown = edgeconv("inspect", model)
    assert shown.code == 0
    assert format_name in shown.out.splitlines()[0]
    assert shown.err == ""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["tflite", "onnx", "ort"])
def test_edge_formats_are_described_without_tensorflow(suffix: str, artifacts: Path) -> None:
    program = (
        "import sys\nfrom edgeconv.cli.main import main\ntry:\n    main()\nfinally:\n"
        "    print(*(m for m in ('tensorflow', 'onnxruntime', 'ai_edge_litert') if m in sys.modules),"
        " file=sys.stderr)"
    )
    model = artifacts / f"digits.fp32.{suffix}"
    ran = subprocess.run(
        [sys.executable, "-c", program, "inspect", str(model)], capture_output=True, text=True, check=True
    )
    assert ran.stderr == "\n"
    for said in ("image", "float32", "8×8×1", "scores", "operations", "MACs"):
        assert said in ran.stdout


@pytest.mark.slow
def test_all_operations_are_listed_on_demand(artifacts: Path, edgeconv: Call) -> None:
    described = edgeconv("inspect", artifacts / "digits.int8.tflite", "--json").json
    shown = edgeconv("inspect", artifacts / "digits.int8.tflite", "--ops").out
    for name, count in described["ops"].items():
        assert f"{count} {name}" in shown


@pytest.mark.corpus
def test_a_checkpoint_lists_its_variables_with_their_shapes(
    edgeconv: Callable[..., Any], corpus: Path
) -> None:
    path = corpus / "ckpt1-nometa-t2t" / "transformer_test_ckpt" / "model.ckpt-1"
    ran = edgeconv("inspect", path)
    assert ran.code == 0, ran.err
    assert "variables (250)" in ran.out
    assert re.search(r"more, which -v lists", ran.out)
    assert re.search(r"ffn/conv1/kernel +float32 +\d+×\d+", edgeconv("inspect", path, "-v").out)
