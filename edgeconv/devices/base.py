"""What a device is to the rest of edgeconv: a name, and a way to start the agent there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from edgeconv.errors import EdgeconvError, UsageError


@dataclass(frozen=True, slots=True)
class RuntimeChoice:
    """A runtime as a person names it: ``litert``, ``tflite-runtime==2.14.0``, ``onnxruntime==1.16.3``."""

    name: str
    version: str | None = None

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}=={self.version}"

    @classmethod
    def parse(cls, text: str) -> RuntimeChoice:
        """Read ``NAME`` or ``NAME==VERSION``.

        Raises:
            UsageError: an empty name or version.
        """
        name, equals, version = text.strip().partition("==")
        if not name or (equals and not version):
            raise UsageError(f"'{text}' names no runtime", hint="write it like tflite-runtime==2.14.0")
        return cls(name.strip(), version.strip() or None)


@dataclass(frozen=True, slots=True)
class Start:
    """How the agent is started: a program of this machine whose standard input and output are the agent's.

    Attributes:
        command: the program and its arguments.
        variables: environment variables to add; ``None`` as a value removes one.
        where: what a person knows the place as (``environment 'tflite-runtime==2.14.0'``).
        greeting_seconds: how long it may take until the agent has said hello.
        agent: the agent's bytes, for a place that may ask for them first (``_bootstrap.ASK``).
        explain: makes an error of the exit code of ``command``, what it said, and whether the agent had begun
            already; ``None`` where those are the agent's own.
        reap: ends the agent of that process number there, and removes what it left, after it was lost.
    """

    command: tuple[str, ...]
    variables: Mapping[str, str | None] = field(default_factory=dict)
    where: str = ""
    greeting_seconds: float = 60.0
    agent: bytes | None = None
    explain: Callable[[int | None, str, bool], EdgeconvError | None] | None = None
    reap: Callable[[int], None] | None = None


@runtime_checkable
class Device(Protocol):
    """A place where runtimes run."""

    name: str
    kind: str
    emulated: bool
    """Whether its times say nothing of a real board; they are marked, and never compared with real ones."""
    shares_files: bool
    """Whether the agent sees this machine's files, so that nothing has to be sent."""
    about: str
    """One line for a person: what and where it is."""

    def start(self, runtime: RuntimeChoice | None) -> Start:
        """How to start the agent where ``runtime`` is installed (the device's own choice where ``None``).

        Raises:
            UnavailableError: the device, or that runtime on it, is not here; the hint says how to get it.
        """
        ...

    def runtimes(self) -> tuple[RuntimeChoice, ...]:
        """Runtimes that are known to be there in a place of their own, beside what ``start(None)`` finds."""
        ...


@runtime_checkable
class DeviceKind(Protocol):
    """One way to reach a device. One module of ``edgeconv.devices`` each, constant ``DEVICE_KIND``."""

    kind: str

    def devices(self) -> tuple[Device, ...]:
        """Those that are there without being written down (this machine, boards that were made)."""
        ...

    def makeable(self) -> tuple[str, ...]:
        """Names that ``edgeconv devices create`` takes."""
        ...

    def from_settings(self, name: str, settings: Mapping[str, Any], path: Path) -> Device:
        """A device from what the user's file of devices says of it.

        Raises:
            UsageError: settings that this kind does not know.
        """
        ...
