"""TFLite by TensorFlow's converter: self-describing, built-in ops only, refusals that name op and way out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeconv.conversions import tflite_from_frozen_graph, tflite_from_saved_model
from edgeconv.conversions._tflite_diagnosis import RefusedError, diagnosed
from edgeconv.conversions._tflite_signature import signature_prefix
from edgeconv.conversions.base import ConversionJob, ConversionResult
from edgeconv.errors import ConversionError, EdgeconvError, UsageError
from edgeconv.formats._flatbuffer import Buffer
from edgeconv.formats._tflite_model import read_model
from edgeconv.formats.base import Artifact, Contract, TensorSpec
from edgeconv.runtimes.litert import RUNTIME

WAYS = {"frozen_graph": tflite_from_frozen_graph.convert, "saved_model": tflite_from_saved_model.convert}


def save_graph(file: Path, build: Callable[[Any], None]) -> Path:
    """A GraphDef of TensorFlow 1 that ``build`` makes."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        build(tf.compat.v1)
    file.write_bytes(graph.as_graph_def().SerializeToString())
    return file


def save_dense(folder: Path) -> Path:
    import tensorflow as tf

    module = tf.Module()
    module.w = tf.Variable(np.linspace(-1, 1, 64 * 32).reshape(64, 32).astype("float32"))

    @tf.function(input_signature=[tf.TensorSpec([None, 64], tf.float32, name="features")])
    def serve(features: Any) -> Any:
        hidden = tf.nn.relu(tf.linalg.matmul(features, module.w))
        return {"scores": tf.nn.softmax(hidden), "hidden": hidden}

    tf.saved_model.save(module, str(folder), signatures={"classify": serve})
    return folder


def convert(
    way: str,
    source: Path,
    tmp_path: Path,
    contract: Contract | None,
    precision: str = "fp32",
    calibration: Path | None = None,
) -> tuple[Path, ConversionResult]:
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    file = tmp_path / f"{precision}.tflite"
    artifact = Artifact(source, way, "fp32", "", contract)
    return file, WAYS[way](ConversionJob(artifact, file, precision, scratch, calibration))


def dense_source(
    way: str, tmp_path: Path, shape: tuple[int | None, ...] = (None, 64)
) -> tuple[Path, Contract]:
    """The same model as SavedModel or as frozen graph, with its contract."""
    folder = save_dense(tmp_path / "saved_model")
    contract = Contract(
        (TensorSpec("features", "float32", shape),),
        (TensorSpec("scores", "float32", None), TensorSpec("hidden", "float32", None)),
        "classify",
    )
    if way == "saved_model":
        return folder, contract
    from edgeconv.conversions.frozen_graph_from_saved_model import CONVERSION

    job = ConversionJob(
        Artifact(folder, "saved_model", "fp32", "", contract), tmp_path / "frozen.pb", "fp32", tmp_path
    )
    return job.destination, CONVERSION.convert(job).contract


def run(file: Path, contract: Contract | None, **inputs: Any) -> dict[str, Any]:
    with RUNTIME.open(file, contract) as session:
        return session.infer(inputs)


def expected(features: Any) -> dict[str, Any]:
    hidden = np.maximum(features @ np.linspace(-1, 1, 64 * 32).reshape(64, 32).astype("float32"), 0)
    powers = np.exp(hidden - hidden.max(1, keepdims=True))
    return {"scores": powers / powers.sum(1, keepdims=True), "hidden": hidden}


