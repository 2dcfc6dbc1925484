"""A whole history as plain tables, out and in again without loss: a JSON file, or a folder of CSV or Parquet.

The plain form is a list of rows for every table, a row being a mapping of plain values: times are ISO 8601
in UTC, samples are lists of whole numbers in the shape that stands beside them. Kept files are in it only
where asked for. Reading adds what is not there yet; what is there stays as it is.
"""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import JSON, BigInteger, Boolean, Double, LargeBinary, func, select
from sqlalchemy.orm import Session

from edgeconv.errors import UsageError
from edgeconv.execution import atomic
from edgeconv.history import tables
from edgeconv.history.recording import check_sha256
from edgeconv.history.samples import MOST_SAMPLES, decode, encode
from edgeconv.history.store import Store, insert_new

FORMATS = ("json", "csv", "parquet")
VERSION = 1
_KIND = "edgeconv-history"
_MOST_BYTES = 4 << 30
_FILES = "files"
_ORDER: tuple[type[tables.Table], ...] = (
    tables.Artifact,
    tables.ArtifactFile,
    tables.Device,
    tables.Runtime,
    tables.Tool,
    tables.Run,
    tables.RunTool,
    tables.Measurement,
    tables.SampleArray,
    tables.Value,
    tables.Ratio,
    tables.Verdict,
    tables.Baseline,
    tables.Reference,
)
"""What refers to something comes after it."""
TABLES = {table.__tablename__: table for table in _ORDER}

Row = dict[str, Any]


@dataclass(frozen=True)
class Exported:
    """What was written or read: rows by table, and how many kept files."""

    rows: Mapping[str, int]
    files: int


def dump(store: Store, *, with_files: bool = False) -> tuple[dict[str, list[Row]], dict[str, bytes]]:
    """All rows as plain values, in the order of their keys, and kept files by hash."""
    files: dict[str, bytes] = {}
    with store.reading() as session:
        found = {name: list(_rows(session, table)) for name, table in TABLES.items()}
        for row in found["artifact_files"] if with_files else ():
            if store.files.has(session, row["sha256"]):
                files[row["sha256"]] = b"".join(store.files.read(session, row["sha256"]))
    return found, files


def load(
    store: Store, content: Mapping[str, list[Row]], files: Mapping[str, bytes], where: str
) -> dict[str, int]:
    """Add rows and files; gives how many rows of each table were new.

    Raises:
        UsageError: a table or value that is none, a row that refers to what is not there, or a file that
            its hash does not belong to.
    """
    if unknown := set(content) - set(TABLES):
        raise UsageError(f"there is no table '{unknown.pop()[:40]}'", where=where, hint="update edgeconv")
    added = {}
    with store.writing() as session:
        for name, table in TABLES.items():
            before = session.scalar(select(func.count()).select_from(table)) or 0
            rows = [
                _from_plain(table, row, f"{where}: {name}[{n}]")
                for n, row in enumerate(content.get(name, []))
            ]
            insert_new(session, table, rows)
            added[name] = (session.scalar(select(func.count()).select_from(table)) or 0) - before
        for sha256, data in files.items():
            _keep_file(store, session, sha256, data, where)
    return added


def _keep_file(store: Store, session: Session, sha256: str, data: bytes, where: str) -> None:
    check_sha256(sha256)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UsageError(f"the file {sha256[:12]} is damaged", where=where)
    with tempfile.NamedTemporaryFile() as stream:
        stream.write(data)
        stream.flush()
        store.files.put(session, sha256, Path(stream.name))


def _rows(session: Session, table: type[tables.Table]) -> Iterator[Row]:
    columns = table.__table__.columns
    for row in session.execute(select(*columns).order_by(*table.__table__.primary_key)).mappings():
        plain = {column.name: row[column.name] for column in columns}
        if table is tables.SampleArray:
            plain["data"] = decode(plain["data"], plain["shape"]).reshape(-1).tolist()
        yield {
            name: value.isoformat() if isinstance(value, datetime) else value for name, value in plain.items()
        }


