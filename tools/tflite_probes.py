"""Small TFLite files, one operator each, for ``tools/measure_tflite_runtimes.py``.

:func:`versions` has every builtin operator in every version; :func:`kinds` has operators with the element types
that their tensors can have; :func:`ranks` has them with tensors of up to six dimensions; ``tflite_probe_forms.py`` the rest. What a kernel asks of
scales (a softmax gives steps of 1/256) is as the LiteRT quantization specification has it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "tests" / "formats"))
from tflite_builder import Builder  # noqa: E402

from edgeconv.checking._tflite_kinds import keyed  # noqa: E402
from edgeconv.formats._flatbuffer import Buffer  # noqa: E402
from edgeconv.formats._tflite_model import read_model  # noqa: E402
from edgeconv.formats._tflite_names import BUILTIN_OPERATORS, ELEMENT_TYPES  # noqa: E402

OPERATORS = schema.BuiltinOperator
CODES = {name: code for code, name in enumerate(ELEMENT_TYPES)}
HIGHEST_VERSION = 20
STEP = 0.0077
"""Scale of quantized tensors: no power of two, for which some kernels have code of their own."""
NUMBERS = ("float32", "float16", "bfloat16", "float64", "int4", "int8", "uint8", "int16", "uint16", "int32", "uint32",
           "int64", "uint64", "bool")  # fmt: skip
QUANTIZED = ("int2", "int4", "int8", "uint8", "int16")


@dataclass(frozen=True)
class Probe:
    """One file: what is asked of it, and its bytes."""

    key: str
    data: bytes


@dataclass(frozen=True)
class T:
    """A tensor to be: element type, shape, constant value, scale and zero point."""

    dtype: str
    shape: tuple[int, ...] = (1, 4)
    value: Any = None
    scale: float | None = None
    zero: int | None = None
    scales: int = 1
    axis: int = 0

    def quantization(self) -> tuple[float, int] | None:
        """Scale and zero point; by default STEP around zero for types that are quantized."""
        if self.scale == 0 or (self.scale is None and self.dtype not in QUANTIZED):
            return None
        zero = self.zero if self.zero is not None else 128 if self.dtype == "uint8" else 0
        return (STEP if self.scale is None else self.scale), zero


def versions() -> Iterator[Probe]:
    """Every builtin operator in the versions from 1 on; only whether a file loads tells something."""
    for code, name in enumerate(BUILTIN_OPERATORS):
        if name in ("CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"):
            continue
        for version in range(1, HIGHEST_VERSION + 1):
            b = Builder()
            x, y = b.tensor("x", [1]), b.tensor("y", [1])
            b.op(code, [x], [y], version=version)
            b.ends([x], [y])
            yield Probe(f"{name} {version}", b.bytes())


CUSTOM = ("TFLite_Detection_PostProcess", "Mfcc", "AudioSpectrogram", "NumericVerify", "Convolution2DTransposeBias",
          "MaxPoolingWithArgmax2D", "MaxUnpooling2D", "ParseExample", "ParseExampleV2", "IRFFT2D", "AvgPool3D",
          "MaxPool3D", "RFFT2D", "Bucketize", "Sign", "AddV2", "Complex", "tftext:WhitespaceTokenizer",
          "CUSTOM_OP_NOT_KNOWN_TO_ANYBODY", "Atan2", "Roll", "TableLookup", "odml.update_kv_cache",
          "odml.scaled_dot_product_attention", "odml.rms_norm", "GroupNorm", "HashTableV2", "RandomUniform",
          "RandomStandardNormal", "Multinomial", "FlexErf", "FlexRFFT")  # fmt: skip


def custom() -> Iterator[Probe]:
    """Custom operators by name; a runtime that does not know one says so when memory is laid out."""
    for name in CUSTOM:
        b = Builder()
        x, y = b.tensor("x", [1]), b.tensor("y", [1])
        b.op(name, [x], [y])
        b.ends([x], [y])
        yield Probe(name, b.bytes())


def file_of(name: str, inputs: list[T | None], outputs: list[T], options: Any = None) -> bytes:
    """A file with one operator; the inputs without a value are those of the model."""
    b = Builder()

    def tensor(t: T, label: str) -> int:
        quantization = t.quantization()
        data = None
        if t.value is not None:
            data = _stored(t)
        scales = None if quantization is None else [quantization[0]] * t.scales
        zeros = None if quantization is None else [quantization[1]] * t.scales
        return int(
            b.tensor(
                label,
                list(t.shape),
                dtype=CODES[t.dtype],
                data=data,
                scale=scales,
                zero_point=zeros,
                axis=t.axis,
            )
        )

    ins = [-1 if t is None else tensor(t, f"in{i}") for i, t in enumerate(inputs)]
    outs = [tensor(t, f"out{i}") for i, t in enumerate(outputs)]
    chosen = (type(options).__name__[:-1], options) if options is not None else None
    b.op(getattr(OPERATORS, name), ins, outs, options=chosen)
    free = [i for i, t in zip(ins, inputs, strict=True) if t is not None and t.value is None]
    b.ends(free, outs)
    return b.bytes()


def _stored(t: T) -> Any:
    array = np.broadcast_to(np.asarray(t.value), t.shape)
    if t.dtype in ("int4", "int2", "uint4"):
        per = 2 if t.dtype.endswith("4") else 4
        return np.zeros((array.size + per - 1) // per, np.uint8)
    if t.dtype == "bfloat16":
        return np.zeros(array.size, np.uint16)
    return np.ascontiguousarray(array.astype(t.dtype))


def _probe(name: str, inputs: list[T | None], outputs: list[T], options: Any = None) -> Probe:
    """A probe of an operator's element types."""
    data = file_of(name, inputs, outputs, options)
    return Probe(keys_of(data)[0], data)


