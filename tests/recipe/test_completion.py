"""A graph in one file and its values in another are one model, whichever of the two is named first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from edgeconv.errors import InvalidModelError, UsageError
from edgeconv.recipe.completion import completed, in_roles, kind_of
from edgeconv.recipe.contracts import describe_source
from edgeconv.recipe.request import ConversionRequest


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``net.ckpt`` and, not beside it by name, its graph in three kinds of files."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("completion")
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 4], name="x")
        kernel = tf.compat.v1.get_variable("kernel", [4, 3], use_resource=False)
        y = tf.nn.softmax(tf.matmul(x, kernel), name="scores")
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver()
        saver.save(session, str(folder / "net.ckpt"), write_meta_graph=False, write_state=False)
        saver.export_meta_graph(str(folder / "alone.meta"))
        (folder / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
        tf.compat.v1.saved_model.simple_save(session, str(folder / "saved"), {"x": x}, {"y": y})
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        other = tf.compat.v1.get_variable("weights", [4, 3])
        session.run(other.initializer)
        tf.compat.v1.train.Saver().save(session, str(folder / "other.ckpt"), write_meta_graph=False)
    return folder


@pytest.mark.parametrize("graph", ["graph.pb", "alone.meta", "saved"])
def test_both_ways_to_say_it_are_one_request(model: Path, graph: str) -> None:
    values, file = model / "net.ckpt", model / graph
    wanted = ConversionRequest(values, graph=file)
    assert in_roles(ConversionRequest(file, checkpoint=values)) == wanted
    assert in_roles(wanted) == wanted
    description, contract, kind = completed(wanted)
    assert contract is not None
    assert [spec.shape for spec in contract.inputs] == [(None, 4)]
    assert kind == "tf1-v2"
    assert description.path.endswith(graph)


def test_both_options_at_once_are_refused(model: Path) -> None:
    request = ConversionRequest(model / "net.ckpt", graph=model / "graph.pb", checkpoint=model / "net.ckpt")
    with pytest.raises(UsageError, match="two sides"):
        in_roles(request)


def test_a_graph_for_what_is_no_checkpoint_is_refused(model: Path) -> None:
    with pytest.raises(UsageError, match="--graph is for a checkpoint"):
        in_roles(ConversionRequest(model / "graph.pb", graph=model / "graph.pb"))


def test_rules_about_variables_without_a_checkpoint_are_refused(model: Path) -> None:
    with pytest.raises(UsageError, match="--restore is about the variables of a checkpoint"):
        in_roles(ConversionRequest(model / "graph.pb", restore=("kernel",)))


def test_a_checkpoint_alone_without_a_graph_is_refused_before_anything_is_begun(model: Path) -> None:
    from edgeconv.formats.registry import identify

    request = ConversionRequest(model / "net.ckpt")
    description = describe_source(identify(request.model), request.model)
    with pytest.raises(UsageError, match="graph that they belong to is missing"):
        kind_of(request, description)


def test_missing_data_is_named_before_anything_is_begun(model: Path, tmp_path: Path) -> None:
    (tmp_path / "net.ckpt.index").write_bytes((model / "net.ckpt.index").read_bytes())
    with pytest.raises(InvalidModelError, match="data-00000-of-00001' is missing"):
        completed(ConversionRequest(tmp_path / "net.ckpt", graph=model / "graph.pb"))


@pytest.mark.slow
def test_a_graph_and_its_checkpoint_are_converted_and_proven(
    edgeconv: Callable[..., Any], model: Path
) -> None:
    ran = edgeconv(
        "convert", model / "graph.pb", "--checkpoint", model / "net.ckpt", "--to", "tflite,onnx", "--json"
    )
    assert ran.code == 0, ran.err
    made = {artifact["id"]: artifact["gate"]["verdict"] for artifact in ran.json["artifacts"]}
    assert made == dict.fromkeys(("frozen_graph.fp32", "tflite.fp32", "onnx.fp32"), "pass")


@pytest.mark.slow
def test_a_checkpoint_of_another_graph_ends_in_both_lists_of_names(
    edgeconv: Callable[..., Any], model: Path
) -> None:
    call = ["convert", model / "other.ckpt", "--graph", model / "alone.meta", "--to", "frozen_graph"]
    ran = edgeconv(*call)
    assert ran.code == 5
    assert "the checkpoint lacks kernel [4, 3] (nearest: weights)" in ran.all
    assert "left over in the checkpoint: weights [4, 3]" in ran.all
    ran = edgeconv(*call, "--map-variable", "kernel=weights", "--json")
    assert ran.code == 0, ran.err
    assert [artifact["gate"]["verdict"] for artifact in ran.json["artifacts"]] == ["pass"]


@pytest.mark.slow
def test_a_builder_of_tensorflow_1_is_converted_and_proven(edgeconv: Callable[..., Any], model: Path) -> None:
    builder = model / "net_with_builder.py"
    builder.write_text(
        "import tensorflow as tf\n"
        "def build():\n"
        "    x = tf.compat.v1.placeholder(tf.float32, [None, 4], name='features')\n"
        "    return tf.matmul(x, tf.compat.v1.get_variable('kernel', [4, 3]), name='logits')\n"
    )
    ran = edgeconv(
        *("convert", model / "net.ckpt", "--model-builder", f"{builder}:build", "--to", "tflite", "--json")
    )
    assert ran.code == 0, ran.err
    assert [artifact["gate"]["verdict"] for artifact in ran.json["artifacts"]] == ["pass", "pass"]
    contract = ran.json["artifacts"][0]["contract"]
    assert [spec["name"] for spec in contract["inputs"]] == ["features"]
    assert numpy.prod(contract["outputs"][0]["shape"][1:]) == 3
