"""Batch normalisations in training mode become those of inference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from inference_proof import built, prove, rewritten, run, session_of

from edgeconv.errors import ConversionError
from edgeconv.surgery.graph import Graph
from edgeconv.surgery.inference import to_inference

X = np.random.default_rng(0).normal(0.5, 2.0, (4, 6, 6, 3)).astype("float32")
FLAT = np.random.default_rng(1).normal(0.5, 2.0, (8, 5)).astype("float32")


def v1() -> Any:
    import tensorflow as tf

    return tf.compat.v1


def normalized(x: Any, training: Any, **options: Any) -> Any:
    """``tf.layers.batch_normalization`` of TensorFlow 1."""
    from tf_keras.src.legacy_tf_layers import normalization

    return normalization.batch_normalization(x, training=training, name="bn", **options)


def convolution(x: Any) -> Any:
    return v1().nn.conv2d(x, v1().get_variable("kernel", [3, 3, 3, 4]), 1, "SAME")


def layer(training: Any, **options: Any) -> Any:
    """A convolution, a batch normalisation, a ReLU."""

    def build(x: Any) -> Any:
        switch = training() if callable(training) else training
        return v1().nn.relu(normalized(convolution(x), switch, **options), name="y")

    return build


def placeholder() -> Any:
    return v1().placeholder("bool", [], name="is_training")


def defaulted() -> Any:
    return v1().placeholder_with_default(True, [], name="is_training")


@pytest.mark.parametrize("resource", [True, False])
@pytest.mark.parametrize("fused", [True, False])
def test_layers_in_training_mode_take_their_moving_statistics(fused: bool, resource: bool) -> None:
    options = {"fused": fused, "epsilon": 2e-3}
    (change,) = prove(layer(True, **options), layer(False, **options), X, resource=resource)
    assert "bn/moving_mean" in change.message
    assert "bn/moving_variance" in change.message


@pytest.mark.parametrize("flow", [1, 2])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("switch", [placeholder, defaulted])
def test_layers_behind_a_switch_take_the_branch_of_inference(switch: Any, fused: bool, flow: int) -> None:
    changes = prove(layer(switch, fused=fused), layer(False, fused=fused), X, flow=flow)
    assert changes[0].rewrite == "fix_training_switches"
    assert changes[0].replaced[0].tensor == "is_training:0"
    assert changes[0].replaced[0].attributes == {"value": False, "dtype": "bool"}


def test_a_switch_that_the_user_named_stays() -> None:
    source = built(layer(placeholder), (None, 6, 6, 3))
    graph, changes = rewritten(source, inputs=["x", "is_training"])
    assert changes == []
    assert graph.nodes["is_training"].op == "Placeholder"


def test_the_layout_with_channels_first() -> None:
    """The CPU has no kernel for it in convolutions, but the formula of the proof must know the axis."""

    def build(training: bool) -> Any:
        return lambda x: v1().identity(normalized(x, training, axis=1, fused=True), name="y")

    source = built(build(True), (None, 3, 6, 6))
    _, (change,) = rewritten(source)
    (replaced,) = change.replaced
    assert replaced.formula == "batch_norm"
    assert replaced.attributes["channels_first"] is True


def test_a_factor_of_averaging_inside_of_the_op() -> None:
    """FusedBatchNormV3 can update by itself: it takes the moving statistics and gives the new ones."""

    def build(training: bool) -> Any:
        def onto(x: Any) -> Any:
            import tensorflow as tf

            scale, offset = v1().get_variable("gamma", [3]), v1().get_variable("beta", [3])
            average = v1().get_variable("average", [3], trainable=False)
            variation = v1().get_variable("variation", [3], trainable=False)
            y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=x,
                scale=scale,
                offset=offset,
                mean=average,
                variance=variation,
                is_training=training,
                exponential_avg_factor=0.1 if training else 1.0,
            )
            if training:
                v1().assign(average, mean)
                v1().assign(variation, variance)
            return tf.identity(y, name="y")

        return onto

    (change,) = prove(build(True), build(False), X)
    assert "average" in change.message


def slim(x: Any, scope: str, training: bool, *, scale: bool = True, update: str = "unbiased") -> Any:
    """Batch normalisation as slim writes it with raw ops: moments, moving averages, batch_normalization."""
    import tensorflow as tf
    from tensorflow.python.training import moving_averages

    axes = list(range(len(x.shape) - 1))
    with v1().variable_scope(scope):
        size = [x.shape[-1]]
        beta = v1().get_variable("beta", size)
        gamma = v1().get_variable("gamma", size) if scale else None
        moving_mean = v1().get_variable("moving_mean", size, trainable=False)
        moving_variance = v1().get_variable("moving_variance", size, trainable=False)
        if not training:
            return tf.nn.batch_normalization(x, moving_mean, moving_variance, beta, gamma, 1e-3)
        mean, variance = tf.nn.moments(x, axes)
        for variable, value in ((moving_mean, mean), (moving_variance, variance)):
            if update != "none":
                moving_averages.assign_moving_average(variable, value, 0.99, zero_debias=update == "unbiased")
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)


@pytest.mark.parametrize("resource", [True, False])
@pytest.mark.parametrize("update", ["plain", "unbiased", "none"])
@pytest.mark.parametrize("scale", [True, False])
def test_moments_and_moving_averages(scale: bool, update: str, resource: bool) -> None:
    """With corrected bias there are three variables of the same shape; without updates only names tell."""

    def build(training: bool) -> Any:
        def onto(x: Any) -> Any:
            x = slim(convolution(x), "first", training, scale=scale, update=update)
            x = v1().nn.relu(x)
            return v1().identity(slim(x, "second", training, scale=scale, update=update), name="y")

        return onto

    first, second = prove(build(True), build(False), X, resource=resource)
    assert "'first/moving_mean'" in first.message
    assert "'second/moving_variance'" in second.message


@pytest.mark.parametrize("update", ["plain", "none"])
def test_a_dense_network_without_any_nonlinearity(update: str) -> None:
    """Nothing stops the batch's mean on its way to the next layer's update but that it is another's."""

    def build(training: bool) -> Any:
        def onto(x: Any) -> Any:
            x = slim(x, "first", training, update=update)
            return v1().identity(slim(x, "second", training, update=update), name="y")

        return onto

    changes = prove(build(True), build(False), FLAT)
    assert ["'first/moving_mean'" in c.message for c in changes] == [True, False]


@pytest.mark.parametrize("keep", [True, False])
def test_moments_that_keep_their_axes(keep: bool) -> None:
    def build(training: bool) -> Any:
        def onto(x: Any) -> Any:
            import tensorflow as tf

            shape = [1, 1, 1, 3]
            moving_mean = v1().get_variable("bn/pop_mean", shape if keep else [3], trainable=False)
            moving_variance = v1().get_variable("bn/pop_var", shape if keep else [3], trainable=False)
            beta = v1().get_variable("bn/beta", [3])
            mean, variance = moving_mean, moving_variance
            if training:
                mean, variance = tf.nn.moments(x, [0, 1, 2], keepdims=True)
                flat = (lambda t: t) if keep else (lambda t: tf.reshape(t, [3]))
                v1().assign(moving_mean, moving_mean * 0.9 + flat(mean) * 0.1)
                v1().assign(moving_variance, moving_variance * 0.9 + flat(variance) * 0.1)
            y = (x - mean) / tf.sqrt(variance + 1e-3) + beta
            return tf.identity(y, name="y")

        return onto

    (change,) = prove(build(True), build(False), X)
    assert {item.formula for item in change.replaced} == {"identity" if keep else "reshape"}


def averaged(x: Any, training: Any) -> Any:
    """The batch normalisation that many people copied: an average of the moments, chosen by a condition."""
    import tensorflow as tf

    beta, gamma = v1().get_variable("beta", [3]), v1().get_variable("gamma", [3])
    batch_mean, batch_variance = tf.nn.moments(x, [0, 1, 2], name="moments")
    average = v1().train.ExponentialMovingAverage(decay=0.9)

    def updated() -> Any:
        with tf.control_dependencies([average.apply([batch_mean, batch_variance])]):
            return tf.identity(batch_mean), tf.identity(batch_variance)

    def stored() -> Any:
        return average.average(batch_mean), average.average(batch_variance)

    if training is True:
        mean, variance = updated()
    elif training is False:
        average.apply([batch_mean, batch_variance])
        mean, variance = stored()
    else:
        mean, variance = v1().cond(training, updated, stored)
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3, name="y")


