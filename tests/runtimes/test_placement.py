"""Which accelerator ran what: a delegate or provider that leaves ops to the processor is found out."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from edgeconv.agent.backends.base import ACCELERATORS
from edgeconv.errors import UnavailableError, UsageError
from edgeconv.runtimes.base import Placement
from edgeconv.runtimes.litert import RUNTIME as LITERT
from edgeconv.runtimes.onnxruntime import RUNTIME as ONNXRUNTIME


def zeros(session):
    return {
        spec.name: np.zeros([1 if size is None else size for size in spec.shape or ()], spec.dtype)
        for spec in session.inputs
    }


@pytest.fixture(scope="module")
def tflite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution, which XNNPACK takes, and a search, which it does not."""
    import tensorflow as tf

    weights = tf.constant(np.ones((3, 3, 3, 4), np.float32))

    @tf.function(input_signature=[tf.TensorSpec([1, 8, 8, 3])])
    def net(x):
        found = tf.nn.relu(tf.nn.conv2d(x, weights, 1, "SAME"))
        return tf.argmax(tf.reshape(found, [1, -1]), axis=1)

    made = tf.lite.TFLiteConverter.from_concrete_functions([net.get_concrete_function()]).convert()
    path = tmp_path_factory.mktemp("placement") / "net.tflite"
    path.write_bytes(made)
    return path


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from onnx import TensorProto, helper

    nodes = [helper.make_node("MatMul", ["x", "x"], ["m"]), helper.make_node("Sin", ["m"], ["y"])]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "net", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path_factory.mktemp("placement") / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_the_default_delegate_leaves_what_it_does_not_take_and_that_is_said(tflite: Path) -> None:
    with LITERT.open(tflite, None) as session:
        found = session.placement(zeros(session))
    assert isinstance(found, Placement)
    assert found.asked == "xnnpack"
    assert found.fell_back
    assert found.ran["xnnpack"] >= 1
    assert found.ran["cpu"] >= 1
    assert 0 < found.share_of_ops < 1
    assert "ARG_MAX" in found.elsewhere
    assert found.share_of_time is None


@pytest.mark.parametrize("options", [{"accelerator": "cpu"}, {"xnnpack": False}])
def test_without_the_delegate_all_runs_on_the_processor(tflite: Path, options) -> None:
    with LITERT.open(tflite, None, options=options) as session:
        found = session.placement(zeros(session))
    assert found is not None
    assert found.asked == "cpu"
    assert set(found.ran) == {"cpu"}
    assert found.share_of_ops == 1
    assert not found.fell_back


def test_both_compute_the_same(tflite: Path) -> None:
    values = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
    answers = []
    for name in ("cpu", "xnnpack"):
        with LITERT.open(tflite, None, options={"accelerator": name}) as session:
            answers.append(next(iter(session({session.inputs[0].name: values}).values())))
    assert np.array_equal(*answers)


@pytest.mark.parametrize("asked", ["cuda", "tensorrt"])
def test_an_accelerator_that_litert_never_has_is_a_wrong_call(tflite: Path, asked: str) -> None:
    with pytest.raises(UsageError, match="no accelerator"):
        LITERT.open(tflite, None, options={"accelerator": asked})


@pytest.mark.parametrize("asked", ["edgetpu", "/nowhere/libdelegate.so"])
def test_a_delegate_that_cannot_be_loaded_is_named(tflite: Path, asked: str) -> None:
    with pytest.raises(UnavailableError) as refused:
        LITERT.open(tflite, None, options={"accelerator": asked})
    assert "cannot be loaded" in refused.value.what
    assert "xnnpack" in refused.value.hint


def test_onnx_runtime_on_the_processor_says_all_of_time_and_ops(onnx_file: Path) -> None:
    with ONNXRUNTIME.open(onnx_file, None) as session:
        found = session.placement(zeros(session))
    assert found == Placement("cpu", {"cpu": 2}, 1.0, 1.0)


def test_a_provider_that_takes_nothing_is_found_out(onnx_file: Path) -> None:
    """Every build for processors has this one, which only takes ops that call a service."""
    with ONNXRUNTIME.open(onnx_file, None, options={"accelerator": "AzureExecutionProvider"}) as session:
        assert session(zeros(session))["y"].shape == (4, 4)
        found = session.placement(zeros(session))
    assert found is not None
    assert found.fell_back
    assert found.ran == {"cpu": 2}
    assert found.share_of_ops == 0
    assert set(found.elsewhere) == {"MatMul", "Sin"}


@pytest.mark.parametrize("asked", ["xnnpack", "cuda", "tensorrt"])
def test_a_provider_that_is_not_in_this_build_is_an_error_not_a_fallback(onnx_file: Path, asked: str) -> None:
    import onnxruntime

    wanted = {"xnnpack": "Xnnpack", "cuda": "CUDA", "tensorrt": "Tensorrt"}[asked] + "ExecutionProvider"
    if wanted in onnxruntime.get_available_providers():
        pytest.skip("this build of ONNX Runtime has it")
    with pytest.raises(UnavailableError) as refused:
        ONNXRUNTIME.open(onnx_file, None, options={"accelerator": asked})
    assert wanted in refused.value.what


def test_the_words_are_those_of_the_agent() -> None:
    from edgeconv.agent.backends import onnxruntime as on_devices
    from edgeconv.runtimes import onnxruntime as here

    assert here._PROVIDERS == on_devices._PROVIDERS
    assert set(here._PROVIDERS) <= set(ACCELERATORS)


@pytest.mark.corpus
def test_real_models_run_on_the_delegate_for_the_most_part(corpus: Path, tmp_path: Path) -> None:
    found = sorted(corpus.rglob("*.tflite"), key=lambda path: path.stat().st_size)[-1]
    path = Path(shutil.copy(found, tmp_path))
    shares = {}
    for name in ("cpu", "xnnpack"):
        with LITERT.open(path, None, options={"accelerator": name}) as session:
            placed = session.placement(zeros(session))
            assert placed is not None
            assert placed.asked == name
            shares[name] = placed
    assert not shares["cpu"].fell_back
    assert shares["xnnpack"].ran.get("xnnpack", 0) > 0
    assert sum(shares["cpu"].ran.values()) == sum(shares["xnnpack"].ran.values())
