"""Training graphs end to end: what was changed is said, and proven against the source run in inference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeconv
from edgeconv.execution.manifest import Manifest

pytestmark = pytest.mark.slow

X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
MEAN, VARIANCE = np.linspace(-1, 1, 8, dtype="float32"), np.linspace(0.5, 2, 8, dtype="float32")


@pytest.fixture(autouse=True)
def _as_in_tensorflow_1() -> Iterator[None]:
    import tensorflow as tf

    tf.compat.v1.disable_control_flow_v2()
    yield
    tf.compat.v1.enable_control_flow_v2()


def kernel(rows: int, size: int) -> Any:
    return np.random.default_rng(size).normal(size=(rows, size)).astype("float32")


def network(tf: Any, x: Any, *, updates: bool) -> dict[str, Any]:
    """Dense, dropout behind a placeholder, batch normalisation behind a switch, dense, a loss."""
    training = tf.placeholder(tf.bool, [], "is_training")
    keep = tf.placeholder(tf.float32, [], "keep_prob")
    hidden = tf.nn.dropout(tf.nn.relu(tf.matmul(x, tf.constant(kernel(6, 8)))), keep_prob=keep)
    if updates:
        mean, variance = (
            tf.get_variable(name, initializer=value, trainable=False, use_resource=False)
            for name, value in (("moving_mean", MEAN), ("moving_variance", VARIANCE))
        )
    else:
        mean, variance = tf.constant(MEAN, name="moving_mean"), tf.constant(VARIANCE, name="moving_variance")
    batch_mean, batch_variance = tf.nn.moments(hidden, [0])

    def of_the_batch() -> Any:
        made = [
            tf.assign_sub(mean, (mean - batch_mean) * 0.1),
            tf.assign_sub(variance, (variance - batch_variance) * 0.1),
        ]
        with tf.control_dependencies(made):
            return tf.identity(batch_mean), tf.identity(batch_variance)

    def moving() -> Any:
        return tf.identity(mean), tf.identity(variance)

    used = tf.cond(training, of_the_batch if updates else lambda: (batch_mean, batch_variance), moving)
    normal = tf.nn.batch_normalization(hidden, *used, None, None, 1e-3)
    logits = tf.matmul(normal, tf.constant(kernel(8, 3)), name="logits")
    return {"is_training": training, "keep_prob": keep, "logits": logits}


def by_hand(x: Any) -> Any:
    hidden = np.maximum(x @ kernel(6, 8), 0)
    return (hidden - MEAN) / np.sqrt(VARIANCE + 1e-3) @ kernel(8, 3)


def saved(folder: Path, build: Callable[[Any], tuple[dict[str, Any], dict[str, Any]]]) -> Path:
    import tensorflow as tf

    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        inputs, outputs = build(tf1)
        session.run(tf1.global_variables_initializer())
        tf1.saved_model.simple_save(session, str(folder), inputs, outputs)
    return folder


def verdicts(manifest: Manifest) -> dict[str, str]:
    return {artifact.id: artifact.gate.verdict for artifact in manifest.artifacts}


def explained(manifest: Manifest) -> list[Any]:
    made = [(artifact.gate.reason, artifact.notes) for artifact in manifest.artifacts]
    return [*made, *(failure.reason for failure in manifest.failures)]


def check(manifest: Manifest, folder: Path, name: str) -> str:
    """All artifacts are proven and give what the network gives by hand; what was said of the frozen graph."""
    assert verdicts(manifest) == dict.fromkeys(("frozen_graph.fp32", "tflite.fp32", "onnx.fp32"), "pass"), (
        explained(manifest)
    )
    for suffix in ("pb", "tflite", "onnx"):
        with edgeconv.load(folder / f"{name}.fp32.{suffix}") as session:
            (spec,) = session.inputs
            x = X[:1] if spec.shape is not None and spec.shape[0] == 1 else X
            np.testing.assert_allclose(session({spec.name: x})["logits"], by_hand(x), rtol=1e-3, atol=1e-4)
    made = next(artifact for artifact in manifest.artifacts if artifact.format == "frozen_graph")
    assert any("the source run in inference" in note for note in made.gate.notes), made.gate.notes
    return " ".join(made.notes)


def test_a_frozen_training_graph_with_a_queue(tmp_path: Path) -> None:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf1 = tf.compat.v1
        queue = tf1.FIFOQueue(32, [tf.float32, tf.int64], shapes=[[6], []], name="queue")
        x, labels = queue.dequeue_many(16, name="batch")
        logits = network(tf1, x, updates=False)["logits"]
        tf1.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits, name="loss")
    file = tmp_path / "training.pb"
    file.write_bytes(graph.as_graph_def().SerializeToString())
    manifest = edgeconv.convert(file, "frozen_graph,tflite,onnx", output=tmp_path / "out", outputs=["logits"])
    said = check(manifest, tmp_path / "out", "training")
    assert "'is_training'" in said
    assert "dropout" in said
    assert "'batch'" in said


def test_a_saved_model_of_the_training_graph(tmp_path: Path) -> None:
    def build(tf: Any) -> Any:
        x = tf.placeholder(tf.float32, [None, 6], "x")
        made = network(tf, x, updates=True)
        return {"x": x, "training": made["is_training"]}, {"logits": made["logits"]}

    folder = saved(tmp_path / "model", build)
    manifest = edgeconv.convert(folder, "frozen_graph,tflite,onnx", output=tmp_path / "out")
    assert "'is_training'" in check(manifest, tmp_path / "out", "model")


def test_a_switch_that_is_named_stays_an_input_and_is_proven_both_ways(tmp_path: Path) -> None:
    def build(tf: Any) -> Any:
        x = tf.placeholder(tf.float32, [None, 6], "x")
        training = tf.placeholder(tf.bool, [], "is_training")
        y = tf.cond(training, lambda: x * 2.0, lambda: x + 1.0)
        return {"x": x, "is_training": training}, {"y": y}

    folder = saved(tmp_path / "model", build)
    named = edgeconv.convert(folder, "frozen_graph", output=tmp_path / "out", inputs=["x", "is_training"])
    assert verdicts(named) == {"frozen_graph.fp32": "pass"}, explained(named)
    with edgeconv.load(tmp_path / "out" / "model.fp32.pb") as session:
        for training, wanted in ((True, X * 2), (False, X + 1)):
            (found,) = session({"x": X, "is_training": np.bool_(training)}).values()
            np.testing.assert_array_equal(found, wanted)


def test_a_saved_model_of_tensorflow_2_that_was_traced_in_training_mode(tmp_path: Path) -> None:
    import tensorflow as tf

    tf.compat.v1.enable_control_flow_v2()
    module = tf.Module()
    module.scale, module.offset = tf.Variable(VARIANCE[:3] * 2), tf.Variable(MEAN[:3])
    module.mean, module.variance = tf.Variable(MEAN[3:6]), tf.Variable(VARIANCE[3:6])

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 3], tf.float32, name="image")])
    def serve(image: Any) -> Any:
        y, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            image, module.scale, module.offset, epsilon=1e-3, is_training=True
        )
        module.mean.assign_sub((module.mean - mean) * 0.1)
        module.variance.assign_sub((module.variance - variance) * 0.1)
        return {"y": tf.nn.dropout(y, 0.4)}

    tf.saved_model.save(module, str(tmp_path / "model"), signatures=serve.get_concrete_function())
    manifest = edgeconv.convert(tmp_path / "model", "frozen_graph", output=tmp_path / "out")
    assert verdicts(manifest) == {"frozen_graph.fp32": "pass"}, explained(manifest)
    image = np.random.default_rng(1).normal(size=(2, 4, 4, 3)).astype("float32")
    with edgeconv.load(tmp_path / "out" / "model.fp32.pb") as session:
        found = session({"image": image})["y"]
    wanted = (image - MEAN[3:6]) / np.sqrt(VARIANCE[3:6] + 1e-3) * VARIANCE[:3] * 2 + MEAN[:3]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def mixing(tf: Any) -> Any:
    """Statistics of the batch that no rewrite knows, and a dropout that one does."""
    x = tf.placeholder(tf.float32, [None, 6], "x")
    y = tf.nn.dropout(
        x - tf.reduce_max(x, 0, keepdims=True), keep_prob=tf.placeholder(tf.float32, [], "keep_prob")
    )
    return {"x": x}, {"y": tf.identity(y, name="y")}


def test_an_inference_graph_that_still_mixes_the_samples_of_a_batch_fails(tmp_path: Path) -> None:
    manifest = edgeconv.convert(saved(tmp_path / "model", mixing), "frozen_graph", output=tmp_path / "out")
    (artifact,) = manifest.artifacts
    assert artifact.gate.verdict == "fail"
    assert "'y': a sample gives something else alone than within a batch" in (artifact.gate.reason or "")


def test_of_a_model_that_mixes_its_samples_by_nature_it_is_said(tmp_path: Path) -> None:
    def build(tf: Any) -> Any:
        x = tf.placeholder(tf.float32, [None, 6], "x")
        return {"x": x}, {"y": x / tf.reduce_sum(tf.abs(x), 0, keepdims=True)}

    manifest = edgeconv.convert(saved(tmp_path / "model", build), "frozen_graph", output=tmp_path / "out")
    (artifact,) = manifest.artifacts
    assert artifact.gate.verdict == "pass"
    assert any("'y': a sample gives something else alone" in note for note in artifact.gate.notes)