def _ranked_probe(name: str, inputs: list[T | None], outputs: list[T], options: Any = None) -> Probe:
    """A probe of an operator's number of dimensions."""
    data = file_of(name, inputs, outputs, options)
    return Probe(keys_of(data)[1], data)


def keys_of(data: bytes, position: int = 0) -> tuple[str, ...]:
    """What the checker would ask the tables for this file's operator."""
    return list(keyed(read_model(Buffer(data))))[position].keys


def option(name: str, **fields: Any) -> Any:
    """Options of an operator."""
    made = getattr(schema, f"{name}OptionsT")()
    for field, value in fields.items():
        assert hasattr(made, field), (name, field)
        setattr(made, field, value)
    return made


_UNARY = ("ABS CEIL COS ELU EXP FLOOR HARD_SWISH LEAKY_RELU LOG LOGISTIC LOG_SOFTMAX NEG RELU RELU6 RELU_N1_TO_1 "
          "RELU_0_TO_1 ROUND RSQRT SIGN SIN SQRT SQUARE TANH SOFTMAX ZEROS_LIKE LOGICAL_NOT GELU "
          "L2_NORMALIZATION").split()  # fmt: skip
_UNARY_OPTIONS = {
    "SOFTMAX": ("Softmax", {"beta": 1.0}),
    "LEAKY_RELU": ("LeakyRelu", {"alpha": 0.1}),
    "GELU": ("Gelu", {}),
    "L2_NORMALIZATION": ("L2Norm", {}),
}
_FIXED_OUTPUT = {
    ("LOGISTIC", "int8"): (1 / 256, -128), ("LOGISTIC", "uint8"): (1 / 256, 0), ("LOGISTIC", "int16"): (1 / 32768, 0),
    ("SOFTMAX", "int8"): (1 / 256, -128), ("SOFTMAX", "uint8"): (1 / 256, 0), ("SOFTMAX", "int16"): (1 / 32768, 0),
    ("TANH", "int8"): (1 / 128, 0), ("TANH", "uint8"): (1 / 128, 128), ("TANH", "int16"): (1 / 32768, 0), ("LOG_SOFTMAX", "int8"): (16 / 256, 127),
    ("LOG_SOFTMAX", "uint8"): (16 / 256, 255),
}  # fmt: skip
ARITHMETIC = {
    "ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div", "MAXIMUM": "MaximumMinimum", "MINIMUM": "MaximumMinimum",
    "FLOOR_DIV": "FloorDiv", "FLOOR_MOD": "FloorMod", "POW": "Pow", "SQUARED_DIFFERENCE": "SquaredDifference",
    "ATAN2": None, "BITWISE_XOR": None, "RIGHT_SHIFT": None,
}  # fmt: skip
_COMPARE = ("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL")
REDUCE = ("SUM", "MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ANY", "REDUCE_ALL")


