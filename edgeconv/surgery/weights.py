"""Which constants of a frozen graph were variables once: by what reads them, not by what they are called.

A frozen graph has one kind of node for a kernel, an axis, an epsilon and a table of anchors. What tells a
weight is the place where it is read: the kernel of a convolution, the factor of a matrix product, the rows
of an embedding, the scale and offset of a normalisation, a bias or factor as long as the channels that the
layer before it made. Moving statistics of a batch normalisation are variables too, which no gradient moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgeconv.formats.graph_reading import split_reference
from edgeconv.surgery.graph import Graph
from edgeconv.surgery.graph_editing import BRANCHES, CALLS, LOOPS

KERNELS: dict[str, tuple[int, ...]] = {
    "Conv2D": (1,),
    "Conv3D": (1,),
    "DepthwiseConv2dNative": (1,),
    "DepthwiseConv2dNativeBackpropInput": (1,),
    "Conv2DBackpropInput": (1,),
    "Conv3DBackpropInput": (1,),
    "Conv3DBackpropInputV2": (1,),
    "Dilation2D": (1,),
    "MatMul": (0, 1),
    "SparseMatMul": (0, 1),
    "BatchMatMul": (0, 1),
    "BatchMatMulV2": (0, 1),
    "BatchMatMulV3": (0, 1),
    "Einsum": (0, 1, 2, 3),
    "Gather": (0,),
    "GatherV2": (0,),
    "GatherNd": (0,),
    "BiasAdd": (1,),
    "BiasAddV1": (1,),
    "FusedBatchNorm": (1, 2),
    "FusedBatchNormV2": (1, 2),
    "FusedBatchNormV3": (1, 2),
    "BatchNormWithGlobalNormalization": (3, 4),
    "LSTMBlockCell": (3, 4, 5, 6, 7),
    "BlockLSTM": (4, 5, 6, 7, 8),
    "BlockLSTMV2": (4, 5, 6, 7, 8),
    "GRUBlockCell": (2, 3, 4, 5),
    "CudnnRNN": (3,),
    "CudnnRNNV2": (3,),
    "CudnnRNNV3": (3,),
}
"""Op to the inputs that are weights wherever they are constants."""

STATISTICS: dict[str, tuple[int, ...]] = {
    "FusedBatchNorm": (3, 4),
    "FusedBatchNormV2": (3, 4),
    "FusedBatchNormV3": (3, 4),
    "BatchNormWithGlobalNormalization": (1, 2),
}
"""Op to the inputs that are moving statistics."""

_TABLES = ("Gather", "GatherV2", "GatherNd")
_HANDED_ON = frozenset(
    {"Identity", "StopGradient", "Snapshot", "PreventGradient", "EnsureShape", "Enter", "Switch", "Cast"}
    | {"Reshape", "ExpandDims", "Squeeze", "Transpose", "Split", "SplitV", "ConcatV2", "StridedSlice"}
    | {"Slice", "Pack", "Unpack", "Tile", "IdentityN"}
)
_ELEMENTWISE = frozenset({"Add", "AddV2", "Sub", "Mul", "RealDiv", "Div"})
_ARITHMETIC = _ELEMENTWISE | {"Rsqrt", "Sqrt", "Neg", "Square", "Reciprocal", "Inv", "Maximum", "Exp"}
_BETWEEN = (
    _ARITHMETIC
    | {
        "BiasAdd",
        "Relu",
        "Relu6",
        "Abs",
        "Sigmoid",
        "Tanh",
        "Elu",
        "Selu",
        "LeakyRelu",
        "Softplus",
        "Minimum",
    }
    | {"Mean", "SquaredDifference", "Identity", "StopGradient", "FusedBatchNormV3", "FusedBatchNorm"}
    | {"FusedBatchNormV2", "Pow", "Erf", "Squeeze", "Sum"}
)
_FLOATS = (1, 2, 14, 19)  # DT_FLOAT, DT_DOUBLE, DT_BFLOAT16, DT_HALF
_STEPS_BACK = 24


@dataclass(frozen=True, slots=True)
class Weight:
    """A constant that is a weight.

    Attributes:
        name: of its node.
        trainable: whether training moves it; moving statistics are not.
        why: where it is read, for a person.
    """

    name: str
    trainable: bool
    why: str


def weights_of(graph: Graph) -> list[Weight]:
    """The constants of a frozen graph that were variables, in the order of the graph."""
    return _Finder(graph).find()


def floating_constants(graph: Graph) -> list[str]:
    """Names of all constants with floating-point values, scalars too."""
    return [n.name for n in graph.graph_def.node if n.op == "Const" and n.attr["dtype"].type in _FLOATS]


class _Finder:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.functions = {f.signature.name: f for f in graph.graph_def.library.function}
        self.moving = self._downstream_of_inputs()

    def find(self) -> list[Weight]:
        found = []
        on_path = self.graph.on_path()
        for name in floating_constants(self.graph):
            shape = _shape(self.graph.nodes[name])
            if name not in on_path or not shape or 0 in shape or _elements(shape) == 1:
                continue
            weight = self._judge(name, shape)
            if weight is not None:
                found.append(weight)
        return found

    def _judge(self, name: str, shape: tuple[int, ...]) -> Weight | None:
        statistic: Weight | None = None
        for node, index, through in self._uses(name):
            if index in STATISTICS.get(node.op, ()):
                statistic = Weight(name, False, f"moving statistic of {node.op} '{node.name}'")
            elif index in KERNELS.get(node.op, ()) and self._is_kernel(node, index, shape):
                return Weight(name, True, f"input {index} of {node.op} '{node.name}'")
            elif node.op in _ELEMENTWISE and node.name in self.moving and self._fits_channels(node, shape):
                if through & {"Rsqrt", "Sqrt"} or self._is_mean(node, index, through):
                    statistic = Weight(name, False, f"moving statistic read by {node.op} '{node.name}'")
                else:
                    return Weight(name, True, f"along the channels of {node.op} '{node.name}'")
        return statistic

    def _is_kernel(self, node: Any, index: int, shape: tuple[int, ...]) -> bool:
        if node.op in _TABLES:
            return len(shape) >= 2
        if (len(KERNELS[node.op]) > 1 and node.op in ("MatMul", "SparseMatMul", "Einsum")) or node.op[
            :5
        ] == "Batch":
            others = [r for i, r in enumerate(self.graph.data_inputs(node)) if i != index]
            # Inside functions every argument may carry data.
            known = node.name in self.graph.nodes and self.graph.nodes[node.name] is node
            return not known or any(split_reference(r)[0] in self.moving for r in others)
        return True

    def _uses(self, name: str) -> Iterator[tuple[Any, int, set[str]]]:
        """Where a constant is read in the end: node, index of its input, and the arithmetic between."""
        todo: list[tuple[str, set[str]]] = [(name, set())]
        seen = {name}
        while todo:
            at, through = todo.pop()
            for reader in self.graph.readers(at):
                for index, reference in enumerate(reader.input):
                    if reference.startswith("^") or split_reference(reference)[0] != at:
                        continue
                    if reader.op in LOOPS or reader.op in BRANCHES or reader.op in CALLS:
                        yield from self._uses_in_functions(reader, index, set())
                    handed_on = reader.op in _HANDED_ON
                    constant = reader.op in _ARITHMETIC and reader.name not in self.moving
                    if not (handed_on or constant):
                        yield reader, index, through
                    elif reader.name not in seen:
                        seen.add(reader.name)
                        todo.append((reader.name, through if handed_on else through | {reader.op}))

    def _uses_in_functions(
        self, node: Any, index: int, entered: set[str]
    ) -> Iterator[tuple[Any, int, set[str]]]:
        argument = index - (1 if node.op in BRANCHES else 0)
        names = [f.name for v in node.attr.values() for f in (v.list.func or [v.func]) if f.name]
        for name in names:
            function = self.functions.get(name)
            if function is None or not 0 <= argument < len(function.signature.input_arg) or name in entered:
                continue
            entered = entered | {name}
            carried = {function.signature.input_arg[argument].name}
            # Bodies of functions need not be sorted: until nothing more is reached.
            grown = True
            while grown:
                grown = False
                for inner in function.node_def:
                    reads = [i for i, r in enumerate(inner.input) if r.split(":")[0] in carried]
                    if reads and inner.op in _HANDED_ON and inner.name not in carried:
                        carried.add(inner.name)
                        grown = True
            for inner in function.node_def:
                for position, reference in enumerate(inner.input):
                    if reference.split(":")[0] not in carried or inner.op in _HANDED_ON:
                        continue
                    if inner.op in LOOPS or inner.op in BRANCHES or inner.op in CALLS:
                        yield from self._uses_in_functions(inner, position, entered)
                    else:
                        yield inner, position, set()

    def _is_mean(self, node: Any, index: int, through: set[str]) -> bool:
        """Whether a constant is a mean: subtracted from what is then scaled, or scaled and subtracted."""
        if "Sub" in through and "Mul" in through:
            return True
        if node.op != "Sub" or index != 1 or through:
            return False
        return any(
            reader.op in ("Mul", "RealDiv") and self._scales_by_deviation(reader, node.name)
            for reader in self.graph.readers(node.name)
        )

    def _scales_by_deviation(self, node: Any, apart_from: str) -> bool:
        others = [r for r in self.graph.data_inputs(node) if split_reference(r)[0] != apart_from]
        near = self._near(others, 4)
        return any(self.graph.nodes[n].op in ("Rsqrt", "Sqrt") for n in near if n not in self.moving)

    def _near(self, references: list[str], steps: int) -> set[str]:
        found: set[str] = set()
        front = {split_reference(r)[0] for r in references}
        for _ in range(steps):
            found |= front
            nodes = [self.graph.nodes[n] for n in front if n in self.graph.nodes]
            front = {split_reference(r)[0] for node in nodes for r in self.graph.data_inputs(node)} - found
        return {name for name in found if name in self.graph.nodes}

    def _fits_channels(self, node: Any, shape: tuple[int, ...]) -> bool:
        """Whether a constant is as long as the channels that a layer shortly before this node made."""
        wide = [size for size in shape if size != 1]
        if not wide:
            return False
        channels: set[int] = set()
        seen: set[str] = set()
        todo = [split_reference(r)[0] for r in self.graph.data_inputs(node)]
        for _ in range(_STEPS_BACK):
            following = []
            for name in todo:
                at = self.graph.node(name)
                if at is None or name in seen or name not in self.moving:
                    continue
                seen.add(name)
                if at.op in KERNELS and at.op not in _BETWEEN:
                    channels |= self._channels_made(at)
                elif at.op in _BETWEEN:
                    following += [split_reference(r)[0] for r in self.graph.data_inputs(at)]
            todo = following
        return (wide[-1] if len(wide) > 1 else wide[0]) in channels

    def _channels_made(self, node: Any) -> set[int]:
        made: set[int] = set()
        inputs = self.graph.data_inputs(node)
        for index in KERNELS[node.op]:
            origin = self.graph.node(self.graph.origin(inputs[index])) if index < len(inputs) else None
            if origin is None or origin.op != "Const":
                continue
            shape = _shape(origin)
            if not shape:
                continue
            if node.op.startswith("DepthwiseConv"):
                made.add(shape[-1] * shape[-2])
            elif node.op.startswith("Conv2DBackprop") or node.op.startswith("Conv3DBackprop"):
                made.add(shape[-2])
            elif node.op == "Conv2D" or node.op == "Conv3D" or node.op in _TABLES:
                made.add(shape[-1])
            else:
                made |= set(shape)
        return made

    def _downstream_of_inputs(self) -> set[str]:
        fed = [
            *self.graph.inputs,
            *(n.name for n in self.graph.graph_def.node if n.op.startswith("Placeholder")),
        ]
        found: set[str] = set()
        todo = [name for name in fed if name in self.graph.nodes]
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo.extend(
                    reader.name
                    for reader in self.graph.readers(name)
                    if any(
                        split_reference(r) == (name, split_reference(r)[1]) and r[:1] != "^"
                        for r in reader.input
                    )
                )
        return found


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(int(dim.size) for dim in node.attr["value"].tensor.tensor_shape.dim)


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
