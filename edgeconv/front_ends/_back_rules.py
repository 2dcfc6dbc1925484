"""How the ops behind a detector's network are written: suppression, the best of many, rows by number."""

from __future__ import annotations

from typing import Any

from edgeconv.front_ends._rules import Rule, array_inputs, attribute
from edgeconv.front_ends.generate import Scope


def _suppression(scope: Scope, node: Any) -> None:
    """All versions that give the rows alone, or rows and how many there are."""
    arrays = array_inputs(scope, node)
    boxes, scores, most = arrays[:3]
    overlap = arrays[3] if len(arrays) > 3 else f"np.float32({attribute(node, 'iou_threshold', 'f', 0.5)!r})"
    least = arrays[4] if len(arrays) > 4 else "-np.inf"
    function = "suppressed_by_matrix" if node.op == "NonMaxSuppressionWithOverlaps" else "suppressed"
    made = scope.writer.call(function, boxes, scores, most, overlap, least)
    if node.op != "NonMaxSuppressionV4":
        scope.assign(node, [made])
        return
    rows = scope.writer.name(f"{node.name}_rows")
    scope.say(f"{rows} = {made}")
    _give_rows(scope, node, rows, most)
    scope.give(node, 1, f"np.int32(len({rows}))")


def _soft_suppression(scope: Scope, node: Any) -> None:
    arrays = array_inputs(scope, node)
    rows, kept = (scope.writer.name(f"{node.name}_{each}") for each in ("rows", "scores"))
    scope.say(f"{rows}, {kept} = {scope.writer.call('softly_suppressed', *arrays)}")
    _give_rows(scope, node, rows, arrays[2])
    padded = attribute(node, "pad_to_max_output_size", "b", False)
    scope.give(node, 1, scope.writer.call("padded_rows", kept, arrays[2]) if padded else kept)
    scope.give(node, 2, f"np.int32(len({rows}))")


def _give_rows(scope: Scope, node: Any, rows: str, most: str) -> None:
    padded = attribute(node, "pad_to_max_output_size", "b", False)
    scope.give(node, 0, scope.writer.call("padded_rows", rows, most) if padded else rows)


def _combined(scope: Scope, node: Any) -> None:
    flags = (attribute(node, "pad_per_class", "b", False), attribute(node, "clip_boxes", "b", True))
    made = scope.writer.call("combined_suppression", *array_inputs(scope, node), *map(repr, flags))
    scope.assign_many(node, made, 4)


def _best(scope: Scope, node: Any) -> None:
    arrays = array_inputs(scope, node)
    count = arrays[1] if len(arrays) > 1 else str(int(node.attr["k"].i))
    scope.assign_many(node, scope.writer.call("best_of", arrays[0], count), 2)


def _split_sizes(scope: Scope, node: Any) -> None:
    array, sizes, axis = array_inputs(scope, node)
    count = int(node.attr["num_split"].i)
    axis = f"int(np.asarray({axis}).item())"
    scope.assign_many(node, scope.writer.call("split_sizes", array, sizes, axis), count)


def _gather(scope: Scope, node: Any) -> None:
    arrays = array_inputs(scope, node)
    known = scope.constant(scope.inputs(node)[2]) if len(arrays) > 2 else None
    axis = int(known.reshape(-1)[0]) if known is not None else 0
    shared = int(attribute(node, "batch_dims", "i", 0))
    if not shared:
        scope.assign(node, [f"np.take({arrays[0]}, {arrays[1]}, {axis})"])
        return
    scope.assign(node, [scope.writer.call("gather_in_batch", arrays[0], arrays[1], repr(axis), repr(shared))])


def _gather_nd(scope: Scope, node: Any) -> None:
    values, indices = array_inputs(scope, node)
    shared = int(attribute(node, "batch_dims", "i", 0))
    if not shared:
        scope.assign(node, [f"np.asarray({values})[tuple(np.moveaxis({indices}, -1, 0))]"])
        return
    scope.assign(node, [scope.writer.call("gather_nd_in_batch", values, indices, repr(shared))])


def _pad_value(scope: Scope, node: Any) -> None:
    array, widths, value = array_inputs(scope, node)
    scope.assign(node, [f"np.pad({array}, np.asarray({widths}).tolist(), constant_values={value})"])


def _by(function: str) -> Rule:
    def rule(scope: Scope, node: Any) -> None:
        scope.assign(node, [scope.writer.call(function, *array_inputs(scope, node))])

    return rule


def _hot(scope: Scope, node: Any) -> None:
    axis = repr(int(attribute(node, "axis", "i", -1)))
    scope.assign(node, [scope.writer.call("hot_rows", *array_inputs(scope, node), axis)])


def _as(text: str) -> Rule:
    def rule(scope: Scope, node: Any) -> None:
        scope.assign(node, [text.format(*array_inputs(scope, node))])

    return rule


BACK_RULES: dict[str, Rule] = {
    **dict.fromkeys(
        ("NonMaxSuppression", "NonMaxSuppressionV2", "NonMaxSuppressionV3", "NonMaxSuppressionV4"),
        _suppression,
    ),
    "NonMaxSuppressionWithOverlaps": _suppression,
    "NonMaxSuppressionV5": _soft_suppression,
    "CombinedNonMaxSuppression": _combined,
    "TopK": _best,
    "TopKV2": _best,
    "SplitV": _split_sizes,
    "GatherV2": _gather,
    "GatherNd": _gather_nd,
    "PadV2": _pad_value,
    "ScatterNd": _by("scatter_rows"),
    "OneHot": _hot,
    "Sigmoid": _as("1 / (1 + np.exp(-{0}))"),
    "Relu": _as("np.maximum({0}, 0)"),
    "Sign": _as("np.sign({0})"),
    "Ceil": _as("np.ceil({0})"),
    "Reciprocal": _as("1 / {0}"),
    "DivNoNan": _as(
        "np.divide({0}, {1}, out=np.zeros(np.broadcast({0}, {1}).shape, np.float32), where={1} != 0)"
    ),
    "ClipByValue": _as("np.clip({0}, {1}, {2})"),
    "ReverseV2": _as("np.flip({0}, tuple(np.asarray({1}).tolist()))"),
    "LinSpace": _as("np.linspace({0}, {1}, {2}, dtype=np.float32)"),
}
"""Op type to how it is written, for what only stands behind a network."""
