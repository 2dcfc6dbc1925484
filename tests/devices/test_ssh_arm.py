"""The whole way over SSH to an ARM board: a server and Python are on it, a model is sent and run there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from devices import ssh_board as over_ssh

import edgeconv
from edgeconv.devices._ssh_settings import SshSettings
from edgeconv.devices._userland import Built
from edgeconv.devices.client import AgentClient
from edgeconv.devices.probing import likely_target, probe
from edgeconv.devices.shipping import agent_file
from edgeconv.devices.ssh import SshDevice
from edgeconv.errors import DeviceError

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("boards")]


@pytest.fixture
def board(ssh_tree: Built, tmp_path: Path) -> Iterator[over_ssh.SshBoard]:
    """One that a test may leave in any state."""
    with over_ssh.running(ssh_tree, tmp_path) as running:
        yield running


def device(board: over_ssh.SshBoard) -> SshDevice:
    return SshDevice("board", SshSettings(host="board", config=str(board.config)))


def left_behind(board: over_ssh.SshBoard) -> list[str]:
    """Processes of the login's Python, and files in the store that are not whole."""
    running = board.run("ps -eo args").stdout.splitlines()
    store = board.home / ".cache" / "edgeconv-agent"
    partial = [path for path in store.rglob("*") if path.is_file() and len(path.stem) != 64]
    return [line for line in running if "python3 -B" in line] + [str(path) for path in partial]


def test_it_says_what_it_is(board: over_ssh.SshBoard) -> None:
    lab = device(board)
    probed = probe(lab)
    assert probed.said["machine"] == "aarch64"
    assert probed.said["processor"]["name"] == "Cortex-A72"
    assert probed.said["processor"]["features"] == ["crc32", "neon"]
    assert probed.said["libc"] == "glibc 2.36"
    assert probed.said["runtimes"]["litert"]
    assert probed.said["runtimes"]["onnxruntime"]
    assert likely_target({**probed.said, "model": "Raspberry Pi 4 Model B Rev 1.4"}) == "rpi4"
    lab.disconnect()
    assert left_behind(board) == []


@pytest.mark.parametrize("name", ["fp32.tflite", "int8.tflite", "fp32.onnx"])
def test_a_model_gives_there_what_it_gives_here(
    board: over_ssh.SshBoard, artifacts: Path, digits: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = board.home / "config"
    config.mkdir()
    (config / "devices.yaml").write_text(f"lab:\n  kind: ssh\n  host: board\n  config: {board.config}\n")
    monkeypatch.setenv("EDGECONV_CONFIG_DIR", str(config))
    path = artifacts / f"digits.{name}"
    with edgeconv.load(path) as here, edgeconv.load(path, device="lab") as there:
        with np.load(digits / "samples.npz") as samples:
            image = samples["image"][:1].astype(here.inputs[0].dtype)
        one, two = here({"image": image})["scores"], there({"image": image})["scores"]
    if name.startswith("int8"):
        np.testing.assert_array_equal(one, two)
    else:
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-7)
    device(board).disconnect()
    assert left_behind(board) == []


def test_a_model_is_sent_once(board: over_ssh.SshBoard, artifacts: Path) -> None:
    path = artifacts / "digits.fp32.tflite"
    sent = []
    for _ in range(2):
        with AgentClient(device(board)) as client:
            client.open("litert", "tflite", path)
            sent.append(client.bytes_sent)
    assert sent[0] > len(agent_file().data) + path.stat().st_size
    assert sent[1] < 1000
    device(board).disconnect()


def test_a_board_whose_plug_is_pulled(board: over_ssh.SshBoard) -> None:
    with AgentClient(device(board)) as client:
        assert client.ask("missing", {"files": []})[0] == {"missing": []}
        board.stop()
        with pytest.raises(DeviceError, match="the link was cut"):
            client.ask("missing", {"files": []})


def test_a_board_without_python(ssh_tree: Built, tmp_path: Path) -> None:
    with over_ssh.running(ssh_tree, tmp_path, python=False) as board:
        lab = device(board)
        with pytest.raises(DeviceError, match="no Python") as caught:
            AgentClient(lab)
        assert "install Python 3.8" in str(caught.value.hint)
        lab.disconnect()
