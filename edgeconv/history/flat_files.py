"""One table as one file of CSV or Parquet.

CSV has no types: a cell is text, the empty cell is "nothing", an empty text is ``""`` in quotes that the
cell itself has; lists and objects are JSON. Parquet keeps samples as lists of int64, and objects as JSON.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, BigInteger, Boolean, ColumnElement, Double, LargeBinary

from edgeconv.errors import UnavailableError, UsageError
from edgeconv.history import tables

if TYPE_CHECKING:
    from edgeconv.history.exchange import Row

_LONGEST_CELL = 1 << 30


def write_csv(path: Path, table: type[tables.Table], rows: Sequence[Row]) -> None:
    """A head with the names of the columns, then the rows."""
    columns = list(table.__table__.columns)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([column.name for column in columns])
        writer.writerows([_cell(row[column.name], column) for column in columns] for row in rows)


def read_csv(path: Path, table: type[tables.Table]) -> list[Row]:
    """The rows, as plain values.

    Raises:
        UsageError: a cell that its column cannot hold.
    """
    columns = {column.name: column for column in table.__table__.columns}
    csv.field_size_limit(_LONGEST_CELL)
    rows = []
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                rows.append(
                    {name: _value(text, columns[name]) for name, text in row.items() if name in columns}
                )
    except (OSError, ValueError, TypeError, RecursionError, csv.Error) as error:
        raise UsageError(
            "it cannot be read as a table", where=f"{path}, row {len(rows) + 1}", why=str(error)
        ) from error
    return rows


def _is_json(column: ColumnElement[Any]) -> bool:
    return isinstance(column.type, (JSON, LargeBinary, Boolean, BigInteger, Double))


def _cell(value: Any, column: ColumnElement[Any]) -> str:
    if value is None:
        return ""
    if _is_json(column):
        return json.dumps(value, allow_nan=False)
    # Nothing, and a text of nothing, are told apart; so is a text that itself begins with a quote. A carriage
    # return within a text would be read as the end of the line by some programs.
    text = str(value)
    return json.dumps(text) if not text or text[0] == '"' or "\r" in text else text


def _value(text: str | None, column: ColumnElement[Any]) -> Any:
    if not text:
        return None
    return json.loads(text) if _is_json(column) or text[0] == '"' else text


def write_parquet(path: Path, table: type[tables.Table], rows: Sequence[Row]) -> None:
    """One file, compressed with Zstandard."""
    import_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = list(table.__table__.columns)
    schema = pa.schema([pa.field(column.name, _arrow_type(column)) for column in columns])
    arrays = [
        pa.array([_arrow_value(row[column.name], column) for row in rows], _arrow_type(column))
        for column in columns
    ]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path, compression="zstd")


def read_parquet(path: Path, table: type[tables.Table]) -> list[Row]:
    """The rows, as plain values.

    Raises:
        UsageError: no Parquet, or a cell that its column cannot hold.
        UnavailableError: pyarrow is not here.
    """
    import_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {column.name: column for column in table.__table__.columns}
    try:
        rows = pq.read_table(path).to_pylist()
        return [
            {
                name: json.loads(value)
                if value is not None and isinstance(columns[name].type, JSON)
                else value
                for name, value in row.items()
                if name in columns
            }
            for row in rows
        ]
    except (OSError, ValueError, TypeError, RecursionError, pa.ArrowException) as error:
        raise UsageError("it cannot be read as Parquet", where=str(path), why=str(error)) from error


def import_pyarrow() -> None:
    """Raise an error for a person where pyarrow is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            "Parquet needs pyarrow, which is not here",
            hint="pip install 'edgeconv[parquet]', or take csv or json",
        ) from error


def _arrow_type(column: ColumnElement[Any]) -> Any:
    import pyarrow as pa

    if isinstance(column.type, LargeBinary):
        return pa.list_(pa.int64())
    if isinstance(column.type, Boolean):
        return pa.bool_()
    if isinstance(column.type, BigInteger):
        return pa.int64()
    return pa.float64() if isinstance(column.type, Double) else pa.string()


def _arrow_value(value: Any, column: ColumnElement[Any]) -> Any:
    return (
        json.dumps(value, allow_nan=False) if value is not None and isinstance(column.type, JSON) else value
    )
