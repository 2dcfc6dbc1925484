"""What spoils a launch, each seen in what a device gave."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from latency.making import launch

from edgeconv.latency.records import LaunchRecord
from edgeconv.latency.spoiled import Limits, marked

SAMPLES = np.full((20, 5), 100_000)


def reasons(*launches: LaunchRecord, one_thread: bool = True) -> list[list[str]]:
    return [[each.kind for each in one.spoiled] for one in marked(launches, one_thread=one_thread)]


def with_readings(*readings: dict[str, Any]) -> LaunchRecord:
    return launch(SAMPLES, readings=tuple({"at": at * 10**9, **each} for at, each in enumerate(readings)))


def test_a_quiet_launch_is_not_spoiled() -> None:
    calm = {"celsius": {"cpu": 55.0}, "mhz": [1800.0], "throttle": {"flags": 0, "events": 3, "cooling": 0}}
    assert reasons(with_readings(calm, calm)) == [[]]


def test_heat_is_that_of_the_hottest_sensor_at_any_time() -> None:
    warm, hot = {"celsius": {"cpu": 55.0}}, {"celsius": {"cpu": 60.0, "gpu": 81.0}}
    assert reasons(with_readings(warm, hot, warm)) == [["heat"]]
    (found,) = marked([with_readings(warm)], one_thread=True, limits=Limits(celsius=50))
    assert "55 °C, 50 are borne" in found.spoiled[0].what


@pytest.mark.parametrize(
    "readings",
    [
        ({"throttle": {"flags": 0}}, {"throttle": {"flags": 0b100}}),
        ({"throttle": {"flags": 0b1}}, {"throttle": {"flags": 0}}),
        ({"throttle": {"events": 7}}, {"throttle": {"events": 8}}),
        ({"throttle": {"overcurrent": 0}}, {"throttle": {"overcurrent": 2}}),
        ({"throttle": {"cooling": 1}}, {"throttle": {"cooling": 0}}),
    ],
)
def test_throttling_is_a_flag_now_or_a_counter_that_went_up(readings: Any) -> None:
    assert reasons(with_readings(*readings)) == [["throttle"]]


def test_what_happened_since_the_board_was_started_is_no_reason() -> None:
    earlier = {"throttle": {"flags": 0b1111 << 16, "events": 900}}
    assert reasons(with_readings(earlier, earlier)) == [[]]


def test_a_launch_slower_in_clock_than_the_others_is_the_spoiled_one() -> None:
    fast, slow = {"mhz": [1800.0, 600.0]}, {"mhz": [1500.0, 600.0]}
    assert reasons(*[with_readings(fast, fast)] * 3, with_readings(slow, slow)) == [[], [], [], ["frequency"]]


def test_a_clock_that_falls_within_a_launch_is_seen() -> None:
    assert reasons(with_readings({"mhz": [1800.0]}, {"mhz": [1800.0]}, {"mhz": [1200.0]})) == [["frequency"]]


def test_a_clock_that_only_rested_before_the_work_is_none() -> None:
    assert reasons(with_readings({"mhz": [600.0]}, {"mhz": [1800.0]}, {"mhz": [1790.0]})) == [[]]


def test_waiting_of_a_single_thread_is_the_load_of_others() -> None:
    cpu = (SAMPLES.sum(axis=1) * 0.8).astype(np.int64)
    (found,) = marked([launch(SAMPLES, columns={"cpu": cpu})], one_thread=True)
    assert [(each.kind, each.what) for each in found.spoiled] == [
        ("load", "other programs had its processor for 20% of the time")
    ]


def test_several_threads_wait_for_each_other_and_are_judged_by_being_pushed_aside() -> None:
    columns = {"cpu": SAMPLES.sum(axis=1) // 2}
    assert reasons(launch(SAMPLES, columns=columns), one_thread=False) == [[]]
    columns["involuntary"] = (np.arange(20) % 5 == 0).astype(np.int64)
    assert reasons(launch(SAMPLES, columns=columns), one_thread=False) == [["load"]]


def test_stolen_time_is_load_from_outside() -> None:
    assert reasons(with_readings({"steal_seconds": 5.0}, {"steal_seconds": 5.5})) == [["load"]]
    assert reasons(with_readings({"steal_seconds": 5.0}, {"steal_seconds": 5.01})) == [[]]
