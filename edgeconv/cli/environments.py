"""``edgeconv environments``."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import click

from edgeconv.cli.options import common, example, print_json


@click.group(
    "environments",
    epilog=example(
        "edgeconv environments list",
        "edgeconv environments create object-detection",
        "edgeconv environments create onnxruntime==1.16.3",
        "edgeconv environments show object-detection --json",
        "edgeconv environments remove tflite-runtime==2.14.0",
    ),
)
def command() -> None:
    """Side environments: a Python of its own for what cannot live beside edgeconv.

    They are made only when you ask for one, from exact versions, in edgeconv's cache folder. Nothing of
    yours is touched.
    """


@command.command("list", epilog=example("edgeconv environments list"))
@common
def list_(as_json: bool, quiet: bool, verbose: int, debug: bool) -> int:
    """Which environments there are and which of them are here."""
    from edgeconv.environments import store
    from edgeconv.environments.specs import known_specs

    here = {environment.spec.id: environment for environment in store.installed()}
    specs = {spec.id: spec for spec in (*known_specs(), *(e.spec for e in here.values()))}
    rows = [
        {
            "name": name,
            "about": spec.about,
            "state": "not here" if name not in here else "here" if here[name].current else "outdated",
            "python": list(spec.pythons),
            "path": str(here[name].folder) if name in here else None,
        }
        for name, spec in sorted(specs.items())
    ]
    if as_json:
        print_json({"environments": rows})
    else:
        _list_lines(rows)
    return 0


def _list_lines(rows: list[dict[str, Any]]) -> None:
    """One paragraph for each name, however many versions there are of it."""
    for name in dict.fromkeys(str(row["name"]).partition("==")[0] for row in rows):
        of_name = [row for row in rows if str(row["name"]).partition("==")[0] == name]
        click.echo(f"{name}: {of_name[0]['about']}")
        for state in ("here", "outdated", "not here"):
            said = [str(row["name"]).partition("==")[2] for row in of_name if row["state"] == state]
            if said:
                versions = ", ".join(sorted(filter(None, said), key=_numbers))
                text = f"{state}: {versions}" if versions else state
                click.echo(textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="    "))
    click.echo("make one: edgeconv environments create NAME, or NAME==VERSION")


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


@command.command("create", epilog=example("edgeconv environments create object-detection"))
@click.argument("name")
@common
def create(name: str, as_json: bool, quiet: bool, verbose: int, debug: bool) -> int:
    """Make the environment NAME (or NAME==VERSION); one that is here and whole is left as it is."""
    from edgeconv.environments import store
    from edgeconv.environments.specs import find_spec

    def say(text: str) -> None:
        if not quiet:
            click.echo(text, err=True)

    environment = store.create(find_spec(name), say=say)
    return _told(environment, as_json, quiet)


@command.command("show", epilog=example("edgeconv environments show object-detection"))
@click.argument("name")
@common
def show(name: str, as_json: bool, quiet: bool, verbose: int, debug: bool) -> int:
    """What the environment NAME holds, and whether it is whole; exits with 4 where it is not."""
    from edgeconv.environments import store
    from edgeconv.environments.specs import find_spec

    return _told(store.required(find_spec(name)), as_json, quiet, pins=True)


@command.command("remove", epilog=example("edgeconv environments remove object-detection"))
@click.argument("name")
@common
def remove(name: str, as_json: bool, quiet: bool, verbose: int, debug: bool) -> int:
    """Remove the environment NAME with all that is in it."""
    from edgeconv.environments import store
    from edgeconv.environments.specs import find_spec

    spec = find_spec(name)
    was_there = store.remove(spec)
    if as_json:
        print_json({"name": spec.id, "removed": was_there})
    elif not quiet:
        click.echo(f"removed {spec.id}" if was_there else f"{spec.id} was not here")
    return 0


def _told(environment: object, as_json: bool, quiet: bool, *, pins: bool = False) -> int:
    from edgeconv.environments import store

    assert isinstance(environment, store.Environment)
    spec = environment.spec
    size = store.size_of(environment)
    if as_json:
        print_json(
            {
                "name": spec.id,
                "path": str(environment.folder),
                "python": environment.python_version,
                "bytes": size,
                "pins": dict(spec.pins),
                "variables": dict(spec.variables),
            }
        )
    elif not quiet:
        click.echo(f"{spec.id}: {environment.folder}")
        click.echo(f"  Python {environment.python_version}, {len(spec.pins)} distributions, {size >> 20} MB")
        if pins:
            for name, version in spec.pins.items():
                click.echo(f"  {name}=={version}")
    return 0
