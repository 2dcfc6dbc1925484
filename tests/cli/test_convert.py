"""``edgeconv convert`` as a user types it, on a small network, through the real converters."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

Call = Callable[..., Any]
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "manifest.schema.json").read_text())

pytestmark = pytest.mark.slow


def test_artifacts_are_named_by_precision_and_format_and_are_what_their_names_say(
    artifacts: Path, edgeconv: Call
) -> None:
    names = {p.name for p in artifacts.iterdir() if not p.name.startswith(".")}
    assert names == {
        "manifest.json",
        "digits.fp32.saved_model",
        "digits.fp32.pb",
        "digits.fp32.tflite",
        "digits.int8.tflite",
        "digits.fp32.onnx",
        "digits.fp16.onnx",
        "digits.fp32.ort",
    }
    for name, format_name in (("digits.fp32.pb", "frozen_graph"), ("digits.fp32.ort", "ort")):
        assert edgeconv("inspect", artifacts / name, "--json").json["format"] == format_name


def test_the_manifest_says_what_was_done(artifacts: Path) -> None:
    from edgeconv.formats.registry import identify, sha256_of

    manifest = json.loads((artifacts / "manifest.json").read_text())
    jsonschema.validate(manifest, SCHEMA)
    assert manifest["schema"] == 1
    assert {"path", "format", "sha256", "contract"} <= set(manifest["source"])
    assert manifest["source"]["format"] == "keras"
    assert {"tensorflow", "numpy", "edgeconv", "onnxruntime"} <= set(manifest["tools"])
    assert manifest["host"]["machine"]
    assert manifest["failures"] == []
    made: list[str] = []
    for record in manifest["artifacts"]:
        path = artifacts / record["path"]
        assert record["id"] == f"{record['format']}.{record['precision']}"
        assert record["from"] == "source" or record["from"] in made, "a predecessor comes first"
        made.append(record["id"])
        assert sha256_of(path, identify(path)) == record["sha256"]
        size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) if path.is_dir() else None
        assert record["bytes"] == (size or path.stat().st_size)
        assert record["seconds"] > 0
        assert record["peak_rss_bytes"] > 10e6
        assert record["cached"] is False
        assert [spec["name"] for spec in record["contract"]["inputs"]] == ["image"]
        gate = record["gate"]
        assert gate["verdict"] == "pass"
        assert gate["reference"] == record["from"]
        assert gate["inputs"]
        (output,) = gate["outputs"]
        assert {"name", "reference_name", "verdict", "max_abs", "max_rel", "cosine"} <= set(output)
        assert output["verdict"] == "pass"


def test_a_run_again_takes_everything_from_the_cache_without_any_heavy_import(
    artifacts: Path, digits: Path, tmp_path: Path
) -> None:
    program = (
        "import sys\nfrom edgeconv.cli.main import main\n"
        "try:\n    main()\nfinally:\n"
        "    print(*(m for m in ('tensorflow', 'keras', 'onnx', 'onnxruntime', 'ai_edge_litert') "
        "if m in sys.modules), file=sys.stderr)"
    )
    targets = "saved_model,frozen_graph,tflite:fp32,tflite:int8,onnx:fp32,onnx:fp16,ort"
    command = f"convert digits.keras --to {targets} --calibration samples.npz -v -o {tmp_path / 'again'}"
    ran = subprocess.run(
        [sys.executable, "-c", program, *command.split()], cwd=digits, capture_output=True, text=True
    )
    assert ran.returncode == 0
    *lines, heavy = ran.stderr.splitlines()
    assert heavy == ""
    assert len(lines) == 15, "seven conversions, seven gates, the source"
    assert all(line.startswith("cached") for line in lines)
    manifest = json.loads((tmp_path / "again" / "manifest.json").read_text())
    assert len(manifest["artifacts"]) == 7
    assert all(record["cached"] for record in manifest["artifacts"])
    assert ran.stdout.count("cached") == 7
    for record in manifest["artifacts"]:
        assert (tmp_path / "again" / record["path"]).exists()


def test_json_is_one_document_on_standard_output_and_progress_is_elsewhere(
    artifacts: Path, edgeconv: Call, tmp_path: Path
) -> None:
    model = shutil.copy(artifacts / "digits.fp32.onnx", tmp_path / "net.onnx")
    # A cache of its own: what another test made already would leave no progress to tell.
    own = {"EDGECONV_CACHE_DIR": str(tmp_path / "cache")}
    ran = edgeconv("convert", model, "--to", "ort", "--json", env=own)
    assert ran.code == 0
    jsonschema.validate(ran.json, SCHEMA)
    assert [a["id"] for a in ran.json["artifacts"]] == ["ort.fp32"]
    assert "convert" in ran.err
    assert "ort.fp32" in ran.err
    assert (tmp_path / "net.edgeconv" / "net.fp32.ort").is_file(), "the default folder is MODEL-NAME.edgeconv"
    quiet = edgeconv("convert", model, "--to", "ort", "-q")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    wrong = edgeconv("convert", model, "--to", "tflite", "--json")
    assert wrong.code == wrong.json["error"]["exit_code"] == 2
    assert "no way from onnx" in wrong.json["error"]["what"]
    assert "error:" in wrong.err


def test_all_is_every_precision_and_nothing_asked_for_is_the_default(
    digits: Path, artifacts: Path, edgeconv: Call, tmp_path: Path
) -> None:
    ran = edgeconv("convert", artifacts / "digits.fp32.tflite", "--to", "tflite:all", "-o", "out", "--json")
    assert ran.code == 2
    assert "already" in ran.json["error"]["what"]
    ran = edgeconv("convert", artifacts / "digits.fp32.onnx", "--to", "ort:all", "-o", "out", "--json")
    assert {a["id"] for a in ran.json["artifacts"]} >= {"ort.fp32", "ort.fp16", "ort.int8"}
    assert ran.code == 0
    ran = edgeconv("convert", digits / "digits_saved_model", "--json")
    assert [a["id"] for a in ran.json["artifacts"]] == ["frozen_graph.fp32", "onnx.fp32", "tflite.fp32"]
    assert (tmp_path / "digits_saved_model.edgeconv" / "digits_saved_model.fp32.tflite").is_file()


def test_a_checkpoint_needs_the_function_that_builds_its_model(digits: Path, edgeconv: Call) -> None:
    ran = edgeconv("convert", digits / "run" / "ckpt-1", "--to", "saved_model")
    assert ran.code in (2, 5)
    assert "--model-builder" in ran.all
    builder = f"{digits / 'net.py'}:build"
    made = edgeconv(
        "convert", digits / "run" / "ckpt-1", "--model-builder", builder, "--to", "saved_model", "--json"
    )
    assert made.code == 0, made.err
    assert [a["gate"]["verdict"] for a in made.json["artifacts"]] == ["pass"]


def test_a_signature_must_be_chosen_where_there_are_several(digits: Path, edgeconv: Call) -> None:
    model = digits / "several" / "signatures"
    ambiguous = edgeconv("convert", model, "--to", "tflite")
    assert ambiguous.code == 2
    assert "--signature: embed, score" in ambiguous.err
    wrong = edgeconv("convert", model, "--to", "tflite", "--signature", "embedd")
    assert wrong.code == 2
    assert "did you mean 'embed'?" in wrong.err
    ran = edgeconv("convert", model, "--to", "tflite", "--signature", "score", "--shape", "x=5,2", "--json")
    assert ran.code == 0, ran.err
    contract = ran.json["artifacts"][-1]["contract"]
    assert contract["signature"] == "score"
    assert [spec["shape"] for spec in contract["inputs"]] == [[5, 2]]
    assert [spec["name"] for spec in contract["outputs"]] == ["score"]


def test_tags_choose_the_graph(digits: Path, edgeconv: Call) -> None:
    model = digits / "several" / "tagged"
    ambiguous = edgeconv("convert", model, "--to", "frozen_graph")
    assert ambiguous.code == 2
    assert "--tags" in ambiguous.err
    wrong = edgeconv("convert", model, "--to", "frozen_graph", "--tags", "serve")
    assert wrong.code == 2
    assert "train" in wrong.err
    ran = edgeconv("convert", model, "--to", "frozen_graph", "--tags", "gpu,small", "-o", "out", "--json")
    assert ran.code == 0, ran.err
    x = np.ones((1, 3), np.float32)
    np.savez(edgeconv_file := Path(ran.json["source"]["path"]).parent / "x.npz", x=x)
    compared = edgeconv(
        "compare", model, "out/tagged.fp32.pb", "--tags", "small,gpu", "--data", edgeconv_file, "--json"
    )
    assert compared.code == 0, compared.err
    other = edgeconv("compare", model, "out/tagged.fp32.pb", "--tags", "train", "--json")
    assert other.code == 1
    assert other.json["verdict"] == "fail"


def test_inputs_and_outputs_cut_a_graph_and_a_wrong_name_gets_the_nearest(
    artifacts: Path, edgeconv: Call
) -> None:
    model = artifacts / "digits.fp32.pb"
    described = edgeconv("inspect", model, "--json").json
    names = [c["tensor"]["name"] for c in described["candidates"]]
    output = next(c["tensor"]["name"] for c in described["candidates"] if c["role"] == "output")
    assert "image" in names
    wrong = edgeconv("convert", model, "--to", "onnx", "--outputs", output[:-1])
    assert wrong.code == 2
    assert f"--outputs {output}" in wrong.err
    wrong = edgeconv("convert", model, "--to", "onnx", "--inputs", "imag")
    assert wrong.code == 2
    assert "image" in wrong.err
    ran = edgeconv(
        "convert", model, "--to", "onnx", "--inputs", "image", "--outputs", output, "--json", "-o", "cut"
    )
    assert ran.code == 0, ran.err


def test_an_unknown_shape_is_asked_for_and_a_contradicting_one_refused(digits: Path, edgeconv: Call) -> None:
    asked = edgeconv("convert", digits / "unknown.pb", "--to", "tflite")
    assert asked.code == 2
    assert "--shape x=" in asked.err
    ran = edgeconv("convert", digits / "unknown.pb", "--to", "tflite", "--shape", "x=2,4")
    assert ran.code == 0, ran.all
    against = edgeconv("convert", digits / "digits.keras", "--shape", "image=1,9,9,1")
    assert against.code == 2
    assert "contradicts the model's ?,8,8,1" in against.err
    unknown = edgeconv("convert", digits / "digits.keras", "--shape", "imagine=1,8,8,1")
    assert unknown.code == 2
    assert "did you mean 'image'?" in unknown.err


def test_a_gate_that_fails_exits_1_and_keeps_and_marks_the_artifact(
    artifacts: Path, digits: Path, edgeconv: Call, tmp_path: Path
) -> None:
    shutil.copy(artifacts / "digits.fp32.onnx", tmp_path / "net.onnx")
    ran = edgeconv(
        *("convert", "net.onnx", "--to", "onnx:int8,ort", "--calibration", digits / "samples.npz"),
        *("--tolerance", "int8:1e-12"),
    )
    assert ran.code == 1
    assert "onnx.int8: gate fail, kept in net.int8.onnx" in ran.out
    assert "edgeconv compare" in ran.out
    assert "--locate" in ran.out
    assert "net.edgeconv/net.int8.onnx" in ran.out, "the hint can be typed as it stands"
    manifest = json.loads((tmp_path / "net.edgeconv" / "manifest.json").read_text())
    verdicts = {a["id"]: a["gate"]["verdict"] for a in manifest["artifacts"]}
    assert verdicts == {"onnx.int8": "fail", "ort.fp32": "pass"}
    assert (tmp_path / "net.edgeconv" / "net.int8.onnx").is_file()


def test_random_calibration_is_said(artifacts: Path, edgeconv: Call) -> None:
    ran = edgeconv("convert", artifacts / "digits.fp32.onnx", "--to", "onnx:int8", "-o", "out")
    assert ran.code == 0
    assert "calibrated on seeded random inputs" in ran.out
    assert "--calibration" in ran.out


def test_the_gate_uses_the_samples_given_and_the_seed(
    artifacts: Path, digits: Path, edgeconv: Call, tmp_path: Path
) -> None:
    model = artifacts / "digits.fp32.onnx"

    def inputs_of(*flags: object) -> list[str]:
        ran = edgeconv("convert", model, "--to", "ort", "-o", "out", "--json", *flags)
        assert ran.code == 0, ran.err
        found: list[str] = ran.json["artifacts"][0]["gate"]["inputs"]
        return found

    assert "sample 0" in inputs_of("--data", digits / "samples.npz")
    assert inputs_of("--seed", "3") != inputs_of("--seed", "4")


def test_a_precision_that_a_model_cannot_have_fails_by_itself(digits: Path, edgeconv: Call) -> None:
    """An fp16 ONNX file has no int8 form here; the call says what there is."""
    ran = edgeconv("convert", digits / "digits.keras", "--to", "onnx:int16x8")
    assert ran.code == 2
    assert "onnx can be had in: fp32, fp16, int8" in ran.err


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda r: {"picture": r.random((4, 8, 8, 1)), "other": r.random(4)},
            "no samples for the input 'image'",
        ),
        (lambda r: {"image": r.random((4, 9, 8, 1))}, "do not fit the input 'image'"),
        (lambda r: {"image": np.array([["a"]] * 4)}, "do not fit the input 'image'"),
        (lambda r: {"image": np.full((12, 8, 8, 1), np.nan)}, "NaN"),
    ],
    ids=["name", "shape", "dtype", "nan"],
)
def test_samples_that_do_not_fit_are_refused_before_anything_is_begun(
    make: Callable[[np.random.Generator], dict[str, Any]],
    said: str,
    digits: Path,
    edgeconv: Call,
    tmp_path: Path,
) -> None:
    np.savez(tmp_path / "s.npz", **make(np.random.default_rng(0)))
    ran = edgeconv("convert", digits / "digits.keras", "--to", "tflite:int8", "--calibration", "s.npz")
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert "→" in ran.err
    assert not (tmp_path / "digits.edgeconv").exists()
    if said != "NaN":
        assert edgeconv("convert", digits / "digits.keras", "--data", "s.npz").code == 2


def test_no_cache_leaves_none_and_jobs_can_be_one(artifacts: Path, edgeconv: Call, tmp_path: Path) -> None:
    flags = ["--to", "ort", "-o", "out", "--no-cache", "--jobs", "1"]
    env = {"EDGECONV_CACHE_DIR": str(tmp_path / "cache")}
    for _ in range(2):
        ran = edgeconv("convert", artifacts / "digits.fp32.onnx", *flags, "--json", env=env)
        assert ran.code == 0
        assert not ran.json["artifacts"][0]["cached"]
    assert not (tmp_path / "cache").exists()


def test_another_to_keeps_what_earlier_runs_made(artifacts: Path, edgeconv: Call, tmp_path: Path) -> None:
    model = artifacts / "digits.fp32.onnx"
    assert edgeconv("convert", model, "--to", "ort", "-o", "out").code == 0
    assert edgeconv("convert", model, "--to", "onnx:fp16", "-o", "out").code == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert {a["id"] for a in manifest["artifacts"]} == {"ort.fp32", "onnx.fp16"}
    assert (tmp_path / "out" / "digits.fp32.fp16.onnx").is_file()


def test_code_in_a_model_runs_only_with_trust(edgeconv: Call, tmp_path: Path) -> None:
    program = """
import keras, sys
x = keras.Input((4,), name="x")
keras.Model(x, keras.layers.Lambda(lambda t: t * 2.0, name="double")(x)).save("lambda.keras")
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True)
    refused = edgeconv("convert", "lambda.keras", "--to", "saved_model")
    assert refused.code in (2, 5)
    assert "--trust" in refused.all
    assert "double" in refused.all
    trusted = edgeconv("convert", "lambda.keras", "--to", "saved_model", "--trust")
    assert trusted.code == 0, trusted.all
