"""What is tidied before anything is made of an inference graph: smaller, and the same numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeconv.surgery.cleanup import tidy
from edgeconv.surgery.graph import Graph
from edgeconv.surgery.stored_values import StoredValue

RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(2, 6, 6, 3)).astype("float32")
ROWS = RNG.normal(size=(4, 3)).astype("float32")


def graph(build: Callable[[Any], None], *outputs: str) -> Graph:
    import tensorflow as tf

    with tf.Graph().as_default() as made:
        build(tf)
    return Graph(made.as_graph_def(), outputs=outputs or ["y"], inputs=["x"])


def run(made: Graph, x: Any) -> list[Any]:
    import tensorflow as tf

    for name, value in made.values.items():
        made.nodes[name].attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value()))
    with tf.Graph().as_default() as running, tf.compat.v1.Session(graph=running) as session:
        tf.graph_util.import_graph_def(made.graph_def, name="")
        return session.run([f"{o}:0" if ":" not in o else o for o in made.outputs], {"x:0": x})


def ops(made: Graph) -> Counter[str]:
    return Counter(node.op for node in made.graph_def.node)


def tidied(build: Callable[[Any], None], x: Any, *outputs: str) -> Graph:
    """The tidied graph; it gives what it gave before, and tidying it again changes nothing."""
    before, after = graph(build, *outputs), graph(build, *outputs)
    tidy(after)
    wanted, found = run(before, x), run(after, x)
    for one, other in zip(wanted, found, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)
    once = after.graph_def.SerializeToString(deterministic=True)
    tidy(after)
    assert after.graph_def.SerializeToString(deterministic=True) == once
    return after


def image(tf: Any) -> Any:
    return tf.compat.v1.placeholder(tf.float32, [None, 6, 6, 3], "x")


def rows(tf: Any) -> Any:
    return tf.compat.v1.placeholder(tf.float32, [None, 3], "x")


def normal(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype("float32")


def fused(tf: Any, x: Any, **options: Any) -> Any:
    size = int(x.shape[-1 if options.get("data_format", "NHWC") == "NHWC" else 1])
    variance = np.abs(normal(size)) + 0.5
    return tf.raw_ops.FusedBatchNormV3(
        x=x, scale=normal(size), offset=normal(size), mean=normal(size), variance=variance, **options
    )


def test_chains_of_identities_are_read_through_and_names_of_outputs_stay() -> None:
    def build(tf: Any) -> None:
        x = tf.stop_gradient(tf.identity(tf.identity(rows(tf))))
        tf.identity(tf.nn.relu(x), name="y")

    assert ops(tidied(build, ROWS)) == {"Placeholder": 1, "Relu": 1, "Identity": 1}


def test_what_waits_for_another_node_keeps_waiting() -> None:
    def build(tf: Any) -> None:
        x = rows(tf)
        first = tf.identity(x, name="first")
        with tf.control_dependencies([first]):
            tf.nn.relu(x, name="y")

    assert ops(tidied(build, ROWS))["Identity"] == 1


def test_what_only_constants_decide_is_computed_once() -> None:
    def build(tf: Any) -> None:
        scale = tf.math.rsqrt(tf.constant(np.abs(normal(3))) + 1e-3) * tf.constant(normal(3))
        tf.multiply(rows(tf), scale, name="y")

    assert ops(tidied(build, ROWS)) == {"Placeholder": 1, "Const": 1, "Mul": 1}


def test_a_result_much_larger_than_what_it_is_made_of_is_left_to_the_op_that_makes_it() -> None:
    def build(tf: Any) -> None:
        large = tf.fill([1, 3 << 18], tf.constant(2.0))
        small = tf.fill([3], tf.constant(0.5))
        tf.add(rows(tf)[:1, :1] * small, large[:, :3], name="y")

    assert ops(tidied(build, ROWS))["Fill"] == 0
    # The slice of it is small again; the large one itself is not:

    def whole(tf: Any) -> None:
        tf.add(rows(tf)[:1, :1], tf.fill([1, 3 << 18], tf.constant(2.0)), name="y")

    assert ops(tidied(whole, ROWS))["Fill"] == 1


def test_the_grid_of_a_quantized_weight_and_random_numbers_stay() -> None:
    def build(tf: Any) -> None:
        kernel = tf.quantization.fake_quant_with_min_max_args(tf.constant(normal(3, 2)), -3, 3)
        y = tf.matmul(rows(tf), kernel)
        tf.add(y, 0.0 * tf.random.uniform([2], seed=1), name="y")

    assert {"FakeQuantWithMinMaxArgs", "RandomUniform"} <= set(ops(tidied(build, ROWS)))


@pytest.mark.parametrize("bias", [False, True])
def test_a_batch_norm_goes_into_the_convolution_before_it(bias: bool) -> None:
    def build(tf: Any) -> None:
        x = tf.nn.conv2d(image(tf), tf.constant(normal(3, 3, 3, 4)), 1, "SAME")
        x = tf.nn.bias_add(x, tf.constant(normal(4))) if bias else x
        y, *_ = fused(tf, x, is_training=False, epsilon=1e-3)
        tf.nn.relu(y, name="y")

    found = ops(tidied(build, IMAGE))
    assert found["FusedBatchNormV3"] == 0
    assert found["Conv2D"] == 1


def test_a_batch_norm_goes_into_a_depthwise_convolution() -> None:
    def build(tf: Any) -> None:
        x = tf.nn.depthwise_conv2d(image(tf), tf.constant(normal(3, 3, 3, 2)), [1, 1, 1, 1], "VALID")
        tf.identity(fused(tf, x, is_training=False)[0], name="y")

    assert ops(tidied(build, IMAGE))["FusedBatchNormV3"] == 0


def test_a_batch_norm_of_channels_first_goes_into_its_convolution() -> None:
    def build(tf: Any) -> None:
        x = tf.nn.conv2d(image(tf), tf.constant(normal(1, 1, 3, 4)), 1, "SAME")
        x = tf.raw_ops.Conv2D(
            input=tf.transpose(x, [0, 3, 1, 2]), filter=tf.constant(normal(3, 3, 4, 5)),
            strides=[1, 1, 1, 1], padding="VALID", data_format="NCHW",
        )  # fmt: skip
        tf.identity(fused(tf, x, is_training=False, data_format="NCHW")[0], name="y")

    made = graph(build)
    tidy(made)
    assert ops(made)["FusedBatchNormV3"] == 0
    (added,) = [node for node in made.graph_def.node if node.op == "BiasAdd"]
    assert added.attr["data_format"].s == b"NCHW"


@pytest.mark.parametrize("layer", ["conv", "depthwise", "dense", "transposed"])
def test_a_factor_goes_into_the_weights_and_the_bias_before_it(layer: str) -> None:
    def build(tf: Any) -> None:
        if layer == "conv":
            x = tf.nn.conv2d(image(tf), tf.constant(normal(3, 3, 3, 4)), 2, "SAME")
        elif layer == "depthwise":
            x = tf.nn.depthwise_conv2d(image(tf), tf.constant(normal(3, 3, 3, 2)), [1, 1, 1, 1], "VALID")
        elif layer == "dense":
            x = tf.matmul(rows(tf), tf.constant(normal(3, 5)))
        else:
            x = tf.matmul(rows(tf), tf.constant(normal(5, 3)), transpose_b=True)
        size = int(x.shape[-1])
        x = tf.nn.bias_add(x, tf.constant(normal(size)))
        y = tf.nn.batch_normalization(
            x, tf.constant(normal(size)), tf.constant(np.abs(normal(size)) + 0.5), tf.constant(normal(size)),
            tf.constant(normal(size) + 3), 1e-3,
        )  # fmt: skip
        tf.nn.relu(y, name="y")

    found = ops(tidied(build, IMAGE if layer in ("conv", "depthwise") else ROWS))
    assert found["Mul"] == 0
    assert found["Rsqrt"] == 0


def test_weights_that_another_layer_reads_too_and_tensors_that_others_read_stay() -> None:
    def shared(tf: Any) -> None:
        kernel = tf.constant(normal(3, 3))
        first = tf.matmul(rows(tf), kernel) * tf.constant(normal(3))
        tf.matmul(first, kernel, name="y")

    assert ops(tidied(shared, ROWS))["Mul"] == 1

    def read_before(tf: Any) -> None:
        x = tf.nn.conv2d(image(tf), tf.constant(normal(3, 3, 3, 4)), 1, "SAME")
        tf.add(fused(tf, x, is_training=False)[0], x, name="y")

    assert ops(tidied(read_before, IMAGE))["FusedBatchNormV3"] == 1


def test_an_output_keeps_its_value_though_a_factor_follows() -> None:
    def build(tf: Any) -> None:
        x = tf.matmul(rows(tf), tf.constant(normal(3, 5)), name="between")
        tf.multiply(x, tf.constant(normal(5)), name="y")

    assert ops(tidied(build, ROWS, "between", "y"))["Mul"] == 1


def test_a_factor_that_is_no_channels_is_left_alone() -> None:
    def build(tf: Any) -> None:
        x = tf.matmul(rows(tf), tf.constant(normal(3, 4)))
        tf.multiply(x, tf.constant(normal(4, 4)), name="y")

    assert ops(tidied(build, ROWS))["Mul"] == 1


def test_a_kernel_whose_value_is_not_in_the_graph_is_scaled_when_it_is_read() -> None:
    kernel = normal(3, 3, 3, 4)

    def build(tf: Any) -> None:
        x = tf.nn.conv2d(image(tf), tf.constant(kernel, name="kernel"), 1, "SAME")
        tf.identity(fused(tf, x, is_training=False)[0], name="y")

    reads = 0

    def read() -> Any:
        nonlocal reads
        reads += 1
        return kernel

    before, made = graph(build), graph(build)
    del made.nodes["kernel"].attr["value"]
    made.values["kernel"] = StoredValue(read, kernel.nbytes, kernel.shape)
    (change,) = tidy(made)
    assert reads == 0
    assert "folded into the weights" in change.message
    np.testing.assert_allclose(run(made, IMAGE)[0], run(before, IMAGE)[0], rtol=2e-5, atol=2e-5)


def test_a_loop_of_tensorflow_1_is_not_touched() -> None:
    import tensorflow as tf2

    def build(tf: Any) -> None:
        x = rows(tf)
        limit = tf.identity(tf.constant(3)) + 0
        step = lambda i, value: (i + 1, tf.identity(value) * 2.0 + tf.constant(1.0))  # noqa: E731
        y = tf.compat.v1.while_loop(lambda i, _: i < limit, step, [0, x])[1]
        tf.identity(y, name="y")

    tf2.compat.v1.disable_control_flow_v2()
    try:
        found = ops(tidied(build, ROWS))
    finally:
        tf2.compat.v1.enable_control_flow_v2()
    assert found["Enter"] == 3


def test_what_cannot_be_computed_stays_and_the_rest_is_folded() -> None:
    def build(tf: Any) -> None:
        x = rows(tf)
        zero = tf.constant([1, 2, 0])
        never = tf.cast(tf.raw_ops.Div(x=tf.constant([1, 2, 3]), y=zero), tf.float32, name="never")
        tf.add(never, x, name="beside")
        tf.multiply(x, tf.constant(normal(3)) * 2.0, name="y")

    made = graph(build, "y", "beside")
    tidy(made)
    found = ops(made)
    assert found["Div"] == 1
    assert found["Mul"] == 1
