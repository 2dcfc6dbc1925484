"""The agent's loop: a request comes in, an answer goes out; between them, signs of life.

    agent.pyz [--store DIR]

The first frame it sends is the greeting: ``edgeconv-agent`` (version of the protocol), ``python``,
``machine``, ``pid``. Each request is a frame with ``id`` and ``verb``, each answer has the same ``id`` and
either ``result`` or ``error`` (``kind``, ``what``, ``hint``); ``{"alive": seconds}`` may come before it. The
agent ends when its standard input does, and leaves nothing behind but whole files in its store.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import threading
import time
import traceback
from typing import Any

from . import wire
from .errors import AgentError
from .heartbeat import Heartbeat
from .store import Store
from .verbs import VERBS, Session

DEFAULT_STORE = "~/.cache/edgeconv-agent"


class Agent:
    """One conversation over two streams."""

    def __init__(self, requests: wire.Source, answers: wire.Sink, store: str) -> None:
        self._requests, self._answers = requests, answers
        self._writing = threading.Lock()
        self._started = time.monotonic()
        self._store = Store(store)
        heartbeat = Heartbeat(self._beat, self._lost)
        self._session = Session(self._store, heartbeat)

    def run(self) -> int:
        """Serve until the stream of requests ends; returns the exit code."""
        self._send(
            {
                "edgeconv-agent": wire.PROTOCOL,
                "python": list(sys.version_info[:3]),
                "machine": platform.machine(),
                "pid": os.getpid(),
            }
        )
        try:
            while True:
                frame = wire.read_frame(self._requests)
                if frame is None:
                    return 0
                self._session.heartbeat.busy = True
                answer, arrays = self._answer(*frame)
                self._session.heartbeat.busy = False
                self._send({"id": frame[0].get("id"), **answer}, arrays)
        except BrokenPipeError:
            return 0
        except wire.WireError as error:
            sys.stderr.write("edgeconv agent: %s\n" % error)
            return 2
        finally:
            self._session.close()

    def _answer(self, header: wire.Header, body: bytearray) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
        try:
            verb = VERBS.get(str(header.get("verb")))
            if verb is None:
                raise AgentError("usage", "there is no verb %.80r" % header.get("verb"))
            result, arrays = verb(self._session, header, body)
            return {"result": result}, arrays
        except AgentError as error:
            return _error(error.kind, error.what, error.hint), []
        except MemoryError:
            return _error("memory", "the device has not enough memory for this", None), []
        except wire.WireError as error:
            return _error("usage", str(error), None), []
        except Exception as error:  # a defect here must not end what else is open
            traceback.print_exc()
            return _error("defect", "%s: %s" % (type(error).__name__, error), None), []

    def _send(self, header: wire.Header, arrays: wire.Named = ()) -> None:
        parts: list[bytes] = []
        if arrays:
            header["arrays"], parts = wire.pack(arrays)
        with self._writing:
            wire.write_frame(self._answers, header, parts)

    def _beat(self) -> None:
        self._send({"alive": round(time.monotonic() - self._started, 3)})

    def _lost(self) -> None:
        """Nobody listens any more: end at once, even within a long inference."""
        self._store.close()
        os._exit(3)


def _error(kind: str, what: str, hint: str | None) -> dict[str, Any]:
    return {"error": {"kind": kind, "what": what, "hint": hint}}


def main() -> None:
    """Entry point of the shipped file."""
    parser = argparse.ArgumentParser(prog="edgeconv-agent")
    parser.add_argument("--store", default=DEFAULT_STORE)
    arguments = parser.parse_args()
    # What libraries print must not get between the frames.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.exit(Agent(requests, answers, arguments.store).run())