@pytest.mark.parametrize("way", WAYS)
def test_the_file_describes_itself_by_logical_names(tmp_path: Path, way: str) -> None:
    source, contract = dense_source(way, tmp_path)
    file, result = convert(way, source, tmp_path, contract)
    signature = read_model(Buffer(file.read_bytes())).signatures[0]
    assert signature.name == "classify"
    assert [name for name, _ in signature.inputs] == ["features"]
    assert [name for name, _ in signature.outputs] == ["scores", "hidden"]
    data = np.random.default_rng(0).normal(size=(1, 64)).astype("float32")
    for names_from in (result.contract, None):
        found = run(file, names_from, features=data)
        for name, value in expected(data).items():
            np.testing.assert_allclose(found[name], value, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_an_open_batch_stays_open(tmp_path: Path, way: str) -> None:
    source, contract = dense_source(way, tmp_path)
    file, result = convert(way, source, tmp_path, contract)
    assert result.contract.inputs[0].shape == (None, 64)
    data = np.random.default_rng(0).normal(size=(5, 64)).astype("float32")
    np.testing.assert_allclose(
        run(file, result.contract, features=data)["hidden"], expected(data)["hidden"], atol=1e-5
    )


@pytest.mark.parametrize("way", WAYS)
def test_a_pinned_batch_is_pinned_in_the_file(tmp_path: Path, way: str) -> None:
    source, contract = dense_source(way, tmp_path, (2, 64))
    file, result = convert(way, source, tmp_path, contract)
    assert result.contract.inputs[0].shape == (2, 64)
    graph = read_model(Buffer(file.read_bytes())).subgraphs[0]
    tensor = graph.tensors[graph.inputs[0]]
    assert tensor.shape == (2, 64)
    assert -1 not in (tensor.signature or ())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("precision", "tolerance"), [("fp16", 0.02), ("dynamic", 0.2), ("int8", 0.2), ("int16x8", 0.2)]
)
def test_every_precision_keeps_float_inputs_and_outputs(
    tmp_path: Path, way: str, precision: str, tolerance: float
) -> None:
    source, contract = dense_source(way, tmp_path, (1, 64))
    data = np.random.default_rng(0).normal(size=(20, 64)).astype("float32")
    np.savez(tmp_path / "calibration.npz", features=data)
    file, result = convert(way, source, tmp_path, contract, precision, tmp_path / "calibration.npz")
    assert {s.dtype for s in (*result.contract.inputs, *result.contract.outputs)} == {"float32"}
    found = run(file, result.contract, features=data[:1])
    np.testing.assert_allclose(found["hidden"], expected(data[:1])["hidden"], atol=tolerance)
    stored = {t.dtype for t in read_model(Buffer(file.read_bytes())).subgraphs[0].tensors if t.constant}
    assert ("float16" if precision == "fp16" else "int8") in stored


def test_integers_need_samples(tmp_path: Path) -> None:
    source, contract = dense_source("frozen_graph", tmp_path)
    with pytest.raises(UsageError, match="calibration") as caught:
        convert("frozen_graph", source, tmp_path, contract, "int8")
    assert "--calibration" in (caught.value.hint or "")


def test_ops_without_a_kernel_are_named_with_their_nodes(tmp_path: Path) -> None:
    import tensorflow as tf

    def build(tf1: Any) -> None:
        wav = tf1.placeholder(tf.string, [], name="wav")
        audio, _ = tf.audio.decode_wav(wav, desired_channels=1, desired_samples=1600, name="decode")
        tf1.identity(audio, name="samples")

    contract = Contract(
        (TensorSpec("wav", "string", (), "wav:0"),), (TensorSpec("samples", "float32", None, "samples:0"),)
    )
    with pytest.raises(ConversionError, match=r"DecodeWav \('decode'\)") as caught:
        convert("frozen_graph", save_graph(tmp_path / "g.pb", build), tmp_path, contract)
    assert "--inputs" in (caught.value.hint or "")


def test_a_loop_of_tensorflow_1_over_a_known_length_is_unrolled(tmp_path: Path) -> None:
    import tensorflow as tf

    def build(tf1: Any) -> None:
        tf1.disable_control_flow_v2()
        x = tf1.placeholder(tf.float32, [4, 3], name="x")
        tf1.identity(tf1.map_fn(lambda row: row * 2.0, x), name="y")
        tf1.enable_control_flow_v2()

    contract = Contract(
        (TensorSpec("x", "float32", (4, 3), "x:0"),), (TensorSpec("y", "float32", None, "y:0"),)
    )
    file, result = convert("frozen_graph", save_graph(tmp_path / "g.pb", build), tmp_path, contract)
    assert any("4 trips" in note for note in result.notes)
    data = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    np.testing.assert_array_equal(run(file, result.contract, x=data)["y"], data * 2)


