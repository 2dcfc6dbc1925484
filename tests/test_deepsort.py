"""DeepSORT's network to every target, and each failure that freezing it is known for, with a way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import deepsort
import numpy as np
import pytest

Call = Callable[..., Any]

pytestmark = pytest.mark.slow
QUEUE = "read_batch_DequeueMany"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> deepsort.DeepSort:
    return deepsort.make(tmp_path_factory.mktemp("deepsort"))


def features(path: Path, name: str, images: Any) -> Any:
    import edgeconv

    with edgeconv.load(path) as session:
        return np.concatenate([session({name: image[None]})["features"] for image in images])


def test_the_frozen_graph_goes_to_every_target_and_gives_the_same_features(
    network: deepsort.DeepSort, edgeconv: Call, tmp_path: Path
) -> None:
    ran = edgeconv("convert", network.frozen, "--to", "frozen_graph,tflite,onnx", "-o", "out", "--json")

    assert ran.code == 0, ran.err
    assert {a["gate"]["verdict"] for a in ran.json["artifacts"]} == {"pass"}
    for suffix in ("tflite", "onnx"):
        made = features(tmp_path / "out" / f"mars-small128.fp32.{suffix}", "images", network.images)
        np.testing.assert_allclose(made, network.features, atol=1e-5)


def test_the_training_checkpoint_becomes_the_same_inference_network(
    network: deepsort.DeepSort, edgeconv: Call, tmp_path: Path
) -> None:
    """Queue, dropout and the statistics of the batch are gone; the moving statistics are used."""
    ran = edgeconv(
        "convert", network.checkpoint, "--inputs", QUEUE, "--outputs", "features",
        "--shape", f"{QUEUE}=1,128,64,3", "--to", "frozen_graph,tflite,onnx", "-o", "out", "--json",
    )  # fmt: skip

    assert ran.code == 0, ran.err
    assert {a["gate"]["verdict"] for a in ran.json["artifacts"]} == {"pass"}
    notes = "\n".join(str(a) for a in ran.json["artifacts"])
    assert "batch_norm" in notes or "moving" in notes
    assert "dropout" in notes
    for suffix in ("tflite", "onnx"):
        # The training graph reads what the reader of its queue has turned around already.
        turned = network.images[..., ::-1]
        made = features(tmp_path / "out" / f"model.fp32.{suffix}", QUEUE, turned)
        np.testing.assert_allclose(made, network.features, atol=1e-5)


def test_a_tensor_that_the_training_graph_does_not_have(network: deepsort.DeepSort, edgeconv: Call) -> None:
    """``KeyError: The name 'images:0' refers to a Tensor which does not exist``."""
    ran = edgeconv("convert", network.checkpoint, "--inputs", "images:0", "--outputs", "features")

    assert ran.code == 2
    assert "images" in ran.err
    assert QUEUE in ran.err


def test_an_operation_where_a_tensor_is_wanted(network: deepsort.DeepSort, edgeconv: Call) -> None:
    """``ValueError: The name 'features' refers to an Operation, not a Tensor``: a node's name will do."""
    ran = edgeconv("convert", network.frozen, "--outputs", "features", "--to", "onnx", "-o", "out")

    assert ran.code == 0, ran.err


def test_a_checkpoint_of_another_loss(network: deepsort.DeepSort, edgeconv: Call, tmp_path: Path) -> None:
    """``ValueError: Checkpoint is missing variable [ball/beta]``: its graph wants what it does not hold."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        images = v1.placeholder(tf.float32, (None, 128, 64, 3), name="images")
        out = deepsort.network(tf, images, training=False)
        with v1.variable_scope("ball"):
            beta = v1.get_variable("beta", [deepsort.FEATURES])
        tf.identity(out + beta, name="shifted")
    (tmp_path / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())

    ran = edgeconv(
        "convert", tmp_path / "graph.pb", "--checkpoint", network.checkpoint, "--outputs", "shifted"
    )
    assert ran.code in (2, 5)
    assert "ball/beta" in ran.out
    assert "ball/scale" in ran.out or "ball/mean_vectors" in ran.out  # the nearest names that are there

    ran = edgeconv(
        "convert", tmp_path / "graph.pb", "--checkpoint", network.checkpoint, "--outputs", "features",
        "--to", "onnx", "-o", "out",
    )  # fmt: skip
    assert ran.code == 0, ran.err


def test_a_graph_that_was_frozen_with_its_updates_in(
    network: deepsort.DeepSort, edgeconv: Call, tmp_path: Path
) -> None:
    """``ValueError: Input 0 of node …/AssignMovingAvg was passed float … incompatible with float_ref``."""
    from edgeconv.runtimes.tensorflow_graph import read_graph

    graph = read_graph(network.frozen)
    nodes = {node.name: node for node in graph.node}
    moving = next(name for name in nodes if name.endswith("conv1_1/bn/moving_mean"))
    update = graph.node.add(name=f"{moving}/AssignMovingAvg", op="AssignSub")
    update.input.extend([moving, moving])
    update.attr["T"].type = 1
    nodes["features"].input.append(f"^{update.name}")
    (tmp_path / "mars.pb").write_bytes(graph.SerializeToString())

    ran = edgeconv("convert", tmp_path / "mars.pb", "--to", "tflite,onnx", "-o", "out", "--json")

    assert ran.code == 0, ran.err
    assert {a["gate"]["verdict"] for a in ran.json["artifacts"]} == {"pass"}


def test_code_of_the_network_that_needs_tensorflow_1(
    network: deepsort.DeepSort, edgeconv: Call, tmp_path: Path
) -> None:
    """``AttributeError: module 'tensorflow' has no attribute 'contrib'`` and its like."""
    (tmp_path / "freeze_model.py").write_text(
        "import tensorflow as tf\n\n\ndef build():\n    return tf.contrib.slim.conv2d(None, 32, [3, 3])\n"
    )
    ran = edgeconv("convert", network.checkpoint, "--model-builder", "freeze_model.py:build")

    assert ran.code in (2, 5)
    assert "contrib" in ran.err
    assert "tf_slim" in ran.out
    assert "Traceback" not in ran.out + ran.err


def test_a_checkpoint_that_is_not_there(edgeconv: Call, tmp_path: Path) -> None:
    """``FindFirstFile failed … No such process``: the path is wrong, and the message says which."""
    ran = edgeconv("convert", tmp_path / "resources" / "networks" / "mars-small128.ckpt-68577")

    assert ran.code == 2
    assert "mars-small128.ckpt-68577" in ran.err
