"""``edgeconv bench`` as a person calls it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Ran
from onnx import TensorProto, helper

from edgeconv.latency import records

Call = Callable[..., Ran]
QUICK = ("--launches", "2", "--seconds", "0.2")

pytestmark = pytest.mark.xdist_group("bench")


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x + x, with an open batch."""
    shape = ["batch", 3]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "added",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    path = tmp_path_factory.mktemp("bench") / "added.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_the_page_on_the_terminal_has_every_number_and_what_is_to_be_doubted(
    edgeconv: Call, added: Path
) -> None:
    ran = edgeconv("bench", added, *QUICK, "--profile")
    assert ran.code == 0, ran.err
    for word in ("added.onnx", "onnxruntime", "median", "p99.9", "load", "memory", "the harness itself"):
        assert word in ran.out
    assert "too few launches" in ran.out  # an interval needs six
    assert "ONNX Runtime's profiler" in ran.out
    assert len(ran.out.splitlines()) <= 24


def test_json_has_numbers_and_the_file_has_all_samples(edgeconv: Call, added: Path, tmp_path: Path) -> None:
    ran = edgeconv("bench", added, *QUICK, "--threads", "1,2", "--json", "--output", "m.json")
    assert ran.code == 0, ran.err
    one, two = ran.json["measurements"]
    assert [each["setting"]["threads"] for each in (one, two)] == [1, 2]
    assert one["against"] is None
    assert two["against"]["threads"] == 1
    assert two["against"]["verdict"] in ("faster", "slower", "no difference shown")
    assert one["percentiles"]["p99"]["needs"] == 662
    assert one["overhead_ns"] > 0
    kept = records.read(tmp_path / "m.json")
    assert [each.setting.threads for each in kept] == [1, 2]
    assert sum(launch.samples.size for launch in kept[0].launches) >= one["samples"]
    medians = [np.median(launch.samples) for launch in kept[0].trusted]
    assert np.median(medians) == one["latency_ns"]["median"]


def test_quiet_says_nothing_where_all_is_well(edgeconv: Call, added: Path) -> None:
    ran = edgeconv("bench", added, *QUICK, "-q")
    assert (ran.code, ran.all) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("no.onnx",), 2, "no such file"),
        ((), 2, "ARTIFACTS"),
        (("{added}", "--threads", "1,x"), 2, "no list of numbers"),
        (("{added}", "--threads", "0"), 2, "no list of numbers"),
        (("{added}", "--device", "nowhere"), 2, "there is no device 'nowhere'"),
        (("{added}", "--runtime", "litert"), 2, "litert does not open 'onnx'"),
        (("{added}", "--seconds", "0"), 2, "seconds"),
        (("{added}", "--shape", "x=?,3"), 2, "left open"),
        (("{added}", "--output", "nowhere/m.json"), 2, "no such folder"),
        (("{added}", "--accelerator", "tensorrt"), 4, "TensorrtExecutionProvider"),
    ],
)
def test_what_cannot_be_measured_is_told_by_its_reason(
    edgeconv: Call, added: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    ran = edgeconv("bench", *(each.replace("{added}", str(added)) for each in arguments))
    assert (ran.code, says in ran.all) == (code, True), ran.all
    assert "Traceback" not in ran.all


def test_an_artifact_that_breaks_is_told_and_the_other_is_measured(
    edgeconv: Call, added: Path, tmp_path: Path
) -> None:
    graph = helper.make_graph(
        [helper.make_node("NoSuchOp", ["x"], ["y"])],
        "broken",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "broken.onnx").write_bytes(model.SerializeToString())
    ran = edgeconv("bench", added, "broken.onnx", *QUICK)
    assert ran.code == 5
    assert "added.onnx" in ran.out
    assert "NoSuchOp" in ran.err
