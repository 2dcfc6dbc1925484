"""The reference of a gate behind an inference graph: the source, with the tensors that were replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.errors import ConversionError
from edgeconv.formats.base import Contract, TensorSpec, to_json
from edgeconv.runtimes.tensorflow_graph import RUNTIME
from edgeconv.runtimes.tensorflow_saved_model import RUNTIME as SAVED_MODEL
from edgeconv.surgery.changes import Replaced

X = np.arange(12, dtype="float32").reshape(4, 3) / 6 - 1


def graph_file(folder: Path, build: Callable[[Any], None]) -> Path:
    """A GraphDef that ``build`` builds, without its values where it has variables."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        build(tf.compat.v1)
    file = folder / "graph.pb"
    file.write_bytes(graph.as_graph_def().SerializeToString())
    return file


def run(file: Path, outputs: str, replaced: list[Replaced], **inputs: Any) -> list[Any]:
    """Outputs of the graph with tensors replaced, on ``x`` and whatever else is given."""
    fed = {"x": X, **inputs}
    contract = Contract(
        tuple(TensorSpec(name, str(value.dtype), value.shape, f"{name}:0") for name, value in fed.items()),
        tuple(TensorSpec(name, "float32", None) for name in outputs.split()),
    )
    options: Mapping[str, Any] = {"replaced": [to_json(item) for item in replaced]}
    with RUNTIME.open(file, contract, options=options) as session:
        return list(session.infer(fed).values())


def false(tensor: str) -> Replaced:
    return Replaced(tensor, "constant", (), {"value": False, "dtype": "bool"})


