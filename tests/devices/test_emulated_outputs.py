"""What artifacts compute on emulated boards: what they compute here.

The bounds are those of ``docs/boards.md``, which a command makes of more models; here the smallest of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from devices import boards

from edgeconv.devices._userland import Built
from edgeconv.devices.base import Device, RuntimeChoice
from edgeconv.devices.client import AgentClient
from edgeconv.devices.emulated import EmulatedDevice
from edgeconv.devices.local import LocalDevice

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("boards"), pytest.mark.timeout(900)]

PRECISIONS = ("tflite.fp32", "tflite.fp16", "tflite.dynamic", "tflite.int8", "onnx.fp32", "onnx.int8")
FP32 = 1e-5
"""Relative to the largest magnitude of an output."""
DYNAMIC = 2e-2
"""Activations are quantized on the way, by other kernels here than there, and so to a step on either side."""
Made = dict[str, Path]
Outputs = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def made(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Files of one small network by format and precision, for boards with old runtimes too."""
    folder = tmp_path_factory.mktemp("made")
    wanted = ",".join(each.replace(".", ":") for each in PRECISIONS)
    command = (
        f"convert digits.keras --to {wanted} --target rpi3-32,rpi4 --calibration samples.npz -o {folder}"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "edgeconv", *command.split()],
        cwd=digits,
        env={**os.environ, "EDGECONV_CACHE_DIR": str(tmp_path_factory.getbasetemp() / "cache")},
        capture_output=True,
        text=True,
    )
    found = {}
    for precision in PRECISIONS:
        suffix, _, name = precision.partition(".")
        paths = list(folder.glob(f"*.{name}.{suffix}"))
        assert len(paths) == 1, ran.stdout + ran.stderr
        found[precision] = paths[0]
    return found


@pytest.fixture(scope="module")
def samples(digits: Path) -> Any:
    """Some inputs, [N, …] float32."""
    with np.load(digits / "samples.npz") as data:
        return data[data.files[0]][:6]


@pytest.fixture(scope="module")
def x86(made: Made, samples: Any) -> Outputs:
    """What the artifacts compute here, with the runtimes of today."""
    return {
        **outputs(LocalDevice(), RuntimeChoice("litert"), made, samples),
        **outputs(LocalDevice(), RuntimeChoice("onnxruntime"), made, samples),
    }


@pytest.fixture(scope="module")
def there(arm64: Built, armhf: Built, boards_folder: Path, made: Made, samples: Any) -> dict[str, Outputs]:
    """What they compute on the boards, by board and runtime."""
    return {
        f"{built.board.userland.machine} {runtime.id}": outputs(
            EmulatedDevice(built.board, boards_folder),
            RuntimeChoice(runtime.name, runtime.version),
            made,
            samples,
        )
        for built in (arm64, armhf)
        for runtime in built.board.userland.runtimes
    }


def outputs(device: Device, choice: RuntimeChoice, made: Made, samples: Any) -> Outputs:
    """The outputs of each sample of all artifacts that the runtime is for."""
    suffix = "onnx" if choice.name == "onnxruntime" else "tflite"
    found = {}
    with AgentClient(device, choice) as client:
        for precision, path in made.items():
            if precision.startswith(suffix):
                model = client.open(choice.name, suffix, path)
                name = model.inputs[0]["name"]
                found[precision] = [client.infer(model, {name: row[None]}) for row in samples]
                client.close_model(model)
    return found


def apart(here: Outputs, other: Outputs, precision: str) -> float:
    """The largest difference of any output, relative to its largest magnitude."""
    worst = 0.0
    for mine, theirs in zip(here[precision], other[precision], strict=True):
        assert list(mine) == list(theirs)
        for name in mine:
            assert mine[name].shape == theirs[name].shape
            assert mine[name].dtype == theirs[name].dtype
            worst = max(worst, float(np.abs(mine[name] - theirs[name]).max() / np.abs(mine[name]).max()))
    return worst


def equal(here: Outputs, other: Outputs, precision: str) -> bool:
    """Whether every value is the same."""
    return apart(here, other, precision) == 0.0


