"""``edgeconv history series`` and ``changes``."""

from __future__ import annotations

import click

from edgeconv.cli.history_lines import (
    amount,
    divided_by,
    key_json,
    open_history,
    point_json,
    series_json,
    stored,
)
from edgeconv.cli.options import F, example, plain, print_json


def _choosing(function: F) -> F:
    """Add what chooses series."""
    for option in (
        click.option("--absolute", is_flag=True, help="Absolute numbers, not ratios to the reference."),
        click.option("--marked", is_flag=True, help="Also measurements that heat or load spoiled."),
        click.option(
            "--last", type=click.IntRange(min=1), default=5000, help="The latest so many points.  [5000]"
        ),
        click.option("--device", metavar="NAME", help="Only this device."),
        click.option("--metric", metavar="NAME", help="typical, floor, tail, load, first, memory or bytes."),
    ):
        function = option(function)
    return function


@click.command(
    "series",
    epilog=example("edgeconv history series", "edgeconv history series model.int8.tflite --metric typical"),
)
@click.argument("model", required=False)
@_choosing
@stored
def series(
    model: str | None,
    metric: str | None,
    device: str | None,
    last: int,
    marked: bool,
    absolute: bool,
    store: str | None,
    as_json: bool,
    quiet: bool,
    verbose: int,
    debug: bool,
) -> int:
    """Series of ratios to the reference; with the file name MODEL or -v every point of them."""
    from edgeconv.history.series import read_series

    with open_history(store) as opened:
        found = read_series(
            opened, label=model, metric=metric, device=device, absolute=absolute, marked=marked, last=last
        )
    if as_json:
        print_json({"series": [series_json(one) for one in found]})
        return 0
    if not found:
        click.echo(_NO_SERIES)
        return 0
    from edgeconv.cli.tables import console_for_tables, plain_text, table_with

    console = console_for_tables()
    if model is None and not verbose:
        table = table_with("series", "reference", ">points", "from", "to", ">first", ">latest")
        for one in found:
            first, latest = one.points[0], one.points[-1]
            table.add_row(
                plain_text(str(one.key), "bold"),
                plain_text((one.key.reference or "absolute")[:12], "dim"),
                str(len(one.points)),
                f"{first.time:%Y-%m-%d}",
                f"{latest.time:%Y-%m-%d}",
                amount(first.value, first.unit),
                amount(latest.value, latest.unit),
            )
        console.print(table)
        return 0
    for one in found:
        click.echo(plain(f"{one.key}{divided_by(one.key)}"))
        table = table_with("time (UTC)", "commit", "runtime", ">value", ">low", ">high", "marks")
        for point in one.points:
            table.add_row(
                f"{point.time:%Y-%m-%d %H:%M}",
                plain_text((point.git_commit or "")[:10]),
                plain_text(point.runtime_version or ""),
                amount(point.value, point.unit),
                "" if point.low is None else amount(point.low, point.unit),
                "" if point.high is None else amount(point.high, point.unit),
                plain_text(", ".join(point.marks)),
            )
        console.print(table)
    return 0


_NO_SERIES = (
    "there is no series yet: a point is the ratio of a measurement to the reference that was measured in the"
    " same run ('edgeconv history set-reference FILE' sets it, --absolute shows absolute numbers, --marked"
    " those that heat or load spoiled, too)"
)


@click.command(
    "changes", epilog=example("edgeconv history changes --alpha 0.01", "edgeconv history changes --fail")
)
@click.argument("model", required=False)
@click.option("--alpha", type=float, default=0.01, help="False alarms in all series together.  [0.01]")
@click.option(
    "--fail", is_flag=True, help="Exit with 1 where the latest change of a series is for the worse."
)
@_choosing
@stored
def changes(
    model: str | None,
    alpha: float,
    fail: bool,
    metric: str | None,
    device: str | None,
    last: int,
    marked: bool,
    absolute: bool,
    store: str | None,
    as_json: bool,
    quiet: bool,
    verbose: int,
    debug: bool,
) -> int:
    """Where the level of a series changed, with its p-value."""
    from edgeconv.history.change_points import SHORTEST
    from edgeconv.history.series import find_changes, read_series

    with open_history(store) as opened:
        everything = read_series(
            opened, label=model, metric=metric, device=device, absolute=absolute, marked=marked, last=last
        )
    long_enough = [one for one in everything if len(one.points) >= SHORTEST]
    found = find_changes(long_enough, alpha)
    latest = {change.series.key: change for change in found}
    worse = [change for change in latest.values() if change.worse]
    if as_json:
        print_json(
            {
                "alpha": alpha,
                "tested": len(long_enough),
                "too_short": len(everything) - len(long_enough),
                "changes": [
                    {
                        "series": key_json(change.series.key),
                        "before": change.found.before,
                        "after": change.found.after,
                        "p": change.found.p,
                        "worse": change.worse,
                        "last_before": point_json(change.previous),
                        "first_after": point_json(change.point),
                    }
                    for change in found
                ],
            }
        )
        return 1 if fail and worse else 0
    from edgeconv.cli.tables import console_for_tables, plain_text, table_with

    if found:
        table = table_with("series", "between", "commits", ">before", ">after", ">change", ">p")
        for change in found:
            before, after = change.found.before, change.found.after
            commits = f"{(change.previous.git_commit or '?')[:10]}…{(change.point.git_commit or '?')[:10]}"
            percent = f"{(after / before - 1) * 100:+.1f} %" if before else ""
            table.add_row(
                plain_text(str(change.series.key), "bold"),
                f"{change.previous.time:%Y-%m-%d %H:%M} … {change.point.time:%Y-%m-%d %H:%M}",
                plain_text(commits),
                amount(before, change.point.unit),
                amount(after, change.point.unit),
                plain_text(percent, "red" if change.worse else "green"),
                f"{change.found.p:.2g}",
            )
        console_for_tables().print(table)
    if not quiet:
        short = len(everything) - len(long_enough)
        rest = f"; {short} have fewer than {SHORTEST} points" if short else ""
        said = "no change" if not found else "1 change" if len(found) == 1 else f"{len(found)} changes"
        click.echo(f"{said} in {len(long_enough)} series, at {alpha:g} false alarms in all of them{rest}")
    return 1 if fail and worse else 0
