"""Nodes are listed by the names that surgery takes, through the functions that a graph calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from surgery_models import network

from edgeconv.errors import UsageError
from edgeconv.formats.nodes import nodes_in


def test_a_frozen_graph_is_listed_with_shapes_and_inputs(tmp_path: Path) -> None:
    nodes = {node.name: node for node in nodes_in(network(tmp_path) / "net.pb")}
    assert nodes["conv2/BiasAdd"].op == "BiasAdd"
    assert nodes["conv2/BiasAdd"].shape == (None, 4, 4, 6)
    assert nodes["features"].inputs == ("bn2/batchnorm/add_1",)


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tensorflow as tf

    class Model(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(tf.ones([3, 2]), name="kernel")

        @tf.function(input_signature=[tf.TensorSpec([None, 3], name="x")])
        def serve(self, x: Any) -> Any:
            return {"y": tf.nn.relu(tf.matmul(x, self.kernel, name="product"), name="positive")}

    folder = tmp_path_factory.mktemp("module") / "saved"
    model = Model()
    tf.saved_model.save(model, str(folder), signatures={"serving_default": model.serve})
    return folder


def test_nodes_of_functions_have_the_names_that_freezing_gives_them(module: Path) -> None:
    nodes = {node.name: node for node in nodes_in(module)}
    product = next(node for name, node in nodes.items() if name.endswith("/product"))
    assert product.op == "MatMul"
    assert product.name.startswith("StatefulPartitionedCall/")
    # The argument of the function is the placeholder of the graph that calls it.
    assert product.inputs[0] == "serving_default_x"


def test_an_unknown_signature_is_refused(module: Path) -> None:
    with pytest.raises(UsageError, match="no signature 'other'") as error:
        nodes_in(module, signature="other")
    assert error.value.hint == "it has: serving_default"
