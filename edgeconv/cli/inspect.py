"""``edgeconv inspect``."""

from __future__ import annotations

from pathlib import Path

import click

from edgeconv.cli.options import PATH, common, example, print_json


@click.command("inspect", epilog=example("edgeconv inspect model.tflite --ops"))
@click.argument("model", type=PATH)
@click.option("--ops", is_flag=True, help="Every operation with its count.")
@common
def command(model: Path, ops: bool, as_json: bool, quiet: bool, verbose: int, debug: bool) -> None:
    """Say what MODEL is, without running anything that is in it."""
    from edgeconv.formats import describe
    from edgeconv.formats.base import to_json

    description = describe(model)
    if as_json:
        print_json(to_json(description))
    else:
        from edgeconv.cli.tables import print_description

        print_description(description, all_ops=ops, verbose=bool(verbose))
