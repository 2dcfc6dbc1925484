"""Where samples come from: real artifacts in real runtimes, together and in lockstep."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from slower_models import onnx_chain, tflite_chain

from edgeconv.agent.launching import _CLOCKS
from edgeconv.devices.registry import find_device
from edgeconv.devices.session import Wish
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.latency.channels import checked
from edgeconv.latency.plan import LaunchPlan
from edgeconv.latency.sources import (
    BASELINE,
    CANDIDATE,
    COPY,
    Lockstep,
    Paired,
    Side,
    Together,
    look_at,
    plan_for,
    way_for,
)

PLAN = LaunchPlan(length=4, bursts=6, warm=2, processor_time=False)


def ones(contract: Contract | None, inputs: tuple[TensorSpec, ...]) -> Sequence[Mapping[str, Any]]:
    return [{spec.name: np.ones([size or 1 for size in spec.shape or ()], spec.dtype) for spec in inputs}]


def side(path: Path, **wish: Any) -> Side:
    return look_at(path, path.suffix[1:], find_device("local"), Wish(**wish), ones)


@pytest.fixture(scope="module")
def chains(tmp_path_factory: pytest.TempPathFactory) -> tuple[Side, Side]:
    """A chain of layers, and one three times as long."""
    folder = tmp_path_factory.mktemp("chains")
    return side(tflite_chain(folder / "a.tflite", 10)), side(tflite_chain(folder / "b.tflite", 30))


def test_what_is_looked_at_says_which_runtime_takes_it(chains: tuple[Side, Side]) -> None:
    short, _ = chains
    assert short.runtime.name == "litert"
    assert short.runtime.version
    assert [name for name, _ in short.variants[0]] == ["x"]
    assert short.bytes == short.path.stat().st_size
    assert short.computes_alone


def test_artifacts_of_one_runtime_share_a_process_and_others_do_not(chains: tuple[Side, Side]) -> None:
    short, long = chains
    assert isinstance(way_for(short, long), Together)
    older = dataclasses.replace(long, runtime=dataclasses.replace(long.runtime, version="1.0"))
    assert isinstance(way_for(short, older), Lockstep)
    assert isinstance(way_for(short, dataclasses.replace(long, threads=2)), Lockstep)
    assert not dataclasses.replace(long, threads=2).computes_alone


@pytest.mark.parametrize("kind", [Together, Lockstep])
def test_a_launch_has_the_samples_of_both_and_the_longer_one_takes_longer(
    kind: type[Together] | type[Lockstep], chains: tuple[Side, Side]
) -> None:
    short, long = chains
    with kind() as way:
        launches = way.launches({BASELINE: short, CANDIDATE: long}, PLAN, range(6))
    checked(launches, [BASELINE, CANDIDATE])
    for launch in launches:
        assert launch[BASELINE].shape == (6, 4)
        assert np.min(launch[CANDIDATE]) > 1.5 * np.min(launch[BASELINE])
    assert {next(iter(launch)) for launch in launches} == {BASELINE, CANDIDATE}  # whoever came first is drawn


def test_different_runtimes_are_measured_in_lockstep(chains: tuple[Side, Side], tmp_path: Path) -> None:
    other = side(onnx_chain(tmp_path / "a.onnx", 10))
    with way_for(chains[0], other) as way:
        assert way.name == "lockstep"
        (launch,) = way.launches({BASELINE: chains[0], CANDIDATE: other}, PLAN, [1])
    assert launch[CANDIDATE].shape == (6, 4)


def test_an_opening_of_one_alone_says_load_time_and_memory(chains: tuple[Side, Side]) -> None:
    with Together() as way:
        opening = way.alone(chains[0], 1)
    assert opening.load_ns > 0
    assert opening.load_thread_ns > 0
    assert opening.first_ns > 0
    assert opening.memory_bytes is None or opening.memory_bytes > 10_000


def test_the_plan_takes_the_threads_clock_for_slow_models_of_one_thread_only(
    chains: tuple[Side, Side], tmp_path: Path
) -> None:
    slow = side(onnx_chain(tmp_path / "slow.onnx", 60, size=512))
    with Together() as way:
        assert not plan_for(way, chains, 1)[0].processor_time
        assert plan_for(way, [slow], 1)[0].processor_time
        assert not plan_for(way, [dataclasses.replace(slow, threads=2)], 1)[0].processor_time
    assert set(_CLOCKS) == {"wall", "thread"}


@pytest.mark.parametrize("at_once", [1, 2])
def test_launches_of_equals_come_with_every_fourth_launch(
    chains: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    with Together() as way:
        monkeypatch.setattr(way, "at_once", lambda side, plan: at_once)
        source = Paired(way, *chains, PLAN, seed=1)
        launches = [source(number) for number in range(8)]
    assert [set(launch) for launch in launches] == [{BASELINE, CANDIDATE}] * 8
    assert [set(launch) for launch in source.copies] == [{BASELINE, COPY}] * 2


def test_two_launches_at_once_are_for_models_timed_by_what_they_compute(chains: tuple[Side, Side]) -> None:
    own, wall = (LaunchPlan(1, 2, 0, processor_time=own) for own in (True, False))
    processors = len(os.sched_getaffinity(0))
    assert Together().at_once(chains[0], own) == min(2, processors)
    assert Together().at_once(chains[0], wall) == 1
    elsewhere = copy.copy(chains[0].device)
    elsewhere.kind = "ssh"
    assert Together().at_once(dataclasses.replace(chains[0], device=elsewhere), own) == 1
    assert Lockstep().at_once(chains[0], own) == 1


def test_two_launches_at_once_are_not_for_models_that_would_not_find_the_memory(
    chains: tuple[Side, Side], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = tmp_path / "huge.onnx"
    huge.write_bytes(b"")
    os.truncate(huge, psutil.virtual_memory().total // 15)  # a hole: nothing of it is written
    own = LaunchPlan(1, 2, 0, processor_time=True)
    large = dataclasses.replace(chains[0], path=huge, format="onnx")
    monkeypatch.setattr(Side, "bytes", property(lambda one: one.path.stat().st_size))
    assert Together().at_once(large, own) == 1


def test_arrays_that_both_take_are_sent_once(
    chains: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeconv.devices.client import AgentClient

    sent: list[int] = []
    ask = AgentClient.ask

    def counted(self: AgentClient, verb: str, fields: Any = None, arrays: Any = (), **more: Any) -> Any:
        sent.append(len(arrays))
        return ask(self, verb, fields, arrays, **more)

    monkeypatch.setattr(AgentClient, "ask", counted)
    with Together() as way:
        way.launches({BASELINE: chains[0], COPY: chains[0]}, PLAN, [1])
    assert sent[-1] == 1


def test_a_profile_has_the_ops_of_both_where_the_runtime_tells(
    chains: tuple[Side, Side], tmp_path: Path
) -> None:
    with_times = side(onnx_chain(tmp_path / "a.onnx", 5))
    with Together() as way:
        (told,) = way.profiled([with_times], 3, 1)
    assert told is not None
    assert [node["op"] for node in told["nodes"]].count("MatMul") == 5
    assert all(len(node["ns"]) == 3 for node in told["nodes"])
