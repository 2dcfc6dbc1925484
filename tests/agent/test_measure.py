"""Measuring: what is timed, in which order, and what comes back beside the times."""

from __future__ import annotations

import gc
import os
import signal
from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent.talking import Talk
from hypothesis import given
from hypothesis import strategies as st

from edgeconv.agent import wire
from edgeconv.agent.backends.base import Model
from edgeconv.agent.measure import COLUMNS, Schedule, is_steady, measure, orders, samples_of
from edgeconv.agent.sensors import Sensors

A, B, C = (np.full(3, value, np.float32) for value in (1, 2, 3))


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    with Talk(tmp_path / "store") as talk:
        yield talk


def measured(talk: Talk, models: list[int], arrays: wire.Named = (("a", A),), **fields: Any) -> wire.Header:
    """What ``measure`` gives, each model with the first array."""
    inputs = [[{"x": 0}] for _ in models]
    answer = talk.ask({"verb": "measure", "models": models, "inputs": inputs, **fields}, arrays)
    assert "result" in answer, answer
    return answer


class TestSchedule:
    def test_every_other_round_goes_backwards(self) -> None:
        assert list(islice(orders(3, Schedule(5, 9, 1.0)), 4)) == [[0, 1, 2], [2, 1, 0]] * 2

    def test_a_random_order_is_that_of_its_seed_and_has_every_model_once(self) -> None:
        def drawn(seed: int) -> list[list[int]]:
            return list(islice(orders(4, Schedule(5, 9, 1.0, "random", seed)), 50))

        assert drawn(1) == drawn(1) != drawn(2)
        assert all(sorted(order) == [0, 1, 2, 3] for order in drawn(3))

    def test_bursts_of_models_alternate_and_inputs_change_every_other_round(self) -> None:
        log: list[tuple[str, int]] = []

        class Told(Model):
            def __init__(self, name: str) -> None:
                self.name = name

            def prepare(self, arrays: list[Any]) -> Any:
                return lambda: log.append((self.name, arrays[0]))

        found = measure(
            [Told("a"), Told("b")],
            [[[1], [2]], [[3], [4]]],
            Schedule(burst=2, rounds=4, seconds=60),
            beat=lambda: None,
            sensors=Sensors(),
        )
        a1, a2, b3, b4 = ("a", 1), ("a", 2), ("b", 3), ("b", 4)
        assert log == [a1, a1, b3, b3, b3, b3, a1, a1, a2, a2, b4, b4, b4, b4, a2, a2]
        assert [list(columns["position"]) for columns in found.columns] == [[0, 1, 0, 1], [1, 0, 1, 0]]
        assert [list(columns["variant"]) for columns in found.columns] == [[0, 0, 1, 1]] * 2

    def test_signs_of_life_are_given_between_calls_about_each_second(self) -> None:
        beats: list[None] = []

        class Slow(Model):
            def prepare(self, arrays: list[Any]) -> Any:
                import time

                return lambda: time.sleep(0.3)

        measure(
            [Slow()],
            [[[]]],
            Schedule(burst=9, rounds=1, seconds=60),
            beat=lambda: beats.append(None),
            sensors=Sensors(),
        )
        assert 2 <= len(beats) < 9

    @given(st.lists(st.integers(1, 1000), max_size=60), st.integers(4, 10))
    def test_steady_is_what_does_not_change_by_more_than_5_percent(self, samples, window) -> None:
        parts = [samples[len(samples) - n * window :][:window] for n in (1, 2, 3)]
        levels = [sorted(part)[window // 4] for part in parts if len(part) == window]
        expected = len(samples) >= 3 * window and max(levels) <= 1.05 * min(levels)
        assert is_steady(samples, window) == expected

    def test_garbage_is_not_collected_within_and_is_again_after(self) -> None:
        seen: list[bool] = []
        samples = samples_of(lambda: seen.append(gc.isenabled()), 3, warm=1)
        assert seen == [False] * 4
        assert gc.isenabled()
        assert isinstance(samples, array)
        assert len(samples) == 3

    def test_garbage_stays_uncollected_where_it_was(self) -> None:
        gc.disable()
        try:
            samples_of(lambda: None, 1)
            assert not gc.isenabled()
        finally:
            gc.enable()


class TestAnswer:
    def test_all_samples_come_back_with_columns_of_every_burst(self, talk: Talk) -> None:
        fast, slow = talk.open_null(), talk.open_null(spin_ns=200_000)
        answer = measured(talk, [fast, slow, fast], burst=4, rounds=10, seconds=60)
        ns = answer["arrays"]["ns"]
        assert (ns.dtype, ns.shape) == (np.int64, (3, 10, 4))
        assert answer["result"]["rounds"] == 10
        assert set(answer["arrays"]) == {"ns", *COLUMNS}
        assert all(answer["arrays"][name].shape == (3, 10) for name in COLUMNS)
        assert (ns >= 0).all()
        assert (ns[1] >= 200_000).all()
        assert np.median(ns[0]) < np.median(ns[1])
        begin = answer["arrays"]["begin"]
        assert (np.diff(begin, axis=1) > 0).all()
        assert (answer["arrays"]["cpu"][1] > 0).all()
        assert ns.sum() <= answer["result"]["nanoseconds"]

    def test_the_first_inference_after_opening_is_told_once(self, talk: Talk) -> None:
        fresh, used = talk.open_null(spin_ns=50_000), talk.open_null()
        talk.ask({"verb": "infer", "model": used}, [("x", A)])
        first = measured(talk, [fresh, used], rounds=1)["result"]["first_ns"]
        assert first[0] >= 50_000
        assert first[1] is None
        assert measured(talk, [fresh], rounds=1)["result"]["first_ns"] == [first[0]]

    def test_the_warm_up_ends_when_all_are_steady_and_is_told(self, talk: Talk) -> None:
        model = talk.open_null(spin_ns=300_000)
        answer = measured(talk, [model], burst=5, rounds=1, warm_seconds=30)
        assert answer["result"]["steady"] == [True]
        assert 15 <= len(answer["arrays"]["warm:0"]) < 100_000
        assert "warm:0" not in measured(talk, [model], rounds=1)["arrays"]

    def test_seconds_end_it_but_one_round_there_is(self, talk: Talk) -> None:
        model = talk.open_null()
        answer = measured(talk, [model], burst=3, seconds=0)
        assert answer["arrays"]["ns"].shape == (1, 1, 3)
        assert measured(talk, [model], seconds=0.2)["result"]["nanoseconds"] >= 200_000_000

    def test_readings_of_the_sensors_are_there_from_start_to_end(self, talk: Talk) -> None:
        answer = measured(talk, [talk.open_null()], rounds=3)
        readings, begin = answer["result"]["readings"], answer["arrays"]["begin"]
        assert readings[0]["at"] <= begin.min() <= begin.max() <= readings[-1]["at"]

    def test_memory_is_told_and_no_heartbeat_was_running(self, talk: Talk) -> None:
        result = measured(talk, [talk.open_null()], rounds=1)["result"]
        assert result["memory"]["peak_bytes"] >= result["memory"]["resident_bytes"] > 0
        assert result["quiet"] is True

    def test_a_model_whose_inferences_take_long_keeps_its_heartbeat(self, talk: Talk) -> None:
        model = talk.open_null(sleep_seconds=1.3)
        described, parts = wire.pack([("a", A)])
        header = {"verb": "measure", "models": [model], "inputs": [[{"x": 0}]], "burst": 1, "seconds": 0}
        talk.send({"id": 5, "arrays": described, **header}, parts)
        frames = []
        while not frames or frames[-1].get("id") != 5:
            frames.append(talk.frame()[0])
        assert frames[-1]["result"]["quiet"] is False
        assert len(frames) >= 3

    def test_signs_of_life_come_while_it_measures(self, talk: Talk) -> None:
        model = talk.open_null()
        described, parts = wire.pack([("a", A)])
        header = {"verb": "measure", "models": [model], "inputs": [[{"x": 0}]], "seconds": 2.5}
        talk.send({"id": 5, "arrays": described, **header}, parts)
        assert "alive" in talk.frame()[0]
        assert "alive" in talk.frame()[0]
        assert talk.answer()[0]["result"]["quiet"] is True

    def test_it_ends_when_whoever_asked_is_gone(self, talk: Talk) -> None:
        model = talk.open_null()
        described, parts = wire.pack([("a", A)])
        header = {"verb": "measure", "models": [model], "inputs": [[{"x": 0}]], "seconds": 600}
        talk.send({"id": 5, "arrays": described, **header}, parts)
        assert "alive" in talk.frame()[0]
        talk.requests.close()
        assert talk.wait() == 0

    def test_killed_within_leaves_a_pipe_that_ends(self, talk: Talk) -> None:
        model = talk.open_null()
        described, parts = wire.pack([("a", A)])
        header = {"verb": "measure", "models": [model], "inputs": [[{"x": 0}]], "seconds": 600}
        talk.send({"id": 5, "arrays": described, **header}, parts)
        assert "alive" in talk.frame()[0]
        os.kill(talk.process.pid, signal.SIGKILL)
        with pytest.raises(EOFError):
            talk.answer()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"models": []}, "'models' must be a list of 1 to 16 numbers"),
        ({"models": [1] * 17}, "'models' must be a list of 1 to 16 numbers"),
        ({"models": [[]]}, "no open model"),
        ({"models": [7]}, "no open model 7"),
        ({"inputs": None}, "a list of variants for every model"),
        ({"inputs": [[]]}, "at least one variant"),
        ({"inputs": [[{"x": 1}]]}, "'x' is 1 and must be from 0 to 0"),
        ({"inputs": [[{"x": -1}]]}, "'x' is -1"),
        ({"inputs": [[{"y": 0}]]}, "the inputs are x"),
        ({"inputs": [["x"]]}, "must be an object"),
        ({"burst": 0}, "'burst' is 0"),
        ({"burst": 1 << 20}, "'burst' is 1048576"),
        ({"rounds": 1 << 30}, "'rounds' is 1073741824"),
        ({"seconds": -1}, "'seconds' is -1"),
        ({"seconds": "long"}, "'seconds' is 'long'"),
        ({"order": "any"}, "'order' is abba or random"),
        ({"warm_seconds": 1e9}, "'warm_seconds' is"),
    ],
)
def test_schedules_that_cannot_be_are_refused(talk: Talk, fields: dict[str, Any], says: str) -> None:
    model = talk.open_null()
    asked = {"verb": "measure", "models": [model], "inputs": [[{"x": 0}]], "rounds": 1, **fields}
    error = talk.error(asked, [("a", A)])
    assert error["kind"] == "usage"
    assert says in error["what"]