def test_an_output_may_be_the_end_of_a_loop_of_tensorflow_1(tmp_path: Path) -> None:
    import tensorflow as tf

    def build(tf1: Any) -> None:
        tf1.disable_control_flow_v2()
        x = tf1.placeholder(tf.float32, [], name="x")
        tf1.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 2.0), [0, x], name="loop")
        tf1.enable_control_flow_v2()

    contract = Contract(
        (TensorSpec("x", "float32", (), "x:0"),), (TensorSpec("y", "float32", None, "loop/Exit_1:0"),)
    )
    file, result = convert("frozen_graph", save_graph(tmp_path / "g.pb", build), tmp_path, contract)
    with RUNTIME.open(file, result.contract) as session:
        assert session({"x": np.float32(1.5)})["y"] == np.float32(12)


def test_ops_that_are_refused_for_their_element_type_say_so(tmp_path: Path) -> None:
    import tensorflow as tf

    def build(tf1: Any) -> None:
        x = tf1.placeholder(tf.float64, [2, 2], name="x")
        tf1.tanh(tf1.matmul(x * 1e300, x, name="product"), name="y")  # beyond the range of float32

    contract = Contract(
        (TensorSpec("x", "float64", (2, 2), "x:0"),), (TensorSpec("y", "float64", None, "y:0"),)
    )
    with pytest.raises(ConversionError, match=r"MatMul \('product'\).*float64") as caught:
        convert("frozen_graph", save_graph(tmp_path / "g.pb", build), tmp_path, contract)
    assert "float32" in (caught.value.hint or "")
    assert "MLIR" not in str(caught.value)


def test_an_inverse_fourier_transform_is_taken_as_products_of_real_numbers(tmp_path: Path) -> None:
    import tensorflow as tf

    def build(tf1: Any) -> None:
        x = tf1.placeholder(tf.float32, [1, 16], name="wave")
        tf1.real(tf1.ifft(tf.complex(x, x)), name="y")

    contract = Contract(
        (TensorSpec("wave", "float32", (1, 16), "wave:0"),), (TensorSpec("y", "float32", None, "y:0"),)
    )
    file, result = convert("frozen_graph", save_graph(tmp_path / "g.pb", build), tmp_path, contract)
    data = np.random.default_rng(0).normal(size=(1, 16)).astype("float32")
    found = run(file, result.contract, wave=data)["y"]
    np.testing.assert_allclose(found, np.fft.ifft(data + 1j * data).real, atol=1e-6)


def test_complex_numbers_that_stay_are_refused_by_the_op_with_a_way_out_that_fits(tmp_path: Path) -> None:
    """A transform too long to be a matrix: TFLite has no inverse one, and float32 would not help."""
    import tensorflow as tf

    def build(tf1: Any) -> None:
        x = tf1.placeholder(tf.float32, [1, 5000], name="wave")
        tf1.real(tf1.ifft(tf.complex(x, x)), name="y")

    contract = Contract(
        (TensorSpec("wave", "float32", (1, 5000), "wave:0"),), (TensorSpec("y", "float32", None, "y:0"),)
    )
    with pytest.raises(ConversionError, match=r"IFFT \('IFFT'\).*complex64") as caught:
        convert("frozen_graph", save_graph(tmp_path / "g.pb", build), tmp_path, contract)
    assert "real and imaginary parts" in (caught.value.hint or "")
    assert "--inputs" in (caught.value.hint or "")


def test_a_graph_in_float64_computes_in_float32_between_ends_of_float64(tmp_path: Path) -> None:
    import tensorflow as tf

    def build(tf1: Any) -> None:
        x = tf1.placeholder(tf.float64, [2, 2], name="x")
        tf1.tanh(tf1.matmul(x, x), name="y")

    contract = Contract(
        (TensorSpec("x", "float64", (2, 2), "x:0"),), (TensorSpec("y", "float64", None, "y:0"),)
    )
    file, result = convert("frozen_graph", save_graph(tmp_path / "g.pb", build), tmp_path, contract)
    assert any("float32 instead of float64" in note for note in result.notes)
    data = np.random.default_rng(0).normal(size=(2, 2))
    found = run(file, result.contract, x=data)["y"]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.tanh(data @ data), atol=1e-6)


