"""Reading a SavedModel's protos and choosing the graph and signature that a job means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeconv.errors import InvalidModelError, UsageError
from edgeconv.formats._saved_model_files import find_saved_model
from edgeconv.formats._saved_model_functions import add_function_signatures, bind_variables
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.formats.graph_reading import all_nodes, pruned, split_reference
from edgeconv.formats.saved_model import choose_meta_graph
from edgeconv.runtimes._tensorflow import dtype_name, shape_of

_NO_FUNCTION = (
    "it has none, and no function that could be one: it holds variables alone; export it again with "
    "tf.saved_model.save(model, DIR, signatures=model.f.get_concrete_function(tf.TensorSpec(…))), f being "
    "the tf.function that infers"
)
_PREFERRED_SIGNATURES = ("serving_default", "predict", "serving")


def read_saved_model(path: Path) -> Any:
    """The ``SavedModel`` proto of the folder ``path``, with signatures for the functions of one without any,
    and with its calls bound to the variables that are restored.

    Raises:
        InvalidModelError: there is none, or it is broken.
    """
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    file = find_saved_model(path).proto
    proto = saved_model_pb2.SavedModel()
    try:
        if file.suffix == ".pbtxt":
            text_format.Parse(file.read_text(encoding="utf-8"), proto)
        else:
            proto.ParseFromString(file.read_bytes())
    except (OSError, DecodeError, text_format.ParseError, UnicodeDecodeError) as error:
        raise InvalidModelError(
            "not a readable SavedModel", where=str(path), why=str(error)[:200], hint="copy the folder again"
        ) from error
    if not proto.meta_graphs:
        raise InvalidModelError("the SavedModel holds no graph", where=str(path), hint="export it again")
    for meta_graph in proto.meta_graphs:
        add_function_signatures(meta_graph)
        bind_variables(meta_graph)
    return proto


def choose_graph(proto: Any, contract: Contract | None, options: Mapping[str, Any], path: str) -> Any:
    """The ``MetaGraphDef`` that is meant: by ``options['tags']``, else the one that has the signature.

    Raises:
        UsageError: no graph has these tags, or several are equally likely; lists the tag sets.
    """
    tags = options.get("tags")
    if tags is not None:
        wanted = tuple(tag for tag in (tags.split(",") if isinstance(tags, str) else tags) if tag)
        return choose_meta_graph(proto, wanted, where=path)
    signature = options.get("signature") or (contract.signature if contract is not None else None)
    having = [
        graph for graph in proto.meta_graphs if signature is not None and signature in graph.signature_def
    ]
    try:
        chosen = choose_meta_graph(proto, None, where=path)
    except UsageError:
        if len(having) == 1:
            return having[0]
        raise
    return having[0] if having and chosen not in having else chosen


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
            f"the SavedModel has no signature '{name}'"
            if name
            else "the SavedModel does not say which signature",
            where=path,
            hint=f"choose with --signature: {', '.join(sorted(signatures))}" if signatures else _NO_FUNCTION,
        )
    definition = signatures[name]
    if contract is not None:
        inputs = tuple(_completed(spec, definition.inputs, path) for spec in contract.inputs)
        outputs = tuple(_completed(spec, definition.outputs, path) for spec in contract.outputs)
    else:
        inputs = tuple(_spec(key, definition.inputs[key]) for key in sorted(definition.inputs))
        outputs = tuple(_spec(key, definition.outputs[key]) for key in sorted(definition.outputs))
    return Contract(inputs=inputs, outputs=outputs, signature=name)


def nodes_run(graph: Any, contract: Contract) -> list[Any]:
    """The NodeDefs that loading the SavedModel and running ``contract`` execute.

    That is what the outputs need, and what initialises the model; not the restoring of its own variables,
    nor what only saving and training use.
    """
    roots = [spec.inner_name for spec in contract.outputs]
    for key in ("saved_model_main_op", "legacy_init_op"):
        roots += graph.collection_def[key].node_list.value if key in graph.collection_def else []
    for key in ("__saved_model_init_op",):
        if key in graph.signature_def:
            roots += [info.name for info in graph.signature_def[key].outputs.values()]
    return list(all_nodes(pruned(graph.graph_def, [split_reference(root)[0] for root in roots])))


def variables_prefix(path: Path) -> str:
    """Prefix of the checkpoint inside a SavedModel."""
    return str(path / "variables" / "variables")


def _completed(spec: TensorSpec, infos: Any, path: str) -> TensorSpec:
    if spec.tensor is not None:
        return spec
    if spec.name not in infos:
        raise UsageError(
            f"the signature has no '{spec.name}'",
            where=path,
            hint=f"it has: {', '.join(sorted(infos)) or 'none'}",
        )
    info = infos[spec.name]
    return TensorSpec(spec.name, dtype_name(info.dtype), spec.shape, info.name, spec.quantization)


def _spec(key: str, info: Any) -> TensorSpec:
    if not info.name:
        raise UsageError(
            f"'{key}' of the signature is a sparse or composite tensor, which no edge format has"
        )
    return TensorSpec(key, dtype_name(info.dtype), shape_of(info.tensor_shape), info.name)
