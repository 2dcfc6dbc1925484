"""Real graphs: those of inference stay as they are, those of training are found out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeconv.runtimes.tensorflow_graph import read_graph
from edgeconv.surgery.changes import Change
from edgeconv.surgery.graph import Graph
from edgeconv.surgery.graph_editing import clean
from edgeconv.surgery.inference import to_inference

pytestmark = pytest.mark.corpus


def graph_in(path: Path) -> Any:
    """The GraphDef in a file: a GraphDef, a metagraph, or a SavedModel's."""
    from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

    if path.suffix == ".meta":
        return meta_graph_pb2.MetaGraphDef.FromString(path.read_bytes()).graph_def
    if path.name == "saved_model.pb":
        return saved_model_pb2.SavedModel.FromString(path.read_bytes()).meta_graphs[0].graph_def
    return read_graph(path)


def rewritten(path: Path, inputs: list[str], outputs: list[str]) -> tuple[Graph, list[Change]]:
    graph_def = graph_in(path)
    clean(graph_def)
    graph = Graph(graph_def, outputs=outputs, inputs=inputs, path=str(path))
    return graph, to_inference(graph)


@pytest.mark.parametrize(
    ("path", "inputs", "outputs"),
    [
        ("fz-openpose/mobilenet_thin/graph.pb", ["image"], ["Openpose/concat_stage7"]),
        ("mlnet-cifar/cifar_model/model.ckpt.meta", ["Input", "is_training"], ["Output"]),
        ("ckpt1-har-v1format/HAR_v4_2/model.ckpt.meta", ["Placeholder"], ["add_6"]),
        (
            "ckpt1-lenet5-tftrt/model/tensorflow/small/model_small.meta",
            ["input_tensor_input"],
            ["output_tensor/Softmax"],
        ),
        (
            "odapi-meta-mediapipe-ssdlite/object_detection_saved_model/model.ckpt.meta",
            ["image_tensor"],
            ["detection_boxes", "detection_scores", "detection_classes", "num_detections"],
        ),
    ],
)
def test_inference_graphs_stay(corpus: Path, path: str, inputs: list[str], outputs: list[str]) -> None:
    before = graph_in(corpus / path)
    clean(before)
    graph, changes = rewritten(corpus / path, inputs, outputs)
    assert changes == []
    assert len(graph.on_path()) > 10
    assert graph.graph_def.SerializeToString(deterministic=True) == before.SerializeToString(
        deterministic=True
    )


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_a_dropout_whose_rate_was_an_input(corpus: Path, name: str) -> None:
    graph, (change,) = rewritten(corpus / f"fz-t2onnx-tests/models/{name}/frozen.pb", ["X"], ["output"])
    assert change.rewrite == "remove_dropout"
    assert all(graph.nodes[n].op != "Placeholder" for n in graph.on_path() - {"X"})


def test_a_saved_model_with_a_dropout(corpus: Path) -> None:
    graph, (change,) = rewritten(
        corpus / "mlnet-mnist/mnist_conv_model/saved_model.pb", ["Features"], ["Prediction"]
    )
    assert change.rewrite == "remove_dropout"
    assert not [name for name in graph.on_path() if "random_uniform" in name]


def test_a_learning_phase_of_keras(corpus: Path) -> None:
    graph, changes = rewritten(
        corpus / "sm-analytics-zoo/saved-model-resource/saved_model.pb", ["input_1"], ["dense_2/Softmax"]
    )
    assert (
        "keras_learning_phase' switches between training and inference: fixed to False" in changes[0].message
    )
    assert not [name for name in graph.on_path() if graph.nodes[name].op in ("Switch", "Merge")]


def test_a_published_graph_that_is_in_training_mode(corpus: Path) -> None:
    """Its author froze it so; what inference would need is not in it."""
    _, (change,) = rewritten(
        corpus / "fz-openpose/mobilenet_v2_small/graph_opt.pb", ["image"], ["Openpose/concat_stage7"]
    )
    assert change.warning
    assert "39 batch normalisations in training mode" in change.message
