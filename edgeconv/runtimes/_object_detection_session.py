"""A training checkpoint of the Object Detection API, run by the API itself in its side environment.

This is the reference of what the exporter writes: the model is built from ``pipeline.config``, restored, and
called without the exporter.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from edgeconv.environments.running import Served
from edgeconv.environments.scripts import SCRIPTS
from edgeconv.environments.specs import find_spec
from edgeconv.environments.store import required
from edgeconv.errors import ConversionError, UsageError
from edgeconv.formats._checkpoint_files import checkpoint_files
from edgeconv.formats.base import Contract
from edgeconv.runtimes.base import Arrays, Session

ENVIRONMENT = "object-detection"
ANSWER_SECONDS = 600.0


class ObjectDetectionSession(Session):
    """See :class:`edgeconv.runtimes.base.Session`."""

    def __init__(self, path: Path, contract: Contract | None, options: Mapping[str, Any]) -> None:
        """Start the model at ``path`` with the option ``pipeline_config``.

        Raises:
            UnavailableError: the environment is not here.
            UsageError: nothing says what the outputs are.
            ConversionError: the API refuses the checkpoint or its configuration.
        """
        if contract is None:
            raise UsageError(
                "a training checkpoint does not say what its outputs are",
                where=str(path),
                hint="convert it first; 'edgeconv compare' takes the SavedModel that is made of it",
            )
        self.inputs, self.outputs = contract.inputs, contract.outputs
        environment = required(find_spec(ENVIRONMENT))
        self._scratch = Path(tempfile.mkdtemp(prefix="edgeconv-detection-"))
        payload = {
            "do": "serve",
            "pipeline_config": str(options["pipeline_config"]),
            "checkpoint": str(checkpoint_files(path).prefix.absolute()),
        }
        script = SCRIPTS / "object_detection.py"
        try:
            self._served = Served(environment, script, payload, scratch=self._scratch, seconds=ANSWER_SECONDS)
        except BaseException:
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise

    def infer(self, inputs: Arrays) -> dict[str, Any]:
        """See :meth:`edgeconv.runtimes.base.Session.infer`."""
        import numpy as np

        (image,) = self.inputs
        if set(inputs) != {image.name}:
            given = ", ".join(map(repr, inputs)) or "nothing"
            raise UsageError(f"the model takes '{image.name}', not {given}")
        asked, answer = self._scratch / "inputs.npz", self._scratch / "outputs.npz"
        np.savez(asked, image=inputs[image.name])
        self._served.ask({"inputs": str(asked), "outputs": str(answer)})
        with np.load(answer) as arrays:
            missing = [spec.name for spec in self.outputs if spec.name not in arrays]
            if missing:
                raise ConversionError(f"the model of the checkpoint does not give {', '.join(missing)}")
            return {spec.name: arrays[spec.name] for spec in self.outputs}

    def close(self) -> None:
        """See :meth:`edgeconv.runtimes.base.Session.close`."""
        self._served.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
