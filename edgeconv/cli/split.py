"""``edgeconv split``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeconv.cli.options import PATH, common, example
from edgeconv.cli.surgery_options import names, request_of, say, surgery


@click.command(
    "split",
    epilog=example(
        "edgeconv split recommender/ --at item_tower/embedding/BiasAdd -o parts",
        "edgeconv split frozen.pb --at features,skip --to saved_model",
    ),
)
@click.argument("model", type=PATH)
@click.option("--at", multiple=True, required=True, metavar="TENSOR,…", help="Where to cut.")
@click.option("-o", "--output", type=PATH, help="Folder for the two parts.  [MODEL-NAME.split]")
@click.option("--to", metavar="FORMAT", help="frozen_graph or saved_model.  [frozen_graph]")
@click.option("--outputs", multiple=True, metavar="NAME,…", help="Tensors where the whole model ends.")
@surgery
@common
def command(
    model: Path,
    at: tuple[str, ...],
    output: Path | None,
    to: str | None,
    outputs: tuple[str, ...],
    **options: Any,
) -> int:
    """Cut MODEL in a head and a tail, proven equal to it when composed."""
    import dataclasses

    from edgeconv.cli.progress import progress
    from edgeconv.recipe.surgery import split

    request = dataclasses.replace(request_of(model, output, options), outputs=names(outputs))
    with progress(quiet=options["quiet"], verbose=bool(options["verbose"])) as listener:
        manifest, target = split(request, names(at), to, listener)
    return say(manifest, target, options)
