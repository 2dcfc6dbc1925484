"""``edgeconv bench``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from edgeconv.cli.options import PATH, common, example, plain, print_json


def _threads(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in value.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1 or max(found) > 1024:
        raise click.BadParameter(f"'{value}' is no list of numbers from 1 to 1024, like 1,2,4")
    return found


@click.command(
    "bench",
    epilog=example(
        "edgeconv bench model.fp32.tflite model.int8.tflite",
        "edgeconv bench model.tflite --device pi4-lab --threads 1,2,4 --profile",
        "edgeconv bench model.onnx --runtime onnxruntime==1.16.3 --output today.json",
        "edgeconv bench model.int8.tflite --record",
    ),
)
@click.argument("artifacts", type=PATH, nargs=-1, required=True)
@click.option(
    "--device", "devices", multiple=True, metavar="NAME", help="Measure it there ('edgeconv devices')."
)
@click.option(
    "--runtime",
    metavar="NAME[==VERSION]",
    help="Runtime there, as 'tflite-runtime==2.14.0'; here in a side environment where need be.",
)
@click.option(
    "--threads", default="1", metavar="N[,N…]", callback=_threads, help="Threads; each is measured.  [1]"
)
@click.option("--accelerator", metavar="NAME|LIBRARY", help="cpu, xnnpack, cuda, …, or a delegate's library.")
@click.option(
    "--launches", type=click.IntRange(1, 1000), default=10, help="Fresh processes of each artifact.  [10]"
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600, min_open=True),
    default=5.0,
    help="Of timed inferences of each, all launches together.  [5]",
)
@click.option("--profile", "with_profile", is_flag=True, help="Also the time of every op.")
@click.option("--data", type=PATH, help=".npz or .npy of samples, in place of seeded ones.")
@click.option(
    "--shape", "shapes", multiple=True, metavar="NAME=1,224,224,3", help="Pin the shape of an input."
)
@click.option("--signature", help="Signature of a SavedModel or TFLite file.")
@click.option("--hot", type=float, default=80.0, metavar="°C", help="A launch this hot is spoiled.  [80]")
@click.option(
    "--cool-seconds",
    type=click.FloatRange(0, 3600),
    default=300.0,
    help="Wait at most so long for a device to be as cool as it was at first; 0 never waits.  [300]",
)
@click.option("--seed", type=int, default=0, help="Of the inputs and the order.  [0]")
@click.option("--output", type=PATH, metavar="FILE.json", help="Write all samples there.")
@click.option(
    "--record", is_flag=True, help="Keep it in the history; the reference set there is measured beside it."
)
@click.option("--store", metavar="URL|FILE", help="Where the history is, for --record.  [$EDGECONV_HISTORY]")
@common
def command(
    artifacts: tuple[Path, ...],
    devices: tuple[str, ...],
    runtime: str | None,
    threads: tuple[int, ...],
    accelerator: str | None,
    launches: int,
    seconds: float,
    with_profile: bool,
    data: Path | None,
    shapes: tuple[str, ...],
    signature: str | None,
    hot: float,
    cool_seconds: float,
    seed: int,
    output: Path | None,
    record: bool,
    store: str | None,
    as_json: bool,
    quiet: bool,
    verbose: int,
    debug: bool,
) -> int:
    """Measure ARTIFACTS: latency with its interval, load time, memory, throughput, size."""
    from edgeconv.cli.bench_lines import bench_document, print_bench
    from edgeconv.errors import EdgeconvError, UsageError
    from edgeconv.latency import records
    from edgeconv.latency.bench import Effort
    from edgeconv.latency.spoiled import Limits
    from edgeconv.recipe.benching import BenchRequest, bench, keep
    from edgeconv.recipe.request import parse_shapes

    pinned: dict[str, tuple[int, ...]] = {}
    for name, shape in parse_shapes(shapes).items():
        if shape is None or any(size is None for size in shape):
            raise UsageError(f"the shape of '{name}' is left open", hint="give every dimension a number")
        pinned[name] = tuple(size for size in shape if size is not None)
    if output is not None and not output.absolute().parent.is_dir():
        raise UsageError("there is no such folder", where=str(output.parent), hint="make it first")
    if store is not None and not record:
        raise UsageError("a history is named and nothing is to be kept in it", hint="add --record")

    on_one_line = not (verbose or quiet or as_json) and sys.stderr.isatty()

    def say(text: str) -> None:
        if verbose:
            click.echo(plain(text), err=True)
        elif on_one_line:
            click.echo(f"\r\033[K{plain(text)[:100]}", err=True, nl=False)

    found = bench(
        BenchRequest(
            artifacts=artifacts,
            devices=devices,
            runtime=runtime,
            threads=threads,
            accelerator=accelerator,
            effort=Effort(launches, seconds, Limits(celsius=hot), cool_seconds, seed),
            data=data,
            shapes=pinned,
            seed=seed,
            options={"signature": signature} if signature is not None else {},
            with_profile=with_profile,
            record=record,
            store=store,
        ),
        say,
    )
    if on_one_line:
        click.echo("\r\033[K", err=True, nl=False)
    if output is not None:
        records.write(output, found.run.measurements)
    kept: tuple[list[str], str] | None = None
    lost: EdgeconvError | None = None
    if record:
        try:
            kept = keep(found, store=store, command=shlex.join(["edgeconv", *sys.argv[1:]]))
        except EdgeconvError as error:
            lost = error  # what was measured is shown all the same
    if as_json:
        print_json(bench_document(found, kept))
    else:
        print_bench(found, quiet=quiet, verbose=bool(verbose), kept=kept)
    if lost is not None:
        raise lost
    return max((int(each.error.exit_code) for each in found.run.broken), default=0)
