"""Infers the shapes of what a front end gives: decoded files, parsed records, looked-up words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from edgeconv.formats._graph_shapes import Shapes, broadcast
from edgeconv.formats._graph_view import GraphView, tensor_node
from edgeconv.formats._tensor_types import shape_of
from edgeconv.formats.base import Shape

Ports = tuple[Shape | None, ...]
_SAME = frozenset(
    {"DecodeBase64", "EncodeBase64", "StringToHashBucket", "StringToHashBucketFast", "AsString"}
    | {"StringToHashBucketStrong", "StringToNumber", "StringLower", "StringUpper", "StringStrip", "Substr"}
    | {"StringLength", "RegexReplace", "StaticRegexReplace", "RegexFullMatch", "StaticRegexFullMatch"}
    | {"UnicodeTranscode", "UnicodeScript", "Enter", "Exit", "LogicalNot", "Snapshot", "EnsureShape"}
)
_LIKE_BROADCAST = frozenset(
    {
        "Equal",
        "NotEqual",
        "Less",
        "LessEqual",
        "Greater",
        "GreaterEqual",
        "LogicalAnd",
        "LogicalOr",
        "FloorMod",
    }
)
_VARIABLES = frozenset({"VariableV2", "Variable", "VarHandleOp"})


def front_end_shapes(
    view: GraphView, names: Iterable[str], fed: Mapping[tuple[str, int], Shape | None]
) -> Callable[[str, int], Shape | None]:
    """What tells the shape of any tensor of a front end; ``None`` for one that is not known.

    Args:
        view: the graph, its calls looked through.
        names: the nodes on the path.
        fed: shapes of the inputs.
    """
    shapes = _FrontEndShapes(view, fed)
    shapes.infer(names)
    return shapes.of


class _FrontEndShapes(Shapes):
    def __init__(self, view: GraphView, fed: Mapping[tuple[str, int], Shape | None]) -> None:
        super().__init__(view)
        self._graph = view
        self._fed = dict(fed)
        self._ports: dict[str, Ports] = {}

    def infer(self, names: Iterable[str]) -> None:
        for name in self._sorted(names):
            node = self._graph.nodes[name]
            inputs = [self.of(source, port) for source, port in self._graph.data_inputs(name)]
            rule = _RULES.get(node.op)
            if rule is not None:
                self._ports[name] = rule(self, node, inputs)
            elif node.op in _SAME:
                self._ports[name] = (inputs[0] if inputs else None,)
            elif node.op in _LIKE_BROADCAST:
                self._ports[name] = (broadcast(*inputs[:2]) if len(inputs) == 2 else None,)
            elif node.op in _VARIABLES:
                self._ports[name] = (shape_of(node.attr["shape"].shape) if "shape" in node.attr else None,)
            else:
                self._ports[name] = (self._infer(name),)

    def of(self, name: str, port: int = 0) -> Shape | None:
        if (name, port) in self._fed:
            return self._fed[(name, port)]
        ports = self._ports.get(name)
        if ports is not None and port < len(ports) and ports[port] is not None:
            return ports[port]
        return super().of(name, port)

    def written(self, handle: str) -> Shape | None:
        """Shape of the elements that the loop writes to a TensorArray."""
        for node in self._graph.nodes.values():
            if node.op == "TensorArrayWriteV3" and self._array(node.input[0]) == handle:
                return self.of(*tensor_node(node.input[2]))
            if node.op == "TensorArrayScatterV3" and self._array(node.input[0]) == handle:
                shape = self.of(*tensor_node(node.input[2]))
                return shape[1:] if shape else None
        return None

    def _array(self, reference: str) -> str:
        name, _ = tensor_node(reference)
        while name in self._graph.nodes and self._graph.nodes[name].op in ("Enter", "Identity", "Switch"):
            name, _ = tensor_node(self._graph.nodes[name].input[0])
        return name

    def gathered(self, node: Any) -> Shape | None:
        element = shape_of(node.attr["element_shape"].shape) if "element_shape" in node.attr else None
        if element is None or (element == () and not node.attr["element_shape"].shape.dim):
            told = self.written(self._array(node.input[0]))
            element = told if told is not None else element
        return None if element is None else (None, *element)


def _serialized(inputs: list[Shape | None]) -> Shape:
    return inputs[0] if inputs and inputs[0] is not None else (None,)


def _parsed(shapes: _FrontEndShapes, node: Any, inputs: list[Shape | None]) -> Ports:
    batch = () if node.op == "ParseSingleExample" else _serialized(inputs)
    length = "Nsparse" if node.op == "ParseExample" else "num_sparse"
    sparse = int(node.attr[length].i)
    dense = tuple(shape_of(shape) for shape in node.attr["dense_shapes"].list.shape)
    return (
        *(((None, len(batch) + 1),) * sparse),
        *(((None,),) * sparse),
        *(((len(batch) + 1,),) * sparse),
        *(None if shape is None else (*batch, *shape) for shape in dense),
    )


def _wav(shapes: _FrontEndShapes, node: Any, inputs: list[Shape | None]) -> Ports:
    samples, channels = (int(node.attr[name].i) for name in ("desired_samples", "desired_channels"))
    return (samples if samples > 0 else None, channels if channels > 0 else None), ()


def _spectrogram(shapes: _FrontEndShapes, node: Any, inputs: list[Shape | None]) -> Ports:
    window, stride = int(node.attr["window_size"].i), int(node.attr["stride"].i)
    samples, channels = (
        inputs[0] if inputs and inputs[0] is not None and len(inputs[0]) == 2 else (None, None)
    )
    frames = None if samples is None or stride < 1 else max(0, 1 + (samples - window) // stride)
    return ((channels, frames, 1 + (1 << max(0, window - 1).bit_length()) // 2),)


def _mfcc(shapes: _FrontEndShapes, node: Any, inputs: list[Shape | None]) -> Ports:
    count = int(node.attr["dct_coefficient_count"].i) if "dct_coefficient_count" in node.attr else 13
    lead = inputs[0][:2] if inputs and inputs[0] is not None else (None, None)
    return ((*lead, count),)


def _image(shapes: _FrontEndShapes, node: Any, inputs: list[Shape | None]) -> Ports:
    channels = int(node.attr["channels"].i) or None
    if node.op == "DecodeGif":
        return ((None, None, None, 3),)
    expands = "expand_animations" not in node.attr or node.attr["expand_animations"].b
    if node.op == "DecodeImage" and expands:
        return (None,)
    return ((None, None, channels),)


def _raw(shapes: _FrontEndShapes, node: Any, inputs: list[Shape | None]) -> Ports:
    return (None if inputs[0] is None else (*inputs[0], None),)


def _columns(shapes: _FrontEndShapes, node: Any, inputs: list[Shape | None]) -> Ports:
    return (inputs[0],) * len(node.attr["OUT_TYPE"].list.type)


def _split(shapes: _FrontEndShapes, node: Any, inputs: list[Shape | None]) -> Ports:
    return (None, 2), (None,), (2,)


def _found(shapes: _FrontEndShapes, node: Any, inputs: list[Shape | None]) -> Ports:
    return (inputs[1] if len(inputs) > 1 else None,)


def _gathered(shapes: _FrontEndShapes, node: Any, inputs: list[Shape | None]) -> Ports:
    return (shapes.gathered(node),)


def _stacked(shapes: _FrontEndShapes, node: Any, inputs: list[Shape | None]) -> Ports:
    sizes = shapes.values(node, 1)
    if sizes is None:
        return (None,)
    return ((None, *(None if size is None or size < 0 else size for size in sizes)),)


def _stated(shapes: _FrontEndShapes, node: Any, inputs: list[Shape | None]) -> Ports:
    return tuple(shape_of(shape) for shape in node.attr["output_shapes"].list.shape)


def _shape(shapes: _FrontEndShapes, node: Any, inputs: list[Shape | None]) -> Ports:
    return ((None if inputs[0] is None else len(inputs[0]),),)


def _scalar(shapes: _FrontEndShapes, node: Any, inputs: list[Shape | None]) -> Ports:
    return ((),)


def _packed(shapes: _FrontEndShapes, node: Any, inputs: list[Shape | None]) -> Ports:
    axis = int(node.attr["axis"].i)
    if not inputs or inputs[0] is None:
        return (None,)
    axis += len(inputs[0]) + 1 if axis < 0 else 0
    return ((*inputs[0][:axis], len(inputs), *inputs[0][axis:]),)


def _picked(shapes: _FrontEndShapes, node: Any, inputs: list[Shape | None]) -> Ports:
    axes = shapes.constant(node, 2) if len(inputs) > 2 else [0]
    parameters, indices = inputs[0], inputs[1]
    if parameters is None or indices is None or axes is None or len(axes) != 1:
        return (None,)
    axis = axes[0] % len(parameters) if parameters else 0
    return ((*parameters[:axis], *indices, *parameters[axis + 1 :]),)


def _sparse_reshaped(shapes: _FrontEndShapes, node: Any, inputs: list[Shape | None]) -> Ports:
    rank = inputs[2][0] if len(inputs) > 2 and inputs[2] else None
    return (None, rank), (rank,)


def _filled(shapes: _FrontEndShapes, node: Any, inputs: list[Shape | None]) -> Ports:
    rank = inputs[0][1] if inputs[0] and len(inputs[0]) == 2 else None
    return (None, rank), (None,), (None,), (None,)


def _segments(shapes: _FrontEndShapes, node: Any, inputs: list[Shape | None]) -> Ports:
    return (None if inputs[0] is None else (None, *inputs[0][1:]),)


def _unique(shapes: _FrontEndShapes, node: Any, inputs: list[Shape | None]) -> Ports:
    return (None,), (inputs[0] if inputs[0] is not None else (None,)), (None,)


def _dense(shapes: _FrontEndShapes, node: Any, inputs: list[Shape | None]) -> Ports:
    sizes = shapes.values(node, 1)
    if sizes is not None:
        return (tuple(None if size is None or size < 0 else size for size in sizes),)
    rank = inputs[1][0] if inputs[1] else None
    return ((None,) * rank if rank is not None else None,)


def _where(shapes: _FrontEndShapes, node: Any, inputs: list[Shape | None]) -> Ports:
    return ((None, None if inputs[0] is None else len(inputs[0])),)


_RULES: dict[str, Callable[[_FrontEndShapes, Any, list[Shape | None]], Ports]] = {
    **dict.fromkeys(("ParseExample", "ParseExampleV2", "ParseSingleExample"), _parsed),
    **dict.fromkeys(("DecodeJpeg", "DecodePng", "DecodeBmp", "DecodeGif", "DecodeImage"), _image),
    "DecodeAndCropJpeg": _image,
    "DecodeWav": _wav,
    "AudioSpectrogram": _spectrogram,
    "Mfcc": _mfcc,
    "DecodeRaw": _raw,
    "DecodeCSV": _columns,
    "StringSplit": _split,
    "StringSplitV2": _split,
    "LookupTableFind": _found,
    "LookupTableFindV2": _found,
    "TensorArrayGatherV3": _gathered,
    "TensorListStack": _stacked,
    **dict.fromkeys(("While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase"), _stated),
    "Shape": _shape,
    **dict.fromkeys(("Size", "Rank", "TensorArraySizeV3", "TensorListLength"), _scalar),
    "Pack": _packed,
    **dict.fromkeys(("Gather", "GatherV2", "ResourceGather"), _picked),
    "SparseReshape": _sparse_reshaped,
    "SparseFillEmptyRows": _filled,
    **dict.fromkeys(("SparseSegmentSum", "SparseSegmentMean", "SparseSegmentSqrtN"), _segments),
    **dict.fromkeys(("Unique", "UniqueV2", "UniqueWithCounts"), _unique),
    "SparseToDense": _dense,
    "Where": _where,
}
