"""Writes a small network as a SavedModel and as a Keras file: ``small_model.py PATH``."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras

keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.layers.Input((28, 28, 1), name="image"),
        keras.layers.Conv2D(16, 3, activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax", name="scores"),
    ]
)
model.save(f"{sys.argv[1]}.keras")
model.export(sys.argv[1], verbose=False)
