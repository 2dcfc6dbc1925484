"""Per-channel arithmetic behind a convolution goes into its weights.

Before::

    x ─▶ Conv(W, b) ─▶ BatchNormalization | Mul(c) | Add(c) | Sub(c) | Div(c) ─▶ y

After::

    x ─▶ Conv(W', b') ─▶ y

With scale s and shift t per output channel: W' = W · s, b' = b · s + t. For a batch norm
s = gamma / sqrt(variance + epsilon) and t = beta - mean · s. Computed in float64.
"""

from __future__ import annotations

from typing import Any

from edgeconv.surgery.onnx_fold_constants import names_used_inside
from edgeconv.surgery.onnx_initializers import replace_nodes


def fuse_batch_norm(model: Any, constants: dict[str, Any]) -> int:
    """Fuse in place, until nothing is left to fuse; ``constants`` are the model's initializers.

    Returns:
        How many nodes went.
    """
    graph = model.graph
    outputs = {value.name for value in graph.output} | names_used_inside(graph)
    consumers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    weight_uses = {name: len(nodes) for name, nodes in consumers.items()}
    removed: set[str] = set()
    for convolution in graph.node:
        if convolution.op_type not in ("Conv", "ConvTranspose") or convolution.domain not in ("", "ai.onnx"):
            continue
        while True:
            name = convolution.output[0]
            following = consumers.get(name, [])
            if len(following) != 1 or name in outputs:
                break
            node = following[0]
            if node.input[:].count(name) != 1 or not _fuse(convolution, node, constants, weight_uses):
                break
            convolution.output[0] = node.output[0]
            removed.add(node.output[0])
    if not removed:
        return 0
    # The convolution has the output of what it took in, so only the kind tells the two apart.
    kept = [n for n in graph.node if n.op_type in ("Conv", "ConvTranspose") or n.output[0] not in removed]
    count = len(graph.node) - len(kept)
    replace_nodes(graph, kept)
    return count


def _fuse(convolution: Any, node: Any, constants: dict[str, Any], uses: dict[str, int]) -> bool:
    import numpy

    weight = constants.get(convolution.input[1])
    bias_name = convolution.input[2] if len(convolution.input) > 2 else ""
    if weight is None or (bias_name and bias_name not in constants) or weight.dtype.kind != "f":
        return False
    groups = next((a.i for a in convolution.attribute if a.name == "group"), 1)
    transposed = convolution.op_type == "ConvTranspose"
    channels = weight.shape[1] * groups if transposed else weight.shape[0]
    found = _scale_and_shift(node, convolution.output[0], constants, channels, weight.ndim)
    if found is None:
        return False
    scale, shift = found
    wide = weight.astype(numpy.float64)
    if transposed:
        # Weights of a transposed convolution are (in, out / groups, …), the groups in blocks of `in`.
        per_block = scale.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))
        scaled = wide.reshape(groups, -1, *weight.shape[1:]) * per_block
    else:
        scaled = wide * scale.reshape(-1, *[1] * (weight.ndim - 1))
    bias = constants[bias_name].astype(numpy.float64) if bias_name else numpy.zeros(channels)
    new_weight = scaled.reshape(weight.shape).astype(weight.dtype)
    new_bias = (bias * scale + shift).astype(weight.dtype)
    if not (numpy.isfinite(new_weight).all() and numpy.isfinite(new_bias).all()):
        return False
    new_names = [f"{node.output[0]}/fused_weight", f"{node.output[0]}/fused_bias"]
    for name in filter(None, (convolution.input[1], bias_name)):
        uses[name] -= 1
        if uses[name] == 0:
            del constants[name]
    constants[new_names[0]], constants[new_names[1]] = new_weight, new_bias
    uses[new_names[0]] = uses[new_names[1]] = 1
    data = convolution.input[0]
    del convolution.input[:]
    convolution.input.extend([data, *new_names])
    return True


def _scale_and_shift(
    node: Any, data: str, constants: dict[str, Any], channels: int, rank: int
) -> tuple[Any, Any] | None:
    """Scale and shift per output channel in float64, or ``None`` if ``node`` is not of that kind."""
    import numpy

    if node.op_type == "BatchNormalization":
        values = [constants.get(name) for name in node.input[1:5]]
        training = any(a.name == "training_mode" and a.i for a in node.attribute)
        if node.input[0] != data or training or any(node.output[1:]) or any(v is None for v in values):
            return None
        gamma, beta, mean, variance = (v.astype(numpy.float64) for v in values if v is not None)
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        scale = gamma / numpy.sqrt(variance + epsilon)
        return scale, beta - mean * scale
    if node.op_type not in ("Mul", "Add", "Sub", "Div") or len(node.input) != 2:
        return None
    position = 1 if node.input[0] == data else 0
    if node.op_type in ("Sub", "Div") and position == 0:
        return None
    vector = _per_channel(constants.get(node.input[position]), channels, rank)
    if vector is None:
        return None
    one, zero = numpy.ones(channels), numpy.zeros(channels)
    if node.op_type in ("Mul", "Div"):
        with numpy.errstate(divide="ignore"):
            return (vector if node.op_type == "Mul" else 1.0 / vector), zero
    return one, (vector if node.op_type == "Add" else -vector)


def _per_channel(value: Any | None, channels: int, rank: int) -> Any | None:
    """``value`` as one float64 a channel if it broadcasts over (N, C, spatial…) that way."""
    import numpy

    if value is None or value.dtype.kind != "f" or value.ndim > rank:
        return None
    shape = (1,) * (rank - value.ndim) + value.shape
    if shape[1] not in (1, channels) or any(size != 1 for axis, size in enumerate(shape) if axis != 1):
        return None
    return numpy.broadcast_to(value.astype(numpy.float64).reshape(-1), (channels,)).copy()
