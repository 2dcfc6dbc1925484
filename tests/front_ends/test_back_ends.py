"""What stands behind a detector's network, written as NumPy, gives what TensorFlow gives."""

import importlib.util
import os

import numpy as np
import pytest

from edgeconv.formats.base import TensorSpec
from edgeconv.front_ends.generate import write_front_end

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def both(tmp_path, build, **arrays):
    """What TensorFlow gives for ``build``'s tensors, and what the written function gives."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        placeholders = {n: v1.placeholder(a.dtype, [None] * a.ndim, n) for n, a in arrays.items()}
        made = build(**placeholders)
        made = made if isinstance(made, (list, tuple)) else [made]
        results = [tf.identity(each, f"given_{index}") for index, each in enumerate(made)]
        with v1.Session() as session:
            wanted = session.run(results, {placeholders[n]: a for n, a in arrays.items()})
    inputs = [TensorSpec(n, str(a.dtype), a.shape, tensor=f"{n}:0") for n, a in arrays.items()]
    outputs = [TensorSpec(r.op.name, r.dtype.name, None, tensor=r.name) for r in results]
    file = write_front_end(graph.as_graph_def(), inputs, outputs, {}, "net", "back_end")
    path = tmp_path / "net.back_end.py"
    path.write_text(file.text)
    if file.arrays:
        np.savez(path.with_suffix(".npz"), **file.arrays)
    spec = importlib.util.spec_from_file_location("written_back_end", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    given = module.back_end(arrays)
    return wanted, [given[r.op.name] for r in results]


def same(pairs):
    wanted, given = pairs
    for one, two in zip(wanted, given, strict=True):
        assert one.shape == two.shape
        assert one.dtype == two.dtype
        np.testing.assert_allclose(two, one, rtol=2e-6, atol=1e-7)


def boxes_and_scores(seed, count=50):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-0.1, 0.8, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.0, 0.4, corners.shape)], -1)
    boxes[::7, 2:] = boxes[::7, :2]  # without area
    boxes[3::5] = boxes[3::5][:, [2, 3, 0, 1]]  # corners the other way round
    return boxes.astype(np.float32), rng.random(count, np.float32)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_suppression_of_each_version(version, seed, tmp_path):
    import tensorflow as tf

    def build(boxes, scores):
        raw = tf.raw_ops
        if version == 1:
            return raw.NonMaxSuppression(boxes=boxes, scores=scores, max_output_size=9, iou_threshold=0.3)
        shared = {"boxes": boxes, "scores": scores, "max_output_size": 9, "iou_threshold": 0.3}
        if version == 2:
            return raw.NonMaxSuppressionV2(**shared)
        if version == 3:
            return raw.NonMaxSuppressionV3(**shared, score_threshold=0.4)
        return raw.NonMaxSuppressionV4(**shared, score_threshold=0.8, pad_to_max_output_size=True)

    boxes, scores = boxes_and_scores(seed)
    same(both(tmp_path, build, boxes=boxes, scores=scores))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sigma", [0.0, 0.5])
@pytest.mark.parametrize("padded", [False, True])
def test_soft_suppression(sigma, padded, seed, tmp_path):
    import tensorflow as tf

    def build(boxes, scores):
        return tf.raw_ops.NonMaxSuppressionV5(
            boxes=boxes, scores=scores, max_output_size=30, iou_threshold=0.6, score_threshold=0.2,
            soft_nms_sigma=sigma, pad_to_max_output_size=padded,
        )  # fmt: skip

    boxes, scores = boxes_and_scores(seed)
    same(both(tmp_path, build, boxes=boxes, scores=scores))


def test_suppression_by_given_overlaps(tmp_path):
    import tensorflow as tf

    rng = np.random.default_rng(1)
    matrix = rng.random((20, 20), np.float32)
    matrix = (matrix + matrix.T) / 2

    def build(overlaps, scores):
        return tf.image.non_max_suppression_overlaps(overlaps, scores, 8, 0.6, 0.2)

    same(both(tmp_path, build, overlaps=matrix, scores=rng.random(20, np.float32)))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("flags", [(False, True), (True, False)])
def test_suppression_of_all_classes_at_once(shared, flags, tmp_path):
    import tensorflow as tf

    boxes = np.stack([boxes_and_scores(seed)[0] for seed in range(2)])[:, :, None]
    boxes = boxes if shared else np.repeat(boxes, 3, axis=2)
    scores = np.random.default_rng(5).random((2, 50, 3), np.float32)

    def build(boxes, scores):
        return tf.image.combined_non_max_suppression(boxes, scores, 5, 40, 0.5, 0.3, *flags)

    same(both(tmp_path, build, boxes=boxes, scores=scores))


def test_the_best_of_many_and_rows_by_number(tmp_path):
    import tensorflow as tf

    rng = np.random.default_rng(3)

    def build(values, rows):
        best, where = tf.math.top_k(values, 5)
        parts = tf.split(values, [3, -1], axis=1)
        return [
            best, where, tf.gather(rows, where, batch_dims=1), *parts,
            tf.gather_nd(rows, where[..., None], batch_dims=1), tf.one_hot(where, 9, 2.0, -1.0, axis=1),
            tf.scatter_nd(where[0][:, None], best[0], [12]),
            tf.pad(best, [[0, 1], [1, 0]], constant_values=7.0),
        ]  # fmt: skip

    values = rng.permutation(24).reshape(2, 12).astype(np.float32)
    same(both(tmp_path, build, values=values, rows=rng.random((2, 12, 4), np.float32)))
