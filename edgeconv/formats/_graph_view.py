"""A GraphDef as a graph: who feeds whom, what is reachable, which functions are called."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any

from edgeconv.formats._tensor_types import dtype_name, shape_of
from edgeconv.formats.base import Shape, TensorSpec

SHAPES_ATTRIBUTE = "_output_shapes"
_FIRST_PRODUCER_WITH_SCALAR_PLACEHOLDERS = 24
"""Before this GraphDef version a placeholder's shape ``[]`` meant that nothing was known."""
_PASS_THROUGH = frozenset(
    {"Identity", "ReadVariableOp", "StopGradient", "Snapshot", "PreventGradient", "Enter"}
)
_BOOLEAN = frozenset(
    {
        "Equal",
        "NotEqual",
        "Less",
        "LessEqual",
        "Greater",
        "GreaterEqual",
        "LogicalAnd",
        "LogicalOr",
        "LogicalNot",
    }
    | {"IsNan", "IsInf", "IsFinite", "ApproximateEqual", "All", "Any", "InTopK", "InTopKV2", "LoopCond"}
    | {"IsVariableInitialized", "VarIsInitializedOp"}
)
_INT64 = frozenset({"Where", "StringToHashBucketFast", "StringToHashBucketStrong", "StringToHashBucket"})
_INT32 = frozenset({"Rank", "NonMaxSuppression", "NonMaxSuppressionV2", "ConcatOffset", "TensorArraySizeV3"})
_FLOAT32 = frozenset(
    {"Mfcc", "AudioSpectrogram", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxArgs"}
    | {"FakeQuantWithMinMaxVarsPerChannel"}
)
_STRING = frozenset(
    {"ReadFile", "AsString", "StringJoin", "DecodeBase64", "EncodeBase64", "EncodeJpeg", "EncodePng"}
)
# Second and later outputs that do not have the type of the first.
_MORE: dict[str, tuple[str | None, ...]] = {
    "TopKV2": (None, "index_type=int32"),
    "TopK": (None, "int32"),
    "Unique": (None, "out_idx=int32"),
    "UniqueV2": (None, "out_idx=int32"),
    "UniqueWithCounts": (None, "out_idx=int32", "out_idx=int32"),
    "MaxPoolWithArgmax": (None, "Targmax=int64"),
    "NonMaxSuppressionV3": ("int32",),
    "NonMaxSuppressionV4": ("int32", "int32"),
    "NonMaxSuppressionV5": ("int32", "T=float32", "int32"),
    "CombinedNonMaxSuppression": ("float32", "float32", "float32", "int32"),
    "DecodeWav": ("float32", "int32"),
    "CTCGreedyDecoder": ("int64", "int64", "int64", "T=float32"),
    "Svd": (None, None, None),
    "Qr": (None, None),
    "Merge": (None, "int32"),
    "Switch": (None, None),
    "FusedBatchNorm": (None,) * 5,
    "FusedBatchNormV2": (None, "float32", "float32", "float32", "float32"),
    "FusedBatchNormV3": (None, "float32", "float32", "float32", "float32", "float32"),
    "LSTMBlockCell": (None,) * 7,
    "BlockLSTM": (None,) * 7,
    "BlockLSTMV2": (None,) * 7,
    "GRUBlockCell": (None,) * 4,
}
_LIST_ATTRIBUTES = ("Tout", "output_types", "component_types", "Toutput_types", "dtypes")
_CTC_BEAM_SEARCH = "CTCBeamSearchDecoder"
_COUNT_ATTRIBUTES = {
    "Split": "num_split",
    "SplitV": "num_split",
    "Unpack": "num",
    "DynamicPartition": "num_partitions",
}
_TYPE_ATTRIBUTES = (
    "dtype",
    "DstT",
    "out_type",
    "output_type",
    "OutputType",
    "Tout",
    "output_dtype",
    "Toutput",
    "value_dtype",
    "T",
    "Tparams",
    "Tidx",
    "element_dtype",
    "type",
)
_SINGLE_OUTPUT = frozenset(
    {
        "Placeholder",
        "PlaceholderWithDefault",
        "Const",
        "Identity",
        "Softmax",
        "Sigmoid",
        "Relu",
        "Relu6",
        "Tanh",
    }
    | {
        "Conv2D",
        "DepthwiseConv2dNative",
        "MatMul",
        "BiasAdd",
        "Add",
        "AddV2",
        "Sub",
        "Mul",
        "Reshape",
        "ConcatV2",
    }
    | {"Squeeze", "Mean", "MaxPool", "AvgPool", "Transpose", "ArgMax", "LogSoftmax", "Cast", "ExpandDims"}
)


def tensor_node(text: str) -> tuple[str, int]:
    """Node and port of a data input of a graph (``a``, ``a:1``); port -1 for a control input (``^a``)."""
    if text.startswith("^"):
        return text[1:], -1
    name, colon, port = text.rpartition(":")
    if colon and port.isdigit():
        return name, int(port)
    return text, 0


class GraphView:
    """Looks into a ``GraphDef`` without changing it. Nodes are told by their names."""

    def __init__(self, graph_def: Any) -> None:
        self.graph_def = graph_def
        self.producer: int = int(graph_def.versions.producer)
        self.nodes: dict[str, Any] = {node.name: node for node in graph_def.node}
        self.order: dict[str, int] = {name: index for index, name in enumerate(self.nodes)}
        self.functions: dict[str, Any] = {f.signature.name: f for f in graph_def.library.function}

    def data_inputs(self, name: str) -> list[tuple[str, int]]:
        """Nodes and ports that feed ``name``, in order; without control inputs."""
        found = (tensor_node(text) for text in self.nodes[name].input)
        return [(node, port) for node, port in found if port >= 0]

    @cached_property
    def consumers(self) -> dict[str, tuple[str, ...]]:
        """Nodes that take data from each node."""
        found: dict[str, list[str]] = {name: [] for name in self.nodes}
        for name in self.nodes:
            for source, _ in self.data_inputs(name):
                if source in found:
                    found[source].append(name)
        return {name: tuple(dict.fromkeys(takers)) for name, takers in found.items()}

    def upstream(
        self, names: Iterable[str], stop: frozenset[tuple[str, int]] = frozenset(), control: bool = True
    ) -> set[str]:
        """All nodes that ``names`` depend on, and themselves.

        Args:
            names: nodes to start at.
            stop: tensors (node, port) that are fed: nothing behind them is needed.
            control: whether control inputs count.
        """
        seen: set[str] = set()
        todo = deque(name for name in names if name in self.nodes)
        while todo:
            name = todo.popleft()
            if name in seen:
                continue
            seen.add(name)
            for text in self.nodes[name].input:
                source, port = tensor_node(text)
                if source not in self.nodes or source in seen or (source, port) in stop:
                    continue
                if port >= 0 or control:
                    todo.append(source)
        return seen

    def downstream(
        self, names: Iterable[str], through: Callable[[Any], bool] = lambda node: True
    ) -> set[str]:
        """All nodes that take data from ``names``, directly or not, and themselves.

        Nodes for which ``through`` is false are reached, but not passed.
        """
        seen: set[str] = set()
        todo = deque(name for name in names if name in self.nodes)
        while todo:
            name = todo.popleft()
            if name not in seen:
                seen.add(name)
                if through(self.nodes[name]):
                    todo.extend(self.consumers[name])
        return seen

    def called_functions(self, names: Iterable[str]) -> list[Any]:
        """Library functions that the nodes ``names`` call, directly or not, each once."""
        called: dict[str, Any] = {}
        if not self.functions:
            return []
        todo = deque(self.nodes[name] for name in names if name in self.nodes)
        while todo:
            node = todo.popleft()
            for function_name in _names_of_functions(node):
                function = self.functions.get(function_name)
                if function is not None and function_name not in called:
                    called[function_name] = function
                    todo.extend(function.node_def)
        return list(called.values())

    def all_nodes(self, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """The nodes ``names`` and those of all functions they call, each with where it stands."""
        chosen = [name for name in names if name in self.nodes]
        for name in chosen:
            yield name, self.nodes[name]
        for function in self.called_functions(chosen):
            for node in function.node_def:
                yield f"{function.signature.name}/{node.name}", node

    def operations(self, names: Iterable[str]) -> dict[str, int]:
        """How often each op type occurs in ``names`` and the bodies of the functions they call.

        A function's body counts once, however often it is called; calls of functions by their names
        count as ``PartitionedCall``.
        """
        counts: Counter[str] = Counter()
        for _, node in self.all_nodes(names):
            counts["PartitionedCall" if node.op in self.functions else node.op] += 1
        return dict(sorted(counts.items()))

    def output_count(self, name: str) -> int:
        """Number of outputs of a node as far as it can be known without TensorFlow; at least 1."""
        return max(1, len(output_dtypes(self.nodes[name])))

    def exact_output_count(self, name: str) -> int | None:
        """Number of outputs where it is certain; ``None`` for op types whose outputs are not known here."""
        node = self.nodes[name]
        if SHAPES_ATTRIBUTE in node.attr and node.attr[SHAPES_ATTRIBUTE].WhichOneof("value") == "list":
            return len(node.attr[SHAPES_ATTRIBUTE].list.shape) or None
        if node.op in _SINGLE_OUTPUT:
            return 1
        known = output_dtypes(node)
        return len(known) if len(known) > 1 else None

    def dtype(self, name: str, port: int = 0) -> str:
        """Element type of a tensor; ``unknown`` where the node does not tell."""
        known = output_dtypes(self.nodes[name])
        return known[port] if 0 <= port < len(known) else "unknown"

    def spec(self, name: str, port: int = 0) -> TensorSpec:
        """The spec of one tensor under its logical name, which has no port where that is 0."""
        return TensorSpec(
            name=f"{name}:{port}" if port else name,
            dtype=self.dtype(name, port),
            shape=self.shape(name, port),
            tensor=f"{name}:{port}",
        )

    def shape(self, name: str, port: int = 0) -> Shape | None:
        """Shape of a tensor as the graph states it; ``None`` where it does not."""
        node = self.nodes[name]
        if port == 0 and node.op in ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault", "_Arg"):
            stated = self._placeholder_shape(node)
            if stated is not None:
                return stated
        if node.op == "Const" and port == 0:
            return shape_of(node.attr["value"].tensor.tensor_shape)
        if SHAPES_ATTRIBUTE in node.attr:
            shapes = node.attr[SHAPES_ATTRIBUTE].list.shape
            if port < len(shapes):
                return shape_of(shapes[port])
        return None

    def _placeholder_shape(self, node: Any) -> Shape | None:
        if "shape" not in node.attr or node.attr["shape"].WhichOneof("value") != "shape":
            return None
        shape = shape_of(node.attr["shape"].shape)
        old = self.producer < _FIRST_PRODUCER_WITH_SCALAR_PLACEHOLDERS
        if shape == () and old and node.op == "Placeholder":
            return None
        return shape


def output_dtypes(node: Any) -> tuple[str, ...]:
    """Element types of a node's outputs, read off its attributes; empty where they do not tell."""
    operation = node.op
    for name in _LIST_ATTRIBUTES:
        if name in node.attr and node.attr[name].WhichOneof("value") == "list":
            return tuple(dtype_name(number) for number in node.attr[name].list.type)
    if operation in ("IdentityN", "While", "StatelessWhile", "_While"):
        return tuple(dtype_name(number) for number in node.attr["T"].list.type)
    if operation == _CTC_BEAM_SEARCH:
        # Indices, values and shapes of each path, then the likelihoods.
        return ("int64",) * (3 * max(1, int(node.attr["top_paths"].i))) + (_by_rule(node, "T=float32"),)
    first = _first_dtype(node)
    if first is None:
        return ()
    if operation in _MORE:
        return tuple(first if rule is None else _by_rule(node, rule) for rule in _MORE[operation])
    if operation in _COUNT_ATTRIBUTES and _COUNT_ATTRIBUTES[operation] in node.attr:
        count = int(node.attr[_COUNT_ATTRIBUTES[operation]].i)
        return (first,) * max(1, min(count, 65536))
    return (first,)


def _first_dtype(node: Any) -> str | None:
    operation = node.op
    if operation in _BOOLEAN:
        return "bool"
    if operation in _INT64:
        return "int64"
    if operation in _INT32:
        return "int32"
    if operation in _FLOAT32:
        return "float32"
    if operation in _STRING:
        return "string"
    if operation in ("ArgMax", "ArgMin"):
        return _by_rule(node, "output_type=int64")
    if operation in ("Shape", "ShapeN", "Size"):
        return _by_rule(node, "out_type=int32")
    if operation in ("DecodeJpeg", "DecodePng", "DecodeImage", "DecodeBmp", "DecodeGif"):
        return _by_rule(node, "dtype=uint8")
    if operation in ("ResizeBilinear", "ResizeBicubic", "ResizeArea", "CropAndResize", "Dequantize"):
        return _by_rule(node, "dtype=float32")
    if operation == "StringToNumber":
        return _by_rule(node, "out_type=float32")
    rule = _MORE.get(operation, (None,))[0]
    if rule is not None:
        return _by_rule(node, rule)
    for name in _TYPE_ATTRIBUTES:
        if name in node.attr and node.attr[name].WhichOneof("value") == "type":
            return dtype_name(node.attr[name].type)
    return None


def _by_rule(node: Any, rule: str) -> str:
    attribute, equals, default = rule.partition("=")
    if not equals:
        return attribute
    if attribute in node.attr and node.attr[attribute].WhichOneof("value") == "type":
        return dtype_name(node.attr[attribute].type)
    return default


def _names_of_functions(node: Any) -> Iterator[str]:
    yield node.op
    for value in node.attr.values():
        kind = value.WhichOneof("value")
        if kind == "func":
            yield value.func.name
        elif kind == "list":
            for function in value.list.func:
                yield function.name
