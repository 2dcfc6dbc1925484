"""Values of a graph's variables, read one at a time from a checkpoint of any age."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeconv.errors import ConversionError, InvalidModelError
from edgeconv.formats._checkpoint_files import CheckpointFiles, checkpoint_files
from edgeconv.formats._tensor_bundle import OBJECT_GRAPH_KEY, check_shards, read_index, read_object_graph
from edgeconv.formats.base import Shape
from edgeconv.formats.graph_reading import pruned, reachable, split_reference
from edgeconv.runtimes._checkpoint_matching import (
    Matched,
    Rules,
    Stored,
    Wanted,
    bounds,
    match,
    parse_renames,
    restored_by_graph,
)
from edgeconv.runtimes._tensorflow import as_conversion_error, dtype_name, shape_of

VARIABLE_OPS = ("VarHandleOp", "VariableV2", "Variable")
_ASSIGNS = ("Assign", "AssignVariableOp")
_RESTORES = ("RestoreV2", "Restore", "RestoreSlice")


class StoredValues:
    """The tensors of one checkpoint by name: format V1 (one table, or several) and V2 (shards).

    In a checkpoint by objects (TensorFlow 2) a variable is also known by the name that it had when it was
    saved, where only one had it.
    """

    def __init__(self, path: Path) -> None:
        """Find the files; nothing is read yet.

        Raises:
            InvalidModelError: there is no checkpoint, or a shard is missing or too short.
            UsageError: a folder holds several.
        """
        files = checkpoint_files(path)
        self.pattern = restore_pattern(files)
        self.where = str(files.prefix)
        self._aliases: dict[str, str] = {}
        if files.index is not None:
            index = read_index(files.index)
            check_shards(index)
            self._aliases = _names_of_objects(read_object_graph(index))
        self._reader: Any = None
        self._known: dict[str, tuple[Shape, str]] = {}

    def known(self) -> Mapping[str, tuple[Shape, str]]:
        """Shape and dtype by name.

        Raises:
            InvalidModelError: the checkpoint is corrupt.
        """
        self._open()
        return self._known

    def read(self, stored: Stored) -> Any:
        """The value as ``numpy.ndarray``: parts are put together, a slice is cut out.

        Raises:
            InvalidModelError: the data is corrupt.
        """
        import numpy

        values = [self._tensor(key) for key in stored.keys]
        value = values[0] if len(values) == 1 else numpy.concatenate(values, axis=stored.axis)
        return value[bounds(stored.extent)[1]] if stored.extent else value

    def close(self) -> None:
        """Give the reader back."""
        self._reader = None

    def _tensor(self, key: str) -> Any:
        import numpy

        reader = self._open()
        try:
            return numpy.asarray(reader.get_tensor(self._aliases.get(key, key)))
        except Exception as error:  # the reader raises what its C++ side says, of many types
            if _SLICED in str(error):
                return self._joined(self._aliases.get(key, key))
            raise InvalidModelError(
                f"the value of '{key}' cannot be read from the checkpoint",
                where=self.where,
                why=" ".join(str(error).split())[:200],
                hint="copy the whole checkpoint again",
            ) from error

    def _joined(self, key: str) -> Any:
        """A value that format V1 holds in slices: the reader refuses it, the op that restores does not."""
        import tensorflow as tf

        with tf.Graph().as_default():
            dtype = tf.as_dtype(self._known[key][1])
            (value,) = tf.raw_ops.RestoreV2(
                prefix=self.pattern, tensor_names=[key], shape_and_slices=[""], dtypes=[dtype]
            )
            with tf.compat.v1.Session() as session:
                return session.run(value)

    def _open(self) -> Any:
        if self._reader is None:
            import tensorflow as tf

            try:
                self._reader = tf.compat.v1.train.NewCheckpointReader(self.pattern)
                shapes = self._reader.get_variable_to_shape_map()
                kinds = self._reader.get_variable_to_dtype_map()
            except Exception as error:  # as above
                raise InvalidModelError(
                    "the checkpoint cannot be read",
                    where=self.where,
                    why=" ".join(str(error).split())[:200],
                    hint="copy the whole checkpoint again",
                ) from error
            self._known = {
                name: (tuple(int(size) for size in shape), dtype_name(kinds[name]))
                for name, shape in sorted(shapes.items())
                if name != OBJECT_GRAPH_KEY
            }
            self._known |= {
                alias: self._known[key]
                for alias, key in self._aliases.items()
                if key in self._known and alias not in self._known
            }
        return self._reader


_SLICED = "Sliced checkpoints"


class GraphValues:
    """Values of the variables of one graph.

    Args:
        graph_def: the whole graph, with its restore ops if it has any.
        restore: name of the node that restores everything; empty where nobody knows.
        needed: NodeDefs of the variables that inference needs.
        values: the checkpoint.
        rules: of the user.
        base: where variables that the rules leave out have their values (those of a SavedModel); ``None``:
            they have what their initialisers say, if that is a constant.

    Raises:
        UsageError, ConversionError: see :func:`edgeconv.runtimes._checkpoint_matching.match`.
    """

    def __init__(
        self,
        graph_def: Any,
        restore: str,
        needed: Sequence[Any],
        values: StoredValues,
        rules: Rules,
        base: StoredValues | None = None,
    ) -> None:
        self._graph_def = graph_def
        self._values = values
        self._base = base
        restored = restored_by_graph(graph_def, restore)
        wanted = [wanted_of(node) for node in needed]
        self.matched: Matched = match(
            wanted, values.known(), restored, rules, where=values.where, kept_values=base is not None
        )
        self._kept: dict[str, Stored] = {}
        if base is not None and self.matched.kept:
            left = [each for each in wanted if each.name in set(self.matched.kept)]
            self._kept = match(left, base.known(), restored, Rules(), where=base.where).stored

    @property
    def notes(self) -> tuple[str, ...]:
        """What to tell a person about the match."""
        return tuple(self.matched.notes)

    def get(self, node: Any) -> Any:
        """The value of the variable that NodeDef ``node`` makes, as ``numpy.ndarray``.

        Raises:
            InvalidModelError: the checkpoint lacks data.
            ConversionError: nothing says what the value is.
        """
        if node.name in self.matched.stored:
            return self._values.read(self.matched.stored[node.name])
        if self._base is not None and node.name in self._kept:
            return self._base.read(self._kept[node.name])
        return initial_value(self._graph_def, node, self._values.where)

    def close(self) -> None:
        """Give the readers back."""
        self._values.close()
        if self._base is not None:
            self._base.close()


def rules_of(options: Mapping[str, Any]) -> Rules:
    """The rules among the user's options: ``map_variable``, ``restore``, ``moving_averages``.

    Raises:
        UsageError: one is malformed.
    """
    return Rules(
        renames=parse_renames(options.get("map_variable") or ()),
        only=tuple(options.get("restore") or ()),
        moving_averages=bool(options.get("moving_averages")),
    )


def restore_pattern(files: CheckpointFiles) -> str:
    """What TensorFlow's restore ops and readers take as the name of the checkpoint."""
    if files.index is None and len(files.tables) > 0 and files.tables[0] != files.prefix:
        return f"{files.prefix}-?????-of-{len(files.tables):05d}"
    return str(files.prefix)


