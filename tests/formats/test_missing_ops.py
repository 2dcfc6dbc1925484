"""Ops that TensorFlow has no more are told with their library and the way out."""

from __future__ import annotations

import pytest
from tensorflow.core.framework import graph_pb2

from edgeconv.errors import ConversionError
from edgeconv.formats.missing_ops import origin_of
from edgeconv.surgery.graph_editing import check_known_ops

GONE = {
    "Resampler": "tf.contrib.resampler",
    "ImageProjectiveTransform": "tf.contrib.image",
    "GatherTree": "tf.contrib.seq2seq",
    "TreePredictionsV4": "tf.contrib.tensor_forest",
    "GradientTreesPrediction": "tf.contrib.boosted_trees",
    "SparseFeatureCrossV2": "tf.contrib.layers",
    "DecodeAudioV2": "tf.contrib.ffmpeg",
    "TRTEngineOp": "TF-TRT",
    "TFLite_Detection_PostProcess": "export_tflite_ssd_graph",
    "SimpleMLInferenceOpWithHandle": "Decision Forests",
    "WordpieceTokenizeWithOffsets": "TensorFlow Text",
    "Addons>CorrelationCost": "Addons",
}


@pytest.mark.parametrize("op", GONE)
def test_an_op_that_is_gone_is_told_with_its_library_and_a_way_out(op: str) -> None:
    graph = graph_pb2.GraphDef()
    graph.node.add(name="here", op=op)
    with pytest.raises(ConversionError) as caught:
        check_known_ops(graph, "model.pb")
    assert f"{op} ('here')" in caught.value.what
    assert GONE[op] in str(caught.value.why)
    assert str(caught.value.hint).startswith(f"{op}: ")


def test_an_op_that_nobody_knows_is_refused_as_well() -> None:
    graph = graph_pb2.GraphDef()
    graph.node.add(name="here", op="NobodysOp")
    with pytest.raises(ConversionError, match="NobodysOp"):
        check_known_ops(graph, "model.pb")


def test_no_op_that_tensorflow_has_is_said_to_be_gone() -> None:
    """Among them cells of tf.contrib.rnn, which moved into TensorFlow itself."""
    from tensorflow.python.framework import op_def_registry

    kept = ("LSTMBlockCell", "BlockLSTM", "GRUBlockCell", "ImageProjectiveTransformV2", "SparseCross")
    assert all(op_def_registry.get(op) is not None for op in kept)
    assert not any(origin_of(op) for op in kept)
    assert not [op for op in GONE if op_def_registry.get(op) is not None and not op.startswith("TFLite_")]
