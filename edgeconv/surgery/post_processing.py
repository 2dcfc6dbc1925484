"""Where the post-processing of a detector begins, found by what the graph does.

Before::

    image ─▶ network ─▶ decode ─▶ boxes, scores ─▶ slices, masks ─▶ NonMaxSuppression ─▶ gather ─▶ detections

After::

    image ─▶ network ─▶ decode ─▶ boxes, scores ┆ …  (the rest, with the graph's own numbers, stands beside)

Everything behind a suppression of overlapping boxes belongs to the post-processing, with whole loops where
it lies in one. In front of it, ops that only move numbers (slices by class, masks, the best of many) belong
to it too, so that the cut lies at tensors of fixed size. A suppression whose result goes back into the
network (the regions that a second stage looks at) is no end, and stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edgeconv.errors import UsageError
from edgeconv.formats.graph_detection import SUPPRESSION_OPS
from edgeconv.formats.graph_reading import split_reference
from edgeconv.surgery.graph import Graph, full, short

MOST_TENSORS = 16
"""Tensors at a cut; a graph that needs more has no clear place to be cut at."""
_HEAVY = frozenset(
    {"Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "Conv3D", "MatMul", "BatchMatMul"}
    | {"BatchMatMulV2", "BatchMatMulV3", "Einsum", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"}
    | {"MaxPool", "AvgPool", "CropAndResize", "_FusedConv2D"}
)
_MOVING = frozenset(
    {"Identity", "IdentityN", "StopGradient", "Snapshot", "EnsureShape", "Squeeze", "ExpandDims", "Reshape"}
    | {"Slice", "StridedSlice", "Unpack", "Split", "SplitV", "Gather", "GatherV2", "GatherNd"}
    | {"TopK", "TopKV2", "Where", "Enter", "RefEnter", "TensorListFromTensor", "TensorArrayScatterV3"}
    | {"TensorArrayV3"}
)
_WHOLE = frozenset(
    {"Pack", "Concat", "ConcatV2", "Add", "AddV2", "Sub", "Mul", "FloorDiv", "FloorMod", "Maximum", "Minimum"}
    | {"Cast", "Range", "Fill", "Tile", "ZerosLike", "OnesLike", "Prod", "Sum", "Max", "Min", "Equal"}
    | {"NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual", "LogicalAnd", "LogicalOr", "LogicalNot"}
    | {"Select", "SelectV2", "Size", "Rank", "BroadcastTo", "Any", "All", "Transpose", "RealDiv", "Div"}
)
"""Ops that are moved behind the cut where they give whole numbers, truth values, or few numbers."""
FEW = 16
"""Numbers that are few: sizes of images and what is made of them, not boxes."""
_SHAPES = frozenset({"Shape", "ShapeN"})
_ENTERS, _EXITS = frozenset({"Enter", "RefEnter"}), frozenset({"Exit", "RefExit"})
_LISTS = frozenset({"resource", "variant"})


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a graph is cut.

    Attributes:
        tensors: references to what the post-processing takes of the network.
        inputs: references to inputs of the model that it takes as well (the size of the image).
        given: those of the graph's outputs that come from the post-processing, by position.
        suppressions: names of the nodes that drop boxes, behind the cut.
    """

    tensors: tuple[str, ...]
    inputs: tuple[str, ...]
    given: tuple[int, ...]
    suppressions: tuple[str, ...]


def find_cut(graph: Graph) -> Cut:
    """The cut in front of the last suppression of ``graph``, which is inlined and frozen.

    Raises:
        UsageError: nothing drops boxes, what it gives goes back into the network, or the post-processing
            takes too many tensors.
    """
    return _Finder(graph).found()


