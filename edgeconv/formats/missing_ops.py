"""Ops of old graphs that TensorFlow 2 does not have: where they come from, and what replaces them.

Most are of ``tf.contrib``, which ended with TensorFlow 1. Others are of extension libraries, or were put in
by a tool that had rewritten the graph for one device.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an op comes from, and the way out, as the end of a sentence that names it."""

    library: str
    instead: str


_TREES = "tensor forests and boosted trees have no counterpart: evaluate them beside the model"
_TOKENS = "split texts into tokens outside of the model and feed their numbers with --inputs"
_AUDIO = "decode audio outside of the model and feed the samples with --inputs"
_PATTERNS: tuple[tuple[str, Origin], ...] = (
    ("Resampler(Grad)?", Origin(
        "tf.contrib.resampler",
        "write it with tf.gather_nd and bilinear weights and export again")),
    ("ImageProjectiveTransform", Origin(
        "tf.contrib.image", "export again with tf.raw_ops.ImageProjectiveTransformV2, same arguments")),
    ("ImageConnectedComponents|BipartiteMatch|SingleImageRandomDotStereograms|AdjustHsvInYiq", Origin(
        "tf.contrib.image", "do this step outside of the model: cut it off with --outputs")),
    ("GatherTree", Origin(
        "tf.contrib.seq2seq", "end the model at the scores with --outputs and follow the beams outside")),
    ("SparseFeatureCross(V2)?", Origin(
        "tf.contrib.layers", "cross the features before the model, or export again with tf.sparse.cross")),
    ("SkipGramGenerateCandidates", Origin("tf.contrib.text", _TOKENS)),
    ("DecodeAudio(V2)?|EncodeAudio(V2)?|DecodeVideo", Origin("tf.contrib.ffmpeg", _AUDIO)),
    (r"GrowTree\w*|TreePredictions\w*|Tree(Des|S)erialize|DecisionTreeResource\w*|FertileStats\w*", Origin(
        "tf.contrib.tensor_forest", _TREES)),
    (r"GradientTrees\w*|DecisionTreeEnsemble\w*|TreeEnsemble\w*|CreateTreeEnsemble\w*|CenterTreeEnsemble\w*",
     Origin("tf.contrib.boosted_trees", _TREES)),
    (r"WALS\w*|MaskedMatmul", Origin(
        "tf.contrib.factorization", "export the graph that predicts, not the one that trains")),
    ("HyperplaneLSHProbes", Origin("tf.contrib.nearest_neighbor", "search outside of the model")),
    ("PeriodicResample|PeriodicResampleOpGrad", Origin(
        "tf.contrib.periodic_resample", "write it with tf.reshape and tf.transpose and export again")),
    (r"ReduceSlice(Sum|Prod|Max|Min)", Origin(
        "tf.contrib.reduce_slice_ops", "write it with tf.math.segment_sum and its like")),
    (r"Zero(Var)?Initializer", Origin(
        "tf.contrib.framework", "it only initialises: choose outputs of inference with --outputs")),
    ("RangeEncode|RangeDecode|PmfToQuantizedCdf", Origin(
        "tf.contrib.coder", "code the numbers outside of the model: end it before with --outputs")),
    ("DecodeLibsvm", Origin("tf.contrib.libsvm", "parse the text outside and feed features with --inputs")),
    ("ObtainNext", Origin("tf.contrib.input_pipeline", "cut the graph behind it with --inputs")),
    (r"(Try)?Rpc", Origin("tf.contrib.rpc", "it calls a server: end the model before it with --outputs")),
    ("FusedConv2DBiasActivation", Origin(
        "tf.contrib.fused_conv", "export again with tf.nn.conv2d, tf.nn.bias_add and the activation")),
    (r"TRTEngineOp|TRTCalibOp|\w*TRTEngine\w*", Origin(
        "TF-TRT, which puts parts of a graph into engines of one GPU",
        "convert the graph from before that step")),
    ("TFLite_Detection_PostProcess", Origin(
        "export_tflite_ssd_graph.py of the Object Detection API",
        "end the graph before it: --outputs raw_outputs/box_encodings,raw_outputs/class_predictions")),
    (r"Mkl\w+", Origin("a rewrite for one make of processors", "convert the graph from before that rewrite")),
    (r"Horovod\w+", Origin("Horovod", "it averages gradients: choose outputs of inference with --outputs")),
    (r"WarpCTC\w*", Origin("warp-ctc", "it is a loss: choose outputs of inference with --outputs")),
    (r"\w*Tokenize\w*|Sentencepiece\w*|CaseFoldUTF8|NormalizeUTF8\w*|RegexSplit\w*|\w*SentenceFragments\w*",
     Origin("TensorFlow Text", _TOKENS)),
    (r"SimpleML\w+", Origin("TensorFlow Decision Forests", _TREES)),
    (r"Addons>.*", Origin("TensorFlow Addons", "write it with ops of TensorFlow itself and export again")),
    (r"IO>.*", Origin("TensorFlow I/O", "read the data outside of the model and feed it with --inputs")),
    (r"(PS)?RO?o[iI](Pool|Align)\w*|RoiPooling\w*|Correlation|FlowWarp|Deform\w+", Origin(
        "an op that the model's authors compiled for themselves",
        "write it with ops of TensorFlow and export again, or end the model before it with --outputs")),
)  # fmt: skip
_KNOWN = tuple((re.compile(pattern), origin) for pattern, origin in _PATTERNS)


def origin_of(op: str) -> Origin | None:
    """Where an op that TensorFlow does not have comes from; ``None`` where that is not known."""
    return next((origin for pattern, origin in _KNOWN if pattern.fullmatch(op)), None)


def origins(ops: Sequence[str]) -> Mapping[Origin, list[str]]:
    """Ops by where they come from, for those of which that is known."""
    found: dict[Origin, list[str]] = {}
    for op in ops:
        origin = origin_of(op)
        if origin is not None:
            found.setdefault(origin, []).append(op)
    return found
