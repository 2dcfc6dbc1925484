"""The part of a source's graph that is its front end: inlined, with variables as constants, tables known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeconv.errors import ConversionError, UsageError
from edgeconv.formats._saved_model_files import find_saved_model
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.formats.graph_reading import pruned, split_reference
from edgeconv.front_ends.generate import Table
from edgeconv.runtimes._saved_model_reading import choose_graph, contract_in, read_saved_model
from edgeconv.runtimes._tensorflow import refuse_untrusted, session_config
from edgeconv.runtimes.tensorflow_graph import read_graph
from edgeconv.surgery.graph_editing import clean, inlined

_INITIALISERS = frozenset(
    {"InitializeTable", "InitializeTableV2", "LookupTableImport", "LookupTableImportV2"}
    | {"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"}
)
_FROM_FILE = frozenset({"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"})
_PASSING = frozenset({"Identity", "ReadVariableOp", "RefIdentity", "StopGradient", "Enter"})
_VARIABLES = frozenset({"VarHandleOp", "VariableV2", "Variable"})
_VARIABLE_WRITES = ("Assign", "AssignVariableOp")
_WHOLE_LINE, _LINE_NUMBER = -2, -1


@dataclass
class SourceGraph:
    """A front end as TensorFlow can run it and as it can be written down.

    Attributes:
        graph_def: the nodes that the cut needs, and those that fill its tables.
        tables: what the tables hold, by the node of the handle.
        initialisers: names of the nodes that fill the tables.
    """

    graph_def: Any
    tables: dict[str, Table] = field(default_factory=dict)
    initialisers: tuple[str, ...] = ()

    def run(
        self, inputs: Sequence[TensorSpec], cut: Sequence[TensorSpec], feeds: Iterable[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """The tensors of the cut by their names, for each of ``feeds``, computed by TensorFlow."""
        import tensorflow as tf

        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(self.graph_def, name="")
        fetches = [spec.inner_name for spec in cut]
        with tf.compat.v1.Session(graph=graph, config=session_config(1)) as session:
            if self.initialisers:
                session.run([graph.get_operation_by_name(name) for name in self.initialisers])
            found = []
            for feed in feeds:
                values = session.run(fetches, {_full(spec.inner_name): feed[spec.name] for spec in inputs})
                found.append({spec.name: _array(value) for spec, value in zip(cut, values, strict=True)})
        return found


def read_front_end(
    path: Path,
    kind: str,
    contract: Contract,
    inputs: Sequence[TensorSpec],
    cut: Sequence[TensorSpec],
    options: Mapping[str, Any],
) -> SourceGraph:
    """The front end of the model at ``path`` between ``inputs`` and ``cut``.

    Args:
        path: of the model.
        kind: its format, ``frozen_graph`` or ``saved_model``.
        contract: of the source, which says the signature.
        inputs: what is fed.
        cut: the tensors where it ends.
        options: of the user.

    Raises:
        UsageError: the format has no graph that can be read here, or a tensor of the cut is not in it.
        UntrustedModelError: the front end runs Python or touches files.
        ConversionError: the value of a variable is missing.
    """
    if kind == "frozen_graph":
        whole, folder, assets, meta = read_graph(path), None, {}, None
        clean(whole)
    elif kind == "saved_model":
        meta = choose_graph(read_saved_model(path), contract, options, str(path))
        contract = contract_in(meta, contract, options, str(path))
        folder = find_saved_model(path).folder
        assets = {
            split_reference(asset.tensor_info.name)[0]: str(folder / "assets" / Path(asset.filename).name)
            for asset in meta.asset_file_def
        }
        whole = _inlined(meta, contract)
    else:
        raise UsageError(
            f"a front end is not read out of {kind}", hint="convert a SavedModel or a frozen graph"
        )
    nodes = {node.name: node for node in whole.node}
    for spec in (*inputs, *cut):
        if split_reference(spec.inner_name)[0] not in nodes:
            raise UsageError(f"there is no tensor '{spec.inner_name}' in the inlined graph", where=str(path))
    fills = _initialisers(whole, nodes, [split_reference(spec.inner_name)[0] for spec in cut])
    for fill in fills:
        _point_at_asset(whole, nodes, fill, assets)
    roots = [split_reference(spec.inner_name)[0] for spec in cut] + [fill.name for fill in fills]
    _without_waiting(whole)
    front = pruned(_ended_at(whole, inputs), roots, [split_reference(s.inner_name)[0] for s in inputs])
    refuse_untrusted((node for node in front.node if node.op not in _FROM_FILE), str(path), options)
    if folder is not None:
        _fill_variables(front, whole, folder, meta, str(path))
    inside = {node.name: node for node in front.node}
    tables = {}
    for fill in fills:
        table = _contents(front, inside, fill)
        if table is not None:
            tables[_origin(inside, fill.input[0])] = table
    return SourceGraph(front, tables, tuple(fill.name for fill in fills))


def _inlined(meta: Any, contract: Contract) -> Any:
    """The whole graph of a meta graph that the signature and its initialisation need, without calls."""
    graph_def = meta.graph_def
    names = {node.name for node in graph_def.node}
    roots = {split_reference(spec.inner_name)[0] for spec in (*contract.outputs, *contract.inputs)} & names
    starts: set[str] = set()
    for key in ("saved_model_main_op", "legacy_init_op"):
        if key in meta.collection_def:
            starts |= set(meta.collection_def[key].node_list.value)
    if "__saved_model_init_op" in meta.signature_def:
        starts |= {info.name for info in meta.signature_def["__saved_model_init_op"].outputs.values()}
    starts = {split_reference(name)[0] for name in starts} & names
    starts |= {node.name for node in graph_def.node if node.op in _INITIALISERS}
    saver = {meta.saver_def.restore_op_name} & names
    graph_def = pruned(graph_def, roots | starts | saver)
    clean(graph_def)
    graph_def = inlined(graph_def, sorted(roots | starts | saver))
    clean(graph_def)
    return graph_def


def _without_waiting(graph_def: Any) -> None:
    """Take off the control inputs that only order calls and initialisation."""
    empty = {node.name for node in graph_def.node if node.op in ("NoOp", "Assert", *_VARIABLE_WRITES)}
    for node in graph_def.node:
        kept = [reference for reference in node.input if reference[1:] not in empty or reference[0] != "^"]
        if len(kept) != len(node.input):
            del node.input[:]
            node.input.extend(kept)


def _ended_at(graph_def: Any, inputs: Sequence[TensorSpec]) -> Any:
    """A copy of the graph whose inputs need nothing: they are fed."""
    result = type(graph_def)()
    result.CopyFrom(graph_def)
    fed = {split_reference(spec.inner_name)[0]: spec for spec in inputs}
    for node in result.node:
        if node.name in fed and (split_reference(fed[node.name].inner_name)[1] or 0) == 0:
            dtype = _dtype_number(fed[node.name])
            node.op = "Placeholder"
            del node.input[:]
            node.attr.clear()
            node.attr["dtype"].type = dtype
            node.attr["shape"].shape.unknown_rank = True
    return result


def _dtype_number(spec: TensorSpec) -> int:
    import tensorflow as tf

    return int(tf.as_dtype(spec.dtype).as_datatype_enum)


def _initialisers(graph_def: Any, nodes: Mapping[str, Any], roots: Sequence[str]) -> list[Any]:
    """The nodes that fill the tables which ``roots`` look into."""
    needed = {node.name for node in pruned(graph_def, roots).node}
    return [
        node
        for node in graph_def.node
        if node.op in _INITIALISERS and _origin(nodes, node.input[0]) in needed
    ]


def _point_at_asset(graph_def: Any, nodes: dict[str, Any], fill: Any, assets: Mapping[str, str]) -> None:
    """Let an initialiser read the vocabulary that lies in the model's own folder."""
    if fill.op not in _FROM_FILE:
        return
    name = _asset(nodes, fill.input[1])
    if name not in assets:
        raise ConversionError(
            f"the vocabulary of the table '{_origin(nodes, fill.input[0])}' is no asset of the model",
            hint="export the model with its vocabulary as an asset",
        )
    import tensorflow as tf

    constant = graph_def.node.add(name=f"{fill.name}/edgeconv_asset", op="Const")
    constant.attr["dtype"].type = tf.string.as_datatype_enum
    constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(assets[name]))
    nodes[constant.name] = constant
    fill.input[1] = constant.name
    controls = [reference for reference in fill.input if not reference.startswith("^")]
    del fill.input[:]
    fill.input.extend(controls)


