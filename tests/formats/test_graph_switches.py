"""What of a training graph is an input of the model: not its switches, but what its queues give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgeconv.errors import UsageError
from edgeconv.formats._graph_switches import is_switch
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.formats.graph_candidates import contract_for_graph


def graph(build: Callable[[Any], None]) -> Any:
    import tensorflow as tf

    with tf.Graph().as_default() as made:
        build(tf.compat.v1)
    return made.as_graph_def()


def inputs(contract: Contract) -> list[str]:
    return [spec.name for spec in contract.inputs]


def placeholder(tf: Any, name: str, dtype: str = "float32", shape: Any = ()) -> Any:
    return tf.placeholder(dtype, shape, name)


def test_a_switch_that_only_decides_and_is_called_one_is_no_input_unless_named() -> None:
    def build(tf: Any) -> None:
        x = placeholder(tf, "x", shape=[None, 3])
        training = placeholder(tf, "phase_train", "bool")
        y = tf.where_v2(tf.logical_and(training, tf.constant(True)), x * 2.0, x)
        tf.identity(y, name="y")

    made = graph(build)
    assert inputs(contract_for_graph(made)) == ["x"]
    assert inputs(contract_for_graph(made, ["x"], ["y"])) == ["x"]
    assert inputs(contract_for_graph(made, ["x", "phase_train"], ["y"])) == ["x", "phase_train"]


def test_a_name_alone_makes_no_switch_of_what_is_computed_with() -> None:
    def build(tf: Any) -> None:
        training = placeholder(tf, "training", "bool")
        keep = placeholder(tf, "keep_prob")
        x = placeholder(tf, "x", shape=[None, 3]) * keep
        tf.identity(x + tf.cast(training, tf.float32), name="y")

    assert inputs(contract_for_graph(graph(build))) == ["training", "keep_prob", "x"]


def test_without_a_telling_name_a_condition_is_a_switch_where_it_decides_over_what_only_trains() -> None:
    def build(tf: Any) -> None:
        x = placeholder(tf, "x", shape=[None, 3])
        one, other = placeholder(tf, "mode", "bool"), placeholder(tf, "double", "bool")
        x = tf.cond(one, lambda: tf.nn.dropout(x, rate=0.5), lambda: x)
        tf.identity(tf.where_v2(other, x * 2.0, x), name="y")

    import tensorflow as tf2

    tf2.compat.v1.disable_control_flow_v2()
    try:
        made = graph(build)
    finally:
        tf2.compat.v1.enable_control_flow_v2()
    assert inputs(contract_for_graph(made)) == ["x", "double"]


def test_a_probability_that_scales_random_numbers_is_no_input() -> None:
    def build(tf: Any) -> None:
        x = placeholder(tf, "x", shape=[None, 3])
        tf.identity(tf.nn.dropout(x, keep_prob=placeholder(tf, "keep_prob")), name="y")

    assert inputs(contract_for_graph(graph(build))) == ["x"]


def test_what_a_queue_gives_is_an_input_with_type_and_shape_and_what_the_outputs_do_not_need_is_not() -> None:
    def build(tf: Any) -> None:
        queue = tf.FIFOQueue(8, [tf.float32, tf.int64], shapes=[[4, 4, 1], []], name="queue")
        images, labels = queue.dequeue_many(8, name="batch")
        tf.reduce_mean(images, [1, 2], name="y")
        tf.one_hot(labels, 3, name="beside")

    (spec,) = contract_for_graph(graph(build), None, ["y"]).inputs
    assert (spec.name, spec.dtype, spec.shape, spec.tensor) == (
        "batch",
        "float32",
        (None, 4, 4, 1),
        "batch:0",
    )


def test_what_an_iterator_gives_is_an_input_each_component_that_is_used() -> None:
    def build(tf: Any) -> None:
        kinds = (tf.float32, tf.float32, tf.int32)
        shapes = ([None, 3], [None, 5], [None])
        iterator = tf.data.Iterator.from_structure(kinds, shapes)
        one, other, _ = iterator.get_next("next")
        tf.concat([one, other], 1, name="y")

    found = contract_for_graph(graph(build), None, ["y"]).inputs
    assert [(s.tensor, s.shape) for s in found] == [("next:0", (None, 3)), ("next:1", (None, 5))]


def test_a_queue_behind_a_queue_is_none_of_the_models_business() -> None:
    def build(tf: Any) -> None:
        first = tf.FIFOQueue(8, [tf.string], shapes=[[]], name="files")
        pixels = tf.reshape(tf.decode_raw(first.dequeue(), tf.uint8), [4])
        second = tf.FIFOQueue(8, [tf.uint8], shapes=[[4]], name="images")
        second.enqueue(pixels)
        tf.cast(second.dequeue_up_to(2, name="batch"), tf.float32, name="y")

    assert inputs(contract_for_graph(graph(build), None, ["y"])) == ["batch"]


def test_a_placeholder_that_is_no_switch_is_still_asked_for() -> None:
    def build(tf: Any) -> None:
        x, scale = placeholder(tf, "x", shape=[None, 3]), placeholder(tf, "scale")
        tf.multiply(x, scale, name="y")

    with pytest.raises(UsageError, match="also depend on 'scale'"):
        contract_for_graph(graph(build), ["x"], ["y"])


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "switch"),
    [
        ("is_training", "bool", (), True),
        ("training", "bool", (), True),
        ("keras_learning_phase", "int32", (), True),
        ("keep_prob", "float32", (), True),
        ("dropout_rate", "float32", (1,), True),
        ("keep_prob", "float32", (None,), False),
        ("is_training", "float32", (), False),
        ("use_flash", "bool", (), False),
        ("x", "float32", (), False),
    ],
)
def test_of_a_signatures_input_name_type_and_shape_tell(
    name: str, dtype: str, shape: tuple[int | None, ...], switch: bool
) -> None:
    assert is_switch(TensorSpec(name, dtype, shape)) is switch
