"""Weights are told by what reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from surgery_models import network, recommender

from edgeconv.formats.frozen_graph import read_graph_def
from edgeconv.surgery.graph import Graph
from edgeconv.surgery.weights import weights_of


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recommender(network(tmp_path_factory.mktemp("weights")))


def found(path: Path, output: str) -> dict[str, bool]:
    graph = Graph(read_graph_def(path), outputs=[output])
    return {weight.name: weight.trainable for weight in weights_of(graph)}


def test_kernels_matrices_biases_scales_and_statistics_are_weights_and_mean_colours_are_not(
    models: Path,
) -> None:
    assert found(models / "net.pb", "scores") == {
        "conv1/kernel": True,
        "bn1/gamma": True,
        "bn1/beta": True,
        "bn1/moving_mean": False,
        "bn1/moving_variance": False,
        "conv2/kernel": True,
        "conv2/bias": True,
        "bn2/moving_mean": False,
        "bn2/moving_variance": False,
        "bn2/beta": True,
        "bn2/gamma": True,
        "logits/kernel": True,
        "logits/bias": True,
    }


def test_a_table_that_rows_are_taken_of_is_a_weight(models: Path) -> None:
    graph = Graph(read_graph_def(models / "recommender.pb"), outputs=["score"])
    shapes = sorted(tuple(graph.constant(w.name).shape) for w in weights_of(graph))
    assert shapes == [(6, 16), (8,), (16, 8), (50, 8)]


def test_weights_inside_the_body_of_a_loop_are_found_through_its_arguments() -> None:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([2, 3])])
    def steps(x: Any) -> Any:
        kernel = tf.constant(np.eye(3, dtype="f"), name="kernel")
        anchors = tf.constant(np.ones((2, 3), "f"), name="anchors")
        return tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x @ kernel + anchors), (0, x))[1]

    graph_def = steps.get_concrete_function().graph.as_graph_def()
    graph = Graph(graph_def, outputs=["Identity"], inputs=["x"])
    assert [weight.name for weight in weights_of(graph)] == ["kernel"]