def _asset(nodes: Mapping[str, Any], reference: str) -> str:
    """The node of the file name behind a reference: through reads, and what was assigned to a variable."""
    name = _origin(nodes, reference)
    node = nodes.get(name)
    if node is not None and node.op in _VARIABLES:
        for other in nodes.values():
            if other.op in ("Assign", "AssignVariableOp") and _origin(nodes, other.input[0]) == name:
                return _origin(nodes, other.input[1])
    return name


def _origin(nodes: Mapping[str, Any], reference: str) -> str:
    name, port = split_reference(reference)
    while (
        name in nodes and nodes[name].input and (nodes[name].op in _PASSING or nodes[name].op == "IdentityN")
    ):
        index = (port or 0) if nodes[name].op == "IdentityN" else 0
        name, port = split_reference(nodes[name].input[index])
    return name


def _evaluated(front: Any, nodes: Mapping[str, Any], reference: str) -> Any | None:
    """The value of a reference that depends on nothing that is fed; else ``None``."""
    import tensorflow as tf

    origin = _origin(nodes, reference)
    if nodes[origin].op == "Const":
        return tf.make_ndarray(nodes[origin].attr["value"].tensor)
    needed = pruned(front, [split_reference(reference)[0]])
    if any(node.op.startswith("Placeholder") or node.op in _VARIABLES for node in needed.node):
        return None
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(needed, name="")
    with tf.compat.v1.Session(graph=graph, config=session_config(1)) as session:
        return session.run(_full(reference))


