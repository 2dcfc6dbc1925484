"""Arrays under any names in one ``.npz``, without pickle.

The names inside a zip are file names: a tensor called ``scope/image:0`` or ``../x`` must not become a
path. Arrays are therefore numbered, and one JSON header says which is which.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.errors import UsageError

Array = np.ndarray[Any, Any]

HEADER = "edgeconv_header"
_STRING_KINDS = "OSUT"


def is_text(array: Array) -> bool:
    """Whether the array holds strings, in any of NumPy's ways to hold them."""
    return array.dtype.kind in _STRING_KINDS


def as_bytes(value: object) -> bytes:
    """One string element as bytes; text is UTF-8."""
    if isinstance(value, (bytes, bytearray, np.bytes_)):
        return bytes(value)
    return str(value).encode("utf-8", "surrogateescape")


def text_array(values: list[bytes], shape: tuple[int, ...]) -> Array:
    """Bytes as an object array of ``shape``: fixed-width arrays would drop trailing zero bytes."""
    array = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        array[index] = value
    return array.reshape(shape)


def dtype_named(name: str) -> np.dtype[Any]:
    """The NumPy dtype of that name, also ``bfloat16`` and the small floats that NumPy itself lacks.

    Raises:
        UsageError: nobody knows the name.
    """
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        kind = getattr(ml_dtypes, name, None)
        if kind is None:
            raise UsageError(
                f"unknown element type '{name}'", hint="use a NumPy name such as float32"
            ) from None
        named: np.dtype[Any] = np.dtype(kind)
        return named


def write_archive(path: Path, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write ``arrays`` and a JSON ``header`` to ``path``, complete or not at all.

    Args:
        path: file to create or replace; its folder exists.
        header: what ``json.dumps`` takes.
        arrays: any dtype, strings too; the keys are the caller's own short keys (``a0``), not names from
            a model.
    """
    stored: dict[str, Array] = {}
    kinds: dict[str, dict[str, Any]] = {}
    for key, array in arrays.items():
        kinds[key] = {"dtype": "string" if is_text(array) else array.dtype.name, "shape": list(array.shape)}
        if is_text(array):
            values = [as_bytes(value) for value in array.reshape(-1).tolist()]
            stored[f"{key}.lengths"] = np.array([len(value) for value in values], dtype=np.int64)
            stored[f"{key}.bytes"] = np.frombuffer(b"".join(values), dtype=np.uint8)
        elif array.dtype.kind == "V":
            # NumPy writes the types of ml_dtypes as anonymous bytes and cannot read them back.
            stored[f"{key}.raw"] = np.frombuffer(np.ascontiguousarray(array).tobytes(), dtype=np.uint8)
        else:
            stored[key] = np.asarray(array)
    text = json.dumps({"header": header, "arrays": kinds}).encode()
    stored[HEADER] = np.frombuffer(text, dtype=np.uint8)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, **stored)  # type: ignore[arg-type]
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_archive(path: Path) -> tuple[Any, dict[str, Array]]:
    """Inverse of :func:`write_archive`.

    Raises:
        UsageError: no such file, or not one that :func:`write_archive` wrote.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            document = json.loads(bytes(found[HEADER]).decode())
            arrays = {key: _restore(key, kind, found) for key, kind in document["arrays"].items()}
            return document["header"], arrays
    except FileNotFoundError:
        raise UsageError("no such file", where=str(path), hint="check the path") from None
    except (KeyError, ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(
            "not an archive of probes or observations, or a damaged one",
            where=str(path),
            why=f"{type(error).__name__}: {error}",
            hint="give samples of your own with --data FILE.npz",
        ) from error


def _restore(key: str, kind: Mapping[str, Any], found: Mapping[str, Array]) -> Array:
    shape = tuple(int(size) for size in kind["shape"])
    if kind["dtype"] == "string":
        lengths = found[f"{key}.lengths"].tolist()
        joined = found[f"{key}.bytes"].tobytes()
        values: list[bytes] = []
        start = 0
        for length in lengths:
            values.append(joined[start : start + length])
            start += length
        return text_array(values, shape)
    if f"{key}.raw" in found:
        raw = found[f"{key}.raw"].tobytes()
        return np.frombuffer(raw, dtype=dtype_named(kind["dtype"])).reshape(shape).copy()
    return np.asarray(found[key])
