"""What a target's file may say, and that those that ship say it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edgeconv.checking.wheels import distributions, find_wheels, fits, newest_that_fits, offered
from edgeconv.targets.loading import all_targets, shipped_folder
from edgeconv.targets.schema import Target, json_schema, parse_size, show_size

ROOT = Path(__file__).parents[2]
FILES = sorted(shipped_folder().glob("*.yaml"))
WITH_WHEELS = [
    (target.name, name) for target in all_targets() for name, release in target.releases.items()
    if release.glibc and release.python and any(one.origin == "wheel" for one in release.runtimes)
]  # fmt: skip

ASKED_FOR = {
    "rpi3-32", "rpi3-64", "rpi4", "rpi4-32", "rpi5", "rpi-zero2", "jetson-nano-jp4", "jetson-xavier-nx-jp5",
    "jetson-orin-nano-jp5", "jetson-orin-nano-jp6", "android-arm64", "coral-edgetpu", "generic-x86-64",
    "generic-arm64", "microcontroller",
}  # fmt: skip


def target(name: str) -> Target:
    return next(one for one in all_targets() if one.name == name)


def test_the_published_schema_is_that_of_the_code() -> None:
    assert json.loads((ROOT / "docs" / "target.schema.json").read_text()) == json_schema()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_that_ships_follows_the_published_schema(path: Path) -> None:
    schema = json.loads((ROOT / "docs" / "target.schema.json").read_text())
    jsonschema.validate(yaml.safe_load(path.read_text()), schema)


def test_the_boards_that_were_asked_for_are_there() -> None:
    assert {path.stem for path in FILES} >= ASKED_FOR


@pytest.mark.parametrize(("name", "release_name"), WITH_WHEELS)
def test_the_wheels_of_a_release_are_the_newest_that_install_and_load_there(
    name: str, release_name: str
) -> None:
    one = target(name)
    release = one.releases[release_name]
    assert release.glibc is not None
    for runtime in release.runtimes:
        if runtime.origin != "wheel":
            continue
        python = runtime.python or release.python or ""
        assert runtime.version in offered(runtime.name, one.architecture, python), runtime.name
        for wheel in find_wheels(runtime.name, runtime.version, one.architecture):
            assert fits(wheel.lowest_glibc, release.glibc)
            assert fits(wheel.glibcxx, release.glibcxx)
            assert fits(wheel.cxxabi, release.cxxabi)
        assert runtime.version == newest_that_fits(
            runtime.name, one.architecture, python, glibc=release.glibc, glibcxx=release.glibcxx
        )


@pytest.mark.parametrize(("name", "release_name"), WITH_WHEELS)
def test_no_runtime_that_would_install_is_left_out(name: str, release_name: str) -> None:
    one = target(name)
    release = one.releases[release_name]
    for distribution in distributions():
        found = newest_that_fits(
            distribution, one.architecture, release.python or "",
            glibc=release.glibc or "", glibcxx=release.glibcxx,
        )  # fmt: skip
        named = [runtime.name for runtime in release.runtimes]
        assert found is None or distribution in named, f"{distribution} {found}"


def test_a_release_of_debian_or_ubuntu_has_one_libc_wherever_it_is_named() -> None:
    facts: dict[str, set[tuple[str | None, ...]]] = {}
    for one in all_targets():
        for release in one.releases.values():
            system = release.source.partition("'s packages")[0]
            facts.setdefault(system, set()).add((release.libc, release.glibcxx, release.cxxabi))
    assert all(len(found) == 1 for system, found in facts.items() if system.startswith(("Debian", "Ubuntu")))


def test_every_target_says_what_each_common_precision_is_worth() -> None:
    for one in all_targets():
        assert {"fp32", "fp16", "dynamic", "int8"} <= set(one.precisions), one.name
        assert any(fact.pays == "speed" for fact in one.precisions.values()), one.name


def test_a_format_may_have_a_fact_of_its_own_about_a_precision() -> None:
    one = target("rpi4")
    general, own = one.precision_fact("tflite", "fp16"), one.precision_fact("onnx", "fp16")
    assert general is not None
    assert own is not None
    assert (general.pays, own.pays) == ("size", "no")
    assert one.precision_fact("tflite", "mixed") is None


@given(st.integers(1, 1023), st.sampled_from(["KiB", "MiB", "GiB"]))
def test_a_size_is_shown_as_it_is_written(number: int, unit: str) -> None:
    text = f"{number} {unit}"
    # Three figures are shown.
    shown = show_size(parse_size(text))
    assert parse_size(shown) == pytest.approx(parse_size(text), rel=5e-3)


def test_what_is_less_than_a_kib_is_shown_in_bytes() -> None:
    assert [show_size(count) for count in (0, 28, 1023, 1024)] == [
        "0 bytes",
        "28 bytes",
        "1023 bytes",
        "1 KiB",
    ]


@pytest.mark.parametrize("wrong", ["512", "512 MB", "-1 MiB", "1e3 MiB", 512, None, ""])
def test_what_is_no_size_is_refused_with_the_way_to_write_one(wrong: object) -> None:
    with pytest.raises(ValueError, match="512 MiB"):
        parse_size(wrong)
