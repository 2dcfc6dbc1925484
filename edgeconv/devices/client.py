"""Edgeconv's end of the talk with an agent: the verbs as calls, and every way it can break as an error."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from edgeconv.agent import wire
from edgeconv.devices._bootstrap import ASK
from edgeconv.devices.base import Device, RuntimeChoice, Start
from edgeconv.errors import ConversionError, DeviceError, EdgeconvError, UnavailableError, UsageError

SILENCE_SECONDS = 30.0
"""An agent that works says so each second; after this long without a word it is taken for lost."""
_GREETING = wire.MAGIC
_MOST_CHATTER = 1 << 20
_TAIL_BYTES = 4000


@dataclass(frozen=True, slots=True)
class Greeting:
    """What the agent said of itself at first."""

    python: tuple[int, ...]
    machine: str
    pid: int


@dataclass(frozen=True, slots=True)
class OpenModel:
    """A model that an agent holds; its tensors as the runtime describes them, by the file's names."""

    number: int
    inputs: tuple[Mapping[str, Any], ...]
    outputs: tuple[Mapping[str, Any], ...]
    seconds: float
    """How long the runtime took to load it, on the device's clock."""
    version: str
    placement: Mapping[str, Any] | None
    resident_before: int | None = None
    """Bytes that the agent had before it loaded the model, the runtime's library included."""


