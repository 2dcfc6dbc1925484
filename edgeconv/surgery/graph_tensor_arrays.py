"""Lists of tensors (TensorArray) as what they hold: a stacked tensor, or one tensor for each index.

before:  TensorArrayV3 ─▶ TensorArrayScatterV3(x) ─▶ TensorArrayReadV3(2)
after:   Unpack(x) ─▶ its third output

before:  TensorArrayV3 ─▶ TensorArrayWriteV3(0, a) ─▶ TensorArrayWriteV3(1, b) ─▶ TensorArrayGatherV3
after:   Pack(a, b)

The flow of each list (a scalar that orders the ops) carries, while a graph is rewritten, the state of the
list at that point; a write gives a new state and changes none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgeconv.surgery.graph_loops_emitter import Emitter

OPS = ("TensorArray", "TensorArrayRead", "TensorArrayWrite", "TensorArrayGather", "TensorArrayScatter",
       "TensorArraySize", "TensorArrayConcat", "TensorArraySplit", "TensorArrayClose", "TensorArrayPack",
       "TensorArrayUnpack")  # fmt: skip


def kind(op: str) -> str:
    """The op without its version: ``TensorArrayRead`` of ``TensorArrayReadV3``; empty if it is none."""
    bare = op[:-2] if op.endswith(("V2", "V3")) else op
    return bare if bare in OPS else ""


class Cannot(Exception):  # noqa: N818  (nothing is wrong: another way is tried)
    """A loop or list cannot be said in that way; the text says why, for a person."""


@dataclass(frozen=True)
class Handle:
    """A list as it was made.

    Attributes:
        name: of its node.
        dtype: ``AttrValue`` of its elements' type.
        element: static shape of an element; ``None`` if unknown.
        size: reference to how many it has at first; empty inside of a function, where the list comes from
            around it.
        grows: whether it grows when written beyond its size.
    """

    name: str
    dtype: Any
    element: tuple[int | None, ...] | None
    size: str
    grows: bool


@dataclass(frozen=True)
class Array:
    """The state of a list.

    Attributes:
        handle: the list.
        whole: reference to all elements stacked along a new first axis; empty if it holds single ones.
        elements: index to reference, written since.
        count: how many it has, where that is known.
    """

    handle: Handle
    whole: str = ""
    elements: Mapping[int, str] = field(default_factory=dict)
    count: int | None = None


def made(emitter: Emitter, node: Any, inputs: Sequence[str]) -> tuple[Handle, Array]:
    """The list that a ``TensorArray`` node makes."""
    shape = node.attr["element_shape"].shape if "element_shape" in node.attr else None
    element = None
    if shape is not None and not shape.unknown_rank:
        element = tuple(None if d.size < 0 else d.size for d in shape.dim)
    size = emitter.value(inputs[0])
    handle = Handle(node.name, node.attr["dtype"], element, inputs[0], node.attr["dynamic_size"].b)
    return handle, Array(handle, count=None if size is None else int(size))


def read(emitter: Emitter, array: Array, index: str, name: str) -> str:
    """The element at an index, itself a reference to a scalar."""
    at = emitter.value(index)
    if at is None:
        whole = stacked(emitter, array, name)
        axis = emitter.constant(_int32(0))
        return emitter.emit(
            "GatherV2", name, [whole, index, axis],
            Tparams=array.handle.dtype, Tindices=emitter.dtype(index), Taxis=emitter.dtype(axis),
            batch_dims=0,
        )  # fmt: skip
    return element(emitter, array, int(at), name)


def element(emitter: Emitter, array: Array, index: int, name: str) -> str:
    """The element at a known index; zeros where nothing was written, as TensorFlow gives."""
    if index in array.elements:
        return array.elements[index]
    if array.whole:
        shape = emitter.shape(array.whole)
        if shape and shape[0] is not None:
            if not 0 <= index < shape[0]:
                raise Cannot(f"'{name}' reads element {index} of a list of {shape[0]}")
            return unpacked(emitter, array.whole, shape[0], name)[index]
        return first_axis_slice(emitter, array.whole, index, name)
    return _zeros(emitter, array, name)


def unpacked(emitter: Emitter, whole: str, count: int, name: str) -> list[str]:
    """References to the elements of a stacked tensor; one node for all loops that read it."""
    cache: dict[str, list[str]] = emitter.__dict__.setdefault("unpacked", {})
    if whole not in cache:
        from tensorflow.core.framework import attr_value_pb2

        attributes = {key: attr_value_pb2.AttrValue() for key in ("num", "T", "axis")}
        attributes["num"].i, attributes["axis"].i = count, 0
        attributes["T"].type = emitter.dtype(whole).as_datatype_enum
        cache[whole] = emitter.emit_all("Unpack", f"{name}/unstack", [whole], attributes)
    return cache[whole]


def first_axis_slice(emitter: Emitter, whole: str, index: int, name: str) -> str:
    """``whole[index]``."""
    import tensorflow as tf

    parts = [emitter.constant(_int32([value])) for value in (index, index + 1, 1)]
    return emitter.emit(
        "StridedSlice", name, [whole, *parts],
        T=emitter.dtype(whole), Index=tf.int32, begin_mask=0, end_mask=0, ellipsis_mask=0, new_axis_mask=0,
        shrink_axis_mask=1,
    )  # fmt: skip


def write(emitter: Emitter, array: Array, index: str, value: str, name: str) -> Array:
    """The list with an element replaced."""
    at = emitter.value(index)
    if at is not None and not (array.whole and emitter.shape(array.whole) and _open(emitter, array)):
        position = int(at)
        count = array.count
        if count is not None and position >= count:
            if not array.handle.grows:
                raise Cannot(f"'{name}' writes element {position} of a list of {count}")
            count = position + 1
        elements = dict(array.elements)
        elements[position] = value
        return replace(array, elements=elements, count=count)
    if not array.whole and not array.elements:
        raise Cannot(f"'{name}' writes at an index that is not known, to a list that holds nothing yet")
    whole = stacked(emitter, array, name)
    if (row := emitter.shape(value)) is not None:
        emitter.written.setdefault(array.handle.name, []).append(row)
    if array.handle.grows:
        return Array(array.handle, with_row(emitter, whole, index, value, name), {}, None)
    return Array(array.handle, replaced_row(emitter, whole, index, value, name), {}, array.count)


def _open(emitter: Emitter, array: Array) -> bool:
    shape = emitter.shape(array.whole)
    return shape is None or shape[0] is None


def replaced_row(emitter: Emitter, whole: str, index: str, value: str, name: str) -> str:
    """``whole`` with the row at ``index`` replaced by ``value``."""
    import tensorflow as tf

    row = expanded(emitter, expanded(emitter, index, name), name)
    return emitter.emit(
        "TensorScatterUpdate", name, [whole, row, expanded(emitter, value, name)],
        T=emitter.dtype(whole), Tindices=tf.int32,
    )  # fmt: skip


def with_row(emitter: Emitter, whole: str, index: str, value: str, name: str) -> str:
    """``whole`` with the row at ``index`` replaced by ``value``, or put behind the last one."""
    import tensorflow as tf

    zero, one = (emitter.constant(_int32(value)) for value in (0, 1))
    after = emitter.emit("AddV2", f"{name}/after", [index, one], T=tf.int32)
    first, last = (
        emitter.emit("Pack", f"{name}/bound", [bound], N=1, T=tf.int32, axis=0) for bound in (index, after)
    )
    ends, steps = emitter.constant(_int32([0])), emitter.constant(_int32([1]))
    dtype = emitter.dtype(value)
    before, behind = (
        emitter.emit(
            "StridedSlice", f"{name}/rest", [whole, start, stop, steps],
            T=dtype, Index=tf.int32, begin_mask=begin, end_mask=end, ellipsis_mask=0, new_axis_mask=0,
            shrink_axis_mask=0,
        )
        for start, stop, begin, end in ((ends, first, 1, 0), (last, ends, 0, 1))
    )  # fmt: skip
    parts = [before, expanded(emitter, value, name), behind]
    return emitter.emit("ConcatV2", name, [*parts, zero], N=3, T=dtype, Tidx=tf.int32)


def expanded(emitter: Emitter, reference: str, name: str) -> str:
    """With a new first axis of one."""
    import tensorflow as tf

    axis = emitter.constant(_int32(0))
    return emitter.emit(
        "ExpandDims", f"{name}/row", [reference, axis], T=emitter.dtype(reference), Tdim=tf.int32
    )


def stacked(emitter: Emitter, array: Array, name: str) -> str:
    """All elements as one tensor."""
    if array.whole and not array.elements:
        return array.whole
    count = array.count
    if count is None and array.whole:
        shape = emitter.shape(array.whole)
        count = shape[0] if shape else None
    if count is None:
        raise Cannot(f"it is not known how many elements the list '{array.handle.name}' has")
    return packed(emitter, array, range(count), name)


def packed(emitter: Emitter, array: Array, indices: Sequence[int], name: str) -> str:
    """The elements at known indices as one tensor."""
    import tensorflow as tf

    if not indices:
        shape = array.handle.element
        if shape is None or None in shape:
            raise Cannot(
                f"the list '{array.handle.name}' is empty, and the shape of its elements is not known"
            )
        dtype = tf.as_dtype(array.handle.dtype.type).as_numpy_dtype
        import numpy

        return emitter.constant(numpy.zeros((0, *shape), dtype))
    if array.whole and not array.elements:
        shape = emitter.shape(array.whole)
        if shape and shape[0] is not None and list(indices) == list(range(shape[0])):
            return array.whole
    parts = [element(emitter, array, index, name) for index in indices]
    return emitter.emit("Pack", f"{name}/stack", parts, N=len(parts), T=emitter.dtype(parts[0]), axis=0)


def gather(emitter: Emitter, array: Array, indices: str, name: str) -> str:
    """The elements at indices (a reference to a vector) as one tensor."""
    known = emitter.value(indices)
    if known is not None:
        return packed(emitter, array, [int(index) for index in known], name)
    if array.whole and not array.elements and _counts_all(emitter, indices):
        return array.whole
    axis = emitter.constant(_int32(0))
    return emitter.emit(
        "GatherV2", name, [stacked(emitter, array, name), indices, axis],
        Tparams=array.handle.dtype, Tindices=emitter.dtype(indices), Taxis=emitter.dtype(axis), batch_dims=0,
    )  # fmt: skip


def scatter(emitter: Emitter, array: Array, indices: str, value: str, name: str) -> Array:
    """The list after the rows of ``value`` were put at indices."""
    known = emitter.value(indices)
    shape = emitter.shape(value)
    count = shape[0] if shape else None
    if known is None:
        if _counts_all(emitter, indices) and not array.elements and not array.whole:
            return Array(array.handle, value, {}, count)
        raise Cannot(f"'{name}' fills a list at indices that are not known")
    if list(known) == list(range(len(known))) and (array.count in (None, len(known)) or array.handle.grows):
        return Array(array.handle, value, {}, len(known))
    rows = unpacked(emitter, value, len(known), name) if len(known) else []
    elements = dict(array.elements) | {int(i): row for i, row in zip(known, rows, strict=True)}
    count = max([array.count or 0, *(index + 1 for index in elements)])
    return replace(array, elements=elements, count=count)


def _counts_all(emitter: Emitter, indices: str) -> bool:
    """Whether these are ``range(0, n)``: all elements of a list that is filled and read as a whole."""
    node = emitter.graph.node(emitter.graph.origin(indices))
    if node is None or node.op != "Range":
        return False
    start, _, step = (emitter.value(reference) for reference in emitter.graph.data_inputs(node))
    return start is not None and step is not None and int(start) == 0 and int(step) == 1


def size(emitter: Emitter, array: Array, name: str) -> str:
    """How many elements, as a reference to a scalar of int32."""
    import tensorflow as tf

    if array.count is not None:
        return emitter.constant(_int32(array.count))
    if not array.handle.grows and array.handle.size:
        return array.handle.size
    if not array.whole:
        raise Cannot(f"it is not known how many elements the list '{array.handle.name}' has")
    shape = emitter.emit(
        "Shape", f"{name}/shape", [array.whole], T=emitter.dtype(array.whole), out_type=tf.int32
    )
    return first_axis_slice(emitter, shape, 0, name)


def concatenated(emitter: Emitter, array: Array, name: str) -> tuple[str, str]:
    """All elements one behind the other along their first axis, and the length of each (int64)."""
    import numpy
    import tensorflow as tf

    if array.whole and not array.elements and (array.count is None):
        raise Cannot(f"'{name}' joins a list of unknown length")
    parts = [element(emitter, array, index, name) for index in range(array.count or 0)]
    if not parts:
        raise Cannot(f"'{name}' joins an empty list")
    lengths = []
    for part in parts:
        shape = emitter.shape(part)
        if not shape or shape[0] is None:
            raise Cannot(f"'{name}' joins elements of unknown length")
        lengths.append(shape[0])
    axis = emitter.constant(_int32(0))
    joined = parts[0]
    if len(parts) > 1:
        joined = emitter.emit(
            "ConcatV2", name, [*parts, axis], N=len(parts), T=emitter.dtype(parts[0]), Tidx=tf.int32
        )
    return joined, emitter.constant(numpy.asarray(lengths, numpy.int64))


def split(emitter: Emitter, array: Array, value: str, lengths: str, name: str) -> Array:
    """The list after ``value`` was cut along its first axis into these lengths."""
    import tensorflow as tf
    from tensorflow.core.framework import attr_value_pb2

    known = emitter.value(lengths)
    if known is None:
        raise Cannot(f"'{name}' splits by lengths that are not known")
    attributes = {key: attr_value_pb2.AttrValue() for key in ("num_split", "T", "Tlen")}
    attributes["num_split"].i = len(known)
    attributes["T"].type = emitter.dtype(value).as_datatype_enum
    attributes["Tlen"].type = tf.int64.as_datatype_enum
    axis = emitter.constant(_int32(0))
    rows = [value]
    if len(known) > 1:
        rows = emitter.emit_all("SplitV", name, [value, lengths, axis], attributes)
    return replace(array, elements=dict(enumerate(rows)), whole="", count=len(rows))


def chosen(
    emitter: Emitter, predicate: str, one: Array, other: Array, before: Array | None, name: str
) -> Array:
    """The list that is ``one`` where a scalar is true and else ``other``, element by element.

    ``before`` is a state that both come from: where ``one`` has not changed since, ``other`` has not either.
    """
    if one == other:
        return one
    if one.whole != other.whole or one.count != other.count:
        whole = select(emitter, predicate, stacked(emitter, one, name), stacked(emitter, other, name), name)
        return Array(one.handle, whole, {}, one.count if one.count == other.count else None)
    elements = dict(other.elements)
    for index, value in one.elements.items():
        if elements.get(index) == value or (before is not None and before.elements.get(index) == value):
            continue
        rest = elements.get(index)
        if rest is None:
            rest = _zeros(emitter, replace(other, elements={0: value}), name)
        elements[index] = select(emitter, predicate, value, rest, name)
    return replace(one, elements=elements)


def select(emitter: Emitter, predicate: str, one: str, other: str, name: str) -> str:
    """One of two tensors of the same shape, by a scalar."""
    if one == other:
        return one
    known = emitter.value(predicate)
    if known is not None:
        return one if known.all() else other
    first, second = emitter.shape(one), emitter.shape(other)
    if first is not None and second is not None and len(first) != len(second):
        raise Cannot(f"the branches of '{name}' give tensors of different shapes")
    if any(
        a is not None and b is not None and a != b for a, b in zip(first or (), second or (), strict=False)
    ):
        raise Cannot(f"the branches of '{name}' give tensors of different shapes")
    return emitter.emit("SelectV2", f"{name}/chosen", [predicate, one, other], T=emitter.dtype(one))


def _zeros(emitter: Emitter, array: Array, name: str) -> str:
    """An element that nobody has written."""
    import numpy
    import tensorflow as tf

    dtype = tf.as_dtype(array.handle.dtype.type)
    shape = array.handle.element
    like = next(iter(array.elements.values()), "")
    if like and (shape is None or None in shape):
        stated = emitter.shape(like)
        if stated is None or None in stated:
            return emitter.emit("ZerosLike", f"{name}/nothing", [like], T=dtype)
        shape = stated
    if shape is None or None in shape:
        raise Cannot(f"'{name}' reads an element of '{array.handle.name}' that nobody has written")
    return emitter.constant(numpy.zeros(shape, dtype.as_numpy_dtype))


def _int32(value: Any) -> Any:
    import numpy

    return numpy.asarray(value, numpy.int32)
