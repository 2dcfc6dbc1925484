"""A batch normalisation in inference, behind a convolution or matrix product, goes into its weights.

before:  x ─▶ Conv2D(kernel) ─▶ FusedBatchNormV3(scale, offset, mean, variance) ─▶ relu
after:   x ─▶ Conv2D(kernel · f) ─▶ BiasAdd(offset - mean · f) ─▶ relu        f = scale / √(variance + ε)

before:  x ─▶ Conv2D(kernel) ─▶ BiasAdd(bias) ─▶ Mul(f) ─▶ Add(c)
after:   x ─▶ Conv2D(kernel · f) ─▶ BiasAdd(bias · f) ─▶ Add(c)

The second is what ``tf.nn.batch_normalization`` leaves once constants are folded. Only where the kernel is a
constant that nobody else reads and nobody else reads what lies between. A kernel whose value is not in the
graph is scaled when it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeconv.formats.graph_reading import split_reference
from edgeconv.surgery.changes import Change
from edgeconv.surgery.graph import Graph, short
from edgeconv.surgery.stored_values import StoredValue

_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
_LAYERS = (*_CONVOLUTIONS, "MatMul")
_ADDS = ("BiasAdd",)


def rewrite(graph: Graph) -> list[Change]:
    """Fold each normalisation that can be."""
    folded = 0
    for name in [node.name for node in graph.graph_def.node]:
        node = graph.nodes[name]
        if node.op in _NORMS:
            folded += _fold_norm(graph, node)
        elif node.op == "Mul":
            folded += _fold_factor(graph, node)
    if not folded:
        return []
    layers = "1 batch normalisation was" if folded == 1 else f"{folded} batch normalisations were"
    return [Change("fold_batch_norm", f"{layers} folded into the weights of the layers before")]


def _fold_norm(graph: Graph, norm: Any) -> bool:
    import numpy

    if "is_training" not in norm.attr or norm.attr["is_training"].b or _control(norm):
        return False
    if any(index > 0 for index in _ports_read(graph, norm.name)):
        return False
    scale, offset, mean, variance = (graph.constant(r) for r in graph.data_inputs(norm)[1:5])
    if scale is None or offset is None or mean is None or variance is None or not mean.size:
        return False
    layer = _layer_before(graph, graph.data_inputs(norm)[0], norm.name)
    if layer is None or layer[0].op == "MatMul":
        return False
    convolution, bias_node = layer
    epsilon = norm.attr["epsilon"].f if "epsilon" in norm.attr else 1e-4
    factor = scale.astype("float64") / numpy.sqrt(variance.astype("float64") + epsilon)
    kernel = _kernel_of(graph, convolution, factor.size)
    data_format = norm.attr["data_format"].s or b"NHWC"
    if kernel is None or (convolution.attr["data_format"].s or b"NHWC") != data_format:
        return False
    before: Any = 0.0
    if bias_node is not None:
        before = graph.constant(bias_node.input[1])
        if before is None or (bias_node.attr["data_format"].s or b"NHWC") != data_format:
            return False
    shift = (before - mean.astype("float64")) * factor + offset
    if not (numpy.isfinite(factor).all() and numpy.isfinite(shift).all()):
        return False
    _scale_kernel(graph, convolution, kernel, factor)
    dtype = convolution.attr["T"]
    bias = graph.add_constant(f"{norm.name}/folded_bias", shift.astype(offset.dtype))
    # What the attributes are copied of is cleared on the way.
    copied = type(dtype).FromString(dtype.SerializeToString())
    graph.become(norm, "BiasAdd", [convolution.name, bias], T=copied, data_format=data_format)
    return True


def _fold_factor(graph: Graph, product: Any) -> bool:
    import numpy

    inputs = graph.data_inputs(product)
    if len(inputs) != 2 or _control(product):
        return False
    for x, other in (inputs, inputs[::-1]):
        factor = graph.constant(other)
        layer = _layer_before(graph, x, product.name)
        if factor is None or layer is None or factor.dtype.kind != "f" or not numpy.isfinite(factor).all():
            continue
        node, bias_node = layer
        if (node.attr["data_format"].s or b"NHWC") != b"NHWC" or factor.shape[-1:] != (factor.size,):
            continue
        kernel = _kernel_of(graph, node, factor.size)
        if kernel is None or factor.ndim > (2 if node.op == "MatMul" else 4):
            continue
        flat = factor.reshape(-1).astype("float64")
        before = None
        if bias_node is not None:
            before = graph.constant(bias_node.input[1])
            if before is None or not _read_once(graph, bias_node.input[1]):
                continue
        _scale_kernel(graph, node, kernel, flat)
        if bias_node is not None and before is not None:
            scaled = graph.add_constant(f"{product.name}/folded_bias", (before * flat).astype(before.dtype))
            graph.set_inputs(bias_node, [bias_node.input[0], scaled])
        dtype = type(product.attr["T"]).FromString(product.attr["T"].SerializeToString())
        graph.become(product, "Identity", [x], T=dtype)
        return True
    return False


def _layer_before(graph: Graph, reference: str, reader: str) -> tuple[Any, Any | None] | None:
    """The convolution or product that makes a tensor, and the BiasAdd between; each read only on this way."""
    bias = None
    node = graph.node(reference)
    if node is not None and node.op in _ADDS and _only_reader(graph, node.name, reader):
        bias, reader = node, node.name
        node = graph.node(node.input[0])
    if node is None or node.op not in _LAYERS or not _only_reader(graph, node.name, reader):
        return None
    return node, bias


def _only_reader(graph: Graph, name: str, reader: str) -> bool:
    outputs = {split_reference(reference)[0] for reference in graph.outputs}
    if name in outputs or name in graph.inputs:
        return False
    return all(each.name == reader for each in graph.readers(name)) and not any(
        reference == f"^{name}" for each in graph.readers(name) for reference in each.input
    )


def _kernel_of(graph: Graph, layer: Any, channels: int) -> Any | None:
    """The Const that is the layer's kernel, for nobody else, and has that many output channels."""
    inputs = graph.data_inputs(layer)
    kernel = graph.nodes.get(inputs[1])
    if kernel is None or kernel.op != "Const" or kernel.input or not _read_once(graph, inputs[1]):
        return None
    if layer.attr["T"].type not in (1, 2):  # float32, float64
        return None
    if layer.op == "MatMul" and layer.attr["transpose_a"].b:
        return None
    shape = _shape(graph, kernel)
    if shape is None:
        return None
    if layer.op == "DepthwiseConv2dNative":
        made = shape[-1] * shape[-2] if len(shape) == 4 else -1
    elif layer.op == "MatMul":
        made = shape[0 if layer.attr["transpose_b"].b else 1] if len(shape) == 2 else -1
    else:
        made = shape[-1] if len(shape) == 4 else -1
    return kernel if made == channels else None


