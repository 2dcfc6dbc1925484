"""TFLite quantized from the float file: what comes out is small, close, honest about itself, and runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.comparison.samples import save_samples
from edgeconv.conversions.base import Conversion, ConversionJob, ConversionResult
from edgeconv.conversions.tflite_from_tflite import CONVERSION
from edgeconv.errors import ConversionError, UsageError
from edgeconv.formats.base import Artifact, Contract
from edgeconv.quantization.flatbuffer import is_constant, operator_name, pack, tensor_name, type_name, unpack
from edgeconv.runtimes.litert import RUNTIME

PRECISIONS = ("fp16", "dynamic", "int8", "int16x8")


def saved(folder: Path, name: str, **functions: Any) -> Path:
    import tensorflow as tf

    module = tf.Module()
    module.functions = list(functions.values())
    signatures = {key: f.get_concrete_function() for key, f in functions.items()}
    tf.saved_model.save(module, str(folder / name), signatures=signatures)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / name), signature_keys=list(functions))
    path = folder / f"{name}.tflite"
    path.write_bytes(converter.convert())
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("quantize")
    rng = np.random.default_rng(5)
    spec = tf.TensorSpec

    def weights(*shape: int) -> Any:
        return tf.constant(rng.normal(0, 1 / np.sqrt(np.prod(shape[:-1])), shape), tf.float32)

    kernel, depth, dense = weights(3, 3, 3, 16), weights(3, 3, 16, 1), weights(16, 10)
    recurrent = weights(8, 8)

    @tf.function(input_signature=[spec([None, 12, 12, 3], tf.float32, "image")])
    def cnn(image):
        x = tf.nn.relu6(tf.nn.conv2d(image, kernel, 1, "SAME") + 0.1)
        x = x + tf.nn.relu(tf.nn.depthwise_conv2d(x, depth, [1, 1, 1, 1], "SAME"))
        x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        return {"logits": tf.reduce_mean(x, [1, 2]) @ dense, "features": tf.reduce_mean(x, [1, 2])}

    @tf.function(input_signature=[spec([1, 12, 12, 3], tf.float32, "image")])
    def swish(image):
        x = tf.nn.conv2d(image, kernel, 1, "SAME")
        return {"y": x * tf.nn.relu6(x + 3) / 6}

    @tf.function(input_signature=[spec([1, 12, 12, 3], tf.float32, "image")])
    def odd(image):
        return {"y": tf.cos(tf.nn.conv2d(image, kernel, 1, "SAME"))}

    @tf.function(input_signature=[spec([1, 8], tf.float32, "x")])
    def loop(x):
        return {
            "y": tf.while_loop(lambda i, v: i < 4, lambda i, v: (i + 1, tf.tanh(v @ recurrent)), [0, x])[1]
        }

    @tf.function(input_signature=[spec([1, 16], tf.float32, "x")])
    def head(x):
        return {"y": x @ dense}

    wide, narrow = weights(16, 100), weights(100, 4)

    @tf.function(input_signature=[spec([1, 16], tf.float32, "x")])
    def sizes(x):
        return {"y": tf.nn.relu(x @ wide) @ narrow}

    long = weights(16, 40000)

    @tf.function(input_signature=[spec([1, 16], tf.float32, "x")])
    def big(x):
        return {"y": x @ long}

    @tf.function(input_signature=[spec([1, 16], tf.float32, "x")])
    def uniform(x):
        return {"p": tf.nn.softmax(0.1 * x @ wide)}

    @tf.function(input_signature=[spec([1, 16], tf.float32, "x")])
    def peaked(x):
        return {"p": tf.nn.softmax(4 * x @ wide)}

    @tf.function(input_signature=[spec([1, 12, 12, 3], tf.float32, "image")])
    def normalised(image):
        return {"y": tf.nn.conv2d(2 * image + tf.fill([3], -1.0), kernel, 1, "SAME")}

    @tf.function(input_signature=[spec([1, 12, 12, 3], tf.float32, "image")])
    def faint(image):
        return {"y": tf.nn.relu6(tf.nn.conv2d(image, 1e-6 * kernel, 1, "SAME"))}

    @tf.function(input_signature=[spec([1, 16], tf.float32, "x")])
    def chosen(x):
        p = tf.nn.softmax(4 * x @ wide)
        return {"best": tf.argmax(p, -1), "p": p}

    @tf.function(input_signature=[spec([1, 4], tf.float32, "x")])
    def half(x):
        return {"y": x / 2 + 2}

    @tf.function(input_signature=[spec([1, 4], tf.int32, "x")])
    def whole(x):
        return {"y": x * 3}

    @tf.function(input_signature=[spec([1, 2], tf.int64, "word"), spec([1, 16], tf.float32, "x")])
    def mixed(word, x):
        return {"y": tf.gather(tf.transpose(dense), word) + tf.reduce_sum(x @ dense)}

    made = {
        "cnn": {"serving_default": cnn}, "swish": {"serving_default": swish}, "odd": {"serving_default": odd},
        "loop": {"serving_default": loop}, "half": {"serving_default": half},
        "whole": {"serving_default": whole}, "mixed": {"serving_default": mixed},
        "faint": {"serving_default": faint},
        "chosen": {"serving_default": chosen},
        "normalised": {"serving_default": normalised},
        "uniform": {"serving_default": uniform}, "peaked": {"serving_default": peaked},
        "sizes": {"serving_default": sizes}, "big": {"serving_default": big},
        "two": {"head": head, "half": half},
    }  # fmt: skip
    paths: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in paths:
            paths[name] = saved(folder, name, **made[name])
        return paths[name]

    return get


@pytest.fixture
def quantized(tmp_path) -> Callable[..., tuple[Path, ConversionResult]]:
    count = 0

    def convert(
        path: Path,
        precision: str,
        *,
        calibration: Path | None = None,
        contract: Contract | None = None,
        **options: Any,
    ) -> tuple[Path, ConversionResult]:
        nonlocal count
        count += 1
        destination, scratch = tmp_path / f"{count}.tflite", tmp_path / f"scratch{count}"
        scratch.mkdir()
        source = Artifact(path, "tflite", "fp32", "", contract)
        job = ConversionJob(source, destination, precision, scratch, calibration, options)
        return destination, CONVERSION.convert(job)

    return convert


def images(count: int, seed: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"image": rng.uniform(-1, 1, (1, 12, 12, 3)).astype(np.float32)} for _ in range(count)]


@pytest.fixture
def calibration(tmp_path) -> Path:
    path = tmp_path / "calibration.npz"
    save_samples(path, images(20, 1))
    return path


def outputs(
    path: Path, contract: Contract | None, samples: list[dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    with RUNTIME.open(path, contract) as session:
        found = [session.infer(sample) for sample in samples]
    return {name: np.stack([one[name] for one in found]) for name in found[0]}


def signal_to_noise(reference: np.ndarray, value: np.ndarray) -> float:
    return float(10 * np.log10((reference**2).sum() / max(((reference - value) ** 2).sum(), 1e-30)))


def operators(path: Path) -> dict[str, int]:
    model = unpack(path.read_bytes())
    return {
        operator_name(model, operator): model.operatorCodes[operator.opcodeIndex].version
        for graph in model.subgraphs
        for operator in graph.operators
    }


def test_is_a_conversion_that_needs_no_tensorflow() -> None:
    assert isinstance(CONVERSION, Conversion)
    assert not any("tensorflow" in module for module in CONVERSION.preload)


class TestEachPrecision:
    @pytest.mark.parametrize(
        ("precision", "decibels", "size"),
        [("fp16", 60, 0.85), ("dynamic", 35, 0.75), ("int8", 25, 0.9), ("int16x8", 35, 1.0)],
    )
    def test_is_smaller_and_close_to_the_float_file(
        self, files, quantized, calibration, precision, decibels, size
    ) -> None:
        path, result = quantized(files("cnn"), precision, calibration=calibration)
        test = images(5, 77)
        reference, found = outputs(files("cnn"), None, test), outputs(path, result.contract, test)
        for name in reference:
            assert signal_to_noise(reference[name], found[name]) > decibels, name
        assert path.stat().st_size < size * files("cnn").stat().st_size + 2000
        assert [note for note in result.notes if "reference kernels" not in note] == []

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_keeps_logical_names_order_shapes_and_float_edges(
        self, files, quantized, calibration, precision
    ) -> None:
        with RUNTIME.open(files("cnn"), None) as session:
            before = Contract(session.inputs, session.outputs[::-1], labels=("a", "b"))
        path, result = quantized(files("cnn"), precision, calibration=calibration, contract=before)
        after = result.contract
        assert after.labels == ("a", "b")
        for old, new in zip((*before.inputs, *before.outputs), (*after.inputs, *after.outputs), strict=True):
            assert (old.name, old.shape, old.dtype) == (new.name, new.shape, new.dtype)
        graph = unpack(path.read_bytes()).subgraphs[0]
        inside = {tensor_name(tensor) for tensor in graph.tensors}
        assert {spec.inner_name for spec in (*after.inputs, *after.outputs)} <= inside

    def test_int8_computes_in_integers_throughout(self, files, quantized, calibration) -> None:
        path, _ = quantized(files("cnn"), "int8", calibration=calibration)
        model = unpack(path.read_bytes())
        graph = model.subgraphs[0]
        for operator in graph.operators:
            if operator_name(model, operator) not in ("QUANTIZE", "DEQUANTIZE"):
                assert {type_name(graph.tensors[i]) for i in operator.outputs} == {"int8"}

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_still_takes_another_batch(self, files, quantized, calibration, precision) -> None:
        path, result = quantized(files("cnn"), precision, calibration=calibration)
        with RUNTIME.open(path, result.contract) as session:
            batch = np.concatenate([sample["image"] for sample in images(3, 5)])
            assert session.infer({"image": batch})["logits"].shape == (3, 10)

    def test_the_same_input_gives_the_same_file(self, files, quantized, calibration) -> None:
        first, again = (quantized(files("cnn"), "int8", calibration=calibration)[0] for _ in range(2))
        assert first.read_bytes() == again.read_bytes()


class TestTheFile:
    def test_keeps_small_weights_float_in_dynamic_unless_all_are_small(self, files, quantized) -> None:
        def kinds(path: Path) -> list[str]:
            model = unpack(path.read_bytes())
            graph = model.subgraphs[0]
            dense = [o for o in graph.operators if operator_name(model, o) == "FULLY_CONNECTED"]
            return [type_name(graph.tensors[operator.inputs[1]]) for operator in dense]

        assert kinds(quantized(files("sizes"), "dynamic")[0]) == ["int8", "float32"]
        assert kinds(quantized(files("cnn"), "dynamic")[0]) == ["int8"]

    def test_states_versions_of_operators_that_old_runtimes_can_refuse(
        self, files, quantized, calibration
    ) -> None:
        assert operators(files("cnn"))["CONV_2D"] == 1
        found = {p: operators(quantized(files("cnn"), p, calibration=calibration)[0]) for p in PRECISIONS}
        assert found["dynamic"]["FULLY_CONNECTED"] == 12
        assert (found["dynamic"]["CONV_2D"], found["dynamic"]["DEPTHWISE_CONV_2D"]) == (5, 6)
        assert (found["int8"]["CONV_2D"], found["int8"]["FULLY_CONNECTED"]) == (3, 4)
        assert found["int8"]["DEPTHWISE_CONV_2D"] == 3
        assert found["fp16"]["DEQUANTIZE"] == 3

    def test_states_the_first_runtime_that_takes_it(self, files, quantized) -> None:
        path, _ = quantized(files("cnn"), "dynamic")
        model = unpack(path.read_bytes())
        [entry] = [entry for entry in model.metadata if entry.name == b"min_runtime_version"]
        assert bytes(model.buffers[entry.buffer].data).rstrip(b"\0") == b"2.17.0"

    def test_int16_sums_of_ranges_that_are_powers_of_two_run(self, files, quantized, tmp_path) -> None:
        # From [0, 1] over [0, 2] to [-1, 1], as images are normalised: there is a kernel for such scales,
        # which takes no sum with a finer scale than its operands.
        samples = [{"image": sample["image"].clip(0, None)} for sample in images(4, 1)]
        samples[0]["image"][0, 0, 0] = 1.0
        save_samples(tmp_path / "unit.npz", samples)
        path, result = quantized(files("normalised"), "int16x8", calibration=tmp_path / "unit.npz")
        exact = outputs(files("normalised"), None, samples)["y"]
        assert signal_to_noise(exact, outputs(path, result.contract, samples)["y"]) > 35

    def test_a_limit_that_is_far_above_all_values_runs_in_int16(self, files, quantized, calibration) -> None:
        # An untrained MobileNetV2: its signals are so faint that 6, counted in their steps, is no int32.
        path, result = quantized(files("faint"), "int16x8", calibration=calibration)
        exact = outputs(files("faint"), None, images(4, 2))["y"]
        assert signal_to_noise(exact, outputs(path, result.contract, images(4, 2))["y"]) > 25

    def test_dense_layers_use_all_steps_for_inputs_of_one_sign_in_kernels_of_old_runtimes_too(
        self, files, quantized
    ) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        def run(path: Path, x: np.ndarray) -> np.ndarray:
            # XNNPACK, which the smallest and oldest runtimes do not have, ignores what the file says of this.
            builtin = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            interpreter = Interpreter(str(path), experimental_op_resolver_type=builtin)
            interpreter.allocate_tensors()
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
            interpreter.invoke()
            return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))

        path, _ = quantized(files("big"), "dynamic")
        x = np.random.default_rng(0).uniform(0, 1, (1, 16)).astype(np.float32)
        exact, found = run(files("big"), x), run(path, x)
        with RUNTIME.open(path, None) as session:
            by_xnnpack = session.infer({"x": x})["y"]
        assert signal_to_noise(exact, found) > signal_to_noise(exact, by_xnnpack) - 1

    def test_has_one_scale_for_dense_layers_where_an_old_runtime_asks_for_it(self, files, quantized) -> None:
        path, _ = quantized(files("cnn"), "dynamic", per_channel_dense=False)
        model = unpack(path.read_bytes())
        graph = model.subgraphs[0]
        [operator] = [o for o in graph.operators if operator_name(model, o) == "FULLY_CONNECTED"]
        assert len(graph.tensors[operator.inputs[1]].quantization.scale) == 1
        assert operators(path)["FULLY_CONNECTED"] == 9

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_holds_its_constants_inside_and_aligned(self, files, quantized, precision) -> None:
        from ai_edge_litert.schema_py_generated import Model

        data = quantized(files("big"), precision)[0].read_bytes()
        assert len(data) > 256 * 1024, (
            "LiteRT Quantizer keeps the constants of smaller files inside by itself"
        )
        model = Model.GetRootAs(data, 0)
        for index in range(model.BuffersLength()):
            buffer = model.Buffers(index)
            assert (buffer.Offset(), buffer.Size()) == (0, 0)
            if buffer.DataLength():
                start = buffer._tab.Vector(buffer._tab.Offset(4))
                assert start % 16 == 0


class TestFilesOfOldConverters:
    def test_operator_codes_in_the_old_field_are_read(self, files, quantized, tmp_path) -> None:
        model = unpack(files("cnn").read_bytes())
        for code in model.operatorCodes:
            code.deprecatedBuiltinCode, code.builtinCode = code.builtinCode, 0
        model.signatureDefs = None
        old = tmp_path / "old.tflite"
        old.write_bytes(pack(model))
        path, result = quantized(old, "int8")
        assert "CONV_2D" in operators(path)
        assert not result.notes[1:]

    def test_tensors_may_share_a_name(self, files, quantized, tmp_path, calibration) -> None:
        model = unpack(files("cnn").read_bytes())
        graph = model.subgraphs[0]
        edges = (*graph.inputs, *graph.outputs)
        inner = [tensor for index, tensor in enumerate(graph.tensors) if index not in edges]
        for tensor in inner:
            tensor.name = b"same"
        shared = tmp_path / "shared.tflite"
        shared.write_bytes(pack(model))
        path, result = quantized(shared, "int8", calibration=calibration)
        plain, _ = quantized(files("cnn"), "int8", calibration=calibration)
        test = images(2, 8)
        for name, value in outputs(path, result.contract, test).items():
            np.testing.assert_array_equal(value, outputs(plain, None, test)[name])


class TestHonesty:
    def test_made_up_samples_are_said(self, files, quantized) -> None:
        _, result = quantized(files("cnn"), "int8")
        assert "random inputs" in result.notes[0]

    def test_findings_of_the_calibration_are_said(self, files, quantized, tmp_path) -> None:
        path = tmp_path / "few.npz"
        save_samples(path, images(2, 0))
        _, result = quantized(files("cnn"), "int8", calibration=path)
        assert any("2 calibration samples" in note for note in result.notes)

    def test_operators_that_stay_float_are_counted_and_named(self, files, quantized) -> None:
        _, result = quantized(files("odd"), "int8")
        [note] = [note for note in result.notes if "float32" in note]
        assert "1 of 2 operators" in note
        assert "1 COS" in note

    def test_int16_activations_are_said_to_be_slow(self, files, quantized) -> None:
        _, result = quantized(files("cnn"), "int16x8")
        assert any("reference kernels" in note for note in result.notes)
        _, result = quantized(files("cnn"), "int8")
        assert not any("reference kernels" in note for note in result.notes)

    def test_a_loop_stays_float_in_full_integer_precisions_and_is_said(self, files, quantized) -> None:
        rng = np.random.default_rng(0)
        test = [{"x": rng.normal(size=(1, 8)).astype(np.float32)}]
        reference = outputs(files("loop"), None, test)["y"]
        path, result = quantized(files("loop"), "dynamic")
        assert signal_to_noise(reference, outputs(path, result.contract, test)["y"]) > 25
        with pytest.raises(ConversionError, match="nothing in the model can be int8") as caught:
            quantized(files("loop"), "int8")
        assert "1 WHILE" in str(caught.value)

    def test_an_operator_without_int16_kernel_stays_float(self, files, quantized) -> None:
        assert "HARD_SWISH" in operators(files("swish"))
        path, result = quantized(files("swish"), "int16x8")
        assert any("1 HARD_SWISH" in note for note in result.notes)
        test = images(2, 3)
        reference = outputs(files("swish"), None, test)["y"]
        assert signal_to_noise(reference, outputs(path, result.contract, test)["y"]) > 35


class TestRefusals:
    @pytest.mark.parametrize("precision", ["fp16", "dynamic"])
    def test_a_model_without_weights_of_a_kind_that_shrinks(self, files, quantized, precision) -> None:
        with pytest.raises(ConversionError, match=f"nothing in the model can be {precision}") as caught:
            quantized(files("half"), precision)
        assert "ADD" in str(caught.value)

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_a_model_of_integers(self, files, quantized, precision) -> None:
        with pytest.raises(ConversionError, match="no float32 tensors"):
            quantized(files("whole"), precision)

    @pytest.mark.parametrize(
        ("made", "said"),
        [("fp16", "weights are float16"), ("dynamic", "dynamic range"), ("int8", "integers throughout")],
    )
    def test_a_model_that_is_quantized_already(self, files, quantized, made, said) -> None:
        path, _ = quantized(files("cnn"), made)
        for precision in PRECISIONS:
            with pytest.raises(ConversionError, match=f"quantized already.*{said}"):
                quantized(path, precision)

    def test_samples_with_nan(self, files, quantized, tmp_path) -> None:
        samples = images(12, 0)
        samples[3]["image"][0, 0, 0, 0] = np.nan
        path = tmp_path / "nan.npz"
        save_samples(path, samples)
        with pytest.raises(UsageError, match="sample 3"):
            quantized(files("cnn"), "int8", calibration=path)

    def test_samples_of_another_model(self, files, quantized, tmp_path) -> None:
        path = tmp_path / "other.npz"
        np.savez(path, image=np.zeros((3, 5, 5, 3), np.float32))
        with pytest.raises(UsageError, match="'image'"):
            quantized(files("cnn"), "int8", calibration=path)


class TestUnusualModels:
    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_an_output_that_an_operator_without_integer_kernel_reads_too(
        self, files, quantized, tmp_path, precision
    ) -> None:
        rng = np.random.default_rng(1)
        samples = [{"x": rng.normal(size=(1, 16)).astype(np.float32)} for _ in range(8)]
        save_samples(tmp_path / "x.npz", samples)
        path, result = quantized(files("chosen"), precision, calibration=tmp_path / "x.npz")
        assert [spec.dtype for spec in result.contract.outputs] == ["int64", "float32"]
        exact = outputs(files("chosen"), None, samples)
        # Straight from the file, too, whose signature may name other tensors than its graph.
        for contract in (result.contract, None):
            found = outputs(path, contract, samples)
            assert signal_to_noise(exact["p"], found["p"]) > 15
            assert (found["best"] == found["p"].argmax(-1)).all()

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_integer_inputs_beside_float_ones(self, files, quantized, precision) -> None:
        path, result = quantized(files("mixed"), precision)
        assert sorted(spec.dtype for spec in result.contract.inputs) == ["float32", "int64"]
        sample = {"word": np.array([[1, 3]], np.int64), "x": np.ones((1, 16), np.float32)}
        reference, found = (
            outputs(p, c, [sample])["y"] for p, c in ((files("mixed"), None), (path, result.contract))
        )
        assert signal_to_noise(reference, found) > 20

    @pytest.mark.parametrize("signature", ["head", "half"])
    def test_one_of_several_signatures_is_calibrated_and_the_others_still_run(
        self, files, quantized, signature
    ) -> None:
        with RUNTIME.open(files("two"), None, options={"signature": signature}) as session:
            contract = Contract(session.inputs, session.outputs, signature)
        path, result = quantized(files("two"), "int8", contract=contract)
        assert result.contract.signature == signature
        for other in ("head", "half"):
            sizes = 16 if other == "head" else 4
            sample = {"x": np.linspace(-1, 1, sizes, dtype=np.float32)[None]}
            found = []
            for file in (files("two"), path):
                with RUNTIME.open(file, None, options={"signature": other}) as session:
                    found.append(session.infer(sample)["y"])
            assert signal_to_noise(*found) > 25


@pytest.mark.corpus
@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_real_detector_of_an_old_converter(corpus, quantized, tmp_path, precision) -> None:
    source = corpus / "fz-facemask-ssd" / "face_mask_detection.tflite"
    golden = np.load(corpus / "golden" / "facemask-ssd.npz")
    image = next(golden[key] for key in golden.files if key.startswith("in__"))
    rng = np.random.default_rng(0)
    noisy = (image + rng.normal(0, scale, image.shape) for scale in np.linspace(0, 0.1, 10))
    samples = [{"data_1": np.clip(one, 0, 1).astype(np.float32)} for one in noisy]
    save_samples(tmp_path / "c.npz", samples)
    path, result = quantized(source, precision, calibration=tmp_path / "c.npz")
    reference, found = (
        outputs(p, c, [{"data_1": image}]) for p, c in ((source, None), (path, result.contract))
    )
    for name in reference:
        assert signal_to_noise(reference[name], found[name]) > 15
    assert any(
        is_constant(unpack(path.read_bytes()), t) for t in unpack(path.read_bytes()).subgraphs[0].tensors
    )


@pytest.mark.parametrize(("name", "kept_float"), [("uniform", True), ("peaked", False)])
def test_a_softmax_whose_values_int8_cannot_tell_apart_stays_float(
    files, quantized, tmp_path: Path, name: str, kept_float: bool
) -> None:
    rng = np.random.default_rng(2)
    samples = [{"x": rng.normal(0, 1, (1, 16)).astype(np.float32)} for _ in range(30)]
    save_samples(tmp_path / "calibration.npz", samples)
    path, result = quantized(files(name), "int8", calibration=tmp_path / "calibration.npz")
    model = unpack(path.read_bytes())
    graph = model.subgraphs[0]
    (softmax,) = (o for o in graph.operators if operator_name(model, o) == "SOFTMAX")
    assert (type_name(graph.tensors[softmax.outputs[0]]) == "float32") is kept_float
    assert any("steps of 1/256" in note for note in result.notes) is kept_float
    with RUNTIME.open(files(name), None) as before, RUNTIME.open(path, None) as after:
        for sample in samples[:5]:
            expected, found = before.infer(sample)["p"], after.infer(sample)["p"]
            assert np.abs(found - expected).max() < 0.1 * expected.max()
            assert found.max() > 0
