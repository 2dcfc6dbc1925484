"""A graph is rewritten for the target that refuses it, and what comes out gives the same numbers."""

from __future__ import annotations

import math
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

TARGETS: dict[str, Any] = {
    "tflite": (tflite_from_frozen_graph.convert, litert.RUNTIME),
    "onnx": (onnx_from_frozen_graph.convert, onnxruntime.RUNTIME),
}


def save(file: Path, build: Callable[[Any], None]) -> Path:
    """A GraphDef of TensorFlow 1 that ``build`` makes."""
    import tensorflow as tf

    tf.compat.v1.disable_control_flow_v2()
    try:
        with tf.Graph().as_default() as graph:
            build(tf)
    finally:
        tf.compat.v1.enable_control_flow_v2()
    file.write_bytes(graph.as_graph_def().SerializeToString())
    return file


def made(target: str, graph: Path, tmp_path: Path, contract: Contract, **inputs: Any) -> tuple[Any, Any]:
    """Notes, and the outputs of the artifact on the inputs."""
    convert, runtime = TARGETS[target]
    file = tmp_path / f"model.{target}"
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    artifact = Artifact(graph, "frozen_graph", "fp32", "", contract)
    result: ConversionResult = convert(ConversionJob(artifact, file, "fp32", scratch))
    with runtime.open(file, result.contract) as session:
        return result.notes, session.infer(inputs)


def spec(name: str, *shape: int | None, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name, dtype, shape, f"{name}:0")


@pytest.mark.parametrize("target", TARGETS)
def test_a_map_over_an_open_batch_takes_any_batch(tmp_path: Path, target: str) -> None:
    """As the network of a tracker has it: bytes, whose channels are reversed one image at a time."""

    def build(tf: Any) -> None:
        x = tf.compat.v1.placeholder(tf.uint8, [None, 6, 4, 3], "x")
        mapped = tf.map_fn(lambda image: tf.cast(image[:, :, ::-1], tf.float32), x, dtype=tf.float32)
        tf.identity(tf.reduce_sum(mapped, [1, 2]), name="y")

    contract = Contract((spec("x", None, 6, 4, 3, dtype="uint8"),), (spec("y", None, 3),))
    images = np.random.default_rng(0).integers(0, 255, (5, 6, 4, 3)).astype("uint8")
    notes, found = made(target, save(tmp_path / "g.pb", build), tmp_path, contract, x=images)
    assert any("is a map" in note for note in notes)
    np.testing.assert_allclose(found["y"], images[..., ::-1].astype("float32").sum((1, 2)), rtol=1e-6)


