"""A frozen graph rewritten for one target: in ops that the converter to it takes.

The frozen graph itself stays as it is; the gate compares it with what is made of the rewritten one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.formats.graph_reading import split_reference
from edgeconv.surgery.changes import Change
from edgeconv.surgery.graph import Graph, full, short
from edgeconv.surgery.loops import CARRIES, without_loops


@dataclass(frozen=True, slots=True)
class TargetGraph:
    """A graph that was rewritten for a target.

    Attributes:
        data: serialized GraphDef.
        contract: its tensors are those of ``data``.
        changes: what was done, and as warnings what could not be; at least one.
        pinned: whether an open batch was pinned to 1.
    """

    data: bytes
    contract: Contract
    changes: tuple[Change, ...]
    pinned: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """The changes for a person."""
        return tuple(change.message for change in self.changes)

    @property
    def left(self) -> str | None:
        """What could not be rewritten and why, for the error that may follow."""
        return "; ".join(change.message for change in self.changes if change.warning) or None

    @property
    def effective(self) -> bool:
        """Whether anything was rewritten."""
        return any(not change.warning for change in self.changes)


_PER_BATCH = ("loops", "combined_nms")
"""Rewrites that may need to know the size of the batch."""


_REFUSED = {
    "tflite": (b"TensorArray", b"NonMaxSuppression"),
    "onnx first": (
        b"TensorArray",
        b"TensorList",
        b"AdjustSaturation",
        b"BiasAddV1",
        b"CropAndResize",
        b"FloorDiv",
        b"FloorMod",
        b"OneHot",
        b"ResizeArea",
        b"ResizeBicubic",
        b"Roll",
    ),
}


def needs_rewriting(data: bytes, target: str) -> bool:
    """Whether a serialized GraphDef may have what a target is known to refuse or to get wrong.

    TFLite's converter refuses all lists of TensorFlow 1, and makes of a suppression of boxes one that gives
    rows for boxes that were not kept. tf2onnx takes loops with lists, but ONNX Runtime was
    seen to load for minutes where the post-processing of a detector was a loop's body; and it computes
    something else for a few ops. ``target`` is ``tflite`` or ``onnx first``.
    """
    return any(name in data for name in _REFUSED[target])


def rewritten(data: bytes, contract: Contract, path: str, target: str) -> Iterator[TargetGraph]:
    """The graph in ops of ``target``, in the ways that it can be had, the best one first.

    ``target`` is ``tflite``, ``onnx``, ``onnx in float32`` (also of a graph in float64), or ``onnx first``:
    only what is rewritten before tf2onnx is tried, which are loops that go round once at most, maps over a
    batch, and ops that it gets wrong.

    Nothing comes where there is nothing to do. There is more than one way where a loop is left: it may become
    one with functions, or be written down for a batch of 1. A loop that goes over the samples of a batch one
    by one is better written down for one; one that carries a state from trip to trip goes over time, and
    keeps its open length as long as the converter takes it.
    """
    found = _attempt(data, contract, path, target)
    if not found.changes:
        return
    if target == "onnx first" or not _left(found):
        yield found
        return
    fixed = replace(
        contract,
        inputs=tuple(_pinned(s) for s in contract.inputs),
        outputs=tuple(_pinned(s) for s in contract.outputs),
    )
    pinnable = target == "tflite" and fixed.inputs != contract.inputs
    as_functions = _attempt(data, contract, path, target, functions=True)
    ways = [as_functions]
    if pinnable:
        ways.append(_said_pinned(_attempt(data, fixed, path, target, functions=True)))
        # Where the batch is 1, few loops are left to become functions: the third way may be the second.
        written_down = _said_pinned(_attempt(data, fixed, path, target))
        carries = any(change.rewrite == CARRIES for way in ways for change in way.changes)
        ways.insert(len(ways) if carries else 0, written_down)
    least = min(map(_left, ways))
    if least >= _left(found):
        # Whatever way was tried, the loop is left: this one says most about the reasons.
        yield as_functions
        return
    seen: set[bytes] = set()
    for way in ways:
        if _left(way) == least and way.data not in seen:
            seen.add(way.data)
            yield way


def _left(target: TargetGraph) -> int:
    """How much that may depend on the batch was left as it was."""
    return sum(change.warning and change.rewrite in _PER_BATCH for change in target.changes)


def _said_pinned(target: TargetGraph) -> TargetGraph:
    note = Change("loops", "the loop cannot have an open batch in TFLite: the batch is pinned to 1")
    return replace(target, changes=(note, *target.changes), pinned=True)


def _pinned(spec: TensorSpec) -> TensorSpec:
    return replace(spec, shape=(1, *spec.shape[1:])) if spec.shape and spec.shape[0] is None else spec


def _attempt(
    data: bytes, contract: Contract, path: str, target: str, *, functions: bool = False
) -> TargetGraph:
    from tensorflow.core.framework import graph_pb2

    graph_def = graph_pb2.GraphDef()
    graph_def.ParseFromString(data)
    outputs = [spec.inner_name for spec in contract.outputs]
    graph = Graph(graph_def, outputs=outputs, inputs=[s.inner_name for s in contract.inputs], path=path)
    inputs = [_given(graph, spec) for spec in contract.inputs]
    changes = [change for rewrite in _rewrites(target, functions) for change in rewrite(graph)]
    named = replace(
        contract,
        inputs=tuple(replace(s, tensor=full(t)) for s, t in zip(contract.inputs, inputs, strict=True)),
        outputs=tuple(
            replace(s, tensor=full(t)) for s, t in zip(contract.outputs, graph.outputs, strict=True)
        ),
    )
    return TargetGraph(bytes(graph_def.SerializeToString()), named, tuple(changes))


def _rewrites(target: str, functions: bool) -> list[Callable[[Graph], list[Change]]]:
    """The rewrites for a target, in their order; ``functions`` says whether loops may become such."""
    from edgeconv.surgery import (
        graph_case_to_if,
        graph_combined_nms,
        graph_decompose_complex,
        graph_unroll_functional,
    )
    from edgeconv.surgery import graph_decompose as decompose
    from edgeconv.surgery import graph_decompose_images as images
    from edgeconv.surgery import graph_decompose_layout as layout
    from edgeconv.surgery import graph_decompose_math as math
    from edgeconv.surgery import graph_decompose_recurrent as recurrent
    from edgeconv.surgery import graph_decompose_special as special
    from edgeconv.surgery import graph_float64_to_float32 as float64

    if target == "onnx first":
        table = images.WRONG_IN_ONNX | math.WRONG_IN_ONNX
        return [
            graph_unroll_functional.rewrite,
            lambda graph: without_loops(graph, most=1),
            lambda graph: decompose.rewrite(graph, table),
        ]
    tables = {
        "tflite": math.TFLITE | images.TFLITE | layout.TFLITE | recurrent.EVERYWHERE,
        "onnx": math.ONNX | images.ONNX | recurrent.EVERYWHERE,
    }
    chosen = tables[target.split()[0]]
    # Loops come before single ops: those inside of one can be taken apart once it is unrolled. The wide
    # floats are narrowed before ops are taken apart, since some formulas are those of float32.
    first = special.ONNX if target.startswith("onnx") else special.EVERYWHERE
    apart: list[Callable[[Graph], list[Change]]] = [
        graph_decompose_complex.rewrite,
        # What these are made of may have to be said in other ops again.
        lambda graph: decompose.rewrite(graph, first),
        lambda graph: decompose.rewrite(graph, chosen),
    ]
    rewrites: list[Callable[[Graph], list[Change]]] = [
        # Before loops: what is inside of their functions is chosen by number there, too.
        graph_case_to_if.rewrite,
        graph_combined_nms.rewrite,
        graph_unroll_functional.rewrite,
        lambda graph: without_loops(graph, functions=functions, inside=apart),
    ]
    if target != "onnx":
        rewrites.append(float64.rewrite)
    return [*rewrites, *apart]


def _given(graph: Graph, spec: TensorSpec) -> str:
    """Let an input be a placeholder of the shape that the contract says; returns the reference to it."""
    import tensorflow as tf

    reference = short(spec.inner_name)
    name, port = split_reference(reference)
    node = graph.nodes[name]
    dtype = tf.as_dtype(spec.dtype)
    shape = tf.TensorShape(spec.shape).as_proto()
    alone = all(split_reference(r)[1] in (0, None) for reader in graph.readers(name) for r in reader.input
                if split_reference(r)[0] == name)  # fmt: skip
    if port == 0 and alone:
        if node.op == "Placeholder":
            dtype = tf.as_dtype(node.attr["dtype"].type)
        graph.become(node, "Placeholder", (), dtype=dtype, shape=shape)
        return reference
    fresh = graph.add("Placeholder", f"{name}_{port}", (), dtype=dtype, shape=shape)
    graph.redirect(reference, fresh)
    graph.inputs = [fresh if each == name else each for each in graph.inputs]
    return fresh
