"""Values of a SavedModel's variables, read one at a time from its checkpoint.

Which stored tensor belongs to which variable is what the graph's own restore subgraph says; it is read,
not run. Only where that is not conclusive (sliced variables, variables that an initialiser sets) is the
model loaded into a session.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeconv.errors import ConversionError, EdgeconvError, InvalidModelError
from edgeconv.formats.graph_reading import split_reference
from edgeconv.runtimes._saved_model_reading import variables_prefix
from edgeconv.runtimes._tensorflow import as_conversion_error

_PASSING = ("Identity", "IdentityN", "RefIdentity", "StopGradient", "Enter")
_ASSIGNS = ("Assign", "AssignVariableOp")


def stored_keys(graph_def: Any) -> dict[str, str]:
    """Variable node to the key of its whole value in the checkpoint, as the inlined restore ops say it."""
    nodes = {node.name: node for node in graph_def.node}
    keys: dict[str, str] = {}
    read: dict[str, list[str] | None] = {}

    def strings(reference: str) -> list[str] | None:
        # One list names all variables, and is long.
        if reference not in read:
            read[reference] = _strings(nodes, reference)
        return read[reference]

    for node in graph_def.node:
        if node.op not in _ASSIGNS or len(node.input) < 2:
            continue
        variable, _ = _origin(nodes, node.input[0])
        source, port = _origin(nodes, node.input[1])
        if source not in nodes or nodes[source].op not in ("RestoreV2", "Restore", "RestoreSlice"):
            continue
        restore = nodes[source]
        names, slices = strings(restore.input[1]), None
        if restore.op != "Restore":
            slices = strings(restore.input[2])
        if names is None or port >= len(names) or (slices is not None and slices[port]):
            continue
        keys[variable] = names[port]
    return keys


class VariableValues:
    """Reads values of variables by the names of their nodes.

    Args:
        path: folder of the SavedModel.
        keys: what :func:`stored_keys` found.
        tags: tags of the graph, for the session that is the second way.
    """

    def __init__(self, path: Path, keys: Mapping[str, str], tags: list[str]) -> None:
        self._path = path
        self._keys = keys
        self._tags = tags
        self._reader: Any = None
        self._shapes: Mapping[str, Any] = {}
        self._session: Any = None

    def get(self, node: Any) -> Any:
        """The value of the variable that NodeDef ``node`` makes, as ``numpy.ndarray``.

        Raises:
            InvalidModelError: the checkpoint is not there, or lacks data.
            ConversionError: neither the checkpoint nor the initialisers say what the value is.
        """
        key = self._keys.get(node.name)
        if key is not None:
            reader = self._open()
            if key in self._shapes:
                try:
                    return reader.get_tensor(key)
                except Exception as error:  # the reader raises what its C++ side says, of many types
                    raise InvalidModelError(
                        f"the value of variable '{node.name}' cannot be read",
                        where=variables_prefix(self._path),
                        why=" ".join(str(error).split())[:200],
                        hint="copy the 'variables' folder again, all its shards included",
                    ) from error
        return self._by_session(node)

    def close(self) -> None:
        """Give reader and session back."""
        self._reader = None
        if self._session is not None:
            self._session.close()
            self._session = None

    def _open(self) -> Any:
        if self._reader is None:
            import tensorflow as tf

            prefix = variables_prefix(self._path)
            try:
                self._reader = tf.train.load_checkpoint(prefix)
                self._shapes = self._reader.get_variable_to_shape_map()
            except (tf.errors.OpError, ValueError, RuntimeError) as error:
                raise InvalidModelError(
                    "the SavedModel's variables are missing or broken",
                    where=prefix,
                    why=" ".join(str(error).split())[:200],
                    hint="copy the 'variables' folder that belongs to saved_model.pb",
                ) from error
        return self._reader

    def _by_session(self, node: Any) -> Any:
        import tensorflow as tf

        try:
            if self._session is None:
                graph = tf.Graph()
                self._session = tf.compat.v1.Session(graph=graph)
                with graph.as_default():
                    tf.compat.v1.saved_model.load(self._session, self._tags, str(self._path))
            with self._session.graph.as_default():
                tensor = self._session.graph.get_tensor_by_name(f"{node.name}:0")
                if node.op == "VarHandleOp":
                    tensor = tf.raw_ops.ReadVariableOp(resource=tensor, dtype=node.attr["dtype"].type)
            return self._session.run(tensor)
        except EdgeconvError:
            raise
        except (tf.errors.OpError, KeyError, ValueError, RuntimeError, AttributeError) as error:
            if isinstance(error, tf.errors.FailedPreconditionError):
                raise ConversionError(
                    f"variable '{node.name}' has no value: neither checkpoint nor initialisers set it",
                    where=str(self._path),
                    hint="export the model again from a session in which all variables are initialised",
                ) from error
            raise as_conversion_error(
                error, f"the value of variable '{node.name}' cannot be had", str(self._path)
            ) from error


def _origin(nodes: Mapping[str, Any], reference: str) -> tuple[str, int]:
    name, port = split_reference(reference)
    while name in nodes and nodes[name].op in _PASSING and nodes[name].input:
        index = port or 0 if nodes[name].op == "IdentityN" else 0
        name, port = split_reference(nodes[name].input[index])
    return name, port or 0


def _strings(nodes: Mapping[str, Any], reference: str) -> list[str] | None:
    import tensorflow as tf

    name, _ = _origin(nodes, reference)
    node = nodes.get(name)
    if node is None or node.op != "Const":
        return None
    values = tf.make_ndarray(node.attr["value"].tensor).reshape(-1)
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values]
