"""``edgeconv regress`` and ``edgeconv drill`` on a board over a real SSH server, which is this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from calling import Ran
from devices.sshd import Board, serving

from edgeconv.latency.built_in import network

Call = Callable[..., Ran]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("latency")]


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    settings = tmp_path / "config" / "devices.yaml"
    settings.parent.mkdir()
    monkeypatch.setenv("EDGECONV_CONFIG_DIR", str(settings.parent))
    folder = tmp_path / "board"
    folder.mkdir()
    with serving(folder, pythons={"python3": sys.executable}) as running:
        settings.write_text(f"lab:\n  kind: ssh\n  host: 127.0.0.1\n  config: {folder / 'ssh_config'}\n")
        running.device()  # so that the connection that is kept open ends with the server
        yield running


@pytest.mark.parametrize("image", [3, 20])
def test_more_work_is_found_there_in_one_process(
    edgeconv: Call, board: Board, tmp_path: Path, image: int
) -> None:
    for layers in (60, 90):
        (tmp_path / f"{layers}.tflite").write_bytes(network(layers, image))
    ran = edgeconv("regress", "60.tflite", "90.tflite", "--device", "lab", "--seconds", "20", "--json")
    assert ran.code == 1, ran.all
    (pair,) = ran.json["pairs"]
    assert pair["way"] == "one process"
    low, high = pair["quantities"][0]["low"], pair["quantities"][0]["high"]
    assert 1.2 < low <= high < 1.8
    assert pair["latency"]["noise"]["typical"]["copies"] is True
    again = edgeconv("regress", "60.tflite", "60.tflite", "--device", "lab", "--threshold", "10%", "--json")
    assert again.code in (0, 3), again.all
    assert board.partial() == []


def test_a_drill_runs_there_without_busy_loops_here(edgeconv: Call, board: Board) -> None:
    given = ["--device", "lab", "--size", "40us", "--effects", "0,50", "--rounds", "1", "--seed", "1"]
    ran = edgeconv("drill", *given, "--minutes", "3", "--json")
    said = json.loads(ran.out)
    assert said["summary"]["found"]["50"]["hits"] == 1
    assert said["request"]["loops"] == [0]
    assert edgeconv("drill", *given, "--loops", "4").code == 2
