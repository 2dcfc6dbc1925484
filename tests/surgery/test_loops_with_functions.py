"""A loop whose length is data becomes one node with functions, which TFLite and ONNX Runtime run as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.conversions import onnx_from_frozen_graph, tflite_from_frozen_graph
from edgeconv.conversions.base import ConversionJob
from edgeconv.formats.base import Artifact, Contract, TensorSpec
from edgeconv.runtimes import litert, onnxruntime
from edgeconv.surgery.graph import Graph, full
from edgeconv.surgery.loops import without_loops
from tests.surgery.test_loops import Cell, assert_none_left, graph_of, numbers, run

Build = Callable[[Any], Sequence[Any]]


@pytest.fixture(autouse=True)
def _control_flow_of_tensorflow_1() -> Iterator[None]:
    import tensorflow as tf

    tf.compat.v1.disable_control_flow_v2()
    yield
    tf.compat.v1.enable_control_flow_v2()


def contract_of(graph: Graph) -> Contract:
    import tensorflow as tf

    with tf.Graph().as_default() as made:
        tf.import_graph_def(graph.graph_def, name="")

    def spec(name: str, tensor: Any) -> TensorSpec:
        shape = None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
        return TensorSpec(name, tensor.dtype.name, shape, tensor.name)

    inputs = tuple(spec(name, made.get_tensor_by_name(f"{name}:0")) for name in graph.inputs)
    outputs = tuple(
        spec(f"output_{i}", made.get_tensor_by_name(full(o))) for i, o in enumerate(graph.outputs)
    )
    return Contract(inputs, outputs)


def proven(build: Build, tmp_path: Path, *feeds: dict[str, Any]) -> Graph:
    """Rewrites, and holds TensorFlow, LiteRT and ONNX Runtime to the source on every feed."""
    graph = graph_of(build)
    contract = contract_of(graph)
    before = [run(graph, feed) for feed in feeds]
    changes = without_loops(graph, functions=True)
    assert any("became a loop with functions" in change.message for change in changes)
    assert not any(change.warning for change in changes)
    assert_none_left(graph)
    file = tmp_path / "graph.pb"
    file.write_bytes(graph.graph_def.SerializeToString())
    contract = Contract(contract.inputs, tuple(
        TensorSpec(spec.name, spec.dtype, spec.shape, full(output))
        for spec, output in zip(contract.outputs, graph.outputs, strict=True)
    ))  # fmt: skip
    for name, convert, runtime in (
        ("tflite", tflite_from_frozen_graph.convert, litert.RUNTIME),
        ("onnx", onnx_from_frozen_graph.convert, onnxruntime.RUNTIME),
    ):
        artifact = Artifact(file, "frozen_graph", "fp32", "", contract)
        result = convert(ConversionJob(artifact, tmp_path / name, "fp32", tmp_path))
        for feed, expected in zip(feeds, before, strict=True):
            with runtime.open(tmp_path / name, result.contract) as session:
                found = session.infer(feed)
            for spec, old in zip(contract.outputs, expected, strict=True):
                assert found[spec.name].shape == old.shape, (name, spec.name)
                np.testing.assert_allclose(found[spec.name], old, rtol=1e-5, atol=2e-6, err_msg=name)
    for feed, expected in zip(feeds, before, strict=True):
        for old, new in zip(expected, run(graph, feed), strict=True):
            np.testing.assert_allclose(new, old, rtol=1e-6, atol=1e-6)
    return graph


def recurrent(tf: Any, x: Any, **options: Any) -> list[Any]:
    output, state = tf.compat.v1.nn.dynamic_rnn(Cell(tf), x, dtype=tf.float32, **options)
    return [output, *state]


@pytest.mark.parametrize("batch", [1, 3])
def test_a_recurrent_layer_over_an_open_time(tmp_path: Path, batch: int) -> None:
    def build(tf: Any) -> Any:
        return recurrent(tf, tf.compat.v1.placeholder(tf.float32, [batch, None, 5], "x"))

    feeds = [{"x": numbers(batch, length, 5)} for length in (1, 4, 9)]
    graph = proven(build, tmp_path, *feeds)
    (loop,) = [node for node in graph.graph_def.node if node.op == "StatelessWhile"]
    # Weights are constants of the body, not carried round: counter, limit, time, list, two states and more.
    assert all(graph.node(reference).op != "MatMul" for reference in loop.input)  # type: ignore[union-attr]
    body = next(
        f for f in graph.graph_def.library.function if f.signature.name == loop.attr["body"].func.name
    )
    assert sum(node.op == "Const" and len(node.attr["value"].tensor.tensor_shape.dim) == 2
               for node in body.node_def) == 2  # fmt: skip


def test_lengths_that_are_fed_within_an_open_time(tmp_path: Path) -> None:
    def build(tf: Any) -> Any:
        x = tf.compat.v1.placeholder(tf.float32, [2, None, 5], "x")
        return recurrent(tf, x, sequence_length=tf.compat.v1.placeholder(tf.int32, [2], "lengths"))

    proven(
        build,
        tmp_path,
        {"x": numbers(2, 4, 5), "lengths": np.array([2, 4], "int32")},
        {"x": numbers(2, 7, 5), "lengths": np.array([1, 5], "int32")},
    )


def test_both_directions_over_an_open_time(tmp_path: Path) -> None:
    def build(tf: Any) -> Any:
        x = tf.compat.v1.placeholder(tf.float32, [1, None, 5], "x")
        (forward, backward), _ = tf.compat.v1.nn.bidirectional_dynamic_rnn(
            Cell(tf), Cell(tf, 1), x, dtype=tf.float32
        )
        return [tf.concat([forward, backward], 2)]

    proven(build, tmp_path, {"x": numbers(1, 3, 5)}, {"x": numbers(1, 6, 5)})


def test_decoding_until_a_stop_symbol(tmp_path: Path) -> None:
    """The list has no size at first, and nothing says the shape of its elements but what is written."""

    def build(tf: Any) -> Any:
        x = tf.compat.v1.placeholder(tf.float32, [1, 6], "x")
        random = np.random.default_rng(0)
        embedding, step, output = (
            tf.constant(random.normal(size=size).astype("float32")) for size in ((9, 6), (6, 6), (6, 9))
        )

        def body(i: Any, symbol: Any, h: Any, done: Any, said: Any) -> Any:
            h = tf.tanh(tf.gather(embedding, symbol) + h @ step + x * tf.cast(i, tf.float32) * 0.3)
            symbol = tf.argmax(h @ output, -1, output_type=tf.int32)
            ended = tf.equal(symbol, 3) | (tf.cast(i, tf.float32) > tf.reduce_sum(tf.abs(x)))
            return i + 1, symbol, h, done | ended, said.write(i, symbol)

        said = tf.TensorArray(tf.int32, 0, dynamic_size=True)
        first = (0, tf.zeros([1], tf.int32), tf.zeros([1, 6]), tf.zeros([1], tf.bool), said)
        count, _, h, _, said = tf.while_loop(lambda *v: tf.logical_not(tf.reduce_all(v[3])), body, first)
        return [said.stack(), h, count]

    x = numbers(1, 6)
    lengths = {len(run(graph_of(build), {"x": each})[0]) for each in (x, 0.3 * x)}
    assert len(lengths) == 2
    proven(build, tmp_path, {"x": x}, {"x": 0.3 * x})


def test_a_loop_that_accumulates_until_it_is_enough(tmp_path: Path) -> None:
    def build(tf: Any) -> Any:
        x = tf.compat.v1.placeholder(tf.float32, [3], "x")
        sums = tf.TensorArray(tf.float32, 0, dynamic_size=True, clear_after_read=False, element_shape=[])

        def body(i: Any, y: Any, sums: Any) -> Any:
            return i + 1, y * 2.0, sums.write(i, tf.reduce_sum(y))

        count, y, sums = tf.while_loop(lambda i, y, _: tf.reduce_sum(y) < 100.0, body, (0, x, sums))
        return [sums.stack(), y, count]

    proven(build, tmp_path, {"x": np.ones(3, "float32")}, {"x": np.full(3, 20, "float32")})


def test_a_loop_inside_of_a_loop_takes_what_is_outside_of_both(tmp_path: Path) -> None:
    def build(tf: Any) -> Any:
        x = tf.compat.v1.placeholder(tf.float32, [None], "x")

        def outer(i: Any, total: Any) -> Any:
            _, inner = tf.while_loop(
                lambda j, _: j < i, lambda j, t: (j + 1, t * 2.0 + tf.reduce_sum(x) * 0.01), (0, 1.0)
            )
            return i + 1, total + inner

        return [tf.while_loop(lambda _, total: total < tf.reduce_sum(x), outer, (0, 0.0))[1]]

    proven(build, tmp_path, {"x": np.full(3, 10, "float32")}, {"x": np.full(6, 30, "float32")})


def test_a_branch_inside_chooses_between_both_sides(tmp_path: Path) -> None:
    def build(tf: Any) -> Any:
        x = tf.compat.v1.placeholder(tf.float32, [None], "x")

        def body(i: Any, y: Any) -> Any:
            return i + 1, tf.cond(tf.gather(x, i) > 0, lambda: y + 1.0, lambda: y * 0.5)

        start = (0, tf.constant([0.0, 2.0]))
        return [tf.while_loop(lambda i, _: i < tf.shape(x)[0], body, start)[1]]

    proven(build, tmp_path, {"x": numbers(3)}, {"x": -numbers(6)})


def test_a_second_time_changes_nothing() -> None:
    def build(tf: Any) -> Any:
        return recurrent(tf, tf.compat.v1.placeholder(tf.float32, [1, None, 5], "x"))

    graph = graph_of(build)
    without_loops(graph, functions=True)
    once = graph.graph_def.SerializeToString(deterministic=True)
    assert without_loops(graph, functions=True) == []
    assert graph.graph_def.SerializeToString(deterministic=True) == once


def test_a_loop_is_left_unless_functions_are_asked_for() -> None:
    def build(tf: Any) -> Any:
        return recurrent(tf, tf.compat.v1.placeholder(tf.float32, [1, None, 5], "x"))

    (change,) = without_loops(graph_of(build))
    assert change.warning
    assert "depends on the data" in change.message
