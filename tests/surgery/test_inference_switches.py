"""Switches between training and inference are recognised and fixed, and decided conditions fall."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from inference_proof import Build, built, copied, prove, rewritten, run

from edgeconv.surgery.graph import Graph
from edgeconv.surgery.inference import to_inference

X = np.random.default_rng(6).normal(0.5, 1.0, (3, 4)).astype("float32")


def v1() -> Any:
    import tensorflow as tf

    return tf.compat.v1


def noisy(x: Any) -> Any:
    """Something that only training does, in no form of dropout."""
    return x * 2.0 + v1().log(v1().random_uniform([4]) + 1.0)


def chosen(switch: Any, *, train_when: bool = True) -> Build:
    def build(x: Any) -> Any:
        branches = (lambda: noisy(x)), (lambda: x * 3.0)
        then, otherwise = branches if train_when else branches[::-1]
        return v1().identity(v1().cond(switch(), then, otherwise), name="y")

    return build


def expected(x: Any) -> Any:
    return v1().identity(x * 3.0, name="y")


@pytest.mark.parametrize("flow", [1, 2])
@pytest.mark.parametrize(
    "name", ["is_training", "phase_train", "training", "keras_learning_phase", "Placeholder_2", "flag"]
)
def test_a_switch_is_told_by_what_it_switches(name: str, flow: int) -> None:
    changes = prove(chosen(lambda: v1().placeholder("bool", [], name=name)), expected, X, flow=flow)
    assert f"'{name}'" in changes[0].message
    assert "fixed to False" in changes[0].message
    assert "only training has" in changes[0].message


@pytest.mark.parametrize("name", ["is_inference", "test_mode", "whatever"])
def test_a_switch_that_is_on_in_inference(name: str) -> None:
    switch = chosen(lambda: v1().placeholder("bool", [], name=name), train_when=False)
    changes = prove(switch, expected, X)
    assert "fixed to True" in changes[0].message


def test_a_name_decides_where_both_branches_are_alike() -> None:
    def build(x: Any) -> Any:
        switch = v1().placeholder("bool", name="net/is_training")
        return v1().identity(v1().cond(switch, lambda: x * 2.0, lambda: x * 3.0), name="y")

    (fixed, _) = prove(build, expected, X)
    assert "its name says so" in fixed.message


def test_a_flag_that_means_nothing_known_is_left() -> None:
    def build(x: Any) -> Any:
        switch = v1().placeholder("bool", name="mirrored")
        return v1().identity(v1().cond(switch, lambda: x * 2.0, lambda: x * 3.0), name="y")

    assert rewritten(built(build, (None, 4)))[1] == []


def test_a_flag_that_samples_or_turns_a_layer_norm_on_is_left() -> None:
    """Both belong to inference; only a name could tell that they do not."""

    def sampling(x: Any) -> Any:
        switch = v1().placeholder("bool", [], name="draw")
        drawn = v1().cond(switch, lambda: x + v1().exp(x) * v1().random_normal([4]), lambda: x)
        return v1().identity(drawn, name="y")

    def normalising(x: Any) -> Any:
        def layer() -> Any:
            mean, variance = v1().nn.moments(x, [1], keep_dims=True)
            return (x - mean) / v1().sqrt(variance + 1e-3)

        switch = v1().placeholder("bool", [], name="normalise")
        return v1().identity(v1().cond(switch, layer, lambda: x), name="y")

    for flow in (1, 2):
        assert all(change.warning for change in rewritten(built(sampling, (None, 4), flow=flow))[1])
        assert rewritten(built(normalising, (None, 4), flow=flow))[1] == []


def test_a_name_that_contradicts_what_it_switches_is_left() -> None:
    """Somebody called training what is on in inference: to guess would be wrong half of the time."""
    build = chosen(lambda: v1().placeholder("bool", [], name="is_training"), train_when=False)
    _, changes = rewritten(built(build, (None, 4)))
    assert [change.rewrite for change in changes] == ["report_randomness"]


def test_a_flag_that_is_also_a_number_of_the_model_is_left() -> None:
    def build(x: Any) -> Any:
        switch = v1().placeholder("bool", [], name="training")
        y = v1().cond(switch, lambda: noisy(x), lambda: x * 3.0)
        return v1().add(y, v1().cast(switch, "float32"), name="y")

    _, changes = rewritten(built(build, (None, 4)))
    assert [change.rewrite for change in changes] == ["report_randomness"]


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_a_number_that_is_cast_to_a_switch(dtype: str) -> None:
    """The learning phase of Keras 1."""

    def switch() -> Any:
        return v1().cast(v1().placeholder(dtype, [], name="keras_learning_phase"), "bool")

    changes = prove(chosen(switch), expected, X)
    assert "fixed to 0" in changes[0].message


@pytest.mark.parametrize("resource", [True, False])
def test_a_variable_that_is_a_switch(resource: bool) -> None:
    """What training left in it does not count."""

    def switch() -> Any:
        return v1().identity(v1().get_variable("mode", initializer=True, trainable=False))

    changes = prove(chosen(switch), expected, X, resource=resource)
    assert "the variable 'mode' switches between training and inference" in changes[0].message


def test_logic_between_the_switch_and_the_condition() -> None:
    import tensorflow as tf

    def switch() -> Any:
        training = v1().placeholder("bool", [], name="training")
        return tf.logical_and(tf.logical_not(tf.logical_not(training)), tf.constant(True))

    prove(chosen(switch), expected, X)


def test_select_instead_of_a_condition() -> None:
    import tensorflow as tf

    def build(x: Any) -> Any:
        return tf.where(v1().placeholder("bool", [], name="training"), noisy(x), x * 3.0, name="y")

    prove(build, expected, X)
    prove(
        lambda x: v1().where_v2(v1().placeholder("bool", [], name="training"), noisy(x), x * 3.0), expected, X
    )


@pytest.mark.parametrize("flow", [1, 2])
def test_conditions_in_conditions_with_several_outputs(flow: int) -> None:
    import tensorflow as tf

    def build(training: Any) -> Build:
        def onto(x: Any) -> Any:
            switch = (
                v1().placeholder("bool", [], name="training") if training is None else tf.constant(training)
            )

            def outer_training() -> Any:
                with tf.control_dependencies([v1().assert_less(tf.reduce_max(x), 100.0)]):
                    inner = v1().cond(switch, lambda: noisy(x), lambda: x)
                    return inner, inner * 2.0

            def outer_inference() -> Any:
                inner = v1().cond(tf.logical_not(switch), lambda: x * 3.0, lambda: noisy(x))
                return inner, tf.zeros_like(x)

            first, second = v1().cond(switch, outer_training, outer_inference)
            return tf.add(first, second, name="y")

        return onto

    prove(build(None), expected, X, flow=flow)
    prove(build(False), expected, X, flow=flow)


def test_a_condition_in_a_loop() -> None:
    """The predicate comes into the frame from outside; constants of a branch stay in the frame."""
    import tensorflow as tf

    def build(training: bool) -> Build:
        def onto(x: Any) -> Any:
            switch = v1().placeholder("bool", [], name="training") if training else tf.constant(False)

            def body(step: Any, y: Any) -> Any:
                return step + 1, v1().cond(switch, lambda: noisy(y), lambda: y * tf.constant(1.5))

            _, y = v1().while_loop(lambda step, _: step < 3, body, [tf.constant(0), x])
            return tf.identity(y, name="y")

        return onto

    changes = prove(build(True), build(False), X)
    assert changes[0].rewrite == "fix_training_switches"


def test_a_case_whose_index_is_a_constant() -> None:
    import tensorflow as tf

    def build(x: Any) -> Any:
        branches = [lambda: noisy(x), lambda: x * 3.0, lambda: x * 4.0]
        return tf.identity(tf.switch_case(tf.constant(1), branches), name="y")

    graph, changes = rewritten(built(build, (None, 4), flow=2))
    assert [change.rewrite for change in changes] == ["prune_conditionals"]
    np.testing.assert_allclose(run(graph, {}, {"x:0": X}), X * 3.0, rtol=1e-6)


def test_a_branch_that_calls_functions_is_inlined_whole() -> None:
    import tensorflow as tf

    def build(x: Any) -> Any:
        @tf.function
        def tripled(y: Any) -> Any:
            return tf.split(y * 3.0, 2, axis=1)[1]

        switch = v1().placeholder("bool", [], name="training")
        return tf.identity(v1().cond(switch, lambda: noisy(x)[:, 2:], lambda: tripled(x)), name="y")

    graph, _ = rewritten(built(build, (None, 4), flow=2))
    np.testing.assert_allclose(run(graph, {}, {"x:0": X}), X[:, 2:] * 3.0, rtol=1e-6)
    assert len(graph.graph_def.library.function) == 0


def test_a_condition_on_data_keeps_its_functions() -> None:
    """Facts 5: TensorFlow's own tool for training nodes loses the library of a graph like this."""
    import tensorflow as tf

    def build(x: Any) -> Any:
        y = v1().nn.dropout(x, keep_prob=0.5)
        return tf.identity(v1().cond(tf.reduce_sum(x) > 0, lambda: y * 2.0, lambda: y * 3.0), name="y")

    def wanted(x: Any) -> Any:
        return tf.identity(v1().cond(tf.reduce_sum(x) > 0, lambda: x * 2.0, lambda: x * 3.0), name="y")

    for flow in (1, 2):
        prove(build, wanted, X, flow=flow)


def test_the_output_keeps_its_name_where_it_is_a_condition() -> None:
    def build(x: Any) -> Any:
        return v1().cond(v1().placeholder("bool", [], name="training"), lambda: noisy(x), lambda: x * 3.0)

    for flow in (1, 2):
        source = built(build, (None, 4), flow=flow)
        graph, _ = rewritten(source)
        assert graph.outputs == [source.output.removesuffix(":0")]


def test_what_is_named_as_an_input_is_an_input() -> None:
    """Whatever node it is; what lies behind it is none of the model's business."""

    def build(x: Any) -> Any:
        return v1().identity(noisy(v1().nn.dropout(x, keep_prob=0.5, name="drop")) * 3.0, name="y")

    source = built(build, (None, 4))
    graph = Graph(copied(source.graph_def), outputs=["y"], inputs=["x", "Log"])
    changes = to_inference(graph)
    assert graph.nodes["Log"].op == "Log"
    assert [change.rewrite for change in changes] == ["remove_dropout"], (
        "the noise behind the input was judged"
    )
