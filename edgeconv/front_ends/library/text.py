"""Strings: splitting, joining, parsing, replacing; and tables of words."""

from __future__ import annotations

import base64
import csv
import re
import zlib
from typing import Any

import numpy as np


def text_array(values: Any, shape: Any) -> Any:
    """An object array of ``bytes``."""
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


def each(function: Any, strings: Any, dtype: Any = object) -> Any:
    """A function of one ``bytes`` applied to each string."""
    words = np.asarray(strings, dtype=object)
    result = np.empty(words.shape, dtype)
    for place, word in np.ndenumerate(words):
        result[place] = function(word.encode() if isinstance(word, str) else bytes(word))
    return result


def decode_base64(strings: Any) -> Any:
    """Web-safe base64 without or with padding, decoded."""
    return each(lambda word: base64.urlsafe_b64decode(word + b"=" * (-len(word) % 4)), strings)


def encode_base64(strings: Any, pad: bool = False) -> Any:
    """Strings as web-safe base64."""

    def encoded(word: bytes) -> bytes:
        made = base64.urlsafe_b64encode(word)
        return made if pad else made.rstrip(b"=")

    return each(encoded, strings)


def decode_raw(strings: Any, dtype: str, little_endian: bool = True) -> Any:
    """The bytes of each string, all of one length, as numbers along a new last axis."""
    words = np.asarray(strings, dtype=object)
    kind = np.dtype(dtype).newbyteorder("<" if little_endian else ">")
    rows = [np.frombuffer(bytes(word), kind) for word in words.reshape(-1)]
    return np.stack(rows).reshape(*words.shape, -1).astype(dtype) if rows else np.zeros((0, 0), dtype)


def decode_compressed(strings: Any, kind: str) -> Any:
    """Strings that were compressed by ``ZLIB`` or ``GZIP``, or not at all."""
    return each(lambda word: zlib.decompress(word, 47) if kind else word, strings)


def decode_csv(
    records: Any, defaults: list[Any], dtypes: list[str], delimiter: str, missing: bytes, columns: list[int]
) -> tuple[Any, ...]:
    """The columns of comma-separated records, each of its dtype; an empty field is the column's default."""
    lines = np.asarray(records, dtype=object)
    rows = [
        next(csv.reader([bytes(line).decode("latin-1")], delimiter=delimiter)) for line in lines.reshape(-1)
    ]
    result = []
    for number, dtype in enumerate(dtypes):
        at = columns[number] if columns else number
        column: list[Any] = []
        for row in rows:
            field = row[at].encode("latin-1")
            if field in (b"", missing):
                if np.size(defaults[number]) == 0:
                    raise ValueError(f"column {at} may not be empty")
                column.append(np.asarray(defaults[number]).reshape(-1)[0])
            else:
                column.append(field if dtype == "object" else float(field) if "f" in dtype else int(field))
        result.append(
            text_array(column, lines.shape)
            if dtype == "object"
            else np.array(column, dtype).reshape(lines.shape)
        )
    return tuple(result)


def string_to_number(strings: Any, dtype: str) -> Any:
    """Decimal texts as numbers."""
    return each(lambda word: float(word) if dtype.startswith("float") else int(word), strings, dtype)


def as_string(
    values: Any, precision: int = -1, scientific: bool = False, shortest: bool = False, width: int = -1,
    fill: str = "",
) -> Any:  # fmt: skip
    """Numbers as texts, as C's ``printf`` writes them."""
    numbers = np.asarray(values)
    if numbers.dtype == object:
        return numbers
    letter = "g" if shortest else "e" if scientific else "f"
    form = f"%{fill}{width if width > -1 else ''}"
    form += f"{f'.{precision}' if precision > -1 else ''}{letter}" if numbers.dtype.kind == "f" else "d"
    texts = [
        (b"true" if value else b"false") if numbers.dtype.kind == "b" else (form % value).encode()
        for value in numbers.reshape(-1).tolist()
    ]
    return text_array(texts, numbers.shape)


def string_split(strings: Any, delimiters: Any, skip_empty: bool = True) -> tuple[Any, Any, Any]:
    """Words of each string as a sparse tensor: indices, values, shape. Each byte of ``delimiters`` splits."""
    splits = bytes(np.asarray(delimiters, dtype=object).reshape(-1)[0])
    rows = []
    for word in np.asarray(strings, dtype=object).reshape(-1):
        text = bytes(word)
        if splits:
            parts = re.split(b"[" + re.escape(splits) + b"]", text)
        else:
            parts = [text[index : index + 1] for index in range(len(text))]
        rows.append([part for part in parts if part or not skip_empty])
    return sparse_words(rows)


def string_split_v2(strings: Any, separator: Any, maxsplit: int = -1) -> tuple[Any, Any, Any]:
    """Words of each string as a sparse tensor; an empty separator splits at white space."""
    mark = bytes(np.asarray(separator, dtype=object).reshape(-1)[0])
    words = np.asarray(strings, dtype=object).reshape(-1)
    return sparse_words([bytes(word).split(mark or None, maxsplit) for word in words])


def sparse_words(rows: Any) -> tuple[Any, Any, Any]:
    """Rows of words as indices [words, 2], values [words] and shape [2] of a sparse tensor."""
    indices = [(row, column) for row, words in enumerate(rows) for column in range(len(words))]
    values = [word for words in rows for word in words]
    shape = np.array([len(rows), max((len(words) for words in rows), default=0)], np.int64)
    return np.array(indices, np.int64).reshape(-1, 2), text_array(values, len(values)), shape


