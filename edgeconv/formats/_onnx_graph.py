"""The graph of an ONNX model as plain records, the same whether it was read from ONNX or from ORT."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Dimensions = tuple[int | None, ...]

ELEMENT_TYPES = (
    "undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16",
    "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz",
    "float8_e5m2", "float8_e5m2fnuz", "uint4", "int4", "float4_e2m1fn", "float8_e8m0fnu", "uint2", "int2",
    "float6_e2m3fn", "float6_e3m2fn",
)  # fmt: skip
"""NumPy's (or ml_dtypes') names of the element types; the index is the code."""

DEFAULT_DOMAINS = ("", "ai.onnx")
RUNTIME_DOMAINS = frozenset(
    {
        "ai.onnx.ml",
        "ai.onnx.training",
        "ai.onnx.preview",
        "ai.onnx.preview.training",
        "com.microsoft",
        "com.microsoft.nchwc",
        "com.microsoft.experimental",
        "com.ms.internal.nhwc",
        "org.pytorch.aten",
    }
)
"""Domains of ops that ONNX Runtime itself brings besides the default one."""


def element_type(code: int) -> str:
    """Name of an element type; ``unknown_n`` for a code this release does not know."""
    return ELEMENT_TYPES[code] if 0 <= code < len(ELEMENT_TYPES) else f"unknown_{code}"


_NO_WEIGHTS = frozenset({"int32", "int64", "uint32", "uint64", "bool", "string"})


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant tensor: element type, shape, and the value where it has a single element."""

    dtype: str
    dims: tuple[int, ...]
    scalar: int | float | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One node; ``attributes`` holds numbers and lists of numbers, ``subgraphs`` the graphs it runs.

    ``since`` is the opset of its op's definition, which only ORT files state.
    """

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    subgraphs: Mapping[str, Graph] = field(default_factory=dict)
    since: int | None = None

    @property
    def qualified(self) -> str:
        """``domain::Op``, or ``Op`` in the default domain."""
        return self.op if self.domain in DEFAULT_DOMAINS else f"{self.domain}::{self.op}"


@dataclass(frozen=True, slots=True)
class Graph:
    """One graph. ``types`` maps tensors to element type and shape as far as they are known."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, Constant]
    types: Mapping[str, tuple[str, Dimensions | None]]

    def all_nodes(self) -> Iterator[Node]:
        """Every node, those of subgraphs included."""
        for node in self.nodes:
            yield node
            for graph in node.subgraphs.values():
                yield from graph.all_nodes()

    def parameters(self) -> int:
        """Elements of all weights, those of subgraphs included.

        Not among them are scales and zero points, and integers that are shapes, axes or indices.
        """
        auxiliary: set[str] = set()
        dequantized: set[str] = set()
        for node in self.nodes:
            positions = _auxiliary_inputs(node)
            if positions:
                for position, name in enumerate(node.inputs):
                    (auxiliary if position in positions else dequantized).add(name)
        total = 0
        for name, constant in self.constants.items():
            if name in auxiliary or (constant.dtype in _NO_WEIGHTS and name not in dequantized):
                continue
            total += math.prod(constant.dims)
        return total + sum(graph.parameters() for node in self.nodes for graph in node.subgraphs.values())


def _auxiliary_inputs(node: Node) -> tuple[int, ...]:
    """Positions of the scales and zero points among the inputs of a quantized op."""
    if node.op in ("QuantizeLinear", "DequantizeLinear"):
        return (1, 2)
    if node.op in ("MatMulInteger", "ConvInteger"):
        return (2, 3)
    if node.op == "QGemm":
        return (1, 2, 4, 5, 7, 8)
    if node.op.startswith("QLinear"):
        return (1, 2, 4, 5, 6, 7) if len(node.inputs) >= 7 else (1, 2, 3, 4)
    return ()


_SCALARS = {
    "float32": "f",
    "float64": "d",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "int64": "q",
    "bool": "?",
}


def scalar_of(dtype: str, content: bytes) -> int | float | None:
    """The value of a tensor of one element from its bytes; ``None`` for other types and sizes."""
    kind = _SCALARS.get(dtype)
    if kind is None or len(content) != struct.calcsize("<" + kind):
        return None
    value: int | float = struct.unpack("<" + kind, content)[0]
    return value
