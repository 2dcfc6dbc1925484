"""``edgeconv precompute``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeconv.cli.options import PATH, common, example, plain, print_json
from edgeconv.cli.surgery_options import names, request_of, surgery


@click.command(
    "precompute",
    epilog=example(
        "edgeconv precompute recommender.split/recommender.head.pb --data items.npz -o item_embeddings.npy",
        "edgeconv precompute tower.tflite --data items.npy -o item_embeddings.npy --batch 64",
    ),
)
@click.argument("part", type=PATH)
@click.option("-o", "--output", type=PATH, help=".npy file; a folder for several outputs.  [ITEMS.npy]")
@click.option("--batch", type=click.IntRange(min=1), default=256, help="Items at a time.  [256]")
@click.option("--inputs", multiple=True, metavar="NAME,…", help="Tensors where the part begins.")
@click.option("--outputs", multiple=True, metavar="NAME,…", help="Tensors where the part ends.")
@surgery
@common
def command(
    part: Path,
    output: Path | None,
    batch: int,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    **options: Any,
) -> int:
    """Run PART over a file of items (--data) and keep what it gives as .npy."""
    import dataclasses

    from edgeconv.cli.progress import progress
    from edgeconv.errors import ExitCode
    from edgeconv.recipe.precompute import precompute

    request = request_of(part, output, options)
    request = dataclasses.replace(request, inputs=names(inputs), outputs=names(outputs))
    with progress(quiet=options["quiet"], verbose=bool(options["verbose"])) as listener:
        manifest, files = precompute(request, batch, listener)
    document = manifest.to_json()
    if options["as_json"]:
        print_json(document)
    elif not options["quiet"]:
        for result, file in zip(document["results"], files, strict=True):
            shape = "×".join(map(str, result["shape"]))
            click.echo(plain(f"{file}  {result['name']}  {result['dtype']}  {shape}"))
        click.echo(
            f"{document['items']} items, {document['batch']} at a time; "
            f"{len(document['checked'])} of them run alone differ by {document['difference']:.1g} at most"
        )
    return ExitCode.OK
