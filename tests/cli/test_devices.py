"""``edgeconv devices``: the list, boards written down and forgotten, asked and emptied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from calling import Ran
from devices.sshd import Board, serving

from edgeconv.devices.probing import likely_target
from edgeconv.devices.shipping import agent_file

Call = Callable[..., Ran]


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGECONV_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path / "config" / "devices.yaml"


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    folder = tmp_path / "board"
    folder.mkdir()
    with serving(folder) as running:
        yield running


def written(board: Board, settings: Path, name: str = "lab") -> None:
    """The board as a person would write it down whose ssh has its files elsewhere."""
    settings.parent.mkdir(exist_ok=True)
    device = f"  kind: ssh\n  host: 127.0.0.1\n  config: {board.folder / 'ssh_config'}\n"
    settings.write_text(f"# the lab\n{name}:\n{device}")
    board.device()  # so that the connection that is kept open ends with the server


def test_this_machine_is_always_there(edgeconv: Call) -> None:
    ran = edgeconv("devices", "list")
    assert ran.code == 0
    assert "local" in ran.out
    (local,) = [
        row for row in edgeconv("devices", "list", "--json").json["devices"] if row["kind"] == "local"
    ]
    assert local["name"] == "local"
    assert local["emulated"] is False


def test_a_board_is_added_shown_and_forgotten(edgeconv: Call, settings: Path) -> None:
    board = "pi4 ssh pi@10.0.0.4 --port 2222 --python ~/venv --target rpi4@bullseye"
    runtimes = "--runtime tflite-runtime=~/old --runtime onnxruntime==1.16.3=~/ort"
    added = edgeconv("devices", "add", *board.split(), *runtimes.split())
    assert added.code == 0, added.all
    assert "edgeconv devices probe pi4" in added.out
    shown = edgeconv("devices", "show", "pi4", "--json").json
    assert shown["settings"] == {
        "kind": "ssh", "host": "pi@10.0.0.4", "port": 2222, "python": "~/venv",
        "runtimes": {"tflite-runtime": "~/old", "onnxruntime==1.16.3": "~/ort"}, "target": "rpi4@bullseye",
    }  # fmt: skip
    assert shown["target"] == "rpi4@bullseye"
    assert shown["runtimes"] == ["tflite-runtime", "onnxruntime==1.16.3"]
    assert "pi4" in edgeconv("devices", "list").out
    removed = edgeconv("devices", "remove", "pi4")
    assert removed.code == 0
    assert "still there" in removed.out
    assert "pi4" not in settings.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("add Pi ssh a", "no name"),
        ("add pi4 ssh -- -oProxyCommand=x", "host"),
        ("add pi4 ssh a --target rpi44", "did you mean 'rpi4'"),
        ("add pi4 ssh a --runtime litert", "tflite-runtime=~/venv"),
        ("add local ssh a", "already by itself"),
        ("add pi4 telnet a", "telnet"),
        ("show locl", "did you mean 'local'"),
        ("remove local", "always there"),
        ("remove pi4", "there is no device"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(
    edgeconv: Call, settings: Path, words: str, said: str
) -> None:
    ran = edgeconv("devices", *words.split())
    assert ran.code == 2, ran.all
    assert said in ran.all
    assert not settings.exists()


def test_one_wrong_entry_does_not_hide_the_others(edgeconv: Call, settings: Path) -> None:
    settings.parent.mkdir()
    settings.write_text("pi4: {kind: ssh, host: a}\npi5: {kind: shh, host: b}\n")
    ran = edgeconv("devices", "list")
    assert ran.code == 4
    assert "pi4" in ran.out
    assert "did you mean 'ssh'" in ran.err
    assert edgeconv("devices", "remove", "pi5").code == 0
    assert edgeconv("devices", "list").code == 0


def test_a_board_is_asked_emptied_and_left_as_it_was(edgeconv: Call, board: Board, settings: Path) -> None:
    written(board, settings)
    said = edgeconv("devices", "probe", "lab", "--json").json
    assert said["name"] == "lab"
    assert said["disk"]["store"] == str(board.store)
    assert said["target"] is None
    assert (board.store / "agents" / f"{agent_file().sha256}.pyz").is_file()
    shown = edgeconv("devices", "probe", "lab")
    assert "processor: " in shown.out
    assert "None" not in shown.out
    cleaned = edgeconv("devices", "clean", "lab", "--json").json
    assert cleaned["freed"] >= len(agent_file().data)
    assert not board.store.exists()
    assert board.none_left()


def test_runtimes_with_a_python_of_their_own_are_asked_too(
    edgeconv: Call, board: Board, settings: Path
) -> None:
    import sys

    written(board, settings)
    with settings.open("a") as stream:
        stream.write(f"  runtimes: {{litert: {sys.executable}, tflite-runtime: ~/nowhere}}\n")
    others = {
        row["runtime"]: row for row in edgeconv("devices", "probe", "lab", "--json").json["other_runtimes"]
    }
    assert others["litert"]["version"]
    assert "no Python" in others["tflite-runtime"]["error"]["what"]


def test_the_target_that_a_board_looks_like_is_offered_and_kept(
    edgeconv: Call, board: Board, settings: Path
) -> None:
    written(board, settings)
    likely = edgeconv("devices", "probe", "lab", "--json").json["likely_target"]
    if likely is None:
        pytest.skip("this machine looks like no target")
    assert f"looks like {likely}; write it down" in edgeconv("devices", "probe", "lab").out
    assert edgeconv("devices", "probe", "lab", "--save-target", "--json").json["target"] == likely
    assert settings.read_text().startswith(f"# the lab\nlab:\n  target: {likely}\n  kind: ssh\n")
    assert edgeconv("devices", "probe", "lab", "--json").json["target"] == likely


def test_boards_that_do_not_answer_are_told_and_the_others_are_listed(
    edgeconv: Call, board: Board, settings: Path
) -> None:
    written(board, settings)
    with settings.open("a") as stream:
        stream.write("gone:\n  kind: ssh\n  host: board.invalid\n")
    ran = edgeconv("devices", "list", "--probe", "--json")
    assert ran.code == 4
    rows = {row["name"]: row for row in ran.json["devices"]}
    assert rows["lab"]["probe"]["python"]["version"].startswith("3.")
    assert rows["local"]["probe"]["runtimes"]["litert"]
    assert "no host" in rows["gone"]["error"]["what"]
    table = edgeconv("devices", "list", "--probe")
    assert table.code == 4
    assert "does not answer" in table.out
    assert "there is no host 'board.invalid'" in table.err


def said(model: str | None, libc: str, machine: str = "aarch64", bits: int = 64) -> dict[str, Any]:
    return {"model": model, "libc": libc, "machine": machine, "userland_bits": bits}


@pytest.mark.parametrize(
    ("board", "target"),
    [
        (said("Raspberry Pi 4 Model B Rev 1.4", "glibc 2.36"), "rpi4"),
        (said("Raspberry Pi 400 Rev 1.0", "glibc 2.31"), "rpi4@bullseye"),
        (said("Raspberry Pi 4 Model B Rev 1.4", "glibc 2.36", bits=32), "rpi4-32"),
        (said("Raspberry Pi 3 Model B Plus Rev 1.3", "glibc 2.36", "armv7l", 32), "rpi3-32"),
        (said("Raspberry Pi Zero 2 W Rev 1.0", "glibc 2.36"), "rpi-zero2"),
        (said("Raspberry Pi 5 Model B Rev 1.0", "glibc 2.36"), "rpi5"),
        (said("NVIDIA Jetson Nano Developer Kit", "glibc 2.27"), "jetson-nano-jp4"),
        (said("NVIDIA Jetson Orin Nano Developer Kit", "glibc 2.31"), "jetson-orin-nano-jp5"),
        (said("NVIDIA Jetson Orin Nano Developer Kit", "glibc 2.35"), "jetson-orin-nano-jp6"),
        (said("Raspberry Pi Model B Rev 2", "glibc 2.36", "armv6l", 32), None),
        (said(None, "musl", "x86_64"), None),
    ],
)
def test_boards_are_told_by_what_they_call_themselves(board: dict[str, Any], target: str | None) -> None:
    assert likely_target(board) == target


def test_a_board_that_nobody_described_is_a_generic_one() -> None:
    assert str(likely_target(said("Radxa ROCK 5B", "glibc 2.36"))).startswith("generic-arm64")
    assert str(likely_target(said(None, "glibc 2.38", "x86_64"))).startswith("generic-x86-64")


def test_an_emulated_board_that_there_is_not_names_the_nearest(edgeconv: Call) -> None:
    ran = edgeconv("devices", "create", "rpi44-emulated")
    assert ran.code == 2
    assert "did you mean 'rpi4-emulated'?" in ran.err


@pytest.mark.parametrize("verb", ["show", "probe", "clean", "remove"])
def test_a_board_that_is_not_made_yet_names_the_command_that_makes_it(
    edgeconv: Call, tmp_path: Path, verb: str
) -> None:
    env = {"EDGECONV_CACHE_DIR": str(tmp_path / "cache")}
    ran = edgeconv("devices", verb, "rpi4-emulated@trixie", env=env)
    assert ran.code == 4
    assert "edgeconv devices create rpi4-emulated@trixie" in ran.err


def test_boards_that_can_be_made_are_listed_and_a_misspelt_one_is_recognised(
    edgeconv: Call, tmp_path: Path
) -> None:
    env = {"EDGECONV_CACHE_DIR": str(tmp_path / "cache")}
    assert "rpi5-emulated" in edgeconv("devices", "list", env=env).out
    ran = edgeconv("devices", "probe", "rpi5-emulatde", env=env)
    assert ran.code == 2
    assert "did you mean 'rpi5-emulated'?" in ran.err


@pytest.mark.slow
@pytest.mark.xdist_group("boards")
def test_an_emulated_board_is_made_asked_emptied_and_removed(edgeconv: Call, tmp_path: Path) -> None:
    from devices import boards

    boards.built("rpi3-32-emulated", boards.folder())  # skips where none can be made
    env = {"EDGECONV_CACHE_DIR": str(tmp_path / "cache")}
    made = edgeconv("devices", "create", "rpi3-32-emulated", "--json", env=env)
    assert made.code == 0, made.all
    assert made.json["emulated"] is True
    assert made.json["target"] == "rpi3-32"
    assert made.json["runtimes"] == ["tflite-runtime==2.14.0"]
    said = edgeconv("devices", "probe", "rpi3-32-emulated", "--json", env=env).json
    assert said["userland_bits"] == 32
    assert said["processor"]["name"] == "Cortex-A53"
    assert said["runtimes"]["tflite-runtime"] == "2.14.0"
    assert edgeconv("devices", "clean", "rpi3-32-emulated", env=env).code == 0
    assert edgeconv("devices", "remove", "rpi3-32-emulated", env=env).out == "removed rpi3-32-emulated\n"
    assert edgeconv("devices", "probe", "rpi3-32-emulated", env=env).code == 4
