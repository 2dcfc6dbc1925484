"""One gate on several devices at once: each gets its verdict, or the error that it broke with."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeconv.devices.session import Ran
from edgeconv.errors import EdgeconvError, ExitCode
from edgeconv.execution.manifest import GateRecord
from edgeconv.execution.stage import Limits, Stage
from edgeconv.execution.workers import WorkerPool
from edgeconv.formats.base import to_json

MakeStage = Callable[[int, Mapping[str, Any]], Stage]
"""The stage of a gate, from a device's number and what its payload says of it."""


@dataclass(frozen=True, slots=True)
class OnDevice:
    """What came of the candidate on one device: a gate and where it ran, or what broke.

    Attributes:
        device: its name.
        gate: the verdict; ``None`` where it broke.
        ran: runtime, version, threads, whether it is emulated; ``None`` where it broke.
        error: what broke.
    """

    device: str
    gate: GateRecord | None = None
    ran: Ran | None = None
    error: EdgeconvError | None = None

    @property
    def exit_code(self) -> ExitCode:
        """0 for a pass, 1 for a verdict that is none, and that of the error where it broke."""
        if self.error is not None:
            return self.error.exit_code
        passed = self.gate is not None and self.gate.verdict == "pass"
        return ExitCode.OK if passed else ExitCode.VERDICT_FAILED

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        document: dict[str, Any] = {"device": self.device}
        if self.error is not None:
            error = self.error
            said = {"what": error.what, "where": error.where, "why": error.why, "hint": error.hint}
            return {**document, "verdict": "broken", "error": {**said, "exit_code": int(error.exit_code)}}
        assert self.gate is not None
        return {
            **document,
            **to_json(self.ran),
            **self.gate.model_dump(mode="json", by_alias=True),
        }


def devices_asked(
    devices: Sequence[str], runtime: str | None, threads: int, accelerator: str | None
) -> tuple[str, ...]:
    """The devices that are meant: this machine where only a runtime, threads or an accelerator are said."""
    chosen = runtime is not None or accelerator is not None or threads != 1
    return tuple(dict.fromkeys(devices)) or (("local",) if chosen else ())


async def on_devices(devices: Mapping[str, Mapping[str, Any]], make_stage: MakeStage) -> tuple[OnDevice, ...]:
    """Run a gate on each device, all at once; what breaks on one is no matter to the others.

    Args:
        devices: name to ``device`` of the payload of :func:`edgeconv.comparison.stage.gate`.
        make_stage: makes the stage of one.
    """

    async def one(number: int, name: str, pool: WorkerPool) -> OnDevice:
        try:
            value = (await pool.run(make_stage(number, devices[name]))).value
        except EdgeconvError as error:
            return OnDevice(name, error=error)
        return OnDevice(name, GateRecord.model_validate(value["verdict"]), Ran(**value["ran"]))

    # A slow device is no broken one: the agent's signs of life say which, not the time that all of it takes.
    async with WorkerPool(jobs=len(devices), limits=Limits(seconds=math.inf)) as pool:
        return tuple(await asyncio.gather(*(one(n, name, pool) for n, name in enumerate(devices))))


def summary(devices: Sequence[OnDevice]) -> GateRecord:
    """The gate that stands for all: the first that did not pass, else that of the first device."""
    gates = [one.gate for one in devices if one.gate is not None]
    failed = [gate for gate in gates if gate.verdict != "pass"]
    broken = [(one.device, one.error) for one in devices if one.error is not None]
    if failed or not broken:
        return (failed or gates)[0]
    reason = "; ".join(f"{device}: {error}" for device, error in broken)
    return GateRecord(verdict="skipped", reference="", reason=reason, hint=broken[0][1].hint)
