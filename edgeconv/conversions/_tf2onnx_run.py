"""tf2onnx itself, called on a small graph, its log turned into errors.

tf2onnx exits well with "Unsupported ops" in its log and a file that no runtime takes; here the finished
graph is looked through for ops that ONNX does not have.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeconv.errors import ConversionError

FRONT_END_OPS: dict[str, str] = {
    **dict.fromkeys(("DecodeWav", "AudioSpectrogram", "Mfcc", "DecodeAudio"), "decodes audio"),
    **dict.fromkeys(
        ("DecodeJpeg", "DecodePng", "DecodeImage", "DecodeBmp", "DecodeGif", "DecodeBase64", "DecodeRaw"),
        "decodes bytes",
    ),
    **dict.fromkeys(
        ("ParseExample", "ParseExampleV2", "ParseSingleExample", "ParseSequenceExample", "DecodeCSV"),
        "parses records",
    ),
    **dict.fromkeys(
        ("StringSplit", "StringSplitV2", "StringToHashBucketFast", "StringToHashBucket", "RegexReplace",
         "StaticRegexReplace", "StringJoin", "StringLower", "UnicodeDecodeWithOffsets", "Substr",
         "StringStrip", "StringLength"),
        "works on strings",
    ),
    **dict.fromkeys(
        ("HashTableV2", "LookupTableFindV2", "HashTable", "LookupTableFind"), "looks up a table",
    ),
    **dict.fromkeys(
        ("IteratorV2", "IteratorGetNext", "FIFOQueueV2", "QueueDequeueManyV2"), "reads a data set",
    ),
    **dict.fromkeys(("ReadFile", "WholeFileReaderV2", "MatchingFiles"), "reads files"),
}  # fmt: skip
"""Ops before the network proper, with what they do: no edge format has them."""


class UnsupportedOpsError(ConversionError):
    """Ops that have no ONNX counterpart; another route of tf2onnx does not help."""


@dataclass(frozen=True, slots=True)
class OnnxTarget:
    """What is asked of tf2onnx: the opset and whether its optimiser runs."""

    opset: int = 17
    optimise: bool = True


@contextmanager
def recorded_log() -> Iterator[list[str]]:
    """Errors that tf2onnx writes to its log meanwhile; nothing of it reaches the screen."""
    records: list[str] = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                text += f": {record.exc_info[1]}"
            records.append(text)

    logger = logging.getLogger("tf2onnx")
    handler = Recorder(level=logging.ERROR)
    propagate, level = logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    # tf2onnx asks its loggers by name for each message: a level on the parent silences them all.
    logger.setLevel(logging.ERROR)
    try:
        yield records
    finally:
        logger.removeHandler(handler)
        logger.propagate, logger.level = propagate, level


def convert_graph(
    graph: Any, inputs: Sequence[str], outputs: Sequence[str], target: OnnxTarget, path: Path
) -> Any:
    """The ONNX ModelProto of a GraphDef.

    Args:
        graph: GraphDef without calls; every placeholder of it is in ``inputs``.
        inputs: node names; each becomes a graph input ``NAME:0``.
        outputs: node names of identities; each becomes a graph output ``NAME:0``.
        target: opset and optimiser.
        path: where the graph came from, for messages.

    Raises:
        UnsupportedOpsError: ops without counterpart, all of them named.
        ConversionError: a handler of tf2onnx failed; the node is named.
    """
    import tensorflow
    from tf2onnx import optimizer, tf_loader, tfonnx, utils

    input_names = [f"{name}:0" for name in inputs]
    output_names = [f"{name}:0" for name in outputs]
    # tf2onnx numbers its new nodes by a counter of the process: from 1, so that a model has one outcome.
    utils.INTERNAL_NAME = 1
    with recorded_log() as log:
        try:
            with tensorflow.Graph().as_default(), tensorflow.device("/cpu:0"):
                optimised = tf_loader.tf_optimize(input_names, output_names, graph)
                with tensorflow.Graph().as_default() as imported:
                    tensorflow.import_graph_def(optimised, name="")
                    converted = tfonnx.process_tf_graph(
                        imported,
                        continue_on_error=True,
                        opset=target.opset,
                        input_names=input_names,
                        output_names=output_names,
                    )
                if target.optimise:
                    # Catching errors means a deep copy of the graph for each pass.
                    converted = optimizer.optimize_graph(converted, catch_errors=False)
                model = converted.make_model("frozen graph")
        except ConversionError:
            raise
        except Exception as error:
            raise _failure(log, error, path) from error
    refuse_unknown_ops(model, path, log)
    failed = [line for line in log if line.startswith("Failed to convert")]
    if failed:
        raise _failure(failed, None, path)
    return model


def convert_tflite(source: Path, target: OnnxTarget) -> Any:
    """The ONNX ModelProto of a TFLite file, its tensors named as in the file; raises as above."""
    import tensorflow
    from tf2onnx import optimizer, tfonnx, utils

    utils.INTERNAL_NAME = 1
    with recorded_log() as log:
        try:
            with tensorflow.Graph().as_default():
                converted = tfonnx.process_tf_graph(
                    None, continue_on_error=True, opset=target.opset, tflite_path=str(source)
                )
            if target.optimise:
                converted = optimizer.optimize_graph(converted, catch_errors=False)
            model = converted.make_model("tflite")
        except Exception as error:
            raise _failure(log, error, source) from error
    try:
        refuse_unknown_ops(model, source, log)
    except UnsupportedOpsError as error:
        hint = "convert the model that this TFLite file was made from, cut with --inputs or --outputs"
        raise UnsupportedOpsError(error.what, where=error.where, why=error.why, hint=hint) from error
    failed = [line for line in log if line.startswith("Failed to convert")]
    if failed:
        raise _failure(failed, None, source)
    return model


def refuse_unknown_ops(model: Any, path: Path, log: Sequence[str] = ()) -> None:
    """Raise UnsupportedOpsError if ``model`` has ops that ONNX does not have at its opset."""
    from onnx import defs

    opsets = {entry.domain: entry.version for entry in model.opset_import}
    unknown: dict[str, list[str]] = {}
    for node in all_nodes(model.graph):
        if node.domain in ("", "ai.onnx") and not defs.has(
            node.op_type, max_inclusive_version=opsets.get("", 1)
        ):
            unknown.setdefault(node.op_type, []).append(node.name)
    if not unknown:
        return
    listed = ", ".join(f"{op} ({names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''})"
                       for op, names in sorted(unknown.items()))  # fmt: skip
    last = _last_of_front_end(model.graph)
    if last is not None:
        hint = (
            f"{last.op_type} {FRONT_END_OPS[last.op_type]}, which belongs before the model: cut behind it "
            f"with --inputs {last.output[0]} and do that part outside"
        )
    elif any(op.startswith(("TensorList", "TensorArray")) for op in unknown):
        hint = (
            "lists of tensors can be had in loops of the usual form only: stack them into a tensor in the "
            "model, or cut that part out with --inputs or --outputs"
        )
    elif decoder := next(
        (n for n in all_nodes(model.graph) if n.op_type in unknown and n.op_type[:3] == "CTC"), None
    ):
        hint = (
            f"searching for the likeliest sequence is done behind the model: end it with "
            f"--outputs {decoder.input[0]} and decode that outside"
        )
    else:
        hint = "cut the part out with --inputs or --outputs, or try --to tflite"
    raise UnsupportedOpsError(
        f"ONNX has no counterpart for {listed}",
        where=str(path),
        why="; ".join(line[:200] for line in log if line.startswith("Failed to convert"))[:600] or None,
        hint=hint,
    )


def _last_of_front_end(graph: Any) -> Any | None:
    """The front end's node that feeds the network itself: where to cut."""
    front = [node for node in graph.node if node.op_type in FRONT_END_OPS]
    eaten = {name for node in front for name in node.input}
    return next((node for node in front if not eaten.intersection(node.output)), front[-1] if front else None)


