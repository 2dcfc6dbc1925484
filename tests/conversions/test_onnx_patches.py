"""Patches of images, as vision transformers cut them, where the batch is open."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgeconv

pytestmark = pytest.mark.slow


def test_patches_of_an_open_batch_run_in_onnx(tmp_path: Path) -> None:
    """What tf2onnx writes for them has a size of -3, which ONNX Runtime refuses."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        images = tf.compat.v1.placeholder(tf.float32, [None, 24, 24, 3], name="images")
        patches = tf.image.extract_patches(images, [1, 8, 8, 1], [1, 8, 8, 1], [1, 1, 1, 1], "VALID")
        tf.reshape(patches, [tf.shape(images)[0], -1, 192], name="rows")
    (tmp_path / "patches.pb").write_bytes(graph.as_graph_def().SerializeToString())

    manifest = edgeconv.convert(tmp_path / "patches.pb", "onnx", output=tmp_path / "out")

    assert [artifact.gate.verdict for artifact in manifest.artifacts] == ["pass", "pass"]
