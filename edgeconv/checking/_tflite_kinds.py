"""What a kernel can refuse an operator by, in words that the measured tables have as keys.

``tools/tflite_probes.py`` makes a file for each key, and the checker asks the tables for the keys of an
artifact's operators. Both take them from here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from edgeconv.formats._tflite_model import Operator, Subgraph, Tensor, TfliteModel

WEIGHTS = {
    "FULLY_CONNECTED": 1, "CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "TRANSPOSE_CONV": 1, "BATCH_MATMUL": 1,
    "CONV_3D": 1, "CONV_3D_TRANSPOSE": 1, "EMBEDDING_LOOKUP": 1, "DEQUANTIZE": 0,
}  # fmt: skip
"""Operators with weights, and which input these are: kernels ask whether they are constant and how scaled."""

ALIKE = frozenset({"CONCATENATION", "PACK", "ADD_N"})
"""Operators with any number of inputs, all of one type."""

PARTS = frozenset({"SPLIT", "SPLIT_V", "UNPACK"})
"""Operators with any number of outputs, all of one type."""

BINARY = frozenset(
    {"ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "FLOOR_DIV", "FLOOR_MOD", "POW", "ATAN2",
     "SELECT_V2", "SQUARED_DIFFERENCE", "BITWISE_XOR", "RIGHT_SHIFT", "EQUAL", "NOT_EQUAL", "LESS",
     "LESS_EQUAL", "GREATER", "GREATER_EQUAL"}
)  # fmt: skip
"""Operators whose operands may differ in shape."""

REDUCTIONS = frozenset({"SUM", "MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ANY", "REDUCE_ALL"})

_DATA = {
    "SPLIT": 1,
    "SELECT": 1,
    "SELECT_V2": 1,
    "TRANSPOSE_CONV": 2,
    "CONV_3D_TRANSPOSE": 2,
    "EMBEDDING_LOOKUP": 1,
}
"""Which input has the data, where it is not the first."""

RESCALED = "rescaled"
UNUSED = "of which nothing reads"
FROM_FLOAT16 = "with float16 weights"
FLOAT16_ALONE = "with float16 weights and no float16 bias"
OTHER_RANK = "into another number of dimensions"
NEVER_ASSIGNED = "of what nothing assigned"
MANY_SCALARS = "by one of many scalars"


@dataclass(frozen=True, slots=True)
class Keyed:
    """An operator with what it can be refused by."""

    subgraph: int
    position: int
    operator: Operator
    keys: tuple[str, ...]


def keyed(model: TfliteModel) -> Iterator[Keyed]:
    """Every operator with its keys: element types, dimensions, and forms that some release stumbles over."""
    assigned = any(operator.name == "ASSIGN_VARIABLE" for _, operator in model.operators())
    for number, subgraph in enumerate(model.subgraphs):
        readers: Counter[int] = Counter(subgraph.outputs)
        for operator in subgraph.operators:
            readers.update(operator.inputs)
        scalars = _many_scalars(subgraph)
        makers = {index: operator for operator in subgraph.operators for index in operator.outputs}
        for position, operator in enumerate(subgraph.operators):
            keys = [_kind(operator, subgraph), *_dimensions(operator, subgraph)]
            keys += _forms(operator, subgraph, readers, makers)
            if operator.name == "READ_VARIABLE" and not assigned:
                keys.append(f"{operator.name} {NEVER_ASSIGNED}")
            if position in scalars:
                keys.append(f"{operator.name} {_data(operator, subgraph).dtype} {MANY_SCALARS}")
            yield Keyed(number, position, operator, tuple(keys))


def _tensor(subgraph: Subgraph, index: int) -> Tensor | None:
    return subgraph.tensors[index] if index >= 0 else None


def _data(operator: Operator, subgraph: Subgraph) -> Tensor:
    """The input that an operator works on; its first output where it has none."""
    place = _DATA.get(operator.name, 0)
    if place < len(operator.inputs) and operator.inputs[place] >= 0:
        return subgraph.tensors[operator.inputs[place]]
    return subgraph.tensors[operator.outputs[0]]


def _kind(operator: Operator, subgraph: Subgraph) -> str:
    """Its name with the types of its tensors.

    ``DIV int8,int8>int8``; ``FULLY_CONNECTED float32,int8*,->float32`` has weights with a scale a channel and
    no bias; ``?`` stands behind weights that are no constant.
    """
    said = []
    for position, index in enumerate(operator.inputs):
        tensor = _tensor(subgraph, index)
        if tensor is None:
            said.append("-")
        elif position == WEIGHTS.get(operator.name):
            said.append(tensor.dtype + ("" if tensor.constant else "?") + ("*" if tensor.scales > 1 else ""))
        else:
            said.append(tensor.dtype)
    if operator.name in ALIKE:
        said = said[:1]
    outputs = operator.outputs[:1] if operator.name in PARTS else operator.outputs
    given = [tensor.dtype for index in outputs if (tensor := _tensor(subgraph, index)) is not None]
    return f"{operator.name} {','.join(said)}>{','.join(given)}"


def _dimensions(operator: Operator, subgraph: Subgraph) -> Iterator[str]:
    """``ADD float32 5d broadcast``: type and number of dimensions, and how the operands fit together."""
    tensors = [subgraph.tensors[index] for index in (*operator.inputs, *operator.outputs) if index >= 0]
    if not operator.outputs or not tensors:
        return
    data = _data(operator, subgraph)
    if operator.name in BINARY:
        operands = [subgraph.tensors[index] for index in operator.inputs if index >= 0]
        rank = max(len(tensor.shape) for tensor in operands)
        begin = f"{operator.name} {data.dtype} {rank}d"
        if len({tensor.shape for tensor in operands}) == 1:
            yield f"{begin} same"
        elif any(not tensor.shape for tensor in operands):
            yield f"{begin} scalar"
        else:
            yield f"{begin} broadcast"
    elif operator.name in REDUCTIONS:
        whole = subgraph.tensors[operator.outputs[0]].elements == 1
        yield f"{operator.name} {data.dtype} {len(data.shape)}d" + (" all" if whole else "")
    else:
        yield f"{operator.name} {data.dtype} {len(data.shape)}d"


def _forms(
    operator: Operator, subgraph: Subgraph, readers: Counter[int], makers: dict[int, Operator]
) -> Iterator[str]:
    if not any(index >= 0 for index in (*operator.inputs, *operator.outputs)):
        return  # CALL_ONCE has no tensors at all
    data = _data(operator, subgraph)
    if data.scales == 1 and operator.outputs and operator.outputs[0] >= 0:
        output = subgraph.tensors[operator.outputs[0]]
        before, after = data.quantization(), output.quantization()
        same_type = output.dtype == data.dtype
        if same_type and before is not None and after is not None and before.scale[0] != after.scale[0]:
            yield f"{operator.name} {data.dtype} {RESCALED}"
    unread = [str(i) for i, index in enumerate(operator.outputs) if not readers[index]]
    if operator.name in PARTS and unread:
        yield f"{operator.name} {data.dtype} into {len(operator.outputs)} {UNUSED} {' '.join(unread)}"
    place = WEIGHTS.get(operator.name)
    if place is not None and _widened(operator, place, subgraph, makers):
        biased = _widened(operator, place + 1, subgraph, makers)
        yield f"{operator.name} {data.dtype} {FROM_FLOAT16 if biased else FLOAT16_ALONE}"
    sizes = [len(subgraph.tensors[index].shape) for index in operator.outputs[:1] if index >= 0]
    if operator.name == "STRIDED_SLICE" and sizes != [len(data.shape)]:
        # XNNPACK takes slices of more dimensions than the kernel does, but none that drops or adds one.
        yield f"{operator.name} {data.dtype} {len(data.shape)}d {OTHER_RANK}"


def _widened(operator: Operator, place: int, subgraph: Subgraph, makers: dict[int, Operator]) -> bool:
    """Whether an input is a constant in float16 that is made float32 beside the operator."""
    maker = makers.get(operator.inputs[place]) if place < len(operator.inputs) else None
    if maker is None or maker.name != "DEQUANTIZE":
        return False
    stored = subgraph.tensors[maker.inputs[0]]
    return stored.constant and stored.dtype == "float16"


def _many_scalars(subgraph: Subgraph) -> frozenset[int]:
    """Positions from which on half of ten operators compute with a quantized scalar constant.

    XNNPACK of one release writes beyond its memory when such an operator comes as its table of values is
    full. Where that is cannot be told from the file; where every other operator is one, it is met.
    """
    found = [position for position, one in enumerate(subgraph.operators) if _is_by_scalar(one, subgraph)]
    dense = (
        position
        for number, position in enumerate(found)
        if len(found) > number + 4 and found[number + 4] < position + 10 <= len(subgraph.operators)
    )
    return frozenset(dense)


def _is_by_scalar(operator: Operator, subgraph: Subgraph) -> bool:
    if operator.name not in ("ADD", "SUB", "MUL"):
        return False
    operands = [subgraph.tensors[index] for index in operator.inputs if index >= 0]
    return any(tensor.constant and not tensor.shape and tensor.scales == 1 for tensor in operands)
