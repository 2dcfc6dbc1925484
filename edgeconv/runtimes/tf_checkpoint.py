"""Checkpoints run by TensorFlow: those of TensorFlow 1 with their graph, of 2 with the model of a builder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeconv.errors import ConversionError, EdgeconvError, UsageError
from edgeconv.formats.base import Contract
from edgeconv.formats.checkpoint import is_by_name
from edgeconv.runtimes._checkpoint_loading import load_checkpoint_program
from edgeconv.runtimes._programs import ProgramSession, configure_threads, renamed
from edgeconv.runtimes._trained_graph_session import open_trained_graph
from edgeconv.runtimes.base import Session


class CheckpointRuntime:
    """Runs the restored graph, or the restored model in inference mode (option ``model_builder``)."""

    name = "tf_checkpoint"
    formats = ("checkpoint",)
    preload = ("tensorflow", "keras")
    tools = ("tensorflow", "keras", "tf_keras")

    def open(
        self,
        path: Path,
        contract: Contract | None,
        *,
        threads: int = 1,
        options: Mapping[str, Any] | None = None,
    ) -> Session:
        """See :meth:`edgeconv.runtimes.base.Runtime.open`."""
        options = options or {}
        if options.get("pipeline_config"):
            from edgeconv.runtimes._object_detection_session import ObjectDetectionSession

            return ObjectDetectionSession(path, contract, options)
        refusal: EdgeconvError | None = None
        if options.get("graph") or is_by_name(path):
            try:
                return open_trained_graph(path, contract, threads, options)
            except (UsageError, ConversionError) as error:
                if options.get("graph") or not options.get("model_builder"):
                    raise
                refusal = error  # the builder may build a Keras model, which values go into by name too
        configure_threads(threads)
        try:
            program, _ = load_checkpoint_program(path, options)
        except EdgeconvError as error:
            raise refusal or error from error
        return ProgramSession(renamed(program, contract), str(path))


RUNTIME = CheckpointRuntime()
