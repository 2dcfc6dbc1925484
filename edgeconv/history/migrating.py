"""The tables are brought to the form that this release knows, by whoever opens the store first.

One process does it, the others wait: behind a lock on a file beside SQLite's, or a lock of the server's for
PostgreSQL. A migration is one transaction, so one that was killed never happened.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgeconv.errors import UnavailableError, UsageError
from edgeconv.history.location import Location

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection, Engine

HEAD = "0001"
"""The newest revision; the same as Alembic finds in ``migrations/versions``, without importing it."""
_LOCK_KEY = 0x6564676563
"""Of PostgreSQL's advisory lock, "edgec" in ASCII: one of all programs of a database."""
_LOCK_SECONDS = 120.0
_AGAIN_SECONDS = 0.02


def revision_of(engine: Engine) -> str | None:
    """The revision of a store, ``None`` where there are no tables yet."""
    with engine.execution_options(edgeconv_reading=True).connect() as connection:
        return _revision(connection)


def _revision(connection: Connection) -> str | None:
    from sqlalchemy import inspect, text

    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def upgrade(engine: Engine, location: Location, to: str = HEAD) -> tuple[str | None, str]:
    """Bring a store to a revision; does nothing where it is there already.

    Returns:
        The revision before and after.

    Raises:
        UsageError: the store is of a newer edgeconv.
        UnavailableError: another process has been migrating it for two minutes.
    """
    before = revision_of(engine)
    if before == to:
        return before, to
    with _held(location):
        with engine.begin() as connection:
            if location.file is None:
                from sqlalchemy import text

                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            now = _revision(connection)
            if now != to:
                _check_known(now, location)
                from alembic import command

                command.upgrade(_config(connection), to)
        if location.file is not None:
            _write_ahead(location.file)
    return before, to


def _write_ahead(file: Path) -> None:
    """Have SQLite write ahead, so that readers wait for nobody; the file remembers it.

    Tried again, as the change is refused at once, without waiting, while anybody reads.
    """
    deadline = time.monotonic() + _LOCK_SECONDS
    with contextlib.closing(sqlite3.connect(file)) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    return  # it works without, and the next migration tries again
                time.sleep(_AGAIN_SECONDS)


def _check_known(revision: str | None, location: Location) -> None:
    if revision is not None and revision not in known_revisions():
        raise UsageError(
            f"this history is of a newer edgeconv (revision {revision[:40]})",
            where=str(location),
            why=f"this one knows up to {HEAD}",
            hint="update edgeconv, or name another store with --store",
        )


def known_revisions() -> list[str]:
    """All revisions, the oldest first."""
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(_config(None))
    return [each.revision for each in script.walk_revisions()][::-1]


def _config(connection: Connection | None) -> Config:
    from alembic.config import Config

    config = Config()
    # A per cent sign in a path would be read as the beginning of a variable.
    folder = str(Path(__file__).with_name("migrations")).replace("%", "%%")
    config.set_main_option("script_location", folder)
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


@contextlib.contextmanager
def _held(location: Location) -> Iterator[None]:
    if location.file is None:
        yield
        return
    import filelock

    try:
        with filelock.FileLock(f"{location.file}.lock", timeout=_LOCK_SECONDS):
            yield
    except filelock.Timeout as error:
        raise UnavailableError(
            "another process is migrating this history",
            where=str(location),
            hint="wait for it, then try again",
        ) from error
