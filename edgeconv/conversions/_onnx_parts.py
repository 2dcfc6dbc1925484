"""Stages of surgery on ONNX files: resolve names to tensors, write the part between tensors."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeconv.conversions._graph_parts import written
from edgeconv.conversions._onnx_files import prove_loads, read_model
from edgeconv.errors import UsageError
from edgeconv.formats.base import Contract, TensorSpec, contract_from_json, to_json
from edgeconv.surgery.cutting import is_pattern, nearest


def resolve(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Say which tensors of an ONNX file names and patterns mean; see ``_graph_parts.resolve``.

    A name is that of a tensor, or of a node, whose outputs are meant (as an input: what enters it).

    Raises:
        UsageError: a name is not there, or the outputs need an input that was not named.
    """
    path, contract = Path(payload["path"]), _contract(payload)
    part = _Part(read_model(path), str(path))
    own_inputs = [spec.inner_name for spec in contract.inputs]
    outputs = part.resolved(payload["outputs"], "output") or [s.inner_name for s in contract.outputs]
    named = part.resolved(payload["inputs"], "input") or own_inputs
    _, read = part.between(named, outputs)
    read |= set(outputs)
    inputs = [name for name in named if name in read]
    for name in part.inputs:
        if name in read and name not in inputs:
            raise UsageError(
                f"the outputs also need the input '{name}', which is not among the inputs",
                where=str(path),
                hint=f"add it: --inputs {','.join([*inputs, name])}",
            )
    known = {spec.inner_name: spec for spec in (*contract.inputs, *contract.outputs)}
    types = part.types()
    tensors = Contract(
        tuple(known.get(name) or _spec(name, types, str(path)) for name in inputs),
        tuple(known.get(name) or _spec(name, types, str(path)) for name in outputs),
    )
    return {"contract": to_json(tensors), "unneeded": [name for name in named if name not in inputs]}


def extract(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Write the part of an ONNX file that a contract is of; see ``_graph_parts.extract``."""
    import onnx
    from onnx import helper

    path, contract = Path(payload["path"]), _contract(payload)
    destination = Path(payload["destination"])
    model = read_model(path)
    part = _Part(model, str(path))
    nodes, read = part.between(
        [s.inner_name for s in contract.inputs], [s.inner_name for s in contract.outputs]
    )
    kept = [node for node in model.graph.node if id(node) in nodes]
    graph = helper.make_graph(
        kept,
        model.graph.name or "part",
        [_info(spec) for spec in contract.inputs],
        [_info(spec) for spec in contract.outputs],
        [tensor for tensor in model.graph.initializer if tensor.name in read],
    )
    graph.sparse_initializer.extend(t for t in model.graph.sparse_initializer if t.values.name in read)
    inside = {name for node in kept for name in node.output} | read
    graph.value_info.extend(value for value in model.graph.value_info if value.name in inside)
    graph.quantization_annotation.extend(
        a for a in model.graph.quantization_annotation if a.tensor_name in inside
    )
    made = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    made.functions.extend(model.functions)
    made.producer_name, made.producer_version = model.producer_name, model.producer_version
    onnx.save_model(made, str(destination))
    prove_loads(destination)
    inputs = tuple(TensorSpec(s.name, s.dtype, s.shape, s.inner_name) for s in contract.inputs)
    outputs = tuple(TensorSpec(s.name, s.dtype, s.shape, s.inner_name) for s in contract.outputs)
    return written(destination, "onnx", Contract(inputs, outputs), [])


class _Part:
    """Looks into an ONNX graph by the names of its tensors."""

    def __init__(self, model: Any, path: str) -> None:
        self.model = model
        self.path = path
        stored = {tensor.name for tensor in model.graph.initializer}
        self.inputs = [value.name for value in model.graph.input if value.name not in stored]
        self.producers = {name: node for node in model.graph.node for name in node.output if name}
        self.by_node = {node.name: node for node in model.graph.node if node.name}

    def resolved(self, texts: Sequence[str], role: str) -> list[str]:
        """Tensors that names and patterns mean."""
        found: dict[str, None] = {}
        for text in texts:
            if text in self.producers or text in self.inputs:
                found[text] = None
                continue
            matches = fnmatch.fnmatchcase if is_pattern(text) else _in_scope
            region = [n for n in self.model.graph.node if matches(n.name, text)]
            names = self._entering(region) if role == "input" else self._leaving(region)
            if not names:
                near = nearest(text, [*self.producers, *self.by_node])
                raise UsageError(
                    f"--{role}s: the graph has no tensor or node '{text}'",
                    where=self.path,
                    why=f"nearest names: {', '.join(near)}" if near else None,
                    hint=f"try --{role}s {near[0]}"
                    if near
                    else "'edgeconv inspect --ops -v' lists the names",
                )
            found.update(dict.fromkeys(names))
        return list(found)

    def between(self, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[set[int], set[str]]:
        """Ids of the nodes that the outputs need when the inputs are fed, and the tensors that these read."""
        fed = set(inputs)
        stack = [name for name in outputs if name not in fed]
        nodes: set[int] = set()
        read: set[str] = set()
        while stack:
            node = self.producers.get(stack.pop())
            if node is None or id(node) in nodes:
                continue
            nodes.add(id(node))
            names = reads(node)
            read.update(names)
            stack += [name for name in names if name not in fed]
        return nodes, read

    def types(self) -> dict[str, Any]:
        """``ValueInfoProto`` of the tensors by name, as ONNX's own shape inference finds them."""
        import onnx

        model = self.model
        if model.ByteSize() < 1 << 30:
            model = onnx.shape_inference.infer_shapes(model)
        graph = model.graph
        return {value.name: value for value in (*graph.value_info, *graph.input, *graph.output)}

    def _computed(self) -> set[str]:
        live = set(self.inputs)
        for node in self.model.graph.node:
            if live & set(reads(node)):
                live |= set(node.output)
        return live

    def _entering(self, region: Sequence[Any]) -> list[str]:
        inside = {name for node in region for name in node.output}
        live = self._computed()
        names = [name for node in region for name in reads(node) if name not in inside and name in live]
        return list(dict.fromkeys(names))

    def _leaving(self, region: Sequence[Any]) -> list[str]:
        inside = {name for node in region for name in node.output if name}
        ids = {id(node) for node in region}
        taken = {name for node in self.model.graph.node if id(node) not in ids for name in reads(node)}
        taken |= {value.name for value in self.model.graph.output}
        live = self._computed()
        return [n for node in region for n in node.output if n in inside & taken & live]


def reads(node: Any) -> list[str]:
    """Names that a node reads, those that its subgraphs take from outside among them."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            inside = {name for inner in graph.node for name in inner.output}
            inside |= {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            names += [name for inner in graph.node for name in reads(inner) if name not in inside]
            names += [value.name for value in graph.output if value.name not in inside]
    return names


def _in_scope(name: str, text: str) -> bool:
    return name == text or f"/{text}/" in f"/{name.strip('/')}/"


def _spec(name: str, types: Mapping[str, Any], path: str) -> TensorSpec:
    from onnx import helper

    info = types.get(name)
    if info is None or not info.type.tensor_type.elem_type:
        raise UsageError(
            f"the type of '{name}' is not known, so it can be no end of a part",
            where=path,
            why="ONNX's shape inference does not say it",
            hint="cut before or behind it",
        )
    tensor = info.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(int(d.dim_value) if d.HasField("dim_value") else None for d in tensor.shape.dim)
    return TensorSpec(name, "string" if dtype == "object" else dtype, shape, name)


def _info(spec: TensorSpec) -> Any:
    import ml_dtypes
    import numpy as np
    from onnx import TensorProto, helper

    if spec.dtype == "string":
        code = TensorProto.STRING
    else:
        kind = getattr(ml_dtypes, spec.dtype, None) if spec.dtype not in np.sctypeDict else spec.dtype
        code = helper.np_dtype_to_tensor_dtype(np.dtype(kind or spec.dtype))
    return helper.make_tensor_value_info(
        spec.inner_name, code, None if spec.shape is None else list(spec.shape)
    )


def _contract(payload: Mapping[str, Any]) -> Contract:
    contract = contract_from_json(payload["contract"])
    assert contract is not None
    return contract
