"""Runs in the environment ``object-detection``: a training checkpoint exported, or run as a reference.

``python object_detection.py PAYLOAD.json ANSWER.json``. The payload has ``do`` (``export`` or ``serve``),
``pipeline_config``, ``checkpoint`` (its prefix) and, to export, ``destination`` (a folder to be made).

To serve, each line on standard input is a JSON document with ``inputs`` and ``outputs``, two ``.npz`` files:
one to read and one to write. Each is answered with a line of JSON on standard output.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any


def main(payload: str, answer: str) -> int:
    """Do what the payload says; an error that a person can act on is the answer's ``error``."""
    asked = json.loads(Path(payload).read_text())
    try:
        said = export(asked) if asked["do"] == "export" else serve(asked)
    except RefusalError as error:
        said = {"error": str(error), "hint": error.hint}
    Path(answer).write_text(json.dumps(said))
    return 1 if "error" in said else 0


class RefusalError(Exception):
    """What a person can do something about."""

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.hint = hint


def export(asked: dict[str, Any]) -> dict[str, Any]:
    """Write the SavedModel of a checkpoint with the API's own exporter."""
    configuration = _configuration(asked["pipeline_config"])
    _restored(configuration, asked["checkpoint"])  # refuses what does not fit
    exporter = importlib.import_module("object_detection.exporter_lib_v2")
    with tempfile.TemporaryDirectory() as folder:
        # The exporter takes a folder with one checkpoint and the file that names it.
        prefix = Path(asked["checkpoint"])
        for file in prefix.parent.glob(f"{prefix.name}.*"):
            (Path(folder) / file.name).symlink_to(file)
        (Path(folder) / "checkpoint").write_text(f'model_checkpoint_path: "{prefix.name}"\n')
        written = Path(folder) / "exported"
        exporter.export_inference_graph("image_tensor", configuration, folder, str(written))
        importlib.import_module("shutil").move(str(written / "saved_model"), asked["destination"])
    return {"saved_model": asked["destination"]}


def serve(asked: dict[str, Any]) -> dict[str, Any]:
    """Answer requests with what the model itself computes, without the exporter."""
    import numpy as np
    import tensorflow as tf

    model = _restored(_configuration(asked["pipeline_config"]), asked["checkpoint"])

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator,unused-ignore]
    def detect(image: Any) -> Any:
        prepared, shapes = model.preprocess(tf.cast(image, tf.float32))
        found = model.postprocess(model.predict(prepared, shapes), shapes)
        found = {name: tf.cast(value, tf.float32) for name, value in found.items() if value is not None}
        # The model counts classes from 0, label maps from 1.
        found["detection_classes"] += 1.0
        return found

    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            with np.load(request["inputs"]) as arrays:
                found = detect(tf.constant(arrays["image"]))
            np.savez(request["outputs"], **{name: value.numpy() for name, value in found.items()})
            said: dict[str, Any] = {"outputs": sorted(found)}
        except (tf.errors.OpError, ValueError, TypeError) as error:
            said = {"error": f"{type(error).__name__}: {error}"[:1000]}
        print(json.dumps(said), flush=True)
    return {}


def _configuration(path: str) -> Any:
    text_format = importlib.import_module("google.protobuf.text_format")
    protos = importlib.import_module("object_detection.protos.pipeline_pb2")
    configuration = protos.TrainEvalPipelineConfig()
    try:
        text_format.Parse(Path(path).read_text(), configuration)
    except text_format.ParseError as error:
        raise RefusalError(
            f"the Object Detection API does not take the pipeline.config: {error}",
            "give the file that the model was trained with: --pipeline-config FILE",
        ) from error
    return configuration


def _restored(configuration: Any, checkpoint: str) -> Any:
    """The model with the values of the checkpoint.

    Every variable of the model must be in the checkpoint: the exporter by itself leaves those that are not at
    their random values.
    """
    import tensorflow as tf

    builder = importlib.import_module("object_detection.builders.model_builder")
    try:
        model = builder.build(configuration.model, is_training=False)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RefusalError(f"the Object Detection API cannot build the model: {error}") from error
    image, shapes = model.preprocess(tf.zeros([1, 256, 256, 3]))
    model.postprocess(model.predict(image, shapes), shapes)
    try:
        # Variables of other shapes are refused at once, missing ones only when asked for.
        tf.train.Checkpoint(model=model).restore(checkpoint).assert_existing_objects_matched()
    except AssertionError as error:
        raise RefusalError(
            "the checkpoint lacks variables of the model that the pipeline.config describes",
            f"give the pipeline.config that this checkpoint was trained with ({str(error)[:300]})",
        ) from error
    except (ValueError, tf.errors.OpError) as error:
        raise RefusalError(f"the checkpoint does not fit the pipeline.config: {str(error)[:300]}") from error
    return model


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main(sys.argv[1], sys.argv[2]))
