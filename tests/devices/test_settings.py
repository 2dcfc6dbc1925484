"""The user's file of devices: read, added to, cut from, and its mistakes told."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from edgeconv.devices import settings
from edgeconv.errors import UsageError


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGECONV_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path / "config" / "devices.yaml"


def test_without_a_file_there_are_none() -> None:
    assert settings.written_down() == {}


def test_what_is_added_is_there_and_what_stood_there_stays_word_for_word(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("# mine\npi4:  # in the cellar\n  kind: ssh\n  host: pi@10.0.0.4\n")
    settings.add("pi5", {"kind": "ssh", "host": "pi@10.0.0.5"})
    assert file.read_text().startswith("# mine\npi4:  # in the cellar\n  kind: ssh\n  host: pi@10.0.0.4\n")
    assert settings.written_down() == {
        "pi4": {"kind": "ssh", "host": "pi@10.0.0.4"},
        "pi5": {"kind": "ssh", "host": "pi@10.0.0.5"},
    }


def test_removing_one_leaves_the_others_and_their_comments(file: Path) -> None:
    file.parent.mkdir()
    file.write_text(
        "# all\npi4:\n  kind: ssh\n\n  host: a\n# the new one\npi4b:\n  kind: ssh\n  host: b  # here\n"
    )
    assert settings.remove("pi4")
    assert file.read_text() == "# all\n# the new one\npi4b:\n  kind: ssh\n  host: b  # here\n"
    assert not settings.remove("pi4")


def test_a_file_in_braces_is_edited_too(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("{pi4: {kind: ssh, host: a}}\n")
    settings.add("pi5", {"kind": "ssh", "host": "b"})
    settings.remove("pi4")
    assert settings.written_down() == {"pi5": {"kind": "ssh", "host": "b"}}


_NAMES = st.text(string.ascii_lowercase + string.digits + "._-", min_size=1, max_size=8).filter(
    lambda name: name[0] not in "._-"
)
_VALUES = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=20) | st.integers()


@hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
@given(st.dictionaries(_NAMES, st.dictionaries(_NAMES, _VALUES, max_size=3), max_size=5), st.data())
def test_adding_and_removing_says_what_is_meant_whatever_the_names(
    wanted: dict[str, dict[str, object]], data: st.DataObject
) -> None:
    settings.settings_file().unlink(missing_ok=True)
    for name, each in wanted.items():
        settings.add(name, each)
    assert settings.written_down() == wanted
    if wanted:
        gone = data.draw(st.sampled_from(sorted(wanted)))
        assert settings.remove(gone)
        assert settings.written_down() == {n: s for n, s in wanted.items() if n != gone}


@pytest.mark.parametrize("name", ["", "Pi 4", "../x", "a" * 64, "-x", "ä"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no name"):
        settings.add(name, {})


def test_a_name_that_is_taken_is_refused_with_the_way_out() -> None:
    settings.add("pi4", {"kind": "ssh", "host": "a"})
    with pytest.raises(UsageError, match="already") as caught:
        settings.add("pi4", {"kind": "ssh", "host": "b"})
    assert "edgeconv devices remove pi4" in str(caught.value.hint)


@pytest.mark.parametrize(
    "text", ["- a\n- b\n", "pi4: ssh\n", "just words\n", "Pi 4: {kind: ssh}\n", "7: {}\n"]
)
def test_another_form_is_refused_with_the_form_it_should_have(file: Path, text: str) -> None:
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        settings.written_down()
    assert caught.value.where == str(file)
    assert caught.value.hint


def test_what_is_no_yaml_is_told_with_its_line(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("pi4:\n  kind: [ssh\npi5: }\n")
    with pytest.raises(UsageError, match="line 3"):
        settings.written_down()


def test_yaml_cannot_make_objects(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("pi4: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(UsageError, match="no YAML"):
        settings.written_down()


def test_what_was_added_by_another_tool_is_read(file: Path) -> None:
    file.parent.mkdir()
    file.write_text(yaml.safe_dump({"pi4": {"kind": "ssh", "host": "a", "runtimes": {"litert": "~/v"}}}))
    assert settings.written_down()["pi4"]["runtimes"] == {"litert": "~/v"}