def _scale_kernel(graph: Graph, layer: Any, kernel: Any, factor: Any) -> None:
    depthwise = layer.op == "DepthwiseConv2dNative"
    rows = layer.op == "MatMul" and layer.attr["transpose_b"].b

    def scaled(value: Any) -> Any:
        shape = value.shape[-2:] if depthwise else (-1, 1) if rows else (-1,)
        return (value * factor.reshape(shape)).astype(value.dtype)

    stored = graph.values.get(kernel.name)
    if stored is not None:
        read: Callable[[], Any] = stored
        size = stored.bytes if isinstance(stored, StoredValue) else 0
        shape = stored.shape if isinstance(stored, StoredValue) else None
        graph.values[kernel.name] = StoredValue(lambda: scaled(read()), size, shape)
        return
    value = graph.constant(kernel.name, limit=None)
    dtype = type(kernel.attr["dtype"]).FromString(kernel.attr["dtype"].SerializeToString())
    graph.become(kernel, "Const", (), dtype=dtype, value=scaled(value))


def _shape(graph: Graph, constant: Any) -> tuple[int, ...] | None:
    stored = graph.values.get(constant.name)
    if stored is not None:
        return stored.shape if isinstance(stored, StoredValue) else None
    return tuple(int(dim.size) for dim in constant.attr["value"].tensor.tensor_shape.dim)


def _read_once(graph: Graph, reference: str) -> bool:
    name = split_reference(reference)[0]
    outputs = {split_reference(each)[0] for each in graph.outputs}
    return name not in outputs and sum(1 for _ in graph.readers_of(short(reference))) == 1


def _ports_read(graph: Graph, name: str) -> set[int]:
    ports = {
        port
        for reader in graph.readers(name)
        for reference in reader.input
        for source, port in [split_reference(reference)]
        if source == name and port is not None
    }
    return ports | {p or 0 for n, p in map(split_reference, graph.outputs) if n == name}


def _control(node: Any) -> bool:
    return any(reference.startswith("^") for reference in node.input)
