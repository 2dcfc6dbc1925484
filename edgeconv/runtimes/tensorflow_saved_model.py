"""SavedModels of TensorFlow 1 and 2 run by TensorFlow.

All of them go through the session loader: it takes what ``tf.saved_model.load`` cannot (models that a
compiled Keras 2 model wrote, one tensor under two names of a signature, reference dtypes), builds no
training functions, and its number of threads belongs to the session instead of the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeconv.errors import InvalidModelError
from edgeconv.formats._saved_model_files import find_saved_model
from edgeconv.formats.base import Contract
from edgeconv.runtimes._saved_model_reading import choose_graph, contract_in, nodes_run, read_saved_model
from edgeconv.runtimes._tensorflow import (
    GraphSession,
    as_conversion_error,
    bound,
    refuse_untrusted,
    session_config,
)


class TensorFlowSavedModelRuntime:
    """Runs one signature of a SavedModel in a session of its own."""

    name = "tensorflow_saved_model"
    formats = ("saved_model",)
    preload = ("tensorflow",)
    tools = ("tensorflow",)

    def open(
        self,
        path: Path,
        contract: Contract | None,
        *,
        threads: int = 1,
        options: Mapping[str, Any] | None = None,
    ) -> GraphSession:
        """See :meth:`edgeconv.runtimes.base.Runtime.open`."""
        import tensorflow as tf

        options = options or {}
        folder = str(find_saved_model(path).folder)
        proto = read_saved_model(path)
        graph_def = choose_graph(proto, contract, options, str(path))
        contract = contract_in(graph_def, contract, options, str(path))
        refuse_untrusted(nodes_run(graph_def, contract), str(path), options)
        config = session_config(threads, nodes_run(graph_def, contract))
        tags = list(graph_def.meta_info_def.tags)
        del proto, graph_def
        graph = tf.Graph()
        session = tf.compat.v1.Session(graph=graph, config=config)
        try:
            with graph.as_default():
                tf.compat.v1.saved_model.load(session, tags, folder)
            inputs, outputs = bound(graph, contract)
        except tf.errors.NotFoundError as error:
            session.close()
            if "Op type not registered" in str(error):
                raise as_conversion_error(
                    error,
                    "the model uses a custom op that this TensorFlow does not have",
                    str(path),
                    "export the model without it; no edge format has it either",
                ) from error
            raise InvalidModelError(
                "a part of the SavedModel is missing",
                where=str(path),
                why=" ".join(str(error).split())[:200],
                hint="copy the whole folder again",
            ) from error
        except (tf.errors.OpError, ValueError, KeyError, RuntimeError, OSError) as error:
            session.close()
            raise as_conversion_error(error, "TensorFlow cannot load the SavedModel", str(path)) from error
        return GraphSession(session, inputs, outputs, str(path))


RUNTIME = TensorFlowSavedModelRuntime()
