"""``edgeconv doctor``: what is here, what is missing, and the command that brings it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from calling import Ran
from cli.test_docs import commands_in, parsed

Call = Callable[..., Ran]


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGECONV_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path / "config" / "devices.yaml"


def findings(ran: Ran) -> dict[str, dict[str, str]]:
    assert ran.code == 0, ran.all
    return {row["name"]: row for row in ran.json["findings"]}


def test_every_missing_thing_comes_with_what_brings_it(edgeconv: Call) -> None:
    rows = findings(edgeconv("doctor", "--json"))
    assert rows["litert"]["state"] == "here"
    assert rows["dependencies"]["state"] == "here"
    assert rows["local"]["state"] == "here"
    assert rows["object-detection"]["state"] == "missing"
    for row in rows.values():
        assert (row["hint"] is None) == (row["state"] == "here"), row
    hints = "\n".join(row["hint"] for row in rows.values() if (row["hint"] or "").startswith("edgeconv "))
    commands = commands_in(hints)
    assert ["edgeconv", "devices", "create", "rpi4-emulated"] in commands
    for words in commands:
        parsed(words)


def test_it_is_read_on_one_screen(edgeconv: Call) -> None:
    ran = edgeconv("doctor")
    assert ran.code == 0
    assert "✓ litert: " in ran.out
    assert "→ edgeconv environments create object-detection" in ran.out
    assert "None" not in ran.out


def test_a_machine_without_programs_is_told_what_they_are_for(edgeconv: Call, tmp_path: Path) -> None:
    rows = findings(edgeconv("doctor", "--json", env={"PATH": str(tmp_path)}))
    assert rows["ssh"]["state"] == "missing"
    assert rows["ssh"]["hint"] == "sudo apt-get install openssh-client"
    assert rows["qemu for arm64"]["needed_for"] == "emulated 64-bit boards"


def test_a_program_that_is_there_is_named_with_its_path(edgeconv: Call) -> None:
    path = shutil.which("ssh")
    if path is None:
        pytest.skip("no ssh here")
    assert findings(edgeconv("doctor", "--json"))["ssh"]["found"] == path


def test_a_cache_that_cannot_be_written_is_wrong(edgeconv: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    rows = findings(
        edgeconv("doctor", "--json", env={"EDGECONV_CACHE_DIR": str(tmp_path / "file" / "cache")})
    )
    assert rows["cache"]["state"] == "wrong"
    assert "EDGECONV_CACHE_DIR" in rows["cache"]["hint"]


def test_devices_of_the_person_and_what_is_wrong_with_one(edgeconv: Call, settings: Path) -> None:
    settings.parent.mkdir()
    settings.write_text("pi4: {kind: ssh, host: pi@a}\npi5: {kind: ssh}\n")
    rows = findings(edgeconv("doctor", "--json"))
    assert rows["pi4"]["found"] == "pi@a over SSH"
    assert "a board over SSH" not in rows
    (wrong,) = [row for row in rows.values() if row["state"] == "wrong"]
    assert "'host' is missing" in wrong["found"]
    quiet = edgeconv("doctor", "-q")
    assert "'host' is missing" in quiet.out
    assert "litert" not in quiet.out
