"""The real agent in a process of its own, talked to frame by frame."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from edgeconv.agent import wire
from edgeconv.devices.shipping import agent_file

NULL = {"verb": "open", "backend": "null", "format": "null"}


class Talk:
    """An agent, started as a board starts it."""

    def __init__(
        self,
        store: Path,
        *,
        python: Path | str = sys.executable,
        program: Path | None = None,
        variables: Mapping[str, str] | None = None,
        limits: Callable[[], None] | None = None,
        isolated: bool = True,
    ) -> None:
        self.store = store
        self.log = store.parent / f"{store.name}.log"
        self._stream = self.log.open("wb")
        self.process = subprocess.Popen(
            [
                str(python),
                *(["-I"] if isolated else []),
                str(program or agent_file().path),
                "--store",
                str(store),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stream,
            env={**os.environ, **(variables or {})},
            preexec_fn=limits,
            bufsize=0,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.requests, self.answers = self.process.stdin, self.process.stdout
        self.greeting = self.frame()[0]
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for stream in (self.requests, self.answers):
            with contextlib.suppress(OSError):
                stream.close()
        if self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        self.process.kill()
        self.process.wait()
        self._stream.close()

    def send(self, header: wire.Header, body: Sequence[bytes] = ()) -> None:
        """One frame to the agent."""
        for part in wire.frame(header, body):
            self.raw(part)

    def raw(self, data: bytes) -> None:
        """Bytes to the agent, all of them."""
        view = memoryview(data)
        while view:
            view = view[self.requests.write(view) :]

    def frame(self) -> tuple[wire.Header, bytearray]:
        """The next frame of the agent.

        Raises:
            EOFError: there is none.
        """
        found = wire.read_frame(self.answers)
        if found is None:
            raise EOFError
        return found

    def answer(self) -> tuple[wire.Header, bytearray]:
        """The next frame that is no sign of life."""
        while True:
            header, body = self.frame()
            if "alive" not in header:
                return header, body

    def ask(self, header: wire.Header, arrays: wire.Named = ()) -> wire.Header:
        """One request and the header of its answer, its arrays unpacked under ``arrays``."""
        self._number += 1
        described, parts = wire.pack(arrays) if arrays else ([], [])
        self.send({"id": self._number, "arrays": described, **header}, parts)
        answer, body = self.answer()
        assert answer["id"] == header.get("id", self._number)
        answer["arrays"] = dict(wire.unpack(answer.get("arrays", []), body))
        return answer

    def error(self, header: wire.Header, arrays: wire.Named = ()) -> Mapping[str, Any]:
        """The error that a request gives."""
        answer = self.ask(header, arrays)
        assert "error" in answer, answer
        error: Mapping[str, Any] = answer["error"]
        return error

    def open(self, path: Path, backend: str, fmt: str, **options: Any) -> wire.Header:
        """Load a model that lies on this machine; what the agent says of it."""
        answer = self.ask(
            {"verb": "open", "backend": backend, "format": fmt, "path": str(path), "options": options}
        )
        assert "result" in answer, answer
        result: wire.Header = answer["result"]
        return result

    def open_null(self, **options: Any) -> int:
        """Load the model that does nothing."""
        return int(self.open(Path(__file__), "null", "null", **options)["model"])

    def put(self, data: bytes, sha: str | None = None) -> wire.Header:
        """Send a file; gives the answer to the last part."""
        sha = sha or hashlib.sha256(data).hexdigest()
        answer: wire.Header = {}
        for offset in range(0, max(len(data), 1), wire.CHUNK):
            self._number += 1
            header = {"id": self._number, "verb": "put", "sha256": sha, "size": len(data), "offset": offset}
            self.send(header, [data[offset : offset + wire.CHUNK]])
            answer = self.answer()[0]
            if "error" in answer:
                break
        return answer

    def wait(self, seconds: float = 10.0) -> int:
        """The code that the agent ends with."""
        return self.process.wait(seconds)

    def kill(self) -> None:
        """As the system does when memory runs out."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def said(self) -> str:
        """What was printed there."""
        return self.log.read_text(errors="replace")


def left_in(store: Path) -> list[str]:
    """All files in a store, relative to it."""
    return sorted(path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file())
