"""Will an artifact run on a kind of device, and if not, what is in the way and what to type."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper
from tflite_builder import INT8, Builder, dense

from edgeconv.checking.base import Problem, RuntimeVerdict, checker_for, worst
from edgeconv.checking.target import TargetVerdict, check, check_all
from edgeconv.errors import InvalidModelError, UsageError
from edgeconv.targets.loading import add_target, shipped_folder

_ENUM = schema.BuiltinOperator


@pytest.fixture(autouse=True)
def _own_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECONV_TARGETS_DIR", str(tmp_path / "targets"))


@pytest.fixture
def fp32(tmp_path: Path) -> Path:
    path = tmp_path / "dense.tflite"
    path.write_bytes(dense().bytes())
    return path


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(np.ones((4, 3), np.float32), "w")],
    )  # fmt: skip
    path = tmp_path / "dense.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def int8(op: int | str = _ENUM.RELU, *, size: int = 100, free: bool = False) -> Builder:
    b = Builder()
    quantized = {"dtype": INT8, "scale": [0.1], "zero_point": [0]}
    x, y = (b.tensor(name, [1, size], signature=[-1, size] if free else None, **quantized) for name in "xy")
    b.op(op, [x], [y])
    b.ends([x], [y])
    return b


def own_target(tmp_path: Path, base: str, *changes: tuple[str, str], name: str = "mine") -> str:
    """A target like one that ships, with some lines of its file changed."""
    text = (shipped_folder() / f"{base}.yaml").read_text().replace(f"name: {base}\n", f"name: {name}\n", 1)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / f"{name}-to-add.yaml"
    file.write_text(text)
    add_target(file, replace=True)
    return name


def problems(found: TargetVerdict, severity: str = "refused") -> list[Problem]:
    return [
        problem
        for problem in (*found.problems, *(one for runtime in found.runtimes for one in runtime.problems))
        if problem.severity == severity
    ]


def test_the_worst_of_a_runtimes_problems_is_its_verdict() -> None:
    assert worst([]) == "runs"
    assert RuntimeVerdict("r", "1", (Problem("a", "b", severity="note"),)).verdict == "runs"
    assert RuntimeVerdict("r", "1", (Problem("a", "b", severity="unknown"),)).verdict == "unknown"
    assert (
        RuntimeVerdict("r", "1", (Problem("a", "b", severity="unknown"), Problem("a", "b"))).verdict
        == "refused"
    )


def verdict(own: tuple[Problem, ...], *runtimes: str) -> str:
    made = {"runs": (), "unknown": (Problem("u", "", severity="unknown"),), "refused": (Problem("r", ""),)}
    each = tuple(RuntimeVerdict("r", "1", made[one]) for one in runtimes)
    return TargetVerdict("a", "tflite", "fp32", "t", "", own, each, None, 0).verdict


def test_one_runtime_that_takes_it_is_enough_but_the_targets_own_problems_are_of_all() -> None:
    assert verdict((), "refused", "runs", "unknown") == "runs"
    assert verdict((), "refused", "unknown") == "unknown"
    assert verdict((), "refused", "refused") == "refused"
    assert verdict(()) == "refused"
    assert verdict((Problem("memory", ""),), "runs") == "refused"
    assert verdict((Problem("note", "", severity="note"),), "runs") == "runs"


def test_every_runtime_of_the_format_gets_a_verdict_in_the_order_of_the_target(fp32: Path) -> None:
    found = check(fp32, "rpi4")
    assert [(one.runtime, one.version) for one in found.runtimes] == [
        ("ai-edge-litert", "2.3.0"),
        ("tflite-runtime", "2.14.0"),
    ]
    assert (found.format, found.precision, found.target) == ("tflite", "fp32", "rpi4")


def test_an_onnx_file_runs_where_a_measured_onnx_runtime_is(onnx_file: Path) -> None:
    found = check(onnx_file, "rpi4@bullseye")
    assert found.verdict == "runs"
    assert found.runs_with is not None
    assert (found.runs_with.runtime, found.runs_with.version) == ("onnxruntime", "1.19.2")
    assert found.convert is None


def test_a_format_that_nothing_there_takes_is_refused_with_those_that_are_taken(onnx_file: Path) -> None:
    found = check(onnx_file, "rpi4-32")
    assert found.verdict == "refused"
    assert [problem.what for problem in problems(found)] == [
        "no runtime there takes onnx; rpi4-32 takes tflite (tflite-runtime 2.14.0)"
    ]
    assert found.convert == "edgeconv convert SOURCE --target rpi4-32 --to tflite:fp32"


def test_the_command_names_the_model_where_a_manifest_is_beside_the_artifact(onnx_file: Path) -> None:
    manifest = {"artifacts": [{"path": "dense.onnx"}], "source": {"path": "/models/my model.keras"}}
    (onnx_file.parent / "manifest.json").write_text(json.dumps(manifest))
    assert check(onnx_file, "rpi4-32").convert == (
        "edgeconv convert '/models/my model.keras' --target rpi4-32 --to tflite:fp32"
    )


def test_a_model_that_is_a_source_itself_is_named_in_the_command(tmp_path: Path) -> None:
    path = tmp_path / "net.pb"
    path.write_text(
        'node { name: "x" op: "Placeholder" attr { key: "dtype" value { type: DT_FLOAT } } }\n'
        'node { name: "y" op: "Relu" input: "x" attr { key: "T" value { type: DT_FLOAT } } }\n'
    )
    found = check(path, "rpi4")
    assert found.verdict == "refused"
    assert found.convert == f"edgeconv convert {path} --target rpi4 --to tflite:fp32"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"artifacts": 3}', '{"artifacts": [{}], "source": null}'])
def test_a_manifest_that_is_none_is_passed_over(onnx_file: Path, text: str) -> None:
    (onnx_file.parent / "manifest.json").write_text(text)
    assert "SOURCE" in str(check(onnx_file, "rpi4-32").convert)


def test_a_runtime_that_nobody_measured_is_no_verdict(onnx_file: Path) -> None:
    found = check(onnx_file, "jetson-nano-jp4", runtime="tensorrt")
    assert found.verdict == "unknown"
    assert problems(found, "unknown")[0].what == "nobody has measured what tensorrt 8.2.1 takes"


class TestWheels:
    """The runtime's wheel against the board, whatever the artifact."""

    def test_the_boards_python_must_have_a_wheel(self, onnx_file: Path) -> None:
        (problem,) = problems(check(onnx_file, "rpi4@bullseye", runtime="onnxruntime==1.31.1"))
        assert problem.code == "python"
        assert problem.what == "onnxruntime 1.31.1 has wheels for Python 3.11 to 3.13, there is 3.9"
        assert "onnxruntime==1.19.2" in str(problem.hint)

    def test_the_processor_must_have_a_wheel(self, fp32: Path) -> None:
        found = check(fp32, "rpi4-32", runtime="ai-edge-litert==2.3.0")
        assert "there is no wheel of ai-edge-litert for armv7l" in [p.what for p in problems(found)]
        assert found.convert is None, "another artifact would meet the same"

    def test_a_tag_that_promises_an_older_libc_than_the_libraries_need_is_seen_through(
        self, fp32: Path, tmp_path: Path
    ) -> None:
        # Debian 11 with a newer Python of its own: pip installs the wheel, and the import fails.
        name = own_target(tmp_path, "generic-arm64", ('python: "3.9"', 'python: "3.10"'))
        found = check(fp32, f"{name}@debian-11", runtime="ai-edge-litert==2.3.0")
        said = [problem.what for problem in problems(found)]
        assert "ai-edge-litert 2.3.0 asks for GLIBC 2.34, though its tag says 2.27; there is 2.31" in said
        assert "ai-edge-litert 2.3.0 asks libstdc++ for GLIBCXX 3.4.30, there is 3.4.28" in said
        assert "ai-edge-litert==2.1.0" in str(problems(found)[0].hint)

    def test_a_tag_that_pip_refuses_is_refused_though_the_libraries_would_load(self, fp32: Path) -> None:
        found = check(fp32, "rpi4@bullseye", runtime="tflite-runtime==2.14.0")
        (problem,) = [problem for problem in problems(found) if problem.code == "libc"]
        assert problem.what.startswith("pip refuses tflite-runtime 2.14.0: its tag says glibc 2.34, there is")
        assert problem.what.endswith("2.31 (its libraries ask for 2.27 only)")

    def test_wheels_are_for_linux_with_python(self, fp32: Path) -> None:
        found = check(fp32, "microcontroller", runtime="ai-edge-litert==2.3.0")
        assert any("there is no Python" in problem.what for problem in problems(found))

    def test_a_release_that_nobody_knows_is_no_verdict(self, onnx_file: Path) -> None:
        found = check(onnx_file, "rpi4", runtime="onnxruntime==99.0")
        assert found.verdict == "unknown"
        assert "no wheel of onnxruntime 99.0 for aarch64 is known" in [
            problem.what for problem in problems(found, "unknown")
        ]

    def test_numpy_2_beside_a_runtime_of_numpy_1_is_said_with_the_command(self, fp32: Path) -> None:
        found = check(fp32, "rpi4", runtime="tflite-runtime")
        (note,) = [problem for problem in problems(found, "note") if problem.code == "companions"]
        assert note.hint == "pip install 'tflite-runtime==2.14.0' 'numpy<2'"

    def test_it_is_said_of_versions_that_the_target_does_not_name(self, onnx_file: Path) -> None:
        old = check(onnx_file, "rpi4", runtime="onnxruntime==1.16.3")
        new = check(onnx_file, "rpi4", runtime="onnxruntime==1.19.2")
        assert [p.code for p in problems(old, "note") if p.code == "companions"] == ["companions"]
        assert not [p for p in problems(new, "note") if p.code == "companions"]

    def test_without_a_version_the_newest_that_fits_is_taken(self, fp32: Path) -> None:
        found = check(fp32, "jetson-orin-nano-jp6", runtime="onnxruntime")
        assert found.runtimes == (), "it opens no TFLite"
        found = check(fp32, "jetson-nano-jp4", runtime="ai-edge-litert")
        assert found.verdict == "refused"


