"""Frames and arrays: what goes in comes out, and nothing that comes in does harm."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeconv.agent import wire

NUMBERS = (
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float16", "float32", "float64", "complex64", "complex128",
)  # fmt: skip
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def through(named: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    described, parts = wire.pack(named)
    stream = io.BytesIO()
    wire.write_frame(stream, {"arrays": described}, parts)
    stream.seek(0)
    frame = wire.read_frame(stream)
    assert frame is not None
    assert wire.read_frame(stream) is None
    return wire.unpack(frame[0]["arrays"], frame[1])


@given(st.data(), st.sampled_from(NUMBERS), SHAPES, st.sampled_from("<>="))
def test_numbers_of_every_dtype_shape_and_byte_order_arrive_bit_by_bit(data, name, shape, order) -> None:
    array = data.draw(arrays.arrays(np.dtype(name).newbyteorder(order), shape))
    [(label, found)] = through([("x", array)])
    assert (label, found.dtype, found.shape) == ("x", np.dtype(name), shape)
    assert found.tobytes() == array.astype(name).tobytes()
    assert found.flags.writeable


@given(SHAPES, st.data())
def test_strings_arrive_as_bytes_even_those_with_zeros_or_nothing(shape, data) -> None:
    count = int(np.prod(shape))
    items = data.draw(st.lists(st.binary(max_size=12), min_size=count, max_size=count))
    array = np.empty(count, object)
    array[:] = items
    [(_, found)] = through([("x", array.reshape(shape))])
    assert found.shape == shape
    assert found.ravel().tolist() == items


def test_text_goes_as_utf8() -> None:
    [(_, found)] = through([("x", np.array(["grün", ""]))])
    assert found.tolist() == ["grün".encode(), b""]


def test_parts_of_arrays_and_turned_ones_arrive_as_they_look() -> None:
    whole = np.arange(24, dtype=np.int16).reshape(4, 6)
    found = dict(through([("part", whole[::2, 1:5:3]), ("turned", whole.T), ("empty", whole[:0])]))
    assert (found["part"] == whole[::2, 1:5:3]).all()
    assert (found["turned"] == whole.T).all()
    assert found["empty"].shape == (0, 6)


@pytest.mark.parametrize("item", [None, {"a": 1}, [1.0], 3, "\ud800"])
def test_objects_that_are_no_text_are_refused_and_never_made_text(item: object) -> None:
    array = np.empty(1, object)
    array[0] = item
    with pytest.raises(wire.WireError, match="cannot be sent"):
        wire.pack([("x", array)])


def test_a_dtype_that_not_every_numpy_has_is_refused_by_name() -> None:
    with pytest.raises(wire.WireError, match="datetime64"):
        wire.pack([("x", np.array(["2020-01-01"], "datetime64[D]"))])


@settings(max_examples=400)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_frame_or_an_error_of_the_protocol(data: bytes) -> None:
    _read_all(data)


@settings(max_examples=400)
@given(st.binary(max_size=60), st.binary(max_size=20), st.integers(0, 90), st.integers(0, 30))
def test_a_frame_with_any_header_and_any_lengths_is_one_or_an_error(
    header: bytes, body: bytes, header_size: int, body_size: int
) -> None:
    _read_all(struct.pack(">4sIQ", wire.MAGIC, header_size, body_size) + header + body)


@settings(max_examples=400)
@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "name": JSON,
                "dtype": st.sampled_from([*NUMBERS, "string", "object", "V8"]) | JSON,
                "shape": st.lists(st.integers(-1, 1 << 31), max_size=40) | JSON,
                "bytes": st.integers(-1, 40) | JSON,
            },
        )
        | JSON,
        max_size=3,
    )
    | JSON,
    st.binary(max_size=40),
)
def test_arbitrary_descriptions_of_arrays_give_arrays_or_an_error_of_the_protocol(described, body) -> None:
    try:
        found = wire.unpack(described, bytearray(body))
    except wire.WireError:
        return
    assert sum(entry["bytes"] for entry in described) == len(body)
    assert all(isinstance(name, str) and isinstance(array, np.ndarray) for name, array in found)


@pytest.mark.parametrize(
    ("entry", "body"),
    [
        ({"name": "x", "dtype": "float32", "shape": [3], "bytes": 8}, b"\0" * 8),
        ({"name": "x", "dtype": "float32", "shape": [2], "bytes": 8}, b"\0" * 7),
        ({"name": "x", "dtype": "float32", "shape": [2], "bytes": 8}, b"\0" * 9),
        ({"name": "x", "dtype": "object", "shape": [1], "bytes": 8}, b"\0" * 8),
        ({"name": "x", "dtype": ["float32"], "shape": [2], "bytes": 8}, b"\0" * 8),
        ({"name": "x", "dtype": "string", "shape": [1], "bytes": 6}, b"\xff\0\0\0ab"),
        ({"name": "x", "dtype": "string", "shape": [1 << 29], "bytes": 4}, b"\0" * 4),
        ({"name": "x", "dtype": "string", "shape": [1], "bytes": 8}, b"\0" * 8),
        ({"name": "x", "dtype": "float32", "shape": [0, 1 << 30, 1 << 30, 1 << 30], "bytes": 0}, b""),
        ({"name": "x", "dtype": "float32", "shape": [True, 2], "bytes": 8}, b"\0" * 8),
    ],
)
def test_descriptions_that_do_not_fit_what_came_are_refused(entry: dict[str, Any], body: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.unpack([entry], bytearray(body))


def test_a_header_is_refused_before_memory_is_taken_for_it() -> None:
    class Endless:
        asked = 0

        def read(self, size: int) -> bytes:
            self.asked = max(self.asked, size)
            return struct.pack(">4sIQ", wire.MAGIC, wire.LARGEST_HEADER + 1, 0)[:size]

    stream = Endless()
    with pytest.raises(wire.WireError, match="a frame of"):
        wire.read_frame(stream)
    assert stream.asked < 100


@pytest.mark.parametrize("text", ["NaN", '{"x": Infinity}', "[]", "{", '{"x": 1}}', "[" * 100_000])
def test_a_header_that_is_no_json_object_is_refused(text: str) -> None:
    data = text.encode()
    with pytest.raises(wire.WireError):
        wire.read_frame(io.BytesIO(struct.pack(">4sIQ", wire.MAGIC, len(data), 0) + data))


def test_a_body_for_which_there_is_no_memory_is_read_to_its_end_and_thrown_away() -> None:
    class Poor(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if size is not None and size > wire.CHUNK // 2:
                raise MemoryError
            return super().read(size)

    header = {"id": 7}
    stream = Poor()
    wire.write_frame(stream, header, [bytes(wire.CHUNK)])
    wire.write_frame(stream, {"id": 8})
    stream.seek(0)
    with pytest.raises(wire.NoMemoryError) as caught:
        wire.read_frame(stream)
    assert caught.value.header == header
    assert wire.read_frame(stream) == ({"id": 8}, bytearray())


def test_what_is_larger_than_the_protocol_allows_is_not_sent() -> None:
    with pytest.raises(wire.WireError, match="larger than the protocol allows"):
        wire.frame({"x": "y" * wire.LARGEST_HEADER})
    with pytest.raises(wire.WireError, match="no JSON"):
        wire.frame({"x": float("inf")})


def _read_all(data: bytes) -> None:
    stream = io.BytesIO(data)
    try:
        while (frame := wire.read_frame(stream)) is not None:
            json.dumps(frame[0])
    except wire.WireError:
        pass
