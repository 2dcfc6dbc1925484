"""The online part: the best items for a user, from item embeddings that were computed before."""

from __future__ import annotations

import sys

import numpy as np
import tensorflow as tf

import edgeconv

user = int(sys.argv[1])
embeddings = np.load("item_embeddings.npy", mmap_mode="r")
users = np.full(len(embeddings), user, np.int32)
with edgeconv.load("parts/recommender.tail.saved_model") as online:
    scores = online({"item_embedding": np.asarray(embeddings), "user_id": users})["score"]
whole = tf.saved_model.load("recommender").signatures["serving_default"]
expected = whole(user_id=users, item=np.load("items.npz")["item"])["score"].numpy()
print("best items:", ", ".join(str(i) for i in np.argsort(-scores)[:5]))
print(f"largest difference to the whole model: {np.abs(scores - expected).max():.1g}")
