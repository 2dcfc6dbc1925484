"""The estimate of memory: what is alive at the same time, counted by hand on small graphs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tflite_builder import INT8, Builder, dense

from edgeconv.checking.memory import MemoryNeed, memory_need, most_alive

_ENUM = schema.BuiltinOperator


def chain(branch: bool) -> Builder:
    """x (400 B) → a (400) → b (400) → c (400); with a branch, c adds x's first relu to b."""
    b = Builder()
    x, a, c, d = (b.tensor(name, [1, 100]) for name in "xacd")
    b.op(_ENUM.RELU, [x], [a])
    b.op(_ENUM.RELU, [a], [c])
    b.op(_ENUM.ADD, [a, c] if branch else [c, c], [d])
    b.ends([x], [d])
    return b


def need(tmp_path: Path, content: bytes, format_name: str = "tflite", precision: str = "fp32") -> MemoryNeed:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.bin"
    path.write_bytes(content)
    found = memory_need(path, format_name, precision)
    assert found is not None
    return found


def test_a_tensor_lives_until_its_last_reader(tmp_path: Path) -> None:
    # The input lives on; beside it, two tensors at a time, or three where the branch keeps the first.
    assert need(tmp_path, chain(branch=False).bytes()).activations == 3 * 400
    assert need(tmp_path, chain(branch=True).bytes()).activations == 4 * 400


def test_weights_are_counted_once_and_packed_once_more(tmp_path: Path) -> None:
    said = need(tmp_path, dense().bytes())
    assert (said.weights, said.packed, said.activations) == (35 * 4, 35 * 4, 11 * 4)
    assert (said.least, said.total) == (35 * 4 + 44, 70 * 4 + 44)


def test_half_precision_weights_are_widened(tmp_path: Path) -> None:
    assert need(tmp_path, dense().bytes(), precision="fp16").packed == 2 * 35 * 4


def test_a_constant_that_two_tensors_share_is_one(tmp_path: Path) -> None:
    b = dense()
    b.tensor("again", [5, 6], buffer=b.model.subgraphs[0].tensors[1].buffer)
    assert need(tmp_path, b.bytes()).weights == 35 * 4


def test_small_types_are_counted_as_they_are(tmp_path: Path) -> None:
    b = Builder()
    x, y = b.tensor("x", [1, 100], dtype=INT8), b.tensor("y", [1, 100], dtype=INT8)
    b.op(_ENUM.RELU, [x], [y])
    b.ends([x], [y])
    assert need(tmp_path, b.bytes()).activations == 200


def test_what_a_branch_computes_lives_beside_its_caller(tmp_path: Path) -> None:
    b = Builder()
    condition, x, y = b.tensor("c", [1], dtype=6), b.tensor("x", [1, 100]), b.tensor("y", [1, 100])
    for index in (1, 2):
        b.graph(f"branch{index}")
        u, v, w = (b.tensor(name, [1, 1000], subgraph=index) for name in "uvw")
        b.op(_ENUM.RELU, [u], [v], subgraph=index)
        b.op(_ENUM.RELU, [v], [w], subgraph=index)
        b.ends([u], [w], subgraph=index)
    options = schema.IfOptionsT()
    options.thenSubgraphIndex, options.elseSubgraphIndex = 1, 2
    b.op(_ENUM.IF, [condition, x], [y], options=("IfOptions", options))
    b.ends([condition, x], [y])
    # Both branches are laid out; each has three tensors of 4000 bytes at its second op.
    assert need(tmp_path, b.bytes()).activations == 1 + 400 + 400 + 2 * 12_000


def test_a_graph_that_calls_itself_ends(tmp_path: Path) -> None:
    b = Builder()
    condition, x, y = b.tensor("c", [1], dtype=6), b.tensor("x", [1, 100]), b.tensor("y", [1, 100])
    options = schema.IfOptionsT()
    options.thenSubgraphIndex = options.elseSubgraphIndex = 0
    b.op(_ENUM.IF, [condition, x], [y], options=("IfOptions", options))
    b.ends([condition, x], [y])
    assert need(tmp_path, b.bytes()).activations == 801


