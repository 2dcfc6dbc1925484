"""What a person looks up: the latest measurements and verdicts, and all that is known of one of them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from edgeconv.errors import UsageError
from edgeconv.history import tables
from edgeconv.history.store import Store

_LEAST_DIGITS = 4


def latest(
    store: Store, *, limit: int, label: str | None = None, device: str | None = None
) -> list[dict[str, Any]]:
    """The latest measurements and verdicts, the newest first, as plain values.

    Args:
        store: the history.
        limit: so many at most.
        label, device: only these.
    """
    found = []
    with store.reading() as session:
        for table, runtime in (
            (tables.Measurement, tables.Measurement.runtime),
            (tables.Verdict, tables.Verdict.candidate_runtime),
        ):
            query = (
                select(table, tables.Device, tables.Runtime, tables.Run)
                .join(tables.Device, tables.Device.id == table.device)
                .join(tables.Runtime, tables.Runtime.id == runtime)
                .join(tables.Run, tables.Run.id == table.run)
                .order_by(table.time.desc(), table.id)
                .limit(limit)
            )
            if label is not None:
                query = query.where(table.label == label)
            if device is not None:
                query = query.where(tables.Device.name == device)
            rows: Any = session.execute(query)
            found += [_summary(session, *row) for row in rows]
    return sorted(found, key=lambda row: str(row["time"]), reverse=True)[:limit]


def _summary(
    session: Session,
    one: tables.Measurement | tables.Verdict,
    device: tables.Device,
    runtime: tables.Runtime,
    run: tables.Run,
) -> dict[str, Any]:
    common = {
        "id": one.id,
        "kind": "measurement" if isinstance(one, tables.Measurement) else "verdict",
        "time": one.time.isoformat(),
        "label": one.label,
        "device": device.name,
        "emulated": device.emulated,
        "runtime": runtime.name if runtime.version is None else f"{runtime.name} {runtime.version}",
        "commit": run.git_commit,
    }
    if isinstance(one, tables.Verdict):
        return {**common, "quantity": one.quantity, "verdict": one.verdict}
    value = session.get(tables.Value, (one.id, "typical"))
    ratio = session.scalars(
        select(tables.Ratio).where(tables.Ratio.measurement == one.id, tables.Ratio.metric == "typical")
    ).first()
    return {
        **common,
        "threads": one.threads,
        "typical_ns": None if value is None else value.value,
        "ratio": None if ratio is None else ratio.ratio,
        "marks": one.marks,
    }


def everything_of(store: Store, key: str) -> dict[str, Any]:
    """All that is known of a measurement, a verdict, a run or an artifact; samples are counted, not listed.

    Args:
        store: the history.
        key: its key, or so much of its beginning as no other has.

    Raises:
        UsageError: there is none, or there are several.
    """
    if len(key) < _LEAST_DIGITS or not all(digit in "0123456789abcdef" for digit in key):
        raise UsageError(
            f"'{key[:70]}' is no key", hint="'edgeconv history list' shows them; four digits are enough"
        )
    with store.reading() as session:
        found: list[tuple[str, Any]] = []
        for kind, table in (
            ("measurement", tables.Measurement),
            ("verdict", tables.Verdict),
            ("run", tables.Run),
        ):
            found += [
                (kind, row) for row in session.scalars(select(table).where(table.id.startswith(key)).limit(3))
            ]
        query = select(tables.Artifact).where(tables.Artifact.sha256.startswith(key)).limit(3)
        found += [("artifact", row) for row in session.scalars(query)]
        if not found:
            raise UsageError(
                f"nothing has the key '{key}'",
                where=str(store.location),
                hint="'edgeconv history list' shows what is there",
            )
        if len(found) > 1:
            kinds = ", ".join(f"{kind} {_key(row)[:12]}" for kind, row in found[:4])
            raise UsageError(f"several things begin with '{key}'", why=kinds, hint="type more of it")
        kind, row = found[0]
        return {"kind": kind, **_plain(row), **_around(session, row)}


def _key(row: Any) -> str:
    return str(row.sha256 if isinstance(row, tables.Artifact) else row.id)


def _plain(row: tables.Table) -> dict[str, Any]:
    values = {column.name: getattr(row, column.name) for column in row.__table__.columns}
    return {
        name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in values.items()
    }


def _around(session: Session, row: Any) -> dict[str, Any]:
    def one(table: type[tables.Table], key: str) -> dict[str, Any] | None:
        found = session.get(table, key)
        return None if found is None else _plain(found)

    if isinstance(row, tables.Run):
        tools = session.execute(
            select(tables.Tool.name, tables.Tool.version)
            .join(tables.RunTool, tables.RunTool.tool == tables.Tool.id)
            .where(tables.RunTool.run == row.id)
            .order_by(tables.Tool.name)
        )
        return {
            "tools": dict(tools.tuples().all()),
            "measurements": list(
                session.scalars(select(tables.Measurement.id).where(tables.Measurement.run == row.id))
            ),
            "verdicts": list(session.scalars(select(tables.Verdict.id).where(tables.Verdict.run == row.id))),
        }
    if isinstance(row, tables.Artifact):
        files = session.scalars(select(tables.ArtifactFile).where(tables.ArtifactFile.artifact == row.sha256))
        named = session.scalars(select(tables.Baseline.name).where(tables.Baseline.artifact == row.sha256))
        return {
            "files": {file.path: file.bytes for file in files},
            "baselines": sorted(set(named)),
            "measurements": list(
                session.scalars(
                    select(tables.Measurement.id).where(tables.Measurement.artifact == row.sha256)
                )
            ),
        }
    around: dict[str, Any] = {"run": one(tables.Run, row.run), "device": one(tables.Device, row.device)}
    if isinstance(row, tables.Verdict):
        for side in ("baseline", "candidate"):
            around[side] = one(tables.Artifact, getattr(row, side))
            around[f"{side}_runtime"] = one(tables.Runtime, getattr(row, f"{side}_runtime"))
        return around
    values = session.scalars(select(tables.Value).where(tables.Value.measurement == row.id))
    ratios = session.scalars(select(tables.Ratio).where(tables.Ratio.measurement == row.id))
    arrays = session.execute(
        select(
            tables.SampleArray.name,
            func.count(),
            func.sum(func.length(tables.SampleArray.data)),
        )
        .where(tables.SampleArray.measurement == row.id)
        .group_by(tables.SampleArray.name)
        .order_by(tables.SampleArray.name)
    )
    return {
        **around,
        "artifact": one(tables.Artifact, row.artifact),
        "runtime": one(tables.Runtime, row.runtime),
        "values": {
            each.metric: {"value": each.value, "low": each.low, "high": each.high, "unit": each.unit}
            for each in values
        },
        "ratios": [
            {"metric": r.metric, "reference": r.reference, "ratio": r.ratio, "low": r.low, "high": r.high}
            for r in ratios
        ],
        "samples": {name: {"launches": count, "bytes": int(size)} for name, count, size in arrays},
    }