def kinds() -> Iterator[Probe]:
    """Operators with the element types that their tensors can have."""
    for dtype in NUMBERS:
        x = T(dtype)
        for name in _UNARY:
            chosen = _UNARY_OPTIONS.get(name)
            scale, zero = _FIXED_OUTPUT.get((name, dtype), (None, None))
            made = None if chosen is None else option(chosen[0], **chosen[1])
            yield _probe(name, [x], [T(dtype, scale=scale, zero=zero)], made)
        for name, options in ARITHMETIC.items():
            made = option(options) if options else None
            yield _probe(name, [x, x], [x], made)
            yield _probe(name, [x, T(dtype, value=1)], [x], made)
        for name in _COMPARE:
            yield _probe(name, [x, x], [T("bool")])
        for name in ("LOGICAL_AND", "LOGICAL_OR"):
            yield _probe(name, [x, x], [T("bool")])
        for name in REDUCE:
            yield _probe(name, [x, T("int32", (1,), value=1)], [T(dtype, (1,))], option("Reducer"))
        yield from _shaping(dtype)
        yield from _picking(dtype)
        yield from _images(dtype)
        for other in NUMBERS:
            yield _probe("CAST", [T(dtype, scale=0)], [T(other, scale=0)],
                         option("Cast", inDataType=CODES[dtype], outDataType=CODES[other]))  # fmt: skip
            yield _probe("QUANTIZE", [_scaled(dtype)], [_scaled(other)], option("Quantize"))
            yield _probe("BITCAST", [T(dtype, scale=0)], [T(other, scale=0)])
        for scales in (1, 4):
            weights = T(dtype, (4, 4), value=0, scales=scales)
            yield _probe("DEQUANTIZE", [weights], [T("float32", (4, 4))], option("Dequantize"))
        yield _probe("DEQUANTIZE", [x], [T("float32")], option("Dequantize"))
        yield _probe("FAKE_QUANT", [x], [x], option("FakeQuant", min=0.0, max=1.0, numBits=8))
    yield from _layers()


def _scaled(dtype: str) -> T:
    """A tensor with a scale, also where the type mostly has none."""
    return T(dtype, scale=STEP if dtype in ("int32", "uint16", "int64") else None)


