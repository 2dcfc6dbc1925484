"""``edgeconv thaw``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeconv.cli.options import PATH, common, example
from edgeconv.cli.surgery_options import names, request_of, say, surgery


@click.command(
    "thaw",
    epilog=example(
        "edgeconv thaw frozen.pb -o trainable",
        "edgeconv thaw frozen.pb --variables 'dense/*,conv1/*' --outputs logits",
    ),
)
@click.argument("frozen", type=PATH)
@click.option("-o", "--output", type=PATH, help="Folder of the SavedModel.  [NAME.thawed]")
@click.option(
    "--variables",
    multiple=True,
    metavar="PATTERN,…",
    help="Constants that become variables, by glob or regular expression.  [all weights]",
)
@click.option("--inputs", multiple=True, metavar="NAME,…", help="Tensors where the model begins.")
@click.option("--outputs", multiple=True, metavar="NAME,…", help="Tensors where the model ends.")
@surgery
@common
def command(
    frozen: Path,
    output: Path | None,
    variables: tuple[str, ...],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    **options: Any,
) -> int:
    """Make a SavedModel and a checkpoint with trainable variables of a FROZEN graph."""
    import dataclasses

    from edgeconv.cli.progress import progress
    from edgeconv.recipe.surgery import thaw

    request = request_of(frozen, output, options)
    request = dataclasses.replace(request, inputs=names(inputs), outputs=names(outputs))
    with progress(quiet=options["quiet"], verbose=bool(options["verbose"])) as listener:
        manifest, target = thaw(request, names(variables), listener)
    return say(manifest, target, options)
