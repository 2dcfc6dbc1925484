"""What is old goes; what baselines and references need stays."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, delete, func, select, text

from edgeconv.history import tables
from edgeconv.history.store import Store


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many went, or would go; ``samples`` are arrays, ``files`` kept ones."""

    runs: int
    measurements: int
    verdicts: int
    samples: int
    files: int


def prune(store: Store, before: datetime, *, samples_only: bool = False, remove: bool = True) -> Pruned:
    """Forget runs that began before a time, and kept files that nothing needs any more.

    Args:
        store: the history.
        before: with a time zone.
        samples_only: keep everything but the raw samples: series stay whole.
        remove: only count if false.
    """
    with store.writing() as session:
        old = select(tables.Run.id).where(tables.Run.time < before)
        measured = select(tables.Measurement.id).where(tables.Measurement.run.in_(old))
        decided = select(tables.Verdict.id).where(tables.Verdict.run.in_(old))
        sampled = tables.SampleArray.measurement.in_(measured)

        def number(query: Select[str]) -> int:
            return session.scalar(select(func.count()).select_from(query.subquery())) or 0

        whole = 0 if samples_only else 1
        counted = (
            whole * number(old),
            whole * number(measured),
            whole * number(decided),
            session.scalar(select(func.count()).select_from(tables.SampleArray).where(sampled)) or 0,
        )
        if remove:
            session.execute(delete(tables.SampleArray).where(sampled))
        if remove and not samples_only:
            for part in (tables.Value, tables.Ratio):
                session.execute(delete(part).where(part.measurement.in_(measured)))
            session.execute(delete(tables.Measurement).where(tables.Measurement.run.in_(old)))
            session.execute(delete(tables.Verdict).where(tables.Verdict.run.in_(old)))
            session.execute(delete(tables.RunTool).where(tables.RunTool.run.in_(old)))
            session.execute(delete(tables.Run).where(tables.Run.time < before))
        needed = select(tables.ArtifactFile.sha256).where(
            tables.ArtifactFile.artifact.in_(select(tables.Baseline.artifact))
            | tables.ArtifactFile.artifact.in_(
                select(tables.Reference.artifact).where(tables.Reference.artifact.is_not(None))
            )
        )
        files = store.files.keep_only(session, set(session.scalars(needed)), remove=remove)
    if remove and store.location.file is not None:
        with store.engine.connect() as connection:
            connection.execute(text("COMMIT"))  # SQLite gives no space back within a transaction
            connection.execute(text("VACUUM"))
    return Pruned(*counted, files)
