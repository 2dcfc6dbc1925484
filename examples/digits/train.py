"""Trains the network of ``model.py`` and saves a checkpoint: ``train.py DATA.npz CHECKPOINT``."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
import tensorflow as tf
from model import build

EPOCHS = 20


def main(data: str, checkpoint: str) -> None:
    """Train for some seconds, save model and optimiser as a training run would."""
    keras.utils.set_random_seed(0)
    arrays = np.load(data)
    model = build()
    optimizer = keras.optimizers.Adam(2e-3)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(arrays["images"], arrays["labels"], 64, EPOCHS, verbose=0)
    tf.train.Checkpoint(model=model, optimizer=optimizer).write(checkpoint)
    print(f"{EPOCHS} epochs, training accuracy {history.history['accuracy'][-1]:.1%}, saved {checkpoint}")


if __name__ == "__main__":
    main(*sys.argv[1:])
