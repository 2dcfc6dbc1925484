"""Turns whatever happens into a message for a person and a documented exit code."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import textwrap
import threading
import traceback
from types import FrameType

import click

from edgeconv.cli.options import plain, print_json
from edgeconv.errors import EdgeconvError, ExitCode


def guarded(group: click.Command) -> int:
    """Run the command line; returns its exit code.

    With ``--debug`` anywhere on the line, errors come with their traceback; with ``--json``, standard
    output has ``{"error": {…}}`` where there is no result.
    """
    debug = "--debug" in sys.argv[1:]
    if threading.current_thread() is threading.main_thread():
        # What ends a run from outside (a timeout, a service manager) leaves it as resumable as Ctrl-C does.
        signal.signal(signal.SIGTERM, _interrupt)
    try:
        result = group.main(standalone_mode=False)
        sys.stdout.flush()
        return int(result) if isinstance(result, int) else ExitCode.OK
    except (click.exceptions.Abort, KeyboardInterrupt):
        what = "interrupted"
        click.echo(f"{what}; what was finished is kept, the same command goes on from there", err=True)
        return _told(ExitCode.INTERRUPTED, what, hint="run the same command again")
    except click.ClickException as error:
        error.show()
        return _told(ExitCode.USAGE, error.format_message())
    except EdgeconvError as error:
        if debug:
            traceback.print_exc()
        show_error(error)
        return _told(error.exit_code, error.what, where=error.where, why=error.why, hint=error.hint)
    except BrokenPipeError:
        # The reader of our output went away, which is its right; nothing may be flushed to it at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as error:
        if debug:
            traceback.print_exc()
        what = f"{type(error).__name__}: {error}"
        click.echo(
            f"edgeconv has a defect: {plain(what)}\n  Run it again with --debug and report what it prints.",
            err=True,
        )
        return _told(ExitCode.DEFECT, what, hint="run it again with --debug and report what it prints")


def show_error(error: EdgeconvError) -> None:
    """Print an error to standard error: what and where and why on one line, then what to do."""
    said = _lines(f"error: {plain(str(error))}", "  ").removeprefix("error:")
    click.echo(f"{click.style('error:', fg='red', bold=True)}{said}", err=True)
    if error.hint:
        hint = _lines(f"  → {plain(error.hint)}", "    ").removeprefix("  →")
        click.echo(f"  {click.style('→', fg='cyan')}{hint}", err=True)


def _lines(text: str, indent: str) -> str:
    """Broken between words on a terminal, where names and paths stay whole; elsewhere as it is."""
    if not sys.stderr.isatty():
        return text
    width = shutil.get_terminal_size().columns
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        for line in text.split("\n")
    )


def _interrupt(number: int, frame: FrameType | None) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


def _told(code: ExitCode, what: str, **more: str | None) -> int:
    """The exit code, after the error was also said as JSON where that was asked for."""
    if "--json" in sys.argv[1:]:
        print_json({"error": {"what": what, **more, "exit_code": int(code)}})
    return code
