"""Frozen graph to TFLite by TensorFlow's converter, built-in ops only.

fp32 is the default way to a TFLite file (cheapest in time and memory); the other precisions here are what
is fallen back to when quantizing the fp32 file fails.

A graph that the converter refuses is rewritten for it (``_target_graph``) and tried again; one with lists of
tensors of TensorFlow 1, which it always refuses, is rewritten at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgeconv.conversions._target_graph import needs_rewriting, rewritten
from edgeconv.conversions._tflite_converter import Source, array_name, convert_to_tflite
from edgeconv.conversions.base import Conversion, ConversionJob, ConversionResult
from edgeconv.errors import ConversionError, UsageError
from edgeconv.formats.base import Contract
from edgeconv.formats.graph_reading import all_nodes
from edgeconv.runtimes.tensorflow_graph import read_graph

_LOST_OUTPUT = ("Graph does not contain node", "Invalid output index")
"""What the converter says where an output of its graph is gone once control flow was made functions."""


def convert(job: ConversionJob) -> ConversionResult:
    """Convert the GraphDef at ``job.source``; see :class:`ConversionJob`.

    Raises:
        UsageError: no contract, or no calibration samples where the precision needs some.
        ConversionError: see ``convert_to_tflite``.
    """
    contract = job.source.contract
    path = job.source.path
    if contract is None:
        raise UsageError(
            "a frozen graph does not say which tensors are its inputs and outputs",
            where=str(path),
            hint="name them with --inputs and --outputs; 'edgeconv inspect' ranks the likely ones",
        )
    data = binary_graph(path)
    refused: ConversionError | None = None
    if not needs_rewriting(data, "tflite"):
        try:
            return _converted(job, contract, data)
        except ConversionError as error:
            refused = error
    left = None
    for target in rewritten(data, contract, str(path), "tflite"):
        left = left or target.left
        if not target.effective:
            continue
        try:
            result = _converted(job, target.contract, target.data)
        except ConversionError as error:
            refused = error
            continue
        return replace(result, notes=(*target.notes, *result.notes))
    if refused is None:
        try:
            return _converted(job, contract, data)
        except ConversionError as error:
            refused = error
    if left:
        refused.why = f"{refused.why}; {left}" if refused.why else left
    if refused.hint and "--outputs TENSOR, the one that it takes" in refused.hint:
        refused.hint = refused.hint.replace("TENSOR, the one that it takes", _searched(data))
    raise refused


def _searched(data: bytes) -> str:
    """The tensor that a search for the likeliest sequence (CTC) takes: scores, [time, batch, classes]."""
    from tensorflow.core.framework import graph_pb2

    graph = graph_pb2.GraphDef()
    graph.ParseFromString(data)
    taken = [node.input[0] for node in graph.node if node.op.startswith("CTC") and node.input]
    return (taken[0] if ":" in taken[0] else f"{taken[0]}:0") if taken else "TENSOR, the one that it takes"


def _converted(job: ConversionJob, contract: Contract, data: bytes) -> ConversionResult:
    path = job.source.path

    def source(every_output: bool) -> Source:
        apart, identities = _apart(contract, every_output)
        return Source(str(path), apart, nodes_of=lambda: nodes_of(data), data=data + identities)

    try:
        return convert_to_tflite(job, source(every_output=False))
    except ConversionError as error:
        if not any(sign in (error.why or "") for sign in _LOST_OUTPUT):
            raise
    return convert_to_tflite(job, source(every_output=True))


def _apart(contract: Contract, every_output: bool) -> tuple[Contract, bytes]:
    """The contract with outputs that are inputs as tensors of their own, and the nodes that make them so.

    The converter does not take one tensor in both roles. Serialized graphs are joined by joining their bytes.
    It also loses an output that ends a loop or branch of TensorFlow 1, as it makes functions of those; so
    ``every_output`` can be put behind a node of its own.
    """
    import tensorflow as tf
    from tensorflow.core.framework import graph_pb2

    inputs = {array_name(spec) for spec in contract.inputs}
    added = graph_pb2.GraphDef()
    outputs = []
    for position, spec in enumerate(contract.outputs):
        if every_output or array_name(spec) in inputs:
            node = added.node.add(name=f"edgeconv_output_{position}", op="Identity")
            node.input.append(array_name(spec))
            node.attr["T"].type = tf.as_dtype(spec.dtype).as_datatype_enum
            spec = replace(spec, tensor=f"{node.name}:0")
        outputs.append(spec)
    return replace(contract, outputs=tuple(outputs)), added.SerializeToString()


def binary_graph(path: Path) -> bytes:
    """The GraphDef at ``path`` as binary bytes, parsed only where it is text.

    Raises:
        InvalidModelError: it is text, and no graph.
    """
    data = path.read_bytes()
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in data[:512]):
        return bytes(read_graph(path).SerializeToString())
    return data


def nodes_of(data: bytes) -> Mapping[str, Sequence[str]]:
    """Op type to the names of its nodes in a serialized GraphDef, those in functions included."""
    from tensorflow.core.framework import graph_pb2

    graph = graph_pb2.GraphDef()
    graph.ParseFromString(data)
    found: dict[str, list[str]] = {}
    for node in all_nodes(graph):
        found.setdefault(node.op, []).append(node.name)
    return found


CONVERSION = (
    Conversion(
        name="tflite_from_frozen_graph",
        source="frozen_graph",
        target="tflite",
        precisions=("fp32",),
        convert=convert,
        cost=1.0,
        preload=("tensorflow",),
        tools=("tensorflow",),
        options=(),
    ),
    Conversion(
        name="tflite_from_frozen_graph",
        source="frozen_graph",
        target="tflite",
        precisions=("fp16", "dynamic", "int8", "int16x8"),
        convert=convert,
        cost=5.0,
        preload=("tensorflow",),
        tools=("tensorflow",),
        options=(),
        needs_calibration=("int8", "int16x8"),
    ),
)
