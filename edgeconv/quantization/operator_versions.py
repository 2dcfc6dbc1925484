"""Gives the operators of a quantized TFLite file the versions that their kernels have.

LiteRT Quantizer leaves the versions of the float file. By them a runtime that is too old tells that it is,
so with the float file's it cannot refuse what it has no kernel for. What is needed here are the
versions of the operators that quantizing changes, by the element types of their tensors. The numbers are
those of the published op versioning of LiteRT, and so is the first release with each of them.
"""

from __future__ import annotations

from typing import Any

# First operand's type -> version. The second number of each entry is for int16.
_BY_TYPE: dict[str, tuple[int, int]] = {
    "ADD": (2, 3), "AVERAGE_POOL_2D": (2, 3), "BATCH_MATMUL": (2, 3), "BROADCAST_TO": (3, 3),
    "CONCATENATION": (2, 3), "CONV_2D": (3, 4), "DEPTHWISE_CONV_2D": (3, 5), "DEPTH_TO_SPACE": (2, 2),
    "DEQUANTIZE": (2, 3), "DYNAMIC_UPDATE_SLICE": (1, 4), "EQUAL": (2, 4), "EXP": (2, 2),
    "FULLY_CONNECTED": (4, 7), "GATHER": (2, 4), "GATHER_ND": (1, 3), "GELU": (2, 1), "LEAKY_RELU": (1, 2),
    "LOGISTIC": (2, 3), "LOG_SOFTMAX": (2, 2), "MAXIMUM": (2, 4), "MAX_POOL_2D": (2, 3), "MEAN": (2, 3),
    "MINIMUM": (2, 4), "MIRROR_PAD": (2, 3), "MUL": (2, 4), "NOT_EQUAL": (2, 2), "PACK": (2, 3),
    "PAD": (2, 3), "PADV2": (2, 3), "REDUCE_MAX": (2, 3), "REDUCE_MIN": (2, 3), "RELU": (2, 3),
    "RELU6": (2, 3), "RESIZE_BILINEAR": (2, 4), "RESIZE_NEAREST_NEIGHBOR": (2, 4), "RSQRT": (2, 3),
    "SLICE": (2, 4), "SOFTMAX": (2, 3), "SPACE_TO_DEPTH": (2, 2), "SPLIT": (2, 4),
    "SQUARED_DIFFERENCE": (2, 2),
    "STRIDED_SLICE": (2, 2), "SUB": (2, 5), "SUM": (2, 2), "TANH": (2, 3), "TRANSPOSE": (2, 5),
    "TRANSPOSE_CONV": (2, 3), "UNPACK": (2, 4), "SELECT": (2, 2),
}  # fmt: skip

# Float activations with int8 weights: version for one scale, and for one scale a channel.
_HYBRID: dict[str, tuple[int, int]] = {
    "BATCH_MATMUL": (4, 4),
    "CONV_2D": (2, 5),
    "DEPTHWISE_CONV_2D": (4, 6),
    "EMBEDDING_LOOKUP": (3, 4),
    "FULLY_CONNECTED": (9, 12),
}

_WIDE_BIAS = {"CONV_2D": 8, "FULLY_CONNECTED": 11, "TRANSPOSE_CONV": 5}
"""int16 activations with the bias type stated in the options."""

_DATA_OPERAND = {"SPLIT": 1, "TRANSPOSE_CONV": 2, "SELECT": 1, "SELECT_V2": 1, "EMBEDDING_LOOKUP": 1}
"""Which operand tells the type, where it is not the first."""

# First release of each version that can be set above, as far as it is later than 2.3.
_FIRST_RELEASE: dict[tuple[str, int], str] = {
    ("ADD", 3): "2.4.0", ("BATCH_MATMUL", 3): "2.4.0", ("BATCH_MATMUL", 4): "2.5.0",
    ("BROADCAST_TO", 3): "2.5.0", ("CONV_2D", 5): "2.4.0", ("CONV_2D", 8): "2.15.0",
    ("DEPTH_TO_SPACE", 2): "2.5.0", ("DEQUANTIZE", 5): "2.7.0", ("DYNAMIC_UPDATE_SLICE", 4): "2.20.0",
    ("EMBEDDING_LOOKUP", 4): "2.18.0", ("EQUAL", 4): "2.13.0", ("EXP", 2): "2.12.0",
    ("FULLY_CONNECTED", 11): "2.15.0", ("FULLY_CONNECTED", 12): "2.17.0", ("GATHER", 4): "2.4.0",
    ("GATHER_ND", 3): "2.5.0", ("GELU", 2): "2.9.0", ("MEAN", 3): "2.4.0", ("MIRROR_PAD", 3): "2.12.0",
    ("PAD", 3): "2.4.0", ("PADV2", 3): "2.4.0", ("QUANTIZE", 3): "2.7.0", ("REDUCE_MAX", 3): "2.5.0",
    ("REDUCE_MIN", 3): "2.5.0", ("RELU", 3): "2.5.0", ("RELU6", 3): "2.5.0", ("RESIZE_BILINEAR", 4): "2.5.0",
    ("RESIZE_NEAREST_NEIGHBOR", 4): "2.4.0", ("RSQRT", 2): "2.5.0", ("RSQRT", 3): "2.15.0",
    ("SLICE", 4): "2.4.0", ("SQUARED_DIFFERENCE", 2): "2.5.0", ("SUB", 5): "2.4.0", ("TRANSPOSE", 5): "2.4.0",
    ("TRANSPOSE_CONV", 5): "2.15.0",
}  # fmt: skip
_OLDEST = "2.3.0"


