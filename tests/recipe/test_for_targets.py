"""``--target``: what is made for a kind of device, what is pinned, and what the manifest says of it."""

from __future__ import annotations

import json

import pytest

from edgeconv.errors import UsageError
from edgeconv.execution.manifest import ArtifactRecord, CheckRecord
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.recipe.for_targets import chosen_for, fits_nowhere, pinned_shapes, runs_on
from edgeconv.targets.loading import find_place

EVERYTHING = {
    (name, precision)
    for name in ("tflite", "onnx", "ort", "frozen_graph")
    for precision in ("fp32", "fp16", "dynamic", "int8", "int16x8")
}


def ids(*names: str, calibrated: bool = False, reachable=EVERYTHING) -> list[str]:
    places = [find_place(name) for name in names]
    return [target.id for target in chosen_for(places, reachable, calibrated=calibrated).targets]


def test_formats_are_those_that_runtimes_take_there():
    assert {each.partition(".")[0] for each in ids("rpi4")} == {"tflite", "onnx"}
    assert {each.partition(".")[0] for each in ids("rpi4-32")} == {"tflite"}


def test_int8_by_itself_needs_samples_and_says_so():
    assert "tflite.int8" in ids("rpi4", calibrated=True)
    assert "tflite.int8" not in ids("rpi4")
    chosen = chosen_for([find_place("rpi4")], EVERYTHING, calibrated=False)
    assert "--calibration" in chosen.notes[0]


def test_where_only_int8_is_taken_that_is_made():
    assert ids("coral-edgetpu") == ["tflite.int8"]


def test_what_does_not_pay_there_is_not_made():
    assert not any(each.endswith("int16x8") for each in ids("rpi4", calibrated=True))
    assert "onnx.fp16" not in ids("android-arm64")


def test_what_cannot_be_made_of_the_model_is_not_asked_for():
    assert ids("rpi4", reachable={("onnx", "fp32")}) == ["onnx.fp32"]


def test_two_targets_get_what_either_takes():
    assert set(ids("rpi4", "coral-edgetpu")) == {*ids("rpi4"), "tflite.int8"}


def test_an_open_batch_is_pinned_where_no_open_dimension_is_taken():
    contract = Contract((TensorSpec("image", "float32", (None, 8, 8, 3)),), ())
    assert pinned_shapes([find_place("coral-edgetpu")], contract) == {"image": (1, 8, 8, 3)}
    assert pinned_shapes([find_place("rpi4")], contract) == {}


def test_another_open_dimension_has_to_be_said():
    contract = Contract((TensorSpec("image", "float32", (None, None, 8, 3)),), ())
    with pytest.raises(UsageError) as caught:
        pinned_shapes([find_place("coral-edgetpu")], contract)
    assert "--shape image=1,SIZE,8,3" in str(caught.value.hint)


def test_the_arrow_is_told_the_runtimes_and_what_they_were_measured_to_take():
    there = runs_on([find_place("rpi4-32")])
    assert there is not None
    assert all(text.startswith("tflite-runtime==") for text in there["places"][0])
    assert len(there["tables"]) == 64


@pytest.mark.slow
def test_an_old_board_gets_a_file_that_it_takes_and_the_manifest_says_so(edgeconv, wide, tmp_path):
    plain = edgeconv("convert", wide, "--to", "tflite:dynamic", "-o", "plain", "--json")
    (before,) = [a for a in plain.json["artifacts"] if a["id"] == "tflite.dynamic"]
    assert before["checks"] == []
    refused = edgeconv("check", f"plain/{before['path']}", "--target", "rpi4-32")
    assert refused.code == 1
    assert "FULLY_CONNECTED version 12" in refused.all

    made = edgeconv("convert", wide, "--to", "tflite:dynamic", "--target", "rpi4-32", "-o", "old", "--json")
    assert made.code == 0, made.all
    (record,) = [a for a in made.json["artifacts"] if a["id"] == "tflite.dynamic"]
    assert record["gate"]["verdict"] == "pass"
    assert any("one scale each" in note and "tflite-runtime 2.14.0" in note for note in record["notes"])
    (check,) = record["checks"]
    assert (check["target"], check["verdict"]) == ("rpi4-32", "runs")
    assert (check["runtime"], check["version"]) == ("tflite-runtime", "2.14.0")
    written = json.loads((tmp_path / "old" / "manifest.json").read_text())
    assert [a["checks"] for a in written["artifacts"] if a["id"] == "tflite.dynamic"] == [record["checks"]]


