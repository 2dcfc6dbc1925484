"""Ops of published graphs that a target lacks or gets wrong, run in the target's own runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.conversions import onnx_from_frozen_graph, tflite_from_frozen_graph
from edgeconv.conversions.base import ConversionJob, ConversionResult
from edgeconv.errors import ConversionError
from edgeconv.formats.base import Artifact, Contract, TensorSpec
from edgeconv.runtimes import litert, onnxruntime

TARGETS: dict[str, tuple[Callable[[ConversionJob], ConversionResult], Any]] = {
    "tflite": (tflite_from_frozen_graph.convert, litert.RUNTIME),
    "onnx": (onnx_from_frozen_graph.convert, onnxruntime.RUNTIME),
}


def given_by(target: str, folder: Path, build: Callable[[Any], Any], data: Any) -> Any:
    """What the target's runtime gives for ``y = build(x)``, with the first axis of ``x`` open."""
    import tensorflow as tf

    shape = (None, *data.shape[1:])
    with tf.Graph().as_default() as graph:
        y = tf.identity(build(tf.compat.v1.placeholder(data.dtype, shape, "x")), name="y")
    (folder / "g.pb").write_bytes(graph.as_graph_def().SerializeToString())
    contract = Contract(
        (TensorSpec("x", data.dtype.name, shape, "x:0"),),
        (TensorSpec("y", y.dtype.name, tuple(y.shape.as_list()), "y:0"),),
    )
    convert, runtime = TARGETS[target]
    (folder / "scratch").mkdir()
    artifact = Artifact(folder / "g.pb", "frozen_graph", "fp32", "", contract)
    result = convert(ConversionJob(artifact, folder / "made", "fp32", folder / "scratch"))
    with runtime.open(folder / "made", result.contract) as session:
        return session.infer({"x": data})["y"]


def _tf() -> Any:
    import tensorflow as tf

    return tf


