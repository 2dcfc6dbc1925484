"""Builds the small models of the end-to-end tests: ``python small_models.py FOLDER``.

A program of its own, so that TensorFlow is imported once for all tests and never in their process.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

BUILDER = """
def build():
    import keras

    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    scores = keras.layers.Dense(10, activation="softmax", name="scores")(x)
    return keras.Model(image, scores, name="digits")
"""


def build_all(folder: Path) -> None:
    """Write one network in every form that a training script leaves, and a few odd models."""
    import keras
    import numpy as np
    import tensorflow as tf

    keras.utils.set_random_seed(7)
    (folder / "net.py").write_text(BUILDER)
    namespace: dict[str, Any] = {}
    exec(BUILDER, namespace)
    model = namespace["build"]()
    random = np.random.default_rng(0)
    model.get_layer("norm").set_weights(
        [random.uniform(0.5, 1.5, 4), *random.normal(0, 0.1, (2, 4)), random.uniform(0.5, 1.5, 4)]
    )
    model.save(folder / "digits.keras")
    model.save(folder / "digits.h5")
    model.export(folder / "digits_saved_model", verbose=False)
    tf.train.Checkpoint(model=model).write(str(folder / "run" / "ckpt-1"))
    np.savez(folder / "samples.npz", image=random.random((32, 8, 8, 1), dtype=np.float32))
    (folder / "several").mkdir()
    several(folder / "several")
    unknown_shape(folder / "unknown.pb")


def several(folder: Path) -> None:
    """A SavedModel with two signatures and no default one, and one with two graphs told apart by tags."""
    import tensorflow as tf

    class Two(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = tf.Variable([[1.0, 2.0], [3.0, 4.0]])

        @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32, name="x")])
        def embed(self, x: Any) -> dict[str, Any]:
            return {"embedding": tf.matmul(x, self.weight)}

        @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32, name="x")])
        def score(self, x: Any) -> dict[str, Any]:
            return {"score": tf.reduce_sum(tf.nn.relu(tf.matmul(x, self.weight)), axis=-1)}

    two = Two()
    tf.saved_model.save(two, str(folder / "signatures"), {"embed": two.embed, "score": two.score})
    v1 = tf.compat.v1
    builder = v1.saved_model.Builder(str(folder / "tagged"))
    for number, tags in enumerate((["train"], ["small", "gpu"])):
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float32, (None, 3), name="x")
            weight = v1.get_variable("weight", initializer=tf.constant([1.0, 2.0, 3.0]))
            y = tf.identity(x * weight + float(number), name="y")
            session.run(v1.global_variables_initializer())
            signature = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
            add = builder.add_meta_graph_and_variables if number == 0 else None
            if add is not None:
                add(session, tags, signature_def_map={"serving_default": signature})
            else:
                builder.add_meta_graph(tags, signature_def_map={"serving_default": signature})
    builder.save()


def unknown_shape(path: Path) -> None:
    """A frozen graph whose placeholder says no shape at all."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, None, name="x")
        tf.nn.relu(tf.reshape(x, (-1, 4)) @ tf.constant(2.0, shape=(4, 3)), name="logits")
    path.write_bytes(graph.as_graph_def().SerializeToString())


if __name__ == "__main__":
    build_all(Path(sys.argv[1]))
