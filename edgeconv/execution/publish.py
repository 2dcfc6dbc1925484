"""Puts what was made into the output folder, and keeps the manifest there."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import filelock
import psutil

from edgeconv.errors import ConversionError, UsageError
from edgeconv.execution import atomic
from edgeconv.execution.cache import tool_version
from edgeconv.execution.failures import record_failure
from edgeconv.execution.manifest import (
    FILE_NAME,
    ArtifactRecord,
    FailureRecord,
    FrontEndRecord,
    GateRecord,
    Manifest,
    SourceRecord,
    read_manifest,
    write_manifest,
)
from edgeconv.execution.outcomes import Failure, FrontEndMade, Gated, Settled
from edgeconv.execution.plan import SOURCE, Plan
from edgeconv.formats.base import Artifact, to_json
from edgeconv.formats.registry import file_sha256, format_named, sha256_of

_FAILURES = "failures"


class Publisher:
    """Writes artifacts, failures and the manifest of one run into ``folder``.

    Artifacts of earlier runs on the same source stay, in the folder and in the manifest.
    """

    def __init__(self, folder: Path, name: str, plan: Plan) -> None:
        self._folder = folder
        self._name = name
        self._plan = plan
        self._records: dict[str, ArtifactRecord] = {}
        self._placing: set[Future[None]] = set()
        self._front_end: FrontEndRecord | None = None
        self._hands = ThreadPoolExecutor(max_workers=2)
        atomic.make_writable_folder(folder)
        atomic.remove_leftovers(folder)

    async def publish(self, settled: Settled) -> None:
        """Copy the artifact of a settled node into the folder, unless the same is there already.

        An interrupt does not stop a copy that has begun: :meth:`finish` waits for it.
        """
        placing = self._hands.submit(self._publish, settled)
        self._placing.add(placing)
        await asyncio.wrap_future(placing)

    def _publish(self, settled: Settled) -> None:
        made, gate = settled.made, settled.gate
        if made is None or gate is None or made.attempt is None:
            return
        node, artifact = settled.node, made.artifact
        if self._plan.origin is not None and node.id not in self._plan.wanted:
            return  # a part on the way, whose name belongs to the whole
        target = self._folder / f"{self._name}.{node.precision}{node.suffix}"
        self._place(artifact, target, check=made.cached)
        self._records[node.id] = ArtifactRecord.model_validate(
            {
                "id": node.id,
                "format": node.format,
                "precision": node.precision,
                "path": target.name,
                "sha256": artifact.sha256,
                "bytes": made.bytes,
                "from": made.attempt.source,
                "conversion": made.attempt.conversion,
                "contract": to_json(artifact.contract),
                "seconds": round(made.seconds, 3),
                "peak_rss_bytes": made.peak_rss_bytes,
                "cached": made.cached,
                "notes": list(made.notes),
                "gate": GateRecord.model_validate(gate.verdict),
            }
        )

    def publish_front_end(self, made: FrontEndMade | None) -> None:
        """Copy what was cut off at the beginning of the source into the folder, and record it."""
        planned = self._plan.front_end
        if planned is None:
            return
        front_end = planned.front_end
        record: dict[str, Any] = {
            "supplied": False,
            "reason": "it was not made" if front_end.cut else "nothing but text outputs was cut off",
            "inputs": to_json(front_end.inputs),
            "outputs": to_json(front_end.cut),
            "ops": front_end.ops,
            "notes": list(front_end.said()),
            "gate": {"verdict": "skipped", "reference": SOURCE},
        }
        if made is not None:
            value = made.value
            record.update({key: value[key] for key in ("supplied", "reason", "requires")})
            record["gate"] = value["verdict"]
            for key, file in zip(("path", "data"), value["files"], strict=False):
                target = self._folder / f"{self._name}.{file}"
                with atomic.explained_disk_errors(self._folder):
                    atomic.copy_into_place(made.folder / file, target)
                record[key] = target.name
            if value["files"]:
                record["sha256"] = file_sha256(made.folder / value["files"][0])
        self._front_end = FrontEndRecord.model_validate(record)

    def finish(self, failures: list[Failure], seen: Gated | None) -> Manifest:
        """Write failures and manifest; ``seen`` is what running the source took.

        Returns:
            The manifest of this run alone; the one written also has what earlier runs on the same source
            left in the folder.
        """
        wait(self._placing)
        self._hands.shutdown()
        with atomic.explained_disk_errors(self._folder), filelock.FileLock(self._folder / ".lock"):
            # Logs and scripts of an earlier run's failures are not in the manifest any more.
            shutil.rmtree(self._folder / _FAILURES, ignore_errors=True)
            source = self._plan.origin or self._plan.source
            mine = Manifest(
                source=SourceRecord(
                    path=str(source.path),
                    format=source.format,
                    sha256=source.sha256,
                    contract=to_json(source.contract),
                    seconds=seen.verdict.get("seconds") if seen else None,
                    peak_rss_bytes=seen.verdict.get("peak_rss_bytes") if seen else None,
                    notes=list(self._plan.notes),
                ),
                tools={tool: tool_version(tool) for tool in self._tools()},
                host=host_facts(),
                front_end=self._front_end,
                artifacts=sorted(self._records.values(), key=self._way),
                failures=[self._record(failure) for failure in failures],
            )
            whole = mine.model_copy(update={"artifacts": [*mine.artifacts, *self._kept(mine)]})
            write_manifest(self._folder, whole)
        return mine

    def _way(self, record: ArtifactRecord) -> list[tuple[str, str]]:
        """Formats and precisions from the source to an artifact: sorts each behind what it is made from."""
        way: list[tuple[str, str]] = []
        at: ArtifactRecord | None = record
        while at is not None:
            way.insert(0, (at.format, "" if at.precision == "fp32" else at.precision))
            at = self._records.get(at.from_)
        return way

    def _place(self, artifact: Artifact, target: Path, *, check: bool) -> None:
        part, source = format_named(artifact.format), artifact.path
        if target.exists() and sha256_of(target, part) == artifact.sha256:
            return
        if check and sha256_of(source, part) != artifact.sha256:
            raise ConversionError(
                "a file in the cache is not what was put there",
                where=str(source),
                hint=f"remove {source.parent} and run the same command again",
            )
        with atomic.explained_disk_errors(self._folder):
            for companion in part.files(source):
                if source.is_file() and companion != source:
                    atomic.copy_into_place(companion, target.with_name(companion.name))
            atomic.copy_into_place(source, target)

    def _record(self, failure: Failure) -> FailureRecord:
        log = repro = None
        if failure.stage is not None:
            home = self._folder / _FAILURES / f"{failure.node}-by-{failure.conversion}"
            record = record_failure(home, failure.stage, failure.error)
            log = os.path.relpath(record.log, self._folder)
            repro = os.path.relpath(record.repro, self._folder)
            failure.stage.log.unlink(missing_ok=True)
        return FailureRecord(
            conversion=failure.conversion,
            reason=str(failure.error),
            hint=failure.error.hint,
            log=log,
            repro=repro,
            artifact=failure.node,
            superseded_by=failure.superseded_by,
            follows=failure.follows,
        )

    def _kept(self, mine: Manifest) -> list[ArtifactRecord]:
        """Artifacts that earlier runs on the same source made and that are still what they were."""
        if not (self._folder / FILE_NAME).exists():
            return []
        try:
            earlier = read_manifest(self._folder)
        except UsageError:
            return []
        if earlier.source.sha256 != mine.source.sha256:
            return []
        new = {record.id for record in mine.artifacts}
        new |= {failure.artifact for failure in mine.failures if failure.artifact is not None}
        paths = {record.path for record in mine.artifacts}
        return [
            record
            for record in earlier.artifacts
            if record.id not in new
            and record.path not in paths
            and (self._folder / record.path).exists()
            and sha256_of(self._folder / record.path, format_named(record.format)) == record.sha256
        ]

    def _tools(self) -> list[str]:
        tools = {"edgeconv", "numpy"}
        for record in self._records.values():
            node = self._plan.nodes[record.id]
            tools.update(node.opener.tools if node.opener else ())
            for attempt in node.attempts:
                if attempt.conversion == record.conversion:
                    tools.update(attempt.tools)
        opener = self._plan.nodes[SOURCE].opener
        return sorted(tools | set(opener.tools if opener else ()))


def host_facts() -> dict[str, Any]:
    """What a manifest says of the machine that made it."""
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "release": platform.release(),
        "python": platform.python_version(),
        "cores": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }
