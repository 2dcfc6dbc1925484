"""A small network that knows digits of 8×8 pixels: ``digits.keras``, and samples for its calibration."""

from __future__ import annotations

import keras
import numpy as np
from sklearn.datasets import load_digits

keras.utils.set_random_seed(0)
digits = load_digits()
images = (digits.images[..., None] / 16).astype(np.float32)
model = keras.Sequential(
    [
        keras.Input((8, 8, 1), name="image"),
        keras.layers.Conv2D(16, 3, activation="relu"),
        keras.layers.Conv2D(32, 3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10, activation="softmax", name="scores"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(images, digits.target, epochs=5, verbose=0)
model.save("digits.keras")
np.savez("samples.npz", image=images[:100])
