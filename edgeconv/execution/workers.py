"""Runs stages in worker processes, side by side within the cores and the memory there are."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from edgeconv import errors
from edgeconv.agent.processor import available_cores
from edgeconv.errors import ConversionError, EdgeconvError, UnavailableError
from edgeconv.execution.atomic import no_space
from edgeconv.execution.stage import Limits, Stage, StageResult

_WATCH_SECONDS = 0.25
_BACKGROUND_NICENESS = 5
_LOG_TAIL_BYTES = 4000


class WorkerPool:
    """An asynchronous pool of forked workers.

    Use as ``async with WorkerPool(jobs=2) as pool: result = await pool.run(stage)``. One process per
    distinct :attr:`Stage.preload` is kept warm; :meth:`warm` starts it ahead of its first stage.

    Args:
        jobs: workers at the same time; the number of cores where ``None``.
        limits: for each worker.
    """

    def __init__(self, *, jobs: int | None = None, limits: Limits | None = None) -> None:
        self.jobs = jobs or available_cores()
        self.limits = limits or Limits()
        self._zygotes: dict[tuple[str, ...], asyncio.Task[_Zygote]] = {}
        self._admission = _Admission(self.jobs, int(psutil.virtual_memory().available * 0.9))
        self._numbers = itertools.count()
        self._scratch = tempfile.TemporaryDirectory(prefix="edgeconv-")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._zygotes.values():
            if task.done() and not task.cancelled() and task.exception() is None:
                await task.result().close()
            else:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, EdgeconvError):
                    await task
        self._scratch.cleanup()

    def warm(self, preload: tuple[str, ...]) -> None:
        """Begin importing ``preload`` now, so that the first stage that needs it waits less."""
        if preload not in self._zygotes:
            self._zygotes[preload] = asyncio.create_task(_Zygote.start(preload, Path(self._scratch.name)))

    async def run(self, stage: Stage) -> StageResult:
        """Run one stage in a worker of its own.

        Raises:
            EdgeconvError: what the stage raised, of the same class.
            ConversionError: the worker crashed, was killed, or hit a limit; the log's last lines say more.
            UnavailableError: the modules in ``stage.preload`` cannot be imported.
        """
        self.warm(stage.preload)
        async with self._admission.slot(stage):
            zygote = await asyncio.shield(self._zygotes[stage.preload])
            number = next(self._numbers)
            answer_file = Path(self._scratch.name) / f"{number}.json"
            stage.log.parent.mkdir(parents=True, exist_ok=True)
            ended = await zygote.run(number, stage, answer_file, self.limits)
        if ended.stopped is None and ended.status == 0 and answer_file.exists():
            answer = json.loads(answer_file.read_text())
            answer_file.unlink()
            if "error" in answer:
                raise _error_from_json(answer["error"], stage)
            return StageResult(answer["value"], answer["seconds"], ended.peak_rss_bytes)
        raise _crash(stage, ended, self.limits)


class _Admission:
    """Lets stages start by priority while cores and memory last; one is always let in."""

    def __init__(self, jobs: int, memory_bytes: int) -> None:
        self._jobs = jobs
        self._memory_bytes = memory_bytes
        self._running: list[Stage] = []
        self._waiting: list[tuple[float, int, Stage, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    @contextlib.asynccontextmanager
    async def slot(self, stage: Stage) -> Any:
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (-stage.priority, next(self._numbers), stage, admitted)
        self._waiting.append(entry)
        self._admit()
        try:
            await admitted
            yield
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)
            if stage in self._running:
                self._running.remove(stage)
            self._admit()

    def _has_room(self, stage: Stage) -> bool:
        """One more in the background than there are jobs: it takes only what the others leave."""
        if stage.background:
            return len(self._running) < self._jobs + (self._jobs > 1)
        return sum(not other.background for other in self._running) < self._jobs

    def _admit(self) -> None:
        for entry in sorted(self._waiting, key=lambda e: (e[0], e[1])):
            _, _, stage, admitted = entry
            used = sum(other.memory_bytes for other in self._running)
            fits = self._has_room(stage) and used + stage.memory_bytes <= self._memory_bytes
            if not (fits or not self._running):
                continue
            self._waiting.remove(entry)
            if not admitted.cancelled():
                self._running.append(stage)
                admitted.set_result(None)


@dataclass
class _Ended:
    status: int
    peak_rss_bytes: int
    stopped: str | None = None


@dataclass
class _Zygote:
    """The parent's end of one warm process."""

    process: subprocess.Popen[bytes]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    log: Path
    pids: dict[int, int] = field(default_factory=dict)
    waiting: dict[int, asyncio.Future[_Ended]] = field(default_factory=dict)
    stopped: dict[int, str] = field(default_factory=dict)
    listener: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, preload: tuple[str, ...], scratch: Path) -> _Zygote:
        ours, theirs = socket.socketpair()
        log = scratch / f"zygote-{abs(hash(preload))}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "edgeconv.execution.zygote", str(theirs.fileno()), *preload],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=_environment(scratch),
                start_new_session=True,  # Ctrl-C in a terminal is for the run alone
            )
        theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours, limit=1 << 20)
        self = cls(process, reader, writer, log)
        try:
            ready = await reader.readline()
        except asyncio.CancelledError:
            process.kill()  # nobody will need it
            process.wait()
            raise
        if not ready:
            process.wait()
            raise UnavailableError(
                f"could not import {', '.join(preload)}",
                why=_tail(log),
                hint="reinstall edgeconv into a fresh virtual environment with its constraints.txt",
            )
        self.listener = asyncio.create_task(self._listen())
        return self

    async def run(self, number: int, stage: Stage, answer: Path, limits: Limits) -> _Ended:
        future: asyncio.Future[_Ended] = asyncio.get_running_loop().create_future()
        self.waiting[number] = future
        self._send(
            {
                "run": number,
                "call": stage.call,
                "payload": stage.payload,
                "log": str(stage.log),
                "result": str(answer),
                "nice": _BACKGROUND_NICENESS if stage.background else 0,
            }
        )
        watcher = asyncio.create_task(self._watch(number, limits))
        try:
            return await asyncio.shield(future)
        finally:
            watcher.cancel()
            if not future.done():
                self._send({"kill": number})
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(asyncio.shield(future), 5)

    async def close(self) -> None:
        self.writer.close()
        if self.listener is not None:
            self.listener.cancel()
        try:
            await asyncio.to_thread(self.process.wait, 5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    async def _listen(self) -> None:
        while line := await self.reader.readline():
            message = json.loads(line)
            if "started" in message:
                self.pids[message["started"]] = message["pid"]
            elif "ended" in message:
                self.pids.pop(message["ended"], None)
                future = self.waiting.pop(message["ended"])
                stopped = self.stopped.pop(message["ended"], None)
                if not future.done():
                    future.set_result(_Ended(message["status"], message["peak_rss_bytes"], stopped))
        for future in self.waiting.values():
            if not future.done():
                future.set_result(_Ended(-9, 0, "the process that workers come from was killed"))

    async def _watch(self, number: int, limits: Limits) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limits.seconds
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            reason = None
            if loop.time() > deadline:
                reason = f"it took longer than {limits.seconds:g} s"
            elif limits.rss_bytes is not None and number in self.pids:
                with contextlib.suppress(psutil.Error):
                    used = psutil.Process(self.pids[number]).memory_info().rss
                    if used > limits.rss_bytes:
                        reason = (
                            f"it used {used / 2**20:,.0f} MB, more than {limits.rss_bytes / 2**20:,.0f} MB"
                        )
            if reason is not None:
                self.stopped[number] = reason
                self._send({"kill": number})
                return

    def _send(self, message: dict[str, Any]) -> None:
        if not self.writer.is_closing():
            self.writer.write(json.dumps(message).encode() + b"\n")


def _environment(scratch: Path) -> dict[str, str]:
    """The environment of workers: quiet libraries, reproducible hashing, no telemetry.

    Temporary files that the libraries leave behind go with ``scratch``: workers end without cleaning up.
    """
    return {
        **os.environ,
        "TMPDIR": str(scratch),
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
        "TF_ENABLE_ONEDNN_OPTS": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "0"),
        "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "-1"),
        "ORT_DISABLE_TELEMETRY": "1",
    }