def _embedded(x: Any) -> Any:
    """An embedding in three parts, as partitioned variables hold it."""
    import tensorflow as tf

    table = np.arange(22, dtype="float32").reshape(11, 2)
    parts = [tf.constant(table[:4]), tf.constant(table[4:8]), tf.constant(table[8:])]
    flat = tf.reshape(x, [-1])
    which = tf.minimum(flat // 4, 2)
    ids = tf.dynamic_partition(flat - 4 * which, which, 3)
    places = tf.dynamic_partition(tf.range(tf.size(flat)), which, 3)
    rows = [tf.gather(part, found) for part, found in zip(parts, ids, strict=True)]
    return tf.reshape(tf.raw_ops.ParallelDynamicStitch(indices=places, data=rows), [-1, 3, 2])


CASES: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    # ONNX counts an index below 0 from the end: a word that no table has became its last one.
    "one_hot": (
        np.array([[0, -1], [3, 1]], "int32"),
        lambda x: _tf().one_hot(x, 4, 2.0, -1.0),
    ),
    "one_hot_int64": (np.array([[0, -1], [9, 1]]), lambda x: _tf().one_hot(x, 4)),
    "floor_div": (np.array([[-9, 7], [8, 100_000_000]]), lambda x: x // 4),
    "floor_mod": (np.array([[-9, 7], [8, -8]]), lambda x: x % 4),
    "floor_mod_of_negative": (np.array([[-9, 7], [8, -8]], "int32"), lambda x: x % -3 + x // -3),
    "embedding_in_parts": (np.array([[0, 10, 4], [7, 7, 3]], "int32"), _embedded),
    "nearest_of_integers": (
        np.arange(60, dtype="int32").reshape(2, 5, 6, 1),
        lambda x: _tf().raw_ops.ResizeNearestNeighbor(images=x, size=[10, 3], align_corners=True),
    ),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", CASES)
def test_the_target_gives_what_tensorflow_gives(tmp_path: Path, target: str, case: str) -> None:
    import tensorflow as tf

    data, build = CASES[case]
    expected = build(tf.constant(data)).numpy()
    found = given_by(target, tmp_path, build, data)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_network_with_channels_first_runs_in_tflite(tmp_path: Path) -> None:
    """Frozen for a graphics card; a transposed convolution of open batch and a depthwise one among others."""
    import tensorflow as tf

    rng = np.random.default_rng(1)
    kernel, up, depthwise = (
        rng.normal(size=s).astype("float32") for s in ((3, 3, 3, 4), (2, 2, 5, 4), (3, 3, 5, 1))
    )
    data = rng.normal(size=(2, 3, 6, 8)).astype("float32")

    def first(x: Any) -> Any:
        x = tf.nn.relu(tf.raw_ops.Conv2D(input=x, filter=kernel, strides=[1, 1, 2, 2], padding="SAME",
                                         data_format="NCHW"))  # fmt: skip
        size = tf.stack([tf.shape(x)[0], 5, 6, 8])
        x = tf.raw_ops.Conv2DBackpropInput(input_sizes=size, filter=up, out_backprop=x, strides=[1, 1, 2, 2],
                                           padding="SAME", data_format="NCHW")  # fmt: skip
        return tf.raw_ops.DepthwiseConv2dNative(input=x, filter=depthwise, strides=[1, 1, 1, 1],
                                                padding="SAME", data_format="NCHW")  # fmt: skip

    def last(x: Any) -> Any:
        x = tf.nn.relu(tf.nn.conv2d(tf.transpose(x, [0, 2, 3, 1]), kernel, 2, "SAME"))
        x = tf.nn.conv2d_transpose(x, up, [2, 6, 8, 5], 2, "SAME")
        return tf.transpose(tf.nn.depthwise_conv2d(x, depthwise, [1, 1, 1, 1], "SAME"), [0, 3, 1, 2])

    found = given_by("tflite", tmp_path, first, data)
    np.testing.assert_allclose(found, last(tf.constant(data)).numpy(), atol=1e-4)


def refusal(target: str, folder: Path, build: Callable[[Any], Any], data: Any) -> ConversionError:
    with pytest.raises(ConversionError) as caught:
        given_by(target, folder, build, data)
    return caught.value


@pytest.mark.parametrize("target", TARGETS)
def test_the_types_of_the_old_graph_transforms_are_named(tmp_path: Path, target: str) -> None:
    """They were published as quantized_graph.pb, and no other format has them."""

    def build(x: Any) -> Any:
        raw = _tf().raw_ops
        q = raw.QuantizeV2(input=x, min_range=-1.0, max_range=1.0, T=_tf().quint8, mode="MIN_FIRST")
        weights = _tf().bitcast(np.ones((3, 3, 3, 4), np.uint8), _tf().quint8)
        c = raw.QuantizedConv2D(
            input=q.output, filter=weights, min_input=q.output_min, max_input=q.output_max, min_filter=-1.0,
            max_filter=1.0, strides=[1, 1, 1, 1], padding="SAME",
        )  # fmt: skip
        return raw.Dequantize(input=c.output, min_range=c.min_output, max_range=c.max_output)

    error = refusal(target, tmp_path, build, np.zeros((1, 8, 8, 3), "float32"))
    assert "quantized types of TensorFlow 1" in error.what
    assert f"--to {target}:int8" in (error.hint or "")


@pytest.mark.parametrize("target", TARGETS)
def test_a_search_for_the_likeliest_sequence_is_to_be_done_behind_the_model(
    tmp_path: Path, target: str
) -> None:
    def build(x: Any) -> Any:
        scores = _tf().nn.relu(x, name="scores")
        return _tf().nn.ctc_beam_search_decoder(scores, [5])[1]

    error = refusal(target, tmp_path, build, np.zeros((5, 1, 4), "float32"))
    assert "CTCBeamSearchDecoder" in error.what
    assert "--outputs" in (error.hint or "")
    if target == "onnx":
        assert "scores" in (error.hint or "")


def test_what_can_be_said_in_other_ops_with_known_sizes_only_asks_for_them(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        return _tf().raw_ops.ResizeBicubic(images=x, size=2 * _tf().shape(x)[:2])

    error = refusal("tflite", tmp_path, build, np.zeros((2, 4, 4, 1), "float32"))
    assert "--shape" in (error.hint or "")


def test_channels_that_padding_forgot_are_those_of_the_weights(tmp_path: Path) -> None:
    """Networks for segmentation pad to a multiple of 32, by sizes that they compute."""
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 4)).astype("float32")
    data = np.random.default_rng(1).normal(size=(1, 5, 6, 3)).astype("float32")

    def build(x: Any) -> Any:
        tf = _tf()
        below = -tf.shape(x)[1] % 4
        x = tf.pad(x, tf.reshape(tf.stack([0, 0, 0, below, 0, 0, 0, 0]), [4, 2]))
        return tf.raw_ops.Conv2D(input=x, filter=kernel, strides=[1, 2, 2, 1], padding="SAME")

    found = given_by("tflite", tmp_path, build, data)
    np.testing.assert_allclose(found, build(_tf().constant(data)).numpy(), atol=1e-5)


@pytest.mark.parametrize("version", ["", "V2", "V3", "V4", "V5"])
def test_in_tflite_no_rows_come_for_boxes_that_were_not_kept(tmp_path: Path, version: str) -> None:
    """Its own op fills up to the largest number; the graph's gives those that were kept."""
    boxes = np.array([[0, 0, 1, 1], [0, 0.1, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3.1]], "float32")

    def build(x: Any) -> Any:
        tf = _tf()
        arguments: dict[str, Any] = {"boxes": x, "scores": tf.reduce_sum(x, 1), "max_output_size": 4}
        if version in ("V3", "V4", "V5"):
            arguments["score_threshold"] = 0.0
        if version == "V5":
            arguments["soft_nms_sigma"] = 0.0
        found = getattr(tf.raw_ops, f"NonMaxSuppression{version}")(iou_threshold=0.5, **arguments)
        return tf.gather(x, found[0] if version in ("V4", "V5") else found)

    found = given_by("tflite", tmp_path, build, boxes)
    np.testing.assert_array_equal(found, boxes[[3, 1]])
