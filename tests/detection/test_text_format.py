"""Protocol buffers in text form: what is read, what is refused, and what comes back for anything written."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeconv.detection.text_format import Message, Symbol, parse_text_proto
from edgeconv.errors import InvalidModelError


def fields(text):
    return parse_text_proto(text).fields


def test_scalars_of_all_kinds():
    read = fields("a: 1 b: -2.5 c: 0x10 d: 1e-8f e: true f: RELU_6 g: 'it''s' h: .5 i: inf j: -inf k: 017")
    assert read["a"] == [1]
    assert read["b"] == [-2.5]
    assert read["c"] == [16]
    assert read["d"] == [1e-8]
    assert read["e"] == [Symbol("true")]
    assert isinstance(read["f"][0], Symbol)
    assert read["g"] == ["its"]
    assert read["h"] == [0.5]
    assert parse_text_proto("i: inf").number("i") == float("inf")
    assert read["j"] == [float("-inf")]
    assert read["k"] == [15]


def test_messages_lists_and_separators():
    read = parse_text_proto(
        """
        model { ssd: < num_classes: 90, aspect: [1.0, 2, 0.5]; aspect: 3 > }  # a comment
        item { id: 1 } item { id: 2 }
        [some.extension]: 4
        [type.googleapis.com/some.Kind] { x: 1 }
        parts: [{ a: 1 }, { a: 2 }]
        empty: []
        """
    )
    ssd = read.at("model", "ssd")
    assert ssd.integer("num_classes") == 90
    assert ssd.numbers("aspect") == (1.0, 2.0, 0.5, 3.0)
    assert [item.integer("id") for item in read.messages("item")] == [1, 2]
    assert read.integer("[some.extension]") == 4
    assert read.message("[type.googleapis.com/some.Kind]").integer("x") == 1
    assert [part.integer("a") for part in read.messages("parts")] == [1, 2]
    assert read.fields["empty"] == []
    assert read.at("model", "absent", "deeper") is None


def test_a_later_value_replaces_an_earlier_one():
    read = parse_text_proto("a: 1 a: 2 m { x: 1 } m { x: 2 }")
    assert read.integer("a") == 2
    assert read.message("m").integer("x") == 2


def test_strings_with_escapes_are_put_together():
    assert fields(r'a: "tab\tquote\"" "and \303\251" ')["a"] == ['tab\tquote"and é']
    assert fields(r"a: '\x41\u00e9'")["a"] == ["Aé"]


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("a: 1\nb {\n c: 2\n", "'}' is missing before the end of the file", 4),
        ("a: 1\n}", "'}' closes nothing", 2),
        ("a", "a value is missing behind 'a'", 1),
        ("a: [1 2]", "',' or ']' is missing", 1),
        ("a { b: 1 >", "'}' is missing before '>'", 1),
        ("a: - b", "a value is expected", 1),
        ("\n\n: 3", "the name of a field is expected", 3),
        ('a: "open', "is not understood", 1),
        ("a: 3x", "is not understood", 1),
        ("x {" * 200, "nested more than", 1),
    ],
)
def test_what_is_not_of_the_language_is_refused_with_its_line(text, what, line):
    with pytest.raises(InvalidModelError) as refused:
        parse_text_proto(text, "pipeline.config")
    assert what in refused.value.what
    assert refused.value.where == f"pipeline.config, line {line}"


names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
scalars = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.sampled_from(["RELU_6", "true", "SIGMOID"]).map(Symbol),
)
messages = st.recursive(
    st.dictionaries(names, st.lists(scalars, min_size=1, max_size=3), max_size=4).map(Message),
    lambda inner: st.dictionaries(
        names, st.lists(st.one_of(scalars, inner), min_size=1, max_size=3), max_size=4
    ).map(Message),
    max_leaves=8,
)


def written(message):
    lines = []
    for name, values in message.fields.items():
        for value in values:
            if isinstance(value, Message):
                lines.append(f"{name} {{ {written(value)} }}")
            elif isinstance(value, Symbol):
                lines.append(f"{name}: {value}")
            elif isinstance(value, str):
                quoted = "".join(f"\\{byte:03o}" for byte in value.encode())
                lines.append(f'{name}: "{quoted}"')
            else:
                lines.append(f"{name}: {value!r}")
    return "\n".join(lines)


@given(messages)
def test_what_is_written_comes_back(message):
    assert parse_text_proto(written(message)) == message


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_and_nothing_else(text):
    with contextlib.suppress(InvalidModelError):
        assert isinstance(parse_text_proto(text), Message)


@given(st.text(alphabet="a1:{}<>[]-.\"'\\,; \n#", max_size=60))
def test_any_text_of_the_languages_own_marks_is_read_or_refused(text):
    with contextlib.suppress(InvalidModelError):
        assert isinstance(parse_text_proto(text), Message)
