"""What is said of a TFLite file, and what is said of one that is none any more."""

from __future__ import annotations

import json
import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tflite_builder import FLOAT, HALF, INT8, INT16, INT32, Builder, dense, with_labels

from edgeconv.errors import InvalidModelError
from edgeconv.formats._tflite_names import BUILTIN_OPERATORS, ELEMENT_TYPES
from edgeconv.formats.base import Description, Quantization
from edgeconv.formats.tflite import FORMAT

_ENUM = schema.BuiltinOperator


def described(tmp_path: Path, content: bytes) -> Description:
    # A new file each time: one that is mapped must not be rewritten.
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.bin"
    path.write_bytes(content)
    return FORMAT.describe(path)


def test_the_names_of_operators_and_types_are_those_of_the_installed_litert() -> None:
    operators = {code: name for name, code in vars(_ENUM).items() if isinstance(code, int)}
    types = {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
    assert dict(enumerate(BUILTIN_OPERATORS)) == operators
    assert {code: name.upper() for code, name in enumerate(ELEMENT_TYPES)} == types


def test_it_is_recognised_by_content_and_not_by_name(tmp_path: Path) -> None:
    content = dense().bytes()
    assert FORMAT.recognise(tmp_path / "weights.bin", content[:4096]) == 1
    assert FORMAT.recognise(tmp_path / "model.tflite", b"\x08\x01" * 20) == 0
    assert FORMAT.recognise(tmp_path / "model.tflite", b"TFL3") == 0


def test_a_small_model_is_described_in_full(tmp_path: Path) -> None:
    said = described(tmp_path, dense(batch_free=True).bytes())
    (signature,) = said.signatures
    assert signature.name == "serving_default"
    assert [(s.name, s.tensor, s.dtype, s.shape) for s in (*signature.inputs, *signature.outputs)] == [
        ("image", "image_in:0", "float32", (None, 6)),
        ("logits", "logits_out:0", "float32", (None, 5)),
    ]
    assert (said.parameters, said.macs) == (35, 30)
    assert said.ops == {"FULLY_CONNECTED": 1}
    assert said.version == "schema 3"
    assert said.producer == "built by a test"
    assert said.metadata["precision"] == "fp32"
    assert said.metadata["op_versions"] == {"FULLY_CONNECTED": [1]}
    assert said.findings == ()


def test_what_is_said_is_what_the_runtime_says(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    path = tmp_path / "model.tflite"
    path.write_bytes(dense(batch_free=True).bytes())
    interpreter = Interpreter(model_path=str(path))
    (detail,) = interpreter.get_input_details()
    (spec,) = FORMAT.describe(path).signatures[0].inputs
    assert (spec.tensor, spec.dtype) == (detail["name"], np.dtype(detail["dtype"]).name)
    assert [-1 if d is None else d for d in spec.shape or ()] == list(detail["shape_signature"])
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["image"], "outputs": ["logits"]}
    }


def test_without_a_signature_the_tensors_name_or_else_their_positions(
    tmp_path: Path,
) -> None:
    b = dense()
    b.model.signatureDefs = []
    b.model.subgraphs[0].tensors[3].name = ""
    (signature,) = described(tmp_path, b.bytes()).signatures
    assert signature.name == ""
    assert signature.inputs[0].name == signature.inputs[0].inner_name == "image_in:0"
    assert (signature.outputs[0].name, signature.outputs[0].inner_name) == ("output_0", "")


def test_several_signatures_are_all_there(tmp_path: Path) -> None:
    b = dense()
    b.signature("encode", {"in": 0}, {"out": 3})
    assert [s.name for s in described(tmp_path, b.bytes()).signatures] == ["serving_default", "encode"]


def test_quantization_of_inputs_and_per_channel_weights(tmp_path: Path) -> None:
    b = Builder()
    x = b.tensor("x", [1, 8, 8, 3], dtype=INT8, scale=[0.5], zero_point=[-3])
    w = b.tensor("w", [4, 3, 3, 3], dtype=INT8, data=np.ones((4, 3, 3, 3), np.int8), scale=[0.1] * 4)
    bias = b.tensor("b", [4], dtype=INT32, data=np.ones(4, np.int32), scale=[0.1] * 4)
    y = b.tensor("y", [1, 4, 4, 4], dtype=INT8, scale=[0.25])
    b.op(_ENUM.CONV_2D, [x, w, bias], [y], version=3)
    b.ends([x], [y])
    said = described(tmp_path, b.bytes())
    assert said.signatures[0].inputs[0].quantization == Quantization((0.5,), (-3,), None)
    assert said.metadata["precision"] == "int8"
    assert said.macs == 4 * 4 * 4 * 27
    assert said.parameters == 4 * 27 + 4
    assert said.findings == ()