def test_a_loop_over_an_open_batch_that_cannot_be_done_at_once_is_done_for_one(tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        x = tf.compat.v1.placeholder(tf.float32, [None, 3], "x")
        tf.identity(
            tf.map_fn(lambda each: tf.cond(each[0] > 0, lambda: each * 2, lambda: each + 1), x), name="y"
        )

    contract = Contract((spec("x", None, 3),), (spec("y", None, 3),))
    data = np.random.default_rng(0).normal(size=(1, 3)).astype("float32")
    notes, found = made("tflite", save(tmp_path / "g.pb", build), tmp_path, contract, x=data)
    assert any("pinned to 1" in note for note in notes)
    np.testing.assert_allclose(found["y"], data * 2 if data[0, 0] > 0 else data + 1, rtol=1e-6)


@pytest.mark.parametrize("length", [1, 5])
def test_a_loop_over_time_keeps_its_open_length(tmp_path: Path, length: int) -> None:
    def build(tf: Any) -> None:
        x = tf.compat.v1.placeholder(tf.float32, [None, 3], "x")
        tf.identity(tf.scan(lambda total, each: total + each, x, initializer=tf.ones([3])), name="y")

    contract = Contract((spec("x", None, 3),), (spec("y", None, 3),))
    data = np.random.default_rng(0).normal(size=(length, 3)).astype("float32")
    notes, found = made("tflite", save(tmp_path / "g.pb", build), tmp_path, contract, x=data)
    assert any("became a loop with functions" in note for note in notes)
    np.testing.assert_allclose(found["y"], 1 + np.cumsum(data, 0), rtol=1e-6, atol=1e-6)


def test_ops_inside_of_a_loop_with_functions_are_taken_apart_too(tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        x = tf.compat.v1.placeholder(tf.float32, [None, 3], "x")
        tf.identity(
            tf.scan(lambda total, each: tf.raw_ops.Erf(x=total) + each, x, initializer=tf.zeros([3])),
            name="y",
        )

    contract = Contract((spec("x", None, 3),), (spec("y", None, 3),))
    data = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    expected, total = [], np.zeros(3)
    for each in data:
        total = np.vectorize(math.erf)(total) + each
        expected.append(total)
    _, found = made("tflite", save(tmp_path / "g.pb", build), tmp_path, contract, x=data)
    np.testing.assert_allclose(found["y"], expected, atol=2e-6)


def test_a_recurrent_layer_over_an_open_time_and_batch_keeps_the_time(tmp_path: Path) -> None:
    """TensorFlow 1 says of a list only that its elements have an open batch, also where that is pinned."""
    import tensorflow as tf

    from tests.surgery.test_loops import recurrent

    def build(tf: Any) -> None:
        x = tf.compat.v1.placeholder(tf.float32, [None, None, 5], "x")
        tf.identity(recurrent(tf, x)[0], name="y")

    contract = Contract((spec("x", None, None, 5),), (spec("y", None, None, 3),))
    graph = save(tmp_path / "g.pb", build)
    data = np.random.default_rng(0).normal(size=(1, 6, 5)).astype("float32")
    with tf.Graph().as_default() as made_graph:
        definition = tf.compat.v1.GraphDef()
        definition.ParseFromString(graph.read_bytes())
        (output,) = tf.import_graph_def(definition, return_elements=["y:0"], name="")
        with tf.compat.v1.Session(graph=made_graph) as session:
            expected = session.run(output, {"x:0": data})
    notes, found = made("tflite", graph, tmp_path, contract, x=data)
    assert any("the batch is pinned to 1" in note for note in notes)
    np.testing.assert_allclose(found["y"], expected, atol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "op",
    [
        lambda tf, x: tf.raw_ops.ResizeBicubic(images=x, size=[3, 9]),
        lambda tf, x: tf.raw_ops.ResizeArea(images=x, size=[3, 9]),
        lambda tf, x: tf.raw_ops.BiasAddV1(value=x, bias=[1.0, 2.0, 3.0]),
        lambda tf, x: tf.raw_ops.AdjustSaturation(images=x, scale=1.3),
        lambda tf, x: tf.raw_ops.RGBToHSV(images=x),
        lambda tf, x: tf.raw_ops.EuclideanNorm(input=x, axis=[3]),
        lambda tf, x: tf.raw_ops.Roll(input=x, shift=[2], axis=[1]),
        lambda tf, x: tf.raw_ops.Erf(x=x),
        lambda tf, x: tf.raw_ops.Digamma(x=x + 0.1),
        lambda tf, x: tf.raw_ops.Lgamma(x=x + 0.1),
        lambda tf, x: tf.raw_ops.MatrixInverse(input=x[:, :3, 1] + 2 * tf.eye(3)),
        lambda tf, x: tf.cast(
            tf.raw_ops.BitwiseAnd(x=tf.cast(x * 99 - 50, tf.int32), y=[0b110101]), tf.float32
        ),
        lambda tf, x: tf.cast(tf.raw_ops.Invert(x=tf.cast(x * 99 - 50, tf.int32)), tf.float32),
        lambda tf, x: tf.raw_ops.Dilation2D(
            input=x, filter=tf.ones([2, 3, 3]), strides=[1, 2, 1, 1], rates=[1, 1, 1, 1], padding="SAME"
        ),
    ],
    ids=[
        "bicubic",
        "area",
        "bias",
        "saturation",
        "hsv",
        "norm",
        "roll",
        "erf",
        "digamma",
        "lgamma",
        "inverse",
        "bits",
        "invert",
        "dilation",
    ],
)
def test_ops_that_the_target_lacks_or_its_converter_gets_wrong(
    tmp_path: Path, target: str, op: Callable[[Any, Any], Any]
) -> None:
    import tensorflow as tf

    def build(tf: Any) -> None:
        tf.identity(op(tf, tf.compat.v1.placeholder(tf.float32, [2, 6, 4, 3], "x")), name="y")

    data = np.random.default_rng(0).uniform(size=(2, 6, 4, 3)).astype("float32")
    expected = op(tf, tf.constant(data)).numpy()
    contract = Contract((spec("x", 2, 6, 4, 3),), (spec("y", *expected.shape),))
    _, found = made(target, save(tmp_path / "g.pb", build), tmp_path, contract, x=data)
    np.testing.assert_allclose(found["y"], expected, atol=2e-6)


@pytest.mark.corpus
@pytest.mark.parametrize("target", TARGETS)
def test_a_network_that_hears_words_gives_its_known_answer(tmp_path: Path, corpus: Path, target: str) -> None:
    golden = np.load(corpus / "golden" / "kws-GRU_S-core.npz")
    contract = Contract((spec("Mfcc", 1, 25, 10),), (spec("labels_softmax", 1, 12),))
    graph = corpus / "fz-kws-armmcu" / "GRU_S.pb"
    _, found = made(target, graph, tmp_path, contract, Mfcc=golden["in__Mfcc:0"])
    np.testing.assert_allclose(found["labels_softmax"], golden["out__labels_softmax:0"], atol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_a_model_that_hears_a_waveform(tmp_path: Path, target: str) -> None:
    """Log-mel cepstra of recordings of any number: windows, Fourier transform, filters, cosine transform."""
    import tensorflow as tf

    def cepstra(tf: Any, x: Any) -> Any:
        filters = tf.signal.linear_to_mel_weight_matrix(10, 33, 8000, 100.0, 3900.0)
        mel = tf.abs(tf.signal.stft(x, 64, 32)) @ filters
        return tf.signal.mfccs_from_log_mel_spectrograms(tf.math.log(mel + 1e-3))

    def build(tf: Any) -> None:
        tf.identity(cepstra(tf, tf.compat.v1.placeholder(tf.float32, [None, 400], "x")), name="y")

    data = np.random.default_rng(0).normal(size=(2, 400)).astype("float32")
    expected = cepstra(tf, tf.constant(data)).numpy()
    contract = Contract((spec("x", None, 400),), (spec("y", None, *expected.shape[1:]),))
    _, found = made(target, save(tmp_path / "g.pb", build), tmp_path, contract, x=data)
    np.testing.assert_allclose(found["y"], expected, atol=1e-5)


def test_a_loop_whose_elements_have_an_open_size_is_refused_with_the_reason(tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        x = tf.compat.v1.placeholder(tf.float32, [3, None], "x")
        lists = tf.TensorArray(tf.float32, 0, dynamic_size=True, clear_after_read=False, element_shape=[None])

        def body(i: Any, y: Any, lists: Any) -> Any:
            return i + 1, y * 2.0, lists.write(i, y[0])

        _, _, lists = tf.while_loop(lambda i, y, _: tf.reduce_sum(y) < 100.0, body, (0, x, lists))
        tf.identity(lists.stack(), name="y")

    contract = Contract((spec("x", 3, None),), (spec("y", None, None),))
    with pytest.raises(ConversionError) as caught:
        made("tflite", save(tmp_path / "g.pb", build), tmp_path, contract, x=np.ones((3, 2), "float32"))
    assert "goes round depends on the data" in (caught.value.why or "")
    assert "is open: no loop can begin with it" in (caught.value.why or "")
    assert "--shape" in (caught.value.hint or "")


def test_a_search_for_the_likeliest_sequence_is_refused_with_the_tensor_to_end_at(tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        x = tf.compat.v1.placeholder(tf.float32, [9, 1, 5], "x")
        scores = tf.tanh(x, name="scores")
        (found,), _ = tf.nn.ctc_greedy_decoder(scores, tf.constant([9]))
        tf.sparse.to_dense(found, default_value=-1, name="y")

    contract = Contract((spec("x", 9, 1, 5),), (spec("y", 1, None, dtype="int64"),))
    graph = save(tmp_path / "g.pb", build)
    with pytest.raises(ConversionError) as caught:
        made("tflite", graph, tmp_path, contract, x=np.zeros((9, 1, 5), "float32"))
    assert "--outputs scores:0" in (caught.value.hint or "")


@pytest.mark.parametrize("number", [-1, 0, 2, 3, 7])
@pytest.mark.parametrize("target", TARGETS)
def test_a_branch_chosen_by_number_is_the_same_one(tmp_path: Path, target: str, number: int) -> None:
    import tensorflow as tf

    def choose(x: Any, i: Any) -> Any:
        branches = [lambda: x * 2.0, lambda: tf.sin(x), lambda: x + 10.0, lambda: -x]
        return tf.switch_case(i, branches)

    specs = [tf.TensorSpec([1, 4], tf.float32, name="x"), tf.TensorSpec([], tf.int32, name="i")]
    graph_def = tf.function(choose, input_signature=specs).get_concrete_function().graph.as_graph_def()
    (tmp_path / "g.pb").write_bytes(graph_def.SerializeToString())
    contract = Contract(
        (spec("x", 1, 4), spec("i", dtype="int32")),
        (TensorSpec("y", "float32", (1, 4), "Identity:0"),),
    )
    x, i = np.asarray([[1, 2, 3, 4]], "float32"), np.asarray(number, "int32")
    notes, found = made(target, tmp_path / "g.pb", tmp_path, contract, x=x, i=i)
    assert any("choices by number" in note for note in notes)
    np.testing.assert_allclose(found["y"], {0: x * 2, 2: x + 10}.get(number, -x))
