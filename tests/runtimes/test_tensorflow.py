"""The TensorFlow runtimes: the same verbs for SavedModel, frozen graph, Keras file and checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.errors import ConversionError, InvalidModelError, UntrustedModelError, UsageError
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.runtimes import keras as keras_runtime
from edgeconv.runtimes import tensorflow_graph, tensorflow_saved_model, tf_checkpoint
from edgeconv.runtimes._keras_config import dangers
from edgeconv.runtimes._programs import identifier, unique
from edgeconv.runtimes.base import Runtime

BUILDER = """
import keras
def build():
    keras.utils.set_random_seed(7)
    return keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2, name="y")])
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Path]]:
    """One small Keras model, and where it lies in all four forms."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("models")
    (folder / "maker.py").write_text(BUILDER)
    scope: dict[str, Any] = {}
    exec(BUILDER, scope)
    model = scope["build"]()
    model.layers[-1].bias.assign([0.5, -0.5])
    model.save(folder / "m.keras")
    tf.train.Checkpoint(model=model).write(str(folder / "ckpt"))
    serve = tf.function(
        lambda x: {"y": model(x)}, input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")]
    )
    module = tf.Module()
    module.kept = [v.value for v in model.variables]
    tf.saved_model.save(module, str(folder / "saved_model"), signatures=serve.get_concrete_function())
    kernel, bias = (np.asarray(w) for w in model.get_weights())
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None, 3], name="x")
        tf.add(tf.matmul(x, kernel), bias, name="y")
    (folder / "frozen.pb").write_bytes(graph.as_graph_def().SerializeToString())
    return model, {
        "keras": folder / "m.keras",
        "checkpoint": folder / "ckpt",
        "saved_model": folder / "saved_model",
        "frozen_graph": folder / "frozen.pb",
    }


RUNTIMES: dict[str, Runtime] = {
    "keras": keras_runtime.RUNTIME,
    "checkpoint": tf_checkpoint.RUNTIME,
    "saved_model": tensorflow_saved_model.RUNTIME,
    "frozen_graph": tensorflow_graph.RUNTIME,
}
GRAPH_CONTRACT = Contract(
    (TensorSpec("x", "float32", (None, 3), "x:0"),), (TensorSpec("y", "float32", (None, 2), "y:0"),)
)


def opened(form: str, paths: dict[str, Path]) -> Any:
    contract = GRAPH_CONTRACT if form == "frozen_graph" else None
    options = {"model_builder": f"{paths[form].parent / 'maker.py'}:build"} if form == "checkpoint" else None
    return RUNTIMES[form].open(paths[form], contract, options=options)


@pytest.mark.parametrize("form", RUNTIMES)
def test_infers_what_the_model_infers(models: tuple[Any, dict[str, Path]], form: str) -> None:
    model, paths = models
    with opened(form, paths) as session:
        assert [s.name for s in session.inputs] == ["x"]
        assert [s.name for s in session.outputs] == ["y"]
        for batch in (1, 4):
            data = np.random.default_rng(batch).normal(size=(batch, 3)).astype("float32")
            found = session.infer({"x": data})
            assert list(found) == ["y"]
            np.testing.assert_allclose(found["y"], np.asarray(model(data)), atol=1e-6)


@pytest.mark.parametrize("form", RUNTIMES)
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "missing inputs: x"),
        ({"x": np.zeros((1, 3), "float32"), "z": np.zeros(1)}, "unknown inputs: z"),
        ({"x": np.zeros((1, 3))}, "float64"),
        ({"x": np.zeros(3, "float32")}, "shape"),
        ({"x": np.zeros((1, 4), "float32")}, "shape"),
    ],
)
def test_refuses_wrong_inputs_before_tensorflow_sees_them(
    models: tuple[Any, dict[str, Path]], form: str, inputs: dict[str, Any], message: str
) -> None:
    with opened(form, models[1]) as session, pytest.raises(UsageError) as caught:
        session.infer(inputs)
    assert message in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("form", RUNTIMES)
def test_a_closed_session_says_so(models: tuple[Any, dict[str, Path]], form: str) -> None:
    session = opened(form, models[1])
    session.close()
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.infer({"x": np.zeros((1, 3), "float32")})


def test_a_contract_renames_and_reorders(models: tuple[Any, dict[str, Path]]) -> None:
    contract = Contract(
        (TensorSpec("photo", "float32", (1, 3), "serving_default_x:0"),),
        (TensorSpec("logits", "float32", None, "StatefulPartitionedCall:0"),),
        "serving_default",
    )
    with tensorflow_saved_model.RUNTIME.open(models[1]["saved_model"], contract) as session:
        assert session.outputs[0].shape == (None, 2)
        assert list(session.infer({"photo": np.zeros((1, 3), "float32")})) == ["logits"]


def test_a_graph_needs_a_contract_whose_tensors_it_has(models: tuple[Any, dict[str, Path]]) -> None:
    with pytest.raises(UsageError) as caught:
        tensorflow_graph.RUNTIME.open(models[1]["frozen_graph"], None)
    assert "--outputs" in (caught.value.hint or "")
    wrong = Contract(GRAPH_CONTRACT.inputs, (TensorSpec("z", "float32", None, "z:0"),))
    with pytest.raises(UsageError, match="z:0"):
        tensorflow_graph.RUNTIME.open(models[1]["frozen_graph"], wrong)


def test_bytes_that_are_no_graph(tmp_path: Path) -> None:
    (tmp_path / "g.pb").write_bytes(b"\x08\x01 not a graph \xff\xff")
    with pytest.raises(InvalidModelError):
        tensorflow_graph.RUNTIME.open(tmp_path / "g.pb", GRAPH_CONTRACT)


def test_python_in_a_graph_needs_trust(tmp_path: Path) -> None:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None, 3], name="x")
        tf.identity(tf.numpy_function(lambda a: a, [x], tf.float32), name="y")
    (tmp_path / "g.pb").write_bytes(graph.as_graph_def().SerializeToString())
    with pytest.raises(UntrustedModelError, match="PyFunc"):
        tensorflow_graph.RUNTIME.open(tmp_path / "g.pb", GRAPH_CONTRACT)


def test_an_error_while_running_names_the_op(tmp_path: Path) -> None:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None, 3], name="x")
        tf.reshape(x, tf.shape(x)[:1] + 6, name="y")
    (tmp_path / "g.pb").write_bytes(graph.as_graph_def().SerializeToString())
    with (
        tensorflow_graph.RUNTIME.open(tmp_path / "g.pb", GRAPH_CONTRACT) as session,
        pytest.raises(ConversionError, match="'y'"),
    ):
        session.infer({"x": np.zeros((1, 3), "float32")})


def test_what_would_run_code_is_found_at_any_depth() -> None:
    inner = {"class_name": "Lambda", "config": {"name": "evil", "function": ["4wEA", None, None]}}
    wrapped = {"class_name": "TimeDistributed", "config": {"name": "t", "layer": inner}}
    model = {"class_name": "Functional", "config": {"name": "m", "layers": [wrapped]}}
    assert [name for _, name, _ in dangers(model)] == ["evil"]
    call = {"class_name": "TFOpLambda", "name": "tf.io.write_file", "config": {"function": "io.write_file"}}
    assert [name for _, name, _ in dangers({"layers": [call]})] == ["tf.io.write_file"]
    foreign = {"module": "os", "class_name": "system", "config": {}, "registered_name": None}
    assert [detail for *_, detail in dangers(foreign)] == [
        "'system' is of a class or function in the module os"
    ]
    plain = {"module": "keras.layers", "class_name": "Dense", "config": {"name": "d", "units": 1}}
    assert list(dangers(plain)) == []


def test_names_are_made_unique_and_fit_for_tensorflow() -> None:
    assert unique(["a", "a", "a_1", "a"]) == ["a", "a_2", "a_1", "a_3"]
    assert [identifier(n) for n in ("x", "1", "a/b:0", "", "_p", "größe")] == [
        "x",
        "x1",
        "a_b_0",
        "x",
        "x_p",
        "gr__e",
    ]


def test_a_checkpoint_of_tensorflow_1_is_run_with_the_graph_beside_it(tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default():
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        weight = v1.get_variable("w", initializer=[[1.0, 2.0]] * 3, use_resource=False)
        tf.matmul(x, weight, name="y")
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            v1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    with tf_checkpoint.RUNTIME.open(tmp_path / "model.ckpt", GRAPH_CONTRACT) as opened_checkpoint:
        assert opened_checkpoint.infer({"x": np.ones((1, 3), "float32")})["y"].tolist() == [[3.0, 6.0]]


def test_a_graph_with_channels_first_runs_on_a_cpu_as_its_twin_with_channels_last(tmp_path: Path) -> None:
    import tensorflow as tf

    image = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype("f")
    kernel = np.random.default_rng(1).normal(size=(2, 2, 3, 4)).astype("f")
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [1, 3, 8, 8], name="x")
        y = tf.nn.conv2d(x, kernel, strides=[1, 1, 2, 2], padding="SAME", data_format="NCHW")
        y = tf.nn.bias_add(y, np.arange(4, dtype="f"), data_format="NCHW")
        tf.nn.max_pool2d(y, 2, 2, "VALID", data_format="NCHW", name="y")
    (tmp_path / "first.pb").write_bytes(graph.as_graph_def().SerializeToString())
    contract = Contract((TensorSpec("x", "float32", (1, 3, 8, 8)),), (TensorSpec("y", "float32", None),))
    with tensorflow_graph.RUNTIME.open(tmp_path / "first.pb", contract) as session:
        found = session({"x": image})["y"]
    last = tf.nn.conv2d(image.transpose(0, 2, 3, 1), kernel, 2, "SAME") + np.arange(4, dtype="f")
    wanted = tf.nn.max_pool2d(last, 2, 2, "VALID").numpy().transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_graph_may_ask_to_be_placed_beside_a_node_that_is_not_there(tmp_path: Path) -> None:
    """What was cut off, by whoever froze it or on the way to the outputs, often was a node's neighbour."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None, 3], name="x")
        tf.multiply(x, 2.0, name="y")
    graph_def = graph.as_graph_def()
    next(n for n in graph_def.node if n.name == "y").attr["_class"].list.s.append(b"loc:@gone")
    (tmp_path / "frozen.pb").write_bytes(graph_def.SerializeToString())
    with tensorflow_graph.RUNTIME.open(tmp_path / "frozen.pb", GRAPH_CONTRACT) as session:
        x = np.ones((2, 3), np.float32)
        np.testing.assert_array_equal(session.infer({"x": x})["y"], 2 * x)


def test_a_signature_outlives_the_expression_that_loaded_it(models: tuple[Any, dict[str, Path]]) -> None:
    """Elsewhere: "Called a function referencing variables which have been deleted". Here it is kept."""
    import gc

    model, paths = models
    infer = tensorflow_saved_model.RUNTIME.open(paths["saved_model"], None).infer
    gc.collect()
    x = np.ones((2, 3), "float32")
    np.testing.assert_allclose(infer({"x": x})["y"], model(x), atol=1e-6)
