"""Builds the models of the benchmarks: networks of ``keras.applications`` with seeded random weights.

Run as ``python benchmarks/models.py NAME FOLDER``; leaves ``FOLDER/NAME`` (a SavedModel) and
``FOLDER/NAME.npz`` (100 calibration samples).
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
    """The network with seeded random weights, images in [0, 255] scaled where the family wants it."""
    import keras

    keras.utils.set_random_seed(1)
    size = SIZES[name]
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
    inputs = keras.Input((size, size, 3), name="image")
    scaled = inputs if name.startswith("EfficientNet") else keras.layers.Rescaling(1 / 127.5, -1)(inputs)
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
