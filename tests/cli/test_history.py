"""``edgeconv history`` as a person and a CI job call it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from edgeconv.latency import records

sys.path.insert(0, str(Path(__file__).parents[1] / "history"))

from history_examples import BEGIN, bench, measurement, onnx_model, run

Call = Callable[..., object]


@pytest.fixture
def history(edgeconv: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls the command on a store of the test's own."""
    monkeypatch.setenv("EDGECONV_HISTORY", str(tmp_path / "history.sqlite"))
    return lambda *arguments, **options: edgeconv("history", *arguments, **options)


@pytest.fixture
def series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store with a series that became 5 % slower at its 21st point."""
    from edgeconv.history.recording import record
    from edgeconv.history.store import open_store

    ratios = 1.2 + 0.004 * np.random.default_rng(1).standard_normal(30)
    ratios[20:] *= 1.05
    with open_store(str(tmp_path / "history.sqlite")) as store:
        for day, ratio in enumerate(ratios.tolist()):
            record(store, run(day), [measurement(day, ratio)])


def test_an_empty_history_says_how_to_fill_it(history: Call) -> None:
    ran = history()
    assert ran.code == 0
    assert "history record" in ran.out
    assert history("list", "--json").json["entries"] == []
    assert "set-reference" in history("series").out
    assert "set-baseline" in history("baselines").out


def test_what_bench_wrote_is_recorded_listed_and_shown(history: Call, tmp_path: Path) -> None:
    records.write(tmp_path / "bench.json", [bench(), bench("other.tflite")])
    ran = history("record", "bench.json", "--json")
    assert ran.code == 0, ran.all
    key = ran.json["measurements"][0]
    assert "digits.int8.tflite" in history("list").out
    assert [row["label"] for row in history("list", "other.tflite", "--json").json["entries"]] == [
        "other.tflite"
    ]
    shown = history("show", key[:8], "--json").json
    assert shown["artifact"]["name"] == "digits.int8.tflite"
    assert shown["values"]["typical"]["unit"] == "ns"
    assert shown["samples"]["ns"]["launches"] == 8
    assert shown["run"]["git_dirty"] is True
    assert "typical" in history("show", key[:8]).out
    again = history("record", "bench.json", "--json")
    assert again.json["measurements"] == ran.json["measurements"]


def test_a_change_is_found_between_two_commits(history: Call, series: None) -> None:
    found = history("changes", "--json").json
    assert (found["tested"], found["too_short"], len(found["changes"])) == (1, 0, 1)
    (change,) = found["changes"]
    assert change["worse"]
    assert change["first_after"]["git_commit"] == run(20).git_commit
    assert change["last_before"]["git_commit"] == run(19).git_commit
    ran = history("changes")
    assert ran.code == 0
    assert "+5." in ran.out or "+4." in ran.out
    assert (run(20).git_commit or "")[:10] in ran.out
    assert history("changes", "--fail").code == 1
    assert history("changes", "--fail", "--last", "8").code == 0


def test_series_are_listed_and_printed(history: Call, series: None) -> None:
    assert "30" in history("series").out
    assert len(history("series", "digits.int8.tflite", "--json").json["series"][0]["points"]) == 30
    assert "2026-03-01 12:00" in history("series", "digits.int8.tflite").out
    absolute = history("series", "--absolute", "--json").json["series"][0]["points"]
    assert absolute[0]["unit"] == "ns"


def test_a_baseline_and_a_reference_are_set_and_listed(history: Call, tmp_path: Path) -> None:
    onnx_model(tmp_path / "a.onnx")
    assert history("set-baseline", "main", "a.onnx").code == 0
    assert history("set-reference", "a.onnx").code == 0
    said = history("baselines", "--json").json
    assert [one["name"] for one in said["baselines"]] == ["main"]
    assert [one["name"] for one in said["references"]] == ["onnx"]
    assert "reference of onnx" in history("baselines").out
    assert history("set-reference", "--none", "onnx", "--json").json["was_there"] is True
    assert history("set-reference").code == 2
    assert history("set-baseline", "main", "missing.onnx").code == 2


@pytest.mark.slow
def test_a_history_goes_to_another_place_and_back(history: Call, series: None, tmp_path: Path) -> None:
    for kind in ("json", "csv", "parquet"):
        assert history("export", f"out-{kind}", "--format", kind).code == 0
        ran = history("import", f"out-{kind}", "--store", f"{kind}.sqlite", "--json")
        assert ran.code == 0, ran.all
        assert ran.json["rows"]["measurements"] == 30
        assert history("changes", "--store", f"{kind}.sqlite", "--json").json["changes"]


def test_old_runs_are_counted_and_forgotten(history: Call, series: None) -> None:
    from datetime import UTC, datetime

    days = (datetime.now(UTC) - BEGIN - timedelta(days=9.5)) / timedelta(days=1)
    counted = history("prune", "--older-than", days, "--dry-run", "--json").json
    assert (counted["runs"], counted["dry_run"]) == (10, True)
    assert history("prune", "--older-than", days, "--samples-only", "--json").json["samples"] == 20
    assert history("prune", "--older-than", days, "--json").json["runs"] == 10
    assert len(history("list", "--limit", 100, "--json").json["entries"]) == 20
    assert history("prune", "--older-than", "1e99").code == 2


def test_migrating_says_what_was_done(history: Call) -> None:
    first = history("migrate", "--json").json
    assert first["before"] is None
    assert history("migrate", "--json").json["before"] == first["revision"]
    assert "so already" in history("migrate").out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--store", "mysql://a:secret@b/c"), 2),
        (("--store", "postgresql://a:secret@127.0.0.1:1/c"), 4),
        (("show", "zz"), 2),
        (("show", "abcdef"), 2),
        (("record", "missing.json"), 2),
        (("import", "missing.json"), 2),
        (("changes", "--alpha", "0"), 0),
    ],
)
def test_what_cannot_be_is_told_with_its_code(history: Call, words: tuple[str, ...], code: int) -> None:
    ran = history(*words)
    assert ran.code == code, ran.all
    assert "secret" not in ran.all
    assert "Traceback" not in ran.all
