"""A small convolutional network for scikit-learn's handwritten digits."""

from __future__ import annotations

from typing import Any


def build() -> Any:
    """The untrained network: 8x8 grey images in [0, 1] to 10 class probabilities.

    ``edgeconv convert CHECKPOINT --model-builder examples/digits/model.py:build`` calls it to have the
    graph that the checkpoint's weights belong to.
    """
    import keras

    return keras.Sequential(
        [
            keras.layers.Input((8, 8, 1), name="image"),
            keras.layers.Conv2D(32, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Conv2D(64, 1),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(10, activation="softmax", name="digit"),
        ],
        name="digits",
    )
