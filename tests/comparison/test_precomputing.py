"""Running a part over a file of items: rows in their order, batches, and what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeconv.comparison.precomputing import precompute
from edgeconv.errors import ConversionError, UsageError

MATRIX = np.random.default_rng(0).standard_normal((6, 3)).astype("f")


def tower(folder: Path, batch: int | str = "n", op: str = "") -> Path:
    """A file that multiplies items by a matrix, and then does ``op`` over the batch."""
    nodes = [helper.make_node("MatMul", ["item", "matrix"], ["embedding" if not op else "product"])]
    if op == "Softmax":
        nodes.append(helper.make_node(op, ["product"], ["embedding"], axis=0))
    elif op:
        nodes.append(helper.make_node(op, ["product"], ["embedding"], keepdims=0))
    value = helper.make_tensor_value_info
    outputs = [value("embedding", TensorProto.FLOAT, None if op == "ReduceMax" else [batch, 3])]
    graph = helper.make_graph(
        nodes,
        "tower",
        [value("item", TensorProto.FLOAT, [batch, 6])],
        outputs,
        [numpy_helper.from_array(MATRIX, "matrix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(model, str(folder / "tower.onnx"))
    return folder / "tower.onnx"


def ran(model: Path, data: Path, batch: int = 4) -> tuple[dict[str, Any], np.ndarray]:
    folder = data.parent / "results"
    folder.mkdir()
    told = precompute(
        {
            "artifact": {"path": str(model), "format": "onnx", "contract": None},
            "runtime": "onnxruntime",
            "options": {},
            "data": str(data),
            "folder": str(folder),
            "batch": batch,
        }
    )
    return told, np.load(folder / "0.npy")


@pytest.mark.parametrize("form", ["npz", "npy", "folder"])
@pytest.mark.parametrize("batch", ["n", 1, 3])
def test_each_item_has_its_row(tmp_path: Path, form: str, batch: int | str) -> None:
    items = np.random.default_rng(1).standard_normal((11, 6)).astype("f")
    if form == "npz":
        np.savez(tmp_path / "items.npz", item=items, year=np.arange(11))
    elif form == "npy":
        np.save(tmp_path / "items.npy", items)
    else:
        (tmp_path / "items").mkdir()
        np.save(tmp_path / "items" / "item.npy", items)
    data = tmp_path / ("items" if form == "folder" else f"items.{form}")
    told, rows = ran(tower(tmp_path, batch), data)
    np.testing.assert_allclose(rows, items @ MATRIX, rtol=1e-5, atol=1e-6)
    assert (told["items"], told["batch"]) == (11, 4 if batch == "n" else batch)
    assert told["checked"] == [0, 2, 5, 8, 10]


def test_a_part_that_mixes_the_items_of_a_batch_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "items.npy", np.random.default_rng(1).standard_normal((8, 6)).astype("f"))
    with pytest.raises(ConversionError, match="gives something else alone") as error:
        ran(tower(tmp_path, op="Softmax"), tmp_path / "items.npy")
    assert "--batch 1" in (error.value.hint or "")


def test_an_output_without_a_row_for_each_item_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "items.npy", np.ones((8, 6), "f"))
    with pytest.raises(ConversionError, match="no row for each item"):
        ran(tower(tmp_path, op="ReduceMax"), tmp_path / "items.npy")


@pytest.mark.parametrize(
    ("items", "why"),
    [
        (np.ones((8, 5), "f"), "8×5, not"),
        (np.full((8, 6), "1"), "cannot be read|no equal in float32"),
        (np.ones((0, 6), "f"), "same number of items"),
    ],
)
def test_items_that_do_not_fit_are_refused(tmp_path: Path, items: np.ndarray, why: str) -> None:
    np.save(tmp_path / "items.npy", items)
    with pytest.raises(UsageError, match=why):
        ran(tower(tmp_path), tmp_path / "items.npy")


def test_an_input_without_items_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "items.npz", movie=np.ones((8, 6), "f"), year=np.arange(8))
    with pytest.raises(UsageError, match=r"no items for the input 'item'.*movie, year"):
        ran(tower(tmp_path), tmp_path / "items.npz")


def test_pickled_items_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "items.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match="cannot be read"):
        ran(tower(tmp_path), tmp_path / "items.npy")
