"""Queues, iterators and readers that feed a model become placeholders of their dtypes and shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from inference_proof import copied, run

from edgeconv.surgery.changes import Change
from edgeconv.surgery.graph import Graph
from edgeconv.surgery.inference import to_inference

X = np.random.default_rng(8).normal(size=(2, 4)).astype("float32")


def v1() -> Any:
    import tensorflow as tf

    return tf.compat.v1


def inference(build: Any, output: str = "y") -> tuple[Graph, list[Change]]:
    import tensorflow as tf

    with tf.Graph().as_default() as source:
        build()
    graph = Graph(copied(source.as_graph_def()), outputs=[output])
    return graph, to_inference(graph)


def shape_of(graph: Graph, name: str) -> list[int]:
    return [dim.size for dim in graph.nodes[name].attr["shape"].shape.dim]


@pytest.mark.parametrize("many", [True, False])
def test_a_queue(many: bool) -> None:
    """Facts 6: without an end of the pipeline a run hangs for ever."""

    def build() -> None:
        queue = v1().FIFOQueue(10, ["float32", "int64"], shapes=[[4], []])
        images, labels = queue.dequeue_many(32, name="batch") if many else queue.dequeue(name="batch")
        v1().nn.relu(images, name="y")
        v1().add(labels, labels, name="loss")

    graph, (change,) = inference(build)
    assert "read its data from a pipeline: an input takes its place: 'batch'" in change.message
    assert graph.inputs == ["batch"]
    assert shape_of(graph, "batch") == ([-1, 4] if many else [4])
    feed = X if many else X[0]
    np.testing.assert_array_equal(run(graph, {}, {"batch:0": feed}), np.maximum(feed, 0))
    assert [node.op for node in graph.graph_def.node] == ["Placeholder", "Relu"]


def test_components_that_are_used_and_those_that_are_not() -> None:
    def build() -> None:
        queue = v1().PaddingFIFOQueue(10, ["int64", "float32", "float32"], shapes=[[], [None], [4]])
        _, lengths, images = queue.dequeue_up_to(32, name="batch")
        v1().add(images, v1().reduce_sum(lengths), name="y")

    graph, (change,) = inference(build)
    assert "inputs take its place: 'batch_1', 'batch_2'" in change.message
    assert graph.inputs == ["batch_1", "batch_2"]
    assert shape_of(graph, "batch_1") == [-1, -1]
    assert shape_of(graph, "batch_2") == [-1, 4]


@pytest.mark.parametrize("kind", ["one_shot", "initializable"])
def test_an_iterator(kind: str) -> None:
    """Facts 7: the iterator was never initialised."""

    def build() -> None:
        dataset = v1().data.Dataset.from_tensor_slices((X, np.arange(2))).batch(2)
        make = (
            v1().data.make_one_shot_iterator if kind == "one_shot" else v1().data.make_initializable_iterator
        )
        images, _ = make(dataset).get_next(name="next")
        v1().nn.relu(images, name="y")

    graph, (change,) = inference(build)
    assert change.message.startswith("IteratorGetNext 'next'")
    assert shape_of(graph, "next") == [-1, 4]
    np.testing.assert_array_equal(run(graph, {}, {"next:0": X}), np.maximum(X, 0))
    assert len(graph.graph_def.library.function) == 0


def test_a_pipeline_of_queues_ends_at_the_last_one() -> None:
    def build() -> None:
        files = v1().FIFOQueue(10, ["string"], shapes=[[]])
        _, record = v1().WholeFileReader().read(files)
        image = v1().decode_raw(record, "float32")
        queue = v1().FIFOQueue(10, ["float32"], shapes=[[4]])
        queue.enqueue(image)
        v1().nn.relu(queue.dequeue_many(2, name="batch"), name="y")

    graph, (change,) = inference(build)
    assert "QueueDequeueManyV2 'batch'" in change.message
    assert graph.inputs == ["batch"]


def test_a_reader_leaves_a_placeholder_of_bytes() -> None:
    def build() -> None:
        files = v1().FIFOQueue(10, ["string"], shapes=[[]])
        _, record = v1().WholeFileReader().read(files, name="read")
        v1().decode_raw(record, "float32", name="y")

    graph, _ = inference(build)
    assert graph.inputs == ["read_1"]
    np.testing.assert_array_equal(run(graph, {}, {"read_1:0": X.tobytes()}), X.reshape(-1))


def test_again_changes_nothing() -> None:
    def build() -> None:
        v1().nn.relu(v1().FIFOQueue(10, ["float32"], shapes=[[4]]).dequeue(name="one"), name="y")

    graph, _ = inference(build)
    assert to_inference(graph) == []