class AgentClient:
    """An agent that runs; it ends with ``close``, or with this process."""

    def __init__(self, device: Device, runtime: RuntimeChoice | None = None) -> None:
        """Start the agent on ``device`` where ``runtime`` is installed, and wait for its greeting.

        Raises:
            UnavailableError: the device or the runtime is not here.
            DeviceError: it did not start; has the last lines of what was said there.
        """
        self.device = device
        self._start = device.start(runtime)
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the client
        self._number = 0
        self._pid: int | None = None
        self._astray: int | None = None  # number of an agent that may still be there
        try:
            self._process = subprocess.Popen(
                self._start.command,
                env=_variables(self._start),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise DeviceError(
                f"'{self._start.command[0]}' cannot be run", where=self.where, why=str(error)
            ) from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests = _Writer(self._process.stdin.fileno())
        self._answers = _Reader(self._process.stdout.fileno())
        try:
            self.greeting = self._greeted()
        except BaseException:
            self.close()
            raise

    @property
    def where(self) -> str:
        """What errors call the place."""
        return self._start.where or f"device '{self.device.name}'"

    @property
    def bytes_sent(self) -> int:
        """What went to the device so far, the agent itself and frames included."""
        return self._requests.sent

    def ask(
        self,
        verb: str,
        fields: Mapping[str, Any] | None = None,
        arrays: wire.Named = (),
        *,
        body: bytes | None = None,
        silence: float = SILENCE_SECONDS,
    ) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
        """One request and its answer: the result's fields and its arrays.

        Args:
            verb: of the protocol.
            fields: what else is in the header.
            arrays: to send, by name.
            body: bytes to send in place of arrays.
            silence: seconds without a sign of life after which the agent is lost.

        Raises:
            UsageError, UnavailableError, ConversionError: the agent refused; by the kind that it said.
            DeviceError: it ended, or fell silent.
        """
        self._number += 1
        header: dict[str, Any] = {"id": self._number, "verb": verb, **(fields or {})}
        parts: list[bytes] = [] if body is None else [body]
        if arrays:
            header["arrays"], parts = wire.pack(arrays)
        self._requests.silence = silence
        try:
            wire.write_frame(self._requests, header, parts)
        except TimeoutError:
            raise self._silent(silence) from None
        except OSError:
            raise self._lost() from None
        while True:
            answer, data = self._frame(silence)
            if answer.get("id") != self._number:
                continue  # a sign of life, or the answer to a request that was given up
            if "error" in answer:
                raise self._refused(answer["error"])
            result = answer.get("result")
            return (result if isinstance(result, dict) else {}), wire.unpack(answer.get("arrays", []), data)

    def send_files(self, files: Mapping[str, Path]) -> dict[str, str]:
        """Have these files on the device, by content: what is there already is not sent.

        Args:
            files: name on the device, relative, to the file here.

        Returns:
            Name to SHA-256.
        """
        hashes = {name: _sha256(path) for name, path in files.items()}
        missing = set(self.ask("missing", {"files": sorted(set(hashes.values()))})[0].get("missing", []))
        for name, path in files.items():
            if hashes[name] in missing:
                self._put(path, hashes[name])
                missing.discard(hashes[name])
        return hashes

    def open(
        self,
        backend: str,
        format_name: str,
        path: Path,
        files: Sequence[Path] = (),
        options: Mapping[str, Any] | None = None,
    ) -> OpenModel:
        """Load a model there.

        Args:
            backend: name of the runtime (``litert``).
            format_name: registered name of the format.
            path: file or folder here.
            files: all files that belong to it (``Format.files``); sent where the device does not see ours.
            options: ``threads``, ``accelerator``, and what the back end takes.
        """
        fields = self.model_fields(backend, format_name, path, files, options)
        result, _ = self.ask("open", fields, silence=10 * SILENCE_SECONDS)
        return OpenModel(
            number=int(result["model"]),
            inputs=tuple(result["inputs"]),
            outputs=tuple(result["outputs"]),
            seconds=float(result["seconds"]),
            version=str(result["version"]),
            placement=result.get("placement"),
            resident_before=result.get("resident_before"),
        )

    def model_fields(
        self,
        backend: str,
        format_name: str,
        path: Path,
        files: Sequence[Path] = (),
        options: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What a request says of a model, as for :meth:`open`; what the device lacks of it is sent."""
        fields: dict[str, Any] = {"backend": backend, "format": format_name, "options": dict(options or {})}
        if self.device.shares_files or backend == "null":
            fields["path"] = str(path.absolute())
        else:
            root = path if path.is_dir() else path.parent
            named = {each.relative_to(root).as_posix(): each for each in files or (path,)}
            fields["files"] = self.send_files(named)
            fields["main"] = "" if path.is_dir() else path.name
        return fields

    def infer(self, model: OpenModel, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Run one inference there, by the file's own names."""
        return dict(self.ask("infer", {"model": model.number}, list(arrays.items()))[1])

    def close_model(self, model: OpenModel) -> None:
        """Give a model's memory back."""
        self.ask("close", {"model": model.number})

    def close(self) -> None:
        """End the agent and everything that it started; nothing of it stays on the device."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            self._process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            self._astray = self._pid
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._astray is not None and self._start.reap is not None:
            self._start.reap(self._astray)
        self._astray = None
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _greeted(self) -> Greeting:
        until = time.monotonic() + self._start.greeting_seconds
        agent = self._start.agent
        try:
            marks = [_GREETING] if agent is None else [_GREETING, ASK]
            if self._answers.skip_to(marks, until) == ASK and agent is not None:
                self._requests.silence = self._start.greeting_seconds
                self._requests.write(agent)
                self._answers.skip_to([_GREETING], until)
        except TimeoutError:
            raise DeviceError(
                f"no agent answered within {self._start.greeting_seconds:.0f} seconds",
                where=self.where,
                why=self._said() or None,
            ) from None
        except (OSError, EOFError, wire.WireError):
            raise self._lost() from None
        hello, _ = self._frame(self._start.greeting_seconds)
        if hello.get("edgeconv-agent") != wire.PROTOCOL:
            raise DeviceError(
                f"the agent speaks protocol {hello.get('edgeconv-agent')}, and not {wire.PROTOCOL}",
                where=self.where,
            )
        self._pid = int(hello["pid"])
        return Greeting(tuple(hello["python"]), str(hello["machine"]), self._pid)

    def _frame(self, silence: float) -> tuple[wire.Header, bytearray]:
        self._answers.until = time.monotonic() + silence
        self._answers.silence = silence
        try:
            frame = wire.read_frame(self._answers)
        except TimeoutError:
            raise self._silent(silence) from None
        except (OSError, wire.WireError):
            raise self._lost() from None
        if frame is None:
            raise self._lost()
        return frame

    def _silent(self, seconds: float) -> DeviceError:
        self._astray = self._pid
        return DeviceError(
            f"the device said nothing for {seconds:.0f} seconds",
            where=self.where,
            why=self._said() or None,
            hint=f"see that it is on and reachable: edgeconv devices probe {self.device.name}",
        )

    def _lost(self) -> EdgeconvError:
        """The agent has ended: as what, and what it said at last."""
        self._astray = self._pid
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2.0)
        code = self._process.returncode
        said = self._said()
        if self._start.explain is not None:
            error = self._start.explain(code, self._printed(), self._pid is not None)
            if error is not None:
                return error
        if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
            return DeviceError(
                "the agent was killed, as the system does when memory runs out",
                where=self.where,
                why=said or None,
                hint="use a smaller model or precision there, or free some memory",
            )
        how = "went away"
        if code is not None:
            number = -code if code < 0 else code - 128  # a shell in between says it the second way
            how = f"ended with {code}" if number < 1 else f"died of {_signal(number)}"
        return DeviceError(
            f"the agent {how}",
            where=self.where,
            why=said or None,
            hint=f"see what is there: edgeconv devices probe {self.device.name}",
        )

    def _refused(self, error: Mapping[str, Any]) -> EdgeconvError:
        kinds: dict[str, type[EdgeconvError]] = {
            "usage": UsageError,
            "unavailable": UnavailableError,
            "refused": ConversionError,
            "space": UnavailableError,
            "memory": UnavailableError,
        }
        kind = kinds.get(str(error.get("kind")), EdgeconvError)
        return kind(str(error.get("what")), where=self.where, hint=error.get("hint"))

    def _put(self, path: Path, sha256: str) -> None:
        size = path.stat().st_size
        with path.open("rb") as stream:
            offset = 0
            while True:
                data = stream.read(wire.CHUNK)
                fields = {"sha256": sha256, "size": size, "offset": offset}
                received = self.ask("put", fields, body=data)[0].get("received")
                offset += len(data)
                if received == size or not data:
                    return

    def _printed(self) -> str:
        """The end of what was printed there."""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - _TAIL_BYTES))
        return self._log.read().decode(errors="replace")

    def _said(self) -> str:
        """The last lines of what was printed there."""
        lines = [line.strip() for line in self._printed().splitlines()]
        return " | ".join([line for line in lines if line][-4:])[:600]


class _Reader:
    """Reads of a pipe that end when nothing comes for too long; what frames are read from."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self.until = 0.0
        self.silence = 0.0

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes, at least one; empty at the end."""
        if not self._buffer:
            self._buffer += self._next()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def skip_to(self, marks: Sequence[bytes], until: float) -> bytes:
        """Drop what comes before one of ``marks``: what a login prints before the agent has its pipes.

        Returns the mark; a magic number stays to be read, any other is dropped too.
        """
        self.until, self.silence = until, 0.0
        keep = max(map(len, marks)) - 1
        skipped = 0
        while True:
            found = [(at, mark) for mark in marks if (at := self._buffer.find(mark)) >= 0]
            if found:
                at, mark = min(found)
                del self._buffer[: at if mark == wire.MAGIC else at + len(mark)]
                return mark
            skipped += max(0, len(self._buffer) - keep)
            del self._buffer[: max(0, len(self._buffer) - keep)]
            if skipped > _MOST_CHATTER:
                raise wire.WireError("too much was said before the agent began")
            data = self._next()
            if not data:
                raise EOFError
            self._buffer += data

    def _next(self) -> bytes:
        if not self._poll.poll(max(0.0, self.until - time.monotonic()) * 1000):
            raise TimeoutError
        data = os.read(self._descriptor, 1 << 20)
        if self.silence:
            self.until = time.monotonic() + self.silence
        return data


class _Writer:
    """Whole writes to a pipe that end when the other side takes nothing for too long."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self.silence = SILENCE_SECONDS
        self.sent = 0

    def write(self, data: bytes) -> None:
        view = memoryview(data).cast("B")
        while view:
            try:
                written = os.write(self._descriptor, view)
            except BlockingIOError:
                if not self._poll.poll(self.silence * 1000):
                    raise TimeoutError from None
                continue
            self.sent += written
            view = view[written:]

    def flush(self) -> None:
        """Nothing is kept back."""


def _variables(start: Start) -> dict[str, str]:
    merged: dict[str, str | None] = {**os.environ, **start.variables}
    return {name: value for name, value in merged.items() if value is not None}


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
