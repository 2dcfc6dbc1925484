"""A program in a side environment: a file of this package, with limits on time and memory."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from edgeconv.environments.store import Environment
from edgeconv.errors import ConversionError

_LOOK_SECONDS = 0.2
_TAIL = 12


def run_in(
    environment: Environment,
    script: Path,
    payload: Mapping[str, Any],
    *,
    scratch: Path,
    seconds: float,
    memory_bytes: int | None = None,
) -> dict[str, Any]:
    """Run ``script PAYLOAD.json ANSWER.json`` in an environment and return its answer.

    The script reads one JSON document and writes another. It runs isolated from the person's own packages, in
    a process group that is ended as a whole.

    Args:
        environment: where.
        script: the program.
        payload: what it reads.
        scratch: a folder for its files and log.
        seconds: wall time it may take.
        memory_bytes: resident memory that it and its children may use together; ``None`` for no limit.

    Raises:
        ConversionError: it failed, took too long or too much memory; has the last lines that it said.
    """
    asked, answer, log = scratch / "payload.json", scratch / "answer.json", scratch / "environment.log"
    asked.write_text(json.dumps(dict(payload)))
    command = [str(environment.python), "-I", str(script), str(asked), str(answer)]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            env=environment.variables(),
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            broken = _watch(process, time.monotonic() + seconds, memory_bytes)
        finally:
            _end(process)
    where = f"environment '{environment.spec.id}'"
    if broken is not None:
        raise ConversionError(f"{script.stem} {broken} and was stopped", where=where, hint=_tail(log))
    try:
        said = json.loads(answer.read_text())
    except (OSError, ValueError):
        said = {}
    if process.returncode != 0 or "error" in said or not isinstance(said, dict):
        raise ConversionError(
            str(said.get("error") or f"{script.stem} ended with {process.returncode}"),
            where=where,
            why=_tail(log),
            hint=said.get("hint"),
        )
    return said


def _watch(process: subprocess.Popen[bytes], until: float, memory_bytes: int | None) -> str | None:
    while True:
        try:
            process.wait(timeout=_LOOK_SECONDS)
            return None
        except subprocess.TimeoutExpired:
            pass
        if time.monotonic() > until:
            return "took too long"
        if memory_bytes is not None and _resident(process.pid) > memory_bytes:
            return f"took more than {memory_bytes >> 20} MB of memory"


def _resident(pid: int) -> int:
    total = 0
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        for each in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += each.memory_info().rss
    return total


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return "\n".join(lines[-_TAIL:])[-1500:]


class Served:
    """A program in a side environment that stays: each request a line of JSON, each answer one too.

    The program says ``{"ready": true}`` first. What else it prints goes to its standard error and the log.
    """

    def __init__(
        self,
        environment: Environment,
        script: Path,
        payload: Mapping[str, Any],
        *,
        scratch: Path,
        seconds: float,
    ) -> None:
        """Start it and wait until it is ready.

        Args:
            environment: where.
            script: the program.
            payload: what it reads at first.
            scratch: a folder for its files and log.
            seconds: wall time that it may take to begin, and for each answer.

        Raises:
            ConversionError: it ended or took too long; has the last lines that it said.
        """
        self._environment, self._script, self._seconds = environment, script, seconds
        self._log, self._answer = scratch / "environment.log", scratch / "answer.json"
        asked = scratch / "payload.json"
        asked.write_text(json.dumps(dict(payload)))
        with self._log.open("wb") as stream:
            self._process = subprocess.Popen(
                [str(environment.python), "-I", str(script), str(asked), str(self._answer)],
                env=environment.variables(),
                cwd=scratch,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                start_new_session=True,
                # Unbuffered: a line that lies in a buffer here would be one that select does not see.
                bufsize=0,
            )
        self._wait_for("ready")

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One request and its answer.

        Raises:
            ConversionError: the program refused it, ended or took too long.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(dict(request)).encode() + b"\n")
            self._process.stdin.flush()
        return self._wait_for("outputs")

    def close(self) -> None:
        """End it with all its children."""
        _end(self._process)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _wait_for(self, key: str) -> dict[str, Any]:
        where = f"environment '{self._environment.spec.id}'"
        until = time.monotonic() + self._seconds
        while True:
            line = self._line(until)
            if line is None:
                self.close()
                raise ConversionError(
                    f"{self._script.stem} took more than {self._seconds:.0f} seconds and was stopped",
                    where=where,
                )
            if not line:
                self.close()
                said: dict[str, Any] = {}
                with contextlib.suppress(OSError, ValueError):
                    said = json.loads(self._answer.read_text())
                what = str(said.get("error") or f"{self._script.stem} ended")
                raise ConversionError(what, where=where, why=_tail(self._log), hint=said.get("hint"))
            try:
                answer = json.loads(line)
            except ValueError:
                continue  # a library that prints
            if isinstance(answer, dict) and "error" in answer:
                raise ConversionError(str(answer["error"]), where=where)
            if isinstance(answer, dict) and key in answer:
                return answer

    def _line(self, until: float) -> bytes | None:
        """One line of its output; empty at its end, ``None`` where there was none in time."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, until - time.monotonic()))
        return self._process.stdout.readline() if ready else None