def all_nodes(graph: Any) -> Iterator[Any]:
    """The nodes of an ONNX graph and of the graphs inside its nodes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from all_nodes(attribute.g)
            for inner in attribute.graphs:
                yield from all_nodes(inner)


def _failure(log: Sequence[str], error: Exception | None, path: Path) -> ConversionError:
    """The error for what tf2onnx logged and raised, with node and op picked out of it."""
    lines = [line for line in log if line.startswith(("Failed to convert", "pass1 convert failed"))] or list(
        log
    )
    said = " ".join(lines[0].split()) if lines else ""
    raised = f"{type(error).__name__}: {' '.join(str(error).split())}" if error is not None else ""
    node = (
        re.search(r"Failed to convert node '([^']+)'", said)
        or re.search(r'name: "([^"]+)"', said)
        or re.search(r"\{\{node ([^}]+)\}\}", raised)
    )
    op = (
        re.search(r"OP=(\w+)", said)
        or re.search(r'op: "(\w+)"', said)
        or re.search(r"\(op: ?'(\w+)'\)", raised)
        or re.search(r"Op type not registered '(\w+)'", raised)
    )
    cause = re.search(r"ex=(.*)$", said) or re.search(r"': (.*)$", said)
    if re.search(r"\bqu?int(?:8|16|32)\b", f"{said} {raised}"):
        return ConversionError(
            "the graph computes in the quantized types of TensorFlow 1 (quint8, qint32)",
            where=str(path),
            why="they come from its old graph transforms; ONNX has no such types",
            hint="convert the float32 graph from before that step, with --to onnx:int8 --calibration FILE",
        )
    what = f"tf2onnx could not convert the op {op.group(1)}" if op else "tf2onnx could not convert the graph"
    tensor = f"{node.group(1)}:0" if node else "TENSOR"
    return ConversionError(
        what,
        where=f"{path}, node {node.group(1)}" if node else str(path),
        why=(raised or (cause.group(1) if cause else said))[:400] or None,
        hint=f"cut before or behind it (--outputs or --inputs, its output is {tensor}), or try --to tflite",
    )
