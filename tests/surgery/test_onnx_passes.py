"""Each ONNX rewrite leaves the function as it was and the graph as its docstring shows it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.surgery.onnx_fold_constants import fold_constants
from edgeconv.surgery.onnx_fuse_batch_norm import fuse_batch_norm
from edgeconv.surgery.onnx_initializers import put_initializers, take_initializers, write_model
from edgeconv.surgery.onnx_name_interface import name_constant_outputs, name_interface
from edgeconv.surgery.onnx_remove_unused import remove_unused
from edgeconv.surgery.onnx_sort_nodes import sort_nodes


def model_of(
    nodes: list[Any],
    constants: dict[str, np.ndarray],
    inputs: dict[str, tuple[int, ...]],
    outputs: dict[str, tuple[int, ...]],
) -> Any:
    def values(shapes: dict[str, tuple[int, ...]]) -> list[Any]:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]

    graph = helper.make_graph(
        nodes,
        "test",
        values(inputs),
        values(outputs),
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def run(model: Any, **feeds: np.ndarray) -> list[np.ndarray]:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    result: list[np.ndarray] = session.run(None, feeds)
    return result


def ops(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


def floats(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.normal(size=shape).astype(np.float32)


def test_a_weight_that_is_only_moved_is_moved_at_once(random: np.random.Generator) -> None:
    model = model_of(
        [
            helper.make_node("Reshape", ["w", "shape"], ["r"]),
            helper.make_node("Transpose", ["r"], ["t"], perm=[1, 0]),
            helper.make_node("Sqrt", ["s"], ["q"]),
            helper.make_node("MatMul", ["x", "t"], ["m"]),
            helper.make_node("Mul", ["m", "q"], ["y"]),
        ],
        {
            "w": floats(random, 12),
            "shape": np.array([3, -1]),
            "s": np.abs(floats(random, 3)),
        },
        {"x": (2, 4)},
        {"y": (2, 3)},
    )
    x = floats(random, 2, 4)
    before = run(model, x=x)
    constants = take_initializers(model)
    assert fold_constants(model, constants) == 3
    assert set(constants) == {"t", "q"}, "what was only a step on the way is given back"
    put_initializers(model, constants)
    assert ops(model) == ["MatMul", "Mul"]
    np.testing.assert_allclose(run(model, x=x)[0], before[0], rtol=1e-6)


def test_random_numbers_and_quantized_weights_are_not_folded(random: np.random.Generator) -> None:
    model = model_of(
        [
            helper.make_node("DequantizeLinear", ["q", "scale"], ["w"]),
            helper.make_node("RandomNormalLike", ["z"], ["n"]),
            helper.make_node("Add", ["w", "n"], ["a"]),
            helper.make_node("Add", ["x", "a"], ["y"]),
        ],
        {"q": np.zeros(4, np.int8), "scale": np.array(0.5, np.float32), "z": floats(random, 4)},
        {"x": (4,)},
        {"y": (4,)},
    )
    assert fold_constants(model, take_initializers(model)) == 0


def test_a_fill_that_would_blow_up_the_file_is_not_folded() -> None:
    model = model_of(
        [helper.make_node("Expand", ["v", "shape"], ["e"]), helper.make_node("Add", ["x", "e"], ["y"])],
        {"v": np.ones(1, np.float32), "shape": np.array([1024, 1024])},
        {"x": (1, 1)},
        {"y": (1024, 1024)},
    )
    assert fold_constants(model, take_initializers(model)) == 0


@settings(max_examples=25, deadline=None)
@given(
    groups=st.sampled_from([1, 2]),
    transposed=st.booleans(),
    bias=st.booleans(),
    following=st.lists(st.sampled_from(["BatchNormalization", "Mul", "Add", "Sub", "Div"]), max_size=3),
    seed=st.integers(0, 1000),
)
def test_arithmetic_behind_a_convolution_goes_into_its_weights(
    groups: int, transposed: bool, bias: bool, following: list[str], seed: int
) -> None:
    random = np.random.default_rng(seed)
    channels, given_channels = 4, 6
    shape = (
        (given_channels, channels // groups, 3, 3)
        if transposed
        else (channels, given_channels // groups, 3, 3)
    )
    constants = {"w": floats(random, *shape)}
    if bias:
        constants["b"] = floats(random, channels)
    op = "ConvTranspose" if transposed else "Conv"
    nodes = [helper.make_node(op, ["x", "w", *(["b"] if bias else [])], ["t0"], group=groups)]
    for index, kind in enumerate(following):
        names = [f"c{index}{letter}" for letter in "abcd"]
        if kind == "BatchNormalization":
            values = [floats(random, channels) for _ in range(3)] + [random.uniform(0.5, 2, channels)]
            constants.update({n: v.astype(np.float32) for n, v in zip(names, values, strict=True)})
            nodes.append(helper.make_node(kind, [f"t{index}", *names], [f"t{index + 1}"], epsilon=1e-3))
        else:
            constants[names[0]] = random.uniform(0.5, 2, (1, channels, 1, 1)).astype(np.float32)
            nodes.append(helper.make_node(kind, [f"t{index}", names[0]], [f"t{index + 1}"]))
    nodes.append(helper.make_node("Relu", [f"t{len(following)}"], ["y"]))
    size = 7 if transposed else 3
    model = model_of(nodes, constants, {"x": (1, given_channels, 5, 5)}, {"y": (1, channels, size, size)})
    x = floats(random, 1, given_channels, 5, 5)
    before = run(model, x=x)[0]
    taken = take_initializers(model)
    assert fuse_batch_norm(model, taken) == len(following)
    put_initializers(model, taken)
    assert ops(model) == [op, "Relu"]
    np.testing.assert_allclose(run(model, x=x)[0], before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("reason", ["also_read", "not_per_channel", "reversed", "an_output"])
def test_what_is_no_arithmetic_per_channel_is_left(random: np.random.Generator, reason: str) -> None:
    follow = {
        "also_read": [helper.make_node("Add", ["t", "c"], ["u"]), helper.make_node("Add", ["t", "u"], ["y"])],
        "not_per_channel": [helper.make_node("Add", ["t", "spatial"], ["y"])],
        "reversed": [helper.make_node("Div", ["c", "t"], ["y"])],
        "an_output": [helper.make_node("Add", ["t", "c"], ["y"])],
    }[reason]
    outputs = {"y": (1, 4, 3, 3)} | ({"t": (1, 4, 3, 3)} if reason == "an_output" else {})
    model = model_of(
        [helper.make_node("Conv", ["x", "w"], ["t"]), *follow],
        {"w": floats(random, 4, 2, 1, 1), "c": floats(random, 4, 1, 1), "spatial": floats(random, 3, 3)},
        {"x": (1, 2, 3, 3)},
        outputs,
    )
    assert fuse_batch_norm(model, take_initializers(model)) == 0


def test_weights_that_two_convolutions_share_stay_whole_for_the_other(random: np.random.Generator) -> None:
    model = model_of(
        [
            helper.make_node("Conv", ["x", "w"], ["a"]),
            helper.make_node("Mul", ["a", "c"], ["y"]),
            helper.make_node("Conv", ["x", "w"], ["z"]),
        ],
        {"w": floats(random, 4, 2, 1, 1), "c": floats(random, 4, 1, 1)},
        {"x": (1, 2, 3, 3)},
        {"y": (1, 4, 3, 3), "z": (1, 4, 3, 3)},
    )
    x = floats(random, 1, 2, 3, 3)
    before = run(model, x=x)
    constants = take_initializers(model)
    assert fuse_batch_norm(model, constants) == 1
    put_initializers(model, constants)
    for old, new in zip(before, run(model, x=x), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-6)


def test_unused_nodes_weights_and_identities_go() -> None:
    model = model_of(
        [
            helper.make_node("Relu", ["x"], ["r"]),
            helper.make_node("Identity", ["r"], ["i"]),
            helper.make_node("Abs", ["r"], ["unused"]),
            helper.make_node("Add", ["i", "c"], ["y"]),
        ],
        {"c": np.ones(2, np.float32), "left": np.ones(2, np.float32)},
        {"x": (2,)},
        {"y": (2,)},
    )
    constants = take_initializers(model)
    assert remove_unused(model, constants) == 2
    assert ops(model) == ["Relu", "Add"]
    assert set(constants) == {"c"}


def test_the_interface_has_the_names_order_and_shapes_of_the_contract() -> None:
    model = model_of(
        [helper.make_node("Relu", ["in:0"], ["image"]), helper.make_node("Abs", ["image"], ["out:0"])],
        {},
        {"in:0": (1, 2)},
        {"out:0": (1, 2)},
    )
    contract = Contract(
        inputs=(TensorSpec("image", "float32", (None, 2)), TensorSpec("unused", "int32", (3,))),
        outputs=(TensorSpec("result", "float32", (None, 2)),),
    )
    name_interface(model, {}, contract, {"image": "in:0", "result": "out:0", "unused": "gone:0"})
    assert [value.name for value in model.graph.input] == ["image", "unused"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    onnx.checker.check_model(model)
    x = np.array([[-1.0, 2.0]], np.float32)
    unused = np.zeros(3, np.int32)
    np.testing.assert_array_equal(run(model, image=x, unused=unused)[0], [[0.0, 2.0]])


def test_an_output_that_is_a_constant_gets_a_node() -> None:
    model = model_of([], {"y": np.array([3.0], np.float32)}, {"x": (1,)}, {"y": (1,)})
    constants = take_initializers(model)
    name_constant_outputs(model, constants)
    put_initializers(model, constants)
    onnx.checker.check_model(model)
    assert run(model, x=np.zeros(1, np.float32))[0].tolist() == [3.0]


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(5)))
def test_nodes_in_any_order_are_sorted_to_one_that_runs(order: list[int]) -> None:
    chain = [helper.make_node("Relu", [f"t{i}" if i else "x"], [f"t{i + 1}"]) for i in range(5)]
    model = model_of([chain[i] for i in order], {}, {"x": (1,)}, {"t5": (1,)})
    assert sort_nodes(model) == (order != sorted(order))
    onnx.checker.check_model(model)


def test_a_cycle_is_no_graph() -> None:
    model = model_of(
        [helper.make_node("Add", ["x", "b"], ["a"], name="first"), helper.make_node("Relu", ["a"], ["b"])],
        {},
        {"x": (1,)},
        {"b": (1,)},
    )
    with pytest.raises(ValueError, match="first"):
        sort_nodes(model)


@settings(max_examples=30, deadline=None)
@given(
    arrays=st.dictionaries(
        st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=8),
        st.tuples(
            st.sampled_from(["float32", "float16", "int64", "int8", "bool", "float64", "uint8"]),
            st.lists(st.integers(0, 4), max_size=3),
        ),
        min_size=1,
        max_size=5,
    ),
    external=st.booleans(),
)
def test_written_weights_are_read_back_bit_by_bit(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, tuple[str, list[int]]], external: bool
) -> None:
    random = np.random.default_rng(1)
    constants = {
        name: (random.normal(size=shape) * 50).astype(dtype) for name, (dtype, shape) in arrays.items()
    }
    constants["large"] = floats(random, 40, 40)
    path = tmp_path_factory.mktemp("written") / "m.onnx"
    write_model(
        model_of([helper.make_node("Relu", ["x"], ["y"])], {}, {"x": (1,)}, {"y": (1,)}),
        dict(constants),
        path,
        external_from=0 if external else 1 << 40,
    )
    assert path.with_name("m.onnx.data").exists() == external
    onnx.checker.check_model(str(path))
    read = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(str(path)).graph.initializer}
    assert set(read) == set(constants)
    for name, value in constants.items():
        assert read[name].dtype == value.dtype
        np.testing.assert_array_equal(read[name], value)


def test_the_same_model_is_written_in_the_same_bytes(tmp_path: Path, random: np.random.Generator) -> None:
    weights = {"b": floats(random, 3), "a": floats(random, 2)}
    for name, names in (("1", ["a", "b"]), ("2", ["b", "a"])):
        model = model_of([helper.make_node("Relu", ["x"], ["y"])], {}, {"x": (1,)}, {"y": (1,)})
        write_model(model, {key: weights[key] for key in names}, tmp_path / name)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