def test_scales_along_a_dimension_that_is_not_there_are_found(tmp_path: Path) -> None:
    b = dense()
    b.tensor("odd", [5], dtype=INT32, data=np.ones(5, np.int32), scale=[0.1] * 5, axis=3)
    (finding,) = described(tmp_path, b.bytes()).findings
    assert (finding.code, finding.where) == ("quantized-dimension", "odd")


def test_flex_and_custom_ops_are_named_each(tmp_path: Path) -> None:
    b = dense()
    for kind in ("FlexRoll", "FlexErfinv", "TFLite_Detection_PostProcess"):
        b.op(kind, [3], [3])
    said = described(tmp_path, b.bytes())
    assert said.ops == {
        "FULLY_CONNECTED": 1, "flex:Roll": 1, "flex:Erfinv": 1, "custom:TFLite_Detection_PostProcess": 1
    }  # fmt: skip
    assert [(f.code, f.where) for f in said.findings] == [
        ("custom-op", "TFLite_Detection_PostProcess"), ("flex-op", "Erfinv"), ("flex-op", "Roll")
    ]  # fmt: skip


def test_an_operator_of_the_future_is_counted_under_its_code_and_found(tmp_path: Path) -> None:
    b = dense()
    b.op(1000, [3], [3])
    said = described(tmp_path, b.bytes())
    assert said.ops["BUILTIN_1000"] == 1
    assert [f.code for f in said.findings] == ["unknown-op"]


def test_a_buffer_that_tensors_share_is_counted_once(tmp_path: Path) -> None:
    b = dense()
    b.tensor("again", [5, 6], buffer=b.model.subgraphs[0].tensors[1].buffer)
    assert described(tmp_path, b.bytes()).parameters == 35


def test_weights_behind_the_tables_are_found_and_checked(tmp_path: Path) -> None:
    b = dense()
    b.model.buffers[1].data = None
    b.model.buffers[1].offset = b.model.buffers[1].size = 2
    tables = len(b.bytes())
    b.model.buffers[1].offset, b.model.buffers[1].size = tables, 120
    content = b.bytes()
    assert len(content) == tables
    assert described(tmp_path, content + bytes(120)).parameters == 35
    with pytest.raises(InvalidModelError, match="truncated or corrupt"):
        described(tmp_path, content + bytes(116))


