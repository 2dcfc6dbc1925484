"""A history is opened, migrated and written by several processes, as a file and on a server."""

from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from history_examples import BOARD, measurement, run, verdict
from sqlalchemy import func, insert, select, text

from edgeconv.errors import UnavailableError, UsageError
from edgeconv.history import migrating, tables
from edgeconv.history.location import locate
from edgeconv.history.recording import record
from edgeconv.history.store import engine_for, open_store


def count(store: object, table: type[tables.Table]) -> int:
    with store.reading() as session:  # type: ignore[attr-defined]
        return session.scalar(select(func.count()).select_from(table))


def test_the_migrations_end_at_the_tables_of_the_code(place: str) -> None:
    with open_store(place) as store, store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.Table.metadata) == []


def test_the_newest_revision_is_the_one_the_code_names() -> None:
    assert migrating.known_revisions()[-1] == migrating.HEAD


@pytest.mark.parametrize("revision", migrating.known_revisions())
def test_a_store_of_every_older_revision_opens_with_what_is_in_it(place: str, revision: str) -> None:
    location = locate(place)
    engine = engine_for(location)
    migrating.upgrade(engine, location, revision)
    with engine.begin() as connection:  # what every revision has
        connection.execute(
            text(
                "INSERT INTO runs (id, time, host, command) VALUES "
                f"('{'a' * 32}', '2026-03-01 12:00:00+00:00', 'old', 'edgeconv bench')"
                if location.file is None
                else "INSERT INTO runs (id, time, host, command) VALUES "
                f"('{'a' * 32}', '2026-03-01 12:00:00.000000', 'old', 'edgeconv bench')"
            )
        )
    engine.dispose()
    with open_store(place) as store:
        assert migrating.revision_of(store.engine) == migrating.HEAD
        with store.reading() as session:
            old = session.scalars(select(tables.Run)).one()
            assert (old.host, old.time.isoformat()) == ("old", "2026-03-01T12:00:00+00:00")
        record(store, run(), [measurement()], [verdict()])
        assert count(store, tables.Measurement) == 1


def test_a_store_of_a_newer_edgeconv_is_left_alone(place: str) -> None:
    with open_store(place) as store, store.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UsageError, match="newer edgeconv"):
        open_store(place)


def test_recording_twice_is_the_same_as_once(place: str) -> None:
    entry, one, said = run(), measurement(), verdict()
    with open_store(place) as store:
        record(store, entry, [one], [said])
        record(store, entry, [one], [said])
        assert [count(store, each) for each in (tables.Run, tables.Measurement, tables.Verdict)] == [1, 1, 1]
        assert count(store, tables.SampleArray) == 2


def test_a_run_that_cannot_be_kept_whole_is_not_kept_at_all(place: str) -> None:
    with open_store(place) as store:
        wrong = measurement(artifact=measurement().artifact.__class__("no hash", "x", "tflite", 1))
        with pytest.raises(UsageError):
            record(store, run(), [measurement(), wrong])
        assert count(store, tables.Run) == 0


def test_names_that_a_database_cannot_hold_are_kept_in_another_spelling(place: str) -> None:
    with open_store(place) as store:
        odd = measurement(label="a\0b\ud800'\"; DROP TABLE runs; --", context={"\0": float("nan")})
        record(store, run(), [odd])
        with store.reading() as session:
            row = session.scalars(select(tables.Measurement)).one()
            assert row.label == "a\ufffdb\ufffd'\"; DROP TABLE runs; --"
            assert row.context == {"\ufffd": None}


def _write(place: str, writer: int, runs: int) -> None:
    with open_store(place) as store:
        for number in range(runs):
            day = writer * runs + number
            # Both know the same device, runtime and tools; the runs are their own.
            record(store, run(day), [measurement(day), measurement(day, label="other")], [verdict(day)])


@pytest.mark.slow
def test_two_jobs_that_write_at_once_lose_nothing(place: str) -> None:
    # The store is new, so that they also race for making the tables.
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(place, number, 25)) for number in range(2)]
    for each in writers:
        each.start()
    for each in writers:
        each.join(120)
    assert [each.exitcode for each in writers] == [0, 0]
    with open_store(place) as store:
        assert count(store, tables.Run) == 50
        assert count(store, tables.Measurement) == 100
        assert count(store, tables.Verdict) == 50
        assert count(store, tables.Device) == 1


def test_a_reader_does_not_wait_for_a_writer(place: str) -> None:
    with open_store(place) as store:
        record(store, run(), [measurement()])
        with store.writing() as session:
            session.execute(
                insert(tables.Device).values(
                    id="b" * 32, name="x", kind="local", emulated=False, facts={}, target=None
                )
            )
            assert count(store, tables.Device) == 1
        assert count(store, tables.Device) == 2


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no database at all, but long enough to be taken for the head of one " * 3)
    with pytest.raises(UsageError, match="no history"):
        open_store(str(path))
    assert path.read_text().startswith("no database")


def test_another_database_of_sqlite_keeps_its_tables(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE runs (id TEXT)")
    with pytest.raises(UnavailableError):
        open_store(str(path))
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("runs",)]


def test_a_server_that_is_not_there_is_unavailable_and_its_password_is_not_told() -> None:
    with pytest.raises(UnavailableError) as error:
        open_store("postgresql://somebody:secret@127.0.0.1:1/history")
    assert "secret" not in f"{error.value} {error.value.hint}"
    assert "somebody" in str(error.value)


@pytest.mark.parametrize("url", ["mysql://user:secret@host/db", "sqlite://", "sqlite:///:memory:", "://"])
def test_a_place_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as error:
        locate(url)
    assert "secret" not in f"{error.value} {error.value.hint}"


def test_the_place_is_named_by_the_call_or_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECONV_HISTORY", f"sqlite:///{tmp_path}/variable.sqlite")
    assert locate().file == tmp_path / "variable.sqlite"
    assert locate(str(tmp_path / "named")).file == tmp_path / "named"
    assert locate("postgres://user@host/db").url.drivername == "postgresql+psycopg"
    monkeypatch.delenv("EDGECONV_HISTORY")
    monkeypatch.setenv("EDGECONV_DATA_DIR", str(tmp_path / "data"))
    assert locate().file == tmp_path / "data" / "history.sqlite"


def test_devices_are_told_apart_by_what_they_are_and_not_by_their_target() -> None:
    other = BOARD.__class__("pi", "ssh", None, False, dict(BOARD.facts))
    assert other.id == BOARD.id
    assert BOARD.__class__("pi", "ssh", None, False, {"model": "Raspberry Pi 5"}).id != BOARD.id
