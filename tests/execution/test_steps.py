"""What is said where a model takes certain inputs only, and where a file of the cache would be named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeconv
from edgeconv.execution.manifest import Manifest

pytestmark = pytest.mark.slow


def frozen(path: Path, build: Any) -> Path:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        build(tf)
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph that looks up rows by numbers from 1000 on, which made-up ones are not."""

    def build(tf: Any) -> None:
        rows = tf.compat.v1.placeholder(tf.int32, [2], name="rows")
        tf.gather(tf.constant([1.5]), rows - 1000, name="read")

    return frozen(tmp_path_factory.mktemp("numbers") / "numbers.pb", build)


def to_onnx(model: Path, folder: Path, **options: Any) -> Manifest:
    return edgeconv.convert(model, "onnx", output=folder / "out", **options)


def test_a_source_that_cannot_take_made_up_inputs_makes_the_gate_speechless_and_asks_for_real_ones(
    numbers: Path, tmp_path: Path
) -> None:
    manifest = to_onnx(numbers, tmp_path)
    assert [a.id for a in manifest.artifacts] == ["frozen_graph.fp32", "onnx.fp32"]
    for artifact in manifest.artifacts:
        assert artifact.gate.verdict == "skipped"
        assert "the source could not be run" in (artifact.gate.reason or "")
        assert "--data" in (artifact.gate.hint or "")


def test_with_real_inputs_it_is_proven(numbers: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "real.npz", rows=np.full((2, 2), 1000, np.int32))
    manifest = to_onnx(numbers, tmp_path, data=tmp_path / "real.npz")
    assert [a.gate.verdict for a in manifest.artifacts] == ["pass", "pass"]


def test_a_model_that_counts_in_floats_is_proven_on_whole_numbers(tmp_path: Path) -> None:
    # A Keras file's embedding takes float32, and half of all normal numbers are no row.
    def build(tf: Any) -> None:
        words = tf.compat.v1.placeholder(tf.float32, [None, 6], name="words")
        rows = tf.constant(np.arange(24, dtype=np.float32).reshape(12, 2))
        tf.gather(rows, tf.cast(words, tf.int32), name="read")

    manifest = to_onnx(frozen(tmp_path / "words.pb", build), tmp_path)

    assert [a.gate.verdict for a in manifest.artifacts] == ["pass", "pass"]
    assert all("whole numbers" in label for a in manifest.artifacts for label in a.gate.inputs)


def test_an_error_names_the_artifact_and_not_the_file_in_the_cache(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    serve = tf.function(
        lambda x: {"y": tf.strings.split(x).to_tensor()},
        input_signature=[tf.TensorSpec([2], tf.string, name="x")],
    )
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=serve.get_concrete_function())
    manifest = to_onnx(tmp_path / "model", tmp_path)
    (failure,) = [f for f in manifest.failures if f.conversion == "onnx_from_frozen_graph"]
    assert "frozen_graph.fp32" in failure.reason
    assert "entries" not in failure.reason
