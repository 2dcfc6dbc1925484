"""Trained networks with real inputs: what it takes to tell which quantization is nearer to the truth.

Each entry gives a model, inputs to calibrate with, other inputs to test on, and their labels where somebody
gave some. Photographs are cut into random windows; calibration and test come from different photographs.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from corpus_cases import Case

SAMPLES = 100
Data = tuple[Case, Path, np.ndarray, np.ndarray, np.ndarray | None]
"""Case, path, samples to calibrate with, samples to test on, labels of the latter."""


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """scikit-learn's digits, [n, 8, 8, 1] in [0, 1], and labels: for training, then for testing."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = (found.images / 16.0).astype("float32")[..., None]
    order = np.random.default_rng(0).permutation(len(images))
    train, test = order[:1437], order[1437:]
    return images[train], found.target[train], images[test], found.target[test]


def enlarged(images: np.ndarray, size: int) -> np.ndarray:
    """Digits on a black ground of another size, smoothly enlarged: [n, size, size, 1]."""
    import tensorflow as tf

    inner = size * 3 // 4
    made = tf.image.resize(images, (inner, inner), method="bicubic").numpy().clip(0, 1)
    edge = (size - inner) // 2
    rest = size - inner - edge
    return np.pad(made, ((0, 0), (edge, rest), (edge, rest), (0, 0))).astype("float32")


def _trained(folder: Path, name: str, size: int) -> Data:
    if not (folder / name).exists():
        subprocess.run([sys.executable, __file__, name, folder], check=True)
    images, _, test, labels = digits()
    if size != 8:
        images, test = enlarged(images, size), enlarged(test, size)
    return Case(name), folder / name, images[:SAMPLES], test, labels


def train(name: str, folder: Path) -> None:
    """Train a network on the digits for some seconds and leave a SavedModel in ``folder/name``."""
    import keras

    keras.utils.set_random_seed(0)
    images, labels, test, truth = digits()
    layers = keras.layers
    if name == "digits_cnn":
        inputs = x = keras.Input((8, 8, 1), name="image")
        for filters, strides in ((16, 1), (32, 2), (64, 2)):
            x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Dense(32, activation="relu")(layers.Flatten()(x))
        model = keras.Model(inputs, layers.Dense(10, activation="softmax", name="scores")(x))
        epochs = 15
    else:
        images, test = enlarged(images, 48), enlarged(test, 48)
        inputs = keras.Input((48, 48, 1), name="image")
        core = keras.applications.MobileNetV2((48, 48, 3), alpha=0.35, weights=None, classes=10)
        for layer in core.layers:
            if isinstance(layer, layers.BatchNormalization):
                layer.momentum = 0.9  # its own is for a million images
        tripled = layers.Concatenate()([layers.Rescaling(2.0, -1.0)(inputs)] * 3)
        model = keras.Model(inputs, core(tripled))
        epochs = 20
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images, labels, batch_size=32, epochs=epochs, verbose=0)
    # Statistics of the batch norms as they are in use, which is what a trained network has.
    print(name, model.evaluate(test, truth, verbose=0))
    model.export(str(folder / name), verbose=False)


def _table(corpus: Path, which: str, file: str) -> Data:
    place = corpus / "k-handgesture/model" / which
    rows = np.loadtxt(place / file, delimiter=",", dtype="float32")
    labels, values = rows[:, 0].astype(int), rows[:, 1:]
    test = np.arange(len(rows)) % 5 == 0
    training = np.random.default_rng(0).permutation(values[~test])
    model = place / f"{which}.hdf5"
    case = Case(model.relative_to(corpus).as_posix())
    return case, model, training[:SAMPLES], values[test], labels[test]


def _digits_for(corpus: Path, path: str, scale: float = 1.0) -> Data:
    images, _, test, labels = digits()
    return (
        Case(path),
        corpus / path,
        enlarged(images[:SAMPLES], 28) * scale,
        enlarged(test, 28) * scale,
        labels,
    )


def _photographs(files: list[Path]) -> list[np.ndarray]:
    import tensorflow as tf

    return [tf.io.decode_image(file.read_bytes(), channels=3).numpy() for file in files]


def windows(photographs: list[np.ndarray], count: int, size: int, seed: int) -> np.ndarray:
    """Random windows of photographs, some mirrored: [count, size, size, 3] in [0, 1]."""
    import tensorflow as tf

    random = np.random.default_rng(seed)
    made = []
    for index in range(count):
        photograph = photographs[index % len(photographs)]
        side = int(min(photograph.shape[:2]) * random.uniform(0.25, 1.0))
        top = random.integers(0, photograph.shape[0] - side + 1)
        left = random.integers(0, photograph.shape[1] - side + 1)
        window = photograph[top : top + side, left : left + side]
        if random.random() < 0.5:
            window = window[:, ::-1]
        made.append(tf.image.resize(window, (size, size), antialias=True).numpy() / 255.0)
    return np.stack(made).astype("float32")


