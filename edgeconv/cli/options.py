"""Options and helpers that commands share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)


def example(*lines: str) -> str:
    """The epilog of a help text: commands to copy, each on a line of its own, never wrapped."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def common(function: F) -> F:
    """Add ``--json``, ``-q``, ``-v`` and ``--debug``."""
    for option in (
        click.option("--debug", is_flag=True, help="Show the traceback of an error."),
        click.option("-v", "--verbose", count=True, help="Say more."),
        click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else."),
    ):
        function = option(function)
    return function


def on_devices(function: F) -> F:
    """Add ``--device`` (repeatable), ``--runtime``, ``--threads`` and ``--accelerator``."""
    for option in (
        click.option(
            "--accelerator",
            metavar="NAME|LIBRARY",
            help="Of the runtime there: cpu, xnnpack, cuda, tensorrt, edgetpu, gpu, or a delegate's library.",
        ),
        click.option("--threads", type=click.IntRange(min=1), default=1, help="Threads there.  [1]"),
        click.option(
            "--runtime",
            metavar="NAME[==VERSION]",
            help="Runtime there, as 'tflite-runtime==2.14.0'; without --device in a side environment here.",
        ),
        click.option(
            "--device", "devices", multiple=True, metavar="NAME", help="Run it there ('edgeconv devices')."
        ),
    ):
        function = option(function)
    return function


def plain(text: str) -> str:
    r"""A text whose control characters are shown as escapes, so that no name in a model steers a terminal.

    >>> print(plain("conv\x1b[2J"))
    conv\x1b[2J
    """
    if text.isprintable():
        return text
    return "\n".join(
        "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        for line in text.split("\n")
    )


def print_json(document: Any) -> None:
    """Print one JSON document on standard output; non-finite numbers become ``null``."""
    click.echo(json.dumps(_finite(document), indent=1, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value
