"""A history that is exported and imported is the same history."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from history_examples import artifact, measurement, onnx_model, run, verdict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeconv.errors import UsageError
from edgeconv.history import baseline_artifact, exchange, naming
from edgeconv.history.entries import (
    ArtifactEntry,
    DeviceEntry,
    MeasurementEntry,
    Number,
    RunEntry,
    RuntimeEntry,
)
from edgeconv.history.recording import record
from edgeconv.history.store import Store, open_store

TEXTS = st.text(max_size=12)
MAYBE = st.none() | TEXTS
FLOATS = st.floats(allow_nan=True, allow_infinity=True)
MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
NUMBERS = st.builds(Number, FLOATS, st.none() | FLOATS, st.none() | FLOATS, TEXTS)
ARTIFACTS = st.builds(
    ArtifactEntry,
    st.integers(0, 3).map(lambda number: f"{number:064x}"),
    TEXTS,
    TEXTS,
    st.integers(0, 2**63 - 1),
    MAYBE,
)
SHAPES = arrays.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=5)
MEASUREMENTS = st.builds(
    MeasurementEntry,
    artifact=ARTIFACTS,
    device=st.builds(
        DeviceEntry, TEXTS, TEXTS, MAYBE, st.booleans(), st.dictionaries(TEXTS, JSON, max_size=2)
    ),
    runtime=st.builds(RuntimeEntry, TEXTS, MAYBE, MAYBE),
    threads=st.integers(1, 1024),
    label=TEXTS,
    values=st.dictionaries(TEXTS, NUMBERS, max_size=3),
    reference=st.none() | ARTIFACTS,
    ratios=st.dictionaries(TEXTS, NUMBERS, max_size=3),
    samples=st.dictionaries(
        st.tuples(st.integers(-1, 3), TEXTS), arrays.arrays(np.int64, SHAPES), max_size=3
    ),
    marks=st.lists(TEXTS, max_size=2),
    context=st.dictionaries(TEXTS, JSON, max_size=3),
    time=MOMENTS,
)
RUNS = st.builds(
    RunEntry,
    time=MOMENTS,
    host=TEXTS,
    tools=st.dictionaries(TEXTS, TEXTS, max_size=3),
    git_commit=MAYBE,
    git_branch=MAYBE,
    git_dirty=st.none() | st.booleans(),
    command=TEXTS,
)
_NUMBERS = itertools.count()


def filled(store: Store, tmp_path: Path) -> None:
    for day in range(3):
        record(store, run(day), [measurement(day)], [verdict(day)])
    naming.set_baseline(store, "main", [onnx_model(tmp_path / "a.onnx")])
    naming.set_reference(store, onnx_model(tmp_path / "b.onnx", 2))


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(run=RUNS, measurements=st.lists(MEASUREMENTS, max_size=3), kind=st.sampled_from(exchange.FORMATS))
def test_whatever_was_recorded_comes_back_as_it_was(
    tmp_path: Path, run: RunEntry, measurements: list[MeasurementEntry], kind: str
) -> None:
    number = next(_NUMBERS)
    path = tmp_path / f"export-{number}"
    with open_store(str(tmp_path / f"{number}-a")) as one, open_store(str(tmp_path / f"{number}-b")) as other:
        record(one, run, measurements)
        exchange.export(one, path, kind)
        exchange.load_file(other, path)
        assert exchange.dump(other) == exchange.dump(one)


@pytest.mark.parametrize("kind", exchange.FORMATS)
def test_a_history_moves_to_another_store_with_its_files(place: str, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "export"
    with open_store(str(tmp_path / "first.sqlite")) as one, open_store(place) as other:
        filled(one, tmp_path)
        assert exchange.export(one, path, kind, with_files=True).files == 2
        exchange.load_file(other, path)
        assert exchange.dump(other, with_files=True) == exchange.dump(one, with_files=True)
    back = baseline_artifact("main", store=place)
    assert back.read_bytes() == (tmp_path / "a.onnx").read_bytes()


def test_two_histories_are_put_together_and_twice_is_the_same_as_once(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "one")) as one, open_store(str(tmp_path / "two")) as other:
        record(one, run(1), [measurement(1)])
        record(other, run(2), [measurement(2)])
        exchange.export(one, tmp_path / "one.json", "json")
        first = exchange.load_file(other, tmp_path / "one.json")
        again = exchange.load_file(other, tmp_path / "one.json")
        assert (first.rows["runs"], first.rows["devices"], first.rows["measurements"]) == (1, 0, 1)
        assert sum(again.rows.values()) == 0
        assert len(exchange.dump(other)[0]["measurements"]) == 2


def damaged(tmp_path: Path, change: Any) -> Path:
    path = tmp_path / "damaged.json"
    with open_store(str(tmp_path / "source")) as store:
        filled(store, tmp_path)
        exchange.export(store, path, "json", with_files=True)
    whole = json.loads(path.read_text())
    change(whole)
    path.write_text(json.dumps(whole))
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: whole.update({"edgeconv-history": 99}),
        lambda whole: whole.pop("tables"),
        lambda whole: whole["tables"].update({"secrets": []}),
        lambda whole: whole["tables"].update({"runs": {"a": 1}}),
        lambda whole: whole["tables"]["runs"][0].update({"time": "yesterday"}),
        lambda whole: whole["tables"]["runs"][0].update({"time": "2026-03-01T12:00:00"}),
        lambda whole: whole["tables"]["runs"][0].update({"host": 5}),
        lambda whole: whole["tables"]["runs"][0].update({"id": "a" * 200}),
        lambda whole: whole["tables"]["runs"].append("no row"),
        lambda whole: whole["tables"]["measurements"][0].update({"threads": True}),
        lambda whole: whole["tables"]["measurements"][0].update({"threads": 2**70}),
        lambda whole: whole["tables"]["samples"][0].update({"data": [1.5]}),
        lambda whole: whole["tables"]["samples"][0].update({"shape": [3, 3]}),
        lambda whole: whole["tables"]["samples"][0].update({"shape": None}),
        lambda whole: whole["tables"]["artifacts"][0].update({"sha256": "../../etc"}),
        lambda whole: whole["files"].update({"0" * 64: "AAAA"}),
        lambda whole: whole["files"].update({"../../x": "AAAA"}),
        lambda whole: whole["files"].update({"0" * 64: "no base64!"}),
    ],
)
def test_a_damaged_export_is_refused_whole(tmp_path: Path, change: Any) -> None:
    path = damaged(tmp_path, change)
    with open_store(str(tmp_path / "target")) as store:
        with pytest.raises(UsageError):
            exchange.load_file(store, path)
        assert not any(exchange.dump(store)[0].values())


@pytest.mark.parametrize("content", ["", "[]", "{}", "{", "[" * 100_000, '{"edgeconv-measurements": 1}'])
def test_a_file_that_is_no_export_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with open_store() as store, pytest.raises(UsageError):
        exchange.load_file(store, tmp_path / "x.json")


def test_a_row_that_refers_to_nothing_is_refused(place: str, tmp_path: Path) -> None:
    path = damaged(tmp_path, lambda whole: whole["tables"].update({"devices": []}))
    with open_store(place) as store:
        with pytest.raises(UsageError, match="refers to"):
            exchange.load_file(store, path)
        assert not any(exchange.dump(store)[0].values())


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes").write_text("mine")
    with open_store() as store, pytest.raises(UsageError, match="there already"):
        exchange.export(store, tmp_path / "folder", "csv")


def test_a_table_of_csv_can_be_read_by_anybody(tmp_path: Path) -> None:
    import csv

    with open_store() as store:
        record(store, run(), [measurement(artifact=artifact())])
        exchange.export(store, tmp_path / "out", "csv")
    with (tmp_path / "out" / "ratios.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["metric"], float(row["ratio"])) == ("typical", 1.2)