def _shaping(dtype: str) -> Iterator[Probe]:
    x = T(dtype, (1, 4, 4, 4))

    def ints(*values: int) -> T:
        return T("int32", (len(values),), value=values)

    pairs = T("int32", (4, 2), value=0)
    yield _probe("RESHAPE", [x, ints(1, 64)], [T(dtype, (1, 64))], option("Reshape", newShape=[1, 64]))
    yield _probe("EXPAND_DIMS", [x, ints(0)], [T(dtype, (1, 1, 4, 4, 4))], option("ExpandDims"))
    yield _probe("SQUEEZE", [x], [T(dtype, (4, 4, 4))], option("Squeeze", squeezeDims=[0]))
    yield _probe("CONCATENATION", [x, x], [T(dtype, (2, 4, 4, 4))], option("Concatenation", axis=0))
    yield _probe("PACK", [x, x], [T(dtype, (2, 1, 4, 4, 4))], option("Pack", axis=0, valuesCount=2))
    yield _probe("UNPACK", [x], [T(dtype, (4, 4, 4))], option("Unpack", axis=0, num=1))
    yield _probe(
        "SPLIT", [T("int32", (), value=1), x], [T(dtype, (1, 2, 4, 4))] * 2, option("Split", numSplits=2)
    )
    yield _probe("SPLIT_V", [x, ints(1, 3), T("int32", (), value=1)],
                 [T(dtype, (1, 1, 4, 4)), T(dtype, (1, 3, 4, 4))], option("SplitV", numSplits=2))  # fmt: skip
    yield _probe("SLICE", [x, ints(0, 0, 0, 0), ints(1, 2, 2, 2)], [T(dtype, (1, 2, 2, 2))], option("Slice"))
    yield _probe("STRIDED_SLICE", [x, ints(0, 0, 0, 0), ints(1, 2, 2, 2), ints(1, 1, 1, 1)],
                 [T(dtype, (1, 2, 2, 2))], option("StridedSlice"))  # fmt: skip
    yield _probe("TILE", [x, ints(1, 2, 1, 1)], [T(dtype, (1, 8, 4, 4))], option("Tile"))
    yield _probe("TRANSPOSE", [x, ints(0, 2, 1, 3)], [x], option("Transpose"))
    yield _probe("PAD", [x, pairs], [x], option("Pad"))
    yield _probe("PADV2", [x, pairs, T(dtype, (), value=0)], [x], option("PadV2"))
    yield _probe("MIRROR_PAD", [x, pairs], [x], option("MirrorPad", mode=0))
    yield _probe("BROADCAST_TO", [x, ints(2, 4, 4, 4)], [T(dtype, (2, 4, 4, 4))])
    yield _probe("FILL", [ints(2, 2), T(dtype, ())], [T(dtype, (2, 2))], option("Fill"))
    yield _probe("SHAPE", [x], [T("int32", (4,))], option("Shape", outType=CODES["int32"]))
    yield _probe("RANK", [x], [T("int32", ())], option("Rank"))
    yield _probe("REVERSE_V2", [x, ints(1)], [x], option("ReverseV2"))
    yield _probe("REVERSE_SEQUENCE", [x, ints(1)], [x], option("ReverseSequence", seqDim=1, batchDim=0))
    yield _probe("CUMSUM", [x, T("int32", (), value=1)], [x], option("Cumsum"))
    yield _probe("SPACE_TO_BATCH_ND", [x, ints(2, 2), T("int32", (2, 2), value=0)], [T(dtype, (4, 2, 2, 4))],
                 option("SpaceToBatchND"))  # fmt: skip
    yield _probe("BATCH_TO_SPACE_ND", [T(dtype, (4, 2, 2, 4)), ints(2, 2), T("int32", (2, 2), value=0)], [x],
                 option("BatchToSpaceND"))  # fmt: skip
    yield _probe("SPACE_TO_DEPTH", [x], [T(dtype, (1, 2, 2, 16))], option("SpaceToDepth", blockSize=2))
    yield _probe("DEPTH_TO_SPACE", [x], [T(dtype, (1, 8, 8, 1))], option("DepthToSpace", blockSize=2))
    yield _probe("RANGE", [T(dtype, (), value=0), T(dtype, (), value=4), T(dtype, (), value=1)], [T(dtype, (4,))],
                 option("Range"))  # fmt: skip
    yield _probe("MATRIX_DIAG", [x], [T(dtype, (1, 4, 4, 4, 4))], option("MatrixDiag"))
    yield _probe("MATRIX_SET_DIAG", [x, T(dtype, (1, 4, 4))], [x], option("MatrixSetDiag"))
    yield _probe("BROADCAST_ARGS", [T(dtype, (2,), value=1), T(dtype, (2,), value=1)], [T(dtype, (2,))])
    yield _probe("DYNAMIC_UPDATE_SLICE", [x, T(dtype, (1, 1, 1, 1)), ints(0, 0, 0, 0)], [x])
    yield _probe("ADD_N", [x, x, x], [x], option("AddN"))
    yield _probe("BUCKETIZE", [x], [T("int32", (1, 4, 4, 4))], option("Bucketize", boundaries=[0.0, 1.0]))


