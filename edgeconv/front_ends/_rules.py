"""How each op of a front end is written: one rule an op type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeconv.front_ends.generate import FORWARDING, HINT, NotSuppliedError, Scope

Rule = Callable[[Scope, Any], None]
_EXPRESSIONS = {
    # Where {0}, {1} … are the inputs. Strings are told apart below.
    "Sub": "{0} - {1}",
    "Mul": "{0} * {1}",
    "RealDiv": "{0} / {1}",
    "Div": "{0} / {1}",
    "Maximum": "np.maximum({0}, {1})",
    "Minimum": "np.minimum({0}, {1})",
    "FloorDiv": "{0} // {1}",
    "FloorMod": "np.mod({0}, {1})",
    "Pow": "np.power({0}, {1})",
    "Less": "np.less({0}, {1})",
    "LessEqual": "np.less_equal({0}, {1})",
    "Greater": "np.greater({0}, {1})",
    "GreaterEqual": "np.greater_equal({0}, {1})",
    "LogicalAnd": "np.logical_and({0}, {1})",
    "LogicalOr": "np.logical_or({0}, {1})",
    "LogicalNot": "np.logical_not({0})",
    "Abs": "np.abs({0})",
    "Neg": "np.negative({0})",
    "Exp": "np.exp({0})",
    "Log": "np.log({0})",
    "Log1p": "np.log1p({0})",
    "Sqrt": "np.sqrt({0})",
    "Square": "np.square({0})",
    "SquaredDifference": "np.square({0} - {1})",
    "Floor": "np.floor({0})",
    "Round": "np.round({0})",
    "ZerosLike": "np.zeros_like({0})",
    "OnesLike": "np.ones_like({0})",
    "Reshape": "np.reshape({0}, np.asarray({1}).tolist())",
    "Tile": "np.tile({0}, np.asarray({1}).tolist())",
    "Fill": "np.full(np.asarray({0}).tolist(), {1})",
    "BroadcastTo": "np.broadcast_to({0}, np.asarray({1}).tolist())",
    "Transpose": "np.transpose({0}, np.asarray({1}).tolist())",
    "Pad": "np.pad({0}, np.asarray({1}).tolist())",
    "Range": "np.arange({0}, {1}, {2})",
    "Rank": "np.int32(np.ndim({0}))",
    "Where": "np.argwhere({0})",
    "GatherNd": "np.asarray({0})[tuple(np.moveaxis({1}, -1, 0))]",
    "MatMul": "np.matmul({0}, {1})",
    "SelectV2": "np.where({0}, {1}, {2})",
    "IsNan": "np.isnan({0})",
}
_LIBRARY = {
    # Op type to the library's function, which takes the inputs in their order and then attributes.
    "DecodeBase64": ("decode_base64", ()),
    "EncodeBase64": ("encode_base64", (("pad", "b", False),)),
    "Slice": ("plain_slice", ()),
    "Select": ("spread", ()),
    "ReduceJoin": ("reduce_join", (("separator", "s", b""), ("keep_dims", "b", False))),
    "RegexReplace": ("regex_replace", (("replace_global", "b", True),)),
    "RegexFullMatch": ("regex_matches", ()),
    "SparseToDense": ("sparse_to_dense", ()),
}


def array_inputs(scope: Scope, node: Any) -> list[str]:
    return [scope.value(reference) for reference in scope.inputs(node)]


def attribute(node: Any, name: str, kind: str, default: Any) -> Any:
    if name not in node.attr or node.attr[name].WhichOneof("value") is None:
        return default
    value = getattr(node.attr[name], kind)
    return bool(value) if kind == "b" else value


def dtype_of(node: Any, name: str, default: str = "float32") -> str:
    import tensorflow as tf

    if name not in node.attr:
        return default
    return str(tf.as_dtype(node.attr[name].type % 100).name).replace("string", "object")


def dtypes_of(node: Any, name: str) -> list[str]:
    import tensorflow as tf

    return [str(tf.as_dtype(t).name).replace("string", "object") for t in node.attr[name].list.type]


def _is_text(node: Any, name: str = "T") -> bool:
    return dtype_of(node, name) == "object"


def _expression(scope: Scope, node: Any) -> None:
    scope.assign(node, [_EXPRESSIONS[node.op].format(*array_inputs(scope, node))])


def _by_library(scope: Scope, node: Any) -> None:
    function, attributes = _LIBRARY[node.op]
    values = [attribute(node, *described) for described in attributes]
    scope.assign(node, [scope.writer.call(function, *array_inputs(scope, node), *map(repr, values))])


def _forward(scope: Scope, node: Any) -> None:
    scope.give(node, 0, scope.value(scope.inputs(node)[0]))


def _forward_all(scope: Scope, node: Any) -> None:
    for port, reference in enumerate(scope.inputs(node)):
        scope.give(node, port, scope.value(reference))


def _const(scope: Scope, node: Any) -> None:
    import numpy
    import tensorflow as tf

    value = numpy.asarray(tf.make_ndarray(node.attr["value"].tensor))
    scope.give(node, 0, scope.writer.constant(value, node.name))


def _add(scope: Scope, node: Any) -> None:
    one, two = array_inputs(scope, node)
    scope.assign(node, [scope.writer.call("join_texts", one, two) if _is_text(node) else f"{one} + {two}"])


def _add_n(scope: Scope, node: Any) -> None:
    scope.assign(node, [" + ".join(array_inputs(scope, node))])


def _equal(scope: Scope, node: Any) -> None:
    arrays = array_inputs(scope, node)
    made = scope.writer.call("equal_texts", *arrays) if _is_text(node) else f"np.equal({', '.join(arrays)})"
    scope.assign(node, [f"~{made}" if node.op == "NotEqual" else made])


def _cast(scope: Scope, node: Any) -> None:
    scope.assign(node, [f"np.asarray({array_inputs(scope, node)[0]}).astype({dtype_of(node, 'DstT')!r})"])


def _shape(scope: Scope, node: Any) -> None:
    scope.assign(
        node, [f"np.array(np.shape({array_inputs(scope, node)[0]}), {dtype_of(node, 'out_type', 'int32')!r})"]
    )


def _size(scope: Scope, node: Any) -> None:
    scope.assign(node, [f"np.{dtype_of(node, 'out_type', 'int32')}(np.size({array_inputs(scope, node)[0]}))"])


def _expand(scope: Scope, node: Any) -> None:
    array, axis = array_inputs(scope, node)
    scope.assign(node, [f"np.expand_dims({array}, {_whole(scope, node, 1, axis)})"])


def _whole(scope: Scope, node: Any, index: int, text: str) -> str:
    """A scalar input as a Python integer: its value where it is a constant."""
    known = scope.constant(scope.inputs(node)[index])
    return str(int(known.reshape(-1)[0])) if known is not None else f"int(np.asarray({text}).item())"


def _squeeze(scope: Scope, node: Any) -> None:
    axes = tuple(int(axis) for axis in node.attr["squeeze_dims"].list.i)
    scope.assign(node, [f"np.squeeze({array_inputs(scope, node)[0]}{f', {axes}' if axes else ''})"])


def _pack(scope: Scope, node: Any) -> None:
    arrays = array_inputs(scope, node)
    listed = (
        ", ".join(f"np.asarray({array}, object)" for array in arrays) if _is_text(node) else ", ".join(arrays)
    )
    scope.assign(node, [f"np.stack([{listed}], {int(node.attr['axis'].i)})"])


def _unpack(scope: Scope, node: Any) -> None:
    count, axis = int(node.attr["num"].i), int(node.attr["axis"].i)
    scope.assign_many(node, f"np.moveaxis({array_inputs(scope, node)[0]}, {axis}, 0)", count)


def _concat(scope: Scope, node: Any) -> None:
    arrays = array_inputs(scope, node)
    last = node.op == "ConcatV2"
    axis = _whole(scope, node, len(arrays) - 1 if last else 0, arrays[-1 if last else 0])
    parts = arrays[:-1] if last else arrays[1:]
    scope.assign(node, [f"np.concatenate([{', '.join(parts)}], {axis})"])


def _split(scope: Scope, node: Any) -> None:
    axis, array = array_inputs(scope, node)
    count = int(node.attr["num_split"].i)
    scope.assign_many(node, f"np.split({array}, {count}, {_whole(scope, node, 0, axis)})", count)


def _gather(scope: Scope, node: Any) -> None:
    arrays = array_inputs(scope, node)
    axis = _whole(scope, node, 2, arrays[2]) if len(arrays) > 2 else "0"
    if attribute(node, "batch_dims", "i", 0):
        raise NotSuppliedError(f"{node.op} ('{node.name}') with batch_dims is not known here", hint=HINT)
    scope.assign(node, [f"np.take({arrays[0]}, {arrays[1]}, {axis})"])


def _reduce(scope: Scope, node: Any) -> None:
    name = {
        "Sum": "sum",
        "Mean": "mean",
        "Max": "max",
        "Min": "min",
        "Prod": "prod",
        "All": "all",
        "Any": "any",
    }
    array, axes = array_inputs(scope, node)
    kept = bool(node.attr["keep_dims"].b)
    kind = "" if node.op in ("All", "Any", "Max", "Min") else f", dtype={dtype_of(node, 'T')!r}"
    axis = f"axis=tuple(np.asarray({axes}).reshape(-1).tolist())"
    scope.assign(node, [f"np.{name[node.op]}({array}, {axis}, keepdims={kept}{kind})"])


def _argument(scope: Scope, node: Any) -> None:
    array, axis = array_inputs(scope, node)
    name = "argmax" if node.op == "ArgMax" else "argmin"
    made = f"np.{name}({array}, {_whole(scope, node, 1, axis)})"
    scope.assign(node, [f"{made}.astype({dtype_of(node, 'output_type', 'int64')!r})"])


def _strided_slice(scope: Scope, node: Any) -> None:
    masks = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    values = [repr(int(node.attr[mask].i)) for mask in masks]
    scope.assign(node, [scope.writer.call("strided_slice", *array_inputs(scope, node), *values)])


def _resize(scope: Scope, node: Any) -> None:
    function = "resize_bilinear" if node.op == "ResizeBilinear" else "resize_nearest"
    flags = [repr(attribute(node, name, "b", False)) for name in ("align_corners", "half_pixel_centers")]
    scope.assign(node, [scope.writer.call(function, *array_inputs(scope, node), *flags)])


def _new_array(scope: Scope, node: Any) -> None:
    name = scope.writer.name(node.name)
    scope.say(
        f"{name} = [None] * int({array_inputs(scope, node)[-1 if node.op == 'TensorListReserve' else 0]})"
    )
    scope.give(node, 0, name)
    scope.give(node, 1, name)


def _scatter_array(scope: Scope, node: Any) -> None:
    handle, _, values, _ = array_inputs(scope, node)
    scope.say(f"{handle}[:] = list({values})")
    scope.give(node, 0, handle)


def _read_array(scope: Scope, node: Any) -> None:
    handle, index, *_ = array_inputs(scope, node)
    scope.assign(node, [f"{handle}[int({index})]"])


def _write_array(scope: Scope, node: Any) -> None:
    handle, index, value, *_ = array_inputs(scope, node)
    scope.say(f"{handle}[int({index})] = {value}")
    scope.give(node, 0, handle)


def _gather_array(scope: Scope, node: Any) -> None:
    handle, indices, _ = array_inputs(scope, node)
    name = dtype_of(node, "dtype")
    item = f"np.asarray({handle}[index], {name!r})"
    scope.assign(node, [f"np.stack([{item} for index in np.asarray({indices}).tolist()])"])


def _array_size(scope: Scope, node: Any) -> None:
    scope.assign(node, [f"np.int32(len({array_inputs(scope, node)[0]}))"])


def _list_of(scope: Scope, node: Any) -> None:
    scope.assign(node, [f"list({array_inputs(scope, node)[0]})"])


def _stack_list(scope: Scope, node: Any) -> None:
    items = array_inputs(scope, node)[0]
    scope.assign(
        node, [f"np.stack([np.asarray(item, {dtype_of(node, 'element_dtype')!r}) for item in {items}])"]
    )


def _unconnected(scope: Scope, node: Any) -> None:
    raise NotSuppliedError(f"the branch at '{node.name}' ({node.op}) is not known here", hint=HINT)


RULES: dict[str, Rule] = {
    **dict.fromkeys(_EXPRESSIONS, _expression),
    **dict.fromkeys(_LIBRARY, _by_library),
    **dict.fromkeys(FORWARDING, _forward),
    "IdentityN": _forward_all,
    "Const": _const,
    "Add": _add,
    "AddV2": _add,
    "AddN": _add_n,
    "Equal": _equal,
    "NotEqual": _equal,
    "Cast": _cast,
    "Shape": _shape,
    "Size": _size,
    "ExpandDims": _expand,
    "Squeeze": _squeeze,
    "Pack": _pack,
    "Unpack": _unpack,
    "Concat": _concat,
    "ConcatV2": _concat,
    "Split": _split,
    **dict.fromkeys(("Gather", "GatherV2"), _gather),
    **dict.fromkeys(("Sum", "Mean", "Max", "Min", "Prod", "All", "Any"), _reduce),
    "ArgMax": _argument,
    "ArgMin": _argument,
    "StridedSlice": _strided_slice,
    "ResizeBilinear": _resize,
    "ResizeNearestNeighbor": _resize,
    "TensorArrayV3": _new_array,
    "TensorArrayScatterV3": _scatter_array,
    "TensorArrayReadV3": _read_array,
    "TensorArrayWriteV3": _write_array,
    "TensorArrayGatherV3": _gather_array,
    "TensorArraySizeV3": _array_size,
    "TensorListReserve": _new_array,
    "TensorListFromTensor": _list_of,
    "TensorListGetItem": _read_array,
    "TensorListSetItem": _write_array,
    "TensorListStack": _stack_list,
    "TensorListLength": _array_size,
    "Enter": _forward,
    "Switch": _unconnected,
    "Merge": _unconnected,
}
