"""The nodes of an ONNX or ORT file with the types of what goes in and out, alike for both formats."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeconv.checking._onnx_names import into_order, unsound_names
from edgeconv.checking._onnx_tables import ONNX_DOMAIN, Parameter, Schema, releases
from edgeconv.formats._flatbuffer import Buffer, FlatbufferError, map_file
from edgeconv.formats._onnx_graph import DEFAULT_DOMAINS, ELEMENT_TYPES, Graph
from edgeconv.formats._onnx_model import load_model
from edgeconv.formats._ort_model import FutureVersionError, read_model

Types = tuple[str | None, ...]
"""A type a tensor, ``tensor(float)`` as ONNX writes it; ``None`` where unknown, ``""`` where left out."""

_ONNX_NAMES = {
    "float32": "float", "float64": "double", "float8_e4m3fn": "float8e4m3fn",
    "float8_e4m3fnuz": "float8e4m3fnuz", "float8_e5m2": "float8e5m2", "float8_e5m2fnuz": "float8e5m2fnuz",
    "float4_e2m1fn": "float4e2m1", "float8_e8m0fnu": "float8e8m0",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TypedNode:
    """One node.

    Attributes:
        name: its own name, or that of its first output.
        since: the opset of its definition where the file says it (ORT); else ``None``.
        opset: what the file imports of its domain.
        attributes: names, with whole numbers and texts; ``None`` for other values.
        proto: ``onnx.NodeProto`` in bytes, for ops that stand for several others; ``None`` in ORT files.
        opsets: of the whole file, for the same.
        transposed: whether an input is a transposition of the last two dimensions.
    """

    op: str
    domain: str
    name: str
    since: int | None
    opset: int
    inputs: Types
    outputs: Types
    attributes: frozenset[tuple[str, int | str | None]]
    proto: bytes | None
    opsets: tuple[tuple[str, int], ...]
    transposed: bool = False

    @property
    def qualified(self) -> str:
        """``com.microsoft.Gelu``, or ``Gelu`` in the default domain."""
        return self.op if self.domain == ONNX_DOMAIN else f"{self.domain}.{self.op}"


@dataclass(frozen=True, slots=True)
class CheckedModel:
    """What of a file decides where it runs.

    Attributes:
        ir: IR version.
        opsets: domain to opset.
        ort_format: version of the ORT format; ``None`` of an ONNX file.
        nodes: all nodes, those of bodies of loops and branches included.
        contradictions: where the file is wrong by the definitions of its own ops: op, node, and why.
    """

    ir: int
    opsets: Mapping[str, int]
    ort_format: int | None
    nodes: tuple[TypedNode, ...]
    contradictions: tuple[tuple[str, str, str], ...] = ()


def read_onnx(path: Path) -> CheckedModel:
    """An ONNX file.

    Raises:
        InvalidModelError: it is damaged.
    """
    model = load_model(path)
    unsound = list(unsound_names(model.graph))
    if not unsound and not into_order(model.graph):
        unsound.append(("graph", model.graph.name, "its nodes read each other in a circle"))
    return CheckedModel(
        model.ir_version, _opsets(model), None, nodes_of(model), (*unsound, *_contradictions(model))
    )


def read_ort(path: Path) -> CheckedModel:
    """An ORT file.

    Raises:
        InvalidModelError: it is damaged, or of a format from the future.
    """
    from edgeconv.errors import InvalidModelError

    try:
        model = read_model(Buffer(map_file(path)))
    except (OSError, FlatbufferError, FutureVersionError) as error:
        raise InvalidModelError("the ORT file cannot be read", where=str(path), why=str(error)) from error
    opsets = {_domain(domain): version for domain, version in model.opsets.items()}
    nodes = tuple(_ort_nodes(model.graph, opsets, {}))
    return CheckedModel(model.ir_version, opsets, int(model.format_version), nodes)


def nodes_of(model: Any) -> tuple[TypedNode, ...]:
    """All nodes of an ``onnx.ModelProto``; its own functions are put in place of their calls first."""
    if model.functions:
        from onnx import inliner

        try:
            model = inliner.inline_local_functions(_of_one_opset(model))
        except Exception as error:
            from edgeconv.errors import InvalidModelError

            # The C++ library raises several exceptions, none of which it names.
            raise InvalidModelError(
                "the functions of the model cannot be resolved", why=str(error)
            ) from error
    return tuple(_Walk(_inferred(model), _opsets(model)).nodes())


def _of_one_opset(model: Any) -> Any:
    """Functions under the file's opsets: ONNX Runtime inlines them so, ONNX leaves the others as they are."""
    stated = {entry.domain: entry.version for entry in model.opset_import}
    imports = [entry for function in model.functions for entry in function.opset_import]
    if all(stated.get(entry.domain, entry.version) == entry.version for entry in imports):
        return model
    copy = type(model)()
    copy.CopyFrom(model)
    for function in copy.functions:
        for entry in function.opset_import:
            entry.version = stated.get(entry.domain, entry.version)
    return copy


