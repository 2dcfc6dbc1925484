"""Complex numbers as pairs of real ones: Fourier transforms and what is made of them.

before:  frames ─▶ RFFT(512) ─▶ ComplexAbs ─▶ MatMul
after:   frames ─▶ MatMul(cos), MatMul(-sin) ─▶ Square, Square ─▶ Add ─▶ Sqrt ─▶ MatMul

A discrete Fourier transform of known length is a product with a matrix: X[k] = Σ x[t] (cos θkt - i sin θkt),
θ = 2π/n (definition; the inverse has the other sign and is divided by n). Either all complex tensors that are
computed from another are taken apart, or none: one that is left would need the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgeconv.surgery.changes import Change
from edgeconv.surgery.graph import Graph, set_attribute, short
from edgeconv.surgery.graph_decompose import NotHere, spliced, value_of
from edgeconv.surgery.graph_loops_emitter import Emitter
from edgeconv.surgery.graph_loops_frames import Frames

NAME = "complex numbers"
_LONGEST = 4096
"""A longer transform is a matrix of more than 64 MB."""

_EACH_PART = frozenset(
    {"Identity", "Reshape", "Transpose", "StridedSlice", "Slice", "ConcatV2", "Pack", "Unpack", "Split",
     "SplitV", "ExpandDims", "Squeeze", "GatherV2", "GatherNd", "Pad", "PadV2", "ReverseV2", "Tile", "Sum",
     "Mean", "AddN", "Add", "AddV2", "Sub", "Neg", "ZerosLike", "Fill", "BroadcastTo", "SelectV2", "Select",
     "Roll", "Cumsum", "StopGradient", "EnsureShape"}
)  # fmt: skip
"""Ops that do with a complex tensor what they do with its real and with its imaginary part."""

Value = Any
"""A ``tf.Tensor`` of real numbers, or a pair of such."""


def rewrite(graph: Graph) -> list[Change]:
    """Take the complex tensors of ``graph`` apart.

    Returns:
        What was done, or as a warning which op is in the way.
    """
    import tensorflow as tf

    if not any(_names_complex(node) for node in graph.graph_def.node):
        return []
    graph.prune()
    frames, emitter = Frames(graph), Emitter(graph)
    todo: list[str] = []
    for name in frames.order:
        node = graph.nodes[name]
        given = any(emitter.dtype(r) == tf.complex64 for r in graph.data_inputs(node))
        if not given and not (_names_complex(node) and _gives_complex(node)):
            continue
        if name in frames.path_of or (node.op not in _RULES and node.op not in (*_EACH_PART, "Const")):
            return [Change(NAME, f"'{name}' ({node.op}) works on complex numbers", warning=True)]
        todo.append(name)
    if any(emitter.dtype(output) == tf.complex64 for output in graph.outputs):
        return [Change(NAME, "an output of the graph is complex", warning=True)]
    pairs: dict[str, tuple[str, str]] = {}
    redirected: list[tuple[str, str]] = []
    for name in todo:
        try:
            _take_apart(graph, emitter, graph.nodes[name], pairs, redirected)
        except NotHere as reason:
            graph.prune()
            return [Change(NAME, f"'{name}' ({graph.nodes[name].op}) needs {reason}", warning=True)]
    for old, new in redirected:
        graph.redirect(old, new)
    graph.prune()
    return [Change(NAME, f"complex numbers became pairs of real ones, in {len(todo)} nodes")] if todo else []


def _names_complex(node: Any) -> bool:
    from tensorflow.core.framework import types_pb2

    return node.op in _FOURIER or any(value.type == types_pb2.DT_COMPLEX64 for value in node.attr.values())


def _gives_complex(node: Any) -> bool:
    import tensorflow as tf

    from edgeconv.surgery.graph_loops_emitter import output_types

    return tf.complex64 in output_types(node)


def _take_apart(
    graph: Graph,
    emitter: Emitter,
    node: Any,
    pairs: dict[str, tuple[str, str]],
    redirected: list[tuple[str, str]],
) -> None:
    import tensorflow as tf

    from edgeconv.surgery.graph_loops_emitter import output_types

    types = output_types(node)
    ends = [short(f"{node.name}:{port}") for port in range(len(types))]
    known = [emitter.value(end) for end in ends]
    if all(value is not None and dtype == tf.complex64 for value, dtype in zip(known, types, strict=True)):
        for end, value in zip(ends, known, strict=True):
            assert value is not None
            pairs[end] = emitter.constant(value.real), emitter.constant(value.imag)
        return
    if node.op == "Const":
        raise NotHere("fewer elements")
    references: list[str] = []
    paired: list[bool] = []
    for reference in graph.data_inputs(node):
        paired.append(reference in pairs)
        references += pairs.get(reference, (reference,))

    def build(inputs: Sequence[Any]) -> list[Any]:
        given = iter(inputs)
        values = [(next(given), next(given)) if pair else next(given) for pair in paired]
        outputs = _each_part(node, values) if node.op in _EACH_PART else _RULES[node.op](node, values)
        return [part for output in outputs for part in (output if isinstance(output, tuple) else (output,))]

    made = iter(spliced(graph, emitter, node.name, references, build))
    for end, dtype in zip(ends, types, strict=True):
        if dtype == tf.complex64:
            pairs[end] = next(made), next(made)
        else:
            # Redirected when all is done: what is met later on is found by the names it has.
            redirected.append((end, next(made)))


def _each_part(node: Any, values: Sequence[Value]) -> list[Value]:
    """The op, once with the real parts of what it takes and once with the imaginary ones."""
    import tensorflow as tf
    from tensorflow.core.framework import types_pb2

    attributes = {}
    for key, value in node.attr.items():
        if key.startswith("_"):
            continue
        attributes[key] = type(value)()
        attributes[key].CopyFrom(value)
        if value.type == types_pb2.DT_COMPLEX64:
            set_attribute(attributes[key], tf.float32)
    made = []
    for part in range(2):
        inputs = [value[part] if isinstance(value, tuple) else value for value in values]
        graph = tf.compat.v1.get_default_graph()
        made.append(
            graph._create_op_internal(node.op, inputs, attrs=attributes, compute_device=False).outputs
        )
    return list(zip(*made, strict=True))


def _fourier(n: int, frequencies: int) -> tuple[Any, Any]:
    """cos(2πkt/n) and sin(2πkt/n), of shape [n, frequencies]."""
    import numpy

    # The product is reduced first: cos of a large angle is less exact.
    angle = 2 * numpy.pi / n * (numpy.outer(numpy.arange(n), numpy.arange(frequencies)) % n)
    # What is 0 by definition is 0 here: the sign of a residue would decide an angle.
    parts = (numpy.where(abs(part) < 1e-12, 0.0, part) for part in (numpy.cos(angle), numpy.sin(angle)))
    cos, sin = (part.astype(numpy.float32) for part in parts)
    return cos, sin


def _product(x: Any, matrix: Any) -> Any:
    """``x`` by a matrix along its last axis; as a product of two matrices if its other sizes allow it."""
    import tensorflow as tf

    sizes = x.shape.as_list() if x.shape.rank is not None else None
    if sizes is None:
        raise NotHere("a known rank")
    if len(sizes) == 2 or sizes[:-1].count(None) > 1:
        return tf.matmul(x, matrix)
    outer = [-1 if size is None else size for size in sizes[:-1]]
    return tf.reshape(tf.matmul(tf.reshape(x, [-1, sizes[-1]]), matrix), [*outer, matrix.shape[1]])


def _length(tensor: Any) -> int:
    n = int(value_of(tensor).reshape(-1)[0])
    if n > _LONGEST:
        raise NotHere(f"at most {_LONGEST} points")
    return n


def _rfft(node: Any, values: Sequence[Value]) -> list[Value]:
    x, n = values[0], _length(values[1])
    size = x.shape[-1] if x.shape.rank else None
    if size is None or size < n:
        raise NotHere("as many values as the transform is long")
    cos, sin = _fourier(n, n // 2 + 1)
    x = x[..., :n] if size > n else x
    return [(_product(x, cos), _product(x, -sin))]


def _irfft(node: Any, values: Sequence[Value]) -> list[Value]:
    import numpy

    (real, imaginary), n = values[0], _length(values[1])
    count = n // 2 + 1
    size = real.shape[-1] if real.shape.rank else None
    if size is None or size < count:
        raise NotHere("as many values as the transform is long")
    cos, sin = _fourier(n, count)
    # Each frequency but the first (and the last of an even length) stands for itself and its mirror image.
    weight = numpy.full(count, 2.0 / n)
    weight[0] = 1.0 / n
    if n % 2 == 0:
        weight[-1] = 1.0 / n
    cos, sin = ((each * weight).T.astype(numpy.float32) for each in (cos, sin))
    if size > count:
        real, imaginary = real[..., :count], imaginary[..., :count]
    return [_product(real, cos) - _product(imaginary, sin)]


def _fft(node: Any, values: Sequence[Value]) -> list[Value]:
    real, imaginary = values[0]
    n = real.shape[-1] if real.shape.rank else None
    if n is None or n > _LONGEST:
        raise NotHere("a known length")
    cos, sin = _fourier(n, n)
    if node.op == "IFFT":
        cos, sin = cos / n, -sin / n
    return [
        (
            _product(real, cos) + _product(imaginary, sin),
            _product(imaginary, cos) - _product(real, sin),
        )
    ]


def _mul(node: Any, values: Sequence[Value]) -> list[Value]:
    (a, b), (c, d) = values
    return [(a * c - b * d, a * d + b * c)]


def _divide(node: Any, values: Sequence[Value]) -> list[Value]:
    (a, b), (c, d) = values
    below = c * c + d * d
    return [((a * c + b * d) / below, (b * c - a * d) / below)]


def _absolute(node: Any, values: Sequence[Value]) -> list[Value]:
    import tensorflow as tf

    ((a, b),) = values
    return [tf.sqrt(a * a + b * b)]


def _exp(node: Any, values: Sequence[Value]) -> list[Value]:
    import tensorflow as tf

    ((a, b),) = values
    return [(tf.exp(a) * tf.cos(b), tf.exp(a) * tf.sin(b))]


def _angle(node: Any, values: Sequence[Value]) -> list[Value]:
    import tensorflow as tf

    ((a, b),) = values
    # A product with a matrix may give -0, which is the other side of the cut along the negative axis.
    return [tf.atan2(tf.where(tf.equal(b, 0), tf.zeros_like(b), b), a)]


def _cast(node: Any, values: Sequence[Value]) -> list[Value]:
    import tensorflow as tf

    (value,) = values
    to = tf.as_dtype(node.attr["DstT"].type)
    if isinstance(value, tuple):
        return [value if to == tf.complex64 else tf.cast(value[0], to)]
    real = tf.cast(value, tf.float32)
    return [(real, tf.zeros_like(real))]


def _square(node: Any, values: Sequence[Value]) -> list[Value]:
    ((a, b),) = values
    return [(a * a - b * b, 2.0 * a * b)]


_FOURIER = frozenset({"RFFT", "IRFFT", "FFT", "IFFT"})

_RULES: dict[str, Callable[[Any, Sequence[Value]], list[Value]]] = {
    "Angle": _angle,
    "Cast": _cast,
    "Complex": lambda node, values: [(values[0], values[1])],
    "ComplexAbs": _absolute,
    "Conj": lambda node, values: [(values[0][0], -values[0][1])],
    "Div": _divide,
    "Exp": _exp,
    "FFT": _fft,
    "IFFT": _fft,
    "IRFFT": _irfft,
    "Imag": lambda node, values: [values[0][1]],
    "Mul": _mul,
    "RFFT": _rfft,
    "Real": lambda node, values: [values[0][0]],
    "RealDiv": _divide,
    "Square": _square,
}
