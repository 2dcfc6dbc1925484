"""``edgeconv freeze``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeconv.cli.options import PATH, common, example
from edgeconv.cli.surgery_options import names, request_of, say, surgery


@click.command(
    "freeze",
    epilog=example(
        "edgeconv freeze saved_model/ -o model.pb",
        "edgeconv freeze model.keras --keep-trainable 'top/*,logits' -o tuned",
        "edgeconv freeze saved_model/ --keep-trainable '^block[45]/'",
    ),
)
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, help="File (.pb) or folder to write.  [MODEL-NAME.edgeconv]")
@click.option(
    "--keep-trainable",
    multiple=True,
    metavar="PATTERN,…",
    help="Variables that stay variables, by glob or regular expression; the rest is frozen.",
)
@click.option("--inputs", multiple=True, metavar="NAME,…", help="Tensors where the model begins.")
@click.option("--outputs", multiple=True, metavar="NAME,…", help="Tensors where the model ends.")
@surgery
@common
def command(
    model: Path,
    output: Path | None,
    keep_trainable: tuple[str, ...],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    **options: Any,
) -> int:
    """Make a frozen graph of MODEL, or freeze all but the variables that match."""
    import dataclasses

    from edgeconv.cli.progress import progress
    from edgeconv.recipe.surgery import freeze

    request = request_of(model, output, options)
    request = dataclasses.replace(request, inputs=names(inputs), outputs=names(outputs))
    with progress(quiet=options["quiet"], verbose=bool(options["verbose"])) as listener:
        manifest, target = freeze(request, names(keep_trainable), listener)
    return say(manifest, target, options)
