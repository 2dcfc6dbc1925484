"""Builds the models of the benchmarks: networks of ``keras.applications`` with seeded random weights.

Run as ``python benchmarks/models.py NAME FOLDER``; leaves ``FOLDER/NAME`` (a SavedModel) and
``FOLDER/NAME.npz`` (100 calibration samples). Batch normalisation gets statistics from data, and the
classifier logits as far apart as those of a trained one: else the signal of a deep random network dies out,
all classes are at a thousandth, and there would be nothing left to quantize.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

SIZES = {"MobileNetV2": 224, "EfficientNetB0": 224, "ResNet50": 224, "InceptionV3": 299}
SAMPLES = 100
LOGITS_DEVIATION = 3.0


def smooth_images(count: int, size: int, seed: int) -> Any:
    """Images like photographs in that neighbours are alike: [count, size, size, 3] float32 in [0, 255]."""
    import numpy as np

    rng = np.random.default_rng(seed)
    coarse = rng.random((count, 8, 8, 3))
    grid = np.linspace(0, 7, size)
    low = np.minimum(grid.astype(int), 6)
    part = (grid - low)[None, :, None, None]
    rows = coarse[:, low] * (1 - part) + coarse[:, low + 1] * part
    part = (grid - low)[None, None, :, None]
    images = rows[:, :, low] * (1 - part) + rows[:, :, low + 1] * part
    return (images * 255).astype("float32")


def build(name: str) -> Any:
    """The network with seeded weights, inputs in [0, 255] scaled where the family wants it."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(1)
    size = SIZES[name]
    family = getattr(keras.applications, name)
    model = family(weights=None, input_shape=(size, size, 3))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    scale = 1.0 if name.startswith("EfficientNet") else 1 / 127.5
    probe = smooth_images(8, size, seed=2) * scale - (0 if scale == 1.0 else 1)
    model(probe, training=True)
    classifier = model.layers[-1]
    features = keras.Model(model.inputs, classifier.input)(probe)
    kernel, bias = classifier.get_weights()
    logits = features @ kernel
    classifier.set_weights([kernel * (LOGITS_DEVIATION / float(np.std(logits))), bias])
    inputs = keras.Input((size, size, 3), name="image")
    scaled = inputs if scale == 1.0 else keras.layers.Rescaling(scale, -1)(inputs)
    return keras.Model(inputs, model(scaled))


def main(name: str, folder: Path) -> None:
    """Write the SavedModel and its calibration samples, unless they are there."""
    import numpy as np

    if (folder / name).exists() and (folder / f"{name}.npz").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"{name}.npz", image=smooth_images(SAMPLES, SIZES[name], seed=3))
    build(name).export(str(folder / name), verbose=False)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
