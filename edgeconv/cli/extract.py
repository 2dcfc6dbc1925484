"""``edgeconv extract``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeconv.cli.options import PATH, common, example
from edgeconv.cli.surgery_options import names, request_of, say, surgery


@click.command(
    "extract",
    epilog=example(
        "edgeconv extract frozen.pb --outputs features/Relu -o backbone.pb",
        "edgeconv extract saved_model/ --inputs 'head/*' --outputs 'head/*' --to saved_model",
        "edgeconv extract model.onnx --inputs x_3 --outputs x_9 -o part.onnx",
    ),
)
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, help="File or folder to write.  [MODEL-NAME.part.pb]")
@click.option(
    "--inputs",
    multiple=True,
    metavar="NAME,…",
    help="Tensors where the part begins; a pattern means where a region is entered.",
)
@click.option(
    "--outputs",
    multiple=True,
    metavar="NAME,…",
    help="Tensors where the part ends; a pattern means where a region is left.",
)
@click.option("--to", metavar="FORMAT", help="frozen_graph or saved_model; else as -o is named.")
@surgery
@common
def command(
    model: Path,
    output: Path | None,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    to: str | None,
    **options: Any,
) -> int:
    """Take the part of MODEL between tensors, and prove it against the whole."""
    from edgeconv.cli.progress import progress
    from edgeconv.recipe.surgery import extract

    request = request_of(model, output, options)
    with progress(quiet=options["quiet"], verbose=bool(options["verbose"])) as listener:
        manifest, target = extract(request, names(inputs), names(outputs), to, listener)
    return say(manifest, target, options)
