"""A SavedModel with the values of a TensorFlow 2 checkpoint of the same model in place of its own.

Both files hold the graph of the objects that own the variables. The two are walked side by side, from the
root or what lies right below it, by the names of children: what is reached by the same path is the same
variable. What is reached so in no way is taken by the name it had when it was saved, where that is unique.
"""

from __future__ import annotations

import difflib
import re
import shutil
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeconv.errors import ConversionError, UsageError
from edgeconv.formats._saved_model_files import find_saved_model
from edgeconv.formats._tensor_bundle import read_index, read_object_graph
from edgeconv.runtimes._checkpoint_matching import Stored
from edgeconv.runtimes._checkpoint_values import StoredValues, rules_of
from edgeconv.runtimes._saved_model_reading import variables_prefix

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_TRAINING = re.compile(
    r"(^|/)(_?optimizer(_\w+)?|keras_api|_metrics|metrics|compiled_metrics|save_counter|step|global_step)(/|$)"
    r"|OPTIMIZER_SLOT|(^|/)seed_generator(/|$)"
)


def with_values(
    saved_model: Path, checkpoint: Path, options: Mapping[str, Any], destination: Path
) -> tuple[str, ...]:
    """Write the SavedModel with the checkpoint's values to the folder ``destination``.

    Args:
        saved_model: as it was given.
        checkpoint: by objects, of the same model.
        options: of the user's: ``restore`` (regular expressions; only variables whose name one matches get
            the checkpoint's value), ``map_variable``.
        destination: does not exist yet.

    Returns:
        Notes for the person.

    Raises:
        InvalidModelError: a file is missing or broken.
        UsageError: the SavedModel has no variables, or a pattern matches none.
        ConversionError: a variable gets no value, or one of another shape; lists what is missing and what
            is left over, with the nearest names.
    """
    import tensorflow as tf

    folder = find_saved_model(saved_model).folder
    own, other = StoredValues(Path(variables_prefix(folder))), StoredValues(checkpoint)
    names = _model_keys(own)
    if not names:
        raise UsageError(
            "the SavedModel has no variables that a checkpoint could set", where=str(saved_model)
        )
    rules = rules_of(options)
    wanted = [key for key in names if rules.takes(names[key]) or rules.takes(key.removesuffix(_VALUE))]
    if not wanted:
        raise UsageError(
            "--restore matches no variable of the SavedModel",
            where=str(saved_model),
            why=f"it has {', '.join(list(names.values())[:6])}",
            hint="the pattern is a regular expression that is searched for in the names of variables",
        )
    found, root = _mapping(own, other, wanted)
    _require_all(wanted, found, names, own, other, checkpoint)
    left = [key for key in _model_keys(other) if key not in set(found.values())]
    over = [key.removesuffix(_VALUE) for key in left if key.startswith(root)]
    if over and not rules.only:
        raise ConversionError(
            f"model and checkpoint do not fit: {len(over)} variables of the checkpoint have no place",
            where=str(checkpoint),
            why=f"left over in it: {_some(over)}: a layer more or less moves the values of those behind it",
            hint="give the checkpoint of this very model; or say which variables to take: --restore PATTERN",
        )
    values = {key: own.read(Stored((key,))) for key in _stored(own)}
    values.update({key: other.read(Stored((found[key],))) for key in wanted})
    shutil.copytree(folder, destination, ignore=shutil.ignore_patterns("variables"))
    (destination / "variables").mkdir()
    graph = tf.train.load_checkpoint(variables_prefix(folder)).get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")
    keys = list(values)
    tf.raw_ops.SaveV2(
        prefix=variables_prefix(destination),
        tensor_names=[*keys, "_CHECKPOINTABLE_OBJECT_GRAPH"],
        shape_and_slices=[""] * (len(keys) + 1),
        tensors=[*(tf.constant(values[key]) for key in keys), tf.constant(graph)],
    )
    own.close()
    other.close()
    note = f"{len(wanted)} of {len(names)} variables have the values of the checkpoint '{checkpoint.name}'"
    if left:
        note += f"; left over in it: {_some([key.removesuffix(_VALUE) for key in left])}"
    return (note,)


def _stored(values: StoredValues) -> list[str]:
    """All keys, without the names that stand for them."""
    keys = set(_graph(values)[1].values())
    return [key for key in values.known() if key in keys or key.endswith(_VALUE)]


def _model_keys(values: StoredValues) -> dict[str, str]:
    """Keys of what inference may read, each with the name of its variable."""
    _, keys, names = _graph(values)
    return {
        key: names.get(number) or key.removesuffix(_VALUE)
        for number, key in keys.items()
        if key.endswith(_VALUE) and not _TRAINING.search(key.removesuffix(_VALUE))
    }


