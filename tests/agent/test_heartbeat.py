"""Signs of life: while the agent works, and never while something is timed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from edgeconv.agent import heartbeat
from edgeconv.agent.heartbeat import Heartbeat


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SECONDS", 0.02)


def until(true: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while not true() and time.monotonic() < end:
        time.sleep(0.005)
    return true()


def test_beats_while_busy_and_only_then() -> None:
    beats: list[None] = []
    heart = Heartbeat(lambda: beats.append(None), lambda: None)
    time.sleep(0.1)
    assert beats == []
    heart.busy = True
    assert until(lambda: len(beats) >= 3)


def test_is_silent_where_it_is_to_be_quiet_and_goes_on_after() -> None:
    beats: list[None] = []
    heart = Heartbeat(lambda: beats.append(None), lambda: None)
    heart.busy = True
    for _ in range(5):
        with heart.quiet():
            before = len(beats)
            time.sleep(0.1)
            assert len(beats) == before
        assert until(lambda before=before: len(beats) > before)


def test_quiet_begins_only_when_a_beat_that_is_under_way_is_over() -> None:
    beating, go_on = threading.Event(), threading.Event()
    log: list[str] = []

    def beat() -> None:
        beating.set()
        go_on.wait(20)
        log.append("beat")

    heart = Heartbeat(beat, lambda: None)
    heart.busy = True
    assert beating.wait(20)
    threading.Timer(0.1, go_on.set).start()
    with heart.quiet():
        assert log == ["beat"]


def test_says_so_when_nobody_listens() -> None:
    lost = threading.Event()

    def beat() -> None:
        raise BrokenPipeError

    heart = Heartbeat(beat, lost.set)
    heart.busy = True
    assert lost.wait(20)
    heart.busy = False