def onnx_model(
    nodes: list[onnx.NodeProto], initializers: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]
) -> bytes:
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 100])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 100])],
        [numpy_helper.from_array(value, name) for name, value in initializers.items()],
    )  # fmt: skip
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("com.example", 1)],
        ir_version=8,
    )
    return bytes(model.SerializeToString())


def test_an_onnx_file_is_counted_at_batch_one(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    said = need(tmp_path, onnx_model(nodes, {"w": np.ones((100, 100), np.float32)}), "onnx")
    assert (said.weights, said.activations, said.unknown) == (40_000, 1_200, 0)


def test_what_onnxruntime_folds_or_fuses_is_no_activation(tmp_path: Path) -> None:
    quantized = {
        "w8": np.ones((100, 100), np.int8),
        "s": np.float32(0.1).reshape(()),
        "z": np.int8(0).reshape(()),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["x8"]),
        helper.make_node("DequantizeLinear", ["x8", "s", "z"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w8", "s", "z"], ["wf"]),
        helper.make_node("MatMul", ["xf", "wf"], ["af"]),
        helper.make_node("QuantizeLinear", ["af", "s", "z"], ["a8"]),
        helper.make_node("DequantizeLinear", ["a8", "s", "z"], ["y"]),
    ]
    said = need(tmp_path, onnx_model(nodes, quantized), "onnx", "int8")
    # The input (400) and the output (400) as floats, and a8 (100) while y is made.
    assert said.activations == 900


def test_a_tensor_of_unknown_shape_is_said_and_left_out(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Thing", ["x"], ["unknown"], domain="com.example"),
        helper.make_node("Add", ["x", "unknown"], ["y"]),
    ]
    said = need(tmp_path, onnx_model(nodes, {}), "onnx")
    assert (said.activations, said.unknown) == (800, 1)


def test_formats_without_a_planner_are_not_estimated(tmp_path: Path) -> None:
    assert memory_need(tmp_path / "model.keras", "keras", "fp32") is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 99)), max_size=12))
def test_the_peak_is_that_of_the_fullest_step(raw: list[tuple[int, int, int]]) -> None:
    lives = [(min(a, b), max(a, b), size) for a, b, size in raw]
    by_hand = max(sum(s for first, last, s in lives if first <= step <= last) for step in range(10))
    assert most_alive(10, lives) == by_hand


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_the_estimate_is_below_what_the_runtime_takes_and_near_it(tmp_path: Path, kind: str) -> None:
    """16 MB of weights and 8 MB of activations, run in a process of its own on this machine."""
    path = tmp_path / f"wide.{kind}"
    path.write_bytes(_wide_tflite() if kind == "tflite" else _wide_onnx())
    said = memory_need(path, kind, "fp32")
    assert said is not None
    script = Path(__file__).parents[2] / "benchmarks" / "memory.py"
    table = subprocess.run(
        [sys.executable, str(script), str(path)], capture_output=True, text=True, check=True
    )
    measured = float(table.stdout.splitlines()[-1].split("|")[-2]) * 1e6
    assert said.weights + said.activations <= measured <= said.total + 80e6


def _wide_tflite() -> bytes:
    b = Builder()
    x = b.tensor("x", [1, 2000])
    w = b.tensor(
        "w", [2000, 2000], data=np.random.default_rng(0).normal(size=(2000, 2000)).astype(np.float32)
    )
    bias = b.tensor("bias", [2000], data=np.zeros(2000, np.float32))
    y = b.tensor("y", [1, 2000])
    b.op(
        _ENUM.FULLY_CONNECTED,
        [x, w, bias],
        [y],
        options=("FullyConnectedOptions", schema.FullyConnectedOptionsT()),
    )
    b.ends([x], [y])
    return b.bytes()


def _wide_onnx() -> bytes:
    weights = np.random.default_rng(0).normal(size=(2000, 2000)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2000])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2000])],
        [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    return bytes(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8
        ).SerializeToString()
    )
