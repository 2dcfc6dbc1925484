"""``Dockerfile.arm64``: multi-stage, non-root, installs the package, and every pin has an ARM wheel."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ARM_TAGS = ["manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014"]


def instructions() -> list[tuple[str, str]]:
    """The instructions with their arguments, comments gone and continued lines joined."""
    lines = [
        line for line in (ROOT / "Dockerfile.arm64").read_text().splitlines() if not line.startswith("#")
    ]
    text = "\n".join(lines).replace("\\\n", " ")
    found = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    return [(word.upper(), rest) for word, rest in found]


def arguments(word: str) -> list[str]:
    return [rest for found, rest in instructions() if found == word]


def test_both_stages_are_of_one_arm64_base_with_a_python_the_package_supports() -> None:
    stages = arguments("FROM")
    assert len(stages) == 2
    images = [re.fullmatch(r"--platform=linux/arm64 (python:(\d+\.\d+)\S*)( AS build)?", s) for s in stages]
    assert all(images)
    assert len({image[1] for image in images if image}) == 1
    assert all(
        SpecifierSet(PROJECT["requires-python"]).contains(f"{image[2]}.0") for image in images if image
    )


def test_it_runs_as_a_user_without_rights() -> None:
    words = instructions()
    last_stage = words[max(i for i, (word, _) in enumerate(words) if word == "FROM") :]
    (user,) = (rest for word, rest in last_stage if word == "USER")
    assert user == "edgeconv"
    assert any("useradd" in rest and user in rest for word, rest in last_stage if word == "RUN")
    order = [word for word, _ in last_stage]
    assert order.index("USER") < order.index("ENTRYPOINT")


def test_everything_it_copies_is_there_and_nothing_is_fetched_from_elsewhere() -> None:
    assert arguments("ADD") == []
    for rest in arguments("COPY"):
        *sources, _ = shlex.split(rest)
        if sources[0].startswith("--from="):
            assert sources[0] == "--from=build"
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
    assert not re.search(r"https?://|curl|wget", (ROOT / "Dockerfile.arm64").read_text())


def test_it_starts_the_command_that_the_package_installs() -> None:
    (entry,) = arguments("ENTRYPOINT")
    assert json.loads(entry)[0] in PROJECT["scripts"]


def test_the_requirements_it_installs_are_those_of_the_project() -> None:
    said = subprocess.run(
        [sys.executable, "tools/dependencies"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert said.stdout.splitlines() == PROJECT["dependencies"]
    assert any("tools/dependencies" in rest for rest in arguments("RUN"))


@pytest.mark.slow
def test_every_pin_has_a_wheel_for_arm64(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("\n".join(PROJECT["dependencies"]))
    report = tmp_path / "report.json"
    platforms = [word for tag in ARM_TAGS for word in ("--platform", f"{tag}_aarch64")]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--only-binary=:all:"]
    command += ["--target", str(tmp_path / "nowhere"), "--python-version", "3.11", "--implementation", "cp"]
    command += [*platforms, "-c", str(ROOT / "constraints.txt"), "-r", str(requirements)]
    command += ["--report", str(report)]
    done = subprocess.run(command, capture_output=True, text=True)
    if "Connection" in done.stderr or "Temporary failure" in done.stderr:
        pytest.skip("no package registry can be reached from here")
    assert done.returncode == 0, done.stderr
    files = {
        entry["metadata"]["name"].lower(): entry["download_info"]["url"].rsplit("/", 1)[-1]
        for entry in json.loads(report.read_text())["install"]
    }
    for name in ("tensorflow", "onnxruntime", "ai-edge-litert", "onnx", "numpy", "h5py"):
        assert files[name].endswith("aarch64.whl"), files[name]
