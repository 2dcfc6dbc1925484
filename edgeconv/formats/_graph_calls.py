"""Looks through function calls without TensorFlow: a graph in which calls are replaced by what they call.

TensorFlow's own inlining names what was inside a function ``CALL/NODE``, with the names of nested calls in
front of each other; so are the nodes here, so that a tensor found in this view has the name by which the
inlined graph knows it. Control flow (``If``, ``While`` …) stays as it is.
"""

from __future__ import annotations

from typing import Any

from edgeconv.formats.graph_reading import split_reference

CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_DEEPEST = 64

# Op types whose outputs have more than one name: the names in order, a list's with the attribute that holds
# its length. Of all others the number in ``node:output:number`` is the port.
_OUTPUTS: dict[str, tuple[tuple[str, str | None], ...]] = {
    "ParseExample": (
        ("sparse_indices", "Nsparse"),
        ("sparse_values", "sparse_types"),
        ("sparse_shapes", "Nsparse"),
        ("dense_values", "Tdense"),
    ),
    "ParseExampleV2": (
        ("sparse_indices", "num_sparse"),
        ("sparse_values", "sparse_types"),
        ("sparse_shapes", "num_sparse"),
        ("dense_values", "Tdense"),
        ("ragged_values", "ragged_value_types"),
        ("ragged_row_splits", "ragged_split_types"),
    ),
    "ParseSingleExample": (
        ("sparse_indices", "num_sparse"),
        ("sparse_values", "sparse_types"),
        ("sparse_shapes", "num_sparse"),
        ("dense_values", "Tdense"),
    ),
    "DecodeWav": (("audio", None), ("sample_rate", None)),
    "StringSplit": (("indices", None), ("values", None), ("shape", None)),
    "StringSplitV2": (("indices", None), ("values", None), ("shape", None)),
    "SparseReshape": (("output_indices", None), ("output_shape", None)),
    "SparseSlice": (("output_indices", None), ("output_values", None), ("output_shape", None)),
    "SparseConcat": (("output_indices", None), ("output_values", None), ("output_shape", None)),
    "SparseReorder": (("output_indices", None), ("output_values", None)),
    "SparseCross": (("output_indices", None), ("output_values", None), ("output_shape", None)),
    "SparseCrossV2": (("output_indices", None), ("output_values", None), ("output_shape", None)),
    "SparseCrossHashed": (("output_indices", None), ("output_values", None), ("output_shape", None)),
    "SparseFillEmptyRows": (
        ("output_indices", None),
        ("output_values", None),
        ("empty_row_indicator", None),
        ("reverse_index_map", None),
    ),
    "RaggedTensorToSparse": (("sparse_indices", None), ("sparse_values", None), ("sparse_dense_shape", None)),
    "RaggedRange": (("rt_nested_splits", None), ("rt_dense_values", None)),
    "RaggedGather": (
        ("output_nested_splits", "OUTPUT_RAGGED_RANK"),
        ("output_dense_values", None),
    ),
    "StringNGrams": (("ngrams", None), ("ngrams_splits", None)),
    "UnicodeDecode": (("row_splits", None), ("char_values", None)),
    "UnicodeDecodeWithOffsets": (("row_splits", None), ("char_values", None), ("char_to_byte_starts", None)),
    "Unique": (("y", None), ("idx", None)),
    "UniqueV2": (("y", None), ("idx", None)),
    "UniqueWithCounts": (("y", None), ("idx", None), ("count", None)),
    "UniqueWithCountsV2": (("y", None), ("idx", None), ("count", None)),
    "TopK": (("values", None), ("indices", None)),
    "TopKV2": (("values", None), ("indices", None)),
    "Switch": (("output_false", None), ("output_true", None)),
    "Merge": (("output", None), ("value_index", None)),
    "TensorArrayV3": (("handle", None), ("flow", None)),
    "ListDiff": (("out", None), ("idx", None)),
    "LookupTableExportV2": (("keys", None), ("values", None)),
    "MaxPoolWithArgmax": (("output", None), ("argmax", None)),
    "SegmentMin": (("output", None),),
    "BroadcastGradientArgs": (("r0", None), ("r1", None)),
    "LSTMBlockCell": tuple((name, None) for name in ("i", "cs", "f", "o", "ci", "co", "h")),
    "BlockLSTM": tuple((name, None) for name in ("i", "cs", "f", "o", "ci", "co", "h")),
    "BlockLSTMV2": tuple((name, None) for name in ("i", "cs", "f", "o", "ci", "co", "h")),
    "NonMaxSuppressionV4": (("selected_indices", None), ("valid_outputs", None)),
    "NonMaxSuppressionV5": (("selected_indices", None), ("selected_scores", None), ("valid_outputs", None)),
    "CombinedNonMaxSuppression": (
        ("nmsed_boxes", None),
        ("nmsed_scores", None),
        ("nmsed_classes", None),
        ("valid_detections", None),
    ),
    **{
        name: tuple(
            (each, None)
            for each in (
                "y",
                "batch_mean",
                "batch_variance",
                "reserve_space_1",
                "reserve_space_2",
                "reserve_space_3",
            )
        )
        for name in ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
    },
}