def test_every_artifact_runs_with_every_runtime_of_both_boards(there: dict[str, Outputs]) -> None:
    assert set(there) == {
        "aarch64 litert==2.3.0",
        "aarch64 litert==1.4.0",
        "aarch64 tflite-runtime==2.14.0",
        "aarch64 onnxruntime==1.31.1",
        "aarch64 onnxruntime==1.16.3",
        "armv7l tflite-runtime==2.14.0",
    }
    for name, found in there.items():
        wanted = {
            each for each in PRECISIONS if each.startswith("onnx" if "onnxruntime" in name else "tflite")
        }
        assert set(found) == wanted, name
        for rows in found.values():
            assert all(np.isfinite(value).all() for row in rows for value in row.values())


def test_fp32_is_within_a_hundred_thousandth_of_x86(x86: Outputs, there: dict[str, Outputs]) -> None:
    for name, found in there.items():
        for precision in ("tflite.fp32", "tflite.fp16", "onnx.fp32"):
            if precision in found:
                assert apart(x86, found, precision) <= FP32, (name, precision)


def test_int8_is_exactly_that_of_x86_with_the_same_version(x86: Outputs, there: dict[str, Outputs]) -> None:
    # Also what shows that qemu emulates the processor that it was told to: under 'max' it is not.
    assert equal(x86, there["aarch64 litert==2.3.0"], "tflite.int8")
    # In ONNX the softmax behind the integers stays in float: one step off before it would be 1e-3 behind it.
    assert apart(x86, there["aarch64 onnxruntime==1.31.1"], "onnx.int8") <= 1e-6


def test_int8_of_older_versions_is_a_step_away_at_most(x86: Outputs, there: dict[str, Outputs]) -> None:
    # Kernels round otherwise from release to release; a step of the softmax's output is 1/256.
    for name, found in there.items():
        for precision in ("tflite.int8", "onnx.int8"):
            for mine, theirs in zip(x86[precision], found.get(precision, x86[precision]), strict=True):
                for key in mine:
                    assert np.abs(mine[key] - theirs[key]).max() <= 2.01 / 256, (name, precision)


def test_32_and_64_bit_compute_the_same_with_the_same_version(there: dict[str, Outputs]) -> None:
    old = "tflite-runtime==2.14.0"
    assert equal(there[f"aarch64 {old}"], there[f"armv7l {old}"], "tflite.int8")
    assert apart(there[f"aarch64 {old}"], there[f"armv7l {old}"], "tflite.fp32") <= FP32


def test_dynamic_range_is_within_what_quantizing_on_the_way_allows(
    x86: Outputs, there: dict[str, Outputs]
) -> None:
    for name, found in there.items():
        if "tflite.dynamic" in found:
            assert apart(x86, found, "tflite.dynamic") <= DYNAMIC, name


@pytest.mark.corpus
def test_real_models_compute_the_same(arm64: Built, boards_folder: Path, corpus: Path) -> None:
    path = corpus / "sm-mlperftiny" / "kws" / "kws_ref_model.tflite"
    rows = np.random.default_rng(0).integers(-128, 128, (8, 1, 49, 10, 1)).astype(np.int8)
    found = []
    for device in (LocalDevice(), EmulatedDevice(arm64.board, boards_folder)):
        with AgentClient(device, RuntimeChoice("litert", "2.3.0")) as client:
            model = client.open("litert", "tflite", path)
            name = model.inputs[0]["name"]
            found.append([next(iter(client.infer(model, {name: row}).values())) for row in rows])
    np.testing.assert_array_equal(found[0], found[1])
    assert len({row.tobytes() for row in found[0]}) > 1


def test_a_board_of_another_release_runs_what_fits_it(
    boards_folder: Path, made: Made, samples: Any, x86: Outputs
) -> None:
    built = boards.built("jetson-jp5-emulated", boards_folder)
    device = EmulatedDevice(built.board, boards_folder)
    for runtime in device.runtimes():
        found = outputs(device, runtime, made, samples)
        for precision in ("tflite.fp32", "onnx.fp32"):
            if precision in found:
                assert apart(x86, found, precision) <= FP32, runtime
