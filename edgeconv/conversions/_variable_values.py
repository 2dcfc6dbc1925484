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
from edgeconv.runtimes._checkpoint_matching import restored_by_graph
from edgeconv.runtimes._saved_model_reading import variables_prefix
from edgeconv.runtimes._tensorflow import as_conversion_error


def stored_keys(graph_def: Any) -> dict[str, str]:
    """Variable node to the key of its whole value in the checkpoint, as the inlined restore ops say it."""
    restored = restored_by_graph(graph_def, "")
    return {name: stored.keys[0] for name, stored in restored.items() if not stored.extent}


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