class TestLimits:
    """Targets where a list is all that is known: compilers and microcontrollers."""

    def saved(self, tmp_path: Path, model: Builder) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.tflite"
        path.write_bytes(model.bytes())
        return path

    def test_a_small_int8_model_fits_and_says_how_sure_that_is(self, tmp_path: Path) -> None:
        for name in ("microcontroller", "coral-edgetpu"):
            found = check(self.saved(tmp_path, int8()), name)
            assert found.verdict == "runs", name
            assert "documented" in [problem.code for problem in problems(found, "note")]

    def test_another_precision_is_refused_with_the_one_that_is_taken(self, fp32: Path) -> None:
        found = check(fp32, "coral-edgetpu")
        assert [problem.what for problem in problems(found)] == ["it is fp32; taken there is int8 only"]
        assert found.convert == (
            "edgeconv convert SOURCE --target coral-edgetpu --to tflite:int8 --calibration SAMPLES.npz"
        )

    def test_an_open_dimension_is_refused_with_the_shape_to_pin(self, tmp_path: Path) -> None:
        found = check(self.saved(tmp_path, int8(free=True)), "coral-edgetpu")
        (problem,) = problems(found)
        assert (problem.code, problem.hint) == ("open-shape", "convert it with --shape x=1,100")
        assert "--shape x=1,100" in str(found.convert)

    def test_an_open_batch_is_read_as_one_where_that_is_so(self, tmp_path: Path) -> None:
        assert check(self.saved(tmp_path, int8(free=True)), "microcontroller").verdict == "runs"
        wide = int8()
        wide.model.subgraphs[0].tensors[0].shapeSignature = [-1, -1]
        (problem,) = problems(check(self.saved(tmp_path, wide), "microcontroller"))
        assert problem.code == "open-shape"

    def test_the_shape_in_the_command_is_safe_to_paste(self, tmp_path: Path) -> None:
        model = int8(free=True)
        model.model.subgraphs[0].tensors[0].name = "x; rm -rf 'home'"
        command = str(check(self.saved(tmp_path, model), "coral-edgetpu").convert)
        assert "x; rm -rf 'home'=1,100" in shlex.split(command)

    def test_an_op_that_is_not_on_the_list_is_refused_by_name(self, tmp_path: Path) -> None:
        found = check(self.saved(tmp_path, int8(_ENUM.ATAN2)), "microcontroller")
        assert "ATAN2 is not among the ops taken there" in [problem.what for problem in problems(found)]

    def test_an_op_that_no_conversion_takes_away_is_not_answered_with_one(self, tmp_path: Path) -> None:
        found = check(self.saved(tmp_path, int8(_ENUM.ATAN2)), "microcontroller")
        assert found.convert is None
        (advice,) = [p.what for p in problems(found) if p.code == "ops-stay"]
        assert advice.startswith("no conversion takes ATAN2 away")
        # TensorFlow's own op is one that another conversion writes otherwise.
        rewritten = check(self.saved(tmp_path, int8("FlexErf")), "microcontroller")
        assert "edgeconv convert" in str(rewritten.convert)

    def test_an_op_that_runs_elsewhere_is_a_note(self, tmp_path: Path) -> None:
        found = check(self.saved(tmp_path, int8(_ENUM.ATAN2)), "coral-edgetpu")
        assert found.verdict == "runs"
        assert "ATAN2 is not among the ops taken there, it runs on the CPU" in [
            problem.what for problem in problems(found, "note")
        ]

    def test_custom_and_tensorflow_ops_are_named_as_what_they_are(self, tmp_path: Path) -> None:
        found = check(self.saved(tmp_path, int8("FlexErf")), "microcontroller")
        assert "TensorFlow op Erf is not among the ops taken there" in [p.what for p in problems(found)]
        found = check(self.saved(tmp_path, int8("MyOp")), "microcontroller")
        assert "custom op MyOp is not among the ops taken there" in [p.what for p in problems(found)]

    def test_a_custom_op_of_the_targets_own_is_taken(self, tmp_path: Path) -> None:
        found = check(self.saved(tmp_path, int8("edgetpu-custom-op")), "coral-edgetpu")
        assert found.verdict == "runs"
        assert not [p for p in problems(found, "note") if "compile it first" in p.what]

    def test_weights_count_against_storage_and_activations_against_memory(self, tmp_path: Path) -> None:
        found = check(self.saved(tmp_path, int8(size=300_000)), "microcontroller")
        assert [problem.code for problem in problems(found)] == ["memory", "too-big"]
        assert found.convert is None