class _Finder:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._path = graph.on_path()
        self._order = [node.name for node in graph.graph_def.node if node.name in self._path]
        self._functions = {f.signature.name: f for f in graph.graph_def.library.function}
        self._fed = {split_reference(reference)[0] for reference in graph.inputs}
        self._loops = self._outermost_loops()
        self._moving = self._reached(self._fed)
        self._types, self._sizes = _inferred(graph)

    def found(self) -> Cut:
        drops = [name for name in self._order if self._drops(name)]
        if not drops:
            raise UsageError(
                "nothing in this model drops overlapping boxes, so there is no post-processing to cut off",
                where=self._graph.path,
                hint="keep the model as it is: --postprocessing keep; or name its outputs with --outputs",
            )
        last = [name for name in drops if not self._goes_back(name)]
        if not last:
            raise UsageError(
                f"what '{drops[-1]}' keeps goes back into the network: nothing can be cut off behind it",
                where=self._graph.path,
                hint="keep it: --postprocessing keep; or name the tensors to end at with --outputs",
            )
        behind = self._reached(self._units(last))
        tensors, inputs = self._edge(behind)
        if not tensors or len(tensors) > MOST_TENSORS:
            raise UsageError(
                "it is not clear where the post-processing of this model begins",
                where=self._graph.path,
                why=f"what drops boxes takes {len(tensors)} tensors",
                hint="name the tensors in front of it with --outputs, or keep it: --postprocessing keep",
            )
        given = [i for i, r in enumerate(self._graph.outputs) if split_reference(r)[0] in behind]
        return Cut(tuple(tensors), tuple(inputs), tuple(given), tuple(last))

    def _drops(self, name: str) -> bool:
        return any(op in SUPPRESSION_OPS for op in self._ops_of(name))

    def _ops_of(self, name: str) -> set[str]:
        """Op of a node and, where it calls functions, of all that is in them."""
        found, todo, seen = set(), [self._graph.nodes[name]], set[str]()
        while todo:
            node = todo.pop()
            found.add(node.op)
            for attribute in node.attr.values():
                for called in (attribute.func.name, *(f.name for f in attribute.list.func)):
                    if called in self._functions and called not in seen:
                        seen.add(called)
                        todo.extend(self._functions[called].node_def)
        return found

    def _goes_back(self, name: str) -> bool:
        reached = self._reached(self._units([name]))
        return any(not _HEAVY.isdisjoint(self._ops_of(each)) for each in reached)

    def _units(self, names: Iterable[str]) -> set[str]:
        """The nodes, each with the whole loop that it lies in."""
        found: set[str] = set()
        for name in names:
            loop = self._loops.get(name)
            found |= {name} if loop is None else {n for n, other in self._loops.items() if other == loop}
        return found

    def _reached(self, starts: Iterable[str]) -> set[str]:
        """Nodes on the path that need one of ``starts``, these included; loops are taken whole."""
        found: set[str] = set()
        todo = list(starts)
        while todo:
            name = todo.pop()
            if name in found or name not in self._path:
                continue
            found.add(name)
            todo.extend(reader.name for reader in self._graph.readers(name))
            if name in self._loops:
                todo.extend(self._units([name]))
        return found

    def _outermost_loops(self) -> dict[str, bytes]:
        """Node to the frame of the outermost loop that it lies in, entries and exits included."""
        frames: dict[str, tuple[bytes, ...]] = {}
        loops: dict[str, bytes] = {}
        enters = [n for n in self._order if self._graph.nodes[n].op in _ENTERS]
        todo: list[tuple[str, tuple[bytes, ...]]] = []
        inside = {r.name for n in enters for r in self._graph.readers(n)}
        # An entry that no other loop's node feeds is one from outside.
        outer = [n for n in enters if n not in inside]
        todo = [(n, ()) for n in outer]
        while todo:
            name, frame = todo.pop()
            node = self._graph.nodes.get(name)
            if node is None or name in frames:
                continue
            if node.op in _ENTERS:
                frame = (*frame, bytes(node.attr["frame_name"].s))
            frames[name] = frame
            if frame:
                loops[name] = frame[0]
            after = frame[:-1] if node.op in _EXITS else frame
            if after:
                todo.extend((reader.name, after) for reader in self._graph.readers(name))
        return loops

    def _edge(self, behind: set[str]) -> tuple[list[str], list[str]]:
        """Tensors that cross into ``behind``, which grows by what only moves numbers; and inputs that do."""
        cut: dict[str, None] = {}
        inputs: dict[str, None] = {}
        shapes: dict[str, None] = {}
        todo = [r for name in self._order if name in behind for r in self._data(name)]
        seen: set[str] = set()
        while todo or shapes:
            if not todo:
                known = {self._origin(r) for r in (*cut, *inputs)}
                near = [r for r in shapes if self._origin(self._data(_name(r))[0]) in known]
                if not near:
                    break
                for reference in near:
                    del shapes[reference]
                    behind.add(_name(reference))
                continue
            reference = todo.pop()
            name = _name(reference)
            if reference in seen or name in behind or name not in self._moving:
                continue
            seen.add(reference)
            node = self._graph.nodes[name]
            if name in self._fed:
                inputs[reference] = None
            elif node.op in _SHAPES:
                shapes[reference] = None
                if self._origin(self._data(name)[0]).partition(":")[0] in self._fed:
                    inputs[short(self._data(name)[0])] = None
            elif self._may_move(name, reference):
                behind.add(name)
                todo.extend(self._data(name))
            else:
                cut[reference] = None
        cut.update(shapes)
        order = {name: position for position, name in enumerate(self._order)}
        return (
            sorted(cut, key=lambda r: (order[_name(r)], r)),
            sorted(inputs, key=lambda r: (order[_name(r)], r)),
        )

    def _may_move(self, name: str, reference: str) -> bool:
        """Whether a node can go behind the cut; not what takes its values out of a loop of the network."""
        op = self._graph.nodes[name].op
        if name in self._loops and op not in _ENTERS:
            return False
        if op in _MOVING or self._types.get(full(reference)) in _LISTS:
            return True
        whole = self._types.get(full(reference), "").startswith(("int", "uint", "bool"))
        return op in _WHOLE and (whole or (self._sizes.get(full(reference)) or FEW + 1) <= FEW)

    def _data(self, name: str) -> list[str]:
        return self._graph.data_inputs(self._graph.nodes[name])

    def _origin(self, reference: str) -> str:
        return self._graph.origin(reference)


def _name(reference: str) -> str:
    return split_reference(reference)[0]


def _inferred(graph: Graph) -> tuple[dict[str, str], dict[str, int | None]]:
    """Every tensor of the graph to the name of its type and its number of elements, as TensorFlow infers."""
    import tensorflow as tf

    with tf.Graph().as_default() as inferred:
        tf.import_graph_def(graph.graph_def, name="")
    tensors = [tensor for operation in inferred.get_operations() for tensor in operation.outputs]
    types = {tensor.name: str(tensor.dtype.base_dtype.name) for tensor in tensors}
    return types, {tensor.name: tensor.shape.num_elements() for tensor in tensors}


def shapes_of(graph: Graph, references: Iterable[str]) -> list[tuple[str, tuple[int | None, ...] | None]]:
    """Type and shape of tensors, as TensorFlow infers them; ``None`` for an unknown rank."""
    import tensorflow as tf

    with tf.Graph().as_default() as inferred:
        tf.import_graph_def(graph.graph_def, name="")
    found: list[tuple[str, Any]] = []
    for reference in references:
        tensor = inferred.get_tensor_by_name(full(reference))
        shape = None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
        found.append((str(tensor.dtype.base_dtype.name), shape))
    return found
