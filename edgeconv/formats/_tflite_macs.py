"""Counts the multiply-accumulates of a TFLite file at batch 1.

A free leading dimension is the batch and counts as 1. The file stores 1 for every free dimension, also
for one that is a multiple of the batch (behind a reshape), so such dimensions are worked out from the
shapes before them. A dimension that is free and no batch makes the count unknown.
"""

from __future__ import annotations

import math
import struct

from edgeconv.formats._tflite_model import Operator, Subgraph, TfliteModel

Dimensions = tuple[int | None, ...]

_RECURRENT = {
    "LSTM": False,
    "RNN": False,
    "SVDF": False,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": True,
    "UNIDIRECTIONAL_SEQUENCE_RNN": True,
    "BIDIRECTIONAL_SEQUENCE_LSTM": True,
    "BIDIRECTIONAL_SEQUENCE_RNN": True,
}
_SAME_SIZE = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH"}
_UNCOUNTED = {"STABLEHLO_CONVOLUTION", "STABLEHLO_DOT_GENERAL", "STABLEHLO_CUSTOM_CALL", "DELEGATE"}
_UNCOUNTED_FLEX = (
    "Conv",
    "DepthwiseConv",
    "FusedConv",
    "MatMul",
    "BatchMatMul",
    "SparseMatMul",
    "SparseTensorDense",
    "Einsum",
    "BlockLSTM",
    "LSTMBlock",
    "GRU",
    "CudnnRNN",
    "PartitionedCall",
    "StatefulPartitionedCall",
)


class UnknownMacsError(ValueError):
    """The count cannot be told; the message names the operator and why."""


def count_macs(model: TfliteModel, subgraph: int = 0) -> int:
    """Multiply-accumulates of one run of a subgraph at batch 1.

    Raises:
        UnknownMacsError: a shape, the rounds of a loop or an operator is not known.
    """
    total = _count(model, subgraph, {}, set())
    custom = sorted({one.name for _, one in model.operators() if one.name.startswith("custom:")})
    if not total and custom:
        # An accelerator's compiler packs the whole model into one custom op.
        raise UnknownMacsError(f"all the work may be within {', '.join(custom)}")
    return total


def _count(model: TfliteModel, index: int, done: dict[int, int], running: set[int]) -> int:
    if index in done:
        return done[index]
    if index in running:
        raise UnknownMacsError(f"subgraph {index} runs itself")
    running.add(index)
    subgraph = model.subgraphs[index]
    shapes = resolve_shapes(model, subgraph)
    total = 0
    for operator in subgraph.operators:
        called = [_count(model, one, done, running) for one in operator.subgraphs]
        if operator.name in ("WHILE", "STABLEHLO_WHILE"):
            total += sum(called) * _rounds(model, subgraph, operator) if any(called) else 0
        elif called:
            total += max(called)
        else:
            total += operator_macs(subgraph, operator, shapes)
    running.discard(index)
    done[index] = total
    return total


def operator_macs(subgraph: Subgraph, operator: Operator, shapes: list[Dimensions | None]) -> int:
    """Multiply-accumulates of one operator; 0 for those that do not multiply with weights.

    Raises:
        UnknownMacsError: a shape it hangs on is not known.
    """
    name = operator.name
    inputs, outputs = operator.inputs, operator.outputs

    def known(indices: tuple[int, ...], position: int) -> tuple[int, ...]:
        dimensions = shapes[indices[position]] if position < len(indices) and indices[position] >= 0 else None
        if dimensions is None or None in dimensions:
            raise UnknownMacsError(f"{name} has a shape that is not fixed")
        return tuple(dimension or 0 for dimension in dimensions)

    try:
        if name == "CONV_2D":
            return math.prod(known(outputs, 0)) * math.prod(known(inputs, 1)[1:])
        if name == "DEPTHWISE_CONV_2D":
            return math.prod(known(outputs, 0)) * math.prod(known(inputs, 1)[1:3])
        if name == "TRANSPOSE_CONV":
            weights = known(inputs, 1)
            return math.prod(known(inputs, 2)) * math.prod(weights[1:3]) * weights[0]
        if name == "CONV_3D":
            return math.prod(known(outputs, 0)) * math.prod(known(inputs, 1)[:4])
        if name == "CONV_3D_TRANSPOSE":
            return math.prod(known(inputs, 2)) * math.prod(known(inputs, 1)[:4])
        if name == "FULLY_CONNECTED":
            return math.prod(known(outputs, 0)) * known(inputs, 1)[-1]
        if name == "BATCH_MATMUL":
            transposed = operator.options is not None and operator.options.boolean(0)
            return math.prod(known(outputs, 0)) * known(inputs, 0)[-2 if transposed else -1]
        if name in _RECURRENT:
            return _recurrent_macs(subgraph, operator, known(inputs, 0))
    except IndexError:
        raise UnknownMacsError(f"{name} has tensors of an unexpected rank") from None
    if name in _UNCOUNTED or (name.startswith("flex:") and name[5:].startswith(_UNCOUNTED_FLEX)):
        raise UnknownMacsError(f"{name} cannot be counted")
    return 0