def _opsets(model: Any) -> dict[str, int]:
    return {_domain(entry.domain): int(entry.version) for entry in model.opset_import}


def _domain(domain: str) -> str:
    return ONNX_DOMAIN if domain in DEFAULT_DOMAINS else domain


def _inferred(model: Any) -> Any:
    import onnx

    for propagation in (True, False):
        try:
            return onnx.shape_inference.infer_shapes(model, data_prop=propagation)
        except Exception:
            # It raises RuntimeError, ValidationError, InferenceError and others, by the op. What the file
            # states and the definitions of the ops say is left.
            continue
    return model


_CONTRADICTION = re.compile(
    r"\(op_type: ?([\w.]+)(?:, node name: ([^\n]*?))?\): \[(?:Shape|Type)InferenceError\] ([^\n]*)"
)


def _contradictions(model: Any) -> Iterator[tuple[str, str, str]]:
    """What the inference of ONNX refuses; ONNX Runtime runs the same when it loads a file."""
    import onnx

    try:
        onnx.shape_inference.infer_shapes(model, strict_mode=True)
    except Exception as error:
        for op, node, why in _CONTRADICTION.findall(str(error)):
            # ONNX Runtime takes its own shape where the file states another, and any Constant.
            if op != "Constant" and "existing shape differ" not in why and "Inference error(s)" not in why:
                yield op, node, why.strip()


class _Walk:
    def __init__(self, model: Any, opsets: Mapping[str, int]) -> None:
        self._model = model
        self._opsets = dict(opsets)
        self._imports = tuple(sorted(opsets.items()))
        self._transposed: set[str] = set()

    def nodes(self) -> Iterator[TypedNode]:
        yield from self._graph(self._model.graph, {})

    def _graph(self, graph: Any, outer: Mapping[str, str]) -> Iterator[TypedNode]:
        types = dict(outer)
        for tensor in graph.initializer:
            types[tensor.name] = f"tensor({_element(tensor.data_type)})"
        for sparse in graph.sparse_initializer:
            types[sparse.values.name] = f"tensor({_element(sparse.values.data_type)})"
        for info in (*graph.value_info, *graph.output, *graph.input):
            if (text := type_text(info.type)) is not None:
                types[info.name] = text
        for proto in graph.node:
            yield self._node(proto, types)
            for attribute in proto.attribute:
                if attribute.HasField("g"):
                    yield from self._graph(attribute.g, types)
                for body in attribute.graphs:
                    yield from self._graph(body, types)

    def _node(self, proto: Any, types: dict[str, str]) -> TypedNode:
        domain = _domain(proto.domain)
        opset = self._opsets.get(domain, 1)
        inputs = tuple(types.get(name) if name else "" for name in proto.input)
        if proto.op_type == "Transpose" and domain == ONNX_DOMAIN and _swaps_last(proto):
            self._transposed.update(proto.output)
        for name, text in zip(proto.output, self._outputs(proto, domain, opset, inputs), strict=True):
            if name and text:
                types.setdefault(name, text)
        outputs = tuple(types.get(name) if name else "" for name in proto.output)
        return TypedNode(
            op=proto.op_type,
            domain=domain,
            name=proto.name or next(iter(proto.output), ""),
            since=None,
            opset=opset,
            inputs=inputs,
            outputs=outputs,
            attributes=frozenset((attribute.name, _value(attribute)) for attribute in proto.attribute),
            proto=proto.SerializeToString(),
            opsets=self._imports,
            transposed=any(name in self._transposed for name in proto.input),
        )

    def _outputs(self, proto: Any, domain: str, opset: int, inputs: Types) -> list[str | None]:
        """By the op's definition: what ONNX's own inference does not know are the ops of ONNX Runtime."""
        schema = _any_schema(domain, proto.op_type, opset)
        if schema is None:
            return [None] * len(proto.output)
        bound = bindings(schema, inputs, ())
        found: list[str | None] = []
        for formal in formals(schema.outputs, len(proto.output)):
            known = formal.type if "(" in formal.type else bound.get(formal.type)
            allowed = schema.types.get(formal.type, frozenset())
            found.append(known or (next(iter(allowed)) if len(allowed) == 1 else None))
        return found


