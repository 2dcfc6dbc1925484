"""Which artifacts are pairs, and what was made differently."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from slower_models import onnx_chain, tflite_chain

from edgeconv.devices.local import LocalDevice
from edgeconv.errors import UsageError
from edgeconv.latency.decisions import Policy
from edgeconv.recipe import regression
from edgeconv.recipe.culprits import _different, beginning
from edgeconv.recipe.regression import RegressionRequest, find_pairs


def test_artifacts_of_folders_are_matched_at_any_depth(tmp_path: Path) -> None:
    for folder in ("before", "now"):
        (tmp_path / folder / "deep").mkdir(parents=True)
        tflite_chain(tmp_path / folder / "deep" / "a.tflite", 1)
    onnx_chain(tmp_path / "before" / "gone.onnx", 1)
    (tmp_path / "now" / "manifest.json").write_text("{}")
    request = RegressionRequest(candidate=tmp_path / "now", baseline=tmp_path / "before")
    pairs, unmatched = find_pairs(request)
    assert [name for name, _, _ in pairs] == ["deep/a.tflite"]
    assert [(one.path.name, one.side) for one in unmatched] == [("gone.onnx", "baseline")]


def test_folders_without_a_common_name_are_refused(tmp_path: Path) -> None:
    for folder, name in (("before", "a"), ("now", "b")):
        (tmp_path / folder).mkdir()
        tflite_chain(tmp_path / folder / f"{name}.tflite", 1)
    with pytest.raises(UsageError, match="no artifact"):
        find_pairs(RegressionRequest(candidate=tmp_path / "now", baseline=tmp_path / "before"))


class _Emulated(LocalDevice):
    """This machine, as if it were an emulated board."""

    name = "board"
    emulated = True


def test_an_emulated_device_is_refused_with_the_reason_unless_it_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tflite_chain(tmp_path / "a.tflite", 1)
    monkeypatch.setattr(regression, "find_device", lambda name: _Emulated())
    request = RegressionRequest(candidate=model, baseline=model, device="board")
    with pytest.raises(UsageError, match="say nothing of a real board") as caught:
        regression.regress(request)
    assert "--emulated-anyway" in str(caught.value.hint)
    wanted = dataclasses.replace(request, emulated_anyway=True, policy=Policy(seconds=0.01))
    (found,), _ = regression.regress(wanted)
    assert any("emulated" in note for note in found.notes)
    assert not found.plan.processor_time


def test_a_beginning_computes_what_the_whole_does_up_to_there(tmp_path: Path) -> None:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    whole = tflite_chain(tmp_path / "whole.tflite", 5, size=8)
    part = tmp_path / "part.tflite"
    part.write_bytes(beginning(whole.read_bytes(), 2))
    outputs = []
    for path in (part, tflite_chain(tmp_path / "three.tflite", 3, size=8)):
        interpreter = Interpreter(str(path))
        interpreter.allocate_tensors()
        x = np.arange(128, dtype=np.float32).reshape(16, 8)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    assert np.array_equal(*outputs)


def test_what_was_made_differently_is_said_by_name() -> None:
    said = list(
        _different("tool", {"tensorflow": "2.20", "numpy": "2"}, {"tensorflow": "2.21", "numpy": "2"})
    )
    assert said == ["tool tensorflow: 2.20 → 2.21"]
    assert list(_different("", {"notes": []}, {"notes": ["x"]})) == ["notes: not the same"]
