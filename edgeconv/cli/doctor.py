"""``edgeconv doctor``."""

from __future__ import annotations

import click

from edgeconv.cli.options import common, example, plain, print_json

_MARKS = {"here": ("✓", "green"), "missing": ("-", "yellow"), "wrong": ("✗", "red")}


@click.command("doctor", epilog=example("edgeconv doctor", "edgeconv doctor -v", "edgeconv doctor --json"))
@common
def command(as_json: bool, quiet: bool, verbose: int, debug: bool) -> int:
    """What this machine can do, and what is missing: each with the command that brings it.

    Nothing is installed and no board is asked. What is missing may be something that you never need: the exit
    code is 0.
    """
    from dataclasses import asdict

    from edgeconv.recipe.doctor import examine

    findings = examine()
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings]})
        return 0
    group = ""
    for finding in findings:
        if quiet and finding.state != "wrong":
            continue
        if finding.group != group:
            group = finding.group
            click.echo(click.style(group, bold=True))
        mark, colour = _MARKS[finding.state]
        text = finding.found or (f"not here ({finding.needed_for})" if finding.needed_for else "not here")
        click.echo(f"  {click.style(mark, fg=colour)} {plain(finding.name)}: {plain(text)}")
        if finding.hint:
            click.echo(f"      → {plain(finding.hint)}")
    return 0
