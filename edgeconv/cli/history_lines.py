"""What the files of ``edgeconv history`` share: its option, and how numbers and points are shown."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from edgeconv.cli.options import F, common
from edgeconv.reports.amounts import show_time

if TYPE_CHECKING:
    from edgeconv.history.naming import Named
    from edgeconv.history.series import Point, Series, SeriesKey
    from edgeconv.history.store import Store


def stored(function: F) -> F:
    """Add ``--store`` and the flags of every command."""
    option = click.option(
        "--store",
        metavar="URL|FILE",
        help="Where the history is: a file, or postgresql://USER@HOST/DATABASE.  [$EDGECONV_HISTORY]",
    )
    return option(common(function))


def open_history(store: str | None) -> Store:
    """The history at a place."""
    from edgeconv.history.store import open_store

    return open_store(store)


def amount(value: float | None, unit: str) -> str:
    """A number for people, in its unit: ``40.2 µs``, ``6.5 kB``, ``1.0213``."""
    from edgeconv.cli.tables import show_bytes

    if value is None:
        return ""
    if unit == "bytes":
        return show_bytes(round(value))
    if unit != "ns":
        return f"{value:.4f}"
    return show_time(value)


def divided_by(key: SeriesKey) -> str:
    """What a series is divided by, for its title."""
    return "" if key.reference is None else f", ratio to {key.reference[:12]}"


def key_json(key: SeriesKey) -> dict[str, Any]:
    """What stays the same along a series, as plain values."""
    return dataclasses.asdict(key)


def point_json(point: Point) -> dict[str, Any]:
    """A point as plain values."""
    return {**dataclasses.asdict(point), "time": point.time.isoformat()}


def series_json(one: Series) -> dict[str, Any]:
    """A series as plain values."""
    return {**key_json(one.key), "points": [point_json(point) for point in one.points]}


def named_json(one: Named) -> dict[str, Any]:
    """A baseline or reference as plain values."""
    return {**dataclasses.asdict(one), "time": one.time.isoformat()}
