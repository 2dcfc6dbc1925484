"""``edgeconv layers``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeconv.cli.options import PATH, common, example, print_json
from edgeconv.cli.surgery_options import names, request_of, say, surgery


@click.command(
    "layers",
    epilog=example(
        "edgeconv layers model.keras",
        "edgeconv layers model.keras --first 100 -o tuning.keras",
        "edgeconv layers model.h5 --freeze backbone --unfreeze 'backbone/block5*' -o tuning.h5",
    ),
)
@click.argument("model", type=PATH)
@click.option("--freeze", multiple=True, metavar="PATTERN,…", help="Layers that are not trained any more.")
@click.option("--unfreeze", multiple=True, metavar="PATTERN,…", help="Layers that are trained again.")
@click.option("--first", type=click.IntRange(min=0), default=0, help="Freeze the first N layers.")
@click.option("-o", "--output", type=PATH, help="Keras file, or folder of a SavedModel.")
@surgery
@common
def command(
    model: Path,
    freeze: tuple[str, ...],
    unfreeze: tuple[str, ...],
    first: int,
    output: Path | None,
    **options: Any,
) -> int:
    """List the layers of MODEL, or save it with other layers frozen."""
    from edgeconv.cli.progress import progress
    from edgeconv.errors import ExitCode

    if not (freeze or unfreeze or first):
        from edgeconv.formats.base import to_json
        from edgeconv.formats.layers import layers_in

        tags = options["tags"]
        found = layers_in(model, None if tags is None else [t for t in tags.split(",") if t])
        if options["as_json"]:
            print_json({"layers": to_json(found)})
        else:
            from edgeconv.cli.graph_tables import print_layers

            print_layers(found)
        return ExitCode.OK
    from edgeconv.recipe.layers import change_layers

    with progress(quiet=options["quiet"], verbose=bool(options["verbose"])) as listener:
        manifest, target = change_layers(
            request_of(model, output, options), names(freeze), names(unfreeze), first, listener
        )
    return say(manifest, target, options)
