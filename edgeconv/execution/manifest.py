"""What was done, as a versioned file beside the artifacts: ``DIR/manifest.json``.

The JSON schema is published in ``docs/manifest.schema.json``; a test holds the two together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeconv.errors import UsageError
from edgeconv.execution import atomic

FILE_NAME = "manifest.json"
CURRENT_SCHEMA = 1


class _Model(BaseModel):
    model_config = ConfigDict(extra="allow", populate_by_name=True)


class OutputRecord(_Model):
    """How one output compared; numbers are in the output's own unit."""

    name: str
    reference_name: str | None = None
    verdict: Literal["pass", "fail", "skipped"]
    reason: str | None = None
    max_abs: float | None = None
    max_rel: float | None = None
    cosine: float | None = None


class EndToEndRecord(_Model):
    """The artifact behind its written front end, compared with the whole source."""

    verdict: Literal["pass", "fail", "skipped"]
    reference: str
    outputs: list[OutputRecord] = Field(default_factory=list)
    reason: str | None = None


class GateRecord(_Model):
    """The verdict of the comparison with ``reference``, the id of the predecessor."""

    verdict: Literal["pass", "fail", "skipped"]
    reference: str
    inputs: list[str] = Field(default_factory=list, description="labels of the probes or samples used")
    outputs: list[OutputRecord] = Field(default_factory=list)
    reason: str | None = None
    hint: str | None = None
    notes: list[str] = Field(default_factory=list, description="what a person should know of the verdict")
    end_to_end: EndToEndRecord | None = Field(default=None, description="with the front end before it")
    seconds: float | None = Field(default=None, description="wall time of the gate, when it was run")
    peak_rss_bytes: int | None = Field(default=None, description="highest resident memory of its worker")


class ProblemRecord(_Model):
    """One thing that stands between an artifact and a runtime, or that a person should know."""

    code: str
    what: str
    where: str | None = None
    first: str | None = Field(default=None, description="first version of the runtime without the problem")
    hint: str | None = None
    severity: Literal["refused", "unknown", "note"] = "refused"


class CheckRecord(_Model):
    """Whether an artifact runs with one runtime of a target that was named."""

    target: str = Field(description="NAME, or NAME@RELEASE")
    runtime: str | None = Field(default=None, description="none where no runtime there takes the format")
    version: str | None = None
    verdict: Literal["runs", "refused", "unknown"]
    problems: list[ProblemRecord] = Field(default_factory=list)


class DeviceGateRecord(GateRecord):
    """The same artifact run on a device, compared with itself run here; ``reference`` is its own id."""

    device: str
    runtime: str | None = Field(default=None, description="that ran it there; none where all refused it")
    version: str | None = Field(default=None, description="of the runtime")
    emulated: bool = Field(default=False, description="whether times there say nothing of a real board")
    machine: str | None = Field(default=None, description="processor, as 'uname -m' says it")
    threads: int = 1
    accelerator: str | None = None
    placement: dict[str, Any] | None = Field(default=None, description="where the ops ran, where known")


class ArtifactRecord(_Model):
    """One artifact; ``path`` is relative to the manifest."""

    id: str
    format: str
    precision: str
    path: str
    sha256: str
    bytes: int
    from_: str = Field(alias="from", description="id of the predecessor, or 'source'")
    conversion: str
    contract: dict[str, Any]
    seconds: float = Field(description="wall time of the conversion, when it was made")
    peak_rss_bytes: int = Field(description="highest resident memory of its worker, when it was made")
    cached: bool = False
    notes: list[str] = Field(default_factory=list)
    gate: GateRecord
    device_gates: list[DeviceGateRecord] = Field(default_factory=list, description="one a device asked for")
    checks: list[CheckRecord] = Field(default_factory=list, description="one a runtime of each target named")

    @property
    def checked_for(self) -> list[str]:
        """Targets that it was checked for."""
        return list(dict.fromkeys(check.target for check in self.checks))

    @property
    def refused_by(self) -> list[str]:
        """Targets none of whose runtimes takes it."""
        return [
            target
            for target in self.checked_for
            if all(check.verdict == "refused" for check in self.checks if check.target == target)
        ]


class FailureRecord(_Model):
    """A conversion that failed; ``log`` and ``repro`` are relative to the manifest."""

    conversion: str
    reason: str
    hint: str | None = None
    log: str | None = None
    repro: str | None = None
    artifact: str | None = Field(default=None, description="id of the artifact it was to make")
    superseded_by: str | None = Field(default=None, description="the fallback conversion that did make it")
    follows: bool = Field(default=False, description="not tried, because its predecessor failed")
    device: str | None = Field(default=None, description="that broke, where it was no conversion")


class SourceRecord(_Model):
    """The model that was given."""

    path: str
    format: str
    sha256: str
    contract: dict[str, Any] | None = None
    seconds: float | None = Field(default=None, description="wall time of running it on the gates' inputs")
    peak_rss_bytes: int | None = Field(default=None, description="highest resident memory of that worker")
    notes: list[str] = Field(default_factory=list, description="what was read beside it and decided from it")


