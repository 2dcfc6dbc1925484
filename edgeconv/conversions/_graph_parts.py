"""Stages of surgery on graphs: resolve names to tensors, write a part between tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeconv.errors import ConversionError, UsageError
from edgeconv.formats.base import Contract, TensorSpec, contract_from_json, to_json
from edgeconv.formats.graph_reading import split_reference
from edgeconv.formats.registry import format_named, sha256_of
from edgeconv.runtimes._tensorflow import as_conversion_error, dtype_name, refuse_untrusted, shape_of
from edgeconv.runtimes.tensorflow_graph import read_graph
from edgeconv.surgery.cutting import cut, needed, path_between, placeholders, resolved, show_path
from edgeconv.surgery.graph import Graph, full
from edgeconv.surgery.graph_editing import check_known_ops, clean


def resolve(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Say which tensors names and patterns mean, and which inputs of the model they need.

    Args:
        payload: ``path`` of a frozen graph, its ``contract``, ``inputs`` and ``outputs`` (names and
            patterns; empty for those of the contract).

    Returns:
        ``contract`` of the part: its inputs are those named that are needed, and the model's own that are
        needed besides where none were named. ``unneeded`` are the named ones that nothing needs.

    Raises:
        UsageError: a name is not there, or the outputs need an input that was not named.
    """
    path, contract = Path(payload["path"]), _contract(payload)
    graph_def = read_graph(path)
    graph = Graph(graph_def, outputs=[s.inner_name for s in contract.outputs], path=str(path))
    own_inputs = [full(s.inner_name) for s in contract.inputs]
    own_outputs = [full(s.inner_name) for s in contract.outputs]
    said: dict[str, str] = {}
    outputs, named = own_outputs, own_inputs
    if payload["outputs"]:
        said.update(found := resolved(graph, payload["outputs"], "output", own_outputs))
        outputs = list(found)
    if payload["inputs"]:
        said.update(found := resolved(graph, payload["inputs"], "input", own_inputs))
        named = list(found)
    within = needed(graph, outputs, named)
    refuse_untrusted([graph.nodes[n] for n in within], str(path), payload)
    tensors = {full(r) for n in within for r in graph.nodes[n].input if not r.startswith("^")}
    tensors |= {full(reference) for reference in outputs}
    inputs = [reference for reference in named if full(reference) in tensors]
    for name in placeholders(graph, within):
        if f"{name}:0" not in inputs:
            way = path_between(graph, name, outputs, inputs)
            raise UsageError(
                f"the outputs also need the input '{name}', which is not among the inputs",
                where=str(path),
                why=f"by way of {show_path(way)}",
                hint=f"add it: --inputs {','.join(split_reference(r)[0] for r in [*inputs, name])}",
            )
    shapes = tensor_specs(graph_def, [*inputs, *outputs], str(path))
    part = Contract(
        _logical(shapes, inputs, contract.inputs, said),
        _logical(shapes, outputs, contract.outputs, said),
        layout=contract.layout if inputs == own_inputs else None,
        normalisation=contract.normalisation if inputs == own_inputs else None,
        labels=contract.labels if outputs == own_outputs else None,
    )
    return {"contract": to_json(part), "unneeded": [r for r in named if r not in inputs]}