@pytest.mark.slow
def test_what_is_made_for_one_of_two_targets_need_not_run_on_the_other(edgeconv, wide):
    both = edgeconv(
        "convert", wide, "--to", "tflite,onnx", "--target", "rpi4-32,rpi4", "-o", "both", "--json"
    )
    said = {
        a["id"]: {c["target"] for c in a["checks"] if c["verdict"] == "runs"} for a in both.json["artifacts"]
    }
    assert said["onnx.fp32"] == {"rpi4"}
    assert said["tflite.fp32"] == {"rpi4-32", "rpi4"}
    assert both.code == 0, both.all
    only = edgeconv("convert", wide, "--to", "tflite,onnx", "--target", "rpi4-32", "-o", "only")
    assert only.code == 1, only.all  # nobody asked for has a use for the ONNX file


@pytest.mark.parametrize(
    ("checks", "nowhere"),
    [
        ({"a": {"x": "runs", "y": "refused"}, "b": {"x": "refused", "y": "runs"}}, False),
        ({"a": {"x": "runs", "y": "refused"}}, True),  # y takes nothing
        ({"a": {"x": "runs"}, "b": {"x": "refused"}}, True),  # b is of no use
        ({"a": {"x": "unknown"}}, False),
        ({"a": {}}, False),
    ],
)
def test_each_target_has_to_take_something_and_each_artifact_to_run_somewhere(checks, nowhere):
    records = [
        ArtifactRecord.model_construct(
            id=name, checks=[CheckRecord(target=t, verdict=v) for t, v in said.items()]
        )
        for name, said in checks.items()
    ]
    assert fits_nowhere(records) is nowhere


def test_a_target_that_is_not_there_is_told_before_anything_is_begun(edgeconv, tmp_path):
    (tmp_path / "model.keras").write_bytes(b"not looked at")
    ran = edgeconv("convert", "model.keras", "--target", "rpi44")
    assert ran.code == 2
    assert "rpi4" in ran.err
    assert not list(tmp_path.glob("*.edgeconv"))


@pytest.fixture
def wide(tmp_path):
    """A model whose dense layer is large enough to be quantized."""
    import tensorflow as tf

    inputs = tf.keras.Input((64,), name="x")
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(32, activation="relu", name="y")(inputs))
    path = tmp_path / "wide.keras"
    model.save(path)
    return path


def test_the_opset_is_one_that_the_oldest_runtime_there_takes():
    from edgeconv.checking.onnx import newest_opset
    from edgeconv.recipe.for_targets import opset_for

    oldest = find_place("jetson-nano-jp4")
    assert "1.10.0" in [one.version for one in oldest.release.runtimes]
    assert opset_for([oldest]) == {"opset": newest_opset("1.10.0")} == {"opset": 15}
    assert opset_for([find_place("rpi4"), oldest]) == {"opset": 15}


def test_where_all_take_the_usual_opset_nothing_is_asked():
    from edgeconv.recipe.for_targets import opset_for

    assert opset_for([find_place("rpi4"), find_place("jetson-orin-nano-jp6")]) == {}
    assert opset_for([]) == {}


@pytest.mark.slow
def test_the_opset_can_be_named_from_python_and_from_the_command_line(edgeconv, wide, tmp_path):
    import onnx

    import edgeconv as api

    ran = edgeconv("convert", wide, "--to", "onnx", "--opset", 13, "-o", "old", "--json")
    assert ran.code == 0, ran.all
    (record,) = [a for a in ran.json["artifacts"] if a["id"] == "onnx.fp32"]
    assert onnx.load(tmp_path / "old" / record["path"]).opset_import[0].version == 13
    wrong = edgeconv("convert", wide, "--to", "onnx", "--opset", 99, "-o", "new")
    assert wrong.code in (2, 5)
    assert "choose one from 13 to 18" in wrong.all
    manifest = api.convert(wide, "onnx", target="jetson-nano-jp4", output=tmp_path / "jetson")
    made = manifest.artifact("onnx.fp32")
    assert onnx.load(tmp_path / "jetson" / made.path).opset_import[0].version == 15
    assert any(check.verdict == "runs" for check in made.checks)
