"""``edgeconv convert``."""

from __future__ import annotations

import functools
from pathlib import Path

import click

from edgeconv.cli.options import PATH, common, example, on_devices, print_json


@click.command(
    "convert",
    epilog=example(
        "edgeconv convert model.keras",
        "edgeconv convert model.keras --to tflite:int8,onnx --calibration samples.npz",
        "edgeconv convert run7/ckpt-12 --model-builder net.py:build --to tflite:all",
        "edgeconv convert graph.pb --outputs logits --shape image=1,224,224,3 -o out",
        "edgeconv convert model.keras --target rpi4@bullseye --calibration samples.npz",
    ),
)
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, help="Folder for the artifacts.  [MODEL-NAME.edgeconv]")
@click.option(
    "--to",
    multiple=True,
    metavar="FORMAT[:PRECISION],…",
    help="What to make; ':all' is every precision.  [frozen_graph,tflite,onnx]",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME[@RELEASE],…",
    help="Kinds of devices it is to run on, as 'edgeconv targets' lists them: makes what they take.",
)
@click.option("--calibration", type=PATH, help=".npz or .npy of samples for quantization.")
@click.option("--data", type=PATH, help=".npz or .npy of samples for the gates, in place of seeded probes.")
@click.option(
    "--shape", "shapes", multiple=True, metavar="NAME=1,224,224,3", help="Pin the shape of an input."
)
@click.option("--inputs", multiple=True, metavar="NAME,…", help="Tensors where the model begins.")
@click.option("--outputs", multiple=True, metavar="NAME,…", help="Tensors where the model ends.")
@click.option("--signature", help="Signature of a SavedModel or TFLite file.")
@click.option("--tags", help="Tags of the metagraph of a SavedModel, separated by commas.")
@click.option(
    "--tolerance",
    multiple=True,
    metavar="[PRECISION:]NAME=VALUE,…",
    help="Tolerance of the gates, as in 'fp32:abs=1e-4,rel=1e-3'.",
)
@click.option("--model-builder", metavar="MODULE:FUNCTION", help="Function that builds a checkpoint's model.")
@click.option(
    "--pipeline-config", type=PATH, help="pipeline.config of a detector.  [the one beside the model]"
)
@click.option(
    "--postprocessing",
    type=click.Choice(["keep", "cut"]),
    default="keep",
    help="A detector's suppression of boxes: in the artifacts, or beside them in NumPy.  [keep]",
)
@click.option("--label-map", type=PATH, help="Names of a detector's classes (.pbtxt, or one a line).")
@click.option("--checkpoint", type=PATH, help="Checkpoint with the weights of MODEL.")
@click.option("--graph", type=PATH, help="File with the graph of MODEL, a checkpoint without '.meta'.")
@click.option(
    "--map-variable",
    multiple=True,
    metavar="PATTERN=REPLACEMENT",
    help="Regular expression that makes of the graph's names of variables the checkpoint's.",
)
@click.option(
    "--restore", multiple=True, metavar="PATTERN", help="Take only matching variables from the checkpoint."
)
@click.option("--moving-averages", is_flag=True, help="Use the moving averages of variables in their place.")
@click.option(
    "--custom-objects",
    metavar="MODULE|FILE.py",
    help="Module with the custom layers and functions of a Keras model; it is imported, so trust it.",
)
@click.option("--config", type=PATH, help="Architecture (Keras JSON or YAML) that weights alone belong to.")
@click.option(
    "--keras-backend",
    type=click.Choice(["tensorflow", "theano", "cntk"]),
    help="Backend an old Keras file was trained with, where the file does not say.",
)
@click.option("--trust", is_flag=True, help="Allow the model to run code and to touch files that it names.")
@click.option("--opset", type=int, help="Opset of ONNX files.  [17, or what all of --target take]")
@click.option("--jobs", type=click.IntRange(min=1), help="Workers at the same time.  [number of cores]")
@click.option("--seed", type=int, default=0, help="Seed of the probes.  [0]")
@click.option("--no-cache", is_flag=True, help="Do not use finished work of earlier runs, and keep none.")
@click.option(
    "--worker-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=3600.0,
    help="Seconds one worker may take.  [3600]",
)
@click.option(
    "--worker-memory",
    type=click.FloatRange(min=0, min_open=True),
    help="Megabytes one worker may use.  [no limit]",
)
@on_devices
@common
def command(
    model: Path,
    output: Path | None,
    to: tuple[str, ...],
    targets: tuple[str, ...],
    calibration: Path | None,
    data: Path | None,
    shapes: tuple[str, ...],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    signature: str | None,
    tags: str | None,
    tolerance: tuple[str, ...],
    model_builder: str | None,
    pipeline_config: Path | None,
    label_map: Path | None,
    postprocessing: str,
    checkpoint: Path | None,
    graph: Path | None,
    map_variable: tuple[str, ...],
    restore: tuple[str, ...],
    moving_averages: bool,
    custom_objects: str | None,
    config: Path | None,
    keras_backend: str | None,
    trust: bool,
    opset: int | None,
    jobs: int | None,
    seed: int,
    no_cache: bool,
    worker_timeout: float,
    worker_memory: float | None,
    devices: tuple[str, ...],
    runtime: str | None,
    threads: int,
    accelerator: str | None,
    as_json: bool,
    quiet: bool,
    verbose: int,
    debug: bool,
) -> int:
    """Take MODEL to other formats in stages, each proven against its predecessor."""
    from edgeconv.cli.progress import progress
    from edgeconv.execution.stage import Limits
    from edgeconv.recipe.convert import convert, exit_code
    from edgeconv.recipe.device_gates import DeviceRequest, prove_on_devices
    from edgeconv.recipe.on_devices import devices_asked
    from edgeconv.recipe.request import ConversionRequest, parse_shapes, parse_targets

    names = devices_asked(devices, runtime, threads, accelerator)
    there = DeviceRequest(names, runtime, threads, accelerator, data or calibration, tolerance)
    there.check()
    request = ConversionRequest(
        model=model,
        output=output,
        to=parse_targets(to),
        targets=_names(targets),
        data=data,
        calibration=calibration,
        shapes=parse_shapes(shapes),
        inputs=_names(inputs),
        outputs=_names(outputs),
        signature=signature,
        tags=tuple(tag for tag in tags.split(",") if tag) if tags is not None else None,
        tolerance=tolerance,
        pipeline_config=pipeline_config,
        label_map=label_map,
        postprocessing=postprocessing,
        checkpoint=checkpoint,
        graph=graph,
        map_variable=map_variable,
        restore=restore,
        moving_averages=moving_averages,
        model_builder=model_builder,
        custom_objects=custom_objects,
        config=config,
        keras_backend=keras_backend,
        trust=trust,
        opset=opset,
        jobs=jobs,
        seed=seed,
        use_cache=not no_cache,
        limits=Limits(worker_timeout, int(worker_memory * 2**20) if worker_memory else None),
    )
    with progress(quiet=quiet, verbose=bool(verbose)) as listener:
        manifest, folder = convert(request, listener)
    if there.devices:
        say = (lambda text: None) if quiet else functools.partial(click.echo, err=True)
        manifest = prove_on_devices(manifest, folder, there, say)
    if as_json:
        print_json(manifest.to_json())
    else:
        from edgeconv.cli.gate_tables import print_device_gates
        from edgeconv.cli.tables import console_for_tables, print_manifest
        from edgeconv.cli.target_lines import print_target_checks

        print_manifest(manifest, folder, quiet=quiet, verbose=bool(verbose))
        print_device_gates(manifest, quiet=quiet)
        print_target_checks(console_for_tables(), manifest, quiet=quiet)
    return exit_code(manifest)


def _names(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.strip() for text in texts for name in text.split(",") if name.strip())