def _contents(front: Any, nodes: Mapping[str, Any], fill: Any) -> Table | None:
    """What an initialiser puts into its table; ``None`` where that depends on what is fed."""
    import numpy
    import tensorflow as tf

    if fill.op not in _FROM_FILE:
        keys, values = (_evaluated(front, nodes, reference) for reference in fill.input[1:3])
        return None if keys is None or values is None else Table(keys, values)
    handle = nodes[_origin(nodes, fill.input[0])]
    path = tf.make_ndarray(nodes[split_reference(fill.input[1])[0]].attr["value"].tensor).item().decode()
    lines = Path(path).read_bytes().split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    size = int(fill.attr["vocab_size"].i) if "vocab_size" in fill.attr else -1
    lines = lines[int(fill.attr["offset"].i) :]
    lines = lines[:size] if size > 0 else lines
    delimiter = fill.attr["delimiter"].s or b"\t"

    def column(index: int, dtype: int) -> Any:
        if index == _LINE_NUMBER:
            texts: list[Any] = list(range(len(lines)))
        elif index == _WHOLE_LINE:
            texts = lines
        else:
            texts = [line.split(delimiter)[index] for line in lines]
        wanted = tf.as_dtype(dtype)
        if wanted == tf.string:
            array = numpy.empty(len(texts), object)
            array[:] = [text if isinstance(text, bytes) else str(text).encode() for text in texts]
            return array
        return numpy.array([float(t) if wanted.is_floating else int(t) for t in texts], wanted.as_numpy_dtype)

    attributes = handle.attr
    keys = column(int(fill.attr["key_index"].i), attributes["key_dtype"].type)
    return Table(keys, column(int(fill.attr["value_index"].i), attributes["value_dtype"].type))


def _fill_variables(front: Any, whole: Any, folder: Path, meta: Any, path: str) -> None:
    """Turn the variables of the front end into constants with their stored values."""
    import tensorflow as tf

    from edgeconv.conversions._variable_folding import fold_variables
    from edgeconv.conversions._variable_values import VariableValues, stored_keys

    if not any(node.op in _VARIABLES for node in front.node):
        return
    values = VariableValues(folder, stored_keys(whole), list(meta.meta_info_def.tags))
    try:
        variables = {node.name: node for node in fold_variables(front, path)}
        for node in front.node:
            if node.name in variables:
                value = values.get(variables[node.name])
                node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    finally:
        values.close()


def _full(reference: str) -> str:
    name, port = split_reference(reference)
    return f"{name}:{port or 0}"


def _array(value: Any) -> Any:
    import numpy

    return numpy.asarray(value, dtype=object) if isinstance(value, bytes) else numpy.asarray(value)
