"""``edgeconv inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeconv.cli.options import PATH, common, example, plain, print_json


@click.command(
    "inspect",
    epilog=example(
        "edgeconv inspect model.tflite --ops",
        "edgeconv inspect model.keras --layers",
        "edgeconv inspect frozen.pb --graph part.svg --around conv1/Conv2D --radius 3",
        "edgeconv inspect saved_model/ --graph logs/        # tensorboard --logdir logs",
    ),
)
@click.argument("model", type=PATH)
@click.option("--ops", is_flag=True, help="Every operation with its count; with -v every node by name.")
@click.option("--layers", is_flag=True, help="Every layer with its parameters: trainable or frozen.")
@click.option("--tags", help="Tags of the metagraph of a SavedModel, separated by commas.")
@click.option("--signature", help="Signature of a SavedModel: what it alone runs.")
@click.option(
    "--pipeline-config", type=PATH, help="pipeline.config of a detector.  [the one beside the model]"
)
@click.option(
    "--graph", type=PATH, metavar="FILE", help="Write the graph: .svg, .pb, .pbtxt, or a TensorBoard folder."
)
@click.option("--around", metavar="NODE", help="Picture of the neighbourhood of a node.")
@click.option("--around-finding", is_flag=True, help="Pictures of the neighbourhoods of the findings.")
@click.option("--radius", type=click.IntRange(min=0), default=2, help="Steps from that node.  [2]")
@click.option("--no-weights", is_flag=True, help="Leave values of large constants out of a .pb.")
@common
def command(
    model: Path,
    ops: bool,
    layers: bool,
    tags: str | None,
    signature: str | None,
    pipeline_config: Path | None,
    graph: Path | None,
    around: str | None,
    around_finding: bool,
    radius: int,
    no_weights: bool,
    as_json: bool,
    quiet: bool,
    verbose: int,
    debug: bool,
) -> None:
    """Say what MODEL is, without running anything that is in it."""
    from edgeconv.errors import UsageError
    from edgeconv.formats.base import to_json
    from edgeconv.recipe.describing import described
    from edgeconv.recipe.detection import with_pipeline

    if (around is not None or around_finding) and graph is None:
        raise UsageError(
            "a picture needs a file to be drawn into", hint="name it: --graph part.svg --around NODE"
        )
    chosen = None if tags is None else tuple(tag for tag in tags.split(",") if tag)
    description = with_pipeline(described(model, chosen, signature), model, pipeline_config)
    document: dict[str, Any] = to_json(description)
    found_layers, found_nodes = None, None
    if layers:
        from edgeconv.formats.layers import layers_in

        found_layers = layers_in(model, chosen)
        document["layers"] = to_json(found_layers)
    if ops and verbose:
        from edgeconv.formats.nodes import nodes_in

        found_nodes = nodes_in(model, chosen, signature)
        document["nodes"] = to_json(found_nodes)
    said = None
    if graph is not None:
        from edgeconv.reports.graph_files import write_graph_file

        said = write_graph_file(
            model,
            graph,
            description,
            tags=chosen,
            signature=signature,
            around=around,
            around_finding=around_finding,
            radius=radius,
            weights=not no_weights,
        )
        document["graph"] = str(graph)
    if as_json:
        print_json(document)
        return
    if layers or (ops and verbose):
        from edgeconv.cli.graph_tables import print_layers, print_nodes

        if found_layers is not None:
            print_layers(found_layers)
        if found_nodes is not None:
            print_nodes(found_nodes)
    elif not (said and quiet):
        from edgeconv.cli.description_page import print_description

        print_description(description, all_ops=ops, verbose=bool(verbose))
    if said is not None:
        click.echo(plain(f"\n{said}" if not quiet else said))
