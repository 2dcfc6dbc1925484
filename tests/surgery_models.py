"""Small real graphs for the tests of surgery: a convolutional network, and a recommender with two towers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def network(folder: Path) -> Path:
    """Write one network frozen (``net.pb``), as a SavedModel (``net_model``) and a checkpoint (``ckpt/net``).

    image ─▶ conv1 ─▶ bn1 (fused) ─▶ conv2 ─▶ bn2 (in small ops) ─▶ features ─▶ logits ─▶ scores, with a
    subtraction of the mean colours before it all.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    random = np.random.default_rng(7)
    graph = tf.Graph()
    with graph.as_default(), v1.Session() as session:

        def variable(name: str, *shape: int, trainable: bool = True, low: float = -0.5) -> Any:
            value = random.uniform(low, low + 1, shape).astype("f")
            return v1.get_variable(
                name, initializer=tf.constant(value), trainable=trainable, use_resource=False
            )

        image = v1.placeholder(tf.float32, [None, 8, 8, 3], "image")
        centred = tf.subtract(image, tf.constant([0.4, 0.5, 0.6]), name="centred")
        with v1.variable_scope("conv1"):
            hidden = tf.nn.conv2d(centred, variable("kernel", 3, 3, 3, 8), 1, "VALID")
        with v1.variable_scope("bn1"):
            hidden, _, _ = v1.nn.fused_batch_norm(
                hidden,
                variable("gamma", 8, low=0.5),
                variable("beta", 8),
                variable("moving_mean", 8, trainable=False),
                variable("moving_variance", 8, trainable=False, low=0.5),
                is_training=False,
            )
        hidden = tf.nn.relu(hidden, name="relu1")
        with v1.variable_scope("conv2"):
            hidden = tf.nn.conv2d(hidden, variable("kernel", 3, 3, 8, 6), 1, "VALID")
            hidden = tf.nn.bias_add(hidden, variable("bias", 6))
        with v1.variable_scope("bn2"):
            hidden = tf.nn.batch_normalization(
                hidden,
                variable("moving_mean", 6, trainable=False),
                variable("moving_variance", 6, trainable=False, low=0.5),
                variable("beta", 6),
                variable("gamma", 6, low=0.5),
                1e-3,
            )
        hidden = tf.nn.relu(hidden, name="features")
        flat = tf.reshape(hidden, [-1, 96])
        with v1.variable_scope("logits"):
            logits = tf.matmul(flat, variable("kernel", 96, 4)) + variable("bias", 4)
        scores = tf.nn.softmax(logits, name="scores")
        session.run(v1.global_variables_initializer())
        frozen = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["scores"])
        (folder / "net.pb").write_bytes(frozen.SerializeToString())
        v1.saved_model.simple_save(session, str(folder / "net_model"), {"image": image}, {"scores": scores})
        v1.train.Saver().save(session, str(folder / "ckpt" / "net"))
    return folder


def recommender(folder: Path) -> Path:
    """Write ``recommender.pb``: a table of users, a tower of items, their product; and ``goes_round.pb``.

    The second has a way from the item to the score that does not pass the item's embedding.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    random = np.random.default_rng(3)

    def weight(*shape: int) -> Any:
        return tf.constant(random.standard_normal(shape).astype("f") * 0.4)

    for name, shortcut in (("recommender", False), ("goes_round", True)):
        graph = tf.Graph()
        with graph.as_default():
            user = v1.placeholder(tf.int32, [None], "user_id")
            item = v1.placeholder(tf.float32, [None, 6], "item")
            users = tf.gather(weight(50, 8), user, name="user_embedding")
            with v1.name_scope("item_tower"):
                hidden = tf.nn.relu(tf.matmul(item, weight(6, 16)), name="hidden")
                items = tf.add(tf.matmul(hidden, weight(16, 8)), weight(8), name="embedding")
            score = tf.reduce_sum(users * items, 1, name="product")
            if shortcut:
                score += tf.reduce_sum(item, 1, name="popularity")
            tf.identity(score, "score")
        (folder / f"{name}.pb").write_bytes(graph.as_graph_def().SerializeToString())
    return folder
