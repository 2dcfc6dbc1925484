"""An op said in other ops gives what TensorFlow's own kernel of it gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeconv.surgery import graph_decompose, graph_decompose_images, graph_decompose_math
from edgeconv.surgery import graph_decompose_layout as layout
from edgeconv.surgery import graph_decompose_recurrent as recurrent
from edgeconv.surgery.graph import Graph, full

TABLE = {
    **graph_decompose_math.TFLITE,
    **graph_decompose_math.ONNX,
    **graph_decompose_images.TFLITE,
    **recurrent.EVERYWHERE,
}
"""Every op that can be said in others, for whatever target."""


def numbers(*shape: int, low: float = -2.0, high: float = 2.0, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(low, high, shape).astype("float32")


X = numbers(2, 5, 6, 4)
UNIT = numbers(2, 5, 6, 3, low=0, high=1)
INNER = numbers(3, 4, low=-0.95, high=0.95)
W = [numbers(7, 12), numbers(3), numbers(3, seed=1), numbers(3, seed=2), numbers(12)]


def _lstm_cell(r: Any, x: Any, **options: Any) -> Any:
    w, wci, wcf, wco, b = W
    return r.LSTMBlockCell(
        x=x,
        cs_prev=numbers(2, 3),
        h_prev=numbers(2, 3, seed=1),
        w=w,
        wci=wci,
        wcf=wcf,
        wco=wco,
        b=b,
        **options,
    )


def _block_lstm(r: Any, x: Any, length: Any, version: str = "BlockLSTM", **options: Any) -> Any:
    w, wci, wcf, wco, b = W
    return getattr(r, version)(
        seq_len_max=np.int64(length), x=x, cs_prev=numbers(2, 3), h_prev=numbers(2, 3, seed=1), w=w, wci=wci,
        wcf=wcf, wco=wco, b=b, **options,
    )  # fmt: skip


def _gru(r: Any, x: Any) -> Any:
    return r.GRUBlockCell(
        x=x, h_prev=numbers(2, 3), w_ru=numbers(7, 6), w_c=numbers(7, 3), b_ru=numbers(6), b_c=numbers(3)
    )


BOXES = np.array([[0.1, 0.2, 0.8, 0.9], [-0.2, 0, 1.3, 1], [0.7, 0.6, 0.1, 0.2]], "float32")
SQUARES = np.array([[0, 0, 1, 1], [0, 0.1, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3.1]], "float32")

CASES: dict[str, tuple[Any, Callable[[Any, Any], Any]]] = {
    "Erf": (np.linspace(-6, 6, 997, dtype="float32"), lambda r, x: r.Erf(x=x)),
    "Erfc": (np.linspace(-6, 6, 997, dtype="float32"), lambda r, x: r.Erfc(x=x)),
    "Sinh": (X, lambda r, x: r.Sinh(x=x)),
    "Cosh": (X, lambda r, x: r.Cosh(x=x)),
    "Tan": (INNER, lambda r, x: r.Tan(x=x)),
    "Atan": (X, lambda r, x: r.Atan(x=x)),
    "Asin": (INNER, lambda r, x: r.Asin(x=x)),
    "Acos": (INNER, lambda r, x: r.Acos(x=x)),
    "Asinh": (X, lambda r, x: r.Asinh(x=x)),
    "Acosh": (X + 4, lambda r, x: r.Acosh(x=x)),
    "Atanh": (INNER, lambda r, x: r.Atanh(x=x)),
    "EuclideanNorm": (X, lambda r, x: r.EuclideanNorm(input=x, axis=[1, -1], keep_dims=True)),
    "AccumulateNV2": (X, lambda r, x: r.AccumulateNV2(inputs=[x, x, x], shape=X.shape)),
    "ApproximateEqual": (X, lambda r, x: r.ApproximateEqual(x=x, y=X + 1e-3 * np.sign(X), tolerance=1.5e-3)),
    "BiasAddV1": (X, lambda r, x: r.BiasAddV1(value=x, bias=numbers(4))),
    "BiasAdd": (numbers(1, 2, 3, 4, 5), lambda r, x: r.BiasAdd(value=x, bias=[1.0, 2.0], data_format="NCHW")),
    "ClipByValue": (X, lambda r, x: r.ClipByValue(t=x, clip_value_min=-1.0, clip_value_max=0.5)),
    "Cross": (numbers(4, 3), lambda r, x: r.Cross(a=x, b=numbers(4, 3, seed=1))),
    "Cumprod": (X, lambda r, x: r.Cumprod(x=x, axis=1)),
    "Cumprod/exclusive": (X, lambda r, x: r.Cumprod(x=x, axis=-1, exclusive=True, reverse=True)),
    "Diag": (numbers(4), lambda r, x: r.Diag(diagonal=x)),
    "Diag/matrix": (numbers(2, 3), lambda r, x: r.Diag(diagonal=x)),
    "DiagPart": (numbers(4, 4), lambda r, x: r.DiagPart(input=x)),
    "MatrixDiagPart": (numbers(2, 3, 5), lambda r, x: r.MatrixDiagPart(input=x)),
    "MatrixDiagPartV3": (numbers(5, 3), lambda r, x: r.MatrixDiagPartV3(input=x, k=0, padding_value=0.0)),
    "MatrixSetDiag": (numbers(2, 3, 5), lambda r, x: r.MatrixSetDiag(input=x, diagonal=numbers(2, 3))),
    "MatrixSetDiag/tall": (numbers(2, 5, 3), lambda r, x: r.MatrixSetDiag(input=x, diagonal=numbers(2, 3))),
    "InTopKV2": (numbers(4, 9), lambda r, x: r.InTopKV2(predictions=x, targets=[0, 3, 8, 1], k=4)),
    "NthElement": (numbers(4, 9), lambda r, x: r.NthElement(input=x, n=3)),
    "NthElement/reverse": (numbers(4, 9), lambda r, x: r.NthElement(input=x, n=3, reverse=True)),
    "ParallelConcat": (numbers(1, 9), lambda r, x: r.ParallelConcat(values=[x, x], shape=[2, 9])),
    "Snapshot": (X, lambda r, x: r.Snapshot(input=x)),
    "PreventGradient": (X, lambda r, x: r.PreventGradient(input=x)),
    "TruncateMod": (X, lambda r, x: r.TruncateMod(x=x, y=np.float32(0.7))),
    "TruncateMod/int": (np.arange(-9, 9), lambda r, x: r.TruncateMod(x=x, y=np.int64(4))),
    "Bincount": (
        np.array([0, 1, 1, 3], "int32"),
        lambda r, x: r.Bincount(arr=x, size=5, weights=np.zeros(0, "f4")),
    ),
    "Bincount/weights": (
        np.array([0, 1, 1, 3], "int32"),
        lambda r, x: r.Bincount(arr=x, size=5, weights=W[1][[0, 1, 2, 0]]),
    ),
    "SegmentMean": (X, lambda r, x: r.SegmentMean(data=x, segment_ids=[0, 2])),
    "SpaceToBatch": (X, lambda r, x: r.SpaceToBatch(input=x, paddings=[[1, 0], [0, 0]], block_size=2)),
    "DynamicPartition": (X, lambda r, x: r.DynamicPartition(data=x, partitions=[1, 0], num_partitions=3)),
    "DynamicPartition/matrix": (
        np.array([[1, 0], [0, 1]], "int32"),
        lambda r, x: r.DynamicPartition(data=numbers(2, 2, 3), partitions=x, num_partitions=2),
    ),
    "DynamicStitch": (
        numbers(2, 2, 3),
        lambda r, x: r.DynamicStitch(indices=[[5], [[0, 3], [2, 5]]], data=[numbers(1, 3), x]),
    ),
    "SparseToDense": (
        numbers(2),
        lambda r, x: r.SparseToDense(
            sparse_indices=[[0, 1], [2, 0]], output_shape=[3, 2], sparse_values=x, default_value=7.0
        ),
    ),
    "OneHot": (
        np.array([[0, -1], [3, 1]], "int32"),
        lambda r, x: r.OneHot(indices=x, depth=3, on_value=2.0, off_value=-1.0),
    ),
    "OneHot/first": (
        np.array([[0, -1], [3, 1]]),
        lambda r, x: r.OneHot(indices=x, depth=3, on_value=True, off_value=False, axis=0),
    ),
    "FloorDiv": (np.arange(-9, 9), lambda r, x: r.FloorDiv(x=x, y=np.int64(4))),
    "FloorDiv/negative": (np.arange(-9, 9, dtype="int32"), lambda r, x: r.FloorDiv(x=x, y=-4)),
    "FloorMod": (np.arange(-9, 9), lambda r, x: r.FloorMod(x=x, y=np.int64(4))),
    "FloorMod/negative": (np.arange(-9, 9, dtype="int32"), lambda r, x: r.FloorMod(x=x, y=[-4])),
    "ResizeNearestNeighbor": (
        np.arange(60, dtype="int32").reshape(2, 5, 6, 1),
        lambda r, x: r.ResizeNearestNeighbor(images=x, size=[9, 4]),
    ),
    "ResizeNearestNeighbor/corners": (
        np.arange(60).reshape(2, 5, 6, 1),
        lambda r, x: r.ResizeNearestNeighbor(images=x, size=[9, 1], align_corners=True),
    ),
    "ResizeNearestNeighbor/half": (
        np.arange(60, dtype="int32").reshape(2, 5, 6, 1),
        lambda r, x: r.ResizeNearestNeighbor(images=x, size=[3, 11], half_pixel_centers=True),
    ),
    "Roll": (X, lambda r, x: r.Roll(input=x, shift=[1, -7], axis=[1, 3])),
    "ReverseSequence": (
        X,
        lambda r, x: r.ReverseSequence(input=x, seq_lengths=[1, 5, 6, 0, 3], seq_dim=2, batch_dim=1),
    ),
    "Bucketize": (X, lambda r, x: r.Bucketize(input=x, boundaries=[-1.0, 0.0, 0.5])),
    "NonMaxSuppression": (
        SQUARES,
        lambda r, x: r.NonMaxSuppression(boxes=x, scores=[0.1, 0.9, -0.2, 0.3], max_output_size=4),
    ),
    "NonMaxSuppressionV2": (
        SQUARES,
        lambda r, x: r.NonMaxSuppressionV2(
            boxes=x, scores=[0.1, 0.9, -0.2, 0.3], max_output_size=4, iou_threshold=0.95
        ),
    ),
    "ResizeBicubic": (X, lambda r, x: r.ResizeBicubic(images=x, size=[9, 4])),
    "ResizeBicubic/half": (X, lambda r, x: r.ResizeBicubic(images=x, size=[9, 4], half_pixel_centers=True)),
    "ResizeArea": (X, lambda r, x: r.ResizeArea(images=x, size=[3, 7])),
    "ResizeArea/bytes": (
        (X * 50 + 100).astype("uint8"),
        lambda r, x: r.ResizeArea(images=x, size=[2, 3], align_corners=True),
    ),
    "ResizeBilinear/bytes": (
        (X * 50 + 100).astype("uint8"),
        lambda r, x: r.ResizeBilinear(images=x, size=[9, 4], half_pixel_centers=True),
    ),
    "DenseBincount": (
        np.array([[0, 3, 1, 3], [2, 2, 2, 9]], "int32"),
        lambda r, x: r.DenseBincount(input=x, size=4, weights=np.zeros(0, "float32")),
    ),
    "DenseBincount/any": (
        np.array([[0, 3, 1, 3], [2, 2, 2, 0]], "int64"),
        lambda r, x: r.DenseBincount(
            input=x, size=np.int64(5), weights=np.zeros(0, "float32"), binary_output=True
        ),
    ),
    "DenseBincount/size": (
        np.array([[0, 3, 1, 3], [2, 2, 2, 0]], "int32"),
        lambda r, x: r.DenseBincount(
            input=x, size=r.Max(input=x, axis=[0, 1]) + 1, weights=np.zeros(0, "float32")
        ),
    ),
    "DenseBincount/weights": (
        np.array([0, 3, 1, 3], "int32"),
        lambda r, x: r.DenseBincount(input=x, size=4, weights=numbers(4)),
    ),
    "ExtractImagePatches": (
        X,
        lambda r, x: r.ExtractImagePatches(
            images=x, ksizes=[1, 2, 3, 1], strides=[1, 2, 1, 1], rates=[1, 1, 2, 1], padding="SAME"
        ),
    ),
    "ExtractImagePatches/valid": (
        X,
        lambda r, x: r.ExtractImagePatches(
            images=x, ksizes=[1, 3, 2, 1], strides=[1, 1, 2, 1], rates=[1, 1, 1, 1], padding="VALID"
        ),
    ),
    "MaxPoolWithArgmax": (
        X,
        lambda r, x: r.MaxPoolWithArgmax(input=x, ksize=[1, 2, 3, 1], strides=[1, 2, 2, 1], padding="SAME"),
    ),
    "MaxPool3D": (
        numbers(2, 4, 5, 6, 3),
        lambda r, x: r.MaxPool3D(input=x, ksize=[1, 2, 2, 3, 1], strides=[1, 2, 1, 2, 1], padding="SAME"),
    ),
    "AvgPool3D": (
        numbers(2, 4, 5, 6, 3),
        lambda r, x: r.AvgPool3D(input=x, ksize=[1, 2, 2, 3, 1], strides=[1, 2, 1, 2, 1], padding="SAME"),
    ),
    "CropAndResize": (
        X,
        lambda r, x: r.CropAndResize(
            image=x, boxes=BOXES, box_ind=[0, 1, 1], crop_size=[3, 4], extrapolation_value=-3.0
        ),
    ),
    "CropAndResize/nearest": (
        X,
        lambda r, x: r.CropAndResize(
            image=x, boxes=BOXES, box_ind=[0, 1, 1], crop_size=[3, 1], method="nearest"
        ),
    ),
    "AdjustContrastv2": (X, lambda r, x: r.AdjustContrastv2(images=x, contrast_factor=1.5)),
    "AdjustHue": (UNIT, lambda r, x: r.AdjustHue(images=x, delta=0.3)),
    "AdjustSaturation": (UNIT, lambda r, x: r.AdjustSaturation(images=x, scale=1.7)),
    "RGBToHSV": (UNIT, lambda r, x: r.RGBToHSV(images=x)),
    "RGBToHSV/grey": (np.ones((2, 3), "float32") * 0.5, lambda r, x: r.RGBToHSV(images=x)),
    "HSVToRGB": (UNIT, lambda r, x: r.HSVToRGB(images=x)),
    "LSTMBlockCell": (numbers(2, 4), lambda r, x: _lstm_cell(r, x)),
    "LSTMBlockCell/peephole": (
        numbers(2, 4),
        lambda r, x: _lstm_cell(r, x, use_peephole=True, cell_clip=0.3),
    ),
    "BlockLSTM": (numbers(5, 2, 4), lambda r, x: _block_lstm(r, x, 5)),
    # What is behind the end TensorFlow sets for these two outputs only.
    "BlockLSTM/shorter": (numbers(5, 2, 4), lambda r, x: _block_lstm(r, x, 3, use_peephole=True)[1::5]),
    "BlockLSTMV2": (numbers(5, 2, 4), lambda r, x: _block_lstm(r, x, 5, "BlockLSTMV2", cell_clip=0.5)),
    "GRUBlockCell": (numbers(2, 4), _gru),
}


def run(graph: Graph, x: Any) -> list[Any]:
    import tensorflow as tf

    with tf.Graph().as_default() as made:
        tf.import_graph_def(graph.graph_def, name="")
        with tf.compat.v1.Session(graph=made) as session:
            return list(session.run([full(output) for output in graph.outputs], {"x:0": x}))


@pytest.mark.parametrize("case", CASES)
def test_the_same_is_computed(case: str) -> None:
    import tensorflow as tf

    data, build = CASES[case]
    op = case.split("/")[0]
    with tf.Graph().as_default() as made:
        x = tf.compat.v1.placeholder(data.dtype, data.shape, "x")
        result = build(tf.raw_ops, x)
        outputs = list(result) if isinstance(result, (list, tuple)) else [result]
        # Read by another node, as in a model.
        outputs = [tf.identity(output) for output in outputs]
    graph = Graph(made.as_graph_def(), outputs=[output.name for output in outputs], inputs=["x"])
    before = run(graph, data)

    (change,) = graph_decompose.rewrite(graph, TABLE)

    assert op in change.message
    # What these become is an op of the same name, of other types or in parts.
    same = ("ReverseSequence", "ResizeBilinear")
    assert op in same or not any(node.op == op for node in graph.graph_def.node)
    for old, new in zip(before, run(graph, data), strict=True):
        assert new.shape == old.shape
        assert new.dtype == old.dtype
        np.testing.assert_allclose(new, old, rtol=3e-6, atol=1e-6)


def test_every_entry_is_tested() -> None:
    same = {"NonMaxSuppressionV3", "NonMaxSuppressionV4", "NonMaxSuppressionV5"}  # with the targets' runtimes
    same |= {"InTopK", "MatrixDiagPartV2", "MatrixSetDiagV2", "MatrixSetDiagV3", "ParallelDynamicStitch"}
    assert {case.split("/")[0] for case in CASES} | same == TABLE.keys()


def test_an_open_batch_stays_open() -> None:
    import tensorflow as tf

    with tf.Graph().as_default() as made:
        x = tf.compat.v1.placeholder(tf.float32, [None, 5, 6, 4], "x")
        output = tf.raw_ops.ResizeBicubic(images=x, size=[9, 4])
    graph = Graph(made.as_graph_def(), outputs=[output.name], inputs=["x"])
    before = run(graph, X)
    assert graph_decompose.rewrite(graph, TABLE)
    np.testing.assert_allclose(run(graph, X)[0], before[0], atol=1e-6)


def test_an_output_of_the_graph_is_read_too() -> None:
    import tensorflow as tf

    with tf.Graph().as_default() as made:
        x = tf.compat.v1.placeholder(tf.float32, X.shape, "x")
        both = tf.raw_ops.MaxPoolWithArgmax(
            input=x, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME", include_batch_in_index=False
        )
    graph = Graph(made.as_graph_def(), outputs=[tensor.name for tensor in both], inputs=["x"])
    before = run(graph, X)
    assert graph_decompose.rewrite(graph, TABLE)
    np.testing.assert_array_equal(run(graph, X)[1], before[1])


def test_the_diagonal_of_a_matrix_of_open_size() -> None:
    import tensorflow as tf

    with tf.Graph().as_default() as made:
        x = tf.compat.v1.placeholder(tf.float32, [None, None], "x")
        output = tf.raw_ops.MatrixDiagPart(input=x)
    graph = Graph(made.as_graph_def(), outputs=[output.name], inputs=["x"])
    assert graph_decompose.rewrite(graph, TABLE)
    for shape in ((3, 5), (5, 3)):
        data = numbers(*shape)
        np.testing.assert_array_equal(run(graph, data)[0], np.diagonal(data))


def test_a_node_of_which_too_little_is_known_is_left() -> None:
    import tensorflow as tf

    with tf.Graph().as_default() as made:
        x = tf.compat.v1.placeholder(tf.float32, [2, None, 6, 4], "x")
        output = tf.raw_ops.ResizeBicubic(images=x, size=[9, 4])
    graph = Graph(made.as_graph_def(), outputs=[output.name], inputs=["x"])
    assert graph_decompose.rewrite(graph, TABLE) == []
    assert graph.outputs == [output.op.name]


@pytest.mark.parametrize("op", ["DynamicStitch", "ParallelDynamicStitch"])
def test_for_tflite_rows_are_stitched_by_gathering_the_last_of_each_place(op: str) -> None:
    import tensorflow as tf

    with tf.Graph().as_default() as made:
        x = tf.compat.v1.placeholder(tf.float32, [None, 2, 3], "x")
        data = [numbers(1, 3), x]
        output = getattr(tf.raw_ops, op)(indices=[[5], [[0, 3], [2, 5]]], data=data)
        output = tf.identity(output)
    graph = Graph(made.as_graph_def(), outputs=[output.name], inputs=["x"])
    before = run(graph, numbers(2, 2, 3))[0]
    assert graph_decompose.rewrite(graph, graph_decompose_math.TFLITE)
    after = run(graph, numbers(2, 2, 3))[0]
    # TensorFlow leaves open what is in the places that no index names.
    np.testing.assert_array_equal(after[[0, 2, 3, 5]], before[[0, 2, 3, 5]])
    assert after.shape == before.shape


IMAGES = numbers(2, 6, 8, 4)
CHANNELS_FIRST: dict[str, Callable[[Any, Any, Any], Any]] = {
    "Conv2D": lambda r, x, at: r.Conv2D(
        input=x, filter=numbers(3, 3, 4, 5), strides=at(2, 1), dilations=at(1, 1), padding="EXPLICIT",
        explicit_paddings=at((0, 1), (2, 1), (0, 0)),
    ),
    "DepthwiseConv2dNative": lambda r, x, at: r.DepthwiseConv2dNative(
        input=x, filter=numbers(3, 3, 4, 2), strides=at(2, 2), padding="SAME"
    ),
    "Conv2DBackpropInput": lambda r, x, at: r.Conv2DBackpropInput(
        input_sizes=at(12, 16, ends=(2, 7)), filter=numbers(3, 3, 7, 4), out_backprop=x, strides=at(2, 2),
        padding="SAME",
    ),
    "MaxPool": lambda r, x, at: r.MaxPool(input=x, ksize=at(3, 2), strides=at(2, 1), padding="SAME"),
    "AvgPool": lambda r, x, at: r.AvgPool(value=x, ksize=at(3, 2), strides=at(2, 1), padding="VALID"),
    "DepthToSpace": lambda r, x, at: r.DepthToSpace(input=x, block_size=2),
    "SpaceToDepth": lambda r, x, at: r.SpaceToDepth(input=x, block_size=2),
    "FusedBatchNormV3": lambda r, x, at: r.FusedBatchNormV3(
        x=x, scale=[1.0, 2, 3, 4], offset=[0.0, 1, 2, 3], mean=[0.1] * 4, variance=[0.5, 1, 2, 3],
        is_training=False,
    )[0],
}  # fmt: skip


@pytest.mark.parametrize("op", CHANNELS_FIRST)
def test_with_channels_first_the_same_is_computed_as_with_channels_last(op: str) -> None:
    """TensorFlow has no kernels on CPUs for most of them, so that the op with channels last is asked."""
    import tensorflow as tf

    graphs = {}
    for layout_name in ("NHWC", "NCHW"):
        first = layout_name == "NCHW"

        def at(*sizes: Any, ends: tuple[int, int] = (1, 1), first: bool = first) -> Any:
            if isinstance(sizes[0], tuple):
                rows, columns, none = sizes
                parts = (none, none, rows, columns) if first else (none, rows, columns, none)
                return [size for part in parts for size in part]
            return [ends[0], ends[1], *sizes] if first else [ends[0], *sizes, ends[1]]

        class Ops:
            def __getattr__(self, name: str, layout_name: str = layout_name) -> Any:
                return lambda **options: getattr(tf.raw_ops, name)(data_format=layout_name, **options)

        with tf.Graph().as_default() as made:
            shape = [2, 4, 6, 8] if first else [2, 6, 8, 4]
            x = tf.compat.v1.placeholder(tf.float32, shape, "x")
            output = tf.identity(CHANNELS_FIRST[op](Ops(), x, at))
        graphs[layout_name] = Graph(made.as_graph_def(), outputs=[output.name], inputs=["x"])
    (change,) = graph_decompose.rewrite(graphs["NCHW"], layout.TFLITE)
    assert op in change.message
    assert graph_decompose.rewrite(graphs["NHWC"], layout.TFLITE) == []
    assert graph_decompose.rewrite(graphs["NCHW"], layout.TFLITE) == []
    expected = run(graphs["NHWC"], IMAGES)[0]
    found = run(graphs["NCHW"], IMAGES.transpose(0, 3, 1, 2))[0]
    np.testing.assert_allclose(found.transpose(0, 2, 3, 1), expected, atol=1e-5)


def test_for_tflite_int64_is_divided_as_int32() -> None:
    import tensorflow as tf

    data = np.arange(-9, 9)
    with tf.Graph().as_default() as made:
        output = tf.identity(tf.compat.v1.placeholder(tf.int64, [18], "x") // 4)
    graph = Graph(made.as_graph_def(), outputs=[output.name], inputs=["x"])
    assert graph_decompose.rewrite(graph, graph_decompose_math.TFLITE)
    (found,) = run(graph, data)
    np.testing.assert_array_equal(found, data // 4)
    assert found.dtype == np.int64
    assert graph_decompose.rewrite(graph, graph_decompose_math.TFLITE) == []
