"""Whether a release of ONNX Runtime runs a node: the rules by which it looks for a kernel.

A node needs a definition in that release, types that the definition allows, and the first of these that there
is has to serve: a kernel for the types; other ops by which ONNX says this one, which ONNX Runtime puts in its
place; a kernel for float where a type is float16, between casts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from edgeconv.checking._onnx_nodes import TypedNode, Types, bindings, formals, nodes_of
from edgeconv.checking._onnx_tables import ONNX_DOMAIN, Release, Schema, function_versions, standard_schema

_DEEPEST = 8
_HALF, _FLOAT = "tensor(float16)", "tensor(float)"
_FLOATS = (_FLOAT, _HALF, "tensor(double)")
_EIGHT_BITS = (1, 23)
"""The first release whose MatMulNBits has other weights than of four bits."""
_OWN_BODIES = {("com.microsoft", "FastGelu"): (1, 16), ("com.microsoft", "QuickGelu"): (1, 31)}
"""Ops of ONNX Runtime's own that it says in others where there is no kernel, and the first release whose
body runs in all types of the definition."""
# Their value goes among the weights when the file is loaded.
_NO_KERNEL_NEEDED = frozenset({(ONNX_DOMAIN, "Constant")})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a release does not run a node: a stable code, and a sentence without its subject."""

    code: str
    why: str


def refusal(node: TypedNode, release: Release, depth: int = 0) -> Refusal | None:
    """Why the release does not run a node; ``None`` where it does."""
    return _refusal(_signature(node), release, depth)


@dataclass(frozen=True, slots=True)
class _Signature:
    """All of a node that decides; many nodes of a file share one."""

    op: str
    domain: str
    since: int | None
    opset: int
    inputs: Types
    outputs: Types
    attributes: frozenset[tuple[str, int | str | None]]
    proto: bytes | None
    opsets: tuple[tuple[str, int], ...]
    transposed: bool


def _signature(node: TypedNode) -> _Signature:
    proto = node.proto
    if proto is not None and not function_versions(node.domain, node.op, node.opset):
        proto = None
    return _Signature(
        node.op,
        node.domain,
        node.since,
        node.opset,
        node.inputs,
        node.outputs,
        node.attributes if node.proto is not None else frozenset(),
        proto,
        node.opsets,
        node.transposed and "tensor(double)" in node.inputs,
    )


@cache
def _refusal(node: _Signature, release: Release, depth: int) -> Refusal | None:
    opset = node.since if node.since is not None else node.opset
    schema = release.schema(node.domain, node.op, opset)
    if schema is None:
        return Refusal("op", "it has no such op")
    if (node.domain, node.op) in _NO_KERNEL_NEEDED:
        return None
    if node.since is None and (said := _against_definition(node, schema)) is not None:
        return said
    if (said := _against_kernels_limits(node, schema, release)) is not None:
        return said
    if _has_kernel(node, schema, release):
        return None
    body = _body(node, schema, release) if depth < _DEEPEST else None
    if body is not None:
        refused = ((inner, refusal(inner, release, depth + 1)) for inner in body)
        found = next(((inner, said) for inner, said in refused if said is not None), None)
        if found is None:
            return None
        return Refusal(found[1].code, f"it takes it apart, and of its {found[0].op}: {found[1].why}")
    if node.since is None and _number(release) >= _OWN_BODIES.get((node.domain, node.op), (999,)):
        return None
    # Casts are put around nodes of ONNX files; ORT files have those that they need.
    half = node.since is None and _HALF in (*node.inputs, *node.outputs)
    if half and _has_kernel(_widened(node), schema, release):
        return None
    return _kernel_refusal(node, schema, release)


def _against_definition(node: _Signature, schema: Schema) -> Refusal | None:
    """What ONNX Runtime holds against a node by its definition alone."""
    unknown = sorted({name for name, _ in node.attributes} - set(schema.attributes))
    if unknown:
        return Refusal("attribute", f"its definition there has no attribute '{unknown[0]}'")
    many = bool(schema.inputs) and schema.inputs[-1].option in ("variadic", "mixed")
    if len(node.inputs) > len(schema.inputs) and not many:
        return Refusal(
            "inputs", f"its definition there has {len(schema.inputs)} inputs, not {len(node.inputs)}"
        )
    for number, formal in enumerate(schema.inputs):
        if formal.option == "single" and (number >= len(node.inputs) or node.inputs[number] == ""):
            return Refusal("inputs", f"its definition there needs input {number + 1}")
    # What an op gives is held against its kernels only.
    for formal, text in zip(formals(schema.inputs, len(node.inputs)), node.inputs, strict=True):
        allowed = schema.types.get(formal.type, frozenset({formal.type}))
        if text and text not in allowed and formal.type:
            return Refusal("types", f"its definition there does not take {plain(text)}")
    return _conflict(node, schema)