def raise_versions(model: Any, operator_names: tuple[str, ...], type_names: tuple[str, ...]) -> str:
    """Raise the versions of a model's operators to what their tensors' types need.

    Args:
        model: ``ModelT`` of the schema; changed in place. Operators of one kind that need different
            versions get operator codes of their own.
        operator_names: names of the builtin operators by code.
        type_names: names of the element types by code.

    Returns:
        The first release of the runtime that has all versions that were raised (``2.3.0`` at least).
    """
    codes: dict[tuple[int, int], int] = {}
    release = _OLDEST
    for subgraph in model.subgraphs:
        for operator in subgraph.operators or ():
            code = model.operatorCodes[operator.opcodeIndex]
            name = operator_names[max(code.builtinCode, code.deprecatedBuiltinCode)]
            version = max(code.version, _needed(name, operator, subgraph.tensors, type_names))
            release = max(release, _FIRST_RELEASE.get((name, version), _OLDEST), key=_numbers)
            if version != code.version:
                key = (operator.opcodeIndex, version)
                if key not in codes:
                    codes[key] = _copied(model, code, version)
                operator.opcodeIndex = codes[key]
    _drop_unused(model)
    return release


def is_later(release: str, other: str) -> bool:
    """Whether the release ``release`` is later than ``other``, both like ``2.15.0``."""
    return _numbers(release) > _numbers(other)


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in release.split("."))


def _needed(name: str, operator: Any, tensors: Any, type_names: tuple[str, ...]) -> int:
    inputs = list(operator.inputs) if operator.inputs is not None else []

    def tensor(position: int) -> Any | None:
        return tensors[inputs[position]] if len(inputs) > position and inputs[position] >= 0 else None

    first = tensor(_DATA_OPERAND.get(name, 0))
    if first is None:
        return 1
    kind = type_names[first.type]
    if name == "QUANTIZE":
        outputs = [type_names[tensors[i].type] for i in operator.outputs]
        return 2 if "int16" in outputs else 1
    if name == "DEQUANTIZE" and kind == "float16":
        return 3
    if name == "DEQUANTIZE" and kind == "int8" and _scales(first) > 1:
        return 5
    if name == "EMBEDDING_LOOKUP":
        return _HYBRID[name][_scales(first) > 1] if kind == "int8" else 1
    if kind == "float32":
        weights = tensor(1)
        if name in _HYBRID and weights is not None and type_names[weights.type] == "int8":
            return _HYBRID[name][_scales(weights) > 1]
        return 1
    if kind == "int16" and name in _WIDE_BIAS and getattr(operator.builtinOptions, "quantizedBiasType", 0):
        return _WIDE_BIAS[name]
    if kind in ("int8", "int16") and name in _BY_TYPE:
        return _BY_TYPE[name][kind == "int16"]
    return 1


def _scales(tensor: Any) -> int:
    quantization = tensor.quantization
    return 0 if quantization is None or quantization.scale is None else len(quantization.scale)


def _copied(model: Any, code: Any, version: int) -> int:
    new = type(code)()
    new.__dict__.update(code.__dict__)
    new.version = version
    model.operatorCodes.append(new)
    return len(model.operatorCodes) - 1


def _drop_unused(model: Any) -> None:
    used = sorted({o.opcodeIndex for subgraph in model.subgraphs for o in subgraph.operators or ()})
    renumbered = {old: new for new, old in enumerate(used)}
    model.operatorCodes = [model.operatorCodes[index] for index in used]
    for subgraph in model.subgraphs:
        for operator in subgraph.operators or ():
            operator.opcodeIndex = renumbered[operator.opcodeIndex]