def _picking(dtype: str) -> Iterator[Probe]:
    x = T(dtype, (4, 4))
    for index in ("int16", "int32", "int64"):
        picks = T(index, (2,), value=(0, 1), scale=0)
        yield _probe("GATHER", [x, picks], [T(dtype, (2, 4))], option("Gather", axis=0))
        yield _probe(
            "GATHER_ND", [x, T(index, (2, 1), value=0, scale=0)], [T(dtype, (2, 4))], option("GatherNd")
        )
        yield _probe("SCATTER_ND", [T(index, (2, 1), value=((0,), (1,)), scale=0), T(dtype, (2, 4)),
                                    T(index, (2,), value=(4, 4), scale=0)], [x], option("ScatterNd"))  # fmt: skip
        for name, options in (("ARG_MAX", "ArgMax"), ("ARG_MIN", "ArgMin")):
            yield _probe(name, [x, T("int32", (), value=1)], [T(index, (4,), scale=0)],
                         option(options, outputType=CODES[index]))  # fmt: skip
        yield _probe("UNIQUE", [T(dtype, (4,))], [T(dtype, (4,)), T(index, (4,), scale=0)],
                     option("Unique", idxOutType=CODES[index]))  # fmt: skip
        yield _probe("ONE_HOT", [T(index, (4,), scale=0), T("int32", (), value=3), T(dtype, (), value=1),
                                 T(dtype, (), value=0)], [T(dtype, (4, 3))], option("OneHot", axis=-1))  # fmt: skip
        yield _probe("TOPK_V2", [x, T(index, (), value=2, scale=0)], [T(dtype, (4, 2)), T("int32", (4, 2))],
                     option("TopKV2"))  # fmt: skip
        yield _probe("SPARSE_TO_DENSE", [T(index, (2,), value=(0, 1), scale=0), T(index, (1,), value=4, scale=0),
                                         T(dtype, (2,)), T(dtype, (), value=0)], [T(dtype, (4,))],
                     option("SparseToDense", validateIndices=False))  # fmt: skip
    yield _probe("WHERE", [x], [T("int64", (4, 2))], option("Where"))
    condition = T("bool", (4, 4))
    yield _probe("SELECT", [condition, x, x], [x], option("Select"))
    yield _probe("SELECT_V2", [condition, x, x], [x], option("SelectV2"))
    yield _probe("EMBEDDING_LOOKUP", [T("int32", (2,)), T(dtype, (4, 4), value=0)], [T("float32", (2, 4))])
    yield _probe("EMBEDDING_LOOKUP", [T("int32", (2,)), T(dtype, (4, 4), value=0)], [T(dtype, (2, 4))])
    yield _probe(
        "EMBEDDING_LOOKUP", [T("int32", (2,)), T(dtype, (4, 4), value=0, scales=4)], [T("float32", (2, 4))]
    )
    yield _probe("SEGMENT_SUM", [x, T("int32", (4,), value=0)], [T(dtype, (1, 4))], option("SegmentSum"))
    for name in ("SUM", "PROD", "MIN", "MAX"):
        yield _probe(f"UNSORTED_SEGMENT_{name}", [x, T("int32", (4,), value=0), T("int32", (), value=1)],
                     [T(dtype, (1, 4))], option(f"UnsortedSegment{name.title()}"))  # fmt: skip


def _images(dtype: str) -> Iterator[Probe]:
    x = T(dtype, (1, 4, 4, 4))
    size = T("int32", (2,), value=(8, 8))
    yield _probe("RESIZE_BILINEAR", [x, size], [T(dtype, (1, 8, 8, 4))], option("ResizeBilinear"))
    yield _probe(
        "RESIZE_NEAREST_NEIGHBOR", [x, size], [T(dtype, (1, 8, 8, 4))], option("ResizeNearestNeighbor")
    )
    for name in ("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"):
        options = option("Pool2D", filterWidth=2, filterHeight=2, strideW=2, strideH=2, padding=1)
        yield _probe(name, [x], [T(dtype, (1, 2, 2, 4))], options)
    yield _probe("LOCAL_RESPONSE_NORMALIZATION", [x], [x],
                 option("LocalResponseNormalization", radius=1, bias=1.0, alpha=1.0, beta=0.5))  # fmt: skip
    yield _probe("PRELU", [x, T(dtype, (1, 1, 4), value=0)], [x])


def _layers() -> Iterator[Probe]:
    """Operators with weights: activations, weights, whether they have a scale a channel, bias."""
    dense = option("FullyConnected")
    conv = option("Conv2D", strideW=1, strideH=1, dilationWFactor=1, dilationHFactor=1)
    depth = option(
        "DepthwiseConv2D", strideW=1, strideH=1, dilationWFactor=1, dilationHFactor=1, depthMultiplier=1
    )
    back = option("TransposeConv", strideW=1, strideH=1)
    solid = option(
        "Conv3D", strideW=1, strideH=1, strideD=1, dilationDFactor=1, dilationWFactor=1, dilationHFactor=1
    )
    for activation in ("float32", "float16", "bfloat16", "int8", "uint8", "int16"):
        for weight in ("float32", "float16", "bfloat16", "int2", "int4", "int8", "uint8", "int16"):
            for scales in (1, 4):
                for constant in (0, None):
                    if scales > 1 and (weight not in QUANTIZED or constant is None):
                        continue
                    for bias in (None, "float32", "float16", "int32", "int64"):
                        yield from _layer(
                            activation, weight, scales, constant, bias, dense, conv, depth, back, solid
                        )