class FrontEndRecord(_Model):
    """What was cut off at the beginning of the source, as a NumPy function; paths as in an artifact."""

    supplied: bool = Field(description="whether the function could be written")
    reason: str | None = Field(default=None, description="why not")
    path: str | None = Field(default=None, description="Python file with the function front_end(inputs)")
    data: str | None = Field(default=None, description="tables and large constants that it reads")
    sha256: str | None = Field(default=None, description="of the Python file")
    requires: list[str] = Field(default_factory=list, description="packages that it needs beside NumPy")
    inputs: list[dict[str, Any]] = Field(default_factory=list)
    outputs: list[dict[str, Any]] = Field(default_factory=list, description="the tensors at the cut")
    ops: dict[str, str] = Field(
        default_factory=dict, description="op types that made the cut, with a node each"
    )
    notes: list[str] = Field(default_factory=list)
    gate: GateRecord


class BackEndRecord(_Model):
    """A detector's post-processing that was cut off, as a NumPy function; paths as in an artifact."""

    path: str = Field(description="Python file with the function back_end(inputs)")
    sha256: str | None = Field(default=None, description="of the Python file")
    data: str | None = Field(default=None, description="file with its arrays, where it has large ones")
    parameters: dict[str, Any] = Field(default_factory=dict, description="thresholds and names in it")
    inputs: Any = Field(
        default=None, description="what it takes: tensors of an artifact, inputs of the model"
    )
    outputs: list[str] = Field(default_factory=list, description="what it gives")
    gate: GateRecord
    composed: dict[str, GateRecord] = Field(
        default_factory=dict, description="by id of an artifact: the function behind it, against the source"
    )

    @property
    def passed(self) -> bool:
        """Whether it gives what the source gives, by itself and behind each artifact."""
        return all(gate.verdict == "pass" for gate in (self.gate, *self.composed.values()))


class Manifest(_Model):
    """The whole file."""

    schema_: int = Field(default=CURRENT_SCHEMA, alias="schema")
    source: SourceRecord
    tools: dict[str, str | None] = Field(default_factory=dict)
    host: dict[str, Any] = Field(default_factory=dict)
    front_end: FrontEndRecord | None = Field(default=None, description="what runs before all artifacts")
    back_end: BackEndRecord | None = Field(default=None, description="what runs behind all artifacts")
    artifacts: list[ArtifactRecord] = Field(default_factory=list)
    failures: list[FailureRecord] = Field(default_factory=list)

    def artifact(self, identifier: str) -> ArtifactRecord:
        """The artifact of that id (``tflite.int8``); KeyError if there is none."""
        for record in self.artifacts:
            if record.id == identifier:
                return record
        raise KeyError(identifier)

    @property
    def passed(self) -> bool:
        """Whether nothing failed: no conversion (fallbacks that worked aside), no device, no gate."""
        return (
            not any(f.superseded_by is None for f in self.failures)
            and all(a.gate.verdict == "pass" for a in self.artifacts)
            and all(gate.verdict == "pass" for a in self.artifacts for gate in a.device_gates)
            and not (self.front_end is not None and self.front_end.gate.verdict == "fail")
            and (self.back_end is None or self.back_end.passed)
        )

    def to_json(self) -> dict[str, Any]:
        """The document as ``manifest.json`` holds it."""
        return self.model_dump(by_alias=True, mode="json")


def read_manifest(folder: Path) -> Manifest:
    """Read ``manifest.json`` of an output folder, of this or an older schema.

    Raises:
        UsageError: there is none, it is no manifest, or it is of a newer edgeconv.
    """
    path = folder / FILE_NAME if folder.is_dir() else folder
    try:
        data = json.loads(path.read_text())
    except OSError as error:
        raise UsageError(
            "no manifest here", where=str(path), hint="run 'edgeconv convert MODEL' first"
        ) from error
    except ValueError as error:
        raise UsageError("this manifest is no JSON", where=str(path), why=str(error)) from error
    if not isinstance(data, dict) or not isinstance(data.get("schema"), int):
        raise UsageError("this is no manifest: it has no 'schema' number", where=str(path))
    if data["schema"] > CURRENT_SCHEMA:
        raise UsageError(
            f"this manifest has schema {data['schema']}, newer than the {CURRENT_SCHEMA} known here",
            where=str(path),
            hint="use the edgeconv that wrote it, or a newer one",
        )
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"this manifest is broken at {place}", where=str(path), why=first["msg"]) from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` into an output folder, atomically."""
    atomic.write_text(folder / FILE_NAME, json.dumps(manifest.to_json(), indent=1) + "\n")


def json_schema() -> dict[str, Any]:
    """The JSON schema of the file."""
    return Manifest.model_json_schema(by_alias=True)


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=1))