@pytest.mark.parametrize("resource", [True, False])
@pytest.mark.parametrize("switch", [placeholder, defaulted, lambda: True])
def test_shadows_of_the_moments(switch: Any, resource: bool) -> None:
    changes = prove(lambda x: averaged(x, switch()), lambda x: averaged(x, False), X, resource=resource)
    assert changes


def test_moments_that_are_sums_divided_by_a_count() -> None:
    """As in TensorFlow before 1.4: sufficient statistics around a shift."""

    def build(training: bool) -> Any:
        def onto(x: Any) -> Any:
            import tensorflow as tf

            moving_mean = v1().get_variable("moving_mean", [3], trainable=False)
            moving_variance = v1().get_variable("moving_variance", [3], trainable=False)
            gamma = v1().get_variable("gamma", [3])
            mean, variance = moving_mean, moving_variance
            if training:
                count, total, squares, _ = tf.nn.sufficient_statistics(x, [0, 1, 2])
                mean, variance = tf.nn.normalize_moments(count, total, squares, None)
                v1().assign_sub(moving_mean, 0.1 * (moving_mean - mean))
                v1().assign_sub(moving_variance, 0.1 * (moving_variance - variance))
            return tf.nn.batch_normalization(x, mean, variance, None, gamma, 1e-3, name="y")

        return onto

    assert prove(build(True), build(False), X)


def test_a_condition_around_moments_alone() -> None:
    def build(training: Any) -> Any:
        def onto(x: Any) -> Any:
            import tensorflow as tf

            switch = training() if callable(training) else training
            moving_mean = v1().get_variable("moving_mean", [5], trainable=False)
            moving_variance = v1().get_variable("moving_variance", [5], trainable=False)
            mean, variance = moving_mean, moving_variance
            if switch is not False:
                mean, variance = v1().cond(
                    switch, lambda: tf.nn.moments(x, [0]), lambda: (moving_mean + 0, moving_variance + 0)
                )
            return tf.nn.batch_normalization(x, mean, variance, None, None, 1e-3, name="y")

        return onto

    for flow in (1, 2):
        changes = prove(build(placeholder), build(False), FLAT, flow=flow)
        assert changes[0].rewrite == "fix_training_switches"


@pytest.mark.parametrize("axes", [[1, 2], [3], [1, 2, 3]])
def test_normalisations_that_belong_to_inference_stay(axes: list[int]) -> None:
    """Instance and layer normalisation: nothing is taken over the batch."""

    def onto(x: Any) -> Any:
        import tensorflow as tf

        mean, variance = tf.nn.moments(x, axes, keepdims=True)
        gamma = v1().get_variable("gamma", [3])
        return tf.nn.batch_normalization(x, mean, variance, None, gamma, 1e-5, name="y")

    assert prove(onto, onto, X) == []


def test_a_batch_that_normalises_itself_is_warned_about() -> None:
    def onto(x: Any) -> Any:
        import tensorflow as tf

        mean, variance = tf.nn.moments(x, [0, 1, 2])
        gamma = v1().get_variable("gamma", [3])
        return tf.nn.batch_normalization(x, mean, variance, None, gamma, 1e-5, name="style/batchnorm")

    (change,) = prove(onto, None, X)
    assert change.warning
    assert "an output depends on what else is in its batch" in change.message
    assert "style/batchnorm/Rsqrt" in change.message


