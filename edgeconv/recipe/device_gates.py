"""``edgeconv convert --device``: each artifact that was proven here is proven on the devices too.

The reference is the artifact itself, run here: that it equals its source was proven before, so what is left
to prove is that it computes there what it computes here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import filelock

from edgeconv.devices.base import RuntimeChoice
from edgeconv.devices.registry import find_device
from edgeconv.devices.session import runtimes_for
from edgeconv.errors import EdgeconvError, UnavailableError, UsageError
from edgeconv.execution.manifest import (
    ArtifactRecord,
    DeviceGateRecord,
    FailureRecord,
    Manifest,
    read_manifest,
    write_manifest,
)
from edgeconv.formats.base import to_json
from edgeconv.recipe.compare import ComparisonRequest, compare
from edgeconv.recipe.on_devices import OnDevice

_OF_TRAINING = ("saved_model", "frozen_graph")
"""What artifacts are made of, and no board is given."""


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """Where the artifacts of a run are to be proven too.

    Attributes:
        devices: their names.
        runtime: that runs them there; artifacts that it does not open are left out.
        threads, accelerator: of the runtime.
        data: samples for the gates, in place of seeded probes.
        tolerance: as for the gates here.
    """

    devices: tuple[str, ...]
    runtime: str | None = None
    threads: int = 1
    accelerator: str | None = None
    data: Path | None = None
    tolerance: tuple[str, ...] = ()

    def check(self) -> None:
        """Look at the names before anything is begun.

        Raises:
            UsageError: a device is not known, or a runtime is no name of one.
        """
        for name in self.devices:
            find_device(name)
        if self.runtime is not None:
            RuntimeChoice.parse(self.runtime)


def prove_on_devices(
    manifest: Manifest, folder: Path, request: DeviceRequest, say: Callable[[str], None]
) -> Manifest:
    """Run the gates and write what came of them into the manifest.

    A device that breaks becomes a failure of that artifact there; what was made stays, and so do the gates
    of the other devices.

    Args:
        manifest: of a run.
        folder: with its artifacts.
        request: where.
        say: told what is being done.

    Returns:
        The manifest with the gates; the one in the folder has them too.
    """
    gates: dict[str, list[DeviceGateRecord]] = {}
    failures: list[FailureRecord] = []
    # With a front end the samples go in before it, and no artifact takes them.
    data = request.data if manifest.front_end is None else None
    for record in manifest.artifacts:
        if record.gate.verdict != "pass" or not _is_run_there(record, request):
            continue
        say(f"prove {record.id} on {', '.join(request.devices)}")
        for one in _on_devices(folder / record.path, request, data):
            if isinstance(one.error, UnavailableError):
                failures.append(_failure(record, one.device, one.error))
            else:
                gates.setdefault(record.id, []).append(_gate(record, one, request))
    with filelock.FileLock(folder / ".lock"):
        whole = read_manifest(folder)
        for document in (manifest, whole):
            for record in document.artifacts:
                record.device_gates = gates.get(record.id, record.device_gates)
            document.failures.extend(failures)
        write_manifest(folder, whole)
    return manifest


def _is_run_there(record: ArtifactRecord, request: DeviceRequest) -> bool:
    if record.format in _OF_TRAINING and request.runtime is None:
        return False
    try:
        runtimes_for(record.format, RuntimeChoice.parse(request.runtime) if request.runtime else None)
    except UsageError:
        return False
    return True


def _on_devices(path: Path, request: DeviceRequest, data: Path | None) -> tuple[OnDevice, ...]:
    asked = ComparisonRequest(
        reference=path,
        candidate=path,
        data=data,
        tolerance=request.tolerance,
        devices=request.devices,
        runtime=request.runtime,
        threads=request.threads,
        accelerator=request.accelerator,
    )
    try:
        return compare(asked).devices
    except EdgeconvError as error:  # of the artifact here, which is no device's fault and no reason to stop
        return tuple(OnDevice(name, error=error) for name in request.devices)


def _gate(record: ArtifactRecord, one: OnDevice, request: DeviceRequest) -> DeviceGateRecord:
    if one.error is not None:
        runtime = RuntimeChoice.parse(request.runtime) if request.runtime is not None else None
        return DeviceGateRecord(
            verdict="fail",
            reference=record.id,
            reason=str(one.error),
            hint=one.error.hint,
            device=one.device,
            runtime=runtime.name if runtime else None,
            version=runtime.version if runtime else None,
            emulated=find_device(one.device).emulated,
            threads=request.threads,
            accelerator=request.accelerator,
        )
    assert one.gate is not None
    return DeviceGateRecord.model_validate(
        {**one.gate.model_dump(), **to_json(one.ran), "reference": record.id, "device": one.device}
    )


def _failure(record: ArtifactRecord, device: str, error: UnavailableError) -> FailureRecord:
    return FailureRecord(
        conversion=f"gate on {device}",
        reason=str(error),
        hint=error.hint,
        artifact=record.id,
        device=device,
    )
