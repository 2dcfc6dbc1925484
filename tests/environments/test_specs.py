"""Which side environments there are, and what their pins say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeconv.environments.specs import canonical, find_spec, known_specs, parse_pins
from edgeconv.errors import UsageError


def test_every_environment_is_pinned_whole():
    specs = {spec.id: spec for spec in known_specs()}
    assert {"object-detection", "tflite-runtime==2.14.0", "onnxruntime==1.16.3"} <= set(specs)
    for spec in specs.values():
        assert spec.about
        assert spec.imports
        assert all(version[0].isdigit() for version in spec.pins.values())
        assert {canonical(name) for name in spec.source} <= {canonical(name) for name in spec.pins}


def test_the_old_runtimes_come_with_the_numpy_that_they_need():
    assert find_spec("tflite-runtime").pins["numpy"].startswith("1.")
    assert find_spec("onnxruntime==1.16.3").pins["numpy"].startswith("1.")


def test_the_version_goes_into_the_pins():
    spec = find_spec("onnxruntime==1.17.1")
    assert (spec.version, spec.pins["onnxruntime"], spec.folder) == ("1.17.1", "1.17.1", "onnxruntime-1.17.1")
    assert find_spec("onnxruntime").version == "1.16.3"
    assert spec.sha256 != find_spec("onnxruntime").sha256


def test_versions_get_the_companions_that_they_need():
    old, new = find_spec("onnxruntime==1.18.1"), find_spec("onnxruntime==1.31.1")
    assert (old.pins["numpy"], new.pins["numpy"]) == ("1.26.4", "2.2.6")
    assert "coloredlogs" in old.pins
    assert "coloredlogs" not in new.pins
    assert "3.10" in old.pythons
    assert "3.10" not in new.pythons


def test_tensorflow_1_is_made_with_a_python_of_its_time():
    spec = find_spec("tensorflow==1.15.5")
    assert spec.pythons == ("3.7",)
    assert spec.pins["protobuf"].startswith("3.")
    assert "tensorflow.contrib" in spec.imports


def test_a_condition_chooses_among_lines_of_one_distribution():
    text = "a==1 ; version < 1.19\na==2 ; version >= 1.19, < 2\nb=={version}"
    assert parse_pins(text, "1.9") == {"a": "1", "b": "1.9"}
    assert parse_pins(text, "1.19.2") == {"a": "2", "b": "1.19.2"}
    assert parse_pins(text, "2.0") == {"b": "2.0"}


@pytest.mark.parametrize(
    ("text", "version"),
    [("a==1 ; version < 1", None), ("a==1 ; version < x", "1"), ("a==1 ; python < 3", "1"), ("a==1 ;", "1")],
)
def test_a_condition_that_is_none_is_refused(text, version):
    with pytest.raises(ValueError, match="line 1"):
        parse_pins(text, version)


def test_two_lines_of_one_distribution_must_not_both_hold():
    with pytest.raises(ValueError, match="again"):
        parse_pins("a==1 ; version < 3\na==2 ; version > 1", "2")


def test_the_object_detection_api_runs_with_its_variables():
    spec = find_spec("object-detection")
    assert spec.variables["TF_USE_LEGACY_KERAS"] == "1"
    assert spec.version is None


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("object-detecton", "there is no environment", "did you mean 'object-detection'?"),
        ("nothing", "there is no environment", "there are: "),
        ("object-detection==2", "comes in one version only", "leave '==2' out"),
        ("onnxruntime==../../x", "is no version", "onnxruntime==1.16.3"),
        ("../pins/onnxruntime", "there is no environment", ""),
        ("onnxruntime=1.16.3", "there is no environment", "did you mean 'onnxruntime==1.16.3'?"),
        ("onnxruntime-1.16.3", "there is no environment", "did you mean 'onnxruntime==1.16.3'?"),
        ("tensorflow==2.15.0", "there are no pins for tensorflow 2.15.0", "tensorflow==1.15.5"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_ones(text, what, hint):
    with pytest.raises(UsageError) as refused:
        find_spec(text)
    assert what in refused.value.what
    assert hint in refused.value.hint


@pytest.mark.parametrize(
    "text", ["numpy>=1", "numpy", "-r other.txt", "a==1\nA==2", "a_b==1\na-b==1", "x=={version}", "--pre"]
)
def test_what_is_no_exact_pin_is_refused(text):
    with pytest.raises(ValueError, match="line"):
        parse_pins(text)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True),
        st.from_regex(r"[0-9]\.[0-9]{1,3}(\.post1)?", fullmatch=True),
        max_size=5,
    )
)
def test_pins_that_are_written_come_back(pins):
    text = "# a comment\n\n" + "".join(f"  {name}=={version}\n" for name, version in pins.items())
    assert parse_pins(text) == pins
