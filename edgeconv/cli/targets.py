"""``edgeconv targets``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeconv.cli.options import PATH, common, example, plain, print_json

if TYPE_CHECKING:
    from edgeconv.targets.schema import Release, Target


@click.group(
    "targets",
    invoke_without_command=True,
    epilog=example(
        "edgeconv targets",
        "edgeconv targets show rpi4",
        "edgeconv targets show rpi4 --yaml > my-board.yaml",
        "edgeconv targets add my-board.yaml",
    ),
)
@common
@click.pass_context
def command(context: click.Context, as_json: bool, quiet: bool, verbose: int, debug: bool) -> int:
    """Kinds of devices: what is installed there, and what that takes.

    Without a command: the table of all. Yours lie in a folder of their own, $EDGECONV_TARGETS_DIR or
    'targets' among your settings, and come before those that ship with edgeconv.
    """
    return 0 if context.invoked_subcommand else _list(as_json)


@command.command("list", epilog=example("edgeconv targets list --json"))
@common
def list_(as_json: bool, quiet: bool, verbose: int, debug: bool) -> int:
    """The table of all targets, the default release of each and its runtimes."""
    return _list(as_json)


def _list(as_json: bool) -> int:
    from edgeconv.targets.loading import all_targets, own_folder, target_files

    targets, files, own = all_targets(), target_files(), own_folder()
    if as_json:
        print_json(
            {
                "targets": [
                    {
                        "name": target.name,
                        "about": target.about,
                        "architecture": target.architecture,
                        "memory_bytes": target.memory.total,
                        "for_model_bytes": target.memory.for_model,
                        "default_release": target.default_release,
                        "releases": list(target.releases),
                        "own": files[target.name].parent == own,
                        "path": str(files[target.name]),
                    }
                    for target in targets
                ]
            }
        )
        return 0
    from rich.text import Text

    from edgeconv.cli.tables import console_for_tables, table_with
    from edgeconv.targets.schema import show_size

    console = console_for_tables()
    table = table_with("target", "releases", "architecture", ">memory", "runtimes of the first release")
    for target in targets:
        names = sorted(target.releases, key=lambda name: name != target.default_release)
        release = target.releases[target.default_release]
        table.add_row(
            Text(target.name, style="bold"),
            Text(", ".join(names)),
            target.architecture,
            show_size(target.memory.total),
            Text(plain(", ".join(f"{one.name} {one.version}" for one in release.runtimes))),
        )
    console.print(table)
    return 0


@command.command(
    "show", epilog=example("edgeconv targets show rpi4@bullseye", "edgeconv targets show rpi4 --yaml")
)
@click.argument("name")
@click.option("--yaml", "as_yaml", is_flag=True, help="Print the file itself, to copy and change.")
@common
def show(name: str, as_yaml: bool, as_json: bool, quiet: bool, verbose: int, debug: bool) -> int:
    """What is known of the target NAME (or NAME@RELEASE), and where it is known from."""
    from edgeconv.targets.loading import find_place, target_files

    place = find_place(name)
    if as_yaml:
        click.echo(target_files()[place.target.name].read_text("utf-8"), nl=False)
    elif as_json:
        print_json(place.target.model_dump(by_alias=True, mode="json"))
    else:
        only = place.release_name if "@" in name else None
        for line in _lines(place.target, only, sources=bool(verbose)):
            click.echo(line)
    return 0


@command.command("add", epilog=example("edgeconv targets add my-board.yaml"))
@click.argument("file", type=PATH)
@click.option("--replace", is_flag=True, help="Take the place of one of yours that has the same name.")
@common
def add(file: Path, replace: bool, as_json: bool, quiet: bool, verbose: int, debug: bool) -> int:
    """Check the target in FILE and copy it into your folder of targets."""
    from edgeconv.targets.loading import add_target

    target, path = add_target(file, replace=replace)
    if as_json:
        print_json({"name": target.name, "path": str(path)})
    elif not quiet:
        click.echo(f"{target.name}: {path}")
    return 0


def _lines(target: Target, only: str | None, *, sources: bool) -> list[str]:
    from edgeconv.targets.schema import show_size

    def source(text: str, indent: str = "    ") -> list[str]:
        return [f"{indent}source: {text}"] if sources else []

    cpu, memory = target.cpu, target.memory
    lacks = f"; without {', '.join(cpu.lacks)}" if cpu.lacks else ""
    lines = [
        f"{target.name}: {target.about}",
        f"  {cpu.cores} × {cpu.model}, {cpu.isa}, {target.architecture}; {', '.join(cpu.features)}{lacks}",
        *source(cpu.source),
        f"  memory {show_size(memory.total)}, {show_size(memory.for_model)} of it for a model"
        + (f", weights in {show_size(memory.storage)} of storage" if memory.storage else ""),
        *source(memory.source),
    ]
    for accelerator in target.accelerators:
        lines += [f"  {accelerator.name}: {accelerator.about}", *source(accelerator.source)]
    lines.append("  precisions")
    width = max(len(name) for name in target.precisions)
    for name, fact in target.precisions.items():
        lines += [f"    {name:<{width}}  {fact.pays:<7}  {fact.why}", *source(fact.source, "      ")]
    for name, release in target.releases.items():
        if only in (None, name):
            default = ", the default" if name == target.default_release else ""
            lines += _release_lines(f"{target.name}@{name}{default}", release, source)
    lines += [f"  note: {note}" for note in target.notes]
    return [plain(line) for line in lines]


def _release_lines(title: str, release: Release, source: object) -> list[str]:
    assert callable(source)
    libraries = ", ".join(
        part
        for part in (
            release.libc,
            release.glibcxx and f"GLIBCXX {release.glibcxx}",
            release.python and f"Python {release.python}",
        )
        if part
    )
    lines = [f"  {title}: {release.about}; {libraries}", *source(release.source)]
    width = max(len(f"{one.name} {one.version}") for one in release.runtimes)
    for one in release.runtimes:
        extra = f" with {', '.join(one.needs)}" if one.needs else ""
        python = f", Python {one.python}" if one.python else ""
        name = f"{one.name} {one.version}"
        lines += [
            f"    {name:<{width}}  {', '.join(one.formats)}; {one.origin}{python}{extra}; {one.evidence}",
            *source(one.source, "      "),
        ]
    return lines