def port_of(node: Any, output: str, number: int) -> int:
    """The port of a node that its definition names ``output`` and ``number`` (``idx`` and 0: port 1)."""
    port = 0
    for name, length in _OUTPUTS.get(node.op, ()):
        if name == output:
            return port + number
        port += 1 if length is None else _length(node, length)
    return number


def looked_through(graph_def: Any) -> Any:
    """A copy of the graph with every call of a function replaced by the function's nodes.

    The call itself stays, as an ``IdentityN`` of its results. A graph without calls is returned itself.
    """
    library = {function.signature.name: function for function in graph_def.library.function}
    if not library or not any(_called(node, library) for node in graph_def.node):
        return graph_def
    result = type(graph_def)()
    result.versions.CopyFrom(graph_def.versions)
    result.library.CopyFrom(graph_def.library)
    for node in graph_def.node:
        _expand(node, list(node.input), node.name, library, result, 0)
    nodes = {node.name: node for node in result.node}
    for node in result.node:
        for index, reference in enumerate(node.input):
            if not reference.startswith("^"):
                node.input[index] = source_of(nodes, reference)
    return result


def _called(node: Any, library: dict[str, Any]) -> str | None:
    if node.op in CALLS and node.attr["f"].func.name in library:
        return str(node.attr["f"].func.name)
    return node.op if node.op in library else None


def _expand(
    node: Any, inputs: list[str], name: str, library: dict[str, Any], result: Any, depth: int
) -> None:
    """Add a node whose inputs are already references of the main graph, or the nodes of what it calls."""
    called = _called(node, library) if depth < _DEEPEST else None
    if called is None:
        copy = result.node.add()
        copy.CopyFrom(node)
        copy.name = name
        del copy.input[:]
        copy.input.extend(inputs)
        return
    function = library[called]
    data = [reference for reference in inputs if not reference.startswith("^")]
    arguments = {
        argument.name: data[index]
        for index, argument in enumerate(function.signature.input_arg)
        if index < len(data)
    }
    inner = {each.name: each for each in function.node_def}

    def outside(reference: str) -> str:
        if reference.startswith("^"):
            return f"^{name}/{reference[1:]}" if reference[1:] in inner else ""
        if reference in arguments:
            return arguments[reference]
        parts = reference.split(":")
        if parts[0] not in inner:
            return reference
        port = port_of(inner[parts[0]], parts[1], int(parts[2])) if len(parts) == 3 else 0
        return f"{name}/{parts[0]}:{port}" if port else f"{name}/{parts[0]}"

    for each in function.node_def:
        references = [text for text in map(outside, each.input) if text]
        _expand(each, references, f"{name}/{each.name}", library, result, depth + 1)
    copy = result.node.add(name=name, op="IdentityN")
    copy.input.extend(outside(function.ret[each.name]) for each in function.signature.output_arg)
    copy.attr["T"].list.type.extend(each.type for each in function.signature.output_arg)


def _length(node: Any, attribute: str) -> int:
    value = node.attr[attribute]
    return len(value.list.type) if value.WhichOneof("value") == "list" else int(value.i)


def source_of(nodes: dict[str, Any], reference: str) -> str:
    """The reference behind the ``IdentityN`` that stand for calls."""
    name, port = split_reference(reference)
    while name in nodes and nodes[name].op == "IdentityN":
        name, port = split_reference(nodes[name].input[port or 0])
    return f"{name}:{port}" if port else name