def test_an_output_that_is_an_input_and_two_names_of_one_tensor(tmp_path: Path) -> None:
    import tensorflow as tf

    def build(tf1: Any) -> None:
        x = tf1.placeholder(tf.float32, [None, 2], name="x")
        tf1.add(x, 1.0, name="y")

    contract = Contract(
        (TensorSpec("x", "float32", (None, 2), "x:0"),),
        tuple(TensorSpec(n, "float32", None, t) for n, t in (("same", "x:0"), ("a", "y:0"), ("b", "y:0"))),
    )
    file, result = convert("frozen_graph", save_graph(tmp_path / "g.pb", build), tmp_path, contract)
    found = run(file, result.contract, x=np.zeros((1, 2), "float32"))
    assert {name: value.tolist() for name, value in found.items()} == {
        "same": [[0, 0]],
        "a": [[1, 1]],
        "b": [[1, 1]],
    }


def test_a_text_graph_is_taken_whatever_its_suffix(tmp_path: Path) -> None:
    import tensorflow as tf
    from google.protobuf import text_format

    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [1, 2], name="x")
        tf.multiply(x, 3.0, name="y")
    (tmp_path / "g.pb").write_text(text_format.MessageToString(graph.as_graph_def()))
    contract = Contract(
        (TensorSpec("x", "float32", (1, 2), "x:0"),), (TensorSpec("y", "float32", None, "y:0"),)
    )
    file, result = convert("frozen_graph", tmp_path / "g.pb", tmp_path, contract)
    assert run(file, result.contract, x=np.ones((1, 2), "float32"))["y"].tolist() == [[3, 3]]


def recurrent(tmp_path: Path, layer: str) -> tuple[Any, Path, Contract]:
    """A recurrent Keras model, its frozen graph with an open batch, and that graph's contract."""
    import keras

    from edgeconv.conversions.frozen_graph_from_saved_model import CONVERSION as FREEZE
    from edgeconv.conversions.saved_model_from_keras import CONVERSION as SAVE

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5, 3), name="x"), getattr(keras.layers, layer)(4, name="y")])
    model.save(tmp_path / "m.keras")
    keras_file = Artifact(tmp_path / "m.keras", "keras", "fp32", "", None)
    saved = SAVE.convert(ConversionJob(keras_file, tmp_path / "sm", "fp32", tmp_path))
    saved_model = Artifact(tmp_path / "sm", "saved_model", "fp32", "", saved.contract)
    frozen = FREEZE.convert(ConversionJob(saved_model, tmp_path / "f.pb", "fp32", tmp_path))
    return model, tmp_path / "f.pb", frozen.contract


@pytest.mark.parametrize("layer", ["LSTM", "GRU"])
def test_recurrent_layers_get_a_batch_of_one_and_it_is_said(tmp_path: Path, layer: str) -> None:
    model, graph, contract = recurrent(tmp_path, layer)
    file, result = convert("frozen_graph", graph, tmp_path, contract)
    data = np.random.default_rng(0).normal(size=(1, 5, 3)).astype("float32")
    np.testing.assert_allclose(run(file, result.contract, x=data)["y"], np.asarray(model(data)), atol=1e-5)
    assert result.contract.inputs[0].shape == (1, 5, 3)
    assert any("batch" in note for note in result.notes)


def test_recurrent_layers_take_the_batch_that_the_contract_pins(tmp_path: Path) -> None:
    model, graph, contract = recurrent(tmp_path, "LSTM")
    contract = replace(contract, inputs=(replace(contract.inputs[0], shape=(3, 5, 3)),))
    file, result = convert("frozen_graph", graph, tmp_path, contract)
    assert result.notes == ()
    data = np.random.default_rng(0).normal(size=(3, 5, 3)).astype("float32")
    found = run(file, result.contract, x=data)["y"]
    np.testing.assert_allclose(found, np.asarray(model(data)), atol=1e-5)


def test_a_frozen_graph_without_a_contract_is_asked_for_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        convert("frozen_graph", tmp_path / "g.pb", tmp_path, None)
    assert "--inputs" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "collected", "named"),
    [
        ("'tf.FIFOQueueV2' op is neither a custom op nor a flex op", [], "FIFOQueueV2 ('queue')"),
        ("failed to legalize operation 'tf.Erfinv'", [], "Erfinv"),
        ("", [("ERROR_NEEDS_FLEX_OPS", "tf.IFFT", "spectrum/IFFT")], "IFFT ('spectrum/IFFT')"),
        ("something else went wrong", [], "something else went wrong"),
        (
            '<unknown>:0: error: loc(callsite(fused["a", "b"] at fused["c"])): \'tf.Foo\' op has no shape\n',
            [],
            "('tf.Foo' op has no shape)",
        ),
    ],
)
def test_what_the_converter_says_becomes_an_error_with_a_hint(
    text: str, collected: list[tuple[str, str, str]], named: str
) -> None:
    error = diagnosed(RefusedError(text, collected), "m.pb", {"FIFOQueueV2": ["queue"]})
    assert isinstance(error, EdgeconvError)
    assert named in str(error)
    assert error.hint