def _layer(activation: str, weight: str, scales: int, constant: Any, bias: str | None, dense: Any, conv: Any,
           depth: Any, back: Any, solid: Any) -> Iterator[Probe]:  # fmt: skip
    def weights(shape: tuple[int, ...], axis: int) -> T:
        return T(weight, shape, value=constant, scales=scales, axis=axis)

    def biases() -> T | None:
        return None if bias is None else T(bias, (4,), value=0)

    x, out = T(activation, (1, 4, 4, 4)), T(activation, (1, 4, 4, 4))
    flat = T(activation, (1, 4))
    yield _biased(_probe, "FULLY_CONNECTED", [flat, weights((4, 4), 0), biases()], [flat], dense, scales)
    yield _biased(_probe, "CONV_2D", [x, weights((4, 1, 1, 4), 0), biases()], [out], conv, scales)
    yield _biased(_probe, "DEPTHWISE_CONV_2D", [x, weights((1, 1, 1, 4), 3), biases()], [out], depth, scales)
    shape = T("int32", (4,), value=(1, 4, 4, 4))
    if bias is None:
        yield _probe("TRANSPOSE_CONV", [shape, weights((4, 1, 1, 4), 0), x], [out], back)
        if scales == 1:
            a = T(activation, (1, 4, 4))
            yield _probe("BATCH_MATMUL", [a, weights((1, 4, 4), 2)], [a], option("BatchMatMul"))
            x3 = T(activation, (1, 4, 4, 4, 4))
            yield _probe("CONV_3D", [x3, weights((1, 1, 1, 4, 4), 4)], [x3], solid)
            shape3 = T("int32", (5,), value=(1, 4, 4, 4, 4))
            yield _probe("CONV_3D_TRANSPOSE", [shape3, weights((1, 1, 1, 4, 4), 4), x3], [x3], solid)
    else:
        yield _biased(
            _probe, "TRANSPOSE_CONV", [shape, weights((4, 1, 1, 4), 0), x, biases()], [out], back, scales
        )


def _biased(
    make: Any, name: str, inputs: list[T | None], outputs: list[T], options: Any, scales: int
) -> Probe:
    """The bias of an integer layer has the scale of its input times that of its weights."""
    data, weights = inputs[2 if name == "TRANSPOSE_CONV" else 0], inputs[1]
    assert data is not None
    assert weights is not None
    last = inputs[-1]
    if last is not None and last.dtype in ("int32", "int64"):
        inputs = [*inputs[:-1], T(last.dtype, last.shape, last.value, scale=None)]
        return _with_bias_scale(name, inputs, outputs, options, scales)
    return make(name, inputs, outputs, options)  # type: ignore[no-any-return]


def _with_bias_scale(name: str, inputs: list[T | None], outputs: list[T], options: Any, scales: int) -> Probe:
    probe = _probe(name, inputs, outputs, options)
    b = Builder()
    b.model = schema.ModelT.InitFromPackedBuf(probe.data, 0)
    graph = b.model.subgraphs[0]
    bias = graph.tensors[graph.operators[0].inputs[-1]]
    bias.quantization = schema.QuantizationParametersT()
    bias.quantization.scale = [STEP * STEP] * scales
    bias.quantization.zeroPoint = [0] * scales
    return Probe(probe.key, b.bytes())


_RANKED = {
    **{name: (name, option(options) if options else None) for name, options in ARITHMETIC.items()},
    **{name: (name, None) for name in _COMPARE},
}


