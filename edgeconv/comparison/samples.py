"""Sample files: ``.npz`` and ``.npy`` of model inputs, checked against a contract.

How an array is read, for an input of shape ``S`` with ``r`` dimensions:

- ``r + 1`` dimensions: the first one counts samples, each of which has the shape ``S``;
- ``r`` dimensions, ``S[0]`` is 1 or not fixed: the first one counts samples, each of batch 1;
- ``r`` dimensions, ``S[0]`` is fixed and above 1: the array is one sample, and then so is the file (an
  array for another input whose first dimension is not fixed is taken whole);
- an input without dimensions, given without dimensions: the same value in all samples.

An array of ``uint8`` for an input of strings holds the bytes of one string along its last axis (a recorded
WAV or JPEG file, say): the rules above are for the axes before it.

Keys are logical input names, or tensor names of the artifact. ``|`` in a key stands for ``/``, a prefix
``in__`` is left off, keys that begin with ``out__`` (recorded outputs) are not looked at, and a model with
one input takes an only key of any name. Samples whose shapes differ from each other are stored under keys
``sample00000__NAME``, one for each sample and input.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeconv.errors import UsageError
from edgeconv.formats.base import Contract, TensorSpec

Sample = dict[str, np.ndarray]
"""One set of inputs: logical name to an array of the input's shape and dtype."""

_SINGLE = re.compile(r"sample(\d{5,})__(.*)", re.DOTALL)
_NPY_KEY = "array"
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def load_samples(path: Path, contract: Contract, *, limit: int | None = None) -> list[Sample]:
    """Read samples for the inputs of ``contract``; the module's text says how arrays are read.

    Args:
        path: ``.npz``, or ``.npy`` for a model with one input. Pickled data is refused.
        contract: says names, shapes and dtypes of the inputs.
        limit: at most so many samples, from the front.

    Returns:
        At least one sample; each maps every logical input name, in the contract's order, to a
        C-contiguous array that fits its spec. Strings are object arrays of ``bytes``.

    Raises:
        UsageError: not readable; an input is missing; rank, dimension or dtype does not fit (values are
            cast only where they are kept; float64 is rounded to float32); different numbers of samples.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"a limit of {limit} samples leaves none", hint="give a number of at least 1")
    arrays = _read(path)
    if arrays and all(_SINGLE.fullmatch(key) for key in arrays):
        samples = _load_singles(path, arrays, contract)
        return samples[:limit]
    return _split(path, _choose(path, arrays, contract.inputs), contract.inputs, limit)


def save_samples(path: Path, samples: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Write samples so that :func:`load_samples` gives them back. Equal samples give equal bytes.

    Args:
        path: the ``.npz`` to write; replaced if it is there.
        samples: at least one; all with the same names. Shapes may differ between samples.

    Raises:
        UsageError: no samples, different names, or strings that the file format cannot hold.
    """
    if not samples:
        raise UsageError("there are no samples to save", where=str(path))
    names = list(samples[0])
    for index, sample in enumerate(samples):
        if set(sample) != set(names):
            raise UsageError(
                f"sample {index} has the inputs {sorted(sample)}, sample 0 has {sorted(names)}",
                where=str(path),
            )
    plain = [{name: _storable(name, np.asarray(sample[name])) for name in names} for sample in samples]
    uniform = all(
        sample[name].shape == plain[0][name].shape and sample[name].dtype.kind == plain[0][name].dtype.kind
        for sample in plain
        for name in names
    )
    with zipfile.ZipFile(path, "w") as archive:
        if uniform:
            for name in names:
                _write(archive, _key(name), np.stack([sample[name] for sample in plain]))
        else:
            for index, sample in enumerate(plain):
                for name in names:
                    _write(archive, f"sample{index:05d}__{_key(name)}", sample[name])


def samples_sha256(path: Path) -> str:
    """SHA-256 over keys, dtypes, shapes and values: the same however the file was compressed or dated.

    Raises:
        UsageError: not readable.
    """
    digest = hashlib.sha256()
    for key, array in sorted(_read(path).items()):
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{key}\0{little.dtype.str}\0{little.shape}\0".encode())
        digest.update(np.ascontiguousarray(little).tobytes())
    return digest.hexdigest()


def _as_given(spec: TensorSpec, array: np.ndarray) -> np.ndarray:
    """``array``, for an input of strings with the bytes along its last axis joined to strings."""
    if spec.dtype != "string" or array.dtype != np.uint8 or array.ndim == 0:
        return array
    joined = np.empty(array.shape[:-1], dtype=object)
    for index in np.ndindex(joined.shape):
        joined[index] = array[index].tobytes()
    return joined


def _key(name: str) -> str:
    return name.replace("/", "|")