def split(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Say what the two parts at a cut are.

    Args:
        payload: ``path`` of a frozen graph, its ``contract``, ``at`` (names and patterns of tensors).

    Returns:
        ``head`` and ``tail``: contracts. The head's outputs and the tail's first inputs are the cut.

    Raises:
        UsageError: a name is not there, an output does not need the cut, or an input reaches an output
            both through the cut and around it; names the way.
    """
    path, contract = Path(payload["path"]), _contract(payload)
    graph_def = read_graph(path)
    graph = Graph(graph_def, outputs=[s.inner_name for s in contract.outputs], path=str(path))
    inputs = [full(s.inner_name) for s in contract.inputs]
    outputs = [full(s.inner_name) for s in contract.outputs]
    at = resolved(graph, payload["at"], "output", outputs, "--at")
    ends = set(at) & {*inputs, *outputs}
    if ends:
        raise UsageError(
            f"'{sorted(ends)[0]}' is an end of the model: one of the parts would be empty",
            where=str(path),
            hint="name a tensor in between; 'edgeconv inspect --ops -v' lists them",
        )
    head_nodes, tail_nodes = needed(graph, at), needed(graph, outputs, at)
    refuse_untrusted([graph.nodes[n] for n in head_nodes | tail_nodes], str(path), payload)
    reads = {full(r) for n in tail_nodes for r in graph.nodes[n].input if r[:1] != "^"}
    for reference in at:
        if reference not in reads:
            raise UsageError(
                f"no output of the model needs '{reference}' at this cut",
                where=str(path),
                why="it lies beside the way to the outputs, or behind another tensor of the cut",
                hint="leave it out of --at",
            )
    both = [i for i in inputs if split_reference(i)[0] in head_nodes and split_reference(i)[0] in tail_nodes]
    if both:
        way = path_between(graph, split_reference(both[0])[0], outputs, at)
        candidates = [n for n in way[1:-1] if n not in head_nodes] or way[1:-1]
        raise UsageError(
            f"the cut does not separate the model: '{split_reference(both[0])[0]}' also goes round it",
            where=str(path),
            why=f"by way of {show_path(way)}",
            hint="add a tensor on that way to --at"
            + (f": --at {','.join([*payload['at'], (way[1:-1] or candidates)[0]])}" if way[1:-1] else ""),
        )
    specs = tensor_specs(graph_def, [*inputs, *outputs, *at], str(path))
    middle = _logical(specs, list(at), (), at)
    return {
        "head": to_json(
            Contract(
                tuple(s for s in contract.inputs if split_reference(s.inner_name)[0] in head_nodes), middle
            )
        ),
        "tail": to_json(
            Contract(
                (*middle, *(s for s in contract.inputs if split_reference(s.inner_name)[0] in tail_nodes)),
                contract.outputs,
                labels=contract.labels,
            )
        ),
    }


def extract(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Write the part of a frozen graph that a contract is of.

    Args:
        payload: ``path`` of the whole, ``contract`` of the part in the tensors of the whole,
            ``destination``.

    Returns:
        As ``edgeconv.conversions.stage.convert``.

    Raises:
        UsageError: the outputs need more than the inputs.
        ConversionError: the part would be above 2 GB, or has ops that this TensorFlow lacks.
    """
    path, contract = Path(payload["path"]), _contract(payload)
    destination = Path(payload["destination"])
    graph_def = read_graph(path)
    clean(graph_def)
    inputs = {full(s.inner_name): (_enum(s.dtype), _proto(s.shape)) for s in contract.inputs}
    part, names = cut(graph_def, inputs, [full(s.inner_name) for s in contract.outputs])
    check_known_ops(part, str(path))
    destination.write_bytes(part.SerializeToString())
    fed = tuple(_renamed(s, names[full(s.inner_name)]) for s in contract.inputs)
    given = tuple(_renamed(s, names.get(full(s.inner_name), full(s.inner_name))) for s in contract.outputs)
    return written(destination, "frozen_graph", Contract(fed, given, None, *_meaning(contract)), [])


def written(destination: Path, kind: str, contract: Contract, notes: Sequence[str]) -> dict[str, Any]:
    """What a stage says about an artifact that it wrote."""
    part = format_named(kind)
    return {
        "contract": to_json(contract),
        "notes": list(notes),
        "sha256": sha256_of(destination, part),
        "bytes": sum(file.stat().st_size for file in part.files(destination)),
    }


def tensor_specs(graph_def: Any, references: Sequence[str], path: str) -> dict[str, TensorSpec]:
    """Dtype and shape of tensors of a graph, as TensorFlow's shape inference finds them.

    Raises:
        UsageError: a node has no such output, or it is no array.
        ConversionError: TensorFlow cannot import the graph.
    """
    import tensorflow as tf

    check_known_ops(graph_def, path)
    graph = tf.Graph()
    try:
        with graph.as_default():
            tf.graph_util.import_graph_def(graph_def, name="")
    except (tf.errors.OpError, ValueError) as error:
        raise as_conversion_error(error, "TensorFlow cannot import the graph", path) from error
    found = {}
    for reference in references:
        try:
            tensor = graph.get_tensor_by_name(full(reference))
        except (KeyError, ValueError) as error:
            raise UsageError(
                f"the graph has no tensor '{reference}'", where=path, why=" ".join(str(error).split())[:200]
            ) from error
        dtype = dtype_name(tensor.dtype)
        if dtype in ("resource", "variant"):
            raise UsageError(
                f"'{reference}' is a {dtype}, which cannot be passed between two parts",
                where=path,
                hint="cut before or behind it",
            )
        name, port = split_reference(reference)
        found[reference] = TensorSpec(
            name if not port else f"{name}:{port}", dtype, shape_of(tensor.shape), full(reference)
        )
    return found


def _contract(payload: Mapping[str, Any]) -> Contract:
    contract = contract_from_json(payload["contract"])
    if contract is None:
        raise ConversionError("a graph without a contract has no ends")
    return contract


def _logical(
    found: Mapping[str, TensorSpec],
    references: Sequence[str],
    own: Sequence[TensorSpec],
    said: Mapping[str, str],
) -> tuple[TensorSpec, ...]:
    """Specs under the model's own names and shapes where they are its ends, else under the user's names."""
    known = {full(spec.inner_name): spec for spec in own}
    specs: list[TensorSpec] = []
    for reference in references:
        spec = found[reference]
        name, shape = said.get(reference, spec.name), spec.shape
        if (mine := known.get(full(reference))) is not None:
            name, shape = mine.name, mine.shape if mine.shape is not None else shape
        if any(other.name == name for other in specs):
            name = spec.name
        specs.append(TensorSpec(name, spec.dtype, shape, spec.tensor))
    return tuple(specs)


def _renamed(spec: TensorSpec, tensor: str) -> TensorSpec:
    return TensorSpec(spec.name, spec.dtype, spec.shape, tensor, spec.quantization)


def _meaning(contract: Contract) -> tuple[Any, Any, Any]:
    return contract.layout, contract.normalisation, contract.labels


def _enum(dtype: str) -> int:
    import tensorflow as tf

    return int(tf.as_dtype(dtype).as_datatype_enum)


def _proto(shape: tuple[int | None, ...] | None) -> Any:
    import tensorflow as tf

    return tf.TensorShape(shape).as_proto()