def test_a_graph_that_was_frozen_in_training_mode_is_left_and_said() -> None:
    """Freezing drops the moving statistics, so nothing can be repaired afterwards; the graph still is one."""

    def onto(x: Any) -> Any:
        import tensorflow as tf

        gamma, beta = v1().get_variable("bn/gamma", [3]), v1().get_variable("bn/beta", [3])
        y, mean, variance = v1().nn.fused_batch_norm(x, gamma, beta, is_training=True, name="bn/fused")
        v1().assign(v1().get_variable("bn/moving_mean", [3]), mean)
        v1().assign(v1().get_variable("bn/moving_variance", [3]), variance)
        return tf.identity(y, name="y")

    source = built(onto, (None, 6, 6, 3))
    assert rewritten(source)[1], "with its variables it can be repaired"
    graph = Graph(frozen(source), outputs=["y"], inputs=["x"], path="model.pb")
    before = graph.graph_def.SerializeToString(deterministic=True)
    (change,) = to_inference(graph)
    assert change.warning
    assert "1 batch normalisation in training mode (first 'bn/fused')" in change.message
    assert "only the checkpoint" in change.message
    assert graph.graph_def.SerializeToString(deterministic=True) == before


def test_a_frozen_graph_whose_op_still_takes_the_moving_statistics_is_repaired() -> None:
    """Keras hands them to the op in training as well, which ignores them."""
    source = built(layer(True, fused=True), (None, 6, 6, 3))
    wanted, _ = rewritten(source)
    graph = Graph(frozen(source), outputs=["y"], inputs=["x"])
    (change,) = to_inference(graph)
    assert "the op itself takes them" in change.message
    expected = run(wanted, source.values, {"x:0": X})
    np.testing.assert_allclose(run(graph, {}, {"x:0": X}), expected, atol=1e-6)


def test_a_layer_without_moving_statistics_is_refused_by_name() -> None:
    def onto(x: Any) -> Any:
        import tensorflow as tf

        gamma, beta = v1().get_variable("gamma", [3]), v1().get_variable("beta", [3])
        y, *_ = v1().nn.fused_batch_norm(x, gamma, beta, is_training=True, name="layer")
        return tf.identity(y, name="y")

    with pytest.raises(ConversionError, match="no variable of the graph is known to hold"):
        rewritten(built(onto, (None, 6, 6, 3)))


def test_a_layer_in_a_branch_that_data_choose_is_said() -> None:
    """Its body is a function, in which nothing can be fed for a proof."""

    def onto(x: Any) -> Any:
        import tensorflow as tf

        gamma, beta = v1().get_variable("gamma", [3]), v1().get_variable("beta", [3])

        def layer() -> Any:
            return v1().nn.fused_batch_norm(x, gamma, beta, is_training=True, name="inner")[0]

        return tf.identity(v1().cond(tf.reduce_sum(x) > 0.0, layer, lambda: x), name="y")

    _, (change,) = rewritten(built(onto, (None, 6, 6, 3), flow=2))
    assert change.warning
    assert "inner" in change.message
    assert "a branch that the data choose" in change.message


def frozen(source: Any) -> Any:
    """The graph with constants for variables and nothing beside the path, as freeze_graph leaves it."""
    with session_of(source.graph_def, source.values) as session:
        return v1().graph_util.convert_variables_to_constants(session, source.graph_def, ["y"])


def test_the_layer_normalisation_of_keras_2_belongs_to_inference() -> None:
    """It is the same op in training mode, with samples and positions in the place of channels."""
    import tf_keras

    def build(x: Any) -> Any:
        rows = tf_keras.layers.LayerNormalization()(v1().reshape(x, [-1, 4, 6]))
        return v1().nn.relu(tf_keras.layers.LayerNormalization()(rows), name="y")

    graph, changes = rewritten(built(build, (None, 24)))

    assert [change for change in changes if "batch_norm" in change.rewrite] == []
    norms = [node for node in graph.graph_def.node if node.op == "FusedBatchNormV3"]
    assert [node.attr["is_training"].b for node in norms if "is_training" in node.attr] == []
    assert len(norms) == 2
