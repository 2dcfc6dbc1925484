"""Stores to test with: a file of SQLite, and a database on a real PostgreSQL server."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from postgresql_server import programs, server, unprivileged

BOTH = [
    pytest.param("sqlite"),
    pytest.param("postgresql", marks=pytest.mark.xdist_group("postgresql")),
]
_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a server's empty database; skips where there is no PostgreSQL."""
    if programs() is None:
        pytest.skip("PostgreSQL is not installed: tools/system-packages installs it")
    if unprivileged() is None:
        pytest.skip("there is no user that a PostgreSQL server could run as")
    with server() as url:
        yield url


def new_database(url: str) -> str:
    """One more empty database on the server."""
    import psycopg

    name = f"history{next(_NUMBERS)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return url.replace("/history?", f"/{name}?")


@pytest.fixture(params=BOTH)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What ``--store`` takes, for an empty store of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "history.sqlite")
    return new_database(request.getfixturevalue("postgresql"))


@pytest.fixture(autouse=True)
def _own_store_and_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What one test fetched into the cache would be there for the next, whatever became of its store.
    monkeypatch.setenv("EDGECONV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGECONV_HISTORY", str(tmp_path / "default.sqlite"))
    monkeypatch.delenv("EDGECONV_HISTORY_FILES", raising=False)
