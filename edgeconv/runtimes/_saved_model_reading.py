"""Reading a SavedModel's protos and choosing the graph and signature that a job means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeconv.errors import InvalidModelError, UsageError
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.runtimes._tensorflow import dtype_name, shape_of

_PREFERRED_SIGNATURES = ("serving_default", "predict", "serving")


def read_saved_model(path: Path) -> Any:
    """The ``SavedModel`` proto of the folder ``path``.

    Raises:
        InvalidModelError: there is none, or it is broken.
    """
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel()
    try:
        if (path / "saved_model.pb").is_file():
            proto.ParseFromString((path / "saved_model.pb").read_bytes())
        else:
            text_format.Parse((path / "saved_model.pbtxt").read_text(encoding="utf-8"), proto)
    except (OSError, DecodeError, text_format.ParseError, UnicodeDecodeError) as error:
        raise InvalidModelError(
            "not a readable SavedModel", where=str(path), why=str(error)[:200], hint="copy the folder again"
        ) from error
    if not proto.meta_graphs:
        raise InvalidModelError("the SavedModel holds no graph", where=str(path), hint="export it again")
    return proto


def choose_graph(proto: Any, contract: Contract | None, options: Mapping[str, Any], path: str) -> Any:
    """The ``MetaGraphDef`` that is meant: by ``options['tags']``, else by what contract and use suggest.

    Without tags: the graphs that have the contract's signature; of several, the one tagged ``serve``,
    else one that is not for training.

    Raises:
        UsageError: no graph has these tags, or several are equally likely; lists the tag sets.
    """
    graphs = list(proto.meta_graphs)
    tags = options.get("tags")
    if tags is not None:
        wanted = set(tags.split(",") if isinstance(tags, str) else tags) - {""}
        for graph in graphs:
            if set(graph.meta_info_def.tags) == wanted:
                return graph
        raise UsageError(
            f"no graph has exactly the tags [{', '.join(sorted(wanted))}]",
            where=path,
            hint=f"tag sets in this SavedModel: {_tag_sets(graphs)}",
        )
    signature = options.get("signature") or (contract.signature if contract is not None else None)
    if signature is not None:
        graphs = [graph for graph in graphs if signature in graph.signature_def] or graphs
    ranked = sorted(graphs, key=_tag_rank)
    if len(ranked) > 1 and _tag_rank(ranked[0]) == _tag_rank(ranked[1]):
        raise UsageError(
            "the SavedModel holds several graphs and none is the obvious one",
            where=path,
            hint=f"choose one with --tags: {_tag_sets(graphs)}",
        )
    return ranked[0]


def contract_in(graph: Any, contract: Contract | None, options: Mapping[str, Any], path: str) -> Contract:
    """The contract to work by: the one given, completed with the tensors of the graph's signature.

    Raises:
        UsageError: the signature is not there, or nothing says which is meant.
    """
    name = options.get("signature") or (contract.signature if contract is not None else None)
    if contract is not None and all(s.tensor for s in (*contract.inputs, *contract.outputs)):
        return contract
    signatures = {key: value for key, value in graph.signature_def.items() if value.outputs}
    signatures.pop("__saved_model_init_op", None)
    signatures.pop("__saved_model_train_op", None)
    if name is None:
        name = next((key for key in _PREFERRED_SIGNATURES if key in signatures), None)
        if name is None and len(signatures) == 1:
            name = next(iter(signatures))
    if name is None or name not in signatures:
        raise UsageError(
            f"the SavedModel has no signature '{name}'" if name else "the SavedModel does not say which signature",
            where=path,
            hint=f"choose with --signature: {', '.join(sorted(signatures)) or 'it has none at all'}",
        )
    definition = signatures[name]
    if contract is not None:
        inputs = tuple(_completed(spec, definition.inputs, path) for spec in contract.inputs)
        outputs = tuple(_completed(spec, definition.outputs, path) for spec in contract.outputs)
    else:
        inputs = tuple(_spec(key, definition.inputs[key]) for key in sorted(definition.inputs))
        outputs = tuple(_spec(key, definition.outputs[key]) for key in sorted(definition.outputs))
    return Contract(inputs=inputs, outputs=outputs, signature=name)


def all_nodes(graph_def: Any) -> Iterator[Any]:
    """Every NodeDef of a GraphDef, those in its functions included."""
    yield from graph_def.node
    for function in graph_def.library.function:
        yield from function.node_def


def variables_prefix(path: Path) -> str:
    """Prefix of the checkpoint inside a SavedModel."""
    return str(path / "variables" / "variables")


def _completed(spec: TensorSpec, infos: Any, path: str) -> TensorSpec:
    if spec.tensor is not None:
        return spec
    if spec.name not in infos:
        raise UsageError(
            f"the signature has no '{spec.name}'", where=path, hint=f"it has: {', '.join(sorted(infos)) or 'none'}"
        )
    info = infos[spec.name]
    return TensorSpec(spec.name, dtype_name(info.dtype), spec.shape, info.name, spec.quantization)


def _spec(key: str, info: Any) -> TensorSpec:
    if not info.name:
        raise UsageError(f"'{key}' of the signature is a sparse or composite tensor, which no edge format has")
    return TensorSpec(key, dtype_name(info.dtype), shape_of(info.tensor_shape), info.name)


def _tag_rank(graph: Any) -> int:
    tags = set(graph.meta_info_def.tags)
    if tags == {"serve"}:
        return 0
    if "serve" in tags and not tags & {"train", "gpu", "tpu"}:
        return 1
    if "serve" in tags:
        return 2
    return 3 if "train" not in tags else 4


def _tag_sets(graphs: list[Any]) -> str:
    return "; ".join(",".join(sorted(graph.meta_info_def.tags)) or "(empty)" for graph in graphs)
