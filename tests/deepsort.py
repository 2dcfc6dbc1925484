"""DeepSORT's appearance network, layer by layer as its paper describes it, with raw ops of TensorFlow 1.

The network maps a crop of a person, 128 x 64, to a unit vector of 128 numbers: two 3 x 3 convolutions, a
3 x 3 max pooling, six residual blocks of which two halve the size, a dense layer, and the projection to the
unit sphere. Batch normalisation stands before each nonlinearity (ELU), with the names of variables that slim
gives them (``conv1_1/weights``, ``conv1_1/conv1_1/bn/moving_mean``); the residual blocks and the dense layer
have dropout. What ``freeze_model.py`` exports has images as bytes, and turns blue, green, red into red,
green, blue in a loop over the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HEIGHT, WIDTH, FEATURES = 128, 64, 128
_EPSILON = 1e-3


@dataclass(frozen=True)
class DeepSort:
    """Files of one network, and what it gives.

    Attributes:
        checkpoint: prefix of the training checkpoint, with its ``.meta``.
        frozen: the frozen inference graph, ``images`` to ``features``.
        images: ``uint8[2, 128, 64, 3]``.
        features: ``float32[2, 128]``, what the inference graph gives for ``images``.
    """

    checkpoint: Path
    frozen: Path
    images: Any
    features: Any


def make(folder: Path, *, seed: int = 7) -> DeepSort:
    """Write a training checkpoint and the frozen inference graph of a network with random weights."""
    import tensorflow as tf

    v1 = tf.compat.v1
    values = _train_once(folder / "model.ckpt-68577", seed)
    images = np.random.default_rng(seed).integers(0, 256, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)
    with tf.Graph().as_default() as graph:
        placeholder = v1.placeholder(tf.uint8, (None, HEIGHT, WIDTH, 3), name="images")
        v1.disable_control_flow_v2()
        as_float = tf.cast(placeholder, tf.float32)
        turned = tf.map_fn(lambda image: image[:, :, ::-1], as_float, back_prop=False)
        network(tf, turned, training=False)
        with v1.Session(graph=graph) as session:
            for variable in v1.global_variables():
                variable.load(values[variable.op.name], session)
            features = session.run("features:0", {"images:0": images})
            frozen = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["features"])
    path = folder / "mars-small128.pb"
    path.write_bytes(frozen.SerializeToString())
    return DeepSort(folder / "model.ckpt-68577", path, images, features)


def _train_once(prefix: Path, seed: int) -> dict[str, Any]:
    """Save a checkpoint of the training graph, as if trained; returns the variables of the network."""
    import tensorflow as tf

    v1 = tf.compat.v1
    rng = np.random.default_rng(seed)
    with tf.Graph().as_default() as graph:
        queue = v1.FIFOQueue(100, [tf.uint8, tf.int64], shapes=[[HEIGHT, WIDTH, 3], []], name="read_batch")
        images, labels = queue.dequeue_many(4)
        features = network(tf, tf.cast(images, tf.float32), training=True)
        with v1.variable_scope("ball"):
            means = v1.get_variable("mean_vectors", [FEATURES, 10])
            scale = v1.get_variable("scale", [])
            logits = tf.nn.softplus(scale) * tf.matmul(features, tf.nn.l2_normalize(means, axis=0))
        v1.losses.sparse_softmax_cross_entropy(labels, logits)
        loss = v1.losses.get_total_loss()
        v1.summary.scalar("loss", loss)
        step = v1.train.get_or_create_global_step()
        v1.train.AdamOptimizer(1e-3).minimize(loss, step)
        saver = v1.train.Saver()
        with v1.Session(graph=graph) as session:
            session.run(v1.global_variables_initializer())
            values = {}
            for variable in v1.global_variables():
                shape = tuple(variable.shape.as_list())
                value = _weights(rng, variable.op.name, shape)
                if value is not None:
                    variable.load(value, session)
                    values[variable.op.name] = value
            saver.save(session, str(prefix))
    return values


def _weights(rng: Any, name: str, shape: tuple[int, ...]) -> Any | None:
    """Values as training leaves them; ``None`` for the optimiser's own."""
    if "Adam" in name or name.startswith(("beta", "global_step")):
        return None
    if name.endswith("moving_variance"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if name.endswith(("moving_mean", "bn/beta", "biases")):
        return rng.normal(0, 0.3, shape).astype(np.float32)
    inputs = int(np.prod(shape[:-1])) or 1
    return rng.normal(0, np.sqrt(2 / inputs), shape).astype(np.float32)


def network(tf: Any, images: Any, *, training: bool) -> Any:
    """The network: ``float32[?, 128, 64, 3]`` to the tensor ``features``, ``float32[?, 128]``."""
    layers = _Layers(tf, training)
    x = layers.convolution(images, 32, "conv1_1", normalised=True)
    x = layers.convolution(x, 32, "conv1_2", normalised=True)
    x = tf.nn.max_pool2d(x, 3, 2, "VALID", name="pool1")
    for index, name in enumerate(("conv2_1", "conv2_3", "conv3_1", "conv3_3", "conv4_1", "conv4_3")):
        x = layers.residual(x, name, wider=name in ("conv3_1", "conv4_1"), first=index == 0)
    x = tf.reshape(x, [-1, int(np.prod(x.shape.as_list()[1:]))], name="Flatten/flatten/Reshape")
    x = layers.dropout(x, "Dropout")
    x = layers.dense(x, FEATURES, "fc1")
    return tf.identity(tf.nn.l2_normalize(x, axis=1), name="features")


class _Layers:
    def __init__(self, tf: Any, training: bool) -> None:
        self.tf = tf
        self.v1 = tf.compat.v1
        self.training = training

    def convolution(self, x: Any, filters: int, scope: str, *, normalised: bool, stride: int = 1) -> Any:
        with self.v1.variable_scope(scope):
            weights = self.v1.get_variable("weights", [3, 3, x.shape[-1], filters])
            x = self.tf.nn.conv2d(x, weights, stride, "SAME", name="Conv2D")
            if normalised:
                return self.tf.nn.elu(self.batch_norm(x, f"{scope}/bn"))
            return self.tf.nn.bias_add(x, self.v1.get_variable("biases", [filters]))

    def residual(self, x: Any, scope: str, *, wider: bool, first: bool) -> Any:
        before = x if first else self.tf.nn.elu(self.batch_norm(x, f"{scope}/bn"))
        filters = int(before.shape[-1]) * (2 if wider else 1)
        y = self.convolution(before, filters, f"{scope}/1", normalised=True, stride=2 if wider else 1)
        y = self.dropout(y, f"{scope}/Dropout")
        y = self.convolution(y, filters, f"{scope}/2", normalised=False)
        if not wider:
            return x + y
        with self.v1.variable_scope(f"{scope}/projection"):
            weights = self.v1.get_variable("weights", [1, 1, x.shape[-1], filters])
            return self.tf.nn.conv2d(x, weights, 2, "SAME") + y

    def dense(self, x: Any, units: int, scope: str) -> Any:
        with self.v1.variable_scope(scope):
            weights = self.v1.get_variable("weights", [x.shape[-1], units])
            return self.tf.nn.elu(self.batch_norm(self.tf.matmul(x, weights), f"{scope}/bn"))

    def dropout(self, x: Any, name: str) -> Any:
        return self.v1.nn.dropout(x, keep_prob=0.6, name=name) if self.training else x

    def batch_norm(self, x: Any, scope: str) -> Any:
        """Slim's form: no gamma variable, fused where there are pictures, its own moments where not."""
        tf, v1 = self.tf, self.v1
        with v1.variable_scope(scope):
            size = [int(x.shape[-1])]
            beta = v1.get_variable("beta", size)
            mean = v1.get_variable("moving_mean", size, trainable=False)
            variance = v1.get_variable("moving_variance", size, trainable=False)
            gamma = tf.ones(size)
            pictures = len(x.shape) == 4
            if not self.training:
                if pictures:
                    fused = v1.nn.fused_batch_norm(
                        x, gamma, beta, mean, variance, _EPSILON, is_training=False
                    )
                    return fused[0]
                return tf.nn.batch_normalization(x, mean, variance, beta, None, _EPSILON)
            if pictures:
                y, now_mean, now_variance = v1.nn.fused_batch_norm(x, gamma, beta, epsilon=_EPSILON)
            else:
                now_mean, now_variance = tf.nn.moments(x, [0])
                y = tf.nn.batch_normalization(x, now_mean, now_variance, beta, None, _EPSILON)
            for moving, now in ((mean, now_mean), (variance, now_variance)):
                update = v1.assign_sub(moving, (moving - now) * 0.001, name="AssignMovingAvg")
                v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, update)
            return y
