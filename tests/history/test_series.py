"""Series are made of ratios to one reference, one device, one metric."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from history_examples import BOARD, REFERENCE, RUNTIME, artifact, measurement, run

from edgeconv.history.entries import Number
from edgeconv.history.recording import record
from edgeconv.history.series import find_changes, read_series
from edgeconv.history.store import Store, open_store


def filled(store: Store, levels: list[float], **changes: object) -> None:
    for day, ratio in enumerate(levels):
        record(store, run(day), [measurement(day, **{"ratio": ratio, **changes})])


def test_points_stand_in_the_order_of_time_with_what_they_were_measured_with(place: str) -> None:
    with open_store(place) as store:
        for day in (3, 1, 2):
            record(store, run(day), [measurement(day, 1 + day / 100)])
        (series,) = read_series(store)
    assert [point.value for point in series.points] == [1.01, 1.02, 1.03]
    assert series.key.reference == REFERENCE.sha256
    assert series.points[0].git_commit == run(1).git_commit
    assert series.points[0].artifact == artifact(build="1").sha256
    assert series.points[0].runtime_version == "2.3.0"
    assert (series.key.label, series.key.device) == ("digits.int8.tflite", "pi")


def test_another_device_metric_reference_or_number_of_threads_is_another_series() -> None:
    with open_store() as store:
        filled(store, [1.0])
        filled(store, [1.0], device=replace(BOARD, facts={"model": "Raspberry Pi 5"}))
        filled(store, [1.0], ratios={"load": Number(1.0, unit="1")})
        filled(store, [1.0], reference=artifact("other.tflite"))
        filled(store, [1.0], threads=4)
        filled(store, [1.0], runtime=replace(RUNTIME, accelerator="xnnpack"))
        assert len(read_series(store)) == 6
        assert len(read_series(store, metric="load")) == 1
        assert read_series(store, device="other") == []
        assert read_series(store, label="other") == []


def test_another_version_of_the_runtime_goes_on_in_the_same_series() -> None:
    with open_store() as store:
        filled(store, [1.0])
        filled(store, [1.0], runtime=replace(RUNTIME, version="2.4.0"))
        (series,) = read_series(store)
    assert {point.runtime_version for point in series.points} == {"2.3.0", "2.4.0"}


def test_what_heat_spoiled_is_in_no_series_unless_asked_for() -> None:
    with open_store() as store:
        filled(store, [1.0], marks=["heat"])
        assert read_series(store) == []
        assert len(read_series(store, marked=True)) == 1


def test_absolute_numbers_are_series_of_their_own() -> None:
    with open_store() as store:
        filled(store, [1.0])
        (series,) = read_series(store, absolute=True)
    assert (series.points[0].value, series.points[0].unit, series.key.reference) == (40200.0, "ns", None)


def test_what_regress_measured_in_turns_is_in_no_series_of_bench() -> None:
    """Its times are by another clock from half a millisecond on, and of caches that two models share."""
    with open_store() as store:
        filled(store, [1.0, 1.1])
        filled(store, [1.2], context={"paired": True})
        for absolute in (False, True):
            alone, paired = read_series(store, absolute=absolute)
            assert (len(alone.points), len(paired.points)) == (2, 1)
            assert (alone.key.paired, paired.key.paired) == (False, True)
            assert "by regress" in str(paired.key)


def test_only_the_latest_points_count_where_asked() -> None:
    with open_store() as store:
        filled(store, [1.0, 1.1, 1.2])
        (series,) = read_series(store, last=2)
    assert [point.value for point in series.points] == [1.1, 1.2]


def test_a_slower_build_is_found_between_its_commits(place: str) -> None:
    ratios = 1.2 + 0.005 * np.random.default_rng(1).standard_normal(30)
    ratios[18:] *= 1.04
    with open_store(place) as store:
        filled(store, ratios.tolist())
        (change,) = find_changes(read_series(store), 0.01)
    assert (change.previous.git_commit, change.point.git_commit) == (run(17).git_commit, run(18).git_commit)
    assert change.worse
    assert 1.03 < change.found.after / change.found.before < 1.05


def test_all_series_share_the_error() -> None:
    # The smallest p-value of these ten points is about 0.004: enough for one series, not for one of forty.
    ratios = [1.0, 1.01, 1.02, 1.03, 1.04, 1.5, 1.51, 1.52, 1.53, 1.54]
    with open_store() as store:
        filled(store, ratios)
        (one,) = read_series(store)
    alone = find_changes([one], 0.2)
    assert [change.found.index for change in alone] == [5]
    assert find_changes([one] * 200, 0.2) == []
