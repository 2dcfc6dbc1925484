"""Targets are found by name; what is wrong with a file is said with the nearest right thing."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeconv.errors import UsageError
from edgeconv.targets.loading import (
    add_target,
    find_place,
    own_folder,
    read_target,
    shipped_folder,
    target_files,
)

RPI4 = (shipped_folder() / "rpi4.yaml").read_text()


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own targets"
    monkeypatch.setenv("EDGECONV_TARGETS_DIR", str(folder))
    return folder


def written(tmp_path: Path, text: str, name: str = "rpi4") -> Path:
    path = tmp_path / f"{name}.yaml"
    path.write_text(text)
    return path


def refused(tmp_path: Path, old: str, new: str) -> UsageError:
    assert old in RPI4
    with pytest.raises(UsageError) as caught:
        read_target(written(tmp_path, RPI4.replace(old, new, 1)))
    return caught.value


def test_a_name_alone_is_the_default_release() -> None:
    place = find_place("rpi4")
    assert (place.name, place.release_name, place.release.python) == ("rpi4", "bookworm", "3.11")
    assert find_place("rpi4@bookworm").name == "rpi4"


def test_another_release_is_chosen_behind_an_at() -> None:
    place = find_place("rpi4@bullseye")
    assert (place.name, place.release.glibc, place.release.python) == ("rpi4@bullseye", "2.31", "3.9")


@pytest.mark.parametrize(("wrong", "near"), [("rpi44", "rpi4"), ("jetson-nano", "jetson-nano-jp4"),
                                             ("microcontroler", "microcontroller")])  # fmt: skip
def test_a_name_that_is_none_gets_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"no target '{wrong}'") as caught:
        find_place(wrong)
    assert f"'{near}'" in str(caught.value.hint)


def test_a_release_that_is_none_gets_the_nearest_and_all() -> None:
    with pytest.raises(UsageError, match="no release 'bulseye'") as caught:
        find_place("rpi4@bulseye")
    assert "did you mean 'bullseye'" in str(caught.value.hint)
    assert "rpi4@trixie" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("old", "new", "key", "near"),
    [
        ("memory:", "memroy:", "memroy", "memory"),
        ("  for_model:", "  for_modle:", "for_modle", "for_model"),
        ("    glibcxx:", "    glibcx:", "glibcx", "glibcxx"),
        ("        evidence:", "        evidense:", "evidense", "evidence"),
        ("    pays:", "    pay:", "pay", "pays"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(
    tmp_path: Path, old: str, new: str, key: str, near: str
) -> None:
    error = refused(tmp_path, old, new)
    assert error.what == f"unknown key '{key}'"
    assert error.hint == f"did you mean '{near}'?"
    assert str(error.where).endswith(key)


def test_a_key_like_no_other_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    error = refused(tmp_path, "schema: 1", "schema: 1\nxyzzy: 1")
    assert "architecture" in str(error.hint)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("total: 1 GiB", "total: 1 GB", "no size"),
        ("default_release: bookworm", "default_release: buster", "'buster' is none of"),
        ("evidence: run", "evidence: hearsay", "'run', 'fits' or 'documented'"),
        ("formats: [tflite]", "formats: []", "at least 1 item"),
        ("libc: glibc 2.36", "libc: newlib", "pattern"),
        ("cores: 4", "cores: 0", "greater than or equal to 1"),
        ("  int8:", "  int7:", "pattern"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    error = refused(tmp_path, old, new)
    assert said in error.what
    assert "rpi4.yaml, " in str(error.where)


def test_a_file_from_the_future_is_refused(tmp_path: Path) -> None:
    assert "newer than the 1 known here" in refused(tmp_path, "schema: 1", "schema: 2").what


def test_the_name_in_a_file_is_the_name_of_the_file(tmp_path: Path) -> None:
    assert refused(tmp_path, "name: rpi4", "name: rpi6").hint == "name the file rpi6.yaml"


@pytest.mark.parametrize(
    "text", ["", "- a\n- b\n", "just words", "a: [1,", "a: b: c", "\x00", "!!python/object:os.system {}"]
)
def test_what_is_no_target_is_one_clear_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"this is no target|this target is no YAML"):
        read_target(written(tmp_path, text))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_one_clear_error_or_a_target(tmp_path: Path, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(RPI4) - 1))
    put = data.draw(st.text(max_size=4))
    path = tmp_path / "x" / f"{len(list(tmp_path.rglob('*')))}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(RPI4[:place] + put + RPI4[place + 3 :], "utf-8")
    # Anything but a UsageError fails the test.
    with contextlib.suppress(UsageError):
        assert read_target(path, named=False).releases


def test_a_file_that_is_far_too_big_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="of 1,100,000 bytes"):
        read_target(written(tmp_path, "#" * 1_100_000))


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read_target(tmp_path / "none.yaml")


def test_a_target_of_ones_own_is_found_and_comes_before_one_that_ships(own: Path, tmp_path: Path) -> None:
    assert own_folder() == own
    file = written(tmp_path, RPI4.replace("about: Raspberry", "about: My Raspberry", 1), "as-it-came")
    _, path = add_target(file)
    assert path == own / "rpi4.yaml"
    assert target_files()["rpi4"] == path
    assert find_place("rpi4").target.about.startswith("My Raspberry")


def test_a_target_of_ones_own_is_not_overwritten_unless_told_to(own: Path, tmp_path: Path) -> None:
    file = written(tmp_path, RPI4)
    add_target(file)
    with pytest.raises(UsageError, match="already"):
        add_target(file)
    file.write_text(RPI4.replace("about: Raspberry", "about: New Raspberry", 1))
    add_target(file, replace=True)
    assert find_place("rpi4").target.about.startswith("New Raspberry")


def test_a_wrong_file_is_not_added(own: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        add_target(written(tmp_path, RPI4.replace("memory:", "memroy:")))
    assert not own.exists()


def test_one_broken_file_of_ones_own_does_not_hide_the_others(own: Path) -> None:
    own.mkdir()
    shutil.copy(shipped_folder() / "rpi5.yaml", own / "rpi5.yaml")
    (own / "broken.yaml").write_text("name: broken")
    assert find_place("rpi5").name == "rpi5"
    with pytest.raises(UsageError, match="wrong"):
        find_place("broken")
