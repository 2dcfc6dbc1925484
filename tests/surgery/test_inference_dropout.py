"""Dropout that is on becomes the identity, whatever way it is written; other randomness is left and named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from inference_proof import Build, built, prove, rewritten

from edgeconv.formats._graph_vocabulary import RANDOM_OPS

X = np.random.default_rng(3).normal(0.5, 1.0, (4, 6)).astype("float32")
IMAGES = np.random.default_rng(4).normal(0.5, 1.0, (2, 4, 4, 3)).astype("float32")
SEQUENCE = np.random.default_rng(5).normal(0.5, 1.0, (2, 5, 3)).astype("float32")


def v1() -> Any:
    import tensorflow as tf

    return tf.compat.v1


def plain(x: Any) -> Any:
    return v1().nn.relu(x, name="y")


def before_relu(drop: Any) -> Build:
    def build(x: Any) -> Any:
        return v1().nn.relu(drop(x), name="y")

    return build


def keep_placeholder() -> Any:
    return v1().placeholder("float32", [], name="keep_prob")


def test_a_keep_probability_that_is_a_number() -> None:
    (change,) = prove(before_relu(lambda x: v1().nn.dropout(x, keep_prob=0.6)), plain, X)
    assert change.rewrite == "remove_dropout"
    assert "lets everything through" in change.message
    assert change.replaced[0].formula == "identity"


def test_a_keep_probability_that_is_fed() -> None:
    """The placeholder is on the way no more; nobody has to feed it."""
    build = before_relu(lambda x: v1().nn.dropout(x, keep_prob=keep_placeholder()))
    prove(build, plain, X)
    graph, _ = rewritten(built(build, (None, 6)))
    assert "keep_prob" not in graph.on_path()


@pytest.mark.parametrize("rate", [0.3, None])
def test_a_rate(rate: float | None) -> None:
    import tensorflow as tf

    def drop(x: Any) -> Any:
        return tf.nn.dropout(x, rate if rate is not None else v1().placeholder("float32", [], name="rate"))

    prove(before_relu(drop), plain, X)
    prove(before_relu(lambda x: v1().nn.dropout(x, rate=rate or 0.1)), plain, X)


def test_a_default_that_keeps_half() -> None:
    def drop(x: Any) -> Any:
        return v1().nn.dropout(x, keep_prob=v1().placeholder_with_default(0.5, [], name="keep_prob"))

    prove(before_relu(drop), plain, X)


def test_a_mask_without_a_seed_of_the_op() -> None:
    import tensorflow as tf

    def drop(x: Any) -> Any:
        return tf.nn.experimental.stateless_dropout(x, 0.4, seed=[1, 2])

    prove(before_relu(drop), plain, X)


def floor_of_sum(x: Any, keep: Any) -> Any:
    """As TensorFlow 1.0 to 1.12 wrote it."""
    import tensorflow as tf

    noise = keep + v1().random_uniform(tf.shape(x), 0.0, 1.0)
    return v1().div(x, keep) * tf.floor(noise)


def scaled_afterwards(x: Any, keep: Any) -> Any:
    import tensorflow as tf

    mask = tf.cast(v1().random_uniform(tf.shape(x)) < keep, tf.float32)
    return (x * mask) * (1.0 / keep)


def divided_afterwards(x: Any, keep: Any) -> Any:
    import tensorflow as tf

    mask = tf.where(v1().random_uniform(tf.shape(x)) < keep, tf.ones_like(x), tf.zeros_like(x))
    return (mask * x) / keep


def selected(x: Any, keep: Any) -> Any:
    import tensorflow as tf

    dropped = v1().random_uniform(tf.shape(x)) >= 1.0 - keep
    return tf.where(dropped, x / keep, tf.zeros_like(x))


@pytest.mark.parametrize("form", [floor_of_sum, scaled_afterwards, divided_afterwards, selected])
@pytest.mark.parametrize("fed", [True, False])
def test_forms_written_by_hand(form: Any, fed: bool) -> None:
    changes = prove(before_relu(lambda x: form(x, keep_placeholder() if fed else 0.7)), plain, X)
    assert [change.rewrite for change in changes] == ["remove_dropout"]


def test_a_mask_that_nothing_makes_up_for_is_fixed_where_it_is_fed() -> None:
    import tensorflow as tf

    def drop(x: Any) -> Any:
        return x * tf.cast(v1().random_uniform(tf.shape(x)) < keep_placeholder(), tf.float32)

    fixed, _ = prove(before_relu(drop), plain, X)
    assert "'keep_prob' is the probability of keeping of a dropout: fixed to 1" in fixed.message


def test_a_mask_that_nothing_makes_up_for_is_named_where_its_rate_is_a_number() -> None:
    """Inference is x times 0.5 for its first inventors and x for others."""
    import tensorflow as tf

    def drop(x: Any) -> Any:
        return x * tf.cast(v1().random_uniform(tf.shape(x)) < 0.5, tf.float32)

    graph, (change,) = rewritten(built(before_relu(drop), (None, 6)))
    assert change.warning
    assert "the outputs are random" in change.message
    assert any(graph.nodes[name].op in RANDOM_OPS for name in graph.on_path())


def test_a_dropout_that_the_user_feeds_stays() -> None:
    build = before_relu(lambda x: v1().nn.dropout(x, keep_prob=keep_placeholder()))
    graph, changes = rewritten(built(build, (None, 6)), inputs=["x", "keep_prob"])
    assert [change.rewrite for change in changes] == ["report_randomness"]
    assert graph.nodes["keep_prob"].op == "Placeholder"


@pytest.mark.parametrize("flow", [1, 2])
@pytest.mark.parametrize("default", [True, False])
def test_layers_dropout_behind_a_switch(default: bool, flow: int) -> None:
    from tf_keras.src.legacy_tf_layers import core

    def drop(x: Any) -> Any:
        if default:
            switch = v1().placeholder_with_default(True, [], name="phase")
        else:
            switch = v1().placeholder("bool", name="training")
        return core.dropout(x, 0.5, training=switch)

    changes = prove(before_relu(drop), plain, X, flow=flow)
    assert changes[0].rewrite == "fix_training_switches"


def test_layers_dropout_that_is_on() -> None:
    from tf_keras.src.legacy_tf_layers import core

    prove(before_relu(lambda x: core.dropout(x, 0.5, training=True)), plain, X)


@pytest.mark.parametrize("phase", [True, None])
@pytest.mark.parametrize(
    "layer",
    [
        lambda k: k.layers.Dropout(0.3),
        lambda k: k.layers.AlphaDropout(0.3),
        lambda k: k.layers.GaussianDropout(0.3),
        lambda k: k.layers.GaussianNoise(0.3),
        lambda k: k.layers.SpatialDropout2D(0.3),
    ],
    ids=["dropout", "alpha", "gaussian", "noise", "spatial"],
)
def test_keras_layers_in_a_graph(layer: Any, phase: bool | None) -> None:
    import tf_keras

    def drop(x: Any) -> Any:
        if phase is None:
            switch = v1().placeholder_with_default(False, [], name="keras_learning_phase")
            return layer(tf_keras)(x, training=switch)
        return layer(tf_keras)(x, training=phase)

    changes = prove(before_relu(drop), plain, IMAGES)
    assert changes


@pytest.mark.parametrize("fed", [True, False])
def test_a_wrapper_around_a_cell_in_a_loop(fed: bool) -> None:
    """The random op runs inside of the loop, where nothing can be fed."""
    from tf_keras.src.layers.rnn import legacy_cell_wrappers, legacy_cells

    def network(keep: Any) -> Build:
        def build(x: Any) -> Any:
            cell = legacy_cells.BasicRNNCell(4)
            if keep is not None:
                amount = keep() if callable(keep) else keep
                cell = legacy_cell_wrappers.DropoutWrapper(
                    cell, input_keep_prob=amount, output_keep_prob=amount, state_keep_prob=amount
                )
            outputs, _ = v1().nn.dynamic_rnn(cell, x, dtype="float32")
            return v1().nn.relu(outputs, name="y")

        return build

    changes = prove(network(keep_placeholder if fed else 0.5), network(None), SEQUENCE)
    assert sum("in a loop" in change.message for change in changes) == 3


def test_sampling_is_left_and_said() -> None:
    """A variational autoencoder draws its code; that is what it is for."""
    import tensorflow as tf

    def onto(x: Any) -> Any:
        mean, deviation = x[:, :3], tf.exp(x[:, 3:])
        return tf.identity(mean + deviation * v1().random_normal(tf.shape(mean)), name="y")

    graph, (change,) = rewritten(built(onto, (None, 6)))
    assert change.warning
    assert "random_normal/RandomStandardNormal" in change.message
    assert any(graph.nodes[name].op in RANDOM_OPS for name in graph.on_path())


def test_a_generator_that_starts_from_noise_is_left() -> None:
    import tensorflow as tf

    def onto(x: Any) -> Any:
        return tf.identity(x + tf.matmul(v1().random_normal([4, 6]), tf.ones([6, 6])), name="y")

    _, (change,) = rewritten(built(onto, (None, 6)))
    assert change.rewrite == "report_randomness"


def test_a_graph_without_training_is_not_touched() -> None:
    assert prove(plain, plain, X) == []


def test_products_and_sums_of_complex_numbers_are_no_dropout() -> None:
    """A cosine transform by FFT multiplies with complex constants; that once ended the conversion."""
    import tensorflow as tf

    def build(x: Any) -> Any:
        turned = tf.complex(x, x) * tf.constant(1 + 2j, tf.complex64) + tf.constant(1j, tf.complex64)
        return v1().add(tf.math.real(turned), 1.0, name="y")

    assert rewritten(built(build, (None, 6)))[1] == []
