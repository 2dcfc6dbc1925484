"""``edgeconv regress``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from edgeconv.cli.options import PATH, common, example, plain, print_json

_HELP = {
    "threshold": "Change of the latency that matters, as '5%' or '0.05'.  [1%]",
    "tail": "The same of the tail, which can raise an alarm and is not waited for.  [10%]",
    "alpha": "Probability that equals are called changed, over everything in the call.  [0.2%]",
    "beta": "Probability that a change of the threshold or more is called ok.  [2%]",
}


class _Percent(click.ParamType[float]):
    """``5%`` or ``0.05`` as a fraction."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click."""
        if isinstance(value, float):
            return value
        text = str(value).strip()
        try:
            return float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            self.fail(f"'{value}' is no share: write it as 5% or 0.05", param, ctx)


PERCENT = _Percent()


@click.command(
    "regress",
    epilog=example(
        "edgeconv regress old.tflite new.tflite",
        "edgeconv regress old.onnx new.onnx --threshold 5% --culprit",
        "edgeconv regress model.tflite model.tflite --baseline-runtime litert==2.1.6 "
        "--candidate-runtime litert==2.3.0",
        "edgeconv regress before/ after/ --device pi4 --junit verdicts.xml --markdown summary.md",
        "edgeconv regress --baseline main new.tflite --record",
    ),
)
@click.argument("artifacts", type=PATH, nargs=-1, required=True, metavar="[BASELINE] CANDIDATE")
@click.option(
    "--baseline",
    "baseline_name",
    metavar="NAME",
    help="In place of BASELINE, one set with 'edgeconv history'.",
)
@click.option("--threshold", type=PERCENT, metavar="SHARE", help=_HELP["threshold"])
@click.option("--tail-threshold", type=PERCENT, metavar="SHARE", help=_HELP["tail"])
@click.option("--load-threshold", type=PERCENT, metavar="SHARE", help="Of the load time.  [10%]")
@click.option("--memory-threshold", type=PERCENT, metavar="SHARE", help="Of the memory.  [5%]")
@click.option("--size-threshold", type=PERCENT, metavar="SHARE", help="Of the artifact's size.  [5%]")
@click.option("--alpha", type=PERCENT, metavar="SHARE", help=_HELP["alpha"])
@click.option("--beta", type=PERCENT, metavar="SHARE", help=_HELP["beta"])
@click.option("--seconds", type=float, help="Of measuring the latency of a pair, at most.  [15]")
@click.option("--device", default="local", metavar="NAME", help="Where ('edgeconv devices').  [local]")
@click.option("--runtime", metavar="NAME[==VERSION]", help="Runtime of both.")
@click.option("--baseline-runtime", metavar="NAME[==VERSION]", help="Runtime of the baseline.")
@click.option("--candidate-runtime", metavar="NAME[==VERSION]", help="Runtime of the candidate.")
@click.option("--threads", type=click.IntRange(min=1), default=1, help="Threads there.  [1]")
@click.option("--accelerator", metavar="NAME|LIBRARY", help="Of the runtime there, as in 'convert'.")
@click.option("--data", type=PATH, help=".npz or .npy of samples to run on, in place of seeded probes.")
@click.option(
    "--culprit", is_flag=True, help="Where one regressed: which part slowed down, what was changed."
)
@click.option("--emulated-anyway", is_flag=True, help="Also on an emulated device, whose times say nothing.")
@click.option("--junit", "junit_file", type=PATH, metavar="FILE", help="Write JUnit XML.")
@click.option("--markdown", "markdown_file", type=PATH, metavar="FILE", help="Write a summary in Markdown.")
@click.option("--record", is_flag=True, help="Keep verdicts and samples in the history.")
@click.option("--store", metavar="URL|FILE", help="Where the history is, for --baseline and --record.")
@click.option("--seed", type=int, help="Of what is drawn; from the system where not given.")
@common
def command(
    artifacts: tuple[Path, ...],
    baseline_name: str | None,
    threshold: float | None,
    tail_threshold: float | None,
    load_threshold: float | None,
    memory_threshold: float | None,
    size_threshold: float | None,
    alpha: float | None,
    beta: float | None,
    seconds: float | None,
    device: str,
    runtime: str | None,
    baseline_runtime: str | None,
    candidate_runtime: str | None,
    threads: int,
    accelerator: str | None,
    data: Path | None,
    culprit: bool,
    emulated_anyway: bool,
    junit_file: Path | None,
    markdown_file: Path | None,
    record: bool,
    store: str | None,
    seed: int | None,
    as_json: bool,
    quiet: bool,
    verbose: int,
    debug: bool,
) -> int:
    """Is CANDIDATE slower than BASELINE? Both are measured together, and the answer has known error rates.

    Artifacts, or two folders of artifacts with the same names. Exits with 0 if none regressed, 1 if one did,
    3 if there is one of which the time given does not tell.
    """
    from edgeconv.errors import ExitCode, UsageError
    from edgeconv.latency.decisions import Policy
    from edgeconv.latency.regress import Thresholds, worst
    from edgeconv.recipe.regression import RegressionRequest, regress

    wanted = 1 if baseline_name is not None else 2
    if len(artifacts) != wanted:
        raise UsageError(
            f"{len(artifacts)} artifacts are given and {wanted} wanted",
            hint="edgeconv regress BASELINE CANDIDATE, or edgeconv regress --baseline NAME CANDIDATE",
        )
    given = {"threshold": threshold, "tail_threshold": tail_threshold, "alpha": alpha, "beta": beta}
    given["seconds"] = seconds
    policy: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    others = {"load": load_threshold, "memory": memory_threshold, "bytes": size_threshold}
    request = RegressionRequest(
        candidate=artifacts[-1],
        baseline=None if baseline_name is not None else artifacts[0],
        baseline_name=baseline_name,
        policy=Policy(**policy),
        thresholds=Thresholds(**{name: value for name, value in others.items() if value is not None}),
        device=device,
        runtime=runtime,
        baseline_runtime=baseline_runtime,
        candidate_runtime=candidate_runtime,
        threads=threads,
        accelerator=accelerator,
        data=data,
        emulated_anyway=emulated_anyway,
        culprit=culprit,
        record=record,
        store=store,
        seed=seed,
        command=shlex.join(["edgeconv", *sys.argv[1:]]),
    )
    found, unmatched = regress(request, _say(quiet, verbose))
    verdict = worst([one.verdict for one in found])
    left = [f"{one.path} (only in the {one.side}'s folder)" for one in unmatched]
    if junit_file is not None:
        from edgeconv.reports.junit import junit

        _write(junit_file, junit(found))
    if markdown_file is not None:
        from edgeconv.reports.markdown import markdown

        _write(markdown_file, markdown(found, left))
    if as_json:
        from edgeconv.reports.verdicts import as_document

        print_json({"verdict": verdict, "pairs": [as_document(one) for one in found], "unmatched": left})
    else:
        from edgeconv.cli.regress_lines import print_verdicts

        print_verdicts(found, left, quiet=quiet, verbose=bool(verbose))
    codes = {"regressed": ExitCode.VERDICT_FAILED, "inconclusive": ExitCode.INCONCLUSIVE}
    return codes.get(verdict, ExitCode.OK)


def _say(quiet: bool, verbose: int) -> Any:
    def say(text: str) -> None:
        if verbose and not quiet:
            click.echo(plain(text), err=True)

    return say


def _write(path: Path, text: str) -> None:
    from edgeconv.errors import UsageError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise UsageError("it cannot be written", where=str(path), why=str(error)) from error
