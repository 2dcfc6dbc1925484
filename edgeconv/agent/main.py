"""The agent's loop: a request comes in, an answer goes out; between them, signs of life.

    agent.pyz [--store DIR]

The first frame it sends is the greeting: ``edgeconv-agent`` (version of the protocol), ``python``,
``machine``, ``pid``. Each request is a frame with ``id`` and ``verb``, each answer has the same ``id`` and
either ``result`` or ``error`` (``kind``, ``what``, ``hint``); ``{"alive": seconds}`` may come before it. The
agent ends when its standard input does, and leaves nothing behind but whole files in its store.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import fcntl
import os
import platform
import select
import signal
import sys
import termios
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
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_NOBODY = 3
"""Exit code where whoever asked is gone."""


class Agent:
    """One conversation over two streams."""

    def __init__(self, requests: Any, answers: wire.Sink, store: str) -> None:
        self._requests, self._answers = requests, answers
        self._writing = threading.Lock()
        self._started = time.monotonic()
        self._store = Store(store)
        self._session = Session(self._store, Heartbeat(self.beat, self._lost))

    def run(self) -> int:
        """Serve until the stream of requests ends; returns the exit code."""
        hello = {
            "edgeconv-agent": wire.PROTOCOL,
            "python": list(sys.version_info[:3]),
            "machine": platform.machine(),
            "pid": os.getpid(),
        }
        heartbeat = self._session.heartbeat
        try:
            self._send(wire.frame(hello))
            while True:
                try:
                    request = wire.read_frame(self._requests)
                except wire.NoMemoryError as error:
                    self._send(_answer(error.header, _no_memory()))
                    continue
                if request is None:
                    return 0
                heartbeat.busy = True
                parts = self._answered(*request)
                heartbeat.busy = False
                del request
                self._send(parts)
        except BrokenPipeError:
            return 0
        except wire.WireError as error:
            sys.stderr.write("edgeconv agent: %s\n" % error)
            return 2
        finally:
            self._session.close()

    def beat(self) -> None:
        """Say that the agent is alive.

        Raises:
            BrokenPipeError: nobody listens any more, or nobody will ever ask again.
        """
        if _is_hung_up(self._requests.fileno()):
            raise BrokenPipeError
        self._send(wire.frame({"alive": round(time.monotonic() - self._started, 3)}))

    def end(self, code: int) -> None:
        """End at once, even within a long inference, and leave nothing behind."""
        self._store.close()
        os._exit(code)

    def _answered(self, header: wire.Header, body: bytearray) -> list[bytes]:
        try:
            verb = VERBS.get(str(header.get("verb")))
            if verb is None:
                raise AgentError("usage", "there is no verb %.80r" % (header.get("verb"),))
            result, arrays = verb(self._session, header, body)
            answer: dict[str, Any] = {"result": result}
            parts: list[bytes] = []
            if arrays:
                answer["arrays"], parts = wire.pack(arrays)
            return _answer(header, answer, parts)
        except AgentError as error:
            return _answer(header, _error(error.kind, error.what, error.hint))
        except MemoryError:
            return _answer(header, _no_memory())
        except wire.WireError as error:
            return _answer(header, _error("usage", str(error), None))
        except BrokenPipeError:
            raise
        except Exception as error:  # a defect here must not end what else is open
            if isinstance(error, ModuleNotFoundError) and error.name == "numpy":
                lacks = "numpy is not installed for this Python (%s)" % sys.executable
                return _answer(header, _error("unavailable", lacks, "pip install numpy"))
            traceback.print_exc()
            return _answer(header, _error("defect", "%s: %.500s" % (type(error).__name__, error), None))

    def _send(self, parts: list[bytes]) -> None:
        with self._writing:
            for part in parts:
                self._answers.write(part)
            self._answers.flush()

    def _lost(self) -> None:
        self.end(_NOBODY)


def _answer(header: wire.Header, answer: dict[str, Any], parts: list[bytes] | None = None) -> list[bytes]:
    number = header.get("id")
    return wire.frame({"id": number if isinstance(number, (int, str)) else None, **answer}, parts or ())


def _error(kind: str, what: str, hint: str | None) -> dict[str, Any]:
    return {"error": {"kind": kind, "what": what, "hint": hint}}


def _no_memory() -> dict[str, Any]:
    return _error("memory", "the device has not enough memory for this", "use a smaller model or input there")


def _is_hung_up(descriptor: int) -> bool:
    """Whether the other end is closed and nothing of it is left to read."""
    poll = select.poll()
    poll.register(descriptor, select.POLLRDHUP)
    if not any(event & (select.POLLHUP | select.POLLRDHUP | select.POLLERR) for _, event in poll.poll(0)):
        return False
    waiting = array.array("i", [0])
    with contextlib.suppress(OSError):
        fcntl.ioctl(descriptor, termios.FIONREAD, waiting)
    return not waiting[0]


def _end_on_signals(agent: Agent) -> None:
    """A thread that waits for the signals that end the agent: a handler would wait for an inference's end."""

    def wait() -> None:
        agent.end(128 + signal.sigwait(_ENDING))

    threading.Thread(target=wait, daemon=True, name="signals").start()


def _first_to_go() -> None:
    """When the device runs out of memory, the system takes the agent, and not what else runs there."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as stream:
        stream.write("1000")


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
    _first_to_go()
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # before there is any other thread
    agent = Agent(requests, answers, arguments.store)
    _end_on_signals(agent)
    code = agent.run()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not by way of the interpreter's end: libraries' own threads and destructors were seen to hang there.
    os._exit(code)