def variables_for(graph_def: Any, roots: Iterable[str], stop: Iterable[str] = ()) -> list[Any]:
    """NodeDefs of the variables that the nodes ``roots`` need, not beyond the nodes ``stop``."""
    ends = set(stop)
    nodes = {node.name: node for node in graph_def.node}
    found: dict[str, None] = {}
    todo = [name for name in roots if name in nodes]
    while todo:
        name = todo.pop()
        if name not in found and name in nodes:
            found[name] = None
            if name not in ends:
                todo.extend(split_reference(reference)[0] for reference in nodes[name].input)
    return [node for node in graph_def.node if node.name in found and node.op in VARIABLE_OPS]


def wanted_of(node: Any) -> Wanted:
    """A variable's NodeDef as what is wanted of the checkpoint."""
    shape = shape_of(node.attr["shape"].shape) if "shape" in node.attr else None
    shared = node.attr["shared_name"].s.decode("utf-8", "replace")
    return Wanted(node.name, shape, dtype_name(node.attr["dtype"].type), (shared,) if shared else ())


def initial_value(graph_def: Any, variable: Any, path: str) -> Any:
    """The value that a variable begins with, where its initialiser is made of constants alone.

    Raises:
        ConversionError: it has no initialiser, or one that depends on chance or on anything else.
    """
    import tensorflow as tf
    from tensorflow.python.framework import op_def_registry

    nodes = {node.name: node for node in graph_def.node}
    for node in graph_def.node:
        if node.op not in _ASSIGNS or not node.input or split_reference(node.input[0])[0] != variable.name:
            continue
        needed = [nodes[name] for name in reachable(graph_def, [split_reference(node.input[1])[0]])]
        definitions = [op_def_registry.get(each.op) for each in needed]
        if any(d is None or d.is_stateful for d in definitions) or any(
            each.op.startswith("Placeholder") or each.op in _RESTORES for each in needed
        ):
            continue
        graph = tf.Graph()
        try:
            with graph.as_default():
                tf.graph_util.import_graph_def(
                    without_private(pruned(graph_def, [split_reference(node.input[1])[0]])), name=""
                )
            with tf.compat.v1.Session(graph=graph) as session:
                name, port = split_reference(node.input[1])
                return session.run(f"{name}:{port or 0}")
        except (tf.errors.OpError, ValueError, KeyError) as error:
            raise as_conversion_error(
                error, f"the initial value of '{variable.name}' cannot be had", path
            ) from error
    raise ConversionError(
        f"the variable '{variable.name}' is not restored, and the graph holds no value for it",
        where=path,
        why="its initialiser draws random numbers or reads something else",
        hint="let --restore match it too, or give a SavedModel or frozen graph, which has values of its own",
    )


def without_private(graph_def: Any) -> Any:
    """The GraphDef, in place, without devices and private attributes, which name nodes that may be gone."""
    for node in graph_def.node:
        node.device = ""
        for name in [n for n in node.attr if n.startswith("_") and n != "_lower_using_switch_merge"]:
            del node.attr[name]
    return graph_def


def _names_of_objects(graph: Any | None) -> dict[str, str]:
    """Name of a variable when it was saved to its key, where one variable alone has that name."""
    found: dict[str, list[str]] = {}
    for node in graph.nodes if graph is not None else ():
        for attribute in node.attributes:
            if attribute.full_name and attribute.checkpoint_key:
                found.setdefault(attribute.full_name, []).append(attribute.checkpoint_key)
    return {name: keys[0] for name, keys in found.items() if len(set(keys)) == 1}