def string_join(strings: Any, separator: bytes) -> Any:
    """Strings of several arrays joined, element by element."""
    arrays = np.broadcast_arrays(*[np.asarray(array, dtype=object) for array in strings])
    result = np.empty(arrays[0].shape, object)
    for place in np.ndindex(result.shape):
        result[place] = separator.join(bytes(array[place]) for array in arrays)
    return result


def reduce_join(strings: Any, axes: Any, separator: bytes, keep_dims: bool = False) -> Any:
    """Strings joined along axes."""
    words = np.asarray(strings, dtype=object)
    for axis in [int(axis) % max(1, words.ndim) for axis in np.asarray(axes).reshape(-1)]:
        moved = np.moveaxis(words, axis, -1)
        joined = np.empty(moved.shape[:-1], object)
        for place in np.ndindex(joined.shape):
            joined[place] = separator.join(bytes(word) for word in moved[place])
        words = np.expand_dims(joined, axis)
    chosen = tuple(int(axis) % max(1, words.ndim) for axis in np.asarray(axes).reshape(-1))
    return words if keep_dims else np.squeeze(words, chosen)


def substrings(strings: Any, position: Any, length: Any, unit: str = "BYTE") -> Any:
    """A part of each string by position and length, in bytes or in characters of UTF-8."""
    words, starts, lengths = np.broadcast_arrays(np.asarray(strings, dtype=object), position, length)
    result = np.empty(words.shape, object)
    for place in np.ndindex(words.shape):
        start, size = int(starts[place]), int(lengths[place])
        if unit == "UTF8_CHAR":
            text = bytes(words[place]).decode("utf-8", "surrogateescape")
            start = start if start >= 0 else len(text) + start
            result[place] = text[start : start + size].encode("utf-8", "surrogateescape")
        else:
            data = bytes(words[place])
            start = start if start >= 0 else len(data) + start
            result[place] = data[start : start + size]
    return result


def regex_replace(strings: Any, pattern: Any, rewrite: Any, everywhere: bool = True) -> Any:
    """Matches of a regular expression replaced; ``\\1`` in the replacement is the first group."""
    mark = re.compile(bytes(np.asarray(pattern, dtype=object).reshape(-1)[0]))
    made = re.sub(rb"\\(\d)", rb"\\g<\1>", bytes(np.asarray(rewrite, dtype=object).reshape(-1)[0]))
    return each(lambda word: mark.sub(made, word, 0 if everywhere else 1), strings)


def regex_matches(strings: Any, pattern: Any) -> Any:
    """Whether a regular expression takes the whole of each string."""
    mark = re.compile(bytes(np.asarray(pattern, dtype=object).reshape(-1)[0]))
    return each(lambda word: mark.fullmatch(word) is not None, strings, bool)


def change_case(strings: Any, lower: bool, encoding: str = "") -> Any:
    """Strings in lower or upper case: of ASCII, or of all letters where the encoding is ``utf-8``."""
    if not encoding:
        return each(bytes.lower if lower else bytes.upper, strings)
    case = str.lower if lower else str.upper
    # TensorFlow hands such strings on as C does: up to the first zero byte.
    return each(lambda word: case(word.partition(b"\0")[0].decode("utf-8", "replace")).encode(), strings)


def string_lengths(strings: Any, unit: str = "BYTE") -> Any:
    """Length of each string in bytes, or in characters of UTF-8."""
    if unit == "UTF8_CHAR":
        return each(lambda word: sum(1 for byte in word if byte & 0xC0 != 0x80), strings, np.int32)
    return each(len, strings, np.int32)


def equal_texts(one: Any, two: Any) -> Any:
    """Whether strings are equal, element by element."""
    first, second = np.broadcast_arrays(np.asarray(one, dtype=object), np.asarray(two, dtype=object))
    result = np.empty(first.shape, bool)
    for place in np.ndindex(first.shape):
        result[place] = bytes(first[place]) == bytes(second[place])
    return result


def join_texts(one: Any, two: Any) -> Any:
    """Strings put behind each other, element by element."""
    return string_join([one, two], b"")


def look_up(table: Any, keys: Any, default: Any, dtype: Any) -> Any:
    """What a table says of each key; the default for one that it does not have."""
    words = np.asarray(keys)
    missing = np.asarray(default).reshape(-1)[0]
    found = np.empty(words.shape, dtype)
    for place, word in np.ndenumerate(words):
        found[place] = table.get(bytes(word) if words.dtype == object else word.item(), missing)
    return found


def read_table(keys: Any, values: Any) -> Any:
    """A table as a dictionary, of arrays of keys and values."""
    return dict(
        zip(np.asarray(keys).reshape(-1).tolist(), np.asarray(values).reshape(-1).tolist(), strict=True)
    )


def read_texts(data: Any, lengths: Any, shape: Any) -> Any:
    """Strings that are stored as their bytes in a row and their lengths."""
    whole, ends = np.asarray(data).tobytes(), np.cumsum(lengths)
    return text_array(
        [whole[e - n : e] for e, n in zip(ends.tolist(), list(lengths), strict=True)], tuple(shape)
    )


def as_text(value: Any) -> Any:
    """Strings as an object array of ``bytes``; an array of uint8 holds a string along its last axis."""
    array = np.asarray(value)
    if array.dtype == np.uint8 and array.ndim:
        rows = array.reshape(-1, array.shape[-1])
        return text_array([row.tobytes() for row in rows], array.shape[:-1])
    texts = np.asarray(value, dtype=object)
    return each(lambda word: word, texts)
