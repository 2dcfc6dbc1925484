"""The process that workers are forked from: imports the heavy modules once, then forks on request.

Run as ``python -m edgeconv.execution.zygote SOCKET_FD MODULE…``. It speaks JSON lines over the inherited
socket. A request is ``{"run": id, "call", "payload", "log", "result", "nice"}`` or ``{"kill": id}``; the
answers are ``{"ready": seconds}`` once, then ``{"started": id, "pid"}`` and ``{"ended": id, "status",
"peak_rss_bytes"}``. The result itself goes through the file ``result``, so that no answer can be torn.

When the other end of the socket closes, however that came about, all workers are killed.

``multiprocessing``'s forkserver is not used because it imports the caller's main module again in every
worker (a script without a ``__main__`` guard would convert its model recursively) and because it does
not tell the memory that a worker used.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from edgeconv.errors import EdgeconvError

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Serve until the socket closes."""
    connection = socket.socket(fileno=int(arguments[0]))
    die_with_parent()
    # An interrupt is for the run, which then decides; workers get theirs by an explicit kill.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    start = time.monotonic()
    for module in arguments[1:]:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    _Server(connection, time.monotonic() - start).serve()


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies (Linux; elsewhere a no-op)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class _Server:
    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._received = b""
        self._workers: dict[int, int] = {}
        self._send({"ready": seconds})

    def serve(self) -> None:
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection, selectors.EVENT_READ)
            selector.register(wake_read, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._connection:
                        if not self._receive((wake_read, wake_write)):
                            self._kill_all()
                            return
                    else:
                        with contextlib.suppress(BlockingIOError):
                            os.read(wake_read, 512)
                        self._reap()

    def _receive(self, wake: tuple[int, int]) -> bool:
        data = self._connection.recv(1 << 16)
        if not data:
            return False
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if "kill" in request:
                self._kill(request["kill"])
            else:
                self._fork(request, wake)
        return True

    def _fork(self, request: dict[str, Any], wake: tuple[int, int]) -> None:
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            self._connection.close()
            for end in wake:
                os.close(end)
            _work(request)
        self._workers[pid] = request["run"]
        self._send({"started": request["run"], "pid": pid})

    def _reap(self) -> None:
        for pid in list(self._workers):
            ended, status, usage = os.wait4(pid, os.WNOHANG)
            if ended:
                kill_group(pid)  # what the worker itself started must not outlive it
                self._send(
                    {
                        "ended": self._workers.pop(pid),
                        "status": os.waitstatus_to_exitcode(status),
                        "peak_rss_bytes": usage.ru_maxrss * 1024,
                    }
                )

    def _kill(self, run: int) -> None:
        for pid, identifier in self._workers.items():
            if identifier == run:
                kill_group(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _kill_all(self) -> None:
        for run in list(self._workers.values()):
            self._kill(run)

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._connection.sendall(json.dumps(message).encode() + b"\n")


def kill_group(leader: int) -> None:
    """Kill every process in the group that ``leader`` leads."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _work(request: dict[str, Any]) -> None:
    """Do one request in a forked worker; never returns."""
    code = 1
    try:
        os.setsid()
        die_with_parent()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.nice(request.get("nice", 0))
        answer = perform(request["call"], request["payload"])
        target = Path(request["result"])
        partial = target.with_suffix(".partial")
        partial.write_text(json.dumps(answer))
        partial.rename(target)
        code = 0
    except BaseException:
        _log_traceback()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        # No interpreter shutdown: the libraries' destructors are slow and some of them crash.
        os._exit(code)


def perform(call: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Call ``module:function`` with the payload and turn what happens into data.

    Returns:
        ``{"value", "seconds"}``, or ``{"error": {...}, "seconds"}`` where the function raised.
    """
    module, _, name = call.partition(":")
    start = time.monotonic()
    try:
        value = getattr(importlib.import_module(module), name)(payload)
        return {"value": value, "seconds": time.monotonic() - start}
    except EdgeconvError as error:
        _log_traceback()
        return {"error": _error_to_json(error), "seconds": time.monotonic() - start}
    except Exception as error:
        _log_traceback()
        return {
            "error": {"kind": type(error).__name__, "what": str(error) or type(error).__name__},
            "seconds": time.monotonic() - start,
        }


def _log_traceback() -> None:
    """Print the traceback into the log, if it can take it: on a full disk it cannot."""
    with contextlib.suppress(OSError):
        traceback.print_exc()


def _error_to_json(error: EdgeconvError) -> dict[str, Any]:
    return {
        "edgeconv": type(error).__name__,
        "what": error.what,
        "where": error.where,
        "why": error.why,
        "hint": error.hint,
    }


if __name__ == "__main__":
    main(sys.argv[1:])
