"""Labels from a label map, or from one name a line."""

import pytest

from edgeconv.detection.label_map import read_labels
from edgeconv.errors import InvalidModelError


def test_numbers_decide_the_place_and_gaps_are_named(tmp_path):
    path = tmp_path / "labels.pbtxt"
    path.write_text(
        "item { id: 3 name: 'dog' }\nitem {\n name: '/m/01g317'\n id: 1\n display_name: 'person'\n}"
    )
    assert read_labels(path) == ("background", "person", "unnamed 2", "dog")


def test_a_label_map_may_name_class_0(tmp_path):
    path = tmp_path / "labels.pbtxt"
    path.write_text("item { id: 0 name: 'none of the above' } item { id: 1 name: 'cat' }")
    assert read_labels(path) == ("none of the above", "cat")


def test_one_name_a_line(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("mask\nno mask\n\n")
    assert read_labels(path) == ("mask", "no mask")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("item { id: 1 name: 'a' } item { id: 1 name: 'b' }", "gives the number 1 to 'a' and to 'b'"),
        ("item { name: 'a' }", "lacks its id or name"),
        ("item { id: 99999999 name: 'a' }", "lacks its id or name"),
        ("other { }", "has no items"),
        ("\n", "has no labels"),
    ],
)
def test_what_is_no_list_of_labels_is_refused(tmp_path, text, what):
    path = tmp_path / "labels.pbtxt"
    path.write_text(text)
    with pytest.raises(InvalidModelError, match=what):
        read_labels(path)


def test_a_missing_file_says_which_option_names_it(tmp_path):
    with pytest.raises(InvalidModelError) as missing:
        read_labels(tmp_path / "absent.pbtxt")
    assert "--label-map" in missing.value.hint
