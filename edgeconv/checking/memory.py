"""How much memory an artifact needs to run, estimated from the file alone.

Two parts, at batch one and with open dimensions counted as one:

- *weights*: the bytes of the constants. A runtime on an operating system holds them twice: as they lie in
  the file, and packed for its kernels (fp16 widened to fp32).
- *activations*: the tensors that are alive at the same time, at the op where they are most. A tensor lives
  from the op that makes it to the last one that reads it; inputs and variables live for the whole run,
  outputs from where they are made to its end. This is what the memory planners of TFLite and ONNX Runtime
  lay out; alignment and gaps between the tensors are not counted. What ONNX Runtime computes of constants
  alone, and the floats between a DequantizeLinear and a QuantizeLinear, which it fuses, are none.

``docs/targets.md`` has how near this comes to what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeconv.formats._onnx_graph import Constant, Graph
from edgeconv.formats._tflite_model import Subgraph
from edgeconv.formats._tflite_names import bytes_of


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """An estimate, in bytes.

    Attributes:
        weights: constants as they lie in the file.
        packed: the runtime's own copy of them.
        activations: the most that is alive at one op.
        unknown: how many tensors have no known size; they are left out of ``activations``.
    """

    weights: int
    packed: int
    activations: int
    unknown: int = 0

    @property
    def least(self) -> int:
        """What no runtime does without."""
        return self.weights + self.activations

    @property
    def total(self) -> int:
        """What it takes with the packed copy."""
        return self.weights + self.packed + self.activations


def memory_need(path: Path, format_name: str, precision: str | None) -> MemoryNeed | None:
    """The estimate for an artifact; ``None`` for a format that is not estimated.

    Raises:
        InvalidModelError: the file is truncated or corrupt.
    """
    estimate = _ESTIMATES.get(format_name)
    if estimate is None:
        return None
    weights, activations, unknown = estimate(path)
    # What is packed is what is computed with: a widened copy of half-precision weights.
    return MemoryNeed(weights, weights * (2 if precision == "fp16" else 1), activations, unknown)


def most_alive(steps: int, lives: Iterable[tuple[int, int, int]]) -> int:
    """The most bytes alive at one step.

    Args:
        steps: how many there are.
        lives: first step, last step (both included) and bytes of each tensor.

    >>> most_alive(3, [(0, 1, 10), (1, 2, 5), (2, 2, 20)])
    25
    """
    change = [0] * (steps + 2)
    for first, last, size in lives:
        change[first] += size
        change[last + 1] -= size
    alive = most = 0
    for step in change:
        alive += step
        most = max(most, alive)
    return most


Estimate = tuple[int, int, int]
"""Weights, activations, and how many tensors are of unknown size."""


def _tflite(path: Path) -> Estimate:
    from edgeconv.formats.tflite import load_tflite

    model = load_tflite(path)
    used = {tensor.buffer for subgraph in model.subgraphs for tensor in subgraph.tensors if tensor.constant}
    weights = sum(model.spans[buffer].length for buffer in used)
    sizes: dict[int, tuple[int, int]] = {}

    def of(index: int, above: frozenset[int]) -> tuple[int, int]:
        """Peak and unknown tensors of a subgraph; what it calls lives beside the op that calls."""
        if index in above:
            return 0, 0
        if index not in sizes:
            subgraph = model.subgraphs[index]
            sizes[index] = _subgraph(subgraph, lambda called: of(called, above | {index}))
        return sizes[index]

    roots = {signature.subgraph for signature in model.signatures} or {0}
    peaks = [of(index, frozenset()) for index in sorted(roots)]
    return weights, max(peak for peak, _ in peaks), sum(unknown for _, unknown in sizes.values())


def _subgraph(subgraph: Subgraph, called: Callable[[int], tuple[int, int]]) -> tuple[int, int]:
    steps = len(subgraph.operators)
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for step, operator in enumerate(subgraph.operators):
        for index in operator.outputs:
            first.setdefault(index, step)
            last[index] = step
        for index in operator.inputs:
            last[index] = step
    whole = {*subgraph.inputs, *(i for i, tensor in enumerate(subgraph.tensors) if tensor.variable)}
    lives, unknown = [], 0
    for index in {*first, *whole} - {-1}:
        tensor = subgraph.tensors[index]
        if tensor.constant:
            continue
        size = bytes_of(tensor.dtype, tensor.elements)
        if size is None or tensor.signature is None:
            unknown += 1
            continue
        begin = 0 if index in whole else first[index]
        end = steps if index in whole or index in subgraph.outputs else last.get(index, begin)
        lives.append((begin, end, size))
    for step, operator in enumerate(subgraph.operators):
        lives.extend((step, step, called(index)[0]) for index in operator.subgraphs)
    return most_alive(steps, lives), unknown


def _onnx(path: Path) -> Estimate:
    from edgeconv.formats._onnx_inference import at_batch_one
    from edgeconv.formats._onnx_model import all_tensors, load_model, plain_graph
    from edgeconv.formats._onnx_wire import ELEMENT_BITS

    model = load_model(path)
    weights = sum(
        (math.prod(tensor.dims) * ELEMENT_BITS.get(tensor.data_type, 8) + 7) // 8
        for tensor in all_tensors(model)
    )
    return weights, *_graph(plain_graph(at_batch_one(model).graph))


def _ort(path: Path) -> Estimate:
    from edgeconv.formats._ort_shapes import graph_at_batch_one
    from edgeconv.formats.ort import load_ort

    model = load_ort(path)
    weights = sum(_bytes(constant.dtype, constant.dims) or 0 for constant in _all_constants(model.graph))
    return weights, *_graph(graph_at_batch_one(model))


def _all_constants(graph: Graph) -> Iterator[Constant]:
    yield from graph.constants.values()
    for node in graph.nodes:
        for inner in node.subgraphs.values():
            yield from _all_constants(inner)


def _graph(graph: Graph) -> tuple[int, int]:
    """Peak of a graph of ONNX and how many of its tensors have no known size."""
    steps = len(graph.nodes)
    first: dict[str, int] = dict.fromkeys(graph.inputs, 0)
    last: dict[str, int] = dict.fromkeys(graph.inputs, steps)
    lives: list[tuple[int, int, int]] = []
    unknown = 0
    constant = {"", *graph.constants}
    for step, node in enumerate(graph.nodes):
        if node.inputs and not node.subgraphs and constant.issuperset(node.inputs):
            constant.update(node.outputs)
            continue
        for name in node.outputs:
            if name and name not in constant:
                first.setdefault(name, step)
                last.setdefault(name, step)
        for name in _read_by(node.inputs, node.subgraphs.values()):
            if name in first:
                last[name] = max(last[name], step)
        for inner in node.subgraphs.values():
            peak, missing = _graph(inner)
            lives.append((step, step, peak))
            unknown += missing
    for name in graph.outputs:
        if name in last:
            last[name] = steps
    fused = _fused(graph)
    for name, begin in first.items():
        if name in fused:
            continue
        dtype, dims = graph.types.get(name, ("", None))
        size = _bytes(dtype, dims)
        if size is None:
            unknown += 1
        else:
            lives.append((begin, last[name], size))
    return most_alive(steps, lives), unknown


def _fused(graph: Graph) -> set[str]:
    """Floats that exist only between integer tensors: ONNX Runtime computes such groups in integers."""
    readers: dict[str, set[str]] = {}
    for node in graph.nodes:
        for name in _read_by(node.inputs, node.subgraphs.values()):
            readers.setdefault(name, set()).add(node.op)
    found = {name for node in graph.nodes if node.op == "DequantizeLinear" for name in node.outputs}
    for node in graph.nodes:
        if found.intersection(node.inputs):
            found.update(name for name in node.outputs if readers.get(name) == {"QuantizeLinear"})
    return found - set(graph.outputs)


def _read_by(names: Sequence[str], bodies: Iterable[Graph]) -> Iterable[str]:
    """What a node reads, its bodies' nodes included: they see the tensors around them."""
    yield from names
    for body in bodies:
        yield from body.outputs
        for node in body.nodes:
            yield from _read_by(node.inputs, node.subgraphs.values())


def _bytes(dtype: str, dims: Sequence[int | None] | None) -> int | None:
    if dims is None or dtype in ("string", ""):
        return None
    return bytes_of(dtype, math.prod(1 if dimension is None else dimension for dimension in dims))


_ESTIMATES: dict[str, Callable[[Path], Estimate]] = {"tflite": _tflite, "onnx": _onnx, "ort": _ort}
