"""What a float input can carry where the model quantizes it at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto, helper

from edgeconv.formats.onnx import FORMAT


@pytest.mark.parametrize("zero", [("uint8", 128, [-1.28, 1.27]), ("int8", 0, [-1.28, 1.27])])
def test_the_range_of_a_float_input_that_is_quantized_at_once_is_said(
    tmp_path: Path, zero: tuple[str, int, list[float]]
) -> None:
    dtype, point, expected = zero
    kind = {"uint8": TensorProto.UINT8, "int8": TensorProto.INT8}[dtype]
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
            helper.make_node("QuantizeLinear", ["t", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 2])],
        [helper.make_tensor("s", TensorProto.FLOAT, [], [0.01]), helper.make_tensor("z", kind, [], [point])],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 15)])
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert FORMAT.describe(path).metadata["input_ranges"]["x"] == pytest.approx(expected)