def _seen(corpus: Path, case: Case, size: int, tests: int, low: float = 0.0, grey: bool = False) -> Data:
    known = [corpus / "fz-openpose/images" / f"p{n}.jpg" for n in (1, 2)]
    known.append(corpus / "k-face-emotion/images/solvay_conference.jpg")
    others = [corpus / "fz-facemask-ssd/img/demo2.jpg", corpus / "k-face-emotion/images/12_angry_men.jpg"]
    others.append(corpus / "k-face-emotion/images/test_image.jpg")
    given = windows(_photographs(known), SAMPLES, size, 1)
    test = windows(_photographs(others), tests, size, 2)
    if grey:
        given, test = (x.mean(axis=-1, keepdims=True) for x in (given, test))
    return case, corpus / case.model, given * (1 - low) + low, test * (1 - low) + low, None


def _spoken(corpus: Path, name: str, frames: int) -> Data:
    """Real recordings, shifted and louder or softer, through the network's own front end."""
    import tensorflow as tf

    path = corpus / f"fz-kws-armmcu/{name}.pb"
    graph = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    files = sorted((corpus / "inputs-tflm-speech-person/micro_speech_testdata").glob("*_1000ms.wav"))
    sounds = [tf.audio.decode_wav(file.read_bytes())[0].numpy()[:16000, 0] for file in files]
    random = np.random.default_rng(0)
    given = []
    with tf.Graph().as_default() as scope, tf.compat.v1.Session(graph=scope) as session:
        tf.import_graph_def(graph, name="")
        for index in range(2 * SAMPLES):
            sound = sounds[index % len(sounds)]
            sound = np.roll(np.pad(sound, (0, 16000 - len(sound))), random.integers(-2400, 2400))
            sound = (sound * random.uniform(0.3, 1.2) + random.normal(scale=0.003, size=16000)).clip(-1, 1)
            feed = {"decoded_sample_data:0": sound[:, None].astype("float32")}
            feed["decoded_sample_data:1"] = np.int32(16000)
            given.append(session.run("Mfcc:0", feed)[0])
    features = np.stack(given)
    assert features.shape[1] == frames, features.shape
    said = ("--inputs", "Mfcc", "--outputs", "labels_softmax", "--shape", f"Mfcc=1,{frames},10")
    mixed = random.permutation(2 * SAMPLES)
    return (
        Case(f"fz-kws-armmcu/{name}.pb", said, "core"), path,
        features[mixed[:SAMPLES]], features[mixed[SAMPLES:]], None,
    )  # fmt: skip


def trained_models(corpus: Path, folder: Path) -> dict[str, Callable[[], Data]]:
    """Name to what prepares it; those of the corpus only where it is here."""
    found: dict[str, Callable[[], Any]] = {
        "digits_cnn": lambda: _trained(folder, "digits_cnn", 8),
        "digits_mobilenet": lambda: _trained(folder, "digits_mobilenet", 48),
    }
    if not corpus.is_dir():
        return found
    emotion = Case("k-face-emotion/fer2013_mini_XCEPTION.102-0.66.hdf5")
    gender = Case("k-face-emotion/gender_mini_XCEPTION.21-0.95.hdf5")
    mask = Case(
        "fz-facemask-ssd/face_mask_detection.pb",
        ("--outputs", "loc_branch_concat_1/concat,cls_branch_concat_1/concat"),
    )
    return found | {
        "keypoints": lambda: _table(corpus, "keypoint_classifier", "keypoint.csv"),
        "point history": lambda: _table(corpus, "point_history_classifier", "point_history.csv"),
        "mnist conv": lambda: _digits_for(corpus, "mlnet-mnist/mnist_conv_model"),
        "lenet5": lambda: _digits_for(corpus, "ckpt1-lenet5-tftrt/model/frozen_model.pb"),
        "kws DS_CNN": lambda: _spoken(corpus, "DS_CNN_S", 49),
        "kws CNN": lambda: _spoken(corpus, "CNN_S", 49),
        "kws DNN": lambda: _spoken(corpus, "DNN_S", 25),
        "emotion": lambda: _seen(corpus, emotion, 64, 120, low=-1.0, grey=True),
        "gender": lambda: _seen(corpus, gender, 64, 120, low=-1.0, grey=True),
        "face masks": lambda: _seen(corpus, mask, 260, 24),
    }


if __name__ == "__main__":
    train(sys.argv[1], Path(sys.argv[2]))
