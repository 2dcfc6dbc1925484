"""Cases that plain tools convert without a word, or refuse in words that help nobody: found, named, repaired.

Each is a graph as people have it, described by ``inspect`` and then made an inference graph.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inference_proof import Built, built, control_flow, copied, run, run_source

import edgeconv
from edgeconv.errors import UsageError
from edgeconv.surgery.graph import Graph
from edgeconv.surgery.inference import to_inference

X = np.random.default_rng(12).normal(0.5, 1.0, (4, 6, 6, 3)).astype("float32")
TRAINING = {"training-batch-norm", "live-dropout", "random-op", "training-switch"}


def v1() -> Any:
    import tensorflow as tf

    return tf.compat.v1


def codes(graph_def: Any, tmp_path: Path) -> set[str]:
    """Codes of the findings that ``inspect`` shows for a graph."""
    file = tmp_path / "graph.pb"
    file.write_bytes(graph_def.SerializeToString())
    return {finding.code for finding in edgeconv.inspect(file).findings}


def classifier(training: Any) -> Callable[[Any], Any]:
    """Convolution, batch normalisation, dropout, logits, as a training script builds them."""
    from tf_keras.src.legacy_tf_layers import core, normalization

    def build(x: Any) -> Any:
        switch = training() if callable(training) else training
        x = v1().nn.conv2d(x, v1().get_variable("kernel", [3, 3, 3, 4]), 1, "SAME")
        x = v1().nn.relu(normalization.batch_normalization(x, training=switch, fused=True, name="bn"))
        x = core.dropout(v1().reduce_mean(x, [1, 2]), 0.4, training=switch, name="dropout")
        weights = v1().get_variable("weights", [4, 5])
        return v1().matmul(x, weights, name="logits")

    return build


def compared(source: Built, tmp_path: Path) -> set[str]:
    """Makes the inference graph, holds it to the source and to the network built so; the findings before."""
    before = codes(source.graph_def, tmp_path)
    graph = Graph(copied(source.graph_def), outputs=[source.output], inputs=["x"])
    changes = to_inference(graph)
    made = run(graph, source.values, {"x:0": X})
    assert not codes(graph.graph_def, tmp_path) & TRAINING
    np.testing.assert_allclose(run_source(source, changes, {"x:0": X}), made, atol=2e-6)
    plain = built(classifier(False), (None, 6, 6, 3))
    wanted = run(Graph(copied(plain.graph_def), outputs=["logits"], inputs=["x"]), source.values, {"x:0": X})
    np.testing.assert_allclose(made, wanted, atol=2e-6)
    return before


def test_training_mode_compiled_in(tmp_path: Path) -> None:
    """1: logits off by 1.9 in every format, without a word."""
    found = compared(built(classifier(True), (None, 6, 6, 3)), tmp_path)
    assert {"training-batch-norm", "live-dropout"} <= found


def test_a_default_that_trains(tmp_path: Path) -> None:
    """2: off by 1.0, without a word."""
    switch = lambda: v1().placeholder_with_default(True, [], name="is_training")  # noqa: E731
    found = compared(built(classifier(switch), (None, 6, 6, 3)), tmp_path)
    assert "training-switch" in found


@pytest.mark.parametrize("flow", [1, 2])
def test_a_switch_that_has_to_be_fed(flow: int, tmp_path: Path) -> None:
    """3 and 4: converters refuse its ops, or the artifact asks for an input that nobody knows."""
    switch = lambda: v1().placeholder("bool", [], name="is_training")  # noqa: E731
    found = compared(built(classifier(switch), (None, 6, 6, 3), flow=flow), tmp_path)
    assert "training-switch" in found


def test_functions_stay_where_conditions_on_data_are(tmp_path: Path) -> None:
    """5: "Op type not registered '…_cond_true_…'" after TensorFlow's own tool for training nodes."""

    def build(x: Any) -> Any:
        y = v1().cond(v1().reduce_sum(x) > 0.0, lambda: x * 2.0, lambda: x - 1.0)
        return v1().nn.dropout(y, keep_prob=0.5, name="dropped")

    source = built(build, (None, 6, 6, 3), flow=2)
    assert "live-dropout" in codes(source.graph_def, tmp_path)
    graph = Graph(copied(source.graph_def), outputs=[source.output], inputs=["x"])
    to_inference(graph)
    np.testing.assert_allclose(run(graph, {}, {"x:0": X}), X * 2.0, rtol=1e-6)
    assert len(graph.graph_def.library.function) == 2


@pytest.mark.parametrize("kind", ["queue", "iterator"])
def test_input_pipelines(kind: str, tmp_path: Path) -> None:
    """6 and 7: a run that hangs for ever, and "iterator has not been initialized"."""
    import tensorflow as tf

    with tf.Graph().as_default() as source, control_flow(1):
        if kind == "queue":
            images, _ = v1().FIFOQueue(8, ["float32", "int64"], [[6, 6, 3], []]).dequeue_many(4, name="batch")
        else:
            dataset = v1().data.Dataset.from_tensor_slices((X, np.arange(4))).batch(4)
            images, _ = v1().data.make_initializable_iterator(dataset).get_next(name="batch")
        tf.nn.relu(images, name="logits")
    assert f"{kind}-input" in codes(source.as_graph_def(), tmp_path)
    graph = Graph(copied(source.as_graph_def()), outputs=["logits"])
    to_inference(graph)
    np.testing.assert_array_equal(run(graph, {}, {"batch:0": X}), np.maximum(X, 0))
    assert codes(graph.graph_def, tmp_path) == set()


@pytest.mark.parametrize("wrong", ["logits/BiasAdd:0", "logitz"])
def test_an_output_that_is_not_there(wrong: str, tmp_path: Path) -> None:
    """8: "AssertionError: … is not in graph", where the names that there are would help."""
    source = built(lambda x: v1().matmul(x[:, 0, 0], v1().ones([3, 2]), name="logits"), (None, 6, 6, 3))
    file = tmp_path / "graph.pb"
    file.write_bytes(source.graph_def.SerializeToString())
    with pytest.raises(UsageError) as refused:
        edgeconv.convert(file, "frozen_graph", output=tmp_path / "out", inputs=["x"], outputs=[wrong])
    assert wrong.removesuffix(":0") in refused.value.what
    assert "logits" in f"{refused.value.why} {refused.value.hint}"
