"""TensorFlow's element types and shapes in the words of :mod:`edgeconv.formats.base`."""

from __future__ import annotations

from typing import Any

from edgeconv.formats.base import Shape

_REFERENCE = 100
"""A reference type (a TF1 variable's own buffer) has the number of its base type plus this."""

# tensorflow/core/framework/types.proto. Quantized types are told by how they are stored.
_NAMES: dict[int, str] = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    11: "int8",
    12: "uint8",
    13: "int32",
    14: "bfloat16",
    15: "int16",
    16: "uint16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    20: "resource",
    21: "variant",
    22: "uint32",
    23: "uint64",
    24: "float8_e5m2",
    25: "float8_e4m3fn",
    29: "int4",
    30: "uint4",
}
_BITS: dict[str, int] = {
    "float32": 32,
    "float64": 64,
    "int32": 32,
    "uint8": 8,
    "int16": 16,
    "int8": 8,
    "complex64": 64,
    "int64": 64,
    "bool": 8,
    "bfloat16": 16,
    "uint16": 16,
    "complex128": 128,
    "float16": 16,
    "uint32": 32,
    "uint64": 64,
    "float8_e5m2": 8,
    "float8_e4m3fn": 8,
    "int4": 8,
    "uint4": 8,
}

FLOATS = frozenset({"float16", "bfloat16", "float32", "float64", "float8_e5m2", "float8_e4m3fn"})


def dtype_name(number: int) -> str:
    """NumPy's name of a ``DataType``; references become their base type, unknown ones ``dtype N``."""
    base = number - _REFERENCE if number > _REFERENCE else number
    return _NAMES.get(base, f"dtype {number}")


def shape_of(proto: Any) -> Shape | None:
    """The shape that a ``TensorShapeProto`` states; ``None`` where the rank is unknown."""
    if proto.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else int(dim.size) for dim in proto.dim)


def elements(shape: Shape | None) -> int | None:
    """Number of elements of a tensor of that shape; ``None`` where it is not fixed."""
    if shape is None:
        return None
    count = 1
    for size in shape:
        if size is None:
            return None
        count *= size
    return count
