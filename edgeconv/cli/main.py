"""The ``edgeconv`` command: finds the file of a command only when it is called."""

from __future__ import annotations

import difflib
import importlib
import sys

import click

from edgeconv.cli.guard import guarded
from edgeconv.cli.options import example

_COMMANDS = {
    "inspect": "What a model is: format, origin, inputs and outputs, size, operations.",
    "convert": "Take a model to other formats in stages, each proven.",
    "freeze": "Make a frozen graph, whole or with some variables kept.",
    "thaw": "Make variables again of a frozen graph's weights.",
    "extract": "Take a part out of a model, between tensors.",
    "split": "Cut a model in two parts that compose to it.",
    "layers": "List layers; freeze and unfreeze them.",
    "precompute": "Run a part of a model over a file of items, into .npy.",
    "compare": "Prove that two artifacts compute the same, output by output.",
    "bench": "Measure artifacts on devices: latency with its interval, memory, load time, size.",
    "check": "Will an artifact run on a target: runtimes, ops, libc, memory.",
    "regress": "Is an artifact slower than another: a verdict with known error rates.",
    "drill": "What regress can detect on this machine, tried on known truths.",
    "targets": "Kinds of devices: list, show, add.",
    "devices": "Where artifacts run: list, add, probe, create, remove, clean.",
    "environments": "Side environments for what cannot live beside edgeconv: list, create, show, remove.",
    "history": "What was measured when, on what: list, series, changes, baselines.",
    "doctor": "What this machine can do, and what is missing.",
    "completion": "Print the shell completion script.",
}


class _LazyGroup(click.Group):
    """Commands whose modules are imported when they are called, so that ``--help`` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"edgeconv.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if near := difflib.get_close_matches(args[0], _COMMANDS, n=1):
                what = f"{error.message} Did you mean '{near[0]}'?"
                raise click.UsageError(what, ctx) from error
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=example("edgeconv convert model.keras --to tflite:int8 --calibration samples.npz"),
)
@click.version_option(package_name="edgeconv", prog_name="edgeconv")
def group() -> None:
    """Take a trained TensorFlow model to edge artifacts, each proven equal to the original."""


def main() -> None:
    """Entry point of the ``edgeconv`` command; exits with the documented codes."""
    sys.exit(guarded(group))
