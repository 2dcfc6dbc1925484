"""What is said of an ONNX file, and what is said of one that is none any more."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeconv.errors import InvalidModelError
from edgeconv.formats._onnx_versions import onnx_limits
from edgeconv.formats._onnx_wire import looks_like_model, without_weights
from edgeconv.formats.base import Description
from edgeconv.formats.onnx import FORMAT

OPSET = 17


def floats(name: str, *shape: int) -> Any:
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def integers(name: str, values: list[int]) -> Any:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def value(name: str, shape: list[int | str | None], dtype: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, dtype, shape)


def model(
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    initializers: list[Any],
    *,
    opset: int = OPSET,
    ir_version: int = 8,
    domains: dict[str, int] | None = None,
    **more: Any,
) -> Any:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid(domain, version) for domain, version in (domains or {}).items()]
    made = helper.make_model(graph, opset_imports=imports, ir_version=ir_version, **more)
    made.producer_name, made.producer_version = "a test", "1.2"
    return made


def classifier(batch: int | str | None = "batch", features: int = 4) -> Any:
    """Convolution, pooling and a dense layer: 8*8*features*27 + features*5 multiply-accumulates."""
    return model(
        [
            helper.make_node("Conv", ["image", "kernel"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["p"]),
            helper.make_node("Reshape", ["p", "shape"], ["f"]),
            helper.make_node("MatMul", ["f", "dense"], ["logits"]),
        ],
        [value("image", [batch, 3, 8, 8])],
        [value("logits", [batch, 5])],
        [
            floats("kernel", features, 3, 3, 3),
            integers("shape", [-1, features]),
            floats("dense", features, 5),
        ],
    )


def saved(tmp_path: Path, proto: Any) -> Path:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.bin"
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    return path


def described(tmp_path: Path, proto: Any) -> Description:
    return FORMAT.describe(saved(tmp_path, proto))


def codes(said: Description) -> list[str]:
    return [finding.code for finding in said.findings]


def test_a_small_model_is_described_in_full(tmp_path: Path) -> None:
    said = described(tmp_path, classifier())
    (signature,) = said.signatures
    assert [(s.name, s.dtype, s.shape) for s in (*signature.inputs, *signature.outputs)] == [
        ("image", "float32", (None, 3, 8, 8)),
        ("logits", "float32", (None, 5)),
    ]
    assert said.parameters == 4 * 27 + 20
    assert said.macs == 64 * 4 * 27 + 20
    assert said.ops == {"Conv": 1, "GlobalAveragePool": 1, "MatMul": 1, "Relu": 1, "Reshape": 1}
    assert (said.producer, said.version) == ("a test 1.2", "IR 8, opset 17")
    assert said.metadata["precision"] == "fp32"
    assert said.metadata["opsets"] == {"ai.onnx": 17}
    assert said.findings == ()


def test_what_is_said_is_what_the_runtime_says(tmp_path: Path) -> None:
    import onnxruntime

    path = saved(tmp_path, classifier())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (signature,) = FORMAT.describe(path).signatures
    for spec, told in zip(
        (*signature.inputs, *signature.outputs), (*session.get_inputs(), *session.get_outputs()), strict=True
    ):
        assert spec.name == told.name
        assert list(spec.shape or ()) == [d if isinstance(d, int) else None for d in told.shape]


def test_inputs_that_are_initializers_are_no_inputs(tmp_path: Path) -> None:
    proto = classifier()
    proto.graph.input.append(value("kernel", [4, 3, 3, 3]))
    assert [spec.name for spec in described(tmp_path, proto).signatures[0].inputs] == ["image"]


def test_properties_functions_and_descriptions_are_told(tmp_path: Path) -> None:
    square = helper.make_function(
        "mine",
        "Square",
        ["a"],
        ["b"],
        [helper.make_node("Mul", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    proto = model(
        [
            helper.make_node("Square", ["x"], ["s"], domain="mine"),
            helper.make_node("MatMul", ["s", "w"], ["y"]),
        ],
        [value("x", ["n", 6])],
        [value("y", ["n", 5])],
        [floats("w", 6, 5)],
        domains={"mine": 1},
        functions=[square],
    )
    helper.set_model_props(proto, {"labels": "cat,dog"})
    proto.doc_string = "about"
    said = described(tmp_path, proto)
    assert said.metadata["functions"] == ["mine::Square"]
    assert said.metadata["properties"] == {"labels": "cat,dog"}
    assert said.metadata["description"] == "about"
    assert said.ops == {"MatMul": 1, "Mul": 1, "mine::Square": 1}
    assert said.macs == 30
    assert said.findings == ()


class TestFindings:
    def test_ops_of_unknown_domains_are_custom_and_qualified(self, tmp_path: Path) -> None:
        node = helper.make_node("Fancy", ["x"], ["y"], domain="acme")
        said = described(
            tmp_path, model([node], [value("x", [1])], [value("y", [1])], [], domains={"acme": 1})
        )
        assert said.ops == {"acme::Fancy": 1}
        assert codes(said) == ["custom-op"]

    def test_ops_that_a_converter_left_over_are_no_onnx_ops(self, tmp_path: Path) -> None:
        node = helper.make_node("Erfc", ["x"], ["y"])
        said = described(tmp_path, model([node], [value("x", [1])], [value("y", [1])], []))
        assert [(f.code, f.where) for f in said.findings] == [("unknown-op", "Erfc")]

    def test_an_op_that_its_opset_has_not_yet(self, tmp_path: Path) -> None:
        node = helper.make_node("Gelu", ["x"], ["y"])
        said = described(tmp_path, model([node], [value("x", [1])], [value("y", [1])], []))
        assert codes(said) == ["op-newer-than-opset"]

    @pytest.mark.parametrize(
        ("ir_version", "opset", "found"),
        [(13, 26, []), (14, 26, ["ir-too-new"]), (13, 27, ["opset-too-new"])],
    )
    def test_versions_that_the_installed_runtime_refuses(
        self, tmp_path: Path, ir_version: int, opset: int, found: list[str]
    ) -> None:
        import onnxruntime

        node = helper.make_node("Relu", ["x"], ["y"])
        proto = model([node], [value("x", [1])], [value("y", [1])], [], ir_version=ir_version, opset=opset)
        path = saved(tmp_path, proto)
        assert codes(FORMAT.describe(path)) == found
        try:
            onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            taken = True
        except Exception:
            taken = False
        assert taken == (not found)

    def test_the_limits_of_a_release_after_the_last_known_one_are_those_of_that(self) -> None:
        assert onnx_limits("1.16.3") == (9, 19)
        assert onnx_limits("1.20.0") == onnx_limits("1.19.2") == (10, 21)
        assert onnx_limits("1.40") == (13, 26)

    def test_the_limits_are_those_that_were_measured(self) -> None:
        from edgeconv.checking._onnx_tables import releases

        for release in releases():
            assert onnx_limits(release.version) == (release.limits.ir, release.limits.opsets["ai.onnx"])


class TestMultiplyAccumulates:
    def test_a_fixed_batch_counts_as_it_is(self, tmp_path: Path) -> None:
        assert described(tmp_path, classifier(batch=2)).macs == 2 * (64 * 4 * 27 + 20)

    def test_free_height_makes_the_count_unknown_and_says_where(self, tmp_path: Path) -> None:
        proto = classifier()
        proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
        said = described(tmp_path, proto)
        assert said.macs is None
        assert "Conv" in said.findings[0].message

    @pytest.mark.parametrize(
        ("node", "shapes", "macs"),
        [
            (helper.make_node("Gemm", ["x", "w"], ["y"], transA=1), ((6, 2), (6, 5)), 2 * 6 * 5),
            (helper.make_node("Gemm", ["x", "w"], ["y"], transB=1), ((2, 6), (5, 6)), 2 * 6 * 5),
            (helper.make_node("MatMul", ["x", "w"], ["y"]), ((3, 2, 6), (3, 6, 5)), 3 * 2 * 6 * 5),
            (helper.make_node("Conv", ["x", "w"], ["y"], group=2), ((1, 4, 5, 5), (6, 2, 3, 3)), 9 * 6 * 18),
            (helper.make_node("Conv", ["x", "w"], ["y"]), ((1, 4, 9), (6, 4, 3)), 7 * 6 * 12),
            (
                helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2]),
                ((1, 4, 5, 5), (4, 6, 3, 3)),
                100 * 6 * 9,
            ),
            (helper.make_node("Einsum", ["x", "w"], ["y"], equation="bij,jk->bik"), ((2, 3, 4), (4, 5)), 120),
        ],
    )
    def test_by_op(self, tmp_path: Path, node: Any, shapes: tuple[tuple[int, ...], ...], macs: int) -> None:
        x, w = shapes
        output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        assert (
            described(tmp_path, model([node], [value("x", list(x))], [output], [floats("w", *w)])).macs
            == macs
        )

    @pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
    def test_recurrent_ops_multiply_once_a_step(self, tmp_path: Path, op: str, gates: int) -> None:
        node = helper.make_node(op, ["x", "w", "r"], ["y"], hidden_size=7)
        weights = [floats("w", 1, gates * 7, 6), floats("r", 1, gates * 7, 7)]
        proto = model([node], [value("x", [5, 1, 6])], [value("y", [5, 1, 1, 7])], weights)
        assert described(tmp_path, proto).macs == 5 * gates * 7 * (6 + 7)

    @pytest.mark.parametrize(
        ("most", "limit", "carried", "macs"),
        [(100, 4, True, 4 * 36), (3, 4, True, 3 * 36), (100, 4, False, None)],
    )
    def test_a_loop_runs_as_often_as_its_counter_says(
        self, tmp_path: Path, most: int, limit: int, carried: bool, macs: int | None
    ) -> None:
        # The condition compares a carried counter with a constant, or else with an input.
        body = helper.make_graph(
            [
                helper.make_node("Add", ["i", "one"], ["next"]),
                helper.make_node("Less", ["next", "limit" if carried else "given"], ["go_on"]),
                helper.make_node("MatMul", ["state", "w"], ["after"]),
            ],
            "body",
            [value("round", [], 7), value("go", [], 9), value("i", [], 7), value("state", [1, 6])],
            [value("go_on", [], 9), value("next", [], 7), value("after", [1, 6])],
            [floats("w", 6, 6)],
        )
        scalars = {"most": most, "zero": 0, "one": 1, "limit": limit}
        initializers = [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in scalars.items()]
        initializers.append(numpy_helper.from_array(np.array(True), "true"))
        loop = helper.make_node("Loop", ["most", "true", "zero", "x"], ["last", "y"], body=body)
        inputs = [value("x", [1, 6])] + ([] if carried else [value("given", [], 7)])
        said = described(tmp_path, model([loop], inputs, [value("y", [1, 6])], initializers))
        assert said.macs == macs
        assert said.parameters == 36
        assert said.ops["MatMul"] == 1

    def test_the_dearer_branch_of_an_if_counts(self, tmp_path: Path) -> None:
        def branch(name: str, nodes: list[Any], weights: list[Any]) -> Any:
            return helper.make_graph(nodes, name, [], [value(f"{name}_y", [1, 6])], weights)

        cheap = branch("cheap", [helper.make_node("Relu", ["x"], ["cheap_y"])], [])
        dear = branch("dear", [helper.make_node("MatMul", ["x", "w"], ["dear_y"])], [floats("w", 6, 6)])
        node = helper.make_node("If", ["which"], ["y"], then_branch=cheap, else_branch=dear)
        proto = model([node], [value("x", [1, 6]), value("which", [], 9)], [value("y", [1, 6])], [])
        assert described(tmp_path, proto).macs == 36


class TestPrecision:
    def dense(self, tmp_path: Path, nodes: list[Any], weights: list[Any], dtype: int = 1) -> tuple[Any, Any]:
        proto = model(nodes, [value("x", [1, 6], dtype)], [value("y", [1, 5], dtype)], weights, opset=21)
        said = described(tmp_path, proto)
        return said.metadata["precision"], said.metadata.get("quantization_style")

    def test_half_floats(self, tmp_path: Path) -> None:
        half = numpy_helper.from_array(np.ones((6, 5), np.float16), "w")
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        assert self.dense(tmp_path, [node], [half], TensorProto.FLOAT16) == ("fp16", None)

    @pytest.mark.parametrize(
        ("activations", "precision"), [(np.uint8, "int8"), (np.int16, "int16x8"), (None, "dynamic")]
    )
    def test_between_quantize_and_dequantize(self, tmp_path: Path, activations: Any, precision: str) -> None:
        weights = [
            numpy_helper.from_array(np.ones((6, 5), np.int8), "wq"),
            numpy_helper.from_array(np.array(0.1, np.float32), "s"),
            numpy_helper.from_array(np.array(0, np.int8), "wz"),
        ]
        nodes = [helper.make_node("DequantizeLinear", ["wq", "s", "wz"], ["w"])]
        if activations is not None:
            weights.append(numpy_helper.from_array(np.array(0, activations), "xz"))
            nodes.append(helper.make_node("QuantizeLinear", ["x", "s", "xz"], ["xq"]))
            nodes.append(helper.make_node("DequantizeLinear", ["xq", "s", "xz"], ["xd"]))
        nodes.append(helper.make_node("MatMul", ["x" if activations is None else "xd", "w"], ["y"]))
        assert self.dense(tmp_path, nodes, weights) == (precision, "QDQ")

    @pytest.mark.slow
    def test_what_the_quantizer_of_onnx_runtime_writes(self, tmp_path: Path) -> None:
        from onnxruntime.quantization import (
            CalibrationDataReader,
            QuantFormat,
            quantize_dynamic,
            quantize_static,
        )

        class Zeros(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.left = 2

            def get_next(self) -> Any:
                self.left -= 1
                return {"image": np.zeros((1, 3, 8, 8), np.float32)} if self.left >= 0 else None

        source = saved(tmp_path, classifier())
        said: dict[str, tuple[Any, ...]] = {}
        for style in (QuantFormat.QDQ, QuantFormat.QOperator):
            target = tmp_path / f"{style}.onnx"
            quantize_static(str(source), str(target), Zeros(), quant_format=style, per_channel=True)
            one = FORMAT.describe(target)
            said[str(style)] = (one.metadata["precision"], one.metadata["quantization_style"], one.macs)
            assert one.parameters == 128
        quantize_dynamic(str(source), str(tmp_path / "dynamic.onnx"))
        one = FORMAT.describe(tmp_path / "dynamic.onnx")
        assert said == {"QDQ": ("int8", "QDQ", 6932), "QOperator": ("int8", "QOperator", 6932)}
        # The scales of the two weights lie in plain multiplications and so count as weights.
        assert (one.metadata["precision"], one.macs, one.parameters) == ("dynamic", 6932, 128 + 2)


class TestExternalData:
    def stored(self, tmp_path: Path, location: str = "weights.bin") -> Path:
        path = tmp_path / "model.onnx"
        onnx.save(
            classifier(),
            str(path),
            save_as_external_data=True,
            location="weights.bin",
            size_threshold=0,
            all_tensors_to_one_file=True,
        )
        if location != "weights.bin":
            proto = onnx.load(str(path), load_external_data=False)
            for tensor in proto.graph.initializer:
                for entry in tensor.external_data:
                    if entry.key == "location":
                        entry.value = location
            path.unlink()
            path.write_bytes(proto.SerializeToString())
        return path

    def test_it_belongs_to_the_model(self, tmp_path: Path) -> None:
        path = self.stored(tmp_path)
        said = FORMAT.describe(path)
        assert FORMAT.files(path) == [path, tmp_path / "weights.bin"]
        assert said.bytes == sum(file.stat().st_size for file in tmp_path.iterdir())
        assert said.metadata["external_data"] == ["weights.bin"]
        assert said.parameters == 128
        FORMAT.validate(path)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        path = self.stored(tmp_path)
        (tmp_path / "weights.bin").unlink()
        with pytest.raises(InvalidModelError, match=r"'weights\.bin' is not here") as raised:
            FORMAT.describe(path)
        assert raised.value.hint is not None
        with pytest.raises(InvalidModelError, match="is not here"):
            FORMAT.files(path)

    def test_a_file_that_is_too_short_is_named_with_the_tensor(self, tmp_path: Path) -> None:
        path = self.stored(tmp_path)
        os.truncate(tmp_path / "weights.bin", 100)
        with pytest.raises(InvalidModelError, match=r"100 bytes long, tensor '\w+' ends at byte \d+"):
            FORMAT.describe(path)

    @pytest.mark.parametrize(
        "location",
        ["/etc/passwd", "../outside.bin", "sub/../../outside.bin", "C:\\weights.bin", "..\\outside.bin", ""],
    )
    def test_names_that_lead_out_of_the_folder_are_refused(self, tmp_path: Path, location: str) -> None:
        inside = tmp_path / "inside"
        inside.mkdir()
        (tmp_path / "outside.bin").write_bytes(bytes(10_000))
        path = self.stored(inside, location)
        with pytest.raises(InvalidModelError, match="not beside the model"):
            FORMAT.describe(path)

    def test_a_link_that_leads_out_of_the_folder_is_refused(self, tmp_path: Path) -> None:
        inside = tmp_path / "inside"
        inside.mkdir()
        path = self.stored(inside)
        (inside / "weights.bin").rename(tmp_path / "outside.bin")
        (inside / "weights.bin").symlink_to(tmp_path / "outside.bin")
        with pytest.raises(InvalidModelError, match="not beside the model"):
            FORMAT.files(path)


class TestRecognition:
    def sure(self, tmp_path: Path, content: bytes) -> float:
        path = saved(tmp_path, content)
        return FORMAT.recognise(path, content[:4096])

    def test_models_large_and_small_in_any_order_of_fields(self, tmp_path: Path) -> None:
        large = classifier(features=400)
        assert self.sure(tmp_path, large.SerializeToString()) == 1
        opset, rest = onnx.ModelProto(), onnx.ModelProto()
        opset.opset_import.add().version = 17
        rest.CopyFrom(large)
        rest.ClearField("opset_import")
        assert self.sure(tmp_path, opset.SerializeToString() + rest.SerializeToString()) == 1

    def test_a_model_cut_off_within_its_graph_is_still_one(self, tmp_path: Path) -> None:
        assert self.sure(tmp_path, classifier().SerializeToString()[:300]) == 0.7

    @pytest.mark.parametrize(
        "content",
        [
            b"\x08\x01\x12\x04abcd",  # a SavedModel: version, then a MetaGraphDef
            b"\x0a\x10\x0a\x01x\x12\x0bPlaceholder",  # a GraphDef: a node first
            b"\x08\x07",
            b"\x08\x07\x12\x04test",
            b'{"format": "layers-model"}',
            b"PK\x03\x04" + bytes(40),
            b"\x89HDF\r\n\x1a\n" + bytes(40),
            b"\x1c\x00\x00\x00TFL3" + bytes(40),
            b"node {\n  name: 'x'\n}",
            bytes(64),
        ],
    )
    def test_other_files_are_none(self, tmp_path: Path, content: bytes) -> None:
        assert self.sure(tmp_path, content) == 0

    @settings(max_examples=300, deadline=None)
    @given(noise=st.binary(min_size=1, max_size=200))
    def test_noise_is_none(self, noise: bytes) -> None:
        assert looks_like_model(noise) in (0.0, 0.7)

    @pytest.mark.corpus
    def test_nothing_in_the_corpus_is_taken_for_onnx(self, corpus: Path) -> None:
        for path in sorted(corpus.rglob("*.*")):
            if path.is_file() and path.suffix in (
                ".pb",
                ".h5",
                ".keras",
                ".tflite",
                ".meta",
                ".index",
                ".pbtxt",
            ):
                with path.open("rb") as stream:
                    assert FORMAT.recognise(path, stream.read(4096)) == 0, path


class TestDamage:
    def test_an_ir_version_of_the_future_is_named(self, tmp_path: Path) -> None:
        proto = classifier()
        proto.ir_version = 99
        with pytest.raises(InvalidModelError, match="IR version 99, this release reads up to 14"):
            described(tmp_path, proto)

    def test_a_file_cut_off_at_any_byte_is_refused_in_one_line(self, tmp_path: Path) -> None:
        content = classifier().SerializeToString()
        for length in range(1, len(content)):
            with pytest.raises(InvalidModelError) as raised:
                described(tmp_path, content[:length])
            assert "\n" not in str(raised.value)

    def test_a_large_weight_of_the_wrong_size_is_named(self, tmp_path: Path) -> None:
        proto = classifier(features=400)
        proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-8]
        with pytest.raises(
            InvalidModelError, match="'kernel' has 43192 bytes where its shape and type need 43200"
        ):
            described(tmp_path, proto)

    def test_an_op_of_a_domain_that_is_not_imported_is_named(self, tmp_path: Path) -> None:
        proto = classifier()
        proto.graph.node[1].domain = "acme"
        with pytest.raises(InvalidModelError, match="op Relu is of the domain 'acme'"):
            described(tmp_path, proto)

    def test_a_function_that_calls_itself_ends(self, tmp_path: Path) -> None:
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
        call = helper.make_node("F", ["a"], ["b"], domain="mine")
        function = helper.make_function("mine", "F", ["a"], ["b"], [call], imports)
        node = helper.make_node("F", ["x"], ["y"], domain="mine")
        proto = model(
            [node], [value("x", [1])], [value("y", [1])], [], domains={"mine": 1}, functions=[function]
        )
        assert described(tmp_path, proto).ops == {"mine::F": 2}

    def test_bytes_nested_without_end_are_refused(self, tmp_path: Path) -> None:
        # A graph in an attribute of a node of a graph, a thousand times over.
        content = b"\x12" + _length(5000) + bytes(5000)
        for _ in range(1000):
            for field in (6, 5, 1):
                content = bytes([(field << 3) | 2]) + _length(len(content)) + content
        content = b"\x08\x08\x3a" + _length(len(content)) + content + b"\x42\x02\x10\x11"
        with pytest.raises(InvalidModelError, match="truncated or corrupt"):
            described(tmp_path, content)

    def test_an_invalid_attribute_fails_validation(self, tmp_path: Path) -> None:
        proto = classifier()
        proto.graph.node[0].attribute[0].name = "nonsense"
        with pytest.raises(InvalidModelError, match="nonsense"):
            FORMAT.validate(saved(tmp_path, proto))

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_flipped_bytes_end_in_a_description_or_in_one_line(self, tmp_path: Path, data: Any) -> None:
        content = bytearray(classifier().SerializeToString())
        for _ in range(data.draw(st.integers(1, 6))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path = tmp_path / "damaged"
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        message = ""
        try:
            FORMAT.recognise(path, bytes(content[:4096]))
            FORMAT.describe(path)
            FORMAT.validate(path)
        except InvalidModelError as error:
            message = str(error)
        assert "\n" not in message


def _length(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append((number & 0x7F) | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def test_only_the_values_of_large_tensors_are_left_out() -> None:
    proto = classifier(features=400)
    slim = onnx.ModelProto()
    slim.ParseFromString(without_weights(proto.SerializeToString()))
    assert slim.graph.initializer[0].raw_data == b""
    for tensor in proto.graph.initializer:
        if len(tensor.raw_data) > 4000:
            tensor.ClearField("raw_data")
    assert slim == proto


def test_a_file_of_100_mb_takes_less_than_half_a_second_and_no_tensorflow(tmp_path: Path) -> None:
    proto = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", ["n", 5000])],
        [value("y", ["n", 5000])],
        [floats("w", 5000, 5000)],
    )
    path = saved(tmp_path, proto)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = (
        "import sys, json; from pathlib import Path; from edgeconv.formats.onnx import FORMAT;"
        f"p = Path({str(path)!r}); s = FORMAT.recognise(p, p.open('rb').read(4096)); d = FORMAT.describe(p);"
        "print(json.dumps([s, d.macs, [m for m in ('tensorflow', 'onnxruntime') if m in sys.modules]]))"
    )
    answer = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert answer == [1.0, 25_000_000, []]
    # CPU seconds, because the machine may be busy with other tests.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.6
