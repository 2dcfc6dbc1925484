"""The gate on devices: who ran where, several at once, and one that breaks."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edgeconv
from edgeconv.cli.gate_tables import how_exact
from edgeconv.errors import DeviceError, ExitCode, UnavailableError, UsageError
from edgeconv.execution.manifest import GateRecord
from edgeconv.recipe.on_devices import OnDevice, devices_asked, summary

Call = Callable[..., Any]


@pytest.fixture
def unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A device that is written down and does not answer: nobody listens at its port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "devices.yaml").write_text(
        f"board:\n  kind: ssh\n  host: nobody@127.0.0.1\n  port: {port}\n"
    )
    monkeypatch.setenv("EDGECONV_CONFIG_DIR", str(tmp_path / "settings"))
    return "board"


def gate(verdict: str) -> OnDevice:
    return OnDevice("d", GateRecord.model_validate({"verdict": verdict, "reference": "r"}))


class TestWhatSeveralDevicesGive:
    def test_the_worst_is_the_exit_code(self) -> None:
        lost = OnDevice("lost", error=DeviceError("it went away", hint="look"))
        assert [one.exit_code for one in (gate("pass"), gate("fail"), gate("skipped"), lost)] == [0, 1, 1, 4]

    def test_the_first_that_did_not_pass_stands_for_all(self) -> None:
        assert summary([gate("pass"), gate("fail")]).verdict == "fail"
        assert summary([gate("pass"), gate("pass")]).verdict == "pass"

    def test_a_pass_beside_a_lost_device_is_none(self) -> None:
        lost = OnDevice("lost", error=DeviceError("it went away", hint="look"))
        said = summary([gate("pass"), lost])
        assert (said.verdict, said.hint) == ("skipped", "look")
        assert "lost: it went away" in str(said.reason)

    def test_json_says_what_broke_and_its_exit_code(self) -> None:
        document = OnDevice("x", error=UnavailableError("not here", hint="make it")).to_json()
        assert (document["device"], document["verdict"]) == ("x", "broken")
        assert (document["error"]["what"], document["error"]["exit_code"]) == ("not here", 4)

    def test_a_runtime_threads_or_an_accelerator_alone_mean_this_machine(self) -> None:
        assert devices_asked((), None, 1, None) == ()
        assert devices_asked((), "litert", 1, None) == ("local",)
        assert devices_asked((), None, 2, None) == ("local",)
        assert devices_asked((), None, 1, "cpu") == ("local",)
        assert devices_asked(("b", "a", "b"), "litert", 1, None) == ("b", "a")


@pytest.mark.slow
class TestCompare:
    @pytest.mark.parametrize("name", ["fp32.tflite", "int8.tflite", "fp32.onnx", "fp32.ort"])
    def test_the_same_file_here_and_there_is_exact(self, artifacts: Path, name: str) -> None:
        path = artifacts / f"digits.{name}"
        found = edgeconv.compare(path, path, device="local")
        (one,) = found.devices
        assert found.passed
        assert one.ran is not None
        assert (one.ran.device, one.ran.emulated) == ("local", False)
        assert found.reference_ran is not None
        assert found.reference_ran.device is None
        assert one.ran.version == found.reference_ran.version
        assert [how_exact(output) for output in found.gate.outputs] == ["exact"]

    def test_the_reference_may_be_the_source_itself(self, artifacts: Path, digits: Path) -> None:
        found = edgeconv.compare(
            digits / "digits.keras",
            artifacts / "digits.int8.tflite",
            data=digits / "samples.npz",
            device="local",
            threads=2,
        )
        assert found.passed
        assert found.gate.inputs[0] == "sample 0"
        assert "step" in how_exact(found.gate.outputs[0])

    def test_one_that_breaks_ends_in_its_error_and_the_others_go_on(
        self, artifacts: Path, unreachable: str
    ) -> None:
        path = artifacts / "digits.fp32.tflite"
        found = edgeconv.compare(path, path, device=[unreachable, "local"])
        broken, good = found.devices
        assert isinstance(broken.error, DeviceError)
        assert broken.error.hint
        assert good.exit_code == ExitCode.OK
        assert found.exit_code == ExitCode.UNAVAILABLE
        assert not found.passed

    def test_what_differs_fails_there_as_it_does_here(self, artifacts: Path, tmp_path: Path) -> None:
        import onnx
        from onnx import numpy_helper

        model = onnx.load(artifacts / "digits.fp32.onnx")
        weights = next(t for t in model.graph.initializer if len(t.dims) == 2 and t.data_type == 1)
        weights.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weights), weights.name))
        onnx.save(model, tmp_path / "wrong.onnx")
        found = edgeconv.compare(artifacts / "digits.fp32.onnx", tmp_path / "wrong.onnx", device="local")
        assert (found.gate.verdict, found.exit_code) == ("fail", ExitCode.VERDICT_FAILED)

    def test_tensors_inside_can_be_located_here_only(self, artifacts: Path) -> None:
        path = artifacts / "digits.fp32.onnx"
        with pytest.raises(UsageError, match="here only"):
            edgeconv.compare(path, path, device="local", locate=True)

    @pytest.mark.parametrize(
        ("how", "said"),
        [
            ({"device": "lokal"}, "there is no device 'lokal'"),
            ({"runtime": "tflite-runtime"}, "tflite-runtime does not open 'onnx'"),
            ({"runtime": "onnxruntime=="}, "names no runtime"),
        ],
    )
    def test_a_wrong_name_is_said_before_anything_is_run(
        self, artifacts: Path, how: dict[str, str], said: str
    ) -> None:
        path = artifacts / "digits.fp32.onnx"
        with pytest.raises(UsageError, match=said):
            edgeconv.compare(path, path, **how)  # type: ignore[arg-type]


@pytest.mark.slow
class TestTheCommands:
    def test_compare_says_where_each_ran_and_exits_with_the_worst(
        self, artifacts: Path, edgeconv: Call, unreachable: str
    ) -> None:
        path = artifacts / "digits.int8.tflite"
        ran = edgeconv("compare", path, path, "--device", "local", "--device", unreachable, "--json")
        assert ran.code == 4, ran.all
        one, other = ran.json["devices"]
        assert (one["device"], one["runtime"], one["emulated"], one["verdict"]) == (
            *("local", "litert"),
            *(False, "pass"),
        )
        assert one["outputs"][0]["differing"] == 0
        assert (other["device"], other["verdict"]) == (unreachable, "broken")
        assert ran.json["reference_ran"]["runtime"] == "litert"
        text = edgeconv("compare", path, path, "--device", "local", "--device", unreachable)
        assert text.code == 4
        assert "on local:" in text.out
        assert "scores: exact" in text.out
        assert f"✗ {unreachable}: " in text.out

    def test_convert_proves_each_artifact_there_too(
        self, digits: Path, edgeconv: Call, tmp_path: Path
    ) -> None:
        ran = edgeconv(
            *("convert", digits / "digits.keras", "--to", "tflite:int8,onnx", "-o", "out", "--json"),
            *("--calibration", digits / "samples.npz", "--device", "local"),
        )
        assert ran.code == 0, ran.all
        there = {a["id"]: a["device_gates"] for a in ran.json["artifacts"]}
        assert there["frozen_graph.fp32"] == []
        (gate,) = there["tflite.int8"]
        assert (gate["device"], gate["runtime"], gate["verdict"]) == ("local", "litert", "pass")
        assert gate["reference"] == "tflite.int8"
        assert gate["outputs"][0]["differing"] == 0
        assert gate["inputs"][0] == "sample 0"
        from edgeconv.execution.manifest import read_manifest

        assert read_manifest(tmp_path / "out").artifact("onnx.fp32").device_gates[0].runtime == "onnxruntime"

    def test_a_device_that_breaks_is_a_failure_of_its_own_and_what_was_made_stays(
        self, digits: Path, edgeconv: Call, tmp_path: Path, unreachable: str
    ) -> None:
        ran = edgeconv(
            *("convert", digits / "digits.keras", "--to", "tflite", "-o", "out"),
            *("--device", unreachable, "--device", "local"),
        )
        assert ran.code == 4, ran.all
        assert "tflite.fp32: gate on board failed" in ran.out
        from edgeconv.execution.manifest import read_manifest

        manifest = read_manifest(tmp_path / "out")
        record = manifest.artifact("tflite.fp32")
        assert (tmp_path / "out" / record.path).is_file()
        assert [(g.device, g.verdict) for g in record.device_gates] == [("local", "pass")]
        (failure,) = manifest.failures
        assert (failure.device, failure.artifact) == (unreachable, "tflite.fp32")
        assert failure.hint

    def test_a_device_that_is_not_known_stops_before_anything_is_made(
        self, digits: Path, edgeconv: Call, tmp_path: Path
    ) -> None:
        ran = edgeconv("convert", digits / "digits.keras", "-o", "out", "--device", "lokal")
        assert ran.code == 2
        assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_where_times_say_nothing_fewer_made_up_probes_are_run(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is left out is said; samples of a person's own are all run."""
    from edgeconv.comparison.probes import make_probes, save_probes
    from edgeconv.comparison.stage import gate as observe_and_judge
    from edgeconv.devices.local import LocalDevice
    from edgeconv.formats.base import to_json

    monkeypatch.setattr(LocalDevice, "emulated", True)
    path = artifacts / "digits.fp32.tflite"
    with edgeconv.load(path) as session:
        from edgeconv.formats.base import Contract

        contract = Contract(session.inputs, session.outputs)
    probes = make_probes(contract)
    save_probes(tmp_path / "probes.npz", probes)
    payload = {
        "artifact": {"path": str(path), "format": "tflite", "contract": to_json(contract)},
        "runtime": "litert",
        "options": {},
        "probes": str(tmp_path / "probes.npz"),
        "observation": str(tmp_path / "seen.npz"),
        "reference": None,
        "device": {"name": "local"},
    }
    said = observe_and_judge({**payload, "fewer_where_slow": True})
    assert said["ran"]["emulated"]
    assert len(said["verdict"]["inputs"]) == 1
    assert "emulation is slow" in said["verdict"]["notes"][0]
    assert len(observe_and_judge(payload)["verdict"]["inputs"]) == len(probes)
