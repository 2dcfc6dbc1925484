"""Decisions on known truths: what is injected, and what is kept of them. The real runtime throughout."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeconv.devices.registry import find_device
from edgeconv.errors import UsageError
from edgeconv.latency.built_in import network
from edgeconv.latency.decisions import Policy
from edgeconv.latency.drill import Subject, Task, kept_trials, tasks_of, trials, units_for
from edgeconv.latency.other_load import toggling
from edgeconv.latency.rates import Trial
from edgeconv.latency.sources import BASELINE, CANDIDATE, Side
from edgeconv.recipe.drilling import DrillRequest, drill


@given(st.integers(0, 1000), st.integers(1, 5000))
def test_the_injected_share_is_exact(tenths: int, least: int) -> None:
    effect = tenths / 10
    baseline, candidate = units_for(effect, least)
    assert baseline >= least
    assert Fraction(candidate, baseline) == 1 + Fraction(tenths, 1000)


@pytest.mark.parametrize("effect", [-1.0, 101.0, 0.0001, 1 / 3])
def test_a_share_that_cannot_be_counted_is_refused(effect: float) -> None:
    with pytest.raises(UsageError, match="cannot be injected"):
        units_for(effect)


def test_an_effect_whose_samples_are_too_long_is_left_out_and_said() -> None:
    side = Side(Path("m"), "tflite", find_device("local"), None)  # type: ignore[arg-type]
    tasks, left = tasks_of([Subject("slow", lambda units: side, 0.020, 0.020)], (0.0, 2.0, 50.0), (0, 4))
    assert [(task.effect, task.loops, task.units) for task in tasks] == [
        (0.0, 0, (1, 1)),
        (0.0, 4, (1, 1)),
        (50.0, 0, (2, 3)),
        (50.0, 4, (2, 3)),
    ]
    (said,) = left
    assert "+2 %" in said
    assert "50 times 20 ms" in said


@pytest.mark.parametrize(("layers", "image"), [(1, 16), (100, 3), (105, 40)])
def test_the_built_in_network_gives_what_it_is_given(layers: int, image: int) -> None:
    """So its values never come near zero, where arithmetic is slower, however many layers there are."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=network(layers, image))
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    values = np.random.default_rng(1).random(taken["shape"], np.float32)
    interpreter.set_tensor(taken["index"], values)
    interpreter.invoke()
    assert np.array_equal(interpreter.get_tensor(given["index"]), values)
    assert len(interpreter._get_ops_details()) >= layers


def test_busy_loops_run_within_the_block_and_are_gone_after_it() -> None:
    def below() -> list[str]:
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(os.getpid())], capture_output=True, text=True
        )
        children = [pid for pid in listed.stdout.split() if _is_toggler(pid)]
        if not children:
            return []
        loops = subprocess.run(["ps", "-o", "pid=", "--ppid", children[0]], capture_output=True, text=True)
        return loops.stdout.split()

    with toggling(3, seed=1):
        loops = below()
        assert len(loops) == 3
    assert not below()
    assert not any(Path(f"/proc/{pid}").exists() for pid in loops)
    with toggling(0):
        assert not below()


def _is_toggler(pid: str) -> bool:
    try:
        return b"SIGSTOP" in Path(f"/proc/{pid}/cmdline").read_bytes()  # no other child of this process
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.xdist_group("latency")
def test_a_drill_decides_on_equals_and_finds_what_it_injected_itself(tmp_path: Path) -> None:
    told: list[Trial] = []
    request = DrillRequest(
        sizes=(40e-6,), effects=(0.0, 50.0), loops=(0, 1), seconds=300, rounds=1, seed=3, keep=tmp_path / "k"
    )
    found = drill(request, told.append)
    assert sorted((one.effect, one.loops) for one in told) == [
        (0.0, 0), (0.0, 0), (0.0, 1), (0.0, 1), (50.0, 0), (50.0, 1),
    ]  # fmt: skip
    assert all(one.verdict == "regressed" for one in told if one.effect)
    assert all(1.3 < one.low <= one.high < 1.7 for one in told if one.effect)
    assert found.summary.false_alarms.of == 4
    kept = kept_trials(tmp_path / "k")
    assert [dataclasses.replace(one, launches=()) for one in kept] == [
        dataclasses.replace(one, launches=()) for one in told
    ]
    for one, other in zip(kept, told, strict=True):
        for launch, same in zip(one.launches, other.launches, strict=True):
            assert all(np.array_equal(launch[side], same[side]) for side in (BASELINE, CANDIDATE))
            assert list(launch) == list(same)  # whose burst came first


def test_nothing_to_drill_is_said() -> None:
    with pytest.raises(UsageError, match="nothing to drill"):
        next(trials(list[Task](), Policy(), 1.0, seed=1))
    with pytest.raises(UsageError, match="no such file"):
        drill(DrillRequest(artifacts=(Path("not-there.tflite"),)))
    with pytest.raises(UsageError, match="a size"):
        drill(DrillRequest(sizes=(10.0,)))
