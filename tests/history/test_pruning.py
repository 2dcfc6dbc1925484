"""Old runs go, what baselines and references need stays."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from history_examples import BEGIN, measurement, onnx_model, run, verdict

from edgeconv.history import baseline_artifact, exchange, naming
from edgeconv.history.pruning import prune
from edgeconv.history.recording import record
from edgeconv.history.series import read_series
from edgeconv.history.store import open_store

HALF_PAST = BEGIN + timedelta(days=5, hours=1)


def test_runs_before_a_time_go_with_all_that_is_theirs(place: str) -> None:
    with open_store(place) as store:
        for day in range(10):
            record(store, run(day), [measurement(day)], [verdict(day)])
        said = prune(store, HALF_PAST, remove=False)
        assert len(exchange.dump(store)[0]["runs"]) == 10, "only counted"
        gone = prune(store, HALF_PAST)
        assert gone == said
        assert (gone.runs, gone.measurements, gone.verdicts, gone.samples) == (6, 6, 6, 12)
        left = exchange.dump(store)[0]
        counts = [len(left[name]) for name in ("runs", "measurements", "verdicts", "samples", "ratios")]
        assert counts == [4, 4, 4, 8, 4]


def test_samples_alone_can_go_and_series_stay_whole(place: str) -> None:
    with open_store(place) as store:
        for day in range(10):
            record(store, run(day), [measurement(day)])
        gone = prune(store, HALF_PAST, samples_only=True)
        assert (gone.runs, gone.samples) == (0, 12)
        (series,) = read_series(store)
        assert len(series.points) == 10


def test_kept_files_go_only_when_nothing_needs_them(place: str, tmp_path: Path) -> None:
    with open_store(place) as store:
        naming.set_baseline(store, "main", [onnx_model(tmp_path / "a.onnx", 1)])
        naming.set_reference(store, onnx_model(tmp_path / "b.onnx", 2))
        with store.writing() as session:
            naming.keep(store, session, onnx_model(tmp_path / "c.onnx", 3))
        assert prune(store, BEGIN).files == 1
        assert prune(store, BEGIN).files == 0
    assert baseline_artifact("main", store=place).read_bytes() == (tmp_path / "a.onnx").read_bytes()
