"""Preprocessing layers of Keras: tables go in front as NumPy, augmentation belongs to training and goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeconv

pytestmark = pytest.mark.slow


def proven(model: Path, tmp_path: Path) -> Any:
    manifest = edgeconv.convert(model, ["frozen_graph", "tflite", "onnx"], output=tmp_path / "out")
    assert manifest.passed, [f.reason for f in manifest.failures]
    assert {artifact.format for artifact in manifest.artifacts} >= {"frozen_graph", "tflite", "onnx"}
    return manifest


def test_a_table_of_integers_is_cut_off_and_supplied(tmp_path: Path) -> None:
    """Frozen by hand, the table becomes an input ``unknown:0 int64`` that nobody knows how to feed."""
    import keras

    inputs = keras.Input((1,), dtype="int64", name="id")
    x = keras.layers.IntegerLookup(vocabulary=[3, 5, 8])(inputs)
    x = keras.layers.Flatten()(keras.layers.Embedding(5, 4)(x))
    keras.Model(inputs, keras.layers.Dense(2, name="score")(x)).export(str(tmp_path / "m"), verbose=False)
    manifest = proven(tmp_path / "m", tmp_path)
    assert manifest.front_end is not None
    assert manifest.front_end.supplied
    assert any("LookupTableFindV2" in note for note in manifest.front_end.notes)


def test_a_vocabulary_of_words_is_cut_off(tmp_path: Path) -> None:
    import keras

    inputs = keras.Input((1,), dtype="string", name="text")
    x = keras.layers.TextVectorization(vocabulary=["good", "bad", "film"], output_sequence_length=4)(inputs)
    x = keras.layers.Flatten()(keras.layers.Embedding(6, 4)(x))
    keras.Model(inputs, keras.layers.Dense(2, name="score")(x)).export(str(tmp_path / "m"), verbose=False)
    manifest = proven(tmp_path / "m", tmp_path)
    assert manifest.front_end is not None
    assert any("in place of 'text'" in note for note in manifest.front_end.notes)


def test_augmentation_is_gone(tmp_path: Path) -> None:
    import keras

    inputs = keras.Input((8, 8, 3), name="image")
    x = inputs
    for layer in (
        keras.layers.RandomFlip(),
        keras.layers.RandomRotation(0.1),
        keras.layers.RandomContrast(0.2),
    ):
        x = layer(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="score")(keras.layers.Flatten()(x)))
    model.save(tmp_path / "m.keras")
    manifest = proven(tmp_path / "m.keras", tmp_path)
    image = np.random.default_rng(0).uniform(size=(1, 8, 8, 3)).astype("float32")
    (artifact,) = [a for a in manifest.artifacts if a.format == "tflite"]
    with edgeconv.load(tmp_path / "out" / artifact.path) as session:
        np.testing.assert_allclose(
            session({"image": image})["score"], model(image, training=False), atol=1e-5
        )


def test_a_spectrum_stays_in_float32_where_the_rest_is_int8(tmp_path: Path) -> None:
    """Quantized, a spectrum in front of a logarithm is off by half of what it gives."""
    import tensorflow as tf

    class Listener(tf.Module):
        def __init__(self) -> None:
            self.weights = tf.Variable(np.random.default_rng(0).normal(0, 0.2, (33, 3)).astype("float32"))

        @tf.function(input_signature=[tf.TensorSpec([1, 512], tf.float32, name="wave")])
        def serve(self, wave: Any) -> Any:
            spectrum = tf.abs(tf.signal.stft(wave, 64, 32))
            return {"score": tf.reduce_mean(tf.math.log(spectrum + 1e-6) @ self.weights, 1)}

    module = Listener()
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.serve)
    loud = np.linspace(0.01, 1, 30)[:, None]
    wave = (np.random.default_rng(1).normal(size=(30, 512)) * loud).astype("float32")
    np.savez(tmp_path / "waves.npz", wave=wave)
    manifest = edgeconv.convert(
        tmp_path / "m", ["tflite:int8"], output=tmp_path / "out", calibration=tmp_path / "waves.npz"
    )
    assert manifest.passed
    (note,) = [n for a in manifest.artifacts for n in a.notes if "compute in float32" in n]
    assert "RFFT2D" in note
    assert "LOG" in note
