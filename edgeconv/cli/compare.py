"""``edgeconv compare``."""

from __future__ import annotations

from pathlib import Path

import click

from edgeconv.cli.options import PATH, common, example, on_devices, print_json


@click.command(
    "compare",
    epilog=example(
        "edgeconv compare model.keras model.edgeconv/model.int8.tflite",
        "edgeconv compare old.tflite new.onnx --data samples.npz --map scores=Identity --locate",
        "edgeconv compare model.keras model.int8.tflite --device rpi4-emulated --runtime tflite-runtime",
    ),
)
@click.argument("reference", type=PATH)
@click.argument("candidate", type=PATH)
@click.option("--data", type=PATH, help=".npz or .npy of samples, in place of seeded probes.")
@click.option("--locate", is_flag=True, help="Find the first tensor that diverges, and by whose fault.")
@click.option(
    "--map",
    "output_map",
    multiple=True,
    metavar="REFERENCE=CANDIDATE",
    help="Pair two outputs whose names do not tell.",
)
@click.option(
    "--map-input", "input_map", multiple=True, metavar="REFERENCE=CANDIDATE", help="The same for inputs."
)
@click.option(
    "--shape", "shapes", multiple=True, metavar="NAME=1,224,224,3", help="Pin the shape of an input."
)
@click.option("--signature", help="Signature of a SavedModel or TFLite file.")
@click.option("--tags", help="Tags of the metagraph of a SavedModel, separated by commas.")
@click.option(
    "--tolerance",
    multiple=True,
    metavar="[PRECISION:]NAME=VALUE,…",
    help="Tolerance, as in 'int8:sqnr=15' or '1e-3'.",
)
@click.option("--model-builder", metavar="MODULE:FUNCTION", help="Function that builds a checkpoint's model.")
@click.option(
    "--custom-objects",
    metavar="MODULE|FILE.py",
    help="Module with the custom layers and functions of a Keras model; it is imported, so trust it.",
)
@click.option("--trust", is_flag=True, help="Allow the models to run code and to touch files.")
@click.option("--seed", type=int, default=0, help="Seed of the probes.  [0]")
@on_devices
@common
def command(
    reference: Path,
    candidate: Path,
    data: Path | None,
    locate: bool,
    output_map: tuple[str, ...],
    input_map: tuple[str, ...],
    shapes: tuple[str, ...],
    signature: str | None,
    tags: str | None,
    tolerance: tuple[str, ...],
    model_builder: str | None,
    custom_objects: str | None,
    trust: bool,
    seed: int,
    devices: tuple[str, ...],
    runtime: str | None,
    threads: int,
    accelerator: str | None,
    as_json: bool,
    quiet: bool,
    verbose: int,
    debug: bool,
) -> int:
    """Prove that CANDIDATE computes what REFERENCE does, output by output, here or on devices."""
    from edgeconv.recipe.compare import ComparisonRequest, compare
    from edgeconv.recipe.request import parse_pairs, parse_shapes

    comparison = compare(
        ComparisonRequest(
            reference=reference,
            candidate=candidate,
            data=data,
            shapes=parse_shapes(shapes),
            tolerance=tolerance,
            output_map=parse_pairs(output_map, "--map"),
            input_map=parse_pairs(input_map, "--map-input"),
            options={
                "signature": signature,
                "tags": tags.split(",") if tags is not None else None,
                "model_builder": model_builder,
                "custom_objects": custom_objects,
                "trust": trust or None,
            },
            seed=seed,
            locate=locate,
            devices=devices,
            runtime=runtime,
            threads=threads,
            accelerator=accelerator,
        )
    )
    if as_json:
        print_json(comparison.to_json())
    else:
        from edgeconv.cli.gate_tables import print_comparison

        print_comparison(comparison, quiet=quiet)
    return comparison.exit_code