def test_a_switch_has_its_inference_value_though_nobody_feeds_it(tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        training = tf.placeholder(tf.bool, [], name="training")
        tf.identity(tf.where_v2(training, x * 0.0, x * 2.0), name="y")

    (y,) = run(graph_file(tmp_path, build), "y", [false("training:0")])
    np.testing.assert_array_equal(y, X * 2)


def test_a_chain_of_tensors_that_have_the_value_of_another_one_ends_at_the_last(tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        first = tf.add(x, 100.0, name="first")
        second = tf.multiply(first, 7.0, name="second")
        tf.negative(second, name="y")

    replaced = [
        Replaced("second:0", "identity", ("first:0",)),
        Replaced("first:0", "identity", ("x:0",)),
    ]
    file = graph_file(tmp_path, build)
    y, second = run(file, "y second", replaced)
    np.testing.assert_array_equal(y, -X)
    np.testing.assert_array_equal(second, X)
    np.testing.assert_array_equal(run(file, "y", replaced[::-1])[0], -X)


def test_formulas_are_computed_in_the_order_in_which_one_needs_the_other(tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        for index in (1, 2):
            tf.constant([1.0, 2.0, 3.0], name=f"scale{index}")
            tf.constant([0.5, 0.0, -0.5], name=f"offset{index}")
            tf.constant([0.1, 0.2, 0.3], name=f"mean{index}")
            tf.constant([1.0, 4.0, 0.25], name=f"variance{index}")
        graph = x.graph.get_tensor_by_name
        one = tf.reduce_mean(x, 0, keepdims=True) + tf.reshape(graph("scale1:0"), [1, 3])
        one = tf.add(x, one, name="bn1")
        tf.add(tf.sin(one), tf.reduce_max(x), name="bn2")
        tf.identity(graph("bn2:0") * 2.0, name="y")

    def norm(index: int, x: str) -> Replaced:
        parts = tuple(f"{part}{index}:0" for part in ("scale", "offset", "mean", "variance"))
        return Replaced(f"bn{index}:0", "batch_norm", (x, *parts), {"epsilon": 1e-3})

    def by_hand(x: Any) -> Any:
        deviation = np.sqrt(np.array([1.0, 4.0, 0.25]) + 1e-3)
        return (x - [0.1, 0.2, 0.3]) / deviation * [1, 2, 3] + [0.5, 0, -0.5]

    (y,) = run(graph_file(tmp_path, build), "y", [norm(2, "Sin:0"), norm(1, "x:0")])
    np.testing.assert_allclose(y, by_hand(np.sin(by_hand(X))) * 2, rtol=1e-5)


def test_what_the_outputs_do_not_need_is_not_computed(tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        unfed = tf.placeholder(tf.float32, [3], name="unfed")
        tf.multiply(x, unfed, name="beside")
        tf.square(x, name="y")

    replaced = Replaced("beside:0", "reshape", ("unfed:0",), {"shape": [3]})
    np.testing.assert_array_equal(run(graph_file(tmp_path, build), "y", [replaced])[0], X**2)


def test_a_switch_that_the_user_feeds_keeps_what_is_fed(tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        keep = tf.placeholder(tf.float32, [], name="keep")
        tf.divide(x, keep, name="y")

    replaced = Replaced("keep:0", "constant", (), {"value": 1.0, "dtype": "float32"})
    (y,) = run(graph_file(tmp_path, build), "y", [replaced], keep=np.float32(0.5))
    np.testing.assert_array_equal(y, X * 2)


def test_a_dropout_inside_a_loop_lets_through_what_it_takes(tmp_path: Path) -> None:
    import tensorflow as tf2

    def build(tf: Any) -> None:
        x = tf.placeholder(tf.float32, [4, 3], name="x")

        def body(step: Any, state: Any) -> Any:
            dropped = tf.multiply(tf.identity(state + 1.0, name="kept"), 0.0, name="dropped")
            scaled = tf.add(dropped, tf.constant(5.0, name="bias"), name="scaled")
            return step + 1, scaled

        tf.identity(tf.while_loop(lambda step, _: step < 3, body, [0, x])[1], name="y")

    tf2.compat.v1.disable_control_flow_v2()
    try:
        file = graph_file(tmp_path, build)
    finally:
        tf2.compat.v1.enable_control_flow_v2()
    replaced = [
        Replaced("while/dropped:0", "identity", ("while/kept:0",)),
        Replaced("while/bias:0", "constant", (), {"value": 2.0, "dtype": "float32"}),
    ]
    np.testing.assert_allclose(run(file, "y", replaced)[0], X + 3 * 3, rtol=1e-6)


def test_a_tensor_that_the_source_does_not_have_is_named(tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        tf.square(tf.placeholder(tf.float32, [None, 3], name="x"), name="y")

    with pytest.raises(ConversionError, match="no node 'gone'"):
        run(graph_file(tmp_path, build), "y", [Replaced("gone:0", "identity", ("x:0",))])


def test_a_formula_of_the_wrong_shape_is_refused(tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        x = tf.placeholder(tf.float32, [4, 3], name="x")
        tf.identity(tf.square(x, name="squared"), name="y")

    with pytest.raises(ConversionError, match=r"reshape gives \[12\] for 'squared:0', which is \[4,3\]"):
        run(graph_file(tmp_path, build), "y", [Replaced("squared:0", "reshape", ("x:0",), {"shape": [-1]})])


def test_tensors_inside_the_functions_of_a_saved_model_can_be_replaced_too(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.scale = tf.Variable([2.0, 3.0, 4.0])

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def serve(x: Any) -> Any:
        dropped = tf.multiply(x * module.scale, 0.0, name="dropped")
        return {"y": dropped + 1.0}

    folder = tmp_path / "model"
    tf.saved_model.save(module, str(folder), signatures=serve.get_concrete_function())
    with SAVED_MODEL.open(folder, None) as session:
        np.testing.assert_array_equal(session.infer({"x": X})["y"], np.ones_like(X))
    call = "StatefulPartitionedCall/StatefulPartitionedCall"
    replaced = Replaced(f"{call}/dropped:0", "identity", (f"{call}/mul:0",))
    with SAVED_MODEL.open(folder, None, options={"replaced": [to_json(replaced)]}) as session:
        np.testing.assert_allclose(session.infer({"x": X})["y"], X * [2, 3, 4] + 1, rtol=1e-6)


def test_the_main_graph_of_a_saved_model_of_tensorflow_1_keeps_its_variables(tmp_path: Path) -> None:
    import tensorflow as tf

    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        x = tf1.placeholder(tf.float32, [None, 3], name="x")
        keep = tf1.placeholder(tf.float32, [], name="keep_prob")
        y = tf1.nn.dropout(x * tf1.get_variable("w", initializer=[1.0, 2.0, 3.0]), keep_prob=keep)
        session.run(tf1.global_variables_initializer())
        tf1.saved_model.simple_save(session, str(tmp_path / "model"), {"x": x}, {"y": y})
    replaced = Replaced("keep_prob:0", "constant", (), {"value": 1.0, "dtype": "float32"})
    with SAVED_MODEL.open(tmp_path / "model", None, options={"replaced": [to_json(replaced)]}) as session:
        np.testing.assert_allclose(session.infer({"x": X})["y"], X * [1, 2, 3], rtol=1e-6)


def test_no_run_changes_the_variables_for_the_next(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.mean = tf.Variable([1.0, 2.0, 3.0])

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def serve(x: Any) -> Any:
        centred = tf.subtract(x, tf.reduce_mean(x, 0), name="centred")
        module.mean.assign_sub(module.mean - tf.reduce_mean(x, 0))
        return {"y": centred, "mean": tf.identity(module.mean, name="read")}

    folder = tmp_path / "model"
    tf.saved_model.save(module, str(folder), signatures=serve.get_concrete_function())
    call = "StatefulPartitionedCall/StatefulPartitionedCall"
    replaced = Replaced(f"{call}/centred:0", "identity", (f"{call}/Mean:0",))
    with SAVED_MODEL.open(folder, None, options={"replaced": [to_json(replaced)]}) as session:
        for _ in range(2):
            np.testing.assert_array_equal(session.infer({"x": X})["mean"], [1.0, 2.0, 3.0])
