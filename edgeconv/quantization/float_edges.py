"""Gives an integer TFLite graph float32 inputs and outputs, under the names that they had.

LiteRT Quantizer can leave inputs and outputs float itself, but then feeds an operator that reads an output
with the float copy of it, which no integer kernel takes. Here the graph is quantized throughout first::

    before:  x int8 ─▶ CONV_2D ─▶ y int8
    after:   x float32 ─▶ QUANTIZE ─▶ x_integer ─▶ CONV_2D ─▶ y_integer ─▶ DEQUANTIZE ─▶ y float32

Where a float operator stands at the edge, the conversion next to it is undone instead::

    before:  … ─▶ COS ─▶ t float32 ─▶ QUANTIZE ─▶ y int8
    after:   … ─▶ COS ─▶ y float32
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeconv.formats._tflite_names import BUILTIN_OPERATORS, ELEMENT_TYPES
from edgeconv.quantization.flatbuffer import operator_name, type_name

_FLOAT = ELEMENT_TYPES.index("float32")


def restore_float_edges(model: Any, subgraph: int, was_float: tuple[Sequence[bool], Sequence[bool]]) -> None:
    """Make inputs and outputs of a subgraph float32 again; changes ``model`` in place.

    Args:
        model: ``ModelT`` of the schema.
        subgraph: index of the subgraph.
        was_float: for each input and each output, whether it was float32 before quantizing.
    """
    graph = model.subgraphs[subgraph]
    graph.inputs, graph.outputs = list(graph.inputs), list(graph.outputs)
    for place, wanted in enumerate(was_float[0]):
        old = graph.inputs[place]
        if wanted and type_name(graph.tensors[old]) != "float32":
            new = _float_input(model, graph, old)
            graph.inputs[place] = new
            _repoint(model, subgraph, "inputs", old, new)
    done: dict[int, int] = {}
    for place, wanted in enumerate(was_float[1]):
        old = graph.outputs[place]
        if wanted and (old in done or type_name(graph.tensors[old]) != "float32"):
            if old not in done:
                done[old] = _float_output(model, graph, old)
            graph.outputs[place] = done[old]
            _repoint(model, subgraph, "outputs", old, done[old])
    _drop_unused(model, graph)


def repoint_signatures(model: Any, source: Any) -> None:
    """Let the signatures of ``model`` name its graphs' inputs and outputs, as those of ``source`` do.

    Where an operator without integer kernel reads an output, LiteRT Quantizer makes the float copy the
    output of the graph and leaves the signature at the integers. Changes ``model`` in place.
    """
    for written, meant in zip(model.signatureDefs or (), source.signatureDefs or (), strict=False):
        graph, old = model.subgraphs[meant.subgraphIndex], source.subgraphs[meant.subgraphIndex]
        for side in ("inputs", "outputs"):
            places, before = getattr(graph, side), list(getattr(old, side))
            indices = {entry.name: entry.tensorIndex for entry in getattr(meant, side) or ()}
            for entry in getattr(written, side) or ():
                if indices.get(entry.name) in before:
                    entry.tensorIndex = places[before.index(indices[entry.name])]


def _float_input(model: Any, graph: Any, old: int) -> int:
    new = _float_twin(graph, old)
    for operator in graph.operators:
        if operator_name(model, operator) == "DEQUANTIZE" and operator.inputs[0] == old:
            _replace_uses(graph, operator.outputs[0], new)
    operator = _operator(model, "QUANTIZE", new, old, graph)
    graph.operators.insert(0, operator)
    return new


def _float_output(model: Any, graph: Any, old: int) -> int:
    producer = next((o for o in graph.operators if old in list(o.outputs)), None)
    if producer is not None and operator_name(model, producer) == "QUANTIZE":
        source = int(producer.inputs[0])
        if type_name(graph.tensors[source]) == "float32" and source not in graph.inputs:
            graph.tensors[source].name, graph.tensors[old].name = (
                graph.tensors[old].name,
                _integer_name(graph, old),
            )
            return source
    new = _float_twin(graph, old)
    graph.operators.append(_operator(model, "DEQUANTIZE", old, new, graph))
    return new


def _float_twin(graph: Any, old: int) -> int:
    """A float32 tensor of the same shape, which takes over the name."""
    from ai_edge_litert.schema_py_generated import TensorT

    tensor = graph.tensors[old]
    twin = TensorT()
    twin.__dict__.update(tensor.__dict__)
    twin.type, twin.quantization, twin.buffer = _FLOAT, None, 0
    tensor.name = _integer_name(graph, old)
    graph.tensors.append(twin)
    return len(graph.tensors) - 1


def _integer_name(graph: Any, index: int) -> bytes:
    names = {tensor.name for tensor in graph.tensors}
    name = (graph.tensors[index].name or b"tensor") + b"_integer"
    while name in names:
        name += b"_"
    return bytes(name)


def _operator(model: Any, name: str, source: int, target: int, graph: Any) -> Any:
    from ai_edge_litert.schema_py_generated import OperatorT

    operator = OperatorT()
    operator.opcodeIndex = _code(model, name)
    operator.inputs, operator.outputs = [source], [target]
    return operator


def _code(model: Any, name: str) -> int:
    from ai_edge_litert.schema_py_generated import OperatorCodeT

    number = BUILTIN_OPERATORS.index(name)
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == number and not code.customCode:
            return index
    code = OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = number
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _replace_uses(graph: Any, old: int, new: int) -> None:
    for operator in graph.operators:
        operator.inputs = [new if index == old else index for index in operator.inputs]


def _repoint(model: Any, subgraph: int, side: str, old: int, new: int) -> None:
    for signature in model.signatureDefs or ():
        if signature.subgraphIndex == subgraph:
            for entry in getattr(signature, side) or ():
                if entry.tensorIndex == old:
                    entry.tensorIndex = new


def _drop_unused(model: Any, graph: Any) -> None:
    """Remove conversions between types whose result nobody reads any more."""
    while True:
        read = {int(index) for operator in graph.operators for index in operator.inputs} | set(graph.outputs)
        kept = [
            operator
            for operator in graph.operators
            if operator_name(model, operator) not in ("QUANTIZE", "DEQUANTIZE")
            or any(int(index) in read for index in operator.outputs)
        ]
        if len(kept) == len(graph.operators):
            return
        graph.operators = kept