class TestMultiplyAccumulates:
    def test_a_reshape_that_folds_a_dimension_into_the_batch_is_seen_through(self, tmp_path: Path) -> None:
        # The file stores [1, 6] for the free shape, as if there was one row; there are four to a sample.
        b = Builder()
        x = b.tensor("x", [1, 4, 6], signature=[-1, 4, 6])
        rows = b.tensor("rows", [1, 6], signature=[-1, 6])
        shape = b.tensor("shape", [2], dtype=INT32, data=np.array([-1, 6], np.int32))
        w = b.tensor("w", [5, 6], data=np.ones((5, 6), np.float32))
        y = b.tensor("y", [1, 5], signature=[-1, 5])
        b.op(_ENUM.RESHAPE, [x, shape], [rows])
        b.op(_ENUM.FULLY_CONNECTED, [rows, w, -1], [y])
        b.ends([x], [y])
        said = described(tmp_path, b.bytes())
        assert said.macs == 4 * 30
        assert said.parameters == 30

    def test_a_free_height_and_width_make_the_count_unknown(self, tmp_path: Path) -> None:
        b = Builder()
        x = b.tensor("x", [1, 1, 1, 3], signature=[-1, -1, -1, 3])
        w = b.tensor("w", [4, 3, 3, 3], data=np.ones((4, 3, 3, 3), np.float32))
        y = b.tensor("y", [1, 1, 1, 4], signature=[-1, -1, -1, 4])
        b.op(_ENUM.CONV_2D, [x, w, -1], [y])
        b.ends([x], [y])
        said = described(tmp_path, b.bytes())
        assert said.macs is None
        assert "CONV_2D" in next(f.message for f in said.findings if f.code == "macs-unknown")

    @pytest.mark.parametrize(("limit", "step", "macs"), [(5, 1, 5 * 36), (5, 2, None)])
    def test_a_loop_counts_as_often_as_its_counter_says(
        self, tmp_path: Path, limit: int, step: int, macs: int | None
    ) -> None:
        b = Builder()
        one = np.array([step], np.int32)
        counter = b.tensor("counter", [1], dtype=INT32, data=np.array([0], np.int32))
        x = b.tensor("x", [1, 6])
        last, y = b.tensor("last", [1], dtype=INT32), b.tensor("y", [1, 6])
        b.graph("cond")
        b.graph("body")
        i = b.tensor("i", [1], dtype=INT32, subgraph=1)
        b.tensor("v", [1, 6], subgraph=1)
        end = b.tensor("end", [1], dtype=INT32, data=np.array([limit], np.int32), subgraph=1)
        less = b.tensor("less", [1], dtype=6, subgraph=1)
        b.op(_ENUM.LESS, [i, end], [less], subgraph=1)
        b.ends([0, 1], [less], subgraph=1)
        i, v = b.tensor("i", [1], dtype=INT32, subgraph=2), b.tensor("v", [1, 6], subgraph=2)
        plus = b.tensor("plus", [1], dtype=INT32, data=one, subgraph=2)
        following = b.tensor("following", [1], dtype=INT32, subgraph=2)
        w = b.tensor("w", [6, 6], data=np.ones((6, 6), np.float32), subgraph=2)
        out = b.tensor("out", [1, 6], subgraph=2)
        b.op(_ENUM.ADD, [i, plus], [following], subgraph=2)
        b.op(_ENUM.FULLY_CONNECTED, [v, w, -1], [out], subgraph=2)
        b.ends([i, v], [following, out], subgraph=2)
        options = schema.WhileOptionsT()
        options.condSubgraphIndex, options.bodySubgraphIndex = 1, 2
        b.op(_ENUM.WHILE, [counter, x], [last, y], options=("WhileOptions", options))
        b.ends([x], [y])
        said = described(tmp_path, b.bytes())
        assert said.macs == macs
        assert said.metadata["subgraphs"] == 3

    def test_a_subgraph_that_runs_itself_ends(self, tmp_path: Path) -> None:
        b = dense()
        options = schema.IfOptionsT()
        options.thenSubgraphIndex = options.elseSubgraphIndex = 0
        b.op(_ENUM.IF, [0, 0], [3], options=("IfOptions", options))
        said = described(tmp_path, b.bytes())
        assert said.macs is None
        assert "runs itself" in said.findings[0].message


@pytest.mark.parametrize(
    ("data", "weights", "through_dequantize", "precision"),
    [
        (FLOAT, FLOAT, False, "fp32"),
        (FLOAT, HALF, True, "fp16"),
        (FLOAT, INT8, False, "dynamic"),
        (FLOAT, INT8, True, "dynamic"),
        (INT8, INT8, False, "int8"),
        (INT16, INT8, False, "int16x8"),
    ],
)
def test_the_precision_is_that_of_data_and_stored_weights(
    tmp_path: Path, data: int, weights: int, through_dequantize: bool, precision: str
) -> None:
    stored = {FLOAT: np.float32, HALF: np.float16, INT8: np.int8}[weights]
    b = Builder()
    x = b.tensor("x", [1, 6], dtype=data)
    w = b.tensor("w", [5, 6], dtype=weights, data=np.ones((5, 6), stored))
    if through_dequantize:
        wide = b.tensor("wide", [5, 6])
        b.op(_ENUM.DEQUANTIZE, [w], [wide])
        w = wide
    y = b.tensor("y", [1, 5], dtype=data)
    b.op(_ENUM.FULLY_CONNECTED, [x, w, -1], [y])
    b.ends([x], [y])
    assert described(tmp_path, b.bytes()).metadata["precision"] == precision


