"""Options that the surgery commands share, and what they end with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeconv.cli.options import PATH, print_json

if TYPE_CHECKING:
    from edgeconv.execution.manifest import Manifest
    from edgeconv.recipe.workbench import SurgeryRequest

F = TypeVar("F", bound=Callable[..., Any])


def surgery(function: F) -> F:
    """Add what is needed to open any model and to prove what is made of it."""
    for option in (
        click.option("--no-cache", is_flag=True, help="Do not use finished work of earlier runs."),
        click.option("--seed", type=int, default=0, help="Seed of the probes.  [0]"),
        click.option("--trust", is_flag=True, help="Allow the model to run code and to touch files."),
        click.option("--checkpoint", type=PATH, help="Checkpoint with the weights of MODEL."),
        click.option("--model-builder", metavar="MODULE:FUNCTION", help="Builds a checkpoint's model."),
        click.option(
            "--tolerance", multiple=True, metavar="[PRECISION:]NAME=VALUE,…", help="Tolerance of the gates."
        ),
        click.option("--tags", help="Tags of the metagraph of a SavedModel, separated by commas."),
        click.option("--signature", help="Signature of a SavedModel."),
        click.option(
            "--shape", "shapes", multiple=True, metavar="NAME=1,224,224,3", help="Pin the shape of an input."
        ),
        click.option("--data", type=PATH, help=".npz or .npy of samples for the gates."),
    ):
        function = option(function)
    return function


def names(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Names of an option that may be repeated and takes several, separated by commas."""
    return tuple(name.strip() for text in texts for name in text.split(",") if name.strip())


def request_of(model: Path, output: Path | None, options: Mapping[str, Any]) -> SurgeryRequest:
    """The request that the shared options say."""
    from edgeconv.recipe.request import parse_shapes
    from edgeconv.recipe.workbench import SurgeryRequest

    tags = options["tags"]
    return SurgeryRequest(
        model=model,
        output=output,
        data=options["data"],
        shapes=parse_shapes(options["shapes"]),
        signature=options["signature"],
        tags=tuple(tag for tag in tags.split(",") if tag) if tags is not None else None,
        tolerance=options["tolerance"],
        checkpoint=options["checkpoint"],
        model_builder=options["model_builder"],
        trust=options["trust"],
        seed=options["seed"],
        use_cache=not options["no_cache"],
    )


def say(manifest: Manifest, target: Path, options: Mapping[str, Any]) -> int:
    """Print what was made; returns the exit code."""
    from edgeconv.recipe.convert import exit_code

    if options["as_json"]:
        print_json(manifest.to_json())
    else:
        from edgeconv.cli.tables import print_manifest

        print_manifest(manifest, target, quiet=options["quiet"], verbose=bool(options["verbose"]))
    return exit_code(manifest)
