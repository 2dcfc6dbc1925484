"""``edgeconv check``."""

from __future__ import annotations

from pathlib import Path

import click

from edgeconv.cli.options import PATH, common, example, print_json


@click.command(
    "check",
    epilog=example(
        "edgeconv check model.edgeconv/model.int8.tflite --target rpi4",
        "edgeconv check *.tflite *.onnx --target rpi4@bullseye,jetson-nano-jp4 --json",
        "edgeconv check model.dynamic.tflite --target rpi4 --runtime tflite-runtime==2.14.0",
    ),
)
@click.argument("artifact", type=PATH, nargs=-1, required=True, metavar="ARTIFACT…")
@click.option(
    "--target",
    "targets",
    multiple=True,
    required=True,
    metavar="NAME[@RELEASE][,…]",
    help="Kind of device, as 'edgeconv targets' lists them; repeatable.",
)
@click.option(
    "--runtime", metavar="NAME[==VERSION]", help="Only this runtime, also one that the target does not name."
)
@common
def command(
    artifact: tuple[Path, ...],
    targets: tuple[str, ...],
    runtime: str | None,
    as_json: bool,
    quiet: bool,
    verbose: int,
    debug: bool,
) -> int:
    """Say whether each ARTIFACT runs on a target, before it is shipped.

    Exits with 0 if all run, 1 if one is refused, 3 if there is one of which nobody can say.
    """
    from edgeconv.checking.base import VERDICTS
    from edgeconv.checking.target import check_all
    from edgeconv.errors import ExitCode

    names = [name.strip() for text in targets for name in text.split(",") if name.strip()]
    found = check_all(artifact, names, runtime=runtime)
    verdict = min((one.verdict for one in found), key=VERDICTS.index, default="runs")
    if as_json:
        print_json({"verdict": verdict, "checks": [one.to_json() for one in found]})
    else:
        from edgeconv.cli.check_lines import print_checks

        print_checks(found, quiet=quiet, verbose=bool(verbose))
    codes = {
        "runs": ExitCode.OK, "refused": ExitCode.VERDICT_FAILED, "unknown": ExitCode.INCONCLUSIVE
    }  # fmt: skip
    return codes[verdict]
