"""``edgeconv targets``: the table, one of them, and the user's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeconv.targets.loading import shipped_folder


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    return {"EDGECONV_TARGETS_DIR": str(tmp_path / "own")}


def test_the_table_has_every_target_and_its_runtimes(
    edgeconv: Callable[..., Any], own: dict[str, str]
) -> None:
    ran = edgeconv("targets", env=own)
    assert ran.code == 0
    for file in shipped_folder().glob("*.yaml"):
        assert f"\n{file.stem} " in f"\n{ran.out}"
    (line,) = [line for line in ran.out.splitlines() if line.startswith("rpi4-32 ")]
    assert "armv7l" in line
    assert "tflite-runtime 2.14.0" in line
    assert edgeconv("targets", "list", env=own).out == ran.out


def test_the_table_as_json(edgeconv: Callable[..., Any], own: dict[str, str]) -> None:
    for words in (["targets", "--json"], ["targets", "list", "--json"]):
        rows = {row["name"]: row for row in edgeconv(*words, env=own).json["targets"]}
        assert rows["rpi4"]["releases"] == ["bookworm", "bullseye", "trixie"]
        assert rows["rpi4"]["for_model_bytes"] == 600 << 20
        assert rows["rpi4"]["own"] is False


def test_one_target_with_its_facts_and_with_v_their_sources(
    edgeconv: Callable[..., Any], own: dict[str, str]
) -> None:
    ran = edgeconv("targets", "show", "rpi4", env=own)
    for fact in ("Cortex-A72", "without dotprod", "glibc 2.36", "Python 3.11", "rpi4@bullseye", "numpy<2"):
        assert fact in ran.out
    assert "source:" not in ran.out
    sources = edgeconv("targets", "show", "rpi4", "-v", env=own).out.count("source:")
    assert sources > 12
    only = edgeconv("targets", "show", "rpi4@bullseye", env=own).out
    assert "rpi4@bullseye" in only
    assert "rpi4@trixie" not in only


def test_a_target_as_json_and_as_the_file_itself(edgeconv: Callable[..., Any], own: dict[str, str]) -> None:
    document = edgeconv("targets", "show", "rpi5", "--json", env=own).json
    assert (document["name"], document["schema"]) == ("rpi5", 1)
    assert "dotprod" in document["cpu"]["features"]
    text = edgeconv("targets", "show", "rpi5", "--yaml", env=own).out
    assert text == (shipped_folder() / "rpi5.yaml").read_text()


def test_a_name_that_is_none_gets_the_nearest(edgeconv: Callable[..., Any], own: dict[str, str]) -> None:
    ran = edgeconv("targets", "show", "rpi55", env=own)
    assert ran.code == 2
    assert "did you mean 'rpi5'?" in ran.err


def test_ones_own_is_made_from_one_that_ships(
    edgeconv: Callable[..., Any], own: dict[str, str], tmp_path: Path
) -> None:
    text = edgeconv("targets", "show", "rpi4", "--yaml", env=own).out
    file = tmp_path / "greenhouse-draft.yaml"
    file.write_text(text.replace("name: rpi4\n", "name: greenhouse\n"))
    added = edgeconv("targets", "add", file, "--json", env=own)
    assert added.json == {"name": "greenhouse", "path": str(tmp_path / "own" / "greenhouse.yaml")}
    rows = {row["name"]: row for row in edgeconv("targets", "--json", env=own).json["targets"]}
    assert rows["greenhouse"]["own"] is True
    again = edgeconv("targets", "add", file, env=own)
    assert again.code == 2
    assert "--replace" in again.err
    assert edgeconv("targets", "add", file, "--replace", env=own).code == 0


def test_a_misspelt_key_is_refused_with_the_nearest(
    edgeconv: Callable[..., Any], own: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "board.yaml"
    file.write_text((shipped_folder() / "rpi4.yaml").read_text().replace("memory:", "memroy:", 1))
    ran = edgeconv("targets", "add", file, env=own)
    assert ran.code == 2
    assert "unknown key 'memroy'" in ran.err
    assert "did you mean 'memory'?" in ran.err
    assert not (tmp_path / "own").exists()
