"""Nodes that only depend on weights become weights.

Before::

    kernel ─▶ Reshape ─▶ Transpose ─▶ Conv

After::

    folded kernel ─▶ Conv

Movements are done by NumPy; anything else by ONNX Runtime, one node at a time, so that the folded value
is the one that the runtime would have computed.
"""

from __future__ import annotations

from typing import Any

from edgeconv.surgery.onnx_initializers import replace_nodes

_NEVER = {
    "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli",
    # Quantization of a weight is how a model says that it is quantized.
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear",
    "Loop", "If", "Scan", "SequenceConstruct", "SequenceEmpty", "SplitToSequence", "Optional",
}  # fmt: skip
MAXIMUM_GROWTH_BYTES = 1 << 20
"""A node that makes more than it gets (``Expand``, ``Tile``, ``ConstantOfShape``) is folded up to here."""


def fold_constants(model: Any, constants: dict[str, Any]) -> int:
    """Fold in place.

    Args:
        model: ONNX ModelProto in topological order, without initializers.
        constants: its initializers by name; results are added to it.

    Returns:
        How many nodes were folded.
    """
    outputs = {value.name for value in model.graph.output}
    used_inside = names_used_inside(model.graph)
    kept: list[Any] = []
    folded = 0
    uses = _uses(model.graph)
    for node in model.graph.node:
        values = _fold(node, constants, outputs, model)
        if values is None:
            kept.append(node)
            continue
        folded += 1
        for name, value in zip(node.output, values, strict=False):
            if name:
                constants[name] = value
        for name in node.input:
            if name:
                uses[name] -= 1
                # Given back at once: at the end would mean holding each weight twice.
                if uses[name] == 0 and name not in outputs and name not in used_inside:
                    constants.pop(name, None)
    if folded:
        replace_nodes(model.graph, kept)
    return folded


def names_used_inside(graph: Any) -> set[str]:
    """Names that graphs inside the nodes of ``graph`` take from anywhere."""
    names: set[str] = set()
    for node in graph.node:
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
            for body in inner:
                names.update(name for child in body.node for name in child.input)
                names.update(value.name for value in body.output)
                names |= names_used_inside(body)
    return names


def _uses(graph: Any) -> dict[str, int]:
    uses: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    return uses


def _fold(node: Any, constants: dict[str, Any], outputs: set[str], model: Any) -> list[Any] | None:
    if node.domain not in ("", "ai.onnx") or node.op_type in _NEVER or not any(node.input):
        return None
    if any(name and name not in constants for name in node.input) or outputs & set(node.output):
        return None
    inputs = [constants[name] if name else None for name in node.input]
    moved = _move(node, inputs)
    if moved is not None:
        return [moved]
    results = _compute(node, inputs, model)
    if results is None:
        return None
    given = sum(value.nbytes for value in inputs if value is not None)
    made = sum(value.nbytes for value in results if value is not None)
    return None if made > given + MAXIMUM_GROWTH_BYTES else results


def _move(node: Any, inputs: list[Any]) -> Any | None:
    """Value of a node that only moves elements; ``None`` if it does more."""
    import numpy

    value = inputs[0]
    if node.op_type == "Identity":
        return value
    if node.op_type == "Transpose":
        permutation = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
        return numpy.ascontiguousarray(numpy.transpose(value, permutation))
    if node.op_type == "Reshape" and len(inputs) == 2 and inputs[1] is not None:
        keeps_zero = any(a.name == "allowzero" and a.i for a in node.attribute)
        shape = [
            value.shape[axis] if size == 0 and not keeps_zero else int(size)
            for axis, size in enumerate(inputs[1].tolist())
        ]
        return value.reshape(shape)
    return None


def _compute(node: Any, inputs: list[Any], model: Any) -> list[Any] | None:
    import onnxruntime
    from onnx import TensorProto, helper

    if any(attribute.HasField("g") for attribute in node.attribute):
        return None
    feeds = {name: value for name, value in zip(node.input, inputs, strict=True) if name}
    try:
        graph = helper.make_graph(
            [node],
            "fold",
            [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
             for n, v in feeds.items()],
            [helper.make_tensor_value_info(n, TensorProto.UNDEFINED, None) for n in node.output if n],
        )  # fmt: skip
        for output in graph.output:
            output.ClearField("type")
        single = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            single.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        values = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))
    except Exception:
        # No kernel, or not computable: the node stays, and the gate on the whole file judges it.
        return None
    # An optional output that is left out has no value; what nothing can name is not needed.
    results = [values.get(name) for name in node.output]
    return (
        None
        if any(value is None for name, value in zip(node.output, results, strict=True) if name)
        else results
    )
