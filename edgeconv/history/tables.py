"""The tables of the history, typed.

Whatever is a thing of the world (an artifact, a device, a runtime, a tool) is keyed by a hash of what it
is, whatever happened (a run, a measurement, a verdict) by a random number: two stores can be put together
without renaming anything, and doing it twice changes nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

KEY_LENGTH = 32
"""Hexadecimal digits of a key: of a UUID, or the beginning of a SHA-256."""


class Instant(TypeDecorator[datetime]):
    """A moment in UTC; databases without time zones keep it without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """A moment with its zone to UTC; without the zone for SQLite."""
        if value is None:
            return None
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Always with the zone UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Key = String(KEY_LENGTH)
Sha256 = String(64)


class Table(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {str: Text, int: BigInteger, float: Double, datetime: Instant, dict[str, Any]: JSON}  # noqa: RUF012


class Artifact(Table):
    """A model on disk, by the hash of its bytes; ``name`` is the one it was first seen under."""

    __tablename__ = "artifacts"
    sha256: Mapped[str] = mapped_column(Sha256, primary_key=True)
    name: Mapped[str]
    format: Mapped[str]
    precision: Mapped[str | None]
    bytes: Mapped[int]


class ArtifactFile(Table):
    """One file of an artifact that was kept: its path within, and the hash under which its bytes lie."""

    __tablename__ = "artifact_files"
    artifact: Mapped[str] = mapped_column(Sha256, ForeignKey("artifacts.sha256"), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(Sha256)
    bytes: Mapped[int]


class FilePart(Table):
    """A piece of a kept file, for stores that have no folder beside them."""

    __tablename__ = "file_parts"
    sha256: Mapped[str] = mapped_column(Sha256, primary_key=True)
    part: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class Device(Table):
    """Where it was measured. ``facts`` is what makes it this one: host, processor, board."""

    __tablename__ = "devices"
    id: Mapped[str] = mapped_column(Key, primary_key=True)
    name: Mapped[str]
    kind: Mapped[str]
    target: Mapped[str | None]
    emulated: Mapped[bool]
    facts: Mapped[dict[str, Any]]


class Runtime(Table):
    """What ran it, with its version and the accelerator that it was asked for."""

    __tablename__ = "runtimes"
    id: Mapped[str] = mapped_column(Key, primary_key=True)
    name: Mapped[str]
    version: Mapped[str | None]
    accelerator: Mapped[str | None]


class Tool(Table):
    """A distribution in one version: the tools that made or measured something."""

    __tablename__ = "tools"
    id: Mapped[str] = mapped_column(Key, primary_key=True)
    name: Mapped[str]
    version: Mapped[str]


class Run(Table):
    """One call of edgeconv, in a repository of the user's where there is one."""

    __tablename__ = "runs"
    id: Mapped[str] = mapped_column(Key, primary_key=True)
    time: Mapped[datetime] = mapped_column(index=True)
    host: Mapped[str]
    git_commit: Mapped[str | None] = mapped_column(index=True)
    git_branch: Mapped[str | None]
    git_dirty: Mapped[bool | None]
    command: Mapped[str]


class RunTool(Table):
    """Which tools a run had."""

    __tablename__ = "run_tools"
    run: Mapped[str] = mapped_column(Key, ForeignKey("runs.id"), primary_key=True)
    tool: Mapped[str] = mapped_column(Key, ForeignKey("tools.id"), primary_key=True)


class Measurement(Table):
    """One artifact measured on one device with one runtime.

    ``label`` names the model over time, whose hash changes with every build; ``marks`` are reasons to
    doubt it (heat, load); ``context`` is what else was known (placement, readings of sensors, options).
    """

    __tablename__ = "measurements"
    id: Mapped[str] = mapped_column(Key, primary_key=True)
    run: Mapped[str] = mapped_column(Key, ForeignKey("runs.id"), index=True)
    time: Mapped[datetime]
    artifact: Mapped[str] = mapped_column(Sha256, ForeignKey("artifacts.sha256"), index=True)
    label: Mapped[str] = mapped_column(index=True)
    device: Mapped[str] = mapped_column(Key, ForeignKey("devices.id"))
    runtime: Mapped[str] = mapped_column(Key, ForeignKey("runtimes.id"))
    threads: Mapped[int]
    marks: Mapped[list[str]] = mapped_column(JSON)
    context: Mapped[dict[str, Any]]


class SampleArray(Table):
    """Raw samples of one launch, packed as :mod:`edgeconv.history.samples` does; launch -1: of none."""

    __tablename__ = "samples"
    measurement: Mapped[str] = mapped_column(Key, ForeignKey("measurements.id"), primary_key=True)
    launch: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    shape: Mapped[list[int]] = mapped_column(JSON)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class Value(Table):
    """One absolute number of a measurement, with its interval: of one machine on one day."""

    __tablename__ = "metric_values"
    measurement: Mapped[str] = mapped_column(Key, ForeignKey("measurements.id"), primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    unit: Mapped[str]
    value: Mapped[float]
    low: Mapped[float | None]
    high: Mapped[float | None]


class Ratio(Table):
    """The same as a ratio to a frozen reference artifact that was measured in the same launches."""

    __tablename__ = "ratios"
    measurement: Mapped[str] = mapped_column(Key, ForeignKey("measurements.id"), primary_key=True)
    reference: Mapped[str] = mapped_column(Sha256, ForeignKey("artifacts.sha256"), primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    ratio: Mapped[float]
    low: Mapped[float | None]
    high: Mapped[float | None]


class Verdict(Table):
    """What was decided of a candidate beside its baseline; ``details`` is the whole decision."""

    __tablename__ = "verdicts"
    id: Mapped[str] = mapped_column(Key, primary_key=True)
    run: Mapped[str] = mapped_column(Key, ForeignKey("runs.id"), index=True)
    time: Mapped[datetime]
    label: Mapped[str] = mapped_column(index=True)
    quantity: Mapped[str]
    baseline: Mapped[str] = mapped_column(Sha256, ForeignKey("artifacts.sha256"))
    candidate: Mapped[str] = mapped_column(Sha256, ForeignKey("artifacts.sha256"))
    baseline_runtime: Mapped[str] = mapped_column(Key, ForeignKey("runtimes.id"))
    candidate_runtime: Mapped[str] = mapped_column(Key, ForeignKey("runtimes.id"))
    device: Mapped[str] = mapped_column(Key, ForeignKey("devices.id"))
    verdict: Mapped[str]
    details: Mapped[dict[str, Any]]


class Baseline(Table):
    """A name given to an artifact at a time; the latest holds, the others tell what it was before."""

    __tablename__ = "baselines"
    id: Mapped[str] = mapped_column(Key, primary_key=True)
    name: Mapped[str]
    artifact: Mapped[str] = mapped_column(Sha256, ForeignKey("artifacts.sha256"))
    file_name: Mapped[str]
    time: Mapped[datetime]
    git_commit: Mapped[str | None]

    __table_args__ = (Index("ix_baselines_name_time", "name", "time"),)


class Reference(Table):
    """The frozen artifact that others of its format are divided by from a time on; null: none."""

    __tablename__ = "reference_artifacts"
    id: Mapped[str] = mapped_column(Key, primary_key=True)
    format: Mapped[str]
    artifact: Mapped[str | None] = mapped_column(Sha256, ForeignKey("artifacts.sha256"))
    file_name: Mapped[str]
    time: Mapped[datetime]
