"""Parts of ONNX files, by names of tensors and nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeconv.conversions._onnx_parts import extract, resolve
from edgeconv.errors import UsageError
from edgeconv.formats.base import contract_of, to_json
from edgeconv.formats.onnx import FORMAT


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """x ─▶ block/scale ─▶ block/relu ─▶ sum ─▶ y, which the input ``other`` goes into as well."""
    weights = numpy_helper.from_array(np.arange(1, 5, dtype="f"), "w")
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["scaled"], name="block/scale"),
        helper.make_node("Relu", ["scaled"], ["positive"], name="block/relu"),
        helper.make_node("Add", ["positive", "other"], ["y"], name="sum"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, ["n", 4]), value("other", TensorProto.FLOAT, ["n", 4])],
        [value("y", TensorProto.FLOAT, ["n", 4])],
        [weights],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(made, str(tmp_path / "m.onnx"))
    return tmp_path / "m.onnx"


def asked(model: Path, inputs: list[str], outputs: list[str]) -> dict[str, Any]:
    contract = to_json(contract_of(FORMAT.describe(model).signatures[0]))
    return {"path": str(model), "contract": contract, "inputs": inputs, "outputs": outputs}


def test_a_part_between_tensors_loads_and_computes_what_lies_between(model: Path, tmp_path: Path) -> None:
    import onnxruntime

    told = resolve(asked(model, ["scaled"], ["block/relu"]))
    extract({"path": str(model), "contract": told["contract"], "destination": str(tmp_path / "p.onnx")})
    session = onnxruntime.InferenceSession(str(tmp_path / "p.onnx"))
    assert [i.name for i in session.get_inputs()] == ["scaled"]
    (given,) = session.run(None, {"scaled": np.array([[-1, 0, 2, 3]], "f")})
    np.testing.assert_array_equal(given, [[0, 0, 2, 3]])
    assert not onnx.load(str(tmp_path / "p.onnx")).graph.initializer


def test_a_scope_means_where_it_is_entered_and_left(model: Path) -> None:
    contract = resolve(asked(model, ["block"], ["block/*"]))["contract"]
    assert [s["name"] for s in contract["inputs"]] == ["x"]
    assert [s["name"] for s in contract["outputs"]] == ["positive"]


def test_an_input_that_is_needed_and_not_named_is_refused(model: Path) -> None:
    with pytest.raises(UsageError, match="also need the input 'other'"):
        resolve(asked(model, ["positive"], ["y"]))


def test_a_name_that_is_not_there_is_refused_with_the_nearest(model: Path) -> None:
    with pytest.raises(UsageError, match=r"no tensor or node 'positiv'.*positive"):
        resolve(asked(model, [], ["positiv"]))