class TestMemory:
    """What is left for a model there, against what the model needs."""

    def test_a_model_that_does_not_fit_is_refused_with_a_smaller_precision(
        self, fp32: Path, tmp_path: Path
    ) -> None:
        # 140 bytes of weights and 44 of activations.
        name = own_target(tmp_path, "rpi4", ("for_model: 600 MiB", "for_model: 0.1 KiB"))
        found = check(fp32, name)
        assert found.verdict == "refused"
        assert [problem.code for problem in found.problems if problem.severity == "refused"] == ["memory"]
        assert "--to tflite:int8 --calibration" in str(found.convert)

    def test_one_that_no_precision_makes_small_enough_is_told_so(self, fp32: Path, tmp_path: Path) -> None:
        name = own_target(tmp_path, "rpi4", ("for_model: 600 MiB", "for_model: 0.01 KiB"))
        found = check(fp32, name)
        assert [p.code for p in problems(found) if p in found.problems] == ["memory", "too-big"]
        assert found.convert is None

    def test_one_that_fits_without_the_packed_copy_is_a_note(self, onnx_file: Path, tmp_path: Path) -> None:
        # 48 bytes of weights, packed again, and 28 of activations: 76 at least, 124 in all.
        name = own_target(tmp_path, "rpi4", ("for_model: 600 MiB", "for_model: 0.1 KiB"))
        found = check(onnx_file, name)
        assert found.verdict == "runs"
        assert [problem.code for problem in found.problems] == ["memory"]


