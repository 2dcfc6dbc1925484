"""``edgeconv.convert``: from a request to a manifest, through the real converters."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import edgeconv
from edgeconv.errors import ExitCode, UsageError
from edgeconv.execution.events import Event
from edgeconv.execution.manifest import Manifest
from edgeconv.recipe.convert import convert, exit_code, model_name
from edgeconv.recipe.request import ConversionRequest, parse_targets

pytestmark = pytest.mark.slow


@pytest.fixture
def net(artifacts: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(artifacts / "digits.fp32.onnx", tmp_path / "net.onnx"))


def test_the_default_folder_is_named_by_the_model(
    net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    manifest = edgeconv.convert(net, "ort")
    assert manifest.passed
    assert (tmp_path / "net.edgeconv" / "net.fp32.ort").is_file()


def test_events_tell_every_step_in_order(net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECONV_CACHE_DIR", str(tmp_path / "cache"))
    request = ConversionRequest(net, output=tmp_path / "out", to=parse_targets(["ort"]))
    for kinds in (("started", "done"), ("cached",)):
        events: list[Event] = []
        convert(request, events.append)
        assert events[0] == Event("planned", "ort.fp32")
        for step in ("convert", "gate"):
            assert [e.kind for e in events if (e.node, e.step) == ("ort.fp32", step)] == list(kinds)


def test_it_works_where_a_loop_is_running_as_in_a_notebook(net: Path, tmp_path: Path) -> None:
    async def cell() -> Manifest:
        return edgeconv.convert(net, "ort", output=tmp_path / "out")

    assert asyncio.run(cell()).passed


def test_another_source_in_the_same_folder_begins_a_new_manifest(net: Path, tmp_path: Path) -> None:
    import onnx

    out = tmp_path / "out"
    edgeconv.convert(net, "onnx:fp16", output=out)
    model = onnx.load(net)
    model.doc_string = "another"
    onnx.save(model, net)
    edgeconv.convert(net, "ort", output=out)
    assert [a["id"] for a in json.loads((out / "manifest.json").read_text())["artifacts"]] == ["ort.fp32"]


def test_samples_decide_the_cache_key_by_their_values_and_not_their_file(net: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.random((16, 8, 8, 1), dtype=np.float32)
    np.savez(tmp_path / "one.npz", image=images)
    np.savez_compressed(tmp_path / "same.npz", image=images)
    np.savez(tmp_path / "other.npz", image=images[::-1] * 0.5)
    cached = []
    for name in ("one", "same", "other"):
        manifest = edgeconv.convert(
            net, "onnx:int8", output=tmp_path / name, calibration=tmp_path / f"{name}.npz"
        )
        cached.append(manifest.artifact("onnx.int8").cached)
        assert not any("seeded random" in note for note in manifest.artifact("onnx.int8").notes)
    assert cached == [False, True, False]


def test_random_calibration_is_noted_with_the_artifact(net: Path, tmp_path: Path) -> None:
    manifest = edgeconv.convert(net, "onnx:int8", output=tmp_path / "out")
    assert any("seeded random inputs" in note for note in manifest.artifact("onnx.int8").notes)


def test_pinned_shapes_are_those_of_the_artifacts(net: Path, tmp_path: Path) -> None:
    manifest = edgeconv.convert(net, "onnx:fp16", output=tmp_path / "out", shapes={"image": (3, 8, 8, 1)})
    (spec,) = manifest.artifact("onnx.fp16").contract["inputs"]
    assert spec["shape"] == [3, 8, 8, 1]
    assert edgeconv.inspect(tmp_path / "out" / "net.fp16.onnx").signatures[0].inputs[0].shape in (
        (3, 8, 8, 1),
        (None, 8, 8, 1),
    )


def test_nothing_is_begun_where_the_request_is_wrong(net: Path, tmp_path: Path) -> None:
    for wrong in ({"to": "tflite"}, {"to": "ort", "shapes": {"image": (1, 9, 8, 1)}}, {"to": "onnx"}):
        with pytest.raises(UsageError):
            edgeconv.convert(net, output=tmp_path / "out", **wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("verdicts", "failed", "code"),
    [
        ({"tflite.fp32": "pass"}, {}, ExitCode.OK),
        ({"tflite.fp32": "pass"}, {"tflite.fp32": "x"}, ExitCode.OK),
        ({"tflite.fp32": "fail"}, {}, ExitCode.VERDICT_FAILED),
        ({"tflite.fp32": "skipped"}, {}, ExitCode.VERDICT_FAILED),
        ({"tflite.fp32": "pass"}, {"onnx.fp32": None}, ExitCode.CONVERSION_FAILED),
        ({"tflite.fp32": "fail"}, {"onnx.fp32": None}, ExitCode.CONVERSION_FAILED),
    ],
)
def test_the_exit_code_says_the_worst(
    verdicts: dict[str, str], failed: dict[str, str | None], code: ExitCode
) -> None:
    common = {"format": "tflite", "precision": "fp32", "path": "m", "sha256": "0", "bytes": 1, "seconds": 1}
    manifest = Manifest.model_validate(
        {
            "source": {"path": "m", "format": "keras", "sha256": "0"},
            "artifacts": [
                {"id": name, **common, "from": "source", "conversion": "x", "contract": {}}
                | {"peak_rss_bytes": 1, "gate": {"verdict": verdict, "reference": "source"}}
                for name, verdict in verdicts.items()
            ],
            "failures": [
                {"conversion": "y", "reason": "z", "artifact": name, "superseded_by": by}
                for name, by in failed.items()
            ],
        }
    )
    assert exit_code(manifest) == code


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("models/My Net.v2.keras", "My-Net.v2"),
        ("exports/net/3", "net"),
        ("exports/net/saved_model.pb", "net"),
        ("run/ckpt-12", "ckpt-12"),
        ("$(rm -rf x).onnx", "rm--rf-x"),
        ("....onnx", "model"),
    ],
)
def test_the_name_of_a_model_is_safe_in_files_and_shells(path: str, name: str) -> None:
    assert model_name(Path("/data") / path) == name


def test_a_quantized_model_that_fails_on_made_up_inputs_asks_for_real_ones(net: Path, tmp_path: Path) -> None:
    impossible = ("int8:sqnr=200",)
    made_up = edgeconv.convert(net, "onnx:int8", output=tmp_path / "a", tolerance=impossible)
    gate = made_up.artifact("onnx.int8").gate
    assert gate.verdict == "fail"
    assert "--calibration" in (gate.hint or "")
    np.savez(tmp_path / "s.npz", image=np.random.default_rng(0).random((12, 8, 8, 1), dtype=np.float32))
    real = edgeconv.convert(
        net, "onnx:int8", output=tmp_path / "b", tolerance=impossible, calibration=tmp_path / "s.npz"
    )
    gate = real.artifact("onnx.int8").gate
    assert gate.verdict == "fail"
    assert "--calibration" not in (gate.hint or "")


def test_a_file_in_which_nothing_could_be_narrowed_says_so(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, tmp_path / "relu.onnx")
    manifest = edgeconv.convert(tmp_path / "relu.onnx", "onnx:fp16", output=tmp_path / "out")
    said = [note for artifact in manifest.artifacts for note in artifact.notes]
    said += [failure.reason for failure in manifest.failures]
    described = [
        edgeconv.inspect(tmp_path / "out" / a.path).metadata["precision"] for a in manifest.artifacts
    ]
    assert described == ["fp16"] or any("narrow" in text or "fp16" in text for text in said)
