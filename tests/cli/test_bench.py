"""``edgeconv bench`` as a person calls it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgeconv.latency import records
from edgeconv.latency.channels import kept

if TYPE_CHECKING:
    from calling import Ran

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
        (("{added}", "--store", "h.sqlite"), 2, "add --record"),
        (("{added}", "--record", "--store", "mysql://a:secret@b/c"), 2, "--store takes"),
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


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """x * x of another shape than what is measured, whose input has the same name."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "x"], ["y"])],
        "squared",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 5])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "frozen.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_what_is_recorded_has_its_ratio_to_the_reference_that_was_measured_beside_it_unasked(
    edgeconv: Call, added: Path, reference: Path, tmp_path: Path
) -> None:
    store = ("--store", "history.sqlite")
    assert edgeconv("history", "set-reference", reference, *store).code == 0
    reference.unlink()  # the history has its bytes
    more = ("--shape", "x=4,3", "--threads", "1,2", "--profile")  # of the artifact, and not of the reference
    ran = edgeconv("bench", added, *QUICK, *more, "--record", *store, "--json", "--output", "m.json")
    assert ran.code == 0, ran.all
    found = ran.json["measurements"]
    assert [each["reference"] for each in found] == [False, False, True, True]
    assert [each["setting"]["threads"] for each in found] == [1, 2, 1, 2]
    assert [each["against"] is None for each in found] == [True, False, True, True]
    assert [each["profile"] is None for each in found] == [False, False, True, True]
    assert found[1]["against"]["artifact"] == str(added)
    series = edgeconv("history", "series", "--marked", "--metric", "typical", *store, "--json").json["series"]
    assert [one["label"] for one in series] == ["added.onnx", "added.onnx"]
    assert {one["reference"] for one in series} == {found[2]["artifact"]["sha256"]}
    points = {one["threads"]: one["points"][0] for one in series}
    mine, frozen = (
        {launch.number: np.median(kept(launch.samples)) for launch in each.trusted}
        for each in (records.read(tmp_path / "m.json")[place] for place in (0, 2))
    )
    ratios = [np.log(mine[number] / frozen[number]) for number in mine.keys() & frozen.keys()]
    assert points[1]["value"] == pytest.approx(np.exp(np.median(ratios)))
    assert points[1]["measurement"] == ran.json["kept"]["measurements"][0]
    again = edgeconv("history", "record", "m.json", *store, "--json").json
    assert again["measurements"] == ran.json["kept"]["measurements"]


def test_the_reference_is_shown_as_such_and_not_compared(
    edgeconv: Call, added: Path, reference: Path
) -> None:
    assert edgeconv("history", "set-reference", reference, "--store", "h.sqlite").code == 0
    ran = edgeconv("bench", added, *QUICK, "--record", "--store", "h.sqlite")
    assert ran.code == 0, ran.all
    assert "frozen.onnx (reference)" in ran.out
    assert "kept: 2 measurements in" in ran.out
    assert "of the time of" not in ran.out
    assert "without ratios" not in ran.out
    asked = edgeconv("bench", added, reference, *QUICK, "--record", "--store", "h.sqlite", "--json")
    assert [each["reference"] for each in asked.json["measurements"]] == [False, False]
    assert asked.json["measurements"][1]["against"] is not None


def test_without_a_reference_the_numbers_are_kept_and_it_says_what_is_lacking(
    edgeconv: Call, added: Path
) -> None:
    ran = edgeconv("bench", added, *QUICK, "--record", "--store", "h.sqlite")
    assert ran.code == 0, ran.all
    assert "without ratios of onnx: 'edgeconv history set-reference FILE'" in ran.out
    listed = edgeconv("history", "list", "--store", "h.sqlite", "--json").json["entries"]
    assert [row["label"] for row in listed] == ["added.onnx"]