def test_a_precision_that_does_not_pay_there_is_a_note_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "relu.tflite"
    path.write_bytes(int8().bytes())
    found = check(path, "rpi4")
    (note,) = [problem for problem in found.problems if problem.code == "precision-pays"]
    assert note.severity == "note"
    assert note.what.startswith("int8 makes it smaller there, not quicker: ")
    assert "dotprod" in note.what
    assert not [problem for problem in check(path, "rpi5").problems if problem.code == "precision-pays"]


@pytest.mark.parametrize(
    ("wrong", "near"), [("ai-edge-lite", "ai-edge-litert"), ("onnx-runtime", "onnxruntime")]
)
def test_a_runtime_that_is_none_gets_the_nearest(fp32: Path, wrong: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"no runtime '{wrong}'") as caught:
        check(fp32, "rpi4", runtime=wrong)
    assert f"'{near}'" in str(caught.value.hint)


def test_a_truncated_artifact_is_an_error_and_no_verdict(fp32: Path) -> None:
    fp32.write_bytes(fp32.read_bytes()[:-40])
    with pytest.raises(InvalidModelError):
        check(fp32, "rpi4")


def test_several_artifacts_are_checked_on_several_targets(fp32: Path, onnx_file: Path) -> None:
    found = check_all([fp32, onnx_file], ["rpi4", "rpi4-32"])
    assert [(Path(one.artifact).name, one.target) for one in found] == [
        ("dense.tflite", "rpi4"), ("dense.tflite", "rpi4-32"),
        ("dense.onnx", "rpi4"), ("dense.onnx", "rpi4-32"),
    ]  # fmt: skip
    with pytest.raises(UsageError, match="no target is named"):
        check_all([fp32], [])


def test_the_document_has_the_verdict_of_each_runtime(onnx_file: Path) -> None:
    document = check(onnx_file, "rpi4@bullseye").to_json()
    assert json.loads(json.dumps(document)) == document
    assert document["verdict"] == "runs"
    assert [(one["runtime"], one["verdict"]) for one in document["runtimes"]] == [("onnxruntime", "runs")]
    assert document["memory"]["total"] == 48 + 48 + 28


def test_every_runtime_with_a_wheel_has_a_checker_for_its_formats() -> None:
    for form, runtime in (("tflite", "ai-edge-litert"), ("tflite", "tflite-runtime"),
                          ("onnx", "onnxruntime"), ("ort", "onnxruntime")):  # fmt: skip
        assert checker_for(form, runtime) is not None
    assert checker_for("tflite", "onnxruntime") is None