def _value(attribute: Any) -> int | str | None:
    # Codes of AttributeProto: 2 integer, 3 bytes.
    if attribute.type == 2:
        return int(attribute.i)
    return attribute.s.decode("utf-8", "replace") if attribute.type == 3 else None


def _swaps_last(proto: Any) -> bool:
    order = next((list(each.ints) for each in proto.attribute if each.name == "perm"), None)
    if order is None:
        return True
    swapped = [*range(len(order) - 2), len(order) - 1, len(order) - 2]
    return len(order) > 1 and order == swapped


def _any_schema(domain: str, op: str, opset: int) -> Schema | None:
    """The newest definition: what types come out of an op does not hang on the release."""
    return releases()[-1].schema(domain, op, opset)


def formals(parameters: Sequence[Parameter], count: int) -> list[Parameter]:
    """The parameter of each of ``count`` arguments; the last one may stand for many."""
    if len(parameters) >= count or not parameters:
        return list(parameters[:count]) + [Parameter("", "none")] * max(0, count - len(parameters))
    return [*parameters, *([parameters[-1]] * (count - len(parameters)))]


def bindings(schema: Schema, inputs: Types, outputs: Types) -> dict[str, str]:
    """Type parameter to type, from the arguments of a node whose types are known."""
    bound: dict[str, str] = {}
    for parameters, types in ((schema.inputs, inputs), (schema.outputs, outputs)):
        for formal, text in zip(formals(parameters, len(types)), types, strict=True):
            if text and "(" not in formal.type:
                bound.setdefault(formal.type, text)
    return bound


def type_text(kind: Any) -> str | None:
    """A ``TypeProto`` as ONNX writes types; ``None`` where it says none."""
    which = kind.WhichOneof("value")
    if which in ("tensor_type", "sparse_tensor_type"):
        code = getattr(kind, which).elem_type
        return f"{which.removesuffix('_type')}({_element(code)})" if code else None
    if which == "sequence_type":
        inner = type_text(kind.sequence_type.elem_type)
        return None if inner is None else f"seq({inner})"
    if which == "optional_type":
        inner = type_text(kind.optional_type.elem_type)
        return None if inner is None else f"optional({inner})"
    if which == "map_type":
        inner = type_text(kind.map_type.value_type)
        return None if inner is None else f"map({_element(kind.map_type.key_type)},{inner})"
    return None


def _element(code: int) -> str:
    name = ELEMENT_TYPES[code] if 0 <= code < len(ELEMENT_TYPES) else f"unknown_{code}"
    return _ONNX_NAMES.get(name, name)


def _ort_nodes(graph: Graph, opsets: Mapping[str, int], outer: Mapping[str, str]) -> Iterator[TypedNode]:
    types = dict(outer)
    for name, constant in graph.constants.items():
        types[name] = f"tensor({_ONNX_NAMES.get(constant.dtype, constant.dtype)})"
    for name, (dtype, _) in graph.types.items():
        if dtype in ELEMENT_TYPES[1:]:
            types[name] = f"tensor({_ONNX_NAMES.get(dtype, dtype)})"
    for node in graph.nodes:
        domain = _domain(node.domain)
        yield TypedNode(
            op=node.op,
            domain=domain,
            name=node.name or next(iter(node.outputs), ""),
            since=node.since,
            opset=opsets.get(domain, 1),
            inputs=tuple(types.get(name) if name else "" for name in node.inputs),
            outputs=tuple(types.get(name) if name else "" for name in node.outputs),
            attributes=frozenset(),
            proto=None,
            opsets=(),
        )
        for body in node.subgraphs.values():
            yield from _ort_nodes(body, opsets, types)