def _conflict(node: _Signature, schema: Schema) -> Refusal | None:
    """Two types where the definition wants one."""
    bound: dict[str, str] = {}
    for parameters, types in ((schema.inputs, node.inputs), (schema.outputs, node.outputs)):
        for formal, text in zip(formals(parameters, len(types)), types, strict=True):
            # The schemas of ONNX Runtime's own ops do not say whether those of a list are of one type.
            mixed = formal.option == "mixed" or (formal.option == "variadic" and node.domain != ONNX_DOMAIN)
            if not text or mixed or "(" in formal.type:
                continue
            other = bound.setdefault(formal.type, text)
            if other != text:
                return Refusal("types", f"{plain(other)} and {plain(text)} have to be one type")
    return None


def _against_kernels_limits(node: _Signature, schema: Schema, release: Release) -> Refusal | None:
    """What kernels refuse when they are made, whatever the types; each was seen in the releases it says."""
    given = dict(node.attributes)
    if node.op in ("LSTM", "GRU", "RNN") and given.get("layout") == 1:
        return Refusal("attribute", "its kernel has no layout 1, the batch first")
    wrong_modes = ("linear", "cubic") if schema.since < 20 else ("bilinear", "bicubic")
    if node.op == "GridSample" and node.domain == ONNX_DOMAIN and given.get("mode") in wrong_modes:
        return Refusal("attribute", f"its kernel of opset {schema.since} has no mode {given['mode']}")
    if node.op in ("Cast", "CastLike") and given.get("saturate") == 0:
        # Bodies of CastLike hand the attribute on, whatever the type.
        to = next((text for text in node.outputs if text), "")
        if to and "float8" not in to:
            return Refusal("attribute", f"its kernel has no saturate=0 for {plain(to)}")
    data = node.inputs[0] if node.inputs else None
    if node.op in ("LSTM", "GRU") and data == "tensor(double)":
        # The table of kernels names float64, and running one says that it is not there yet.
        return Refusal("types", "its kernel for double cannot run")
    if node.op == "Mod" and data in _FLOATS and given.get("fmod", 0) != 1:
        return Refusal("attribute", f"its kernel for {plain(data or '')} wants fmod=1")
    if node.op == "Resize" and given.get("mode") == "cubic" and data not in (None, *_FLOATS):
        return Refusal("types", f"its kernel computes mode cubic in float only, not in {plain(data or '')}")
    bits = given.get("bits", 4)
    if node.op == "MatMulNBits" and bits != 4 and _number(release) < _EIGHT_BITS:
        return Refusal("attribute", f"its kernel has no bits={bits}")
    if node.op == "MatMul" and node.transposed and not _knows_double(release):
        return Refusal("fusion", "it fuses the transposition in front of it into an op that has no float64")
    return None


def _number(release: Release) -> tuple[int, ...]:
    return tuple(int(part) for part in release.version.split(".")[:2])


def _knows_double(release: Release) -> bool:
    """Whether the op that a transposition and a product become has a kernel for float64."""
    fused = release.kernels("com.microsoft", "FusedMatMul")
    return any("tensor(double)" in allowed for each in fused for allowed in each.types.values())


def _has_kernel(node: _Signature, schema: Schema, release: Release) -> bool:
    bound = bindings(schema, node.inputs, node.outputs)
    return any(
        all(bound.get(name) is None or bound[name] in allowed for name, allowed in kernel.types.items())
        for kernel in release.kernels(node.domain, node.op)
        if kernel.fits(schema.since)
    )


def _widened(node: _Signature) -> _Signature:
    """The node between the casts that ONNX Runtime puts around one without a kernel for float16."""

    def wide(types: Types) -> Types:
        return tuple(_FLOAT if text == _HALF else text for text in types)

    return replace(node, inputs=wide(node.inputs), outputs=wide(node.outputs))


