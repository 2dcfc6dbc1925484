"""A session on a device has the verbs, names and refusals of one in this process."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeconv
from edgeconv.devices._emulated_boards import find_board
from edgeconv.devices.base import RuntimeChoice
from edgeconv.devices.emulated import EmulatedDevice
from edgeconv.devices.local import LocalDevice
from edgeconv.devices.session import DeviceSession, Wish, runtimes_for
from edgeconv.errors import ConversionError, DeviceError, UnavailableError, UsageError
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.runtimes.onnxruntime import RUNTIME as ONNXRUNTIME

GOOD = {"a": np.array([[1, 2]], np.float32), "b": np.array([[3, 4]], np.float32)}


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``y = a + b``, ``z = a - b``."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [helper.make_node("Add", ["a", "b"], ["y"]), helper.make_node("Sub", ["a", "b"], ["z"])]
    infos = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 2]) for n in "abyz"}
    graph = helper.make_graph(nodes, "g", [infos["a"], infos["b"]], [infos["y"], infos["z"]])
    path = tmp_path_factory.mktemp("session") / "doubled.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), path)
    return path


def opened(path: Path, contract: Contract | None = None, **wish: Any) -> DeviceSession:
    return DeviceSession(LocalDevice(), path, "onnx", contract, Wish(**wish))


def spec(name: str, tensor: str | None = None) -> TensorSpec:
    return TensorSpec(name, "float32", (None, 2), tensor)


def test_without_a_contract_the_file_names_inputs_and_outputs(doubled: Path) -> None:
    with opened(doubled) as there, ONNXRUNTIME.open(doubled, None) as here:
        assert (there.inputs, there.outputs) == (here.inputs, here.outputs)
        found = there(GOOD)
    assert list(found) == ["y", "z"]
    np.testing.assert_array_equal(found["y"], [[4, 6]])


def test_a_contract_s_names_and_order_count(doubled: Path) -> None:
    contract = Contract((spec("left", "a"), spec("right", "b")), (spec("minus", "z"), spec("plus", "y")))
    with opened(doubled, contract) as session:
        assert session.inputs == contract.inputs
        found = session({"right": GOOD["b"], "left": GOOD["a"]})
    assert list(found) == ["minus", "plus"]
    np.testing.assert_array_equal(found["minus"], [[-2, -2]])


@pytest.mark.parametrize(
    "inputs",
    [
        {"a": GOOD["a"]},
        GOOD | {"c": GOOD["a"]},
        GOOD | {"a": np.zeros((1, 2))},
        GOOD | {"a": np.zeros((1, 3), np.float32)},
        GOOD | {"a": np.array([["x", "y"]])},
    ],
)
def test_wrong_inputs_are_refused_in_the_words_of_this_process(doubled: Path, inputs: dict[str, Any]) -> None:
    said = []
    with opened(doubled) as there, ONNXRUNTIME.open(doubled, None) as here:
        for session in (there, here):
            with pytest.raises(UsageError) as caught:
                session.infer(inputs)
            said.append((caught.value.what, caught.value.hint))
        there(GOOD)
    assert said[0] == said[1]


def test_what_only_the_runtime_notices_leaves_the_session_as_it_was(doubled: Path) -> None:
    with opened(doubled) as session:
        with pytest.raises(ConversionError):
            session.infer({"a": np.zeros((2, 2), np.float32), "b": np.zeros((3, 2), np.float32)})
        np.testing.assert_array_equal(session(GOOD)["y"], [[4, 6]])


def test_it_says_where_it_runs(doubled: Path) -> None:
    from importlib.metadata import version

    with opened(doubled, threads=2, accelerator="cpu") as session:
        ran = session.ran
        assert (ran.device, ran.runtime, ran.version) == ("local", "onnxruntime", version("onnxruntime"))
        assert (ran.threads, ran.accelerator, ran.emulated) == (2, "cpu", False)
        assert str(ran) == f"onnxruntime {version('onnxruntime')} on local"
        assert session.load_seconds > 0


def test_it_says_where_the_ops_run_as_a_session_here_does(doubled: Path) -> None:
    with opened(doubled) as there, ONNXRUNTIME.open(doubled, None) as here:
        found = there.placement(GOOD)
        assert found is not None
        assert found == here.placement(GOOD)
        assert not found.fell_back


@pytest.mark.parametrize("calls", [1, 7, 70_000])
def test_each_inference_is_timed_by_itself(doubled: Path, calls: int) -> None:
    with opened(doubled) as session:
        times = session.time(GOOD, calls)
    assert (times.shape, times.dtype) == ((calls,), np.int64)
    assert (times > 0).all()


def test_no_inference_cannot_be_timed(doubled: Path) -> None:
    with opened(doubled) as session, pytest.raises(UsageError, match="0 inferences"):
        session.time(GOOD, 0)


def test_a_lost_device_is_an_error_and_the_session_can_be_opened_again(doubled: Path) -> None:
    with opened(doubled) as session:
        assert session._client is not None
        os.kill(session._client.greeting.pid, signal.SIGKILL)
        with pytest.raises(DeviceError):
            session(GOOD)
        session.reopen()
        np.testing.assert_array_equal(session(GOOD)["y"], [[4, 6]])


def test_a_closed_session_says_so(doubled: Path) -> None:
    session = opened(doubled)
    session.close()
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session(GOOD)


def test_nothing_is_left_running_where_a_model_is_refused(doubled: Path, tmp_path: Path) -> None:
    import psutil

    bad = tmp_path / "bad.onnx"
    bad.write_bytes(doubled.read_bytes()[:40])
    before = {child.pid for child in psutil.Process().children()}
    with pytest.raises((ConversionError, UsageError)):
        opened(bad)
    with pytest.raises(UsageError, match="no output 'q'"):
        opened(doubled, Contract((spec("a"), spec("b")), (spec("q"), spec("y"))))
    assert {child.pid for child in psutil.Process().children()} <= before


@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        ("onnxruntim", "did you mean 'onnxruntime'"),
        ("litert", "litert does not open 'onnx'"),
    ],
)
def test_a_runtime_that_is_not_known_or_not_of_the_format_is_a_wrong_call(
    doubled: Path, runtime: str, said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        opened(doubled, runtime=RuntimeChoice.parse(runtime))
    assert said in f"{caught.value} {caught.value.hint}"


def test_a_version_that_is_not_there_says_how_to_get_it(doubled: Path) -> None:
    with pytest.raises(UnavailableError) as caught:
        opened(doubled, runtime=RuntimeChoice("onnxruntime", "1.16.3"))
    assert "edgeconv environments create onnxruntime==1.16.3" in str(caught.value.hint)


def test_the_usual_runtime_of_a_format_comes_first() -> None:
    assert [choice.name for choice in runtimes_for("tflite")] == ["litert", "tflite-runtime"]
    assert runtimes_for("onnx")[0].name == "onnxruntime"
    assert runtimes_for("tflite", RuntimeChoice("ai-edge-litert", "1.4.0"))[0].name == "litert"
    with pytest.raises(UsageError, match="opens 'keras'"):
        runtimes_for("keras")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["fp32.tflite", "int8.tflite", "fp32.onnx", "fp16.onnx", "fp32.ort", "fp32.pb", "fp32"]
)
def test_every_format_computes_there_what_it_computes_here(artifacts: Path, digits: Path, name: str) -> None:
    path = artifacts / f"digits.{name}"
    if name == "fp32":
        path = next(folder for folder in artifacts.iterdir() if (folder / "saved_model.pb").exists())
    with edgeconv.load(path) as here, edgeconv.load(path, device="local", threads=2) as there:
        assert (here.inputs, here.outputs) == (there.inputs, there.outputs)
        with np.load(digits / "samples.npz") as samples:
            image = samples["image"][:1].astype(here.inputs[0].dtype)
        one, two = here({"image": image}), there({"image": image})
        assert list(one) == list(two)
        np.testing.assert_allclose(one["scores"], two["scores"], atol=1e-5)
        assert here.time({"image": image}, 3).shape == there.time({"image": image}, 3).shape == (3,)


@pytest.mark.slow
@pytest.mark.xdist_group("boards")
@pytest.mark.timeout(900)
class TestAnEmulatedBoard:
    def test_has_the_names_of_here_the_same_int8_values_and_says_what_it_is(
        self, artifacts: Path, digits: Path, arm64: Any, boards_folder: Path
    ) -> None:
        path = artifacts / "digits.int8.tflite"
        board = EmulatedDevice(arm64.board, boards_folder)
        with edgeconv.load(path) as here, DeviceSession(board, path, "tflite") as there:
            assert (there.inputs, there.outputs) == (here.inputs, here.outputs)
            assert (there.emulated, there.ran.emulated, there.ran.machine) == (True, True, "aarch64")
            with np.load(digits / "samples.npz") as samples:
                image = samples["image"][:1].astype(here.inputs[0].dtype)
            one, two = here({"image": image}), there({"image": image})
            np.testing.assert_array_equal(one["scores"], two["scores"])
            assert there.time({"image": image}, 2).shape == (2,)

    def test_without_the_usual_runtime_the_one_that_it_has_is_taken(
        self, artifacts: Path, armhf: Any, boards_folder: Path
    ) -> None:
        board = EmulatedDevice(armhf.board, boards_folder)
        with DeviceSession(board, artifacts / "digits.fp32.tflite", "tflite") as session:
            assert session.ran.runtime == "tflite-runtime"

    def test_a_board_that_was_not_made_says_how_to_make_it(self, artifacts: Path, tmp_path: Path) -> None:
        board = EmulatedDevice(find_board("rpi4-emulated"), tmp_path)
        with pytest.raises(UnavailableError) as caught:
            DeviceSession(board, artifacts / "digits.fp32.tflite", "tflite")
        assert "edgeconv devices create rpi4-emulated" in str(caught.value.hint)
