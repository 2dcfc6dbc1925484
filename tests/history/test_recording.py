"""What bench measured and regress decided is kept whole, with the ratio to a reference."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from history_examples import bench, onnx_model, sha, simulated
from sqlalchemy import select

from edgeconv.errors import UsageError
from edgeconv.history import naming, record_decision, tables
from edgeconv.history.measured import record_measurements, record_of
from edgeconv.history.recording import this_run
from edgeconv.history.samples import decode
from edgeconv.history.series import read_series
from edgeconv.history.store import open_store
from edgeconv.latency import records
from edgeconv.latency.decisions import judge


def test_a_measurement_comes_back_as_bench_made_it(place: str) -> None:
    one = bench()
    with open_store(place) as store:
        (key,) = record_measurements(store, [one])
        assert record_of(store, key) == one


def test_measurements_recorded_twice_are_kept_once(place: str) -> None:
    with open_store(place) as store:
        assert record_measurements(store, [bench()]) == record_measurements(store, [bench()])
        with store.reading() as session:
            assert len(session.scalars(select(tables.Measurement)).all()) == 1


def test_the_ratio_to_a_reference_of_the_same_run_is_kept_beside_the_absolute_number() -> None:
    reference, model = bench("reference.tflite"), bench(slower=1.5)
    other_run = bench("other.tflite", run="run-2")
    with open_store() as store:
        keys = record_measurements(
            store, [reference, model, other_run], references=[reference.artifact.sha256]
        )
        with store.reading() as session:
            ratios = {(r.measurement, r.metric): r for r in session.scalars(select(tables.Ratio))}
            typical = session.get(tables.Value, (keys[1], "typical"))
            assert {key for key, _ in ratios} == {keys[1]}, "not of itself, and of no other run"
            assert ratios[keys[1], "typical"].ratio == pytest.approx(1.5, rel=0.01)
            assert ratios[keys[1], "load"].ratio == 1
            assert ratios[keys[1], "bytes"].ratio == 1
            assert typical is not None
            assert typical.unit == "ns"
            assert typical.value == pytest.approx(60_200, rel=0.01)
            assert typical.low is not None
            assert typical.low <= typical.value


@pytest.mark.parametrize(("spoiled", "marks"), [(5, []), (7, ["heat"])], ids=["enough left", "too few left"])
def test_launches_that_something_spoiled_count_on_no_side_of_a_ratio_while_enough_are_left(
    spoiled: int, marks: list[str]
) -> None:
    reference, model = bench("reference.tflite", launches=12), bench(launches=12)
    hot = records.Spoiled("heat", "85 degrees")
    launches = [
        dataclasses.replace(launch, samples=launch.samples * 9, spoiled=(hot,))
        if launch.number < spoiled
        else launch
        for launch in model.launches
    ]
    model = dataclasses.replace(model, launches=tuple(launches))
    with open_store() as store:
        keys = record_measurements(store, [reference, model], references=[reference.artifact.sha256])
        with store.reading() as session:
            ratio = session.get(tables.Ratio, (keys[1], reference.artifact.sha256, "typical"))
            row = session.get(tables.Measurement, keys[1])
            assert ratio is not None
            assert ratio.ratio == pytest.approx(9 if marks else 1, rel=0.01)
            assert row is not None
            assert row.marks == marks
        assert bool(read_series(store, metric="typical")) is not bool(marks)


def test_a_reference_that_was_spoiled_spoils_the_ratios_to_it() -> None:
    hot = records.Spoiled("heat", "85 degrees")
    reference, model = bench("reference.tflite"), bench()
    spoiled = tuple(dataclasses.replace(launch, spoiled=(hot,)) for launch in reference.launches)
    reference = dataclasses.replace(reference, launches=spoiled)
    with open_store() as store:
        keys = record_measurements(store, [reference, model], references=[reference.artifact.sha256])
        with store.reading() as session:
            row = session.get(tables.Measurement, keys[1])
            assert row is not None
            assert row.marks == ["heat"]


def test_a_measurement_without_a_launch_is_refused() -> None:
    with open_store() as store, pytest.raises(UsageError, match="no launch"):
        record_measurements(store, [dataclasses.replace(bench(), launches=())])


def test_a_decision_is_kept_with_its_samples_and_ratios(place: str) -> None:
    launches = simulated(8, {"reference": 1.0, "base": 1.2, "new": 1.3}, seed=5)
    decisions = judge(launches, "base", ["new"])
    artifacts = {name: records.Artifact(f"{name}.tflite", sha(name), 100, "tflite") for name in launches[0]}
    setting = records.Setting("litert", "2.3.0")
    device = records.DeviceFacts("local", "local")
    run = record_decision(
        decisions,
        artifacts,
        device,
        dict.fromkeys(artifacts, setting),
        launches,
        reference="reference",
        store=place,
    )
    with open_store(place) as store, store.reading() as session:
        kept = session.scalars(select(tables.Verdict)).one()
        assert (kept.run, kept.verdict) == (run, decisions[0].verdict)
        assert kept.details["decision"]["channels"]["typical"]["ratio"] == pytest.approx(
            decisions[0].channels["typical"].ratio
        )
        assert len(kept.details["measurements"]) == 2
        rows = {row.context["model"]: row for row in session.scalars(select(tables.Measurement))}
        new = rows["new"].id
        arrays = session.scalars(select(tables.SampleArray).where(tables.SampleArray.measurement == new))
        for each in arrays:
            assert np.array_equal(decode(each.data, each.shape), launches[each.launch]["new"])
        ratio = session.get(tables.Ratio, (new, sha("reference"), "typical"))
        assert ratio is not None
        assert ratio.ratio == pytest.approx(1.3, rel=0.05)


def test_a_baseline_that_is_the_reference_gives_the_candidate_its_ratio(tmp_path: Path) -> None:
    with open_store() as store:
        named = naming.set_reference(store, onnx_model(tmp_path / "reference.onnx"))
    launches = simulated(8, {"baseline": 1.0, "candidate": 1.3}, seed=6)
    artifacts = {
        "baseline": records.Artifact("reference.onnx", named.sha256, named.bytes, "onnx"),
        "candidate": records.Artifact("new.onnx", sha("new"), 100, "onnx"),
    }
    settings = dict.fromkeys(artifacts, records.Setting("onnxruntime", "1.31.1"))
    device = records.DeviceFacts("local", "local")
    record_decision(judge(launches, "baseline", ["candidate"]), artifacts, device, settings, launches)
    with open_store() as store:
        ((point,),) = [one.points for one in read_series(store, metric="typical")]
    assert point.value == pytest.approx(1.3, rel=0.02)


def test_a_decision_of_an_unknown_model_is_refused() -> None:
    launches = simulated(6, {"base": 1.0, "new": 1.0}, seed=5)
    with pytest.raises(UsageError, match="nothing is said"):
        record_decision(judge(launches, "base", ["new"]), {}, records.DeviceFacts("local", "local"), {})


def test_a_run_knows_the_repository_it_was_made_in(tmp_path: Path) -> None:
    import subprocess

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-b", "feature")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "first")
    found = this_run("edgeconv bench", tmp_path)
    assert (found.git_commit, found.git_branch, found.git_dirty) == (
        git("rev-parse", "HEAD"),
        "feature",
        False,
    )
    (tmp_path / "file").write_text("2")
    assert this_run("", tmp_path).git_dirty
    assert "edgeconv" in found.tools
    outside = tmp_path / "x"
    outside.mkdir()
    assert this_run("", Path("/")).git_commit is None
