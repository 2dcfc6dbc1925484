"""``edgeconv drill``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeconv.cli.options import PATH, common, example, plain, print_json

_UNITS = (("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0))


def _duration(text: str) -> float:
    """``40us``, ``1ms`` or ``0.02s`` in seconds."""
    for unit, scale in _UNITS:
        number = text.strip().removesuffix(unit)
        if number != text.strip():
            try:
                return float(number) * scale
            except ValueError:
                break
    raise click.BadParameter(f"'{text}' is no time: write it as 40us, 1ms or 0.02s")


class _List(click.ParamType[Any]):
    """Values between commas."""

    name = "list"

    def __init__(self, each: Any) -> None:
        self._each = each

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See click."""
        if not isinstance(value, str):
            return value
        try:
            return tuple(self._each(part) for part in value.split(",") if part.strip())
        except ValueError:
            self.fail(f"'{value}' has something that is no number", param, ctx)


@click.command(
    "drill",
    epilog=example(
        "edgeconv drill",
        "edgeconv drill model.tflite --minutes 3",
        "edgeconv drill --size 40us,1ms --effects 0,2 --loops 0 --keep drilled/",
    ),
)
@click.argument("artifacts", type=PATH, nargs=-1)
@click.option("--minutes", type=click.FloatRange(min=0.01), default=4.0, help="Of deciding.  [4]")
@click.option(
    "--size",
    "sizes",
    type=_List(_duration),
    default="40us,1ms,20ms",
    metavar="TIME[,…]",
    help="Time of an inference of the built-in networks.  [40us,1ms,20ms]",
)
@click.option(
    "--effects",
    type=_List(float),
    default="0,1,2,5",
    metavar="PERCENT[,…]",
    help="Work that is injected; 0 is none.  [0,1,2,5]",
)
@click.option(
    "--loops",
    type=_List(int),
    metavar="NUMBER[,…]",
    help="Busy loops that come and go beside it.  [0,4; 0 on another device]",
)
@click.option("--rounds", type=click.IntRange(min=1), help="Decisions of each kind, at most.  [no limit]")
@click.option("--seconds", type=float, help="Of measuring a decision, at most.  [15]")
@click.option("--device", default="local", metavar="NAME", help="Where ('edgeconv devices').  [local]")
@click.option("--runtime", metavar="NAME[==VERSION]", help="Runtime there.")
@click.option("--threads", type=click.IntRange(min=1), default=1, help="Threads there.  [1]")
@click.option("--keep", type=PATH, metavar="DIR", help="Keep rows and raw samples there.")
@click.option("--seed", type=int, help="Of what is drawn; from the system where not given.")
@common
def command(
    artifacts: tuple[Path, ...],
    minutes: float,
    sizes: tuple[float, ...],
    effects: tuple[float, ...],
    loops: tuple[int, ...] | None,
    rounds: int | None,
    seconds: float | None,
    device: str,
    runtime: str | None,
    threads: int,
    keep: Path | None,
    seed: int | None,
    as_json: bool,
    quiet: bool,
    verbose: int,
    debug: bool,
) -> int:
    """What 'edgeconv regress' can detect on this machine, and how often it errs, tried on known truths.

    Equals, and work injected by count, into ARTIFACTS or built-in networks; the rules of other tools on the
    same samples. Exits with 1 if decisions were wrong more often than is stated, beyond chance, and with 3 if
    a kind of change was not found most of the time.
    """
    from edgeconv.errors import ExitCode
    from edgeconv.latency.decisions import Policy
    from edgeconv.latency.rates import more_often_than_stated
    from edgeconv.recipe.drilling import DrillRequest, drill

    policy = Policy() if seconds is None else Policy(seconds=seconds)
    if loops is None:
        loops = (0, 4) if device == "local" else (0,)
    request = DrillRequest(
        artifacts=artifacts,
        sizes=sizes,
        effects=effects,
        loops=loops,
        seconds=60 * minutes,
        rounds=rounds,
        policy=policy,
        device=device,
        runtime=runtime,
        threads=threads,
        keep=keep,
        seed=seed,
    )

    def told(one: Any) -> None:
        if verbose and not quiet:
            text = f"{one.model}, +{one.effect:g} %, {one.loops} loops: {one.verdict}, {one.seconds:.1f} s"
            click.echo(plain(text), err=True)

    found = drill(request, told)
    if as_json:
        from edgeconv.reports.drilled import as_document

        print_json(as_document(found))
    else:
        from edgeconv.cli.drill_lines import print_drilled

        print_drilled(found, quiet=quiet)
    if more_often_than_stated(found.summary.cells, policy):
        return ExitCode.VERDICT_FAILED
    missed = [cell for cell in found.summary.cells if 2 * cell.right.hits < cell.right.of]
    return ExitCode.INCONCLUSIVE if missed or not found.summary.cells else ExitCode.OK
