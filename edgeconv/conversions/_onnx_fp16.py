"""Half precision for an ONNX model: weights and arithmetic in float16, inputs and outputs in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeconv.errors import ConversionError

LARGEST = 65504.0
"""Largest finite float16."""


def to_fp16(model: Any, path: Path) -> tuple[Any, list[str]]:
    """The model in half precision, and notes on what stayed in single.

    A weight beyond the range of float16 would become infinite, or be clipped and be silently another
    number: the nodes that take it stay in float32.

    Args:
        model: ModelProto in fp32, with its weights; changed.
        path: where it came from, for messages.

    Raises:
        ConversionError: the converter fails.
    """
    from onnxruntime.transformers import float16

    _leave_out_empty_inputs(model)
    kept: dict[str, list[str]] = {}
    too_large = _too_large(model)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
        for name in node.input:
            if name in too_large:
                kept.setdefault(name, []).append(node.name)
    try:
        converted = float16.convert_float_to_float16(
            model,
            keep_io_types=True,
            disable_shape_infer=model.ByteSize() > 1_900_000_000,
            node_block_list=sorted({name for names in kept.values() for name in names}),
        )
    except Exception as error:
        raise ConversionError(
            "the conversion to half precision failed",
            where=str(path),
            why=f"{type(error).__name__}: {str(error)[:400]}",
            hint="keep the model in fp32",
        ) from error
    _join_islands(converted)
    notes = [
        f"{', '.join(nodes)} stayed in float32: '{name}' reaches {too_large[name]:g}, beyond float16's 65504"
        for name, nodes in sorted(kept.items())
    ]
    return converted, notes


def _leave_out_empty_inputs(model: Any) -> None:
    """An empty ``roi`` or ``scales`` of a Resize is left out: behind a cast it would count as given."""
    empty = {tensor.name for tensor in model.graph.initializer if 0 in tensor.dims}
    for node in model.graph.node:
        if node.op_type == "Resize" and node.domain in ("", "ai.onnx"):
            for position in (1, 2):
                if len(node.input) > position and node.input[position] in empty:
                    node.input[position] = ""


def _join_islands(model: Any) -> None:
    """Between two nodes that stayed in single a value stays in single too: in half it might overflow."""
    from onnx import TensorProto

    single = {v.name for v in model.graph.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    wide: dict[str, str] = {}
    skips: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type != "Cast":
            continue
        to = next(a.i for a in node.attribute if a.name == "to")
        if to == TensorProto.FLOAT16 and node.input[0] in single:
            wide[node.output[0]] = node.input[0]
    for node in model.graph.node:
        narrow = node.op_type == "Cast" and node.input[0] in wide
        if narrow and next(a.i for a in node.attribute if a.name == "to") == TensorProto.FLOAT:
            skips[node.output[0]] = wide[node.input[0]]
    outputs = {value.name for value in model.graph.output}
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name in skips and name not in outputs:
                node.input[position] = skips[name]


def _too_large(model: Any) -> dict[str, float]:
    import numpy
    from onnx import TensorProto, numpy_helper

    found: dict[str, float] = {}
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        finite = values[numpy.isfinite(values)]
        largest = float(numpy.abs(finite).max()) if finite.size else 0.0
        if largest > LARGEST:
            found[tensor.name] = largest
    return found
