"""``edgeconv.compare``: two artifacts on the same inputs, through their real runtimes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeconv
from edgeconv.errors import UsageError

pytestmark = pytest.mark.slow


def test_the_tolerance_is_that_of_the_candidates_precision(artifacts: Path) -> None:
    one, other = artifacts / "digits.fp32.onnx", artifacts / "digits.fp16.onnx"
    there, back = edgeconv.compare(one, other), edgeconv.compare(other, one)
    assert (there.precision, back.precision) == ("fp16", "fp32")
    assert there.passed
    assert not back.passed, "what half precision lost is no fp32"


def test_json_has_the_verdict_and_each_outputs_numbers(artifacts: Path) -> None:
    document = edgeconv.compare(artifacts / "digits.fp32.onnx", artifacts / "digits.fp32.tflite").to_json()
    assert document["verdict"] == "pass"
    (output,) = document["outputs"]
    assert (output["reference_name"], output["name"]) == ("scores", "scores")
    assert output["max_abs"] < 1e-5


def test_names_that_do_not_tell_are_paired_by_value_or_as_said(artifacts: Path, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    def two_outputs(path: Path, names: tuple[str, str]) -> Path:
        nodes = [helper.make_node("Neg", ["x"], [names[0]]), helper.make_node("Exp", ["x"], [names[1]])]
        infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3]) for n in ("x", *names)]
        graph = helper.make_graph(nodes, "two", infos[:1], infos[1:])
        opset = [helper.make_opsetid("", 15)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
        return path

    one = two_outputs(tmp_path / "one.onnx", ("negative", "power"))
    other = two_outputs(tmp_path / "other.onnx", ("Identity", "Identity_1"))
    by_value = edgeconv.compare(one, other)
    assert by_value.passed
    assert {o.reference_name: o.name for o in by_value.gate.outputs} == {
        "negative": "Identity",
        "power": "Identity_1",
    }
    crossed = edgeconv.compare(one, other, output_map={"negative": "Identity_1", "power": "Identity"})
    assert not crossed.passed
    with pytest.raises(UsageError):
        edgeconv.compare(one, other, output_map={"negativ": "Identity"})


def test_models_that_are_not_one_are_told_apart(artifacts: Path, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Neg", ["words"], ["y"])],
        "g",
        [helper.make_tensor_value_info("words", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    opset = [helper.make_opsetid("", 15)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "other.onnx")
    with pytest.raises(UsageError, match=r"words|image"):
        edgeconv.compare(artifacts / "digits.fp32.onnx", tmp_path / "other.onnx")


def test_a_loaded_artifact_computes_what_was_compared(artifacts: Path, digits: Path) -> None:
    with np.load(digits / "samples.npz") as samples:
        image = samples["image"][:1]
    scores = []
    for suffix in ("onnx", "tflite", "ort"):
        with edgeconv.load(artifacts / f"digits.fp32.{suffix}") as session:
            scores.append(session({"image": image})["scores"])
    np.testing.assert_allclose(scores[1:], [scores[0]] * 2, atol=1e-5)


def test_a_frozen_graph_made_here_needs_no_names(artifacts: Path, digits: Path, tmp_path: Path) -> None:
    """Its file names no inputs and outputs; the manifest beside it does, as long as it is that very file."""
    import shutil

    import edgeconv
    from edgeconv.recipe.beside import contract_beside

    made = next(artifacts.glob("*.fp32.pb"))
    with edgeconv.load(made) as session:
        names = [spec.name for spec in session.inputs]

    assert names == [spec.name for spec in edgeconv.load(next(artifacts.glob("*.fp32.tflite"))).inputs]
    shutil.copy(made, tmp_path / made.name)
    shutil.copy(artifacts / "manifest.json", tmp_path)
    with (tmp_path / made.name).open("ab") as stream:
        stream.write(b"\x22\x00")  # an empty field more: another file
    assert contract_beside(made) is not None
    assert contract_beside(tmp_path / made.name) is None
