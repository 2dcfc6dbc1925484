"""Raw samples are packed without loss, and unpacked without trust."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeconv.errors import UsageError
from edgeconv.history.samples import decode, encode

ANY_SHAPE = arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=12)


@given(arrays.arrays(np.int64, ANY_SHAPE))
def test_any_whole_numbers_come_back_as_they_were(samples: np.ndarray) -> None:
    back = decode(encode(samples), samples.shape)
    assert back.dtype == np.int64
    assert np.array_equal(back, samples)


def test_the_ends_of_the_range_come_back() -> None:
    ends = np.array([np.iinfo(np.int64).min, np.iinfo(np.int64).max, -1, 0, 1], np.int64)
    assert np.array_equal(decode(encode(ends), (5,)), ends)


def test_a_transposed_array_comes_back() -> None:
    samples = np.arange(12, dtype=np.int64).reshape(3, 4).T
    assert np.array_equal(decode(encode(samples), samples.shape), samples)


def test_times_of_a_model_take_less_than_a_third_of_their_size() -> None:
    times = np.random.default_rng(1).gamma(2, 300, 20_000).astype(np.int64) + 40_000
    assert len(encode(times)) < times.nbytes / 3


def test_another_number_of_samples_is_refused() -> None:
    packed = encode(np.arange(10, dtype=np.int64))
    for shape in [(9,), (11,), (0,), (2, 6)]:
        with pytest.raises(UsageError):
            decode(packed, shape)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_samples_are_refused(data: bytes) -> None:
    with pytest.raises(UsageError):
        decode(data, (7, 11))


def test_a_bomb_is_not_unpacked() -> None:
    bomb = b"\x01" + zlib.compress(bytes(1 << 26))
    with pytest.raises(UsageError, match="damaged"):
        decode(bomb, (4,))
    with pytest.raises(UsageError, match="are kept"):
        decode(bomb, (1 << 40,))


def test_samples_of_a_later_way_of_packing_are_refused() -> None:
    with pytest.raises(UsageError, match="another way"):
        decode(b"\x02" + encode(np.arange(3, dtype=np.int64))[1:], (3,))