names = st.lists(st.tuples(st.text(max_size=20), st.integers(0, 2)), max_size=4)


@given(key=st.text(max_size=30), inputs=names, outputs=names)
def test_any_names_come_back_from_a_signature_put_in_front(
    key: str, inputs: list[tuple[str, int]], outputs: list[tuple[str, int]]
) -> None:
    model = _tiny_flatbuffer()
    encodable = all(_encodable(t) for t in (key, *(n for n, _ in (*inputs, *outputs))))
    if not encodable:
        return
    parsed = read_model(Buffer(signature_prefix(model, key, inputs, outputs) + model))
    assert parsed.signatures[0].name == key
    assert list(parsed.signatures[0].inputs) == inputs
    assert list(parsed.signatures[0].outputs) == outputs
    assert parsed.description == "tiny"
    assert [t.name for t in parsed.subgraphs[0].tensors] == ["a", "b", "c"]
    # A second signature takes the place of the first.
    twice = signature_prefix(model, "first", [], []) + model
    again = read_model(Buffer(signature_prefix(twice, "second", inputs, []) + twice))
    assert [s.name for s in again.signatures] == ["second"]


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _tiny_flatbuffer() -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(256)
    tensor_names = [builder.CreateString(name) for name in "abc"]
    tensors = []
    for name in tensor_names:
        builder.StartObject(4)
        builder.PrependUOffsetTRelativeSlot(3, name, 0)
        tensors.append(builder.EndObject())
    builder.StartVector(4, len(tensors), 4)
    for tensor in reversed(tensors):
        builder.PrependUOffsetTRelative(tensor)
    tensor_vector = builder.EndVector()
    builder.StartObject(5)
    builder.PrependUOffsetTRelativeSlot(0, tensor_vector, 0)
    subgraph = builder.EndObject()
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(subgraph)
    subgraphs = builder.EndVector()
    builder.StartObject(2)
    buffer = builder.EndObject()
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(buffer)
    buffers = builder.EndVector()
    description = builder.CreateString("tiny")
    builder.StartObject(8)
    builder.PrependUint32Slot(0, 3, 0)
    builder.PrependUOffsetTRelativeSlot(2, subgraphs, 0)
    builder.PrependUOffsetTRelativeSlot(3, description, 0)
    builder.PrependUOffsetTRelativeSlot(4, buffers, 0)
    builder.Finish(builder.EndObject(), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.corpus
@pytest.mark.parametrize(
    ("case", "tolerance"), [("kws-DS_CNN_S-core", 1e-6), ("t2o-lstm", 1e-5), ("edgeai-mnist", 1e-6)]
)
def test_real_graphs_give_the_recorded_outputs(
    corpus: Path, tmp_path: Path, case: str, tolerance: float
) -> None:
    import json

    about = json.loads((corpus / "cases.json").read_text())[case]
    arrays = np.load(corpus / about["golden"])
    tensors = {key: key.split("__", 1)[1].replace("|", "/") for key in arrays.files}

    def spec(key: str) -> TensorSpec:
        name = tensors[key]
        inner = name if ":" in name else f"{name}:0"
        return TensorSpec(name, arrays[key].dtype.name, arrays[key].shape, inner)

    contract = Contract(
        tuple(spec(key) for key in tensors if key.startswith("in__")),
        tuple(spec(key) for key in tensors if key.startswith("out__")),
    )
    file, result = convert("frozen_graph", corpus / about["file"], tmp_path, contract)
    found = run(file, result.contract, **{tensors[k]: arrays[k] for k in tensors if k.startswith("in__")})
    for key, name in tensors.items():
        if key.startswith("out__"):
            np.testing.assert_allclose(found[name], arrays[key], atol=tolerance)
