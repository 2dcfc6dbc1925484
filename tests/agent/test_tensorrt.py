"""TensorRT engines on a device with an NVIDIA GPU; elsewhere, that it says what is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent.talking import Talk

from edgeconv.agent.backends._cuda import Cuda
from edgeconv.agent.backends.tensorrt import _refusal
from edgeconv.agent.errors import AgentError

HERE = importlib.util.find_spec("tensorrt") is not None
OPEN = {"verb": "open", "backend": "tensorrt", "format": "tensorrt"}


def gpu() -> bool:
    try:
        Cuda().close()
    except AgentError:
        return False
    return True


needs_gpu = pytest.mark.skipif(
    not HERE or not gpu(), reason="TensorRT or an NVIDIA GPU is not on this machine"
)


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    with Talk(tmp_path / "store") as talk:
        yield talk


def built(folder: Path) -> Path:
    """An engine of ``y = x + x`` for one to eight rows."""
    import tensorrt as trt

    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    flags = (
        0
        if int(trt.__version__.split(".")[0]) >= 10
        else 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    )
    network = builder.create_network(flags)
    x = network.add_input("x", trt.float32, (-1, 3))
    y = network.add_elementwise(x, x, trt.ElementWiseOperation.SUM).get_output(0)
    y.name = "y"
    network.mark_output(y)
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("x", (1, 3), (2, 3), (8, 3))
    config.add_optimization_profile(profile)
    path = folder / "model.engine"
    path.write_bytes(bytes(builder.build_serialized_network(network, config)))
    return path


@needs_gpu
def test_an_engine_runs_with_every_shape_that_it_was_built_for(talk: Talk, tmp_path: Path) -> None:
    said = talk.open(built(tmp_path), "tensorrt", "tensorrt")
    assert said["inputs"] == [{"name": "x", "dtype": "float32", "shape": [None, 3]}]
    assert said["placement"]["share_of_ops"] == 1.0
    for rows in (1, 8, 2):
        x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
        answer = talk.ask({"verb": "infer", "model": said["model"]}, [("x", x)])
        assert (answer["arrays"]["y"] == 2 * x).all()
    error = talk.error({"verb": "infer", "model": said["model"]}, [("x", np.zeros((9, 3), np.float32))])
    assert "was not built for input 'x' of the shape [9, 3]" in error["what"]
    asked = {"verb": "measure", "models": [said["model"]], "inputs": [[{"x": 0}]], "rounds": 3}
    assert (talk.ask(asked, [("x", x)])["arrays"]["ns"] > 0).all()


@needs_gpu
def test_an_engine_that_is_none_is_refused_with_the_command_that_builds_one(
    talk: Talk, tmp_path: Path
) -> None:
    path = tmp_path / "model.engine"
    path.write_bytes(bytes(1000))
    error = talk.error({**OPEN, "path": str(path)})
    assert error["kind"] == "refused"
    assert "trtexec --onnx=model.onnx --saveEngine=model.engine" in error["hint"]


@pytest.mark.skipif(HERE, reason="TensorRT is on this machine")
def test_where_it_is_not_installed_that_is_said(talk: Talk) -> None:
    error: Any = talk.error({**OPEN, "path": __file__})
    assert (error["kind"], error["what"]) == ("unavailable", "tensorrt is not installed for this Python")


@pytest.mark.skipif(gpu(), reason="an NVIDIA GPU is on this machine")
def test_where_there_is_no_driver_or_gpu_that_is_said() -> None:
    with pytest.raises(AgentError, match=r"no driver of an NVIDIA GPU|CUDA: cu\w+ failed") as caught:
        Cuda()
    assert caught.value.kind == "unavailable"


SAID = {
    # As TensorRT 8.5, 10 and 8.6 say it.
    "6: The engine plan file is not compatible with this version of TensorRT, expecting library version "
    "8.6.1.6 got 8.5.2.2, please rebuild.": "built by another TensorRT",
    "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion stdVersionRead == "
    "kSERIALIZATION_VERSION failed.Version tag does not match.)": "built by another TensorRT",
    "6: The engine plan file is generated on an incompatible device, expecting compute 7.2 got compute 8.7, "
    "please rebuild.": "built for another GPU",
}


@pytest.mark.parametrize("said", SAID)
def test_an_engine_of_elsewhere_is_named_as_one(said: str) -> None:
    error = _refusal([said], "TensorRT refuses the engine", "/board/digits.int8.engine")
    assert error.kind == "refused"
    assert SAID[said] in error.what
    assert "trtexec --onnx=digits.int8.onnx --saveEngine=digits.int8.engine" in str(error.hint)
