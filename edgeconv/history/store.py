"""An open history: the database, and the files that are kept beside it.

Several processes may write at once. On SQLite a writer takes the lock when it begins (``BEGIN IMMEDIATE``),
so it waits for the other instead of failing in the middle, and readers wait for nobody (write-ahead log); on
PostgreSQL rows of things that both know are inserted only where they are not there yet, in the order of
their keys, so that two writers never wait for each other.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from edgeconv.errors import EdgeconvError, UnavailableError, UsageError
from edgeconv.execution import atomic
from edgeconv.history import migrating
from edgeconv.history.files import Files, files_of
from edgeconv.history.location import Location, locate
from edgeconv.history.tables import Table

_BUSY_SECONDS = 60.0
_CONNECT_SECONDS = 10
_ROWS_AT_ONCE = 500
_READING = {"edgeconv_reading": True}


class Store:
    """A history that was opened; :func:`open_store` makes one."""

    def __init__(self, location: Location, engine: Engine) -> None:
        self.location = location
        self.engine = engine
        self.files: Files = files_of(location)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction: all that is written in it, or nothing."""
        with _explained(self.location), Session(self.engine) as session, session.begin():
            yield session

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """One view of the store, which no writer changes meanwhile."""
        engine = self.engine.execution_options(**_READING)
        if self.location.file is None:
            engine = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with _explained(self.location), Session(engine) as session, session.begin():
            yield session

    def migrated(self) -> tuple[str | None, str]:
        """Bring the tables to this release's form; gives the revision before and after."""
        with _explained(self.location):
            return migrating.upgrade(self.engine, self.location)

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_store(text: str | None = None, *, migrate: bool = True) -> Store:
    """Open the history at a place, or make it; its tables are brought to this release's form.

    Args:
        text: see :func:`edgeconv.history.location.locate`.
        migrate: leave the tables as they are if false.

    Raises:
        UsageError: this is no history, or one of a newer edgeconv.
        UnavailableError: the server cannot be reached, or a file is locked for a minute.
    """
    location = locate(text)
    store = Store(location, engine_for(location))
    if migrate:
        try:
            store.migrated()
        except BaseException:
            store.close()
            raise
    return store


def engine_for(location: Location) -> Engine:
    """The engine of a place; for a file its folder is made."""
    if location.file is None:
        return create_engine(
            location.url, poolclass=NullPool, connect_args={"connect_timeout": _CONNECT_SECONDS}
        )
    atomic.make_writable_folder(location.file.parent)
    engine = create_engine(location.url, poolclass=NullPool, connect_args={"timeout": _BUSY_SECONDS})
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # Python begins no transactions by itself; _begin_sqlite does
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    reading = connection.get_execution_options().get("edgeconv_reading")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def insert_new(session: Session, table: type[Table], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, leaving those alone whose key is there already; in the order of their keys."""
    key = [column.name for column in table.__table__.primary_key]
    ordered = sorted(rows, key=lambda row: tuple(row[name] for name in key))
    dialect = session.get_bind().dialect.name
    for start in range(0, len(ordered), _ROWS_AT_ONCE):
        some = ordered[start : start + _ROWS_AT_ONCE]
        if dialect == "postgresql":
            session.execute(postgresql.insert(table).on_conflict_do_nothing(), some)
        else:
            session.execute(sqlite.insert(table).on_conflict_do_nothing(), some)


@contextlib.contextmanager
def _explained(location: Location) -> Iterator[None]:
    try:
        yield
    except EdgeconvError:
        raise
    except DBAPIError as error:
        raise _explanation(error, location) from error


def _explanation(error: DBAPIError, location: Location) -> EdgeconvError:
    if isinstance(error, IntegrityError):
        return UsageError(
            "a row refers to something that is not there, or holds what its table does not take",
            where=str(location),
            hint="export the whole history anew, and import that",
        )
    said = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
    if location.file is None:
        return UnavailableError(
            "the server of the history gave an error",
            where=str(location),
            why=said,
            hint="see that it runs and that the URL of --store or EDGECONV_HISTORY names a database that"
            " you may write",
        )
    if "not a database" in said or "malformed" in said:
        return UsageError(
            "this file is no history", where=str(location), why=said, hint="name another with --store"
        )
    if "locked" in said or "busy" in said:
        return UnavailableError(
            "another process is writing to this history and does not end",
            where=str(location),
            hint="wait for it, then try again",
        )
    return UnavailableError(
        "the history cannot be used",
        where=str(location),
        why=said,
        hint="see that the disk is not full and that you may write there, or name another with --store",
    )