def ranks() -> Iterator[Probe]:
    """Operators with tensors of up to six dimensions."""
    for rank in range(7):
        shape = tuple([1, 2] * 4)[:rank]
        many = tuple([2] * rank)
        for dtype in ("float32", "int8", "int16", "int32"):
            x = T(dtype, shape)
            big = T(dtype, many)
            for name, (_, options) in _RANKED.items():
                out = T("bool", many) if name in _COMPARE else big
                same = T("bool", shape) if name in _COMPARE else x
                yield _ranked_probe(name, [x, x], [same], options)
                if rank:
                    yield _ranked_probe(name, [x, T(dtype, (), value=1)], [same], options)
                if rank > 1:
                    yield _ranked_probe(name, [x, big], [out], options)
            yield from _ranked(dtype, shape, rank)


def _ranked(dtype: str, shape: tuple[int, ...], rank: int) -> Iterator[Probe]:
    x = T(dtype, shape)

    def ints(values: Any) -> T:
        return T("int32", (len(values),), value=tuple(values))

    probe = _ranked_probe
    for name in _UNARY:
        chosen = _UNARY_OPTIONS.get(name)
        scale, zero = _FIXED_OUTPUT.get((name, dtype), (None, None))
        yield probe(name, [x], [T(dtype, shape, scale=scale, zero=zero)],
                    None if chosen is None else option(chosen[0], **chosen[1]))  # fmt: skip
    if not rank:
        return
    zeros, sizes = ints([0] * rank), ints(shape)
    yield probe("TRANSPOSE", [x, ints(range(rank)[::-1])], [T(dtype, shape[::-1])], option("Transpose"))
    yield probe("SLICE", [x, zeros, sizes], [x], option("Slice"))
    yield probe("STRIDED_SLICE", [x, zeros, sizes, ints([1] * rank)], [x], option("StridedSlice"))
    pairs = T("int32", (rank, 2), value=0)
    yield probe("PAD", [x, pairs], [x], option("Pad"))
    yield probe("PADV2", [x, pairs, T(dtype, (), value=0)], [x], option("PadV2"))
    yield probe("MIRROR_PAD", [x, pairs], [x], option("MirrorPad", mode=0))
    yield probe("TILE", [x, ints([1] * rank)], [x], option("Tile"))
    yield probe("BROADCAST_TO", [x, ints([2] * rank)], [T(dtype, (2,) * rank)])
    yield probe(
        "CONCATENATION", [x, x], [T(dtype, (2 * shape[0], *shape[1:]))], option("Concatenation", axis=0)
    )
    yield probe("PACK", [x, x], [T(dtype, (2, *shape))], option("Pack", axis=0, valuesCount=2))
    for name in REDUCE:
        yield probe(name, [x, ints([rank - 1])], [T(dtype, shape[:-1])], option("Reducer"))
        yield probe(name, [x, ints(range(rank))], [T(dtype, ())], option("Reducer"))
    condition = T("bool", shape)
    yield probe("SELECT_V2", [condition, x, x], [x], option("SelectV2"))
    yield probe(
        "SELECT_V2", [condition, T(dtype, (2,) * rank), x], [T(dtype, (2,) * rank)], option("SelectV2")
    )
    yield probe("GATHER", [x, ints([0])], [T(dtype, (1, *shape[1:]))], option("Gather", axis=0))
    yield probe("REVERSE_V2", [x, ints([0])], [x], option("ReverseV2"))
    yield probe("WHERE", [x], [T("int64", (1, rank))], option("Where"))
    yield probe("CUMSUM", [x, T("int32", (), value=0)], [x], option("Cumsum"))
    if rank > 1:
        yield probe("BATCH_MATMUL", [T(dtype, (2,) * rank), T(dtype, (2,) * rank)], [T(dtype, (2,) * rank)],
                    option("BatchMatMul"))  # fmt: skip
        weights = T("int8" if dtype == "int16" else dtype, (4, shape[-1]), value=0)
        yield probe("FULLY_CONNECTED", [x, weights], [T(dtype, (*shape[:-1], 4))],
                    option("FullyConnected", keepNumDims=True))  # fmt: skip
        yield probe("DYNAMIC_UPDATE_SLICE", [x, T(dtype, (1,) * rank), zeros], [x])
        yield probe("SPLIT", [T("int32", (), value=1), x], [T(dtype, (shape[0], 1, *shape[2:]))] * 2,
                    option("Split", numSplits=2))  # fmt: skip
        yield probe("UNPACK", [x], [T(dtype, (shape[0], *shape[2:]))] * 2, option("Unpack", axis=1, num=2))
