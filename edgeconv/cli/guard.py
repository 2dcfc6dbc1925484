"""Turns whatever happens into a message for a person and a documented exit code."""

from __future__ import annotations

import sys
import traceback

import click

from edgeconv.errors import EdgeconvError, ExitCode


def guarded(group: click.Command) -> int:
    """Run the command line; returns its exit code.

    With ``--debug`` anywhere on the line, errors come with their traceback.
    """
    debug = "--debug" in sys.argv[1:]
    try:
        result = group.main(standalone_mode=False)
        return int(result) if isinstance(result, int) else ExitCode.OK
    except click.exceptions.Abort:
        return _interrupted()
    except KeyboardInterrupt:
        return _interrupted()
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except EdgeconvError as error:
        if debug:
            traceback.print_exc()
        show_error(error)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away, which is its right
        return ExitCode.OK
    except Exception as error:
        if debug:
            traceback.print_exc()
        click.echo(
            f"edgeconv has a defect: {type(error).__name__}: {error}\n"
            "  Run it again with --debug and report what it prints.",
            err=True,
        )
        return ExitCode.DEFECT


def show_error(error: EdgeconvError) -> None:
    """Print an error to standard error: what and where and why on one line, then what to do."""
    click.echo(f"{click.style('error:', fg='red', bold=True)} {error}", err=True)
    if error.hint:
        click.echo(f"  {click.style('→', fg='cyan')} {error.hint}", err=True)


def _interrupted() -> int:
    click.echo("interrupted; what was finished is kept, the same command goes on from there", err=True)
    return ExitCode.INTERRUPTED
