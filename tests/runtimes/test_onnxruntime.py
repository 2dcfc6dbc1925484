"""ONNX Runtime behind the common verbs: checked inputs, named outputs, errors a person can act on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeconv.errors import ConversionError, EdgeconvError, InvalidModelError, UnavailableError, UsageError
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.runtimes.base import Runtime
from edgeconv.runtimes.onnxruntime import RUNTIME


def save(
    path: Path,
    nodes: list[Any],
    *,
    inputs: dict[str, list[int | str]],
    outputs: tuple[str, ...] = ("y",),
    elem_type: int = TensorProto.FLOAT,
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 17,
    ir_version: int = 8,
    domain: str = "",
) -> Path:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, elem_type, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, elem_type, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def doubled(tmp_path: Path) -> Path:
    """``y = 2 · (a - b)``, ``z = a - b``; the batch is open."""
    return save(
        tmp_path / "m.onnx",
        [helper.make_node("Sub", ["a", "b"], ["z"]), helper.make_node("Add", ["z", "z"], ["y"])],
        inputs={"a": ["batch", 2], "b": ["batch", 2]},
        outputs=("y", "z"),
    )


def test_a_session_is_called_like_a_function(doubled: Path) -> None:
    with RUNTIME.open(doubled, None) as session:
        found = session({"a": np.float32([[3, 4]]), "b": np.float32([[1, 1]])})
    np.testing.assert_array_equal(found["y"], [[4, 6]])


def test_it_is_a_runtime_for_both_formats() -> None:
    assert isinstance(RUNTIME, Runtime)
    assert RUNTIME.formats == ("onnx", "ort")


def test_importing_the_runtime_imports_nothing_heavy() -> None:
    script = (
        "import sys, edgeconv.runtimes.onnxruntime\n"
        "print([m for m in ('onnxruntime', 'onnx', 'numpy', 'tensorflow') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_outputs_come_by_name_in_the_order_of_the_contract(doubled: Path) -> None:
    contract = Contract(
        inputs=(
            TensorSpec("right", "float32", (None, 2), "b"),
            TensorSpec("left", "float32", (None, 2), "a"),
        ),
        outputs=(
            TensorSpec("difference", "float32", (None, 2), "z"),
            TensorSpec("twice", "float32", None, "y"),
        ),
    )
    with RUNTIME.open(doubled, contract) as session:
        result = session.infer(
            {"left": np.full((3, 2), 5, np.float32), "right": np.full((3, 2), 1, np.float32)}
        )
    assert list(result) == ["difference", "twice"]
    assert result["difference"].tolist() == [[4.0, 4.0]] * 3
    assert result["twice"].tolist() == [[8.0, 8.0]] * 3


def test_without_a_contract_the_file_says_names_and_shapes(doubled: Path) -> None:
    with RUNTIME.open(doubled, None) as session:
        assert session.inputs[0] == TensorSpec("a", "float32", (None, 2))
        assert [spec.name for spec in session.outputs] == ["y", "z"]


GOOD = {"a": np.zeros((1, 2), np.float32), "b": np.zeros((1, 2), np.float32)}


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"a": GOOD["a"]}, "missing inputs: b"),
        (GOOD | {"c": GOOD["a"]}, "unknown inputs: c"),
        (GOOD | {"a": np.zeros((1, 2))}, "'a' is float64"),
        (GOOD | {"a": np.zeros((1, 1, 2), np.float32)}, r"shape \[1, 1, 2\]"),
        (GOOD | {"a": np.zeros((1, 3), np.float32)}, r"takes \[\?, 2\]"),
    ],
)
def test_wrong_inputs_are_refused_before_the_runtime_sees_them(
    doubled: Path, inputs: dict[str, np.ndarray], says: str
) -> None:
    with RUNTIME.open(doubled, None) as session, pytest.raises(UsageError, match=says):
        session.infer(inputs)


def test_what_only_the_runtime_can_notice_names_the_node(doubled: Path, capfd: Any) -> None:
    with RUNTIME.open(doubled, None) as session, pytest.raises(ConversionError):
        session.infer({"a": np.zeros((2, 2), np.float32), "b": np.zeros((3, 2), np.float32)})
    assert capfd.readouterr() == ("", ""), "the runtime itself prints nothing"


def test_inner_tensors_can_be_fetched(doubled: Path) -> None:
    contract = Contract(
        inputs=(TensorSpec("a", "float32", (None, 2)), TensorSpec("b", "float32", (None, 2))),
        outputs=(TensorSpec("y", "float32", (None, 2)),),
    )
    with RUNTIME.open(doubled, contract, options={"fetch": ["z"]}) as session:
        result = session.infer(GOOD | {"a": np.ones((1, 2), np.float32)})
        assert result["z"].tolist() == [[1.0, 1.0]]
        assert result["y"].tolist() == [[2.0, 2.0]]
    with pytest.raises(UsageError, match="no tensor 'zz'"):
        RUNTIME.open(doubled, contract, options={"fetch": ["zz"]})


def test_an_unknown_op_is_named_with_its_domain(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx",
        [helper.make_node("Fancy", ["x"], ["y"], name="here", domain="my.ops")],
        inputs={"x": [1]},
        domain="my.ops",
    )
    with pytest.raises(ConversionError, match=r"my\.ops") as caught:
        RUNTIME.open(path, None)
    assert "Fancy" in str(caught.value)
    assert caught.value.hint


def test_an_op_of_no_opset_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [helper.make_node("Erfc", ["x"], ["y"])], inputs={"x": [1]})
    with pytest.raises(ConversionError, match="no op Erfc"):
        RUNTIME.open(path, None)


@pytest.mark.parametrize(("opset", "ir_version", "says"), [(99, 8, "opset"), (17, 99, "IR version")])
def test_a_file_of_the_future_says_so(tmp_path: Path, opset: int, ir_version: int, says: str) -> None:
    path = save(
        tmp_path / "m.onnx",
        [helper.make_node("Relu", ["x"], ["y"])],
        inputs={"x": [1]},
        opset=opset,
        ir_version=ir_version,
    )
    with pytest.raises(ConversionError, match=f"{says} is newer") as caught:
        RUNTIME.open(path, None)
    assert caught.value.hint


def test_a_file_cut_short_is_invalid(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx",
        [helper.make_node("Add", ["x", "w"], ["y"])],
        inputs={"x": [1000]},
        weights={"w": np.ones(1000, np.float32)},
    )
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InvalidModelError, match="broken or cut short"):
        RUNTIME.open(path, None)


def test_external_data_is_read_beside_the_model_and_missed_by_name(tmp_path: Path) -> None:
    path = save(
        tmp_path / "plain.onnx",
        [helper.make_node("Add", ["x", "w"], ["t"]), helper.make_node("Relu", ["t"], ["y"])],
        inputs={"x": [1000]},
        weights={"w": np.ones(1000, np.float32)},
    )
    onnx.save(
        onnx.load(str(path)),
        str(tmp_path / "m.onnx"),
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
    )
    x = np.zeros(1000, np.float32)
    for options in (None, {"fetch": ["t"]}):
        with RUNTIME.open(tmp_path / "m.onnx", None, options=options) as session:
            assert session.infer({"x": x})["y"].sum() == 1000
    (tmp_path / "w.bin").unlink()
    with pytest.raises(InvalidModelError, match="external data"):
        RUNTIME.open(tmp_path / "m.onnx", None)


def test_strings_go_in_as_bytes_or_text(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx",
        [helper.make_node("Identity", ["x"], ["y"])],
        inputs={"x": ["n"]},
        elem_type=TensorProto.STRING,
    )
    with RUNTIME.open(path, None) as session:
        assert session.inputs[0].dtype == "string"
        result = session.infer({"x": np.array([b"a", "b\u00e9"], dtype=object)})
        assert result["y"].tolist() == ["a", "b\u00e9"]
        with pytest.raises(UsageError, match="UTF-8"):
            session.infer({"x": np.array([b"\xff"], dtype=object)})
        with pytest.raises(UsageError, match="takes string"):
            session.infer({"x": np.zeros(1, np.float32)})


def test_missing_things_are_said(tmp_path: Path, doubled: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        RUNTIME.open(tmp_path / "none.onnx", None)
    with pytest.raises(UnavailableError, match="NoProvider"):
        RUNTIME.open(doubled, None, options={"providers": ["NoProvider"]})
    with pytest.raises(UsageError, match="no output 'q'"):
        RUNTIME.open(doubled, Contract((), (TensorSpec("q", "float32", None),)))


def test_a_closed_session_says_so(doubled: Path) -> None:
    session = RUNTIME.open(doubled, None)
    session.close()
    with pytest.raises(EdgeconvError, match="closed"):
        session.infer(GOOD)
