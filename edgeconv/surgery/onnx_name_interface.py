"""Inputs and outputs of an ONNX graph as its contract names, orders and shapes them.

Before::

    edgeconv_input_0:0 [unk__1, 224, 224, 3] ─▶ … ─▶ edgeconv_output_0:0

After::

    image [batch, 224, 224, 3] ─▶ … ─▶ logits [batch, 1000]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeconv.formats.base import Contract, TensorSpec


def name_interface(
    model: Any, constants: dict[str, Any], contract: Contract, tensors: Mapping[str, str]
) -> None:
    """Rename, reorder and declare in place.

    Args:
        model: ONNX ModelProto; graph inputs and outputs that the contract does not have are dropped.
        constants: its initializers by name; renamed with it.
        contract: logical names, order and shapes; ``None`` becomes a symbolic dimension. An input that
            the graph does not use is declared all the same, so that all artifacts take the same inputs.
        tensors: logical name to the tensor's present name; two names may not share a present output.
    """
    graph = model.graph
    rename = {present: name for name, present in tensors.items() if present}
    _make_room(graph, constants, set(rename.values()) - set(rename))
    _rename(graph, constants, rename)
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)}
    types = {name: code for name, code in types.items() if code}
    batched = [spec for spec in contract.inputs if spec.shape and spec.shape[0] is None]
    batch = "batch" if len(batched) == 1 else None
    inputs = [_value(spec, types, batch, True) for spec in contract.inputs]
    outputs = [_value(spec, types, batch, False) for spec in contract.outputs]
    del graph.input[:]
    del graph.output[:]
    graph.input.extend(inputs)
    graph.output.extend(outputs)


def name_constant_outputs(model: Any, constants: dict[str, Any]) -> None:
    """Give outputs that are constants, or inputs, a node that makes them; a graph may not lack one."""
    graph = model.graph
    made = {name for node in graph.node for name in node.output}
    for value in graph.output:
        if value.name in constants and value.name not in made:
            constants[f"{value.name}/value"] = constants.pop(value.name)
            for node in graph.node:
                for index, name in enumerate(node.input):
                    if name == value.name:
                        node.input[index] = f"{value.name}/value"
            graph.node.add(
                op_type="Identity", name=value.name, input=[f"{value.name}/value"], output=[value.name]
            )


def _value(spec: TensorSpec, types: Mapping[str, int], batch: str | None, is_input: bool) -> Any:
    from onnx import TensorProto, helper

    elem_type = types.get(spec.name)
    if elem_type is None:
        elem_type = (
            TensorProto.STRING
            if spec.dtype == "string"
            else helper.np_dtype_to_tensor_dtype(_numpy_dtype(spec.dtype))
        )
    if spec.shape is None:
        return helper.make_tensor_value_info(spec.name, elem_type, None)
    dimensions: list[int | str | None] = []
    for axis, size in enumerate(spec.shape):
        if size is not None:
            dimensions.append(size)
        elif is_input:
            # Equal symbols claim equal sizes: only one unknown leading dimension can be "the" batch.
            dimensions.append(batch if axis == 0 and batch else f"{spec.name}_{axis}")
        else:
            dimensions.append(None)
    return helper.make_tensor_value_info(spec.name, elem_type, dimensions)


def _numpy_dtype(name: str) -> Any:
    import numpy

    if name == "bfloat16":
        import ml_dtypes

        return numpy.dtype(ml_dtypes.bfloat16)
    return numpy.dtype(name)


def _make_room(graph: Any, constants: dict[str, Any], names: set[str]) -> None:
    """Rename inner tensors that have a name which the interface is about to take."""
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {value.name for value in (*graph.input, *graph.output)}
    taken |= {tensor.name for tensor in graph.initializer} | set(constants)
    rename: dict[str, str] = {}
    for name in sorted(names & taken):
        other = f"{name}/inner"
        while other in taken:
            other += "_"
        taken.add(other)
        rename[name] = other
    if rename:
        _rename(graph, constants, rename)


def _rename(graph: Any, constants: dict[str, Any], rename: Mapping[str, str]) -> None:
    for old in [name for name in constants if name in rename]:
        constants[rename[old]] = constants.pop(old)
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in rename:
                node.input[index] = rename[name]
        for index, name in enumerate(node.output):
            if name in rename:
                node.output[index] = rename[name]
        for attribute in node.attribute:
            for body in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                own = {name for child in body.node for name in child.output}
                own |= {value.name for value in body.input}
                _rename(body, {}, {old: new for old, new in rename.items() if old not in own})
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = rename.get(value.name, value.name)
    for tensor in graph.initializer:
        tensor.name = rename.get(tensor.name, tensor.name)
