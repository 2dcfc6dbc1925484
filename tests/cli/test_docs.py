"""The pages on the commands and the gate say what the code does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from edgeconv.cli.main import group
from edgeconv.comparison.tolerances import KEYS, TOLERANCES
from edgeconv.errors import ExitCode

DOCS = Path(__file__).parents[2] / "docs"
COMMANDS = group.list_commands(None)  # type: ignore[arg-type]


def section(page: str, heading: str) -> str:
    """The text under a heading, up to the next one of its level."""
    text = (DOCS / page).read_text()
    level = heading.partition(" ")[0]
    start = text.index(f"{heading}\n")
    following = re.search(rf"^{level} ", text[start + 1 :], re.MULTILINE)
    return text[start : start + 1 + following.start()] if following else text[start:]


def rows(table: str) -> list[list[str]]:
    """The cells of a Markdown table, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


def parameters(command: click.Command) -> list[click.Parameter]:
    """Of a command, and of those below it."""
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return [*command.params, *(each for inner in below for each in parameters(inner))]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_of_every_command_is_in_the_page(name: str) -> None:
    command = group.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    text = section("commands.md", f"## edgeconv {name}") + section("commands.md", "## Flags of every command")
    for parameter in parameters(command):
        if isinstance(parameter, click.Option):
            assert any(f"`{flag}" in text for flag in parameter.opts), f"{parameter.opts} is not documented"
        else:
            assert str(parameter.name).upper() in text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_names_no_flag_that_a_command_has_not(name: str) -> None:
    command = group.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    known = {flag for parameter in parameters(command) for flag in parameter.opts} | {"--help", "-h"}
    table = [row[0] for row in rows(section("commands.md", f"## edgeconv {name}"))]
    named = {flag for cell in table for flag in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", cell)}
    assert named <= known


def test_the_exit_codes_are_those_of_the_code() -> None:
    listed = {int(row[0]) for row in rows(section("commands.md", "## Exit codes"))}
    assert listed == {int(code) for code in ExitCode}


def test_the_tolerances_are_those_of_the_code() -> None:
    table = section("gate.md", "## Tolerances").split("\n\n")
    (found,) = [rows(block) for block in table if block.startswith("| bound")]
    head = next(
        line for line in section("gate.md", "## Tolerances").splitlines() if line.startswith("| bound")
    )
    precisions = [cell.strip() for cell in head.strip("|").split("|")][1:-1]
    assert precisions == list(TOLERANCES)
    assert [row[0] for row in found] == list(KEYS)
    for row in found:
        for precision, said in zip(precisions, row[1:], strict=False):
            value = getattr(TOLERANCES[precision], row[0])
            if said in ("-", "no"):
                assert value in (None, False)
            else:
                assert float(said) == pytest.approx(float(value), rel=1e-2), (row[0], precision)


PAGES = sorted(
    [*DOCS.glob("inputs/*.md"), DOCS / "surgery.md", DOCS / "failures.md", DOCS.parent / "README.md"]
)
_LINE = re.compile(r"^(?: {4})?\$? ?(edgeconv [a-z].*)$", re.MULTILINE)
_WITHIN = re.compile(r"`(edgeconv [a-z][^`]*)`")


def commands_in(text: str) -> list[list[str]]:
    """The commands that a page tells to type, as words: a line of their own, or within a sentence."""
    joined = re.sub(r"\n(?! {4}|\$|\||\n|```)", " ", text)
    blocks = [line.partition("  #")[0].partition(" 2> ")[0] for line in _LINE.findall(text)]
    return [shlex.split(command) for command in [*blocks, *_WITHIN.findall(joined)]]


def parsed(words: list[str]) -> None:
    """Hold one command to the options that the code has; raises what a person would be told."""
    command: click.Command | None = group
    rest = words[1:]
    while isinstance(command, click.Group) and rest:
        command = command.get_command(click.Context(command), rest.pop(0))
    assert command is not None, f"there is no command {words}"
    known = {flag: option for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    for word in rest:
        flag = word.partition("=")[0]
        if flag.startswith("-") and flag != "-":
            assert flag in known or flag in ("-h", "--help"), f"{' '.join(words)}: there is no {flag}"


@pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: page.name if page.parent == DOCS else str(page)[-28:]
)
def test_every_command_of_a_page_is_one_that_can_be_typed(page: Path) -> None:
    for words in commands_in(page.read_text()):
        parsed(words)


def test_the_pages_on_inputs_tell_what_to_type() -> None:
    for page in DOCS.glob("inputs/*.md"):
        assert commands_in(page.read_text()), page.name
        assert page.read_text().startswith("# I have "), page.name
        if page.name != "README.md":
            assert f"({page.name}" in (DOCS / "inputs" / "README.md").read_text(), "the list leaves it out"


def test_every_flag_that_a_page_names_belongs_to_some_command() -> None:
    names = [group.get_command(None, name) for name in COMMANDS]  # type: ignore[arg-type]
    known = {flag for command in names if command for option in command.params for flag in option.opts}
    for page in DOCS.glob("inputs/*.md"):
        text = page.read_text()
        if page.name == "graphdef.md":  # its first column has the flags of another tool
            text = re.sub(r"^\| `--[^|]*\|", "|", text, flags=re.MULTILINE)
        for flag in re.findall(r"`(--[a-z][\w-]*)", text):
            assert flag in known, f"{page.name} names {flag}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*DOCS.rglob("*.md"), DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#]+\.md)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).is_file(), f"{page.name} links {target}"