def _from_plain(table: type[tables.Table], row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        raise UsageError("a row is no object", where=where)
    found: Row = {}
    for column in table.__table__.columns:
        value = row.get(column.name)
        if value is None:
            if not column.nullable:
                raise UsageError(f"'{column.name}' is missing", where=where)
            found[column.name] = None
            continue
        place = f"{where}.{column.name}"
        if isinstance(column.type, LargeBinary):
            value = _samples(value, row.get("shape"), place)
        elif isinstance(column.type, tables.Instant):
            value = _moment(value, place)
        elif isinstance(column.type, JSON):
            if not isinstance(value, (dict, list)):
                raise UsageError("it is neither object nor list", where=place)
        elif isinstance(column.type, Boolean):
            value = _of(bool, value, place)
        elif isinstance(column.type, BigInteger):
            value = _of(int, value, place)
        elif isinstance(column.type, Double):
            value = float(_of((int, float), value, place))
        else:
            value = _of(str, value, place)
            longest = getattr(column.type, "length", None)
            if (longest is not None and len(value) > longest) or "\0" in value:
                raise UsageError(f"{value[:40]!r} is too long, or no text", where=place)
            if column.name == "sha256":
                check_sha256(value)
        found[column.name] = value
    return found


def _of(kind: type | tuple[type, ...], value: Any, where: str) -> Any:
    exact = kind if isinstance(kind, tuple) else (kind,)
    if type(value) not in exact:
        raise UsageError(f"{value!r:.60} is no {exact[0].__name__}", where=where)
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise UsageError("the number is too large", where=where)
    return value


def _moment(value: Any, where: str) -> datetime:
    try:
        found = datetime.fromisoformat(_of(str, value, where))
    except ValueError as error:
        raise UsageError(f"'{value[:60]}' is no time", where=where) from error
    if found.tzinfo is None:
        raise UsageError("the time has no zone", where=where, hint="write it like 2026-03-01T12:00:00+00:00")
    return found


def _samples(value: Any, shape: Any, where: str) -> bytes:
    try:
        array = np.array(value, np.int64) if len(value) else np.zeros(0, np.int64)
        right = array.ndim == 1 and array.size <= MOST_SAMPLES
        if not right or not all(type(one) is int for one in value):
            raise ValueError("no list of whole numbers")
        return encode(array.reshape([_of(int, size, where) for size in shape]))
    except (ValueError, TypeError, OverflowError) as error:
        raise UsageError("these are no samples of their shape", where=where, why=str(error)) from error


def export(store: Store, path: Path, format_name: str, *, with_files: bool = False) -> Exported:
    """Write everything to one JSON file, or a folder of one CSV or Parquet file a table.

    Raises:
        UsageError: it cannot be written, or the folder has something in it.
        UnavailableError: Parquet without pyarrow.
    """
    content, files = dump(store, with_files=with_files)
    if format_name == "json":
        whole = {
            _KIND: VERSION,
            "tables": content,
            _FILES: {sha256: base64.b64encode(data).decode() for sha256, data in files.items()},
        }
        with atomic.explained_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_text(path, json.dumps(whole, separators=(",", ":"), allow_nan=False) + "\n")
    else:
        _write_folder(path, format_name, content, files)
    return Exported({name: len(rows) for name, rows in content.items()}, len(files))


def _write_folder(
    path: Path, format_name: str, content: Mapping[str, list[Row]], files: Mapping[str, bytes]
) -> None:
    from edgeconv.history import flat_files

    write = flat_files.write_csv if format_name == "csv" else flat_files.write_parquet
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError("this is there already", where=str(path), hint="name a folder that is new or empty")
    with atomic.explained_disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        for name, table in TABLES.items():
            write(path / f"{name}.{format_name}", table, content[name])
        if files:
            (path / _FILES).mkdir()
        for sha256, data in files.items():
            (path / _FILES / sha256).write_bytes(data)


def read(path: Path) -> tuple[dict[str, list[Row]], dict[str, bytes]]:
    """Read what :func:`export` wrote; which of the three it is, its content says.

    Raises:
        UsageError: it is none of them, damaged, or of a later version.
        UnavailableError: Parquet without pyarrow.
    """
    if path.is_dir():
        return _read_folder(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(f"it is larger than {_MOST_BYTES >> 30} GiB", where=str(path))
        whole = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError("it cannot be read as JSON", where=str(path), why=str(error)) from error
    if not isinstance(whole, dict) or type(whole.get(_KIND)) is not int:
        raise UsageError(
            "it holds no history", where=str(path), hint="'edgeconv history record' takes what bench wrote"
        )
    if whole[_KIND] > VERSION:
        raise UsageError(f"its version is {whole[_KIND]}", where=str(path), hint="update edgeconv")
    content, files = whole.get("tables"), whole.get(_FILES, {})
    if not isinstance(content, dict) or not isinstance(files, dict):
        raise UsageError("it has no tables", where=str(path))
    if not all(isinstance(rows, list) for rows in content.values()):
        raise UsageError("a table is no list", where=str(path))
    try:
        return content, {str(key): base64.b64decode(data, validate=True) for key, data in files.items()}
    except (ValueError, TypeError) as error:
        raise UsageError("a file in it is damaged", where=str(path), why=str(error)) from error


def _read_folder(path: Path) -> tuple[dict[str, list[Row]], dict[str, bytes]]:
    from edgeconv.history import flat_files

    content = {}
    for name, table in TABLES.items():
        for suffix, reader in (("csv", flat_files.read_csv), ("parquet", flat_files.read_parquet)):
            file = path / f"{name}.{suffix}"
            if file.is_file():
                content[name] = reader(file, table)
    if not content:
        raise UsageError("there is no exported history in this folder", where=str(path))
    folder = path / _FILES
    files = {file.name: file.read_bytes() for file in sorted(folder.iterdir())} if folder.is_dir() else {}
    return content, files


def load_file(store: Store, path: Path) -> Exported:
    """Add what a file or folder holds; see :func:`read` and :func:`load`."""
    content, files = read(path)
    return Exported(load(store, content, files, str(path)), len(files))
