"""Frozen graph to ONNX, and ONNX to half precision and int8: same function, same interface."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeconv.conversions import onnx_from_frozen_graph, onnx_from_onnx
from edgeconv.conversions.base import ConversionJob, ConversionResult
from edgeconv.errors import ConversionError, UsageError
from edgeconv.formats.base import Artifact, Contract, TensorSpec
from edgeconv.runtimes.onnxruntime import RUNTIME

Build = Callable[[Any], dict[str, str]]
"""Builds a graph with ``tensorflow.compat.v1`` and returns logical names of outputs to tensors."""


class Graph:
    """A graph on disk with its contract, and what TensorFlow makes of it."""

    def __init__(
        self, folder: Path, build: Build, inputs: dict[str, str], **shapes: tuple[int | None, ...]
    ) -> None:
        import tensorflow

        self.graph = tensorflow.Graph()
        with self.graph.as_default():
            tensorflow.compat.v1.set_random_seed(1)
            outputs = build(tensorflow)
        self.path = folder / "graph.pb"
        self.path.write_bytes(self.graph.as_graph_def().SerializeToString())
        self.inputs, self.outputs = inputs, outputs
        self.contract = Contract(
            tuple(self._spec(name, tensor, shapes) for name, tensor in inputs.items()),
            tuple(self._spec(name, tensor, shapes) for name, tensor in outputs.items()),
        )
        self.folder = folder

    def _spec(self, name: str, tensor: str, shapes: dict[str, tuple[int | None, ...]]) -> TensorSpec:
        found = self.graph.get_tensor_by_name(tensor)
        known = None if found.shape.rank is None else tuple(found.shape.as_list())
        return TensorSpec(name, found.dtype.name, shapes.get(name, known), tensor)

    def expected(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        from tensorflow.compat.v1 import Session

        with Session(graph=self.graph) as session:
            values = session.run(
                list(self.outputs.values()), {self.inputs[name]: value for name, value in feeds.items()}
            )
        return dict(zip(self.outputs, values, strict=True))

    def convert(self, **options: Any) -> tuple[Path, ConversionResult]:
        destination = self.folder / "model.onnx"
        destination.unlink(missing_ok=True)
        source = Artifact(self.path, "frozen_graph", "fp32", "", self.contract)
        job = ConversionJob(source, destination, "fp32", self.folder, options=options)
        return destination, onnx_from_frozen_graph.convert(job)

    def check(self, feeds: dict[str, np.ndarray], tolerance: float = 1e-5) -> ConversionResult:
        path, result = self.convert()
        with RUNTIME.open(path, result.contract) as session:
            got = session.infer(feeds)
        for name, value in self.expected(feeds).items():
            assert got[name].dtype == value.dtype
            assert got[name].shape == value.shape
            np.testing.assert_allclose(got[name], value, rtol=tolerance, atol=tolerance)
        return result


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(3)


def floats(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.normal(size=shape).astype(np.float32)


def small_cnn(random: np.random.Generator) -> Build:
    """Convolution, batch norm, depthwise convolution and a dense layer, with weights large enough to move."""

    def build(tf: Any) -> dict[str, str]:
        x = tf.compat.v1.placeholder(tf.float32, (None, 8, 8, 3), name="x")
        y = tf.nn.conv2d(x, floats(random, 5, 5, 3, 64), 1, "SAME")
        scale, mean = (floats(random, 64) for _ in range(2))
        y, _, _ = tf.compat.v1.nn.fused_batch_norm(
            y, scale, scale, mean, np.abs(mean) + 0.5, is_training=False, name="norm"
        )
        y = tf.nn.relu6(y)
        y = tf.nn.depthwise_conv2d(y, floats(random, 9, 9, 64, 1), (1, 2, 2, 1), "SAME")
        y = tf.nn.bias_add(y, floats(random, 64))
        y = tf.matmul(tf.reduce_mean(y, (1, 2)), floats(random, 64, 100))
        tf.nn.softmax(y, name="probabilities")
        return {"probabilities": "probabilities:0", "logits": y.name}

    return build


def test_a_cnn_keeps_its_function_and_gets_the_contracts_names(tmp_path: Path, random: Any) -> None:
    graph = Graph(tmp_path, small_cnn(random), {"image": "x:0"})
    result = graph.check({"image": floats(random, 2, 8, 8, 3)}, 1e-4)
    assert result.contract.outputs[0] == TensorSpec("probabilities", "float32", (None, 100))
    model = onnx.load(str(tmp_path / "model.onnx"))
    assert [value.name for value in model.graph.input] == ["image"]
    assert [value.name for value in model.graph.output] == ["probabilities", "logits"]
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    assert dimensions[0].dim_param
    assert [d.dim_value for d in dimensions[1:]] == [8, 8, 3]
    assert model.ir_version == 8
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 17
    ops = [node.op_type for node in model.graph.node]
    assert ops.count("Conv") == 2
    assert "BatchNormalization" not in ops, "the norm is in the weights"
    assert ops.count("Transpose") <= 1


def test_the_weights_do_not_go_through_tf2onnx(tmp_path: Path, random: Any, monkeypatch: Any) -> None:
    from edgeconv.conversions import _tf2onnx_run

    sizes: list[int] = []
    original = _tf2onnx_run.convert_graph

    def measured(graph: Any, *rest: Any) -> Any:
        sizes.append(graph.ByteSize())
        return original(graph, *rest)

    monkeypatch.setattr(_tf2onnx_run, "convert_graph", measured)
    graph = Graph(tmp_path, small_cnn(random), {"image": "x:0"})
    graph.check({"image": floats(random, 1, 8, 8, 3)}, 1e-4)
    assert len(sizes) == 1
    assert sizes[0] < 20_000 < graph.path.stat().st_size


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(tmp_path: Path, random: Any) -> None:
    graph = Graph(tmp_path, small_cnn(random), {"image": "x:0"})
    graph.convert()
    here = hashlib.sha256((tmp_path / "model.onnx").read_bytes()).hexdigest()
    graph.convert()
    assert hashlib.sha256((tmp_path / "model.onnx").read_bytes()).hexdigest() == here
    script = (
        "import sys; from pathlib import Path\n"
        "from edgeconv.conversions import onnx_from_frozen_graph as o\n"
        "from edgeconv.conversions.base import ConversionJob\n"
        "from edgeconv.formats.base import Artifact, contract_from_json\n"
        "import hashlib, json\n"
        "folder = Path(sys.argv[1]); contract = contract_from_json(json.loads(sys.argv[2]))\n"
        "source = Artifact(folder / 'graph.pb', 'frozen_graph', 'fp32', '', contract)\n"
        "o.convert(ConversionJob(source, folder / 'other.onnx', 'fp32', folder))\n"
        "print(hashlib.sha256((folder / 'other.onnx').read_bytes()).hexdigest())\n"
    )
    import json

    from edgeconv.formats.base import to_json

    shown = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), json.dumps(to_json(graph.contract))],
        env={**os.environ, "PYTHONHASHSEED": "12345", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip().splitlines()[-1] == here


def unary(op: str) -> Build:
    def build(tf: Any) -> dict[str, str]:
        x = tf.compat.v1.placeholder(tf.float32, (3, 4), name="x")
        raw = {
            "Erfc": tf.raw_ops.Erfc,
            "Log1p": tf.raw_ops.Log1p,
            "Expm1": tf.raw_ops.Expm1,
            "Inv": tf.raw_ops.Inv,
        }
        return {"y": raw[op](x=x).name}

    return build


@pytest.mark.parametrize("op", ["Erfc", "Log1p", "Expm1", "Inv"])
def test_ops_that_tf2onnx_lacks_are_said_otherwise(tmp_path: Path, random: Any, op: str) -> None:
    graph = Graph(tmp_path, unary(op), {"x": "x:0"})
    result = graph.check({"x": np.abs(floats(random, 3, 4))})
    assert any(op in note for note in result.notes)


@pytest.mark.parametrize("op", ["Xlogy", "Xdivy", "MulNoNan"])
def test_ops_that_are_zero_where_an_argument_is(tmp_path: Path, op: str) -> None:
    def build(tf: Any) -> dict[str, str]:
        x = tf.compat.v1.placeholder(tf.float32, (4,), name="x")
        y = tf.compat.v1.placeholder(tf.float32, (4,), name="y")
        return {"z": getattr(tf.raw_ops, op)(x=x, y=y).name}

    graph = Graph(tmp_path, build, {"x": "x:0", "y": "y:0"})
    graph.check({"x": np.array([0, 0, 1, 2], np.float32), "y": np.array([0, 3, 2, 5], np.float32)})


@pytest.mark.parametrize(
    "kind", ["FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel"]
)
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("bits", [8, 4])
def test_simulated_quantization_of_any_width(
    tmp_path: Path, random: Any, kind: str, narrow: bool, bits: int
) -> None:
    def build(tf: Any) -> dict[str, str]:
        x = tf.compat.v1.placeholder(tf.float32, (16, 3), name="x")
        common = {"inputs": x, "num_bits": bits, "narrow_range": narrow}
        if kind.endswith("Args"):
            y = tf.raw_ops.FakeQuantWithMinMaxArgs(min=-1.3, max=2.1, **common)
        elif kind.endswith("Vars"):
            y = tf.raw_ops.FakeQuantWithMinMaxVars(min=-1.3, max=2.1, **common)
        else:
            y = tf.raw_ops.FakeQuantWithMinMaxVarsPerChannel(
                min=[-1.0, -0.3, 0.0], max=[1.0, 2.0, 3.0], **common
            )
        return {"y": y.name}

    Graph(tmp_path, build, {"x": "x:0"}).check({"x": 2 * floats(random, 16, 3)})


def test_a_placeholder_with_a_default_has_its_default(tmp_path: Path, random: Any) -> None:
    def build(tf: Any) -> dict[str, str]:
        x = tf.compat.v1.placeholder(tf.float32, (2,), name="x")
        return {"y": (x * tf.compat.v1.placeholder_with_default(3.0, (), name="d")).name}

    Graph(tmp_path, build, {"x": "x:0"}).check({"x": floats(random, 2)})


def test_function_calls_are_inlined(tmp_path: Path, random: Any) -> None:
    def build(tf: Any) -> dict[str, str]:
        x = tf.compat.v1.placeholder(tf.float32, (None, 4), name="x")
        weight = floats(random, 4, 4)

        @tf.function(experimental_attributes={"_noinline": True})
        def inner(value: Any, other: Any) -> Any:
            return tf.split(value, 2, axis=1)[1], tf.matmul(other, weight)

        @tf.function(experimental_attributes={"_noinline": True})
        def outer(value: Any) -> Any:
            half, product = inner(value, tf.nn.relu(value))
            return product, half * 2.0

        product, half = outer(x)
        return {"product": product.name, "half": half.name}

    result = Graph(tmp_path, build, {"x": "x:0"}).check({"x": floats(random, 3, 4)})
    assert "2 function calls were inlined" in result.notes


def test_a_quantized_constant_is_stored_as_floats(tmp_path: Path) -> None:
    def build(tf: Any) -> dict[str, str]:
        x = tf.compat.v1.placeholder(tf.float32, (2, 4), name="x")
        stored = tf.constant(np.arange(16).reshape(4, 4).astype(np.uint8))
        weight = tf.raw_ops.Dequantize(input=tf.bitcast(stored, tf.quint8), min_range=-1.0, max_range=2.0)
        return {"y": tf.matmul(x, weight).name}

    def folded(tf: Any) -> dict[str, str]:
        # Dequantize has to read a constant directly, as the tool that made such graphs wrote them.
        graph = tf.Graph()
        with graph.as_default():
            result = build(tf)
        definition = graph.as_graph_def()
        nodes = {node.name: node for node in definition.node}
        bitcast = next(node for node in definition.node if node.op == "Bitcast")
        stored = nodes[bitcast.input[0]]
        bitcast.op = "Const"
        del bitcast.input[:]
        tensor = stored.attr["value"].tensor
        for name in list(bitcast.attr):
            del bitcast.attr[name]
        bitcast.attr["dtype"].type = tf.quint8.as_datatype_enum
        bitcast.attr["value"].tensor.CopyFrom(tensor)
        bitcast.attr["value"].tensor.dtype = tf.quint8.as_datatype_enum
        tf.import_graph_def(definition, name="")
        return result

    Graph(tmp_path, folded, {"x": "x:0"}).check({"x": np.ones((2, 4), np.float32)})


def test_any_tensor_may_be_an_input_or_an_output_twice_even(tmp_path: Path, random: Any) -> None:
    def build(tf: Any) -> dict[str, str]:
        x = tf.compat.v1.placeholder(tf.string, (), name="x")
        decoded = tf.reshape(tf.io.decode_raw(x, tf.float32), (1, 4), name="decoded")
        y = tf.nn.relu(decoded, name="relu")
        return {"one": y.name, "two": y.name, "same": decoded.name}

    graph = Graph(tmp_path, build, {"cut": "decoded:0"})
    graph.check({"cut": floats(random, 1, 4)})


def test_an_output_may_have_the_name_of_an_input(tmp_path: Path, random: Any) -> None:
    def build(tf: Any) -> dict[str, str]:
        x = tf.compat.v1.placeholder(tf.float32, (None, 2), name="x")
        keys = tf.compat.v1.placeholder(tf.int32, (None, 1), name="k")
        tf.identity(x * 2.0, name="scaled")
        return {"keys": tf.identity(keys).name, "features": "scaled:0"}

    graph = Graph(tmp_path, build, {"features": "x:0", "keys": "k:0"})
    feeds = {"features": floats(random, 3, 2), "keys": np.int32([[5], [6], [7]])}
    result = graph.check(feeds)
    assert [spec.name for spec in result.contract.outputs] == ["keys", "features"]
    assert result.contract.outputs[0].inner_name != result.contract.inputs[1].inner_name


def test_an_input_that_nothing_uses_stays_declared(tmp_path: Path, random: Any) -> None:
    def build(tf: Any) -> dict[str, str]:
        x = tf.compat.v1.placeholder(tf.float32, (2,), name="x")
        tf.compat.v1.placeholder(tf.int32, (None, 3), name="ids")
        return {"y": tf.abs(x).name}

    graph = Graph(tmp_path, build, {"ids": "ids:0", "x": "x:0"})
    graph.check({"x": floats(random, 2), "ids": np.zeros((1, 3), np.int32)})
    model = onnx.load(str(tmp_path / "model.onnx"))
    assert [value.name for value in model.graph.input] == ["ids", "x"]


def test_an_output_that_depends_on_nothing_is_a_constant(tmp_path: Path, random: Any) -> None:
    def build(tf: Any) -> dict[str, str]:
        x = tf.compat.v1.placeholder(tf.float32, (2,), name="x")
        return {"y": tf.abs(x).name, "version": tf.constant([1, 2], name="version").name}

    Graph(tmp_path, build, {"x": "x:0"}).check({"x": floats(random, 2)})


def test_the_contracts_shape_is_the_truth(tmp_path: Path, random: Any) -> None:
    def build(tf: Any) -> dict[str, str]:
        x = tf.compat.v1.placeholder(tf.float32, None, name="x")
        return {"y": tf.nn.conv2d(x, floats(random, 3, 3, 2, 5), 1, "VALID").name}

    unknown = Graph(tmp_path, build, {"x": "x:0"})
    with pytest.raises(UsageError, match="rank of input 'x'") as caught:
        unknown.convert()
    assert caught.value.hint == "say its shape: --shape x=1,…"
    Graph(tmp_path, build, {"x": "x:0"}, x=(1, 6, 6, 2)).check({"x": floats(random, 1, 6, 6, 2)}, 1e-4)


def test_a_loop_becomes_a_loop(tmp_path: Path, random: Any) -> None:
    def build(tf: Any) -> dict[str, str]:
        x = tf.compat.v1.placeholder(tf.float32, (2, 2), name="x")
        tf.compat.v1.enable_control_flow_v2()
        _, y = tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, tf.matmul(v, v) * 0.5), (0, x))
        return {"y": tf.identity(y, name="y").name}

    Graph(tmp_path, build, {"x": "x:0"}).check({"x": floats(random, 2, 2)})


def test_a_switch_that_is_no_input_is_refused_by_name(tmp_path: Path) -> None:
    def build(tf: Any) -> dict[str, str]:
        x = tf.compat.v1.placeholder(tf.float32, (2,), name="x")
        training = tf.compat.v1.placeholder(tf.bool, (), name="is_training")
        return {"y": tf.where(training, x, 2 * x).name}

    with pytest.raises(ConversionError, match=r"'is_training' \(bool\)") as caught:
        Graph(tmp_path, build, {"x": "x:0"}).convert()
    assert "False" in (caught.value.hint or "")


def test_a_front_end_is_named_with_the_tensor_to_cut_at(tmp_path: Path) -> None:
    def build(tf: Any) -> dict[str, str]:
        contents = tf.compat.v1.placeholder(tf.string, (), name="wav")
        audio, rate = tf.audio.decode_wav(contents, 1, 1600)
        spectrogram = tf.raw_ops.AudioSpectrogram(input=audio, window_size=400, stride=160)
        features = tf.raw_ops.Mfcc(spectrogram=spectrogram, sample_rate=rate, name="features")
        return {"y": tf.reduce_sum(features, name="y").name}

    with pytest.raises(ConversionError, match="DecodeWav") as caught:
        Graph(tmp_path, build, {"wav": "wav:0"}).convert()
    assert "--inputs features:0" in (caught.value.hint or "")
    assert not (tmp_path / "model.onnx").exists()


def test_all_ops_without_counterpart_are_named(tmp_path: Path) -> None:
    def build(tf: Any) -> dict[str, str]:
        x = tf.compat.v1.placeholder(tf.float32, (3, 3), name="x")
        s, _, _ = tf.linalg.svd(x, name="svd")
        return {"y": (tf.linalg.cholesky(x, name="cholesky") + s).name}

    with pytest.raises(ConversionError, match=r"Cholesky \(cholesky\), Svd \(svd\)"):
        Graph(tmp_path, build, {"x": "x:0"}).convert()


def test_a_wrong_output_is_answered_with_the_nearest(tmp_path: Path, random: Any) -> None:
    graph = Graph(tmp_path, small_cnn(random), {"image": "x:0"})
    graph.contract = replace(graph.contract, outputs=(TensorSpec("y", "float32", None, "probabilites:0"),))
    with pytest.raises(UsageError, match="no node 'probabilites'") as caught:
        graph.convert()
    assert "probabilities" in (caught.value.hint or "")


def test_opsets_that_cannot_be_written_are_refused(tmp_path: Path, random: Any) -> None:
    graph = Graph(tmp_path, small_cnn(random), {"image": "x:0"})
    with pytest.raises(UsageError, match="opset 19"):
        graph.convert(opset=19)
    path, _ = graph.convert(opset=13)
    assert onnx.load(str(path)).opset_import[0].version == 13


# --- from ONNX to other precisions -----------------------------------------------------------------------


def onnx_cnn(path: Path, random: np.random.Generator, *, largest: float = 1.0) -> Contract:
    weights = {
        "w1": floats(random, 8, 3, 3, 3), "b1": floats(random, 8), "w2": floats(random, 4, 8, 3, 3),
        "dense": floats(random, 4, 10), "scale": np.array([largest], np.float32),
    }  # fmt: skip
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], name="first"),
            helper.make_node("Relu", ["c1"], ["r1"]),
            helper.make_node("Conv", ["r1", "w2"], ["c2"], name="second"),
            helper.make_node("GlobalAveragePool", ["c2"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("MatMul", ["f", "dense"], ["m"], name="third"),
            helper.make_node("Mul", ["m", "scale"], ["s"], name="up"),
            helper.make_node("Div", ["s", "scale"], ["d"], name="down"),
            helper.make_node("Softmax", ["d"], ["y"]),
        ],
        "cnn",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return Contract(
        (TensorSpec("picture", "float32", (None, 3, 8, 8), "image"),),
        (TensorSpec("y", "float32", (None, 10)),),
    )


def narrowed(folder: Path, precision: str, contract: Contract, calibration: Path | None = None) -> Any:
    scratch = folder / f"scratch-{precision}"
    scratch.mkdir(exist_ok=True)
    destination = folder / f"{precision}.onnx"
    destination.unlink(missing_ok=True)
    source = Artifact(folder / "fp32.onnx", "onnx", "fp32", "", contract)
    result = onnx_from_onnx.convert(
        ConversionJob(source, destination, precision, scratch, calibration=calibration)
    )
    return destination, result


def error_of(folder: Path, contract: Contract, path: Path, result: ConversionResult, x: np.ndarray) -> float:
    with RUNTIME.open(folder / "fp32.onnx", contract) as session:
        expected = session.infer({"picture": x})["y"]
    with RUNTIME.open(path, result.contract) as session:
        got = session.infer({result.contract.inputs[0].name: x})["y"]
    return float(np.abs(got - expected).max())


def test_half_precision_halves_the_file_and_keeps_the_interface(tmp_path: Path, random: Any) -> None:
    contract = onnx_cnn(tmp_path / "fp32.onnx", random)
    path, result = narrowed(tmp_path, "fp16", contract)
    model = onnx.load(str(path))
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert types["w1"] == TensorProto.FLOAT16
    assert result.contract.inputs[0].dtype == result.contract.outputs[0].dtype == "float32"
    assert error_of(tmp_path, contract, path, result, floats(random, 2, 3, 8, 8)) < 5e-3
    assert any("slower with fp16" in note for note in result.notes)


def test_weights_beyond_half_precision_stay_single_and_are_named(tmp_path: Path, random: Any) -> None:
    contract = onnx_cnn(tmp_path / "fp32.onnx", random, largest=1e6)
    path, result = narrowed(tmp_path, "fp16", contract)
    assert any("up" in note and "1e+06" in note for note in result.notes)
    assert error_of(tmp_path, contract, path, result, floats(random, 1, 3, 8, 8)) < 5e-3


def test_int8_has_a_scale_a_channel_and_float_inputs(tmp_path: Path, random: Any) -> None:
    contract = onnx_cnn(tmp_path / "fp32.onnx", random)
    samples = tmp_path / "samples.npz"
    np.savez(samples, picture=floats(random, 16, 3, 8, 8))
    path, result = narrowed(tmp_path, "int8", contract, samples)
    model = onnx.load(str(path))
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    assert stored["w1_quantized"].data_type == TensorProto.INT8
    assert list(stored["w1_scale"].dims) == [8]
    assert not numpy_helper.to_array(stored["w1_zero_point"]).any(), "weights are symmetric"
    assert "w1" not in stored
    assert result.contract.inputs[0].dtype == "float32"
    assert any("Softmax" in note for note in result.notes)
    assert error_of(tmp_path, contract, path, result, floats(random, 2, 3, 8, 8)) < 0.1


def test_the_ranges_are_those_of_the_tools_own_calibration(tmp_path: Path, random: Any) -> None:
    from onnxruntime.quantization import CalibrationDataReader
    from onnxruntime.quantization.calibrate import create_calibrator

    from edgeconv.conversions._onnx_ranges import tensor_ranges

    onnx_cnn(tmp_path / "fp32.onnx", random)
    samples = [{"image": floats(random, 1, 3, 8, 8)} for _ in range(5)]

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(samples)

        def get_next(self) -> Any:
            return next(self.left, None)

    calibrator = create_calibrator(
        tmp_path / "fp32.onnx", ["Conv", "MatMul"], augmented_model_path=str(tmp_path / "augmented.onnx")
    )
    calibrator.collect_data(Reader())
    expected = {name: value.range_value for name, value in calibrator.compute_data().items()}
    found = tensor_ranges(tmp_path / "fp32.onnx", list(expected), samples, tmp_path)
    assert set(found) == set(expected)
    for name, (low, high) in expected.items():
        np.testing.assert_allclose(found[name], (low.item(), high.item()), rtol=1e-5, atol=1e-6)


def test_int8_without_samples_or_with_poisoned_ones_is_refused(tmp_path: Path, random: Any) -> None:
    contract = onnx_cnn(tmp_path / "fp32.onnx", random)
    with pytest.raises(UsageError, match="needs samples") as caught:
        narrowed(tmp_path, "int8", contract)
    assert "--calibration" in (caught.value.hint or "")
    samples = floats(random, 3, 3, 8, 8)
    samples[1, 0, 0, 0] = np.nan
    np.savez(tmp_path / "samples.npz", picture=samples)
    with pytest.raises(ConversionError, match="sample 1"):
        narrowed(tmp_path, "int8", contract, tmp_path / "samples.npz")


def test_a_model_without_products_has_no_int8(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "fp32.onnx").write_bytes(model.SerializeToString())
    np.savez(tmp_path / "samples.npz", x=np.ones((2, 4), np.float32))
    contract = Contract((TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 4)),))
    with pytest.raises(ConversionError, match="nothing in the model can be quantized"):
        narrowed(tmp_path, "int8", contract, tmp_path / "samples.npz")


def test_precisions_are_made_without_tensorflow(tmp_path: Path) -> None:
    script = (
        "import sys, edgeconv.conversions.onnx_from_onnx, edgeconv.conversions.ort_from_onnx\n"
        "import edgeconv.conversions.onnx_from_frozen_graph, edgeconv.conversions.onnx_from_tflite\n"
        "print([m for m in ('tensorflow', 'tf2onnx', 'onnx', 'onnxruntime', 'numpy') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.corpus
@pytest.mark.parametrize("name", ["facemask-ssd", "edgeai-mnist", "kws-DS_CNN_S-core", "t2o-lstm"])
def test_real_graphs_give_tensorflows_outputs(corpus: Path, tmp_path: Path, name: str) -> None:
    import json

    from tensorflow.core.framework import graph_pb2

    case = json.loads((corpus / "cases.json").read_text())[name]
    golden = np.load(corpus / case["golden"])
    graph = graph_pb2.GraphDef.FromString((corpus / case["file"]).read_bytes())
    assert graph.node

    def specs(prefix: str) -> tuple[TensorSpec, ...]:
        keys = [key for key in golden.files if key.startswith(prefix)]
        tensors = [key.removeprefix(prefix).replace("|", "/") for key in keys]
        return tuple(
            TensorSpec(tensor.partition(":")[0], golden[key].dtype.name, golden[key].shape, tensor)
            for key, tensor in zip(keys, tensors, strict=True)
        )

    contract = Contract(specs("in__"), specs("out__"))
    source = Artifact(corpus / case["file"], "frozen_graph", "fp32", "", contract)
    result = onnx_from_frozen_graph.convert(ConversionJob(source, tmp_path / "m.onnx", "fp32", tmp_path))
    with RUNTIME.open(tmp_path / "m.onnx", result.contract) as session:
        found = session.infer(
            {s.name: golden[f"in__{s.inner_name}".replace("/", "|")] for s in contract.inputs}
        )
    for spec in contract.outputs:
        expected = golden[f"out__{spec.inner_name}".replace("/", "|")]
        np.testing.assert_allclose(found[spec.name], expected, rtol=1e-4, atol=1e-4)
