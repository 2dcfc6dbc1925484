"""The package as it is installed: the wheel's content, the pins, what the files may not hold."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = {
    canonicalize_name(name): Version(version)
    for name, version in (line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_the_wheel_has_the_package_its_types_and_the_targets(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "edgeconv/py.typed" in names
    assert any(name.startswith("edgeconv/_targets/") for name in names)
    assert {name.split("/")[0] for name in names} == {"edgeconv", f"edgeconv-{PROJECT['version']}.dist-info"}


def test_every_dependency_is_pinned_within_its_own_bounds() -> None:
    extras = [text for group in PROJECT["optional-dependencies"].values() for text in group]
    for text in [*PROJECT["dependencies"], *extras]:
        requirement = Requirement(text)
        if requirement.name == "edgeconv":
            continue
        pin = PINS.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} has no pin"
        assert requirement.specifier.contains(pin), f"{requirement} does not take its pin {pin}"


def test_what_is_installed_is_what_is_pinned() -> None:
    from importlib.metadata import PackageNotFoundError, version

    for name in (
        "tensorflow",
        "tf2onnx",
        "onnx",
        "onnxruntime",
        "ai-edge-litert",
        "litert-quantizer",
        "numpy",
    ):
        try:
            assert Version(version(name)) == PINS[canonicalize_name(name)]
        except PackageNotFoundError:
            pytest.fail(f"{name} is not installed")


def test_the_package_depends_on_tensorflow_itself() -> None:
    names = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    assert "tensorflow" in names
    assert not names & {"tensorflow-cpu", "tensorflow-intel", "tflite-runtime"}


def test_no_file_names_a_registrys_host_or_a_machines_path() -> None:
    host = re.compile("|".join(["pypi" + r"\.org", "pythonhosted" + r"\.org", r"registry\.npm" + "js"]))
    path = re.compile(r"(?<![\w.])/(home|root|work|Users)/\w")
    for file in tracked():
        if file.suffix in {".png", ".svg", ".npz"}:
            continue
        text = file.read_text(errors="replace")
        assert not host.search(text), file
        found = path.search(text)
        allowed = file.name == "Dockerfile.arm64"  # paths inside the image
        assert not found or allowed, f"{file}: {found}"


def test_no_module_is_longer_than_it_may_be() -> None:
    for file in tracked():
        if file.suffix == ".py" and "tests" not in file.parts:
            assert len(file.read_text().splitlines()) <= 600, file
