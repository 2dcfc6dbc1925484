"""Launches: models that are opened and measured in a fork of the agent, and nothing of them stays."""

from __future__ import annotations

import functools
import os
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_files
import pytest
from agent.talking import Talk
from onnx import TensorProto

from edgeconv.agent import launching

X = np.ones(3, np.float32)
NULL_MODEL = {"backend": "null", "format": "null", "path": __file__}


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    with Talk(tmp_path / "store") as talk:
        yield talk


def ask(talk: Talk, verb: str, models: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    header = {"verb": verb, "models": models, "inputs": [[{"x": 0}] for _ in models], **fields}
    return talk.ask(header, [("x", X)])


def spinning(nanoseconds: int) -> dict[str, Any]:
    return {**NULL_MODEL, "options": {"spin_ns": nanoseconds}}


def test_a_launch_gives_the_samples_of_each_model_in_its_place(talk: Talk) -> None:
    answer = ask(
        talk, "launch", [spinning(3_000_000), spinning(100_000)], burst=4, rounds=6, warm=2, seeds=[5]
    )
    (ns,), (result,) = answer["arrays"]["ns"], answer["result"]["launches"]
    assert ns.shape == (2, 6, 4)
    assert ns[0].min() >= 3_000_000
    assert 100_000 <= ns[1].min() < 3_000_000
    assert sorted(result["order"]) == sorted(result["turns"]) == [0, 1]
    assert result["memory"]["peak_bytes"] >= result["start_bytes"] > 0
    assert len(result["load_ns"]) == len(result["first_ns"]) == len(result["versions"]) == 2


@pytest.mark.parametrize("what", ["order", "turns"])
def test_the_order_of_opening_and_of_running_is_that_of_the_seed_and_both_come(talk: Talk, what: str) -> None:
    def drawn(seeds: range) -> list[tuple[int, ...]]:
        launches = ask(talk, "launch", [NULL_MODEL] * 2, seeds=list(seeds))["result"]["launches"]
        return [tuple(launch[what]) for launch in launches]

    orders = drawn(range(12))
    assert set(orders) == {(0, 1), (1, 0)}
    assert orders[7:9] == drawn(range(7, 9))


def test_launches_of_several_seeds_run_at_the_same_time_in_processes_of_their_own(talk: Talk) -> None:
    waiting = {**NULL_MODEL, "options": {"sleep_seconds": 0.3}}
    begun = time.monotonic()
    answer = ask(talk, "launch", [waiting], burst=1, rounds=2, warm=0, seeds=[1, 2, 3, 4])
    assert time.monotonic() - begun < 4 * 3 * 0.3  # one after the other could take no less
    assert answer["arrays"]["ns"].shape == (4, 1, 2, 1)
    assert len(answer["result"]["launches"]) == 4
    for wrong in ([], [1.5], [-1], 3, list(range(17))):
        header = {"verb": "launch", "models": [NULL_MODEL], "inputs": [[{"x": 0}]], "seeds": wrong}
        assert "seeds" in talk.error(header, [("x", X)])["what"]


@pytest.mark.parametrize(("warm", "rounds"), [(0, 3), (1, 1), (2, 4)])
def test_every_burst_of_a_model_comes_after_one_of_the_same_other(
    monkeypatch: pytest.MonkeyPatch, warm: int, rounds: int
) -> None:
    """Else one of two equals would find its weights in the cache more often: 14 of 16 were called changed."""
    ran: list[int] = []

    def opened(path: str, *_: Any) -> Any:
        number = int(path)
        call = functools.partial(ran.append, number)
        return types.SimpleNamespace(prepare=lambda arrays: call, inputs=[], name="counted", number=number)

    backend = types.SimpleNamespace(open=opened, version=lambda: "1", load_library=lambda: None)
    monkeypatch.setattr(launching, "in_order", lambda model, arrays: [])
    first = []
    for seed in range(40):
        asked = [launching.Asked(backend, "counted", str(number), {}) for number in range(3)]
        for one in asked:
            one.variants = [{}]
        ran.clear()
        duet = launching._Duet(asked, 2, warm, time.perf_counter_ns, seed)
        duet.open()
        duet.warm_up()
        for _ in range(rounds):
            duet.round()
        order = duet.said["turns"]
        assert ran == [
            *order,
            *(n for n in order for _ in range(warm)),
            *[n for n in order for _ in range(2)] * rounds,
        ]
        first.append(order[0])
    assert set(first) == {0, 1, 2}


def test_each_launch_is_a_process_of_its_own_that_is_gone_when_the_answer_comes(talk: Talk) -> None:
    first = ask(talk, "fork", [NULL_MODEL])["result"]["worker"]
    second = ask(talk, "fork", [NULL_MODEL])["result"]["worker"]
    assert first != second != talk.process.pid
    for worker in (first, second):
        assert Path(f"/proc/{worker}").exists()
        talk.ask({"verb": "join", "worker": worker})
        assert not Path(f"/proc/{worker}").exists()


def test_a_worker_runs_a_burst_each_time_it_is_asked(talk: Talk) -> None:
    worker = ask(talk, "fork", [spinning(50_000)], burst=3)["result"]["worker"]
    for _ in range(3):
        ns = talk.ask({"verb": "burst", "worker": worker})["arrays"]["ns"]
        assert ns.shape == (1, 3)
        assert ns.min() >= 50_000
    assert talk.ask({"verb": "join", "worker": worker})["result"]["memory"]["peak_bytes"] > 0
    assert "no worker" in talk.error({"verb": "burst", "worker": worker})["what"]


def test_a_sample_is_as_many_inferences_as_are_asked_for(talk: Talk) -> None:
    models = [{**spinning(200_000), "repeat": times} for times in (1, 10)]
    (ns,) = ask(talk, "launch", models, burst=2, rounds=2)["arrays"]["ns"]
    assert ns[1].min() >= 2_000_000 > ns[0].min() >= 200_000
    for wrong in (0, -1, 1.5, "2", 10**9):
        header = {"verb": "launch", "models": [{**NULL_MODEL, "repeat": wrong}], "inputs": [[{"x": 0}]]}
        assert "repeat" in talk.error(header, [("x", X)])["what"]


def test_the_threads_clock_does_not_see_waiting(talk: Talk) -> None:
    waiting = {**NULL_MODEL, "options": {"sleep_seconds": 0.02}}
    wall = ask(talk, "launch", [waiting], burst=2, clock="wall")["arrays"]["ns"]
    thread = ask(talk, "launch", [waiting], burst=2, clock="thread")["arrays"]["ns"]
    assert wall.min() >= 20_000_000 > thread.max()


def test_a_real_model_is_opened_in_the_child_and_the_agent_stays_clean(talk: Talk, tmp_path: Path) -> None:
    path = onnx_files.one(tmp_path, "Relu", TensorProto.FLOAT)
    model = {"backend": "onnxruntime", "format": "onnx", "path": str(path), "options": {"threads": 2}}
    for seed in range(5):  # a fork of a process with a runtime's threads would hang in the second
        answer = talk.ask(
            {"verb": "launch", "models": [model, model], "inputs": [[{"x0": 0}]] * 2, "seeds": [seed]},
            [("x0", np.ones((2, 2), np.float32))],
        )
        assert answer["arrays"]["ns"].min() > 0


def test_an_agent_that_opened_a_model_itself_refuses_launches(talk: Talk) -> None:
    talk.open_null()
    error = talk.error({"verb": "launch", "models": [NULL_MODEL], "inputs": [[{}]]})
    assert error["kind"] == "usage"
    assert "agent of its own" in error["hint"]


def test_what_goes_wrong_in_the_child_is_said_and_the_agent_goes_on(talk: Talk, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    model = {"backend": "onnxruntime", "format": "onnx", "path": str(broken)}
    assert talk.error({"verb": "launch", "models": [model], "inputs": [[{}]]})["kind"] == "refused"
    assert talk.error({"verb": "launch", "models": [], "inputs": []})["kind"] == "usage"
    assert talk.error({"verb": "launch", "models": [NULL_MODEL], "inputs": [[{"x": 3}]]})["kind"] == "usage"
    assert (
        "clock"
        in talk.error({"verb": "launch", "models": [NULL_MODEL], "inputs": [[{}]], "clock": "moon"})["what"]
    )
    assert "result" in ask(talk, "launch", [NULL_MODEL])


def test_a_child_that_is_killed_is_told_as_one(talk: Talk) -> None:
    worker = ask(talk, "fork", [NULL_MODEL])["result"]["worker"]
    os.kill(worker, 9)
    assert "signal 9" in talk.error({"verb": "burst", "worker": worker})["what"]
    assert "result" in ask(talk, "launch", [NULL_MODEL])


def test_workers_end_with_their_agent(tmp_path: Path) -> None:
    with Talk(tmp_path / "store") as talk:
        worker = ask(talk, "fork", [NULL_MODEL])["result"]["worker"]
        talk.kill()
    for _ in range(200):
        if not Path(f"/proc/{worker}").exists() or "Z" in Path(f"/proc/{worker}/stat").read_text().split():
            return
        time.sleep(0.02)
    pytest.fail("the worker outlived its agent")
