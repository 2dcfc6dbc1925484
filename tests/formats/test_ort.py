"""What is said of an ORT file: the same as of the ONNX model it was made from."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from edgeconv.errors import InvalidModelError
from edgeconv.formats.onnx import FORMAT as ONNX
from edgeconv.formats.ort import FORMAT


def floats(name: str, *shape: int) -> Any:
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def value(name: str, shape: list[int | str], dtype: int = 1) -> Any:
    return helper.make_tensor_value_info(name, dtype, shape)


def made(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any]) -> Any:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    proto.producer_name, proto.producer_version = "a test", "1.2"
    return proto


def classifier() -> Any:
    return made(
        [
            helper.make_node("Conv", ["image", "kernel"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["p"]),
            helper.make_node("Reshape", ["p", "shape"], ["f"]),
            helper.make_node("MatMul", ["f", "dense"], ["logits"]),
        ],
        [value("image", ["batch", 3, 8, 8])],
        [value("logits", ["batch", 5])],
        [
            floats("kernel", 4, 3, 3, 3),
            numpy_helper.from_array(np.array([-1, 4], np.int64), "shape"),
            floats("dense", 4, 5),
        ],
    )


def recurrent() -> Any:
    return made(
        [helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=7)],
        [value("x", [5, 1, 6])],
        [value("y", [5, 1, 1, 7])],
        [floats("w", 1, 21, 6), floats("r", 1, 21, 7)],
    )


def branching() -> Any:
    def branch(name: str, node: Any, weights: list[Any]) -> Any:
        return helper.make_graph([node], name, [], [value(f"{name}_y", [1, 6])], weights)

    cheap = branch("cheap", helper.make_node("Sin", ["x"], ["cheap_y"]), [])
    dear = branch("dear", helper.make_node("MatMul", ["x", "w"], ["dear_y"]), [floats("w", 6, 6)])
    node = helper.make_node("If", ["which"], ["y"], then_branch=cheap, else_branch=dear)
    return made([node], [value("x", [1, 6]), value("which", [], 9)], [value("y", [1, 6])], [])


def quantized() -> Any:
    weights = [
        numpy_helper.from_array(np.ones((6, 5), np.int8), "wq"),
        numpy_helper.from_array(np.array(0.1, np.float32), "s"),
        numpy_helper.from_array(np.array(0, np.int8), "z"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["wq", "s", "z"], ["w"]),
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("MatMul", ["xd", "w"], ["y"]),
    ]
    return made(nodes, [value("x", ["n", 6])], [value("y", ["n", 5])], weights)


def converted(folder: Path, proto: Any, level: str = "ORT_DISABLE_ALL") -> tuple[Path, Path]:
    """The ONNX file and the ORT file that ONNX Runtime made of it."""
    import onnxruntime

    source, target = folder / "model.onnx", folder / f"model.{level}.ort"
    onnx.save(proto, str(source))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return source, target


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return converted(tmp_path_factory.mktemp("sample"), classifier())[1].read_bytes()


@pytest.mark.parametrize("build", [classifier, recurrent, branching, quantized])
@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC"])
def test_it_says_the_same_as_the_onnx_model(tmp_path: Path, build: Any, level: str) -> None:
    source, target = converted(tmp_path, build(), level)
    before, after = ONNX.describe(source), FORMAT.describe(target)
    assert after.signatures == before.signatures
    assert after.macs == before.macs
    assert after.macs
    assert after.parameters == before.parameters
    assert after.ops == before.ops
    assert after.producer == before.producer == "a test 1.2"
    assert after.metadata["precision"] == before.metadata["precision"]
    assert after.metadata.get("quantization_style") == before.metadata.get("quantization_style")
    assert after.metadata["opsets"]["ai.onnx"] == 17
    assert re.fullmatch(r"ORT format \d+, IR 8, opset 17", after.version or "")
    FORMAT.validate(target)


def test_what_is_said_is_what_the_runtime_says(tmp_path: Path) -> None:
    import onnxruntime

    _, target = converted(tmp_path, classifier(), "ORT_ENABLE_EXTENDED")
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    (signature,) = FORMAT.describe(target).signatures
    assert [s.name for s in signature.inputs] == [i.name for i in session.get_inputs()]
    assert [s.name for s in signature.outputs] == [o.name for o in session.get_outputs()]
    assert signature.inputs[0].shape == (None, 3, 8, 8)


def test_fused_ops_count_as_what_they_were(tmp_path: Path) -> None:
    _, target = converted(tmp_path, classifier(), "ORT_ENABLE_EXTENDED")
    said = FORMAT.describe(target)
    assert said.ops["com.microsoft::FusedConv"] == 1
    assert said.macs == 64 * 4 * 27 + 20
    assert said.findings == ()


def test_ops_made_for_one_kind_of_processor_are_found(tmp_path: Path) -> None:
    _, target = converted(tmp_path, classifier(), "ORT_ENABLE_ALL")
    said = FORMAT.describe(target)
    special = any(op.startswith("com.microsoft.nchwc::") for op in said.ops)
    assert [f.code for f in said.findings] == (["hardware-specific"] if special else [])


def test_it_is_recognised_by_content_and_not_by_name(tmp_path: Path, sample: bytes) -> None:
    assert FORMAT.recognise(tmp_path / "weights.bin", sample[:4096]) == 1
    assert FORMAT.recognise(tmp_path / "model.ort", b"\x1c\x00\x00\x00TFL3") == 0
    assert FORMAT.recognise(tmp_path / "model.ort", b"ORTM") == 0


class TestDamage:
    def write(self, tmp_path: Path, content: bytes) -> Path:
        path = tmp_path / "damaged"
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        return path

    def test_a_format_of_the_future_is_named(self, tmp_path: Path, sample: bytes) -> None:
        version = json.dumps(FORMAT.describe(self.write(tmp_path, sample)).metadata["format_version"])
        length = (1).to_bytes(4, "little")
        assert sample.count(length + version.strip('"').encode() + b"\0") == 1
        newer = sample.replace(length + version.strip('"').encode() + b"\0", length + b"9\0")
        with pytest.raises(InvalidModelError, match="format version 9, this release reads up to 6"):
            FORMAT.describe(self.write(tmp_path, newer))

    def test_a_file_cut_off_at_any_byte_is_refused_in_one_line(self, tmp_path: Path, sample: bytes) -> None:
        for length in [*range(1, 200), *range(200, len(sample), 7), *range(len(sample) - 16, len(sample))]:
            with pytest.raises(InvalidModelError) as raised:
                FORMAT.describe(self.write(tmp_path, sample[:length]))
            assert "\n" not in str(raised.value)

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_flipped_bytes_end_in_a_description_or_in_one_line(
        self, tmp_path: Path, sample: bytes, data: Any
    ) -> None:
        content = bytearray(sample)
        for _ in range(data.draw(st.integers(1, 6))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path = self.write(tmp_path, bytes(content))
        message = ""
        try:
            FORMAT.describe(path)
            FORMAT.validate(path)
        except InvalidModelError as error:
            message = str(error)
        assert "\n" not in message


def test_no_runtime_is_needed(tmp_path: Path, sample: bytes) -> None:
    path = tmp_path / "model"
    path.write_bytes(sample)
    code = (
        "import sys, json; from pathlib import Path; from edgeconv.formats.ort import FORMAT;"
        f"d = FORMAT.describe(Path({str(path)!r}));"
        "print(json.dumps([d.macs, [m for m in ('tensorflow', 'onnxruntime', 'onnx', 'numpy') if m in"
        " sys.modules]]))"
    )
    answer = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert answer == [64 * 4 * 27 + 20, []]
