"""Small TFLite files for ``tools/measure_tflite_runtimes.py``: operators in forms that some release stumbles over."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from tflite_builder import Builder
from tflite_probes import ARITHMETIC, CODES, OPERATORS, REDUCE, STEP, Probe, T, file_of, keys_of, option

from edgeconv.checking._tflite_kinds import (
    FLOAT16_ALONE,
    FROM_FLOAT16,
    MANY_SCALARS,
    NEVER_ASSIGNED,
    OTHER_RANK,
    RESCALED,
    UNUSED,
)


def forms() -> Iterator[Probe]:
    """Operators in forms that some release stumbles over, whatever their types are good for."""
    yield from _rescaled()
    for dtype in ("float32", "int8", "uint8"):
        for name, options, count in (
            *(("SPLIT", "Split", count) for count in (2, 3, 4)),
            *(("SPLIT_V", "SplitV", count) for count in (2, 3)),
            *(("UNPACK", "Unpack", count) for count in (2, 3)),
        ):
            for size in range(1, count):
                for unread in itertools.combinations(range(count), size):
                    yield _with_unread_parts(name, options, count, dtype, unread)
        for name, options in (("ADD", "Add"), ("SUB", "Sub"), ("MUL", "Mul")):
            if dtype != "float32":
                yield _chain(name, options, dtype)
    conv = option("Conv2D", strideW=1, strideH=1, dilationWFactor=1, dilationHFactor=1)
    depth = option(
        "DepthwiseConv2D", strideW=1, strideH=1, dilationWFactor=1, dilationHFactor=1, depthMultiplier=1
    )
    for half_bias in (False, True):
        yield _from_float16("CONV_2D", (4, 1, 1, 4), conv, half_bias)
        yield _from_float16("DEPTHWISE_CONV_2D", (1, 1, 1, 4), depth, half_bias)
        yield _from_float16("FULLY_CONNECTED", (4, 4), option("FullyConnected"), half_bias)
    yield from _sliced()
    yield from _half_quantized()
    yield from _svdf()
    yield _variable()


def _rescaled() -> Iterator[Probe]:
    """Operators whose output has another scale than their input."""
    for dtype in ("int8", "uint8", "int16"):
        x = T(dtype, (1, 4, 4, 4))

        def other(*shape: int, dtype: str = dtype) -> T:
            return T(dtype, shape, scale=2 * STEP)

        def ints(*values: int) -> T:
            return T("int32", (len(values),), value=values)

        same = other(1, 4, 4, 4)
        made: list[tuple[str, list[T | None], list[T], Any]] = [
            *((name, [x, ints(1)], [other(1, 4, 4)], option("Reducer")) for name in REDUCE[:5]),
            *((name, [x, x], [same], option("MaximumMinimum")) for name in ("MAXIMUM", "MINIMUM")),
            ("CONCATENATION", [x, x], [other(2, 4, 4, 4)], option("Concatenation", axis=0)),
            ("PACK", [x, x], [other(2, 1, 4, 4, 4)], option("Pack", axis=0, valuesCount=2)),
            ("RESHAPE", [x, ints(1, 64)], [other(1, 64)], option("Reshape", newShape=[1, 64])),
            ("TRANSPOSE", [x, ints(0, 2, 1, 3)], [same], option("Transpose")),
            ("SLICE", [x, ints(0, 0, 0, 0), ints(1, 4, 4, 4)], [same], option("Slice")),
            ("PAD", [x, T("int32", (4, 2), value=0)], [same], option("Pad")),
            ("GATHER", [x, ints(0)], [same], option("Gather", axis=0)),
            ("SELECT_V2", [T("bool", (1, 4, 4, 4)), x, x], [same], option("SelectV2")),
            ("BATCH_MATMUL", [T(dtype, (1, 4, 4)), T(dtype, (1, 4, 4))], [other(1, 4, 4)], option("BatchMatMul")),
            *((name, [x], [same], None) for name in ("RELU", "RELU6", "ABS", "NEG", "RSQRT", "HARD_SWISH", "EXP",
                                                     "SQRT", "LOG", "ELU")),
            *((name, [x, x], [same], option(options)) for name, options in ARITHMETIC.items() if options),
            *((name, [x], [other(1, 2, 2, 4)], option("Pool2D", filterWidth=2, filterHeight=2, strideW=2, strideH=2,
                                                      padding=1)) for name in ("AVERAGE_POOL_2D", "MAX_POOL_2D")),
        ]  # fmt: skip
        for each in made:
            data = file_of(*each)
            key = next(key for key in keys_of(data) if key.endswith(RESCALED))
            yield Probe(key, data)


def _with_unread_parts(name: str, options: str, count: int, dtype: str, unread: tuple[int, ...]) -> Probe:
    b = Builder()
    scale: dict[str, Any] = {"scale": [STEP], "zero_point": [0]} if dtype != "float32" else {}

    def tensor(label: str, shape: list[int]) -> int:
        return int(b.tensor(label, shape, dtype=CODES[dtype], **scale))

    def ints(values: Any, label: str) -> int:
        return int(
            b.tensor(label, list(np.shape(values)), dtype=CODES["int32"], data=np.array(values, np.int32))
        )

    x = tensor("x", [2, count])
    shape = [2] if name == "UNPACK" else [2, 1]
    parts = [tensor(f"part{i}", shape) for i in range(count)]
    inputs = {
        "SPLIT": lambda: [ints(1, "axis"), x],
        "SPLIT_V": lambda: [x, ints([1] * count, "sizes"), ints(1, "axis")],
        "UNPACK": lambda: [x],
    }[name]()
    fields = {"axis": 1, "num": count} if name == "UNPACK" else {"numSplits": count}
    b.op(getattr(OPERATORS, name), inputs, parts, options=(f"{options}Options", option(options, **fields)))
    outputs = []
    for i in set(range(count)) - set(unread):
        outputs.append(tensor(f"y{i}", shape))
        b.op(OPERATORS.ADD, [parts[i], parts[i]], outputs[-1:], options=("AddOptions", option("Add")))
    b.ends([x], outputs)
    return Probe(next(key for key in keys_of(b.bytes()) if UNUSED in key), b.bytes())


def _chain(name: str, options: str, dtype: str) -> Probe:
    b = Builder()
    scale: dict[str, Any] = {"scale": [STEP], "zero_point": [0]}
    x = first = b.tensor("x", [3, 3], dtype=CODES[dtype], **scale)
    for i in range(12):
        y = b.tensor(f"y{i}", [3, 3], dtype=CODES[dtype], **scale)
        scalar = b.tensor(f"c{i}", [], dtype=CODES[dtype], data=np.array(3, dtype), **scale)
        b.op(getattr(OPERATORS, name), [x, scalar], [y], options=(f"{options}Options", option(options)))
        x = y
    b.ends([first], [x])
    return Probe(next(key for key in keys_of(b.bytes()) if key.endswith(MANY_SCALARS)), b.bytes())


def _sliced() -> Iterator[Probe]:
    """Slices that drop a dimension."""
    for dtype in ("float32", "int8", "int32"):
        for rank in range(2, 7):

            def ints(value: int, rank: int = rank) -> T:
                return T("int32", (rank,), value=value)

            inputs: list[T | None] = [T(dtype, (2,) * rank), ints(0), ints(2), ints(1)]
            options = option("StridedSlice", shrinkAxisMask=1)
            data = file_of("STRIDED_SLICE", inputs, [T(dtype, (2,) * (rank - 1))], options)
            yield Probe(next(key for key in keys_of(data) if key.endswith(OTHER_RANK)), data)


def _half_quantized() -> Iterator[Probe]:
    """What quantizers leave behind: one operand made an integer, and the others not."""
    limit, ratio, low = (T("int32", (), value=2), T("float32", (), value=0.5), T("float32", (), value=0.0))
    for dtype in ("int8", "uint8", "int16"):
        x, pairs = T(dtype, (1, 4)), T("int32", (2, 2), value=0)
        chosen = [T("int32", (2,)), T("int32", ())]
        scored = [T("int32", (2,)), T("float32", (2,)), T("int32", ())]
        some: list[tuple[str, list[T | None], list[T], Any]] = [
            ("ADD_N", [x, x, x], [T("float32")], option("AddN")),
            ("PADV2", [x, pairs, T("float32", (), value=0)], [x], option("PadV2")),
            ("PADV2", [T("float32"), pairs, T(dtype, (), value=0)], [T("float32")], option("PadV2")),
        ]
        for boxes, scores in ((dtype, "float32"), ("float32", dtype), (dtype, dtype)):
            first: list[T | None] = [T(boxes, (4, 4)), T(scores, (4,)), limit, ratio, low]
            some.append(("NON_MAX_SUPPRESSION_V4", first, chosen, option("NonMaxSuppressionV4")))
            some.append(("NON_MAX_SUPPRESSION_V5", [*first, low], scored, option("NonMaxSuppressionV5")))
        for each in some:
            data = file_of(*each)
            yield Probe(keys_of(data)[0], data)


def _from_float16(name: str, shape: tuple[int, ...], options: Any, half_bias: bool) -> Probe:
    b = Builder()
    flat = name == "FULLY_CONNECTED"
    data = [1, 4] if flat else [1, 4, 4, 4]
    x, y = b.tensor("x", data), b.tensor("y", data)
    stored = b.tensor("stored", list(shape), dtype=CODES["float16"], data=np.ones(shape, np.float16))
    weights = b.tensor("weights", list(shape))
    widen = ("DequantizeOptions", option("Dequantize"))
    b.op(OPERATORS.DEQUANTIZE, [stored], [weights], options=widen)
    if half_bias:
        bias, half = b.tensor("bias", [4]), np.zeros(4, np.float16)
        b.op(
            OPERATORS.DEQUANTIZE,
            [b.tensor("half", [4], dtype=CODES["float16"], data=half)],
            [bias],
            options=widen,
        )
    else:
        bias = b.tensor("bias", [4], data=np.zeros(4, np.float32))
    b.op(getattr(OPERATORS, name), [x, weights, bias], [y], options=(type(options).__name__[:-1], options))
    b.ends([x], [y])
    keys = keys_of(b.bytes(), 2 if half_bias else 1)
    return Probe(
        next(key for key in keys if key.endswith(FROM_FLOAT16 if half_bias else FLOAT16_ALONE)), b.bytes()
    )


def _variable() -> Probe:
    """A resource variable that is read and that nothing has given a value."""
    b = Builder()
    x, handle = b.tensor("x", [4]), b.tensor("handle", [], dtype=CODES["resource"])
    value, y = b.tensor("value", [4]), b.tensor("y", [4])
    options = option("VarHandle", container="", sharedName="variable")
    b.op(OPERATORS.VAR_HANDLE, [], [handle], options=("VarHandleOptions", options))
    b.op(OPERATORS.READ_VARIABLE, [handle], [value], options=("ReadVariableOptions", option("ReadVariable")))
    b.op(OPERATORS.ADD, [x, value], [y], options=("AddOptions", option("Add")))
    b.ends([x], [y])
    return Probe(next(key for key in keys_of(b.bytes(), 1) if key.endswith(NEVER_ASSIGNED)), b.bytes())


def _svdf() -> Iterator[Probe]:
    """SVDF with its state in the types that converters gave it; large, so that what reads beyond it fails."""
    units, memory, features = 256, 64, 64
    for kind, weight, time, bias, state in (
        ("float32", "float32", "float32", "float32", "float32"),
        ("float32", "int8", "float32", "float32", "float32"),
        ("int8", "int8", "int16", "int32", "int16"),
        ("int8", "int8", "int8", "int32", "int8"),
        ("int8", "int8", "int8", "int32", "int16"),
    ):
        inputs: list[T | None] = [
            T(kind, (1, features)),
            T(weight, (units, features), value=1),
            T(time, (units, memory), value=1),
            T(bias, (units,), value=0, scale=STEP),
            T(state, (1, units * memory)),
        ]
        options = option("SVDF", rank=1, fusedActivationFunction=int(kind == "int8"))
        b = Builder()
        b.model = schema.ModelT.InitFromPackedBuf(file_of("SVDF", inputs, [T(kind, (1, units))], options), 0)
        graph = b.model.subgraphs[0]
        graph.tensors[graph.inputs[-1]].isVariable = True
        graph.inputs = graph.inputs[:-1]
        yield Probe(keys_of(b.bytes())[0], b.bytes())
