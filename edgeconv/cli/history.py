"""``edgeconv history``."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from edgeconv.cli.history_lines import amount, named_json, open_history, stored
from edgeconv.cli.history_series import changes, series
from edgeconv.cli.options import PATH, example, plain, print_json


@click.group(
    "history",
    invoke_without_command=True,
    epilog=example(
        "edgeconv history",
        "edgeconv history record bench.json",
        "edgeconv history set-baseline main model.int8.tflite",
        "edgeconv history changes --store postgresql://ci@db.example/edgeconv",
    ),
)
@stored
@click.pass_context
def command(
    context: click.Context, store: str | None, as_json: bool, quiet: bool, verbose: int, debug: bool
) -> int:
    """What was measured when, on what: measurements, verdicts, baselines.

    Without a command: the latest entries. The history is a file among your data unless $EDGECONV_HISTORY or
    --store names another place.
    """
    return 0 if context.invoked_subcommand else _list(store, 20, None, None, as_json)


@command.command("list", epilog=example("edgeconv history list --limit 5 --device pi"))
@click.argument("model", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=20, help="So many at most.  [20]")
@click.option("--device", metavar="NAME", help="Only this device.")
@stored
def list_(
    model: str | None,
    limit: int,
    device: str | None,
    store: str | None,
    as_json: bool,
    quiet: bool,
    verbose: int,
    debug: bool,
) -> int:
    """The latest measurements and verdicts, or those of the file name MODEL."""
    return _list(store, limit, model, device, as_json)


def _list(store: str | None, limit: int, label: str | None, device: str | None, as_json: bool) -> int:
    from edgeconv.history.listing import latest

    with open_history(store) as opened:
        rows = latest(opened, limit=limit, label=label, device=device)
        where = str(opened.location)
    if as_json:
        print_json({"store": where, "entries": rows})
        return 0
    if not rows:
        click.echo(
            f"nothing is in {plain(where)} yet; 'edgeconv history record FILE.json' adds what bench wrote"
        )
        return 0
    from edgeconv.cli.tables import console_for_tables, plain_text, table_with

    console = console_for_tables()
    table = table_with(
        "key", "model", "time (UTC)", "device", "runtime", "commit", ">typical", ">ratio", "said"
    )
    for row in rows:
        measured = row["kind"] == "measurement"
        said = ", ".join(row["marks"]) if measured else f"{row['quantity']} {row['verdict']}"
        style = {"regressed": "bold red", "improved": "green"}.get(row.get("verdict", ""), "")
        table.add_row(
            plain_text(row["id"][:12], "dim"),
            plain_text(row["label"], "bold"),
            plain_text(row["time"][:16].replace("T", " ")),
            plain_text(f"{row['device']} (emulated)" if row["emulated"] else row["device"]),
            plain_text(row["runtime"]),
            plain_text((row["commit"] or "")[:10], "dim"),
            plain_text(amount(row["typical_ns"], "ns") if measured else ""),
            plain_text(f"{row['ratio']:.4f}" if measured and row["ratio"] is not None else ""),
            plain_text(said, style),
        )
    console.print(table)
    return 0


@command.command("show", epilog=example("edgeconv history show 3f2a", "edgeconv history show 3f2a --json"))
@click.argument("key")
@stored
def show(key: str, store: str | None, as_json: bool, quiet: bool, verbose: int, debug: bool) -> int:
    """All that is known of the measurement, verdict, run or artifact whose key begins with KEY."""
    from edgeconv.history.listing import everything_of

    with open_history(store) as opened:
        found = everything_of(opened, key)
    if as_json:
        print_json(found)
    else:
        for line in _lines(found, verbose=bool(verbose)):
            click.echo(line)
    return 0


def _lines(found: dict[str, Any], *, verbose: bool, indent: str = "") -> list[str]:
    lines = []
    for name, value in found.items():
        if name in ("context", "details") and not verbose:
            value = f"{len(json.dumps(value))} characters (-v shows them)"
        if isinstance(value, dict) and value and name not in ("context", "details"):
            lines += [plain(f"{indent}{name}"), *_lines(value, verbose=verbose, indent=f"{indent}  ")]
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            lines.append(plain(f"{indent}{name:<14} {text}"))
    return lines


@command.command(
    "set-baseline", epilog=example("edgeconv history set-baseline main model.int8.tflite model.onnx")
)
@click.argument("name")
@click.argument("artifact", type=PATH, nargs=-1, required=True)
@stored
def set_baseline(
    name: str,
    artifact: tuple[Path, ...],
    store: str | None,
    as_json: bool,
    quiet: bool,
    verbose: int,
    debug: bool,
) -> int:
    """Keep each ARTIFACT with its bytes under NAME; 'regress --baseline NAME' measures it again."""
    from edgeconv.history.naming import set_baseline as keep

    with open_history(store) as opened:
        found = keep(opened, name, artifact)
    if as_json:
        print_json({"baselines": [named_json(one) for one in found]})
    elif not quiet:
        for one in found:
            click.echo(plain(f"{one.name}: {one.file_name}  {one.sha256[:12]}"))
    return 0


@command.command("baselines", epilog=example("edgeconv history baselines --all"))
@click.option("--all", "all_times", is_flag=True, help="Also those that were replaced.")
@stored
def baselines(
    all_times: bool, store: str | None, as_json: bool, quiet: bool, verbose: int, debug: bool
) -> int:
    """Baselines by name, and the reference artifact of each format."""
    from edgeconv.history import naming

    with open_history(store) as opened:
        named, referred = naming.baselines(opened, all_times=all_times), naming.references(opened)
    if as_json:
        print_json(
            {
                "baselines": [named_json(one) for one in named],
                "references": [named_json(one) for one in referred],
            }
        )
        return 0
    if not named and not referred:
        click.echo("none was set yet; 'edgeconv history set-baseline NAME ARTIFACT' sets one")
        return 0
    from edgeconv.cli.tables import console_for_tables, plain_text, show_bytes, table_with

    table = table_with("name", "file", "format", ">size", "sha256", "set (UTC)", "commit")
    for one, title in [(one, one.name) for one in named] + [
        (one, f"reference of {one.name}") for one in referred
    ]:
        table.add_row(
            plain_text(title, "bold"),
            plain_text(one.file_name),
            plain_text(f"{one.format}:{one.precision}" if one.precision else one.format),
            show_bytes(one.bytes),
            one.sha256[:12],
            f"{one.time:%Y-%m-%d %H:%M}",
            plain_text((one.git_commit or "")[:10]),
        )
    console_for_tables().print(table)
    return 0


@command.command(
    "set-reference",
    epilog=example(
        "edgeconv history set-reference reference.tflite", "edgeconv history set-reference --none tflite"
    ),
)
@click.argument("file", type=PATH, required=False)
@click.option("--none", "none_of", metavar="FORMAT", help="There is no reference of this format any more.")
@stored
def set_reference(
    file: Path | None,
    none_of: str | None,
    store: str | None,
    as_json: bool,
    quiet: bool,
    verbose: int,
    debug: bool,
) -> int:
    """Freeze the artifact FILE as what others of its format are divided by; new series begin."""
    from edgeconv.errors import UsageError
    from edgeconv.history import naming

    if (file is None) == (none_of is None):
        raise UsageError(
            "one of FILE and --none FORMAT is needed", hint="edgeconv history set-reference FILE"
        )
    with open_history(store) as opened:
        if file is None:
            there = naming.clear_reference(opened, str(none_of))
            said: dict[str, Any] = {"format": none_of, "was_there": there}
            line = f"no reference of {none_of}" + ("" if there else ", as before")
        else:
            named = naming.set_reference(opened, file)
            said = {"reference": named_json(named)}
            line = f"reference of {named.name}: {named.file_name}  {named.sha256[:12]}"
    if as_json:
        print_json(said)
    elif not quiet:
        click.echo(plain(line))
    return 0


@command.command(
    "record",
    epilog=example("edgeconv bench model.tflite --output bench.json", "edgeconv history record bench.json"),
)
@click.argument("file", type=PATH, nargs=-1, required=True)
@stored
def record(
    file: tuple[Path, ...], store: str | None, as_json: bool, quiet: bool, verbose: int, debug: bool
) -> int:
    """Keep the measurements in each FILE that bench wrote; the same file twice changes nothing."""
    from edgeconv.history.measured import record_measurements
    from edgeconv.history.naming import reference_hashes
    from edgeconv.latency.records import read

    everything = [read(one) for one in file]
    with open_history(store) as opened:
        references = reference_hashes(opened)
        keys = [
            key
            for measurements in everything
            for key in record_measurements(opened, measurements, references=references)
        ]
        where = str(opened.location)
    if as_json:
        print_json({"store": where, "measurements": keys})
    elif not quiet:
        click.echo(plain(f"{len(keys)} measurement{'s' if len(keys) != 1 else ''} in {where}"))
    return 0


@command.command(
    "export",
    epilog=example("edgeconv history export history.json", "edgeconv history export folder --format parquet"),
)
@click.argument("path", type=PATH)
@click.option(
    "--format", "format_name", type=click.Choice(["json", "csv", "parquet"]), default="json", help="[json]"
)
@click.option("--with-files", is_flag=True, help="Also the bytes of baselines and references.")
@stored
def export(
    path: Path,
    format_name: str,
    with_files: bool,
    store: str | None,
    as_json: bool,
    quiet: bool,
    verbose: int,
    debug: bool,
) -> int:
    """Write everything to PATH: a JSON file, or a folder with one CSV or Parquet file a table."""
    from edgeconv.history import exchange

    with open_history(store) as opened:
        found = exchange.export(opened, path, format_name, with_files=with_files)
    if as_json:
        print_json({"path": str(path), "rows": dict(found.rows), "files": found.files})
    elif not quiet:
        click.echo(plain(f"{path}: {sum(found.rows.values())} rows, {found.files} files"))
    return 0


@command.command(
    "import", epilog=example("edgeconv history import history.json", "edgeconv history import folder")
)
@click.argument("path", type=PATH)
@stored
def import_(path: Path, store: str | None, as_json: bool, quiet: bool, verbose: int, debug: bool) -> int:
    """Add what was exported to PATH; what is there already stays as it is."""
    from edgeconv.history import exchange

    with open_history(store) as opened:
        found = exchange.load_file(opened, path)
    if as_json:
        print_json({"path": str(path), "rows": dict(found.rows), "files": found.files})
    elif not quiet:
        click.echo(plain(f"{path}: {sum(found.rows.values())} new rows"))
    return 0


@command.command(
    "prune",
    epilog=example(
        "edgeconv history prune --older-than 365 --samples-only",
        "edgeconv history prune --older-than 730 --dry-run",
    ),
)
@click.option(
    "--older-than",
    "days",
    type=click.FloatRange(min=0),
    required=True,
    metavar="DAYS",
    help="Runs that are older.",
)
@click.option(
    "--samples-only", is_flag=True, help="Forget their raw samples and keep the rest; series stay whole."
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@stored
def prune(
    days: float,
    samples_only: bool,
    dry_run: bool,
    store: str | None,
    as_json: bool,
    quiet: bool,
    verbose: int,
    debug: bool,
) -> int:
    """Forget old runs, and kept files that no baseline or reference needs."""
    import dataclasses

    from edgeconv.errors import UsageError
    from edgeconv.history import pruning

    try:
        before = datetime.now(UTC) - timedelta(days=days)
    except OverflowError as error:
        raise UsageError(f"{days:g} days ago there was no time", hint="take fewer") from error
    with open_history(store) as opened:
        gone = pruning.prune(opened, before, samples_only=samples_only, remove=not dry_run)
    if as_json:
        print_json({"before": before.isoformat(), "dry_run": dry_run, **dataclasses.asdict(gone)})
    elif not quiet:
        verb = "would go" if dry_run else "gone"
        click.echo(
            f"{verb}: {gone.runs} runs, {gone.measurements} measurements, {gone.verdicts} verdicts,"
            f" {gone.samples} arrays of samples, {gone.files} files"
        )
    return 0


@command.command("migrate", epilog=example("edgeconv history migrate"))
@stored
def migrate(store: str | None, as_json: bool, quiet: bool, verbose: int, debug: bool) -> int:
    """Bring the tables to this release's form; every other command does it too, before anything else."""
    from edgeconv.history import migrating
    from edgeconv.history.store import open_store

    with open_store(store, migrate=False) as opened:
        before, after = opened.migrated()
        where = str(opened.location)
    if as_json:
        print_json({"store": where, "before": before, "revision": after})
    elif not quiet:
        done = "made" if before is None else "was so already" if before == after else f"was {before}"
        click.echo(plain(f"{where}: revision {after} of {migrating.HEAD}, {done}"))
    return 0


command.add_command(series)
command.add_command(changes)