def _graph(values: StoredValues) -> tuple[Any, dict[int, str], dict[int, str]]:
    """The object graph, and key and name of the variables in it."""
    graph = read_object_graph(read_index(Path(f"{values.where}.index")))
    keys: dict[int, str] = {}
    names: dict[int, str] = {}
    for number, node in enumerate(graph.nodes if graph is not None else ()):
        for attribute in node.attributes:
            if attribute.name == "VARIABLE_VALUE" and attribute.checkpoint_key:
                keys[number] = attribute.checkpoint_key
                names[number] = attribute.full_name
    return graph, keys, names


def _mapping(own: StoredValues, other: StoredValues, wanted: Sequence[str]) -> tuple[dict[str, str], str]:
    """Key of the SavedModel to key of the checkpoint, and where in the checkpoint the model begins."""
    graph, keys, names = _graph(own)
    graph_2, keys_2, names_2 = _graph(other)
    best: dict[str, str] = {}
    place = ""
    if graph is not None and graph_2 is not None:
        for root, root_2 in _roots(graph, graph_2):
            pairs = {
                keys[mine]: keys_2[theirs]
                for mine, theirs in _side_by_side(graph, graph_2, root, root_2)
                if mine in keys and theirs in keys_2
            }
            fitting = {
                key: pairs[key] for key in wanted if key in pairs and _same_shape(own, other, key, pairs[key])
            }
            if len(fitting) > len(best):
                best = fitting
                inside = [c.local_name for c in graph_2.nodes[0].children if c.node_id == root_2]
                place = f"{inside[0]}/" if root_2 and inside else ""
    by_name = {name: keys_2[n] for n, name in names_2.items() if list(names_2.values()).count(name) == 1}
    taken = set(best.values())
    called: dict[str, list[str]] = {}
    for number, key in keys.items():
        called.setdefault(names[number], []).append(key)
    for name, alike in called.items():
        if name not in by_name or by_name[name] in taken or not _copies(own, alike):
            continue
        for key in alike:
            if key in wanted and key not in best and _same_shape(own, other, key, by_name[name]):
                best[key] = by_name[name]
    return best, place


def _copies(values: StoredValues, keys: Sequence[str]) -> bool:
    """Whether the keys hold one value; Keras 3 exports every variable twice."""
    import numpy

    first, *others = (values.read(Stored((key,))) for key in keys)
    return all(numpy.array_equal(first, each) for each in others)


def _roots(graph: Any, other: Any) -> Iterator[tuple[int, int]]:
    """Where the model may begin in both: at the root, or right below it."""
    mine = [0, *(child.node_id for child in graph.nodes[0].children)]
    theirs = [0]
    theirs += [c.node_id for c in other.nodes[0].children if not _TRAINING.search(c.local_name)]
    return ((a, b) for a in mine for b in theirs)


def _side_by_side(graph: Any, other: Any, root: int, root_2: int) -> Iterator[tuple[int, int]]:
    """Pairs of objects that the same path leads to; each object once."""
    queue = deque([(root, root_2)])
    seen, seen_2 = {root}, {root_2}
    while queue:
        mine, theirs = queue.popleft()
        yield mine, theirs
        children = {child.local_name: child.node_id for child in other.nodes[theirs].children}
        for child in graph.nodes[mine].children:
            partner = children.get(child.local_name)
            if partner is not None and child.node_id not in seen and partner not in seen_2:
                seen.add(child.node_id)
                seen_2.add(partner)
                queue.append((child.node_id, partner))


def _same_shape(own: StoredValues, other: StoredValues, key: str, key_2: str) -> bool:
    return own.known()[key] == other.known()[key_2]


def _require_all(
    wanted: Sequence[str],
    found: Mapping[str, str],
    names: Mapping[str, str],
    own: StoredValues,
    other: StoredValues,
    checkpoint: Path,
) -> None:
    missing = [key for key in wanted if key not in found]
    if not missing:
        return
    taken = set(found.values())
    left = {key.removesuffix(_VALUE): other.known()[key][0] for key in _model_keys(other) if key not in taken}
    near = [
        f"{names[key]} may be {match[0]}"
        for key in missing[:3]
        if (match := difflib.get_close_matches(key.removesuffix(_VALUE), list(left), n=1, cutoff=0.4))
    ]
    lacking = [f"{names[key]} {list(own.known()[key][0])}" for key in missing]
    raise ConversionError(
        f"model and checkpoint do not fit: {len(missing)} of {len(wanted)} variables get no value",
        where=str(checkpoint),
        why=f"missing in the checkpoint: {_some(lacking)}; left over in it: "
        f"{_some([f'{name} {list(shape)}' for name, shape in left.items()])}"
        + (f"; {'; '.join(near)}" if near else ""),
        hint="give the checkpoint of this very model; or take only what fits: --restore PATTERN, searched "
        "for in the names of the variables",
    )


def _some(items: Sequence[str]) -> str:
    return (", ".join(items[:6]) or "nothing") + (" …" if len(items) > 6 else "")
