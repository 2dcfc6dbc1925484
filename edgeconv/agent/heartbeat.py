"""Says that the agent is alive while a request takes long; never while something is timed."""

from __future__ import annotations

import contextlib
import threading
from typing import Callable, Iterator

SECONDS = 1.0


class Heartbeat:
    """A thread that calls ``beat`` each second while :attr:`busy`; if ``beat`` fails, it calls ``lost``."""

    def __init__(self, beat: Callable[[], None], lost: Callable[[], None]) -> None:
        self.busy = False
        self.beat = beat
        self._lost = lost
        self._changed = threading.Condition()
        self._quiet = False
        self._parked = False
        threading.Thread(target=self._run, daemon=True, name="heartbeat").start()

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """No heartbeat within: the thread sleeps without a timeout, and takes no time from a measurement.

        Who measures calls :attr:`beat` about each second, between what is timed.
        """
        with self._changed:
            self._quiet = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._parked)
        try:
            yield
        finally:
            with self._changed:
                self._quiet = False
                self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._quiet:
                    self._parked = True
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: not self._quiet)
                    self._parked = False
                if self._changed.wait(SECONDS):
                    continue
            if self.busy:
                try:
                    self.beat()
                except (OSError, ValueError):
                    self._lost()
