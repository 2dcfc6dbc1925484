"""The page on known failures says of each case which test holds it, and leaves no case out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "failures.md"
NUMBERED = {str(number) for number in range(1, 28)}
"""The cases that were measured when the project began; the others are called ``also`` and ``old``."""


def rows() -> list[list[str]]:
    """The rows of all tables of the page: number, case, plain tools, edgeconv, test."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    found = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in found if row[0].strip() not in ("#", "---")]


def names_in(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_no_case_is_left_out() -> None:
    kinds = [row[0] for row in rows()]
    assert set(kinds) >= NUMBERED
    assert set(kinds) <= NUMBERED | {"also", "old"}
    assert kinds.count("also") >= 6
    assert kinds.count("old") >= 15


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]} {row[1][:40]}")
def test_each_case_says_what_happens_and_is_held_by_a_test_that_exists(row: list[str]) -> None:
    assert len(row) == 5
    assert all(row)
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row[4])
    assert named, f"no test is named: {row[4]}"
    for file, test in named:
        assert test in names_in(ROOT / file), f"{file} has no {test}"
