"""What the TFLite converter says when it refuses, in words that a person can act on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from edgeconv.errors import ConversionError

_REFUSED = re.compile(r"'tf\.(\w+)' op|failed to legalize operation 'tf\.(\w+)'|tf\.(\w+)\(tensor")
_FRONT_END = {
    "DecodeWav", "AudioSpectrogram", "Mfcc", "DecodeJpeg", "DecodePng", "DecodeBmp", "DecodeGif",
    "DecodeImage", "DecodeBase64", "DecodeRaw", "ParseExample", "ParseExampleV2", "ParseSingleExample",
    "DecodeAndCropJpeg",
}  # fmt: skip
_STRING = {
    "StringSplit", "StringSplitV2", "StringToNumber", "StringToHashBucketFast", "StringJoin", "AsString",
    "RegexReplace", "StaticRegexReplace", "StringLower", "StringToHashBucket", "StringToHashBucketStrong",
    "UnicodeDecode", "Substr", "ReduceJoin", "DecodeCSV",
}  # fmt: skip
_LISTS = {
    "TensorListReserve",
    "TensorListFromTensor",
    "TensorListStack",
    "TensorListSetItem",
    "TensorListGetItem",
}
_QUEUES = {
    "FIFOQueueV2",
    "QueueDequeueV2",
    "QueueDequeueManyV2",
    "IteratorV2",
    "IteratorGetNext",
    "OneShotIterator",
}


_SIZES = {"ResizeBicubic", "ResizeArea", "ExtractImagePatches", "MaxPoolWithArgmax", "CropAndResize"} | {
    "MaxPool3D", "AvgPool3D", "Cumprod",
}  # fmt: skip
"""Ops that are said in others where all sizes are known."""
_CTC = {"CTCBeamSearchDecoder", "CTCGreedyDecoder", "CTCBeamSearchDecoderV2"}
_QUANTIZED = re.compile(r"!tf_type\.q(?:u?int)|\bDT_QU?INT|\bqu?int(?:8|16|32)\b")
_ODD_TYPES = {
    "f64": "float64",
    "f16": "float16",
    "bf16": "bfloat16",
    "ui16": "uint16",
    "ui32": "uint32",
    "ui64": "uint64",
    "complex<f32>": "complex64",
    "complex<f64>": "complex128",
}
_MARKS = re.compile(
    r"<unknown>:\d+: |(?:error|note): |loc\(.*?\): (?=')|Could not translate MLIR to FlatBuffer\."
)
_SAYS_NOTHING = re.compile(
    "neither a custom op nor a flex op|see current operation|Error code: |failed while converting|"
    "Some ops are not supported|See instructions|TF Select ops|^Details:$|called from$"
)

_INNOCENT = {"Const", "Placeholder", "Identity", "NoOp"}
"""Ops that the converter names along with the one that it means."""


class RefusedError(Exception):
    """The converter refused.

    Args:
        text: what it printed.
        collected: error code, op name and location of each error that it collected.
    """

    def __init__(self, text: str, collected: Sequence[tuple[str, str, str]] = ()) -> None:
        super().__init__(text)
        self.text = text
        self.collected = tuple(collected)

    @property
    def ops(self) -> dict[str, str]:
        """Op type to the node that was named first, or empty text."""
        found: dict[str, str] = {}
        for _, op, node in self.collected:
            name = op.removeprefix("tf.")
            if op.startswith("tf.") and name not in _INNOCENT and not found.get(name):
                found[name] = node
        if not found:
            for groups in _REFUSED.findall(self.text):
                found.setdefault(next(group for group in groups if group), "")
        return found

    @property
    def needs_static_batch(self) -> bool:
        """Whether a fixed batch may be all that is missing (lists of tensors of a recurrent layer)."""
        return "element_shape" in self.text or bool(_LISTS & set(self.ops))


def refusals() -> list[tuple[str, str, str]]:
    """Take the errors that the converter collected: code, op, node. Empty where it collected none."""
    from tensorflow.compiler.mlir.lite.metrics import converter_error_data_pb2
    from tensorflow.lite.python.metrics.wrapper import metrics_wrapper

    codes = converter_error_data_pb2.ConverterErrorData.ErrorCode
    collected = []
    for error in metrics_wrapper.retrieve_collected_errors():
        calls = [call.name for call in error.location.call if call.name]
        # Inside of functions the converter writes NODE@FUNCTION.
        node = calls[0].split("@")[0] if calls else ""
        collected.append((codes.Name(error.error_code), error.operator.name, node))
    return collected


def diagnosed(refusal: RefusedError, path: str, nodes_of: Mapping[str, Sequence[str]]) -> ConversionError:
    """The refusal as an error that names each op with a node of it, and the way out."""
    ops = refusal.ops
    named = {op: node or (nodes_of.get(op) or [""])[0] for op, node in ops.items()}
    reason = " ".join(refusal.text.split())
    if _QUANTIZED.search(refusal.text) or any(op.startswith("Quantized") for op in named):
        return ConversionError(
            "the graph computes in the quantized types of TensorFlow 1 (quint8, qint32)",
            where=path,
            why="they come from its old graph transforms; TFLite has other ops for that",
            hint="convert the float32 graph from before that step, with --to tflite:int8 --calibration FILE",
        )
    if not named:
        return ConversionError(
            "the TFLite converter refused the model",
            where=path,
            why=reason[:400],
            hint="convert to ONNX instead, or cut the model with --inputs or --outputs",
        )
    listed = ", ".join(f"{op} ('{node}')" if node else op for op, node in sorted(named.items()))
    what = "op without a built-in TFLite kernel" if len(named) == 1 else "ops without built-in TFLite kernels"
    why, hint = _way_out(set(named), refusal)
    return ConversionError(f"{what}: {listed}", where=path, why=why or _gist(refusal.text), hint=hint)


def _gist(text: str) -> str | None:
    """What the compiler says beyond that an op has no kernel, without its marks; ``None`` if nothing."""
    lines = [_MARKS.sub("", line).strip() for line in text.splitlines()]
    said = [line for line in lines if line and not _SAYS_NOTHING.search(line)]
    return said[0][:300] if said else None


def _odd_type(ops: set[str], text: str) -> str | None:
    """The element type that most TFLite kernels lack, where each of the ops is refused for it."""
    for code, name in _ODD_TYPES.items():
        if all(re.search(rf'"tf\.{re.escape(op)}"\(.*[<x]{code}>', text) for op in ops):
            return name
    return None


def _way_out(ops: set[str], refusal: RefusedError) -> tuple[str, str]:
    if ops & _FRONT_END:
        return (
            "decoding and audio front ends exist in TensorFlow alone",
            "cut behind them with --inputs TENSOR and do that part before the model",
        )
    if any(op.startswith("TensorArray") for op in ops):
        return (
            "this is a loop of TensorFlow 1 (TensorArray) that could not be unrolled",
            "fix what its length depends on with --shape NAME=1,… (batch and time), or convert to ONNX",
        )
    if ops & _LISTS or refusal.needs_static_batch:
        return (
            "a recurrent layer or loop keeps a list of tensors whose shape is not fixed",
            "fix all dimensions with --shape NAME=1,… (batch and time)",
        )
    if ops & _QUEUES:
        return (
            "the model reads its input from a queue or iterator",
            "name the tensor behind it with --inputs TENSOR",
        )
    if ops & _CTC:
        return (
            "it searches for the likeliest sequence, which is done behind the model",
            "end the model before it: --outputs TENSOR, the one that it takes; decode its result outside",
        )
    if ops & _SIZES:
        return (
            "it can be said in ops that TFLite has only where all sizes of what it takes are known",
            "fix them with --shape NAME=1,…",
        )
    if ops & _STRING or any(op.startswith(("String", "LookupTable", "HashTable")) for op in ops):
        return (
            "TFLite has next to no ops on strings and tables",
            "cut behind them with --inputs TENSOR and do that part before the model",
        )
    if ops & {"VariableV2", "Variable"}:
        return (
            "straight from the SavedModel, variables of TensorFlow 1 cannot be converted",
            "this way is only taken where the one over the frozen graph failed: see what that says",
        )
    if any(re.search(rf"tf\.{op}\([^)]*string", refusal.text) for op in ops):
        return (
            "it works on strings here, and TFLite has next to no ops on strings",
            "cut behind them with --inputs TENSOR and do that part before the model",
        )
    odd = _odd_type(ops, refusal.text)
    if odd is not None:
        return (
            f"they work on {odd} here, for which TFLite has no kernels"
            if len(ops) > 1
            else f"it works on {odd} here, for which TFLite has no kernel",
            "compute with the real and imaginary parts as floats, or cut that part off: --inputs or --outputs"
            if odd.startswith("complex")
            else "build the model in float32 and export it again"
            + (", or convert to ONNX, which has float64" if odd == "float64" else ""),
        )
    return (
        "",
        "replace the op by built-in ones, cut it off with --inputs or --outputs, or convert to ONNX",
    )
