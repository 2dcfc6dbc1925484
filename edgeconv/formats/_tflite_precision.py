"""Tells the precision of a TFLite file from the element types of its tensors."""

from __future__ import annotations

from edgeconv.formats._tflite_model import Operator, Subgraph, TfliteModel

# Operators whose weights decide the precision, and which of their inputs are weights.
WEIGHTS: dict[str, tuple[int, ...]] = {
    "CONV_2D": (1,),
    "DEPTHWISE_CONV_2D": (1,),
    "TRANSPOSE_CONV": (1,),
    "CONV_3D": (1,),
    "CONV_3D_TRANSPOSE": (1,),
    "FULLY_CONNECTED": (1,),
    "BATCH_MATMUL": (0, 1),
    "SVDF": (1, 2),
    "RNN": (1, 2),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (1, 2),
    "BIDIRECTIONAL_SEQUENCE_RNN": (1, 2, 4, 5),
    "LSTM": tuple(range(1, 9)),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": tuple(range(1, 9)),
    "BIDIRECTIONAL_SEQUENCE_LSTM": tuple(range(1, 9)),
    "EMBEDDING_LOOKUP": (1,),
}
_DATA_INPUT = {"TRANSPOSE_CONV": 2, "CONV_3D_TRANSPOSE": 2, "BATCH_MATMUL": 0, "EMBEDDING_LOOKUP": None}
_NARROW = {"int8", "uint8", "int4", "int2", "uint4"}
_HALF = {"float16", "bfloat16"}


def precision_of(model: TfliteModel) -> str:
    """One of ``fp32``, ``fp16``, ``dynamic``, ``int8``, ``int16x8``, ``mixed``.

    Decided by the operators that multiply with weights: the types of their data and of their weights as
    stored, seen through a DEQUANTIZE. ``dynamic`` are float operators with integer weights, some of which
    a converter leaves in float because they are small. Files without such operators are judged by the
    types of all their tensors.
    """
    kinds: set[str] = set()
    for subgraph in model.subgraphs:
        producers = {
            output: operator
            for operator in subgraph.operators
            for output in operator.outputs
            if operator.name in ("DEQUANTIZE", "DENSIFY")
        }
        for operator in subgraph.operators:
            kind = _kind(operator, subgraph, producers)
            if kind is not None:
                kinds.add(kind)
    if not kinds:
        return _by_tensors(model)
    if len(kinds) == 1:
        return kinds.pop()
    for leading in ("dynamic", "fp16"):
        if kinds == {leading, "fp32"}:
            return leading
    return "mixed"


def _kind(operator: Operator, subgraph: Subgraph, producers: dict[int, Operator]) -> str | None:
    slots = WEIGHTS.get(operator.name)
    if slots is None:
        return None
    weights = set()
    for slot in slots:
        if slot < len(operator.inputs) and operator.inputs[slot] >= 0:
            stored = _stored_type(operator.inputs[slot], subgraph, producers)
            if stored is not None:
                weights.add(stored)
    if not weights:
        return None
    # The output says in which type it is computed; the data input of an embedding is an index.
    data_slot = _DATA_INPUT.get(operator.name, 0)
    indices = operator.outputs if data_slot is None else operator.inputs[data_slot : data_slot + 1]
    data = {subgraph.tensors[index].dtype for index in indices[:1] if index >= 0}
    if data <= {"float32"}:
        if weights & _NARROW:
            return "dynamic"
        return "fp16" if weights & _HALF else "fp32"
    if data <= _HALF:
        return "fp16"
    if data <= {"int16"}:
        return "int16x8"
    return "int8" if data <= _NARROW else None


def _stored_type(index: int, subgraph: Subgraph, producers: dict[int, Operator]) -> str | None:
    for _ in range(4):
        tensor = subgraph.tensors[index]
        if tensor.constant:
            return tensor.dtype
        producer = producers.get(index)
        if producer is None or not producer.inputs or producer.inputs[0] < 0:
            return None
        index = producer.inputs[0]
    return None


def _by_tensors(model: TfliteModel) -> str:
    types = {tensor.dtype for subgraph in model.subgraphs for tensor in subgraph.tensors}
    quantized = {tensor.dtype for subgraph in model.subgraphs for tensor in subgraph.tensors if tensor.scales}
    if quantized & {"int16"}:
        return "int16x8"
    if quantized & _NARROW:
        return "int8"
    return "fp16" if types & _HALF and "float32" not in types else "fp32"
