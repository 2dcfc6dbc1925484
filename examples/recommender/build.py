"""Trains a small recommender with two towers on made-up tastes, and writes what the README uses."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

USERS, ITEMS, FEATURES = 200, 1000, 6


class Recommender(tf.Module):
    """A table of users, a tower that makes an embedding of an item, and the dot product of the two."""

    def __init__(self) -> None:
        super().__init__(name="recommender")
        start = tf.random_normal_initializer(stddev=0.3, seed=1)
        self.users = tf.Variable(start([USERS, 8]), name="users")
        self.first = tf.Variable(start([FEATURES, 16]), name="first")
        self.second = tf.Variable(start([16, 8]), name="second")

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.int32, name="user_id"),
            tf.TensorSpec([None, FEATURES], tf.float32, name="item"),
        ]
    )
    def score(self, user_id: tf.Tensor, item: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scores of users for items, row by row."""
        user = tf.gather(self.users, user_id, name="user_embedding")
        hidden = tf.nn.relu(tf.matmul(item, self.first))
        embedding = tf.matmul(hidden, self.second, name="item_embedding")
        return {"score": tf.reduce_sum(user * embedding, 1)}


random = np.random.default_rng(0)
items = random.standard_normal((ITEMS, FEATURES)).astype("f")
tastes = random.standard_normal((USERS, FEATURES)).astype("f")
model = Recommender()
for _ in range(300):
    who, what = random.integers(0, USERS, 256).astype("int32"), random.integers(0, ITEMS, 256)
    liked = np.tanh((tastes[who] * items[what]).sum(1))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model.score(who, items[what])["score"] - liked) ** 2)
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
    ):
        variable.assign_sub(0.5 * tf.convert_to_tensor(gradient))
tf.saved_model.save(model, "recommender", signatures={"serving_default": model.score})
np.savez("items.npz", item=items)
print(f"loss {float(loss):.3f}; wrote recommender/ and items.npz")