def _error_from_json(data: dict[str, Any], stage: Stage) -> EdgeconvError:
    if "edgeconv" in data:
        kind = getattr(errors, data["edgeconv"], ConversionError)
        error: EdgeconvError = kind(data["what"], where=data["where"], why=data["why"], hint=data["hint"])
        return error
    if os.strerror(errno.ENOSPC).lower() in data["what"].lower():
        # Converters say it in words of their own, some in the middle of a long message.
        return no_space(stage.name)
    return ConversionError(
        f"{data['kind']}: {first_line(data['what'])}",
        where=stage.name,
        hint=f"the whole message is in {stage.log}",
    )


def _crash(stage: Stage, ended: _Ended, limits: Limits) -> ConversionError:
    from edgeconv.execution.failures import explain_exit

    if ended.stopped is not None:
        return ConversionError(
            "the worker was stopped",
            where=stage.name,
            why=ended.stopped,
            hint="raise --worker-timeout or --worker-memory, or run it with --jobs 1",
        )
    what, hint = explain_exit(ended.status)
    return ConversionError(f"the worker {what}", where=stage.name, why=last_line(_tail(stage.log)), hint=hint)


def first_line(text: str, limit: int = 300) -> str:
    """The first line of a text that says something, shortened."""
    for line in text.splitlines():
        if line.strip():
            return line.strip() if len(line) <= limit else line.strip()[: limit - 1] + "…"
    return text[:limit]


def last_line(text: str) -> str | None:
    """The last line of a text that says something, shortened; ``None`` if nothing does."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return first_line(lines[-1]) if lines else None


def _tail(log: Path) -> str:
    if not log.exists():
        return ""
    with log.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - _LOG_TAIL_BYTES))
        return stream.read().decode(errors="replace")
