"""Wheels for another architecture: one distribution a folder, and every refusal said in words."""

from __future__ import annotations

import importlib.util
import os
import zipfile

import pytest

from edgeconv.devices._userland_wheels import download, unpack
from edgeconv.errors import UnavailableError

PLATFORMS = ("manylinux_2_36_aarch64", "manylinux_2_17_aarch64")


def wheel(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder in place of the package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    for version, platform in {"1.0": "manylinux_2_17_aarch64", "2.0": "manylinux_2_36_aarch64"}.items():
        info = f"tiny_thing-{version}.dist-info"
        tag = f"cp311-cp311-{platform}"
        wheel(
            folder / f"tiny_thing-{version}-{tag}.whl",
            {
                "tiny_thing.py": f"VERSION = '{version}'\n",
                f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny-thing\nVersion: {version}\n",
                f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: {tag}\n",
                f"{info}/RECORD": "",
            },
        )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def test_two_versions_of_one_distribution_come_at_once(index, tmp_path):
    (tmp_path / "to").mkdir()
    pins = [("tiny-thing", "1.0"), ("tiny-thing", "2.0")]
    found = download(pins, "3.11", PLATFORMS, tmp_path / "to")
    assert {pin: path.name.split("-")[1] for pin, path in found.items()} == {pin: pin[1] for pin in pins}


def test_a_wheel_that_the_board_would_not_take_is_not_there(index, tmp_path):
    (tmp_path / "to").mkdir()
    with pytest.raises(UnavailableError) as caught:
        download([("tiny-thing", "2.0")], "3.11", PLATFORMS[1:], tmp_path / "to")
    assert "there is no tiny-thing==2.0" in caught.value.what


def test_a_python_without_pip_is_told_how_to_get_it(index, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError) as caught:
        download([("tiny-thing", "1.0")], "3.11", PLATFORMS, tmp_path)
    assert "ensurepip" in caught.value.hint


def test_a_wheel_lands_as_an_installer_would_put_it(tmp_path):
    made = wheel(
        tmp_path / "a.whl",
        {
            "a/__init__.py": "",
            "a-1.data/purelib/b.py": "b",
            "a-1.data/platlib/c/d.so": "d",
            "a-1.data/scripts/tool": "no",
            "a-1.dist-info/METADATA": "Name: a\n",
        },
    )
    unpack(made, tmp_path / "to")
    files = {path.relative_to(tmp_path / "to").as_posix() for path in (tmp_path / "to").rglob("*")}
    assert {"a/__init__.py", "b.py", "c/d.so", "a-1.dist-info/METADATA"} <= files
    assert not any("tool" in each or ".data" in each for each in files)


@pytest.mark.parametrize("name", ["../out.py", "a-1.data/purelib/../../../out.py", "/out.py"])
def test_no_file_of_a_wheel_lands_outside_of_its_folder(tmp_path, name):
    made = wheel(tmp_path / "a.whl", {name: "x"})
    with pytest.raises(UnavailableError):
        unpack(made, tmp_path / "deep" / "to")
    assert not list(tmp_path.rglob("out.py"))


def test_a_damaged_wheel_is_named(tmp_path):
    (tmp_path / "a.whl").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(UnavailableError) as caught:
        unpack(tmp_path / "a.whl", tmp_path / "to")
    assert "a.whl is damaged" in caught.value.what