def test_int8_beside_float_ops_with_weights_is_mixed(tmp_path: Path) -> None:
    b = dense()
    x = b.tensor("qx", [1, 6], dtype=INT8)
    w = b.tensor("qw", [5, 6], dtype=INT8, data=np.ones((5, 6), np.int8))
    b.op(_ENUM.FULLY_CONNECTED, [x, w, -1], [b.tensor("qy", [1, 5], dtype=INT8)])
    assert described(tmp_path, b.bytes()).metadata["precision"] == "mixed"


def test_what_the_author_wrote_into_the_file_is_told(tmp_path: Path) -> None:
    metadata = described(tmp_path, with_labels()).metadata
    assert metadata["model"]["name"] == "a classifier"
    assert metadata["labels"] == ["cat", "dog"]
    assert metadata["normalisation"] == {"mean": [127.5], "std": [128.0]}
    assert metadata["associated_files"] == ["labels.txt"]
    assert metadata["min_runtime_version"] == "2.3.0"


class TestDamage:
    def test_a_schema_of_the_future_is_named(self, tmp_path: Path) -> None:
        b = dense()
        b.model.version = 4
        with pytest.raises(InvalidModelError, match="schema version 4, this release reads version 3"):
            described(tmp_path, b.bytes())

    def test_a_file_cut_off_at_any_byte_is_refused_in_one_line(self, tmp_path: Path) -> None:
        content = dense().bytes()
        for length in range(1, len(content)):
            with pytest.raises(InvalidModelError) as raised:
                described_at(tmp_path, content[:length])
            assert "\n" not in str(raised.value)

    def test_an_index_out_of_range_says_of_what(self, tmp_path: Path) -> None:
        b = dense()
        b.model.subgraphs[0].operators[0].inputs = [0, 77]
        with pytest.raises(InvalidModelError, match="tensor of FULLY_CONNECTED: index 77 of 4"):
            described(tmp_path, b.bytes())

    def test_a_vector_longer_than_the_file_costs_nothing(self, tmp_path: Path) -> None:
        content = bytearray(dense().bytes())
        # Every word becomes a huge length or offset in turn: each must be refused or ignored at once.
        for position in range(8, len(content) - 4, 4):
            damaged = bytearray(content)
            struct.pack_into("<I", damaged, position, 0x7FFFFFF0)
            tolerant(tmp_path, bytes(damaged))

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_flipped_bytes_end_in_a_description_or_in_one_line(self, tmp_path: Path, data: Any) -> None:
        content = bytearray(data.draw(st.sampled_from(_SAMPLES))())
        for _ in range(data.draw(st.integers(1, 6))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        tolerant(tmp_path, bytes(content))

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(noise=st.binary(max_size=400))
    def test_noise_behind_the_identifier_is_refused(self, tmp_path: Path, noise: bytes) -> None:
        tolerant(tmp_path, noise[:4].ljust(4, b"\0") + b"TFL3" + noise[4:])

    def test_a_constant_of_the_wrong_size_fails_validation(self, tmp_path: Path) -> None:
        b = dense()
        b.model.buffers[1].data = np.zeros(100, np.uint8)
        path = tmp_path / "m.tflite"
        path.write_bytes(b.bytes())
        with pytest.raises(InvalidModelError, match="has 100 bytes instead of 120"):
            FORMAT.validate(path)

    def test_an_operator_that_reads_too_early_fails_validation(self, tmp_path: Path) -> None:
        b = dense()
        late = b.tensor("late", [1, 6])
        b.model.subgraphs[0].operators[0].inputs = [late, 1, 2]
        path = tmp_path / "m.tflite"
        path.write_bytes(b.bytes())
        with pytest.raises(InvalidModelError, match="nothing has written before"):
            FORMAT.validate(path)

    def test_a_sound_model_passes_validation(self, tmp_path: Path) -> None:
        path = tmp_path / "m.tflite"
        path.write_bytes(with_labels())
        FORMAT.validate(path)
        assert FORMAT.files(path) == [path]


_SAMPLES: list[Callable[[], bytes]] = [lambda: dense().bytes(), with_labels]


def described_at(tmp_path: Path, content: bytes) -> Description:
    path = tmp_path / "damaged"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    FORMAT.recognise(path, content[:4096])
    return FORMAT.describe(path)


def tolerant(tmp_path: Path, content: bytes) -> None:
    """A description, or InvalidModelError of one line; anything else fails the test."""
    message = ""
    try:
        described_at(tmp_path, content)
        FORMAT.validate(tmp_path / "damaged")
    except InvalidModelError as error:
        message = str(error)
    assert "\n" not in message


def test_a_file_of_100_mb_takes_less_than_half_a_second_and_no_tensorflow(tmp_path: Path) -> None:
    b = dense()
    b.tensor("large", [25_000_000], buffer=b.buffer(bytes(100_000_000)))
    path = tmp_path / "large"
    path.write_bytes(b.bytes())
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = (
        "import sys, json; from pathlib import Path; from edgeconv.formats.tflite import FORMAT;"
        f"d = FORMAT.describe(Path({str(path)!r}));"
        "print(json.dumps([d.parameters, [m for m in ('tensorflow', 'numpy', 'ai_edge_litert') if m in"
        " sys.modules]]))"
    )
    answer = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert answer == [25_000_035, []]
    # CPU seconds, because the machine may be busy with other tests.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


@pytest.mark.corpus
@pytest.mark.parametrize(
    ("file", "parameters", "macs", "precision"),
    [
        ("sm-mlperftiny/kws/kws_ref_model.tflite", 22604, 2_656_768, "int8"),
        ("sm-mlperftiny/kws/kws_ref_model_float32.tflite", 22604, 2_656_768, "dynamic"),
        ("k-handgesture/model/keypoint_classifier/keypoint_classifier.tflite", 1103, 1070, "fp32"),
        ("inputs-tflm-speech-person/models/person_detect.tflite", 210706, 7_157_888, "int8"),
        ("inputs-tflm-speech-person/models/person_detect_vela.tflite", 268648, None, "int8"),
    ],
)
def test_real_files(corpus: Path, file: str, parameters: int, macs: int | None, precision: str) -> None:
    said = FORMAT.describe(corpus / file)
    assert (said.parameters, said.macs, said.metadata["precision"]) == (parameters, macs, precision)
    FORMAT.validate(corpus / file)


@pytest.mark.corpus
def test_every_tflite_file_of_the_corpus_is_recognised_and_described(corpus: Path) -> None:
    files = [p for p in sorted(corpus.rglob("*.tflite")) if p.stat().st_size > 200]
    assert files
    for path in files:
        with path.open("rb") as stream:
            assert FORMAT.recognise(path, stream.read(4096)) == 1
        said = FORMAT.describe(path)
        assert said.ops
        assert said.signatures[0].inputs


@pytest.mark.slow
def test_what_the_converter_writes(tmp_path: Path) -> None:
    """Precisions, signature, version and counts of files that TensorFlow's converter made of one model."""
    import tensorflow as tf

    class Net(tf.Module):
        def __init__(self) -> None:
            self.kernel = tf.Variable(np.random.default_rng(0).normal(size=(3, 3, 3, 16)).astype(np.float32))
            self.dense = tf.Variable(np.random.default_rng(1).normal(size=(1024, 10)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name="image")])
        def __call__(self, image: Any) -> Any:
            x = tf.nn.relu(tf.nn.conv2d(image, self.kernel, 1, "SAME"))
            return {"logits": tf.reshape(x, [-1, 1024]) @ self.dense, "inverse": tf.linalg.inv(image[..., 0])}

    net = Net()
    folder = str(tmp_path / "saved")
    tf.saved_model.save(net, folder, signatures={"serving_default": net.__call__})

    def converted(precision: str) -> Description:
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
        if precision != "fp32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "fp16":
            converter.target_spec.supported_types = [tf.float16]
        path = tmp_path / f"{precision}.tflite"
        path.write_bytes(converter.convert())
        FORMAT.validate(path)
        return FORMAT.describe(path)

    for precision in ("fp32", "fp16", "dynamic"):
        said = converted(precision)
        assert said.metadata["precision"] == precision
        assert said.producer == f"TensorFlow {tf.__version__}"
        assert said.macs == 64 * 27 * 16 + 10240
        assert said.parameters == 27 * 16 + 10240 + 16
        assert [s.name for s in said.signatures[0].inputs] == ["image"]
        assert sorted(s.name for s in said.signatures[0].outputs) == ["inverse", "logits"]
        assert [f.where for f in said.findings if f.code == "flex-op"] == ["MatrixInverse"]