def _storable(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "U":
        return np.char.encode(array, "utf-8")
    if array.dtype.kind != "O":
        return array
    values = [v.encode() if isinstance(v, str) else bytes(v) for v in array.reshape(-1)]
    if any(value.endswith(b"\0") for value in values):
        # NumPy's fixed-width strings are padded with zero bytes and lose those at the end.
        if len({len(value) for value in values}) > 1:
            raise UsageError(
                "strings of different lengths that end with a zero byte cannot be stored in a sample file",
                where=f"input '{name}'",
            )
        return np.frombuffer(b"".join(values), dtype=np.uint8).reshape(*array.shape, -1)
    return np.array(values, dtype=np.bytes_).reshape(array.shape)


def _write(archive: zipfile.ZipFile, key: str, array: np.ndarray) -> None:
    # numpy.savez would take an input named "file" for its own argument and date the members.
    with archive.open(zipfile.ZipInfo(f"{key}.npy", _ZIP_EPOCH), "w", force_zip64=True) as stream:
        np.lib.format.write_array(stream, np.asarray(array, order="C"), allow_pickle=False)


def _read(path: Path) -> dict[str, np.ndarray]:
    """All arrays of the file by key, none of them pickled."""
    if not path.is_file():
        raise UsageError("no such sample file", where=str(path), hint="check the path")
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {_NPY_KEY: loaded}
        with loaded:
            return {key: value for key, value in loaded.items() if isinstance(value, np.ndarray)}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        pickled = "allow_pickle" in str(error)
        raise UsageError(
            "this is not a readable .npz or .npy file",
            where=str(path),
            why="it holds pickled objects, which are never opened" if pickled else str(error).split("\n")[0],
            hint="write it with numpy.savez(path, INPUT=array), the arrays being numbers",
        ) from error


def _load_singles(path: Path, arrays: Mapping[str, np.ndarray], contract: Contract) -> list[Sample]:
    grouped: dict[int, dict[str, np.ndarray]] = {}
    for key, array in arrays.items():
        match = _SINGLE.fullmatch(key)
        assert match is not None
        grouped.setdefault(int(match[1]), {})[match[2]] = array
    samples: list[Sample] = []
    for _, group in sorted(grouped.items()):
        chosen = _choose(path, group, contract.inputs)
        sample: Sample = {}
        for spec in contract.inputs:
            array = chosen[spec.name]
            if not _fits(array.shape, spec.shape):
                raise _mismatch(path, spec, array)
            sample[spec.name] = _cast(path, spec, array)
        samples.append(sample)
    return samples


def _choose(
    path: Path, arrays: Mapping[str, np.ndarray], inputs: Sequence[TensorSpec]
) -> dict[str, np.ndarray]:
    """The array of each input, by key."""
    keys = {key: key for key in arrays}
    for key in arrays:
        plain = key.replace("|", "/")
        keys.setdefault(plain, key)
        keys.setdefault(plain.removeprefix("in__"), key)
    found: dict[str, np.ndarray] = {}
    for spec in inputs:
        for name in _names(spec):
            if name in keys:
                found[spec.name] = _as_given(spec, arrays[keys[name]])
                break
    if len(found) == len(inputs):
        return found  # in the order of inputs
    given = [key for key in arrays if not key.startswith("out__")]
    if len(inputs) == 1 and len(given) == 1:
        return {inputs[0].name: _as_given(inputs[0], arrays[given[0]])}
    missing = [spec.name for spec in inputs if spec.name not in found]
    single_file = list(arrays) == [_NPY_KEY]
    raise UsageError(
        f"no samples for the input{'s' if len(missing) > 1 else ''} {', '.join(repr(n) for n in missing)}",
        where=str(path),
        why="a .npy file holds one array and the model has several inputs"
        if single_file
        else f"its keys are {', '.join(sorted(arrays)) or '(none)'}",
        hint="write an .npz with a key for each of: " + ", ".join(_key(spec.name) for spec in inputs),
    )


def _names(spec: TensorSpec) -> Iterator[str]:
    for name in (spec.name, spec.inner_name):
        yield name
        yield name.removesuffix(":0")
        yield f"{name}:0"


def _fits(found: Sequence[int], expected: Sequence[int | None] | None) -> bool:
    if expected is None:
        return True
    return len(found) == len(expected) and all(
        e is None or e == f for f, e in zip(found, expected, strict=True)
    )


def _split(
    path: Path, chosen: Mapping[str, np.ndarray], inputs: Sequence[TensorSpec], limit: int | None
) -> list[Sample]:
    """Cut the arrays into samples along their leading axes."""
    whole = any(_is_whole(chosen[spec.name], spec) for spec in inputs)
    columns: dict[str, list[np.ndarray]] = {}
    repeated: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for spec in inputs:
        array = chosen[spec.name]
        if array.ndim == 0 and (spec.shape is None or len(spec.shape) == 0):
            repeated[spec.name] = _cast(path, spec, array)
            continue
        if (
            spec.shape is not None
            and array.ndim == len(spec.shape) + 1
            and _fits(array.shape[1:], spec.shape)
        ):
            counts[spec.name] = array.shape[0]
            # Not by iterating: parts of an array of objects with one axis would be the objects themselves.
            parts = [array[i : i + 1].reshape(array.shape[1:]) for i in range(len(array[:limit]))]
            columns[spec.name] = [_cast(path, spec, part) for part in parts]
        elif whole and _fits(array.shape, spec.shape):
            counts[spec.name] = 1
            columns[spec.name] = [_cast(path, spec, array)]
        elif array.ndim and _fits((1, *array.shape[1:]), spec.shape):
            counts[spec.name] = array.shape[0]
            cut = _cast(path, spec, array[:limit])
            columns[spec.name] = [cut[i : i + 1] for i in range(cut.shape[0])]
        else:
            raise _mismatch(path, spec, array)
    if len(set(counts.values())) > 1:
        raise UsageError(
            "the inputs have different numbers of samples",
            where=str(path),
            why=", ".join(f"'{name}': {count}" for name, count in counts.items()),
            hint="give each input the same number of samples along a first axis",
        )
    if 0 in counts.values():
        raise UsageError("the file holds no samples", where=str(path), why="the first axis has length 0")
    number = min(next(iter(counts.values()), 1), limit or 1 << 62)
    return [
        {
            spec.name: repeated[spec.name] if spec.name in repeated else columns[spec.name][index]
            for spec in inputs
        }
        for index in range(number)
    ]


def _is_whole(array: np.ndarray, spec: TensorSpec) -> bool:
    """Whether the array can only be read as one sample, having no axis that counts them."""
    shape = spec.shape
    return bool(shape) and _fits(array.shape, shape) and shape is not None and (shape[0] or 1) > 1


def _cast(path: Path, spec: TensorSpec, array: np.ndarray) -> np.ndarray:
    """``array`` in the dtype of ``spec``, with its values kept."""
    if spec.dtype == "string":
        if array.dtype.kind == "U":
            array = np.char.encode(array, "utf-8")
        if array.dtype.kind == "S":
            return array.astype(object)
        if array.dtype.kind == "O":  # from _as_given; no file holds objects
            return array
        raise _wrong_dtype(path, spec, array, "numbers are no strings")
    wanted = _dtype(spec.dtype)
    if wanted is None:
        raise _wrong_dtype(path, spec, array, "no file can hold values of that type")
    if array.dtype == wanted:
        return np.asarray(array, order="C")
    if array.dtype.kind == "V" and array.dtype.itemsize == wanted.itemsize and wanted.kind == "V":
        return np.ascontiguousarray(array).view(wanted)  # NumPy stores bfloat16 as two raw bytes
    if array.dtype.kind not in "biufc":
        raise _wrong_dtype(path, spec, array, "they are no numbers")
    if array.dtype.kind == "c" and wanted.kind != "c":
        raise _wrong_dtype(path, spec, array, "the imaginary part would be lost")
    with np.errstate(all="ignore"):
        cast = array.astype(wanted, order="C")
        if wanted.kind in "fcV" and array.dtype.kind in "fc":
            # Rounding to the model's own precision is what any caller of the model does.
            kept = bool(np.all(np.isfinite(cast.astype(array.dtype)) | ~np.isfinite(array)))
        else:
            kept = bool(np.all(cast.astype(array.dtype) == array)) and _same_sign(cast, array)
    if not kept:
        hint = None
        if spec.quantization is not None:
            hint = "the input is quantized: store round(value / scale) + zero_point"
        elif wanted.kind in "iub" and array.dtype.kind == "f":
            hint = f"round the values to whole numbers within the range of {spec.dtype} first"
        raise _wrong_dtype(path, spec, array, "the cast would change values", hint)
    return cast


def _same_sign(cast: np.ndarray, array: np.ndarray) -> bool:
    """Whether no value wrapped around on its way between signed and unsigned integers."""
    return bool(np.all((cast < 0) == (array < 0))) if array.dtype.kind != "b" else True


def _dtype(name: str) -> np.dtype[Any] | None:
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        extended = getattr(ml_dtypes, name, None)
        return None if extended is None else np.dtype(extended)


def _shape_text(shape: Sequence[int | None] | None) -> str:
    if shape is None:
        return "(any shape)"
    return (
        "(" + ", ".join("?" if d is None else str(d) for d in shape) + ("," if len(shape) == 1 else "") + ")"
    )


def _mismatch(path: Path, spec: TensorSpec, array: np.ndarray) -> UsageError:
    shape = spec.shape or ()
    rest = _shape_text(("N", *shape[1:]))[1:-1].rstrip(",") if shape else "N"  # type: ignore[arg-type]
    return UsageError(
        f"samples of shape {_shape_text(array.shape)} do not fit the input '{spec.name}'",
        where=str(path),
        why=f"the model expects {_shape_text(spec.shape)} {spec.dtype}",
        hint=f"give N samples as an array of shape ({rest})"
        if not shape or (shape[0] or 1) == 1
        else f"give N samples as an array of shape (N, {_shape_text(shape)[1:-1]})",
    )


def _wrong_dtype(
    path: Path, spec: TensorSpec, array: np.ndarray, why: str, hint: str | None = None
) -> UsageError:
    return UsageError(
        f"samples of type {array.dtype} do not fit the input '{spec.name}' of type {spec.dtype}",
        where=str(path),
        why=why,
        hint=hint or f"store the samples as {spec.dtype}",
    )
