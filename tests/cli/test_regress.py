"""``edgeconv regress`` from the command line: verdicts, files, exit codes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from slower_models import onnx_chain, tflite_chain

FAST = ("--threshold", "5%", "--seconds", "10")


@pytest.mark.slow
def test_a_slower_candidate_exits_with_1_and_names_the_part(
    edgeconv: Callable[..., Any], tmp_path: Path
) -> None:
    before = tflite_chain(tmp_path / "before.tflite", 18)
    now = tflite_chain(tmp_path / "now.tflite", 18, extra_after=10)
    files = ("--junit", "out/verdicts.xml", "--markdown", "out/summary.md")
    ran = edgeconv("regress", before, now, "--seconds", "10", "--culprit", "--json", *files)
    assert ran.code == 1, ran.all
    (pair,) = ran.json["pairs"]
    assert ran.json["verdict"] == pair["verdict"] == "regressed"
    assert pair["latency"]["channels"]["typical"]["verdict"] == "regressed"
    assert 1.02 < pair["quantities"][0]["ratio"] < 1.12
    first = pair["culprit"]["parts"][0]["what"]
    start, _, end = first.removeprefix("from ").partition(" to ")
    assert int(start[1:]) <= 10 < int(end[1:]), first
    assert "FULLY_CONNECTED 18 → 19" in pair["culprit"]["ops"]
    suite = ElementTree.parse(tmp_path / "out" / "verdicts.xml").getroot()[0]
    assert suite.get("failures") == "1"
    assert suite.find("testcase[@name='latency']/failure") is not None
    page = (tmp_path / "out" / "summary.md").read_text()
    assert page.startswith("## 🔴 edgeconv regress: regressed")


@pytest.mark.slow
def test_folders_are_matched_by_name_and_share_the_error(
    edgeconv: Callable[..., Any], tmp_path: Path
) -> None:
    for folder in ("before", "now"):
        (tmp_path / folder).mkdir()
        tflite_chain(tmp_path / folder / "a.tflite", 12)
        onnx_chain(tmp_path / folder / "b.onnx", 12)
    tflite_chain(tmp_path / "now" / "only.tflite", 2)
    ran = edgeconv("regress", "before", "now", *FAST, "--json")
    assert ran.code in (0, 3), ran.all
    pairs = ran.json["pairs"]
    assert [pair["name"] for pair in pairs] == ["a.tflite", "b.onnx"]
    assert sum(one["alpha"] for pair in pairs for one in pair["quantities"]) == pytest.approx(0.002)
    assert len(ran.json["unmatched"]) == 1


def test_too_little_time_is_inconclusive_and_exits_with_3(
    edgeconv: Callable[..., Any], tmp_path: Path
) -> None:
    before, now = tflite_chain(tmp_path / "a.tflite", 3), tflite_chain(tmp_path / "b.tflite", 3)
    ran = edgeconv("regress", before, now, "--seconds", "0.01")
    assert ran.code == 3, ran.all
    assert "give more with --seconds" in ran.out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["a.tflite"], 2, "2 wanted"),
        (["a.tflite", "b.tflite", "c.tflite"], 2, "2 wanted"),
        (["nothing.tflite", "a.tflite"], 2, "no such file"),
        (["a.tflite", "folder"], 2, "folder"),
        (["a.tflite", "a.tflite", "--threshold", "much"], 2, "5%"),
        (["a.tflite", "a.tflite", "--alpha", "2"], 2, "error rates"),
        (["a.tflite", "a.tflite", "--device", "nowhere"], 2, "no device"),
        (["a.tflite", "a.tflite", "--runtime", "onnxruntime"], 2, "does not open"),
        (["a.tflite", "a.tflite", "--candidate-runtime", "litert==0.0.9"], 4, "litert"),
    ],
)
def test_what_cannot_be_compared_is_said(
    edgeconv: Callable[..., Any], tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    tflite_chain(tmp_path / "a.tflite", 1)
    (tmp_path / "folder").mkdir()
    shutil.copy(tmp_path / "a.tflite", tmp_path / "folder" / "b.tflite")
    ran = edgeconv("regress", *arguments)
    assert ran.code == code, ran.all
    assert said in ran.err


def test_json_has_no_number_that_is_none(edgeconv: Callable[..., Any], tmp_path: Path) -> None:
    model = tflite_chain(tmp_path / "a.tflite", 1)
    ran = edgeconv("regress", model, model, "--seconds", "0.01", "--json")
    document = json.loads(ran.out, parse_constant=lambda text: pytest.fail(text))
    assert document["pairs"][0]["quantities"][0]["high"] is None


def test_what_is_recorded_is_of_the_device_that_bench_recorded(
    edgeconv: Callable[..., Any], tmp_path: Path
) -> None:
    model, store = tflite_chain(tmp_path / "a.tflite", 3), ("--record", "--store", "h.sqlite")
    ran = edgeconv("regress", model, model, "--seconds", "0.01", *store)
    assert ran.code == 3, ran.all
    ran = edgeconv("bench", model, "--launches", "1", "--seconds", "0.1", *store)
    assert ran.code == 0, ran.all
    series = (
        "history",
        "series",
        "--absolute",
        "--marked",
        "--metric",
        "typical",
        "--store",
        "h.sqlite",
        "--json",
    )
    alone, paired = edgeconv(*series).json["series"]
    assert [point["unit"] for point in alone["points"]] == ["ns"]
    assert [point["unit"] for point in paired["points"]] == ["ns", "ns"]  # baseline, candidate
    edgeconv("history", "export", "h.json", "--store", "h.sqlite")
    tables = json.loads((tmp_path / "h.json").read_text())["tables"]
    (device,) = tables["devices"]
    assert device["facts"]["processor"]
    assert [artifact["precision"] for artifact in tables["artifacts"]] == ["fp32"]
