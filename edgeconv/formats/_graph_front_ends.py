"""Finds the front end of a graph: what no edge format has, from the inputs to the first plain tensors.

Graphs begin with ops that read files out of strings, look words up in tables or compute spectra. Nothing in
them depends on weights that were learned, and no edge format can hold them. The graph is cut behind the last
of them: the *cut* is the set of plain tensors that go from the front end to the rest, and each of them is
needed.

What belongs to the front end, by the meaning of the ops and never by a name:

- every op that takes or gives strings, decodes a file, parses a record, or looks into a table, and the audio
  features; and all that those need;
- the ops on sparse and ragged tensors that follow them: what they take has no fixed size;
- the whole loop, or the branch, in which such an op stands;
- what takes a handle (a list of tensors, say) from one of these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from edgeconv.formats._graph_calls import looked_through, source_of
from edgeconv.formats._graph_front_end_shapes import front_end_shapes
from edgeconv.formats._graph_least_cut import least_cut
from edgeconv.formats._graph_view import GraphView, output_dtypes, tensor_node
from edgeconv.formats._tensor_types import dtype_name, elements
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.formats.graph_reading import functions_named_in

_STRING = 7
_REFERENCE = 100
TEXT_OPS = frozenset(
    {"DecodeBase64", "EncodeBase64", "DecodeRaw", "DecodePaddedRaw", "DecodeCompressed", "DecodeCSV"}
    | {"DecodeJSONExample", "ParseExample", "ParseExampleV2", "ParseSingleExample", "ParseTensor"}
    | {"ParseSequenceExample", "ParseSequenceExampleV2", "ParseSingleSequenceExample", "SerializeTensor"}
    | {"StringToHashBucket", "StringToHashBucketFast", "StringToHashBucketStrong", "StringToNumber"}
    | {"AsString", "StringJoin", "StringSplit", "StringSplitV2", "StringStrip", "StringLength", "StringLower"}
    | {"StringUpper", "StringNGrams", "StringFormat", "Substr", "RegexReplace", "RegexFullMatch"}
    | {"StaticRegexReplace", "StaticRegexFullMatch", "ReduceJoin", "UnsortedSegmentJoin", "UnicodeDecode"}
    | {"UnicodeDecodeWithOffsets", "UnicodeEncode", "UnicodeScript", "UnicodeTranscode", "EncodeWav"}
    | {"EncodeJpeg", "EncodePng", "EncodeJpegVariableQuality"}
)
IMAGE_OPS = frozenset(
    {"DecodeJpeg", "DecodePng", "DecodeBmp", "DecodeGif", "DecodeImage", "DecodeAndCropJpeg"}
    | {"ExtractJpegShape", "DecodeWebP"}
)
AUDIO_OPS = frozenset({"DecodeWav", "AudioSpectrogram", "Mfcc", "AudioMicrofrontend"})
TABLE_OPS = frozenset({"LookupTableFind", "LookupTableFindV2", "LookupTableSize", "LookupTableSizeV2"})
FRONT_END_OPS = TEXT_OPS | IMAGE_OPS | AUDIO_OPS | TABLE_OPS
"""Op types that no edge format has and that stand before what a model has learned."""
_FOLLOWING = frozenset(
    {"SparseReshape", "SparseFillEmptyRows", "SparseSegmentSum", "SparseSegmentMean", "SparseSegmentSqrtN"}
    | {"SparseSegmentSumWithNumSegments", "SparseSegmentMeanWithNumSegments"}
    | {"SparseSegmentSqrtNWithNumSegments", "SparseToDense", "SparseTensorDenseMatMul", "SparseCross"}
    | {"SparseCrossV2", "SparseCrossHashed", "SparseConcat", "SparseSlice", "SparseReorder"}
    | {"SparseReduceSum", "SparseReduceMax", "RaggedTensorToTensor", "RaggedTensorToSparse", "RaggedRange"}
    | {"RaggedGather", "RaggedTensorToVariant", "RaggedTensorFromVariant", "DenseToDenseSetOperation"}
)
_LIST_READERS = frozenset(
    {"TensorListStack", "TensorListGetItem", "TensorListLength", "TensorListGather", "TensorListConcat"}
    | {"TensorListConcatV2", "TensorListSetItem", "TensorListPushBack", "TensorListPopBack"}
    | {"TensorListElementShape", "TensorListScatterIntoExistingList", "TensorListResize"}
)
_MERGING = frozenset(
    {
        "Shape",
        "Slice",
        "StridedSlice",
        "Cast",
        "Reshape",
        "Tile",
        "Select",
        "SelectV2",
        "ZerosLike",
        "Identity",
    }
    | {"OnesLike", "Concat", "ConcatV2", "Pack", "Unpack", "ExpandDims", "Squeeze", "Prod", "Fill", "Range"}
    | {"GreaterEqual", "Greater", "Less", "LessEqual", "Equal", "NotEqual", "LogicalAnd", "LogicalNot"}
    | {"Gather", "GatherV2", "Size", "Rank", "Maximum", "Minimum", "Where", "StopGradient"}
)
"""Ops that move, choose and count: they merge several tensors of a front end, and hold no weights."""
_FORWARDING = frozenset({"Identity", "StopGradient", "Snapshot", "PreventGradient"})
_SMALL = 64
_CALL_NAMES = re.compile(r"^(?:[^/]+/)*(?:Stateful)?PartitionedCall(?:_\d+)?/(?=.)")
_SILENT = frozenset({"Assert", "Print", "PrintV2", "NoOp"})
_PLACEHOLDERS = frozenset({"Placeholder", "PlaceholderV2", "PlaceholderWithDefault"})


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """Where a graph is cut, and what is cut off.

    Attributes:
        inputs: inputs of the model that the front end takes.
        cut: the tensors that it gives and the rest takes; ``tensor`` is ``node:port`` in the inlined graph.
        kept: inputs of the model that the rest takes as they are.
        outputs: outputs of the model that the rest computes.
        text_outputs: outputs of the model that are strings, which no edge format has.
        made: outputs of the model that are part of the cut: the front end gives them itself.
        ops: op types of the front end that edge formats do not have, with one node for each.
        nodes: names of all its nodes.
    """

    inputs: tuple[TensorSpec, ...]
    cut: tuple[TensorSpec, ...]
    kept: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    text_outputs: tuple[TensorSpec, ...]
    made: tuple[TensorSpec, ...]
    ops: dict[str, str]
    nodes: frozenset[str]

    @property
    def whole(self) -> bool:
        """Whether nothing is left behind the cut."""
        return not self.outputs or {o.name for o in self.made} == {o.name for o in self.outputs}

    def contract(self, of: Contract) -> Contract:
        """The contract of what is left."""
        return replace(of, inputs=(*self.kept, *self.cut), outputs=self.outputs)

    def said(self) -> tuple[str, ...]:
        """What a person is told of it, one sentence each."""
        sentences = []
        if self.cut:
            where = ", ".join(f"'{spec.inner_name}'" for spec in self.cut)
            before = ", ".join(f"{op} ('{node}')" for op, node in self.ops.items())
            taken = ", ".join(f"'{spec.name}'" for spec in self.cut)
            instead = ", ".join(f"'{spec.name}'" for spec in self.inputs)
            sentences.append(
                f"cut at {where}: edge formats have no op for what is before, {before}; "
                f"artifacts take {taken} in place of {instead}"
            )
        for spec in self.text_outputs:
            sentences.append(f"the output '{spec.name}' is text, which no edge format has: it is left out")
        return tuple(sentences)


def find_front_end(graph_def: Any, contract: Contract) -> FrontEnd | None:
    """The front end between the inputs and outputs of ``contract``; ``None`` where there is none.

    Args:
        graph_def: a GraphDef, functions and all.
        contract: ``tensor`` of inputs and outputs are names in it.
    """
    if not _worth_looking(graph_def, contract):
        return None
    return _Search(looked_through(graph_def), contract).found()


def _worth_looking(graph_def: Any, contract: Contract) -> bool:
    if any(spec.dtype == "string" for spec in (*contract.inputs, *contract.outputs)):
        return True
    functions = (node for function in graph_def.library.function for node in function.node_def)
    return any(node.op in FRONT_END_OPS for nodes in (graph_def.node, functions) for node in nodes)


class _Search:
    def __init__(self, graph_def: Any, contract: Contract) -> None:
        self._view = GraphView(graph_def)
        self._contract = contract
        self._fed = {self._end(spec): spec for spec in reversed(contract.inputs)}
        text = tuple(spec for spec in contract.outputs if spec.dtype == "string")
        self._text = text
        self._outputs = tuple(spec for spec in contract.outputs if spec not in text)
        ends = [self._end(spec) for spec in self._outputs]
        stop = frozenset(self._fed)
        wanted = [name for name, port in ends if (name, port) not in stop]
        self._path = self._view.upstream(wanted, stop, control=False)
        self._path -= {name for name, _ in stop if self._view.nodes[name].op in _PLACEHOLDERS}
        self._tainted = self._depending()
        self._fixed = self._of_tables()

    def found(self) -> FrontEnd | None:
        front = self._narrowed(self._closed({name for name in self._path if self._is_core(name)}))
        if not front and not self._text:
            return None
        taken = {t for name in front for t in self._view.data_inputs(name) if t in self._fed}
        passed = self._crossing(front)
        ends = {self._end(spec): spec for spec in self._outputs}
        kept = {t for name in self._path - front for t in self._view.data_inputs(name) if t in self._fed} | (
            ends.keys() & self._fed.keys()
        )
        shapes = front_end_shapes(self._view, self._path, {t: s.shape for t, s in self._fed.items()})
        cut = tuple(self._spec(tensor, shapes(*tensor)) for tensor in passed)
        inputs = self._contract.inputs
        return FrontEnd(
            inputs=tuple(spec for spec in inputs if self._end(spec) in taken),
            cut=_named(cut, {spec.name for spec in inputs}),
            kept=tuple(spec for spec in inputs if self._end(spec) in kept),
            outputs=self._outputs,
            text_outputs=self._text,
            made=tuple(spec for end, spec in ends.items() if self._forwarded(end) in passed),
            ops=self._ops(front),
            nodes=frozenset(front),
        )

    def _forwarded(self, tensor: tuple[str, int]) -> tuple[str, int]:
        """The tensor that another one hands on unchanged."""
        while tensor[1] == 0 and self._view.nodes[tensor[0]].op in _FORWARDING:
            tensor = self._view.data_inputs(tensor[0])[0]
        return tensor

    def _end(self, spec: TensorSpec) -> tuple[str, int]:
        return tensor_node(source_of(self._view.nodes, spec.inner_name))

    def _depending(self) -> set[str]:
        """The nodes of the path that depend on an input."""
        found: set[str] = set()
        todo = [
            name
            for name in self._path
            if any(tensor in self._fed for tensor in self._view.data_inputs(name))
            or self._view.nodes[name].op in _PLACEHOLDERS
        ]
        while todo:
            name = todo.pop()
            if name in found or name not in self._path:
                continue
            found.add(name)
            todo.extend(self._view.consumers[name])
        return found

    def _of_tables(self) -> set[str]:
        """Nodes of the path that depend on no input but on a table or text: sizes of vocabularies, say."""
        still = self._path - self._tainted
        starts = [n for n in still if is_front_end_op(self._view.nodes[n], self._view.functions)]
        return self._view.downstream(starts) & still if starts else set()

    def _is_core(self, name: str) -> bool:
        return name in self._tainted and is_front_end_op(self._view.nodes[name], self._view.functions)

    def _closed(self, front: set[str]) -> set[str]:
        """``front`` with all that belongs to it by the rules of this module."""
        if not front:
            return front
        frames = _frames(self._view, self._path)
        stop = frozenset(self._fed)
        while True:
            before = len(front)
            for frame in frames:
                if front & frame:
                    front |= frame & self._path
            front |= self._view.upstream(front, stop, control=False) & self._path
            for name in self._path - front:
                if name in self._tainted and self._follows(name, front):
                    front.add(name)
            if len(front) == before:
                return front

    def _follows(self, name: str, front: set[str]) -> bool:
        """Whether a node that takes something of the front end belongs to it too."""
        node = self._view.nodes[name]
        sources = self._view.data_inputs(name)
        if any(source in self._fixed for source, _ in sources):
            return True
        if node.op in _FOLLOWING:
            return any(self._descends(source, front) for source, _ in sources)
        for position, (source, port) in enumerate(sources):
            if source not in front or (source, port) in self._fed:
                continue
            if position == 0 and (node.op.startswith("TensorArray") or node.op in _LIST_READERS):
                return True
            if node.op in ("Identity", "Enter", "Exit") and self._is_list(source, front):
                return True
            known = output_dtypes(self._view.nodes[source])
            if port < len(known) and known[port] in ("resource", "variant") and source in self._tainted:
                return True
        return False

    def _is_list(self, name: str, front: set[str]) -> bool:
        return name in front and self._view.nodes[name].op.startswith("TensorList")

    def _descends(self, name: str, front: set[str]) -> bool:
        """Whether a tensor comes from the front end, by any number of steps."""
        return bool(self._view.upstream([name], frozenset(self._fed), control=False) & front & self._tainted)

    def _crossing(self, front: set[str]) -> list[tuple[str, int]]:
        """The tensors that go from the front end to the rest, in the order of the graph."""
        ends = [self._end(spec) for spec in self._outputs]
        taken = [
            tensor
            for name in self._path - front
            if self._view.nodes[name].op not in _SILENT
            for tensor in self._view.data_inputs(name)
        ]
        crossing = {
            tensor
            for tensor in (*taken, *ends)
            if tensor[0] in front and tensor[0] in self._tainted and tensor not in self._fed
        }
        return sorted(crossing, key=lambda tensor: (self._view.order[tensor[0]], tensor[1]))

    def _spec(self, tensor: tuple[str, int], shape: tuple[int | None, ...] | None) -> TensorSpec:
        name, port = tensor
        spec = self._view.spec(name, port)
        dtypes = front_end_dtypes(self._view.nodes[name])
        return replace(spec, shape=shape, dtype=dtypes[port] if port < len(dtypes) else spec.dtype)

    def _narrowed(self, front: set[str]) -> set[str]:
        """``front`` with what merges its tensors without weights, where fewer tensors then cross the cut.

        A minimum cut of tensors (by augmenting paths, each of which carries one tensor), the one nearest to
        the front end.
        """
        first = self._crossing(front)
        if len(first) < 2:
            return front
        merging = self._merging(front)
        ends = {self._end(spec) for spec in self._outputs}
        through: dict[tuple[str, int], list[tuple[str, int]]] = {}
        open_ended: set[tuple[str, int]] = set()
        inner = set(first)
        for name in merging:
            for tensor in self._view.data_inputs(name):
                inner.add(tensor)
        made: dict[str, list[tuple[str, int]]] = {}
        for name in self._path - front:
            for tensor in self._view.data_inputs(name):
                if tensor[0] in merging:
                    made.setdefault(tensor[0], []).append(tensor)
        for end in ends:
            if end[0] in merging:
                made.setdefault(end[0], []).append(end)
        for name in self._path - front:
            if self._view.nodes[name].op in _SILENT:
                continue
            for tensor in self._view.data_inputs(name):
                if name in merging:
                    through.setdefault(tensor, []).extend(made.get(name, ()))
                else:
                    open_ended.add(tensor)
        chosen = least_cut(first, through, open_ended | ends)
        if len(chosen) >= len(first):
            return front
        taken = self._view.upstream({t[0] for t in chosen}, frozenset(self._fed), control=False)
        return front | (taken & merging & self._path) | (taken & self._path - self._tainted)

    def _merging(self, front: set[str]) -> set[str]:
        """Nodes that take nothing but the front end, small constants and each other, and have no weights."""
        found: set[str] = set()
        changed = True
        while changed:
            changed = False
            for name in self._path - front - found:
                if name not in self._tainted or self._view.nodes[name].op not in _MERGING:
                    continue
                if all(
                    source in front or source in found or self._is_small(source)
                    for source, _ in self._view.data_inputs(name)
                ):
                    found.add(name)
                    changed = True
        return found

    def _is_small(self, name: str) -> bool:
        node = self._view.nodes[name]
        if node.op == "Const":
            shape = self._view.shape(name)
            return shape is not None and elements(shape) is not None and (elements(shape) or 0) <= _SMALL
        if name in self._tainted or node.op not in _MERGING:
            return False
        return all(self._is_small(source) for source, _ in self._view.data_inputs(name))

    def _ops(self, front: set[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for name in sorted(front, key=self._view.order.__getitem__):
            node = self._view.nodes[name]
            for inner in (node, *inside(node, self._view.functions)):
                if inner.op in FRONT_END_OPS:
                    found.setdefault(inner.op, name)
        return found


def front_end_dtypes(node: Any) -> tuple[str, ...]:
    """Element types of the outputs of the ops of front ends whose attributes do not simply list them."""
    if node.op in ("ParseExample", "ParseExampleV2", "ParseSingleExample"):
        sparse = [dtype_name(number) for number in node.attr["sparse_types"].list.type]
        dense = [dtype_name(number) for number in node.attr["Tdense"].list.type]
        values = [dtype_name(number) for number in node.attr["ragged_value_types"].list.type]
        splits = [dtype_name(number) for number in node.attr["ragged_split_types"].list.type]
        return (*["int64"] * len(sparse), *sparse, *["int64"] * len(sparse), *dense, *values, *splits)
    if node.op == "DecodeCSV":
        return tuple(dtype_name(number) for number in node.attr["OUT_TYPE"].list.type)
    value = dtype_name(node.attr["T"].type) if "T" in node.attr else "unknown"
    return {
        "SparseReshape": ("int64", "int64"),
        "SparseFillEmptyRows": ("int64", value, "bool", "int64"),
        "StringSplit": ("int64", "string", "int64"),
        "StringSplitV2": ("int64", "string", "int64"),
        "StringLength": ("int32",),
        "UnicodeScript": ("int32",),
        "RegexFullMatch": ("bool",),
        "StaticRegexFullMatch": ("bool",),
        "ResizeBilinear": ("float32",),
        "SparseToDense": (value,),
        "LookupTableFind": (dtype_name(node.attr["Tout"].type),),
        "LookupTableFindV2": (dtype_name(node.attr["Tout"].type),),
        "Prod": (value,),
    }.get(node.op, ())


def is_front_end_op(node: Any, functions: dict[str, Any]) -> bool:
    """Whether edge formats have no op for a node, or for one in a function that it names."""
    if node.op in FRONT_END_OPS:
        return True
    if node.op in _SILENT or node.op in ("Const", "VarHandleOp", "VariableV2", "IdentityN"):
        return False
    if _has_strings(node):
        return True
    return any(
        inner.op in FRONT_END_OPS or (inner.op not in _SILENT and inner.op != "Const" and _has_strings(inner))
        for inner in inside(node, functions)
    )


def _has_strings(node: Any) -> bool:
    for name, value in node.attr.items():
        if name.startswith("_"):
            continue
        if value.WhichOneof("value") == "type" and value.type % _REFERENCE == _STRING:
            return True
        if value.WhichOneof("value") == "list" and any(t % _REFERENCE == _STRING for t in value.list.type):
            return True
    return False


def inside(node: Any, functions: dict[str, Any]) -> Iterable[Any]:
    """All nodes of the functions that a node names: the bodies of loops and branches."""
    seen: set[str] = set()
    todo = list(functions_named_in(node))
    while todo:
        name = todo.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for inner in functions[name].node_def:
            yield inner
            todo.extend((*functions_named_in(inner), inner.op))


def _frames(view: GraphView, path: set[str]) -> list[set[str]]:
    """The loops of TensorFlow 1 among ``path``: for each the nodes from its ``Enter`` to its ``Exit``."""
    by_name: dict[str, set[str]] = {}
    for name in path:
        node = view.nodes[name]
        if node.op in ("Enter", "RefEnter"):
            by_name.setdefault(node.attr["frame_name"].s.decode("utf-8", "replace"), set()).add(name)
    frames = []
    for enters in by_name.values():
        frame = view.downstream(enters, lambda node: node.op not in ("Exit", "RefExit"))
        frames.append(frame)
    return frames


def _named(specs: tuple[TensorSpec, ...], taken: set[str]) -> tuple[TensorSpec, ...]:
    """The specs under names without the calls that they stand in, each name once."""
    used = set(taken)
    result = []
    for spec in specs:
        wish = _CALL_NAMES.sub("", spec.name)
        name, number = wish, 1
        while name in used:
            name, number = f"{wish}_{number}", number + 1
        used.add(name)
        result.append(replace(spec, name=name))
    return tuple(result)
