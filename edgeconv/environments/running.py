"""A program in a side environment: a file of this package, with limits on time and memory."""

from __future__ import annotations

import contextlib
import json
import os
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