def _recurrent_macs(subgraph: Subgraph, operator: Operator, data: tuple[int, ...]) -> int:
    # Each step multiplies with every weight matrix once: the constant inputs of rank 2.
    # The basic LSTM cell has one matrix, between two states of rank 2.
    basic = operator.name == "LSTM" and len(operator.inputs) == 5
    weights = sum(
        tensor.elements
        for index in set(operator.inputs[2:3] if basic else operator.inputs[1:])
        if index >= 0 and len((tensor := subgraph.tensors[index]).shape) == 2 and not tensor.variable
    )
    if not _RECURRENT[operator.name]:
        return data[0] * weights
    return data[0] * data[1] * weights


def resolve_shapes(model: TfliteModel, subgraph: Subgraph) -> list[Dimensions | None]:
    """Shapes at batch 1 of all tensors of a subgraph; a dimension that cannot be told is ``None``."""
    shapes: list[Dimensions | None] = []
    for tensor in subgraph.tensors:
        signature = tensor.signature
        shapes.append(None if signature is None else tuple(None if d < 0 else d for d in signature))
    for index in subgraph.inputs:
        shapes[index] = _with_leading(shapes[index], 1)
    for operator in subgraph.operators:
        inputs = [index for index in operator.inputs if index >= 0]
        for output in operator.outputs:
            if output < 0:
                continue
            shape = shapes[output]
            if shape is not None and None in shape:
                shapes[output] = _resolved(model, subgraph, operator, shape, inputs, shapes)
    return shapes


def _resolved(
    model: TfliteModel,
    subgraph: Subgraph,
    operator: Operator,
    shape: Dimensions,
    inputs: list[int],
    shapes: list[Dimensions | None],
) -> Dimensions:
    source = shapes[inputs[0]] if inputs else None
    if operator.name in _SAME_SIZE:
        fixed = math.prod(dimension for dimension in shape if dimension is not None)
        if source is None or None in source or shape.count(None) != 1 or not fixed:
            return shape
        size = math.prod(dimension or 0 for dimension in source)
        return tuple(size // fixed if dimension is None else dimension for dimension in shape)
    if operator.name in ("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND") and len(inputs) > 1:
        blocks = math.prod(constant_integers(model, subgraph, inputs[1]) or (0,))
        if source and source[0] and blocks:
            leading = source[0] * blocks if operator.name.startswith("SPACE") else source[0] // blocks
            return _with_leading(shape, leading) or shape
        return shape
    for index in inputs:
        tensor, candidate = subgraph.tensors[index], shapes[index]
        if tensor.signature and tensor.signature[0] < 0 and candidate and candidate[0] is not None:
            return _with_leading(shape, candidate[0]) or shape
    return shape


def _with_leading(shape: Dimensions | None, leading: int) -> Dimensions | None:
    return (leading, *shape[1:]) if shape and shape[0] is None else shape


def constant_integers(model: TfliteModel, subgraph: Subgraph, index: int) -> tuple[int, ...] | None:
    """Values of a small constant integer tensor; ``None`` where it is none."""
    tensor = subgraph.tensors[index]
    kind = {"int32": "i", "int64": "q"}.get(tensor.dtype)
    if not tensor.constant or kind is None or tensor.elements > 64:
        return None
    content = model.content(tensor.buffer)
    if len(content) != tensor.elements * struct.calcsize("<" + kind):
        return None
    return struct.unpack(f"<{tensor.elements}{kind}", content)


def _rounds(model: TfliteModel, subgraph: Subgraph, loop: Operator) -> int:
    """Rounds of a counting loop: a counter that grows by 1 from a constant is less than a constant limit.

    Raises:
        UnknownMacsError: the condition or the counter is something else.
    """
    condition = model.subgraphs[loop.subgraphs[0]]
    rounds = []
    for compare in condition.operators:
        if compare.name == "LESS" and len(compare.inputs) == 2:
            counter, limit = compare.inputs
            begin = _loop_value(model, subgraph, loop, counter, step=1)
            end = _loop_value(model, subgraph, loop, limit, step=0)
            if begin is not None and end is not None and end >= begin:
                rounds.append(end - begin)
        elif compare.name not in ("LOGICAL_AND", "RESHAPE"):
            raise UnknownMacsError(f"the rounds of a {loop.name} hang on {compare.name}")
    if not rounds:
        raise UnknownMacsError(f"the rounds of a {loop.name} are not constant")
    return min(rounds)


def _loop_value(model: TfliteModel, subgraph: Subgraph, loop: Operator, index: int, step: int) -> int | None:
    """What a tensor of the condition is before the first round, where each round adds ``step`` to it."""
    condition, body = (model.subgraphs[one] for one in loop.subgraphs[:2])
    if index < 0:
        return None
    if index not in condition.inputs:
        return None if step else _single(constant_integers(model, condition, index))
    position = condition.inputs.index(index)
    if position >= min(len(loop.inputs), len(body.inputs), len(body.outputs)) or loop.inputs[position] < 0:
        return None
    before, after = body.inputs[position], body.outputs[position]
    if step:
        grown = any(
            operator.name == "ADD"
            and after in operator.outputs
            and before in operator.inputs
            and any(
                one >= 0 and _single(constant_integers(model, body, one)) == step for one in operator.inputs
            )
            for operator in body.operators
        )
        if not grown:
            return None
    elif before != after:
        return None
    return _single(constant_integers(model, subgraph, loop.inputs[position]))


def _single(values: tuple[int, ...] | None) -> int | None:
    return values[0] if values is not None and len(values) == 1 else None
