"""Where the history is: a file of SQLite among the person's data, or where ``EDGECONV_HISTORY`` says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeconv.errors import UsageError
from edgeconv.paths import data_folder

if TYPE_CHECKING:
    from sqlalchemy import URL

VARIABLE = "EDGECONV_HISTORY"
FILES_VARIABLE = "EDGECONV_HISTORY_FILES"
_POSTGRESQL = ("postgresql", "postgres", "postgresql+psycopg")


@dataclass(frozen=True, slots=True)
class Location:
    """A place of a history.

    Attributes:
        url: for SQLAlchemy, with its driver.
        file: the database's file, ``None`` for a server.
        files: the folder of kept artifacts; ``None`` where they lie in the database itself.
    """

    url: URL
    file: Path | None
    files: Path | None

    def __str__(self) -> str:
        """As a person may see it: without the password."""
        return str(self.file) if self.file is not None else self.url.render_as_string(hide_password=True)


def locate(text: str | None = None) -> Location:
    """The place that is named, or that ``EDGECONV_HISTORY`` names, or the person's own.

    Args:
        text: ``postgresql://USER@HOST/DATABASE``, ``sqlite:///FILE``, or the path of a file.

    Raises:
        UsageError: neither.
    """
    from sqlalchemy import URL, make_url
    from sqlalchemy.exc import ArgumentError

    named = text or os.environ.get(VARIABLE) or str(data_folder() / "history.sqlite")
    folder = os.environ.get(FILES_VARIABLE)
    files = Path(folder).absolute() if folder else None
    if "://" not in named:
        path = Path(named).expanduser().absolute()
        url = URL.create("sqlite+pysqlite", database=str(path))
        return Location(url, path, files or _beside(path))
    try:
        url = make_url(named)
    except (ArgumentError, ValueError) as error:
        raise _unknown(named.partition("://")[0]) from error
    if url.drivername in _POSTGRESQL:
        return Location(url.set(drivername="postgresql+psycopg"), None, files)
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        if not url.database or url.database == ":memory:" or url.query:
            raise UsageError("this URL names no file", hint="write it like sqlite:////folder/history.sqlite")
        path = Path(url.database).absolute()
        return Location(URL.create("sqlite+pysqlite", database=str(path)), path, files or _beside(path))
    raise _unknown(url.drivername)


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name}.files")


def _unknown(scheme: str) -> UsageError:
    # The rest of the URL may hold a password.
    return UsageError(
        f"a history cannot be kept at a URL of '{scheme[:40]}'",
        hint="--store takes the path of a file, or postgresql://USER@HOST/DATABASE",
    )