def _body(node: _Signature, schema: Schema, release: Release) -> tuple[TypedNode, ...] | None:
    """The nodes that ONNX Runtime puts in place of this one; ``None`` where it has nothing to put there."""
    versions = release.bodies(node.domain, node.op, node.opset, schema.since)
    if node.proto is None or not versions:
        return None
    try:
        return _expanded(node, versions[-1])
    except Exception:
        # The body may be refused by the package for types that it does not know either.
        return None


def _expanded(node: _Signature, version: int) -> tuple[TypedNode, ...] | None:
    import onnx
    from onnx import defs, helper

    proto = onnx.NodeProto()
    proto.ParseFromString(node.proto)
    domain = "" if node.domain == ONNX_DOMAIN else node.domain
    schema = defs.get_schema(node.op, node.opset, domain)
    kinds = [_type_proto(text) for text in node.inputs]
    function = onnx.FunctionProto()
    if version in schema.context_dependent_function_opset_versions:
        stated = [kind.SerializeToString() for kind in kinds]
        made = schema.get_context_dependent_function_with_opset_version(version, node.proto, stated)
        function.ParseFromString(made)
    else:
        function.ParseFromString(schema.get_function_with_opset_version(version))
    if not function.node:
        return None
    if version in schema.function_opset_versions and not _still_means_the_same(function, version, node.opset):
        return None
    attributes = {attribute.name: attribute for attribute in proto.attribute}
    for each in schema.attributes.values():
        if each.name not in attributes and each.default_value.type:
            attributes[each.name] = each.default_value
    nodes = [_resolved(inner, attributes) for inner in function.node]
    names = list(function.input)
    inputs = [
        onnx.ValueInfoProto(name=name, type=kind)
        for name, kind in zip(names, kinds, strict=False)
        if kind.WhichOneof("value")
    ]
    graph = helper.make_graph(nodes, "body", inputs, [])
    imports = {entry.domain: entry.version for entry in function.opset_import}
    if domain == "":
        # The body comes to lie in the file, and means what its ops mean there.
        imports[""] = node.opset
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(d, v) for d, v in imports.items()])
    return nodes_of(model)


def _still_means_the_same(function: Any, version: int, opset: int) -> bool:
    """Whether no op of a body has another definition in the file's opset; ONNX gives no body out then."""

    def since(op: str, at: int) -> int:
        schema = standard_schema(ONNX_DOMAIN, op, at)
        return 0 if schema is None else schema.since

    return all(
        since(inner.op_type, version) == since(inner.op_type, opset)
        for inner in function.node
        if inner.domain in ("", ONNX_DOMAIN)
    )


def _resolved(node: Any, attributes: Any) -> Any:
    """A node of a function with the attributes that it refers to."""
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            copy.attribute.add().CopyFrom(attribute)
        elif attribute.ref_attr_name in attributes:
            given = copy.attribute.add()
            given.CopyFrom(attributes[attribute.ref_attr_name])
            given.name = attribute.name
    return copy


def _type_proto(text: str | None) -> Any:
    import onnx
    from onnx import TensorProto

    kind = onnx.TypeProto()
    if text and text.startswith("tensor("):
        kind.tensor_type.elem_type = TensorProto.DataType.Value(text[7:-1].upper())
    elif text and text.startswith("seq("):
        kind.sequence_type.elem_type.CopyFrom(_type_proto(text[4:-1]))
    elif text and text.startswith("optional("):
        kind.optional_type.elem_type.CopyFrom(_type_proto(text[9:-1]))
    return kind


def _kernel_refusal(node: _Signature, schema: Schema, release: Release) -> Refusal:
    kernels = release.kernels(node.domain, node.op)
    fitting = [each for each in kernels if each.fits(schema.since)]
    if not kernels:
        return Refusal("kernel", "it has no kernel of it on the processor")
    if not fitting:
        known = sorted({f"{each.first}" for each in kernels}, key=int)
        return Refusal(
            "op-version", f"it has kernels of its definitions of opset {', '.join(known)}, not {schema.since}"
        )
    bound = bindings(schema, node.inputs, node.outputs)
    said = ", ".join(f"{name} {plain(text)}" for name, text in sorted(bound.items()))
    return Refusal("types", f"it has no kernel for the types {said}")


def plain(text: str) -> str:
    """``float16`` for ``tensor(float16)``; other types as they are."""
    return text[7:-1] if text.startswith("tensor(") and text.endswith(")") else text
