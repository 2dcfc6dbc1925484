"""Artifacts that are kept with their files: baselines by name, and the frozen references of series."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from sqlalchemy import select
from sqlalchemy.orm import Session

from edgeconv.errors import UsageError
from edgeconv.execution import atomic
from edgeconv.formats.base import Format
from edgeconv.formats.registry import file_sha256, identify, sha256_of
from edgeconv.history import tables
from edgeconv.history.entries import ArtifactEntry, clean, key_of, new_id
from edgeconv.history.files import unchanged, write_file
from edgeconv.history.recording import add_artifacts, this_run
from edgeconv.history.store import Store, insert_new
from edgeconv.paths import cache_folder


@dataclass(frozen=True, slots=True)
class Named:
    """A baseline or a reference as it stands.

    Attributes:
        name: of the baseline; the format for a reference.
        file_name: the file's, as it was when it was set.
        sha256, bytes, format, precision: of the artifact.
        time: when it was set.
        git_commit: that was checked out then.
    """

    name: str
    file_name: str
    sha256: str
    bytes: int
    format: str
    precision: str | None
    time: datetime
    git_commit: str | None = None


def artifact_entry(path: Path, precision: str | None = None) -> ArtifactEntry:
    """An artifact on disk as it is recorded.

    Raises:
        UsageError: nothing is there, or no model.
    """
    return _entry(path, identify(path), precision)


def _entry(path: Path, part: Format, precision: str | None = None) -> ArtifactEntry:
    name = path.resolve().name
    parts = name.split(".")
    known = ("fp32", "fp16", "dynamic", "int8", "int16x8")
    if precision is None and len(parts) > 2 and parts[-2] in known:
        precision = parts[-2]  # as edgeconv names what it makes
    size = sum(file.stat().st_size for file in part.files(path))
    return ArtifactEntry(sha256_of(path, part), name, part.name, size, precision)


def keep(store: Store, session: Session, path: Path) -> ArtifactEntry:
    """Keep an artifact with all its files, under the hashes of their bytes."""
    part = identify(path)
    entry = _entry(path, part)
    add_artifacts(session, [entry])
    root = path if path.is_dir() else path.parent
    rows = []
    for file in part.files(path):
        sha256 = file_sha256(file)
        store.files.put(session, sha256, file)
        inner = file.relative_to(root).as_posix()
        rows.append({"artifact": entry.sha256, "path": inner, "sha256": sha256, "bytes": file.stat().st_size})
    insert_new(session, tables.ArtifactFile, rows)
    return entry


def set_baseline(store: Store, name: str, paths: Sequence[Path]) -> list[Named]:
    """Give artifacts a name; one of the same file name that had it before steps back.

    Raises:
        UsageError: a name that cannot be one, no model, or two of the same file name.
    """
    if not name.strip() or len(name) > 200 or clean(name) != name or not name.isprintable():
        raise UsageError(f"'{name[:80]}' cannot be the name of a baseline", hint="take one like 'main'")
    names = [path.resolve().name for path in paths]
    if twice := {one for one in names if names.count(one) > 1}:
        raise UsageError(
            f"two of the artifacts are called {twice.pop()}", why="a baseline tells them apart by file name"
        )
    commit = this_run().git_commit
    with store.writing() as session:
        found = []
        for path in paths:
            entry = keep(store, session, path)
            row = {
                "id": new_id(),
                "name": name,
                "artifact": entry.sha256,
                "file_name": clean(entry.name),
                "time": datetime.now(UTC),
                "git_commit": commit,
            }
            insert_new(session, tables.Baseline, [row])
            found.append(_named(name, entry, row["time"], commit))
    return found


def set_reference(store: Store, path: Path) -> Named:
    """Make an artifact the reference that others of its format are divided by; new series begin."""
    with store.writing() as session:
        entry = keep(store, session, path)
        row = {
            "id": new_id(),
            "format": entry.format,
            "artifact": entry.sha256,
            "file_name": clean(entry.name),
            "time": datetime.now(UTC),
        }
        insert_new(session, tables.Reference, [row])
    return _named(entry.format, entry, row["time"])


def clear_reference(store: Store, format_name: str) -> bool:
    """From now on there is no reference of that format; says whether there was one."""
    there = format_name in {one.name for one in references(store)}
    if there:
        with store.writing() as session:
            row = {"id": new_id(), "format": format_name, "artifact": None, "file_name": ""}
            insert_new(session, tables.Reference, [{**row, "time": datetime.now(UTC)}])
    return there


def baselines(store: Store, *, all_times: bool = False) -> list[Named]:
    """Baselines by name and file name, the newest first; those that were replaced only with ``all_times``."""
    query = (
        select(tables.Baseline, tables.Artifact)
        .join(tables.Artifact, tables.Artifact.sha256 == tables.Baseline.artifact)
        .order_by(
            tables.Baseline.name,
            tables.Baseline.file_name,
            tables.Baseline.time.desc(),
            tables.Baseline.id.desc(),
        )
    )
    found: list[Named] = []
    seen = set()
    with store.reading() as session:
        for row, artifact in session.execute(query):
            if all_times or (row.name, row.file_name) not in seen:
                seen.add((row.name, row.file_name))
                found.append(_of_rows(row.name, row.file_name, artifact, row.time, row.git_commit))
    return found


def references(store: Store) -> list[Named]:
    """The reference of each format that has one."""
    query = (
        select(tables.Reference, tables.Artifact)
        .outerjoin(tables.Artifact, tables.Artifact.sha256 == tables.Reference.artifact)
        .order_by(tables.Reference.time.desc(), tables.Reference.id.desc())
    )
    found: dict[str, Named | None] = {}
    with store.reading() as session:
        for row, artifact in session.execute(query):
            if row.format not in found:
                named = (
                    None
                    if artifact is None
                    else _of_rows(row.format, row.file_name, artifact, row.time, None)
                )
                found[row.format] = named
    return [one for _, one in sorted(found.items()) if one is not None]


def reference_hashes(store: Store) -> set[str]:
    """SHA-256 of every artifact that ever was a reference: a file of old measurements has an old one."""
    with store.reading() as session:
        query = select(tables.Reference.artifact).where(tables.Reference.artifact.is_not(None))
        return {sha256 for sha256 in session.scalars(query) if sha256 is not None}


def find_baseline(store: Store, name: str, file_name: str | None = None) -> Named:
    """The artifact that a name stands for.

    Args:
        store: the history.
        name: as it was set.
        file_name: where the name stands for several models, the one of this file name.

    Raises:
        UsageError: there is none of that name, or several and none of that file name.
    """
    everything = baselines(store)
    known = [one for one in everything if one.name == name]
    if not known:
        names = sorted({one.name for one in everything})
        raise UsageError(
            f"there is no baseline '{name[:80]}'",
            where=str(store.location),
            why=f"there are {', '.join(names[:10])}" if names else "none was set yet",
            hint=f"'edgeconv history set-baseline {name} ARTIFACT' sets it",
        )
    if len(known) == 1:
        return known[0]
    matching = [one for one in known if one.file_name == file_name]
    if not matching:
        raise UsageError(
            f"baseline '{name}' has {len(known)} artifacts, and none is called {file_name or 'like yours'}",
            why=f"it has {', '.join(one.file_name for one in known[:10])}",
            hint="call the candidate like one of them, or set the baseline for it too",
        )
    return matching[0]


def fetch(store: Store, sha256: str, file_name: str) -> Path:
    """A kept artifact as a file (or folder) of that name, in edgeconv's cache; held to its hash.

    Raises:
        UsageError: its files are not kept any more, or were changed.
    """
    name = PurePosixPath(file_name).name or "artifact"
    holder = cache_folder() / "history" / f"{sha256[:32]}-{key_of(name)[:8]}"
    atomic.make_writable_folder(holder.parent)
    with store.reading() as session:
        rows = session.scalars(
            select(tables.ArtifactFile).where(tables.ArtifactFile.artifact == sha256)
        ).all()
        if not rows:
            raise UsageError(f"artifact {sha256[:12]} was measured, but its files were not kept")
        for row in rows:
            _check_inner(row.path)
        # A lone file may be asked for by another name than it had; files of one model know each other's
        # names; those of a folder lie in one of the folder's name.
        if len(rows) == 1 and "/" not in rows[0].path:
            wanted = {holder / name: rows[0]}
        elif any(row.path == name for row in rows):
            wanted = {holder / row.path: row for row in rows}
        else:
            wanted = {holder / name / row.path: row for row in rows}
        target = holder / name
        if not all(unchanged(path, row.sha256) for path, row in wanted.items()):
            with tempfile.TemporaryDirectory(dir=holder.parent, prefix=".fetching.") as folder:
                fresh = Path(folder) / "files"
                for path, row in wanted.items():
                    write_file(store.files, session, row.sha256, fresh / path.relative_to(holder))
                atomic.move_into_place(fresh, holder)
    return target


def _check_inner(path: str) -> None:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise UsageError(f"a kept file is called {path[:80]!r}", why="that leads out of its folder")


def _named(name: str, entry: ArtifactEntry, time: datetime, commit: str | None = None) -> Named:
    return Named(name, entry.name, entry.sha256, entry.bytes, entry.format, entry.precision, time, commit)


def _of_rows(
    name: str, file_name: str, artifact: tables.Artifact, time: datetime, commit: str | None
) -> Named:
    return Named(
        name,
        file_name,
        artifact.sha256,
        artifact.bytes,
        artifact.format,
        artifact.precision,
        time,
        commit,
    )
