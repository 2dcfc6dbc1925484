"""Serialized ``tf.train.Example`` records, read without protocol buffers."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np


def read_fields(data: bytes) -> list[tuple[int, Any]]:
    """Numbers and values of the fields of a serialized protocol buffer message."""
    fields: list[tuple[int, Any]] = []
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = varint()
        kind = tag & 7
        value: Any
        if kind == 0:
            value = varint()
        elif kind == 2:
            size = varint()
            value, at = data[at : at + size], at + size
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = data[at : at + size], at + size
        else:
            raise ValueError("this is no serialized message")
        if at > len(data):
            raise ValueError("the serialized message is cut short")
        fields.append((tag >> 3, value))
    return fields


def read_example(data: bytes) -> dict[bytes, list[Any]]:
    """The features of one serialized Example: a list of ``bytes``, floats or integers by name."""
    features: dict[bytes, list[Any]] = {}
    for number, body in read_fields(data):
        for _, entry in read_fields(body) if number == 1 else ():
            parts = dict(read_fields(entry))
            features[parts.get(1, b"")] = read_feature(parts.get(2, b""))
    return features


def read_feature(data: bytes) -> list[Any]:
    """The values of one serialized Feature."""
    values: list[Any] = []
    for kind, body in read_fields(data):
        for _, value in read_fields(body):
            if kind == 1:
                values.append(value)
            elif kind == 2:
                values.extend(struct.unpack(f"<{len(value) // 4}f", value))
            elif isinstance(value, int):
                values.append(value - (1 << 64) if value >> 63 else value)
            else:
                at = number = shift = 0
                while at < len(value):
                    number |= (value[at] & 0x7F) << shift
                    shift += 7
                    if value[at] < 0x80:
                        values.append(number - (1 << 64) if number >> 63 else number)
                        number = shift = 0
                    at += 1
    return values


def parse_examples(
    serialized: Any,
    sparse: list[tuple[bytes, str]],
    dense: list[tuple[bytes, str, list[int], Any]],
    ragged: list[tuple[bytes, str, str]] = [],  # noqa: B006 - never changed
) -> tuple[Any, ...]:
    """The features of serialized Examples, in the order of TensorFlow's op: indices, values and shapes of
    the sparse ones, the dense ones, values and row splits of the ragged ones.

    Args:
        serialized: strings [records], or one of rank 0.
        sparse: name and dtype of each.
        dense: name, dtype, shape of one record and default (empty where the feature must be there). A
            first dimension of -1 is as long as the longest record's, filled up with the default.
        ragged: name, dtype and dtype of the row splits of each.
    """
    records = np.asarray(serialized, dtype=object)
    examples = [read_example(bytes(record)) for record in records.reshape(-1)]
    one = records.ndim == 0
    indices, values, shapes = [], [], []
    for name, dtype in sparse:
        rows = [example.get(name, []) for example in examples]
        places = [(row, column) for row, found in enumerate(rows) for column in range(len(found))]
        longest = max((len(found) for found in rows), default=0)
        if one:
            indices.append(np.array([column for _, column in places], np.int64).reshape(-1, 1))
            shapes.append(np.array([longest], np.int64))
        else:
            indices.append(np.array(places, np.int64).reshape(-1, 2))
            shapes.append(np.array([len(rows), longest], np.int64))
        values.append(feature_values([value for found in rows for value in found], dtype))
    made = []
    for name, dtype, shape, default in dense:
        rows = [example.get(name, []) for example in examples]
        size = list(shape)
        if size and size[0] == -1:
            step = int(np.prod(size[1:], dtype=int))
            size[0] = max((len(found) // max(1, step) for found in rows), default=0)
        count = int(np.prod(size, dtype=int))
        flat = []
        for found in rows:
            known = list(found)
            if shape and shape[0] == -1:
                known += [np.asarray(default).reshape(-1)[0]] * (count - len(known))
            elif not known:
                if np.size(default) != count:
                    raise ValueError(f"a record lacks the feature {name!r}")
                known = list(np.asarray(default).reshape(-1))
            if len(known) != count:
                raise ValueError(f"the feature {name!r} has {len(known)} values, not {count}")
            flat.extend(known)
        made.append(feature_values(flat, dtype).reshape(size if one else [len(rows), *size]))
    parts, splits = [], []
    for name, dtype, split in ragged:
        rows = [example.get(name, []) for example in examples]
        parts.append(feature_values([value for found in rows for value in found], dtype))
        splits.append(
            np.cumsum([0, *(len(found) for found in rows)]).astype(split) if not one else np.zeros(0, split)
        )
    return (*indices, *values, *shapes, *made, *parts, *splits)


def feature_values(values: list[Any], dtype: str) -> Any:
    """A flat array of a feature's values; ``object`` for strings."""
    array = np.empty(len(values), dtype)
    array[:] = values
    return array
