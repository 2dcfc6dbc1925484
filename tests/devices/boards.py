"""Emulated boards for tests."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import made_once
import pytest

from edgeconv.devices import _userland
from edgeconv.devices._emulated_boards import Board, find_board
from edgeconv.devices._userland import Built
from edgeconv.errors import UnavailableError


def folder() -> Path:
    """Where the boards lie; the same for all processes of a run."""
    return made_once.cache() / "devices"


def built(board: Board | str, base: Path) -> Built:
    """The board, made if it is not there; the test skips where this machine has no apt or no network."""
    board = find_board(board) if isinstance(board, str) else board
    try:
        return _userland.build(board, base)
    except UnavailableError as error:
        if any(
            sign in error.what for sign in ("apt is not installed", "no source of Debian", "network does not")
        ):
            pytest.skip(f"no emulated board can be made here: {error}")
        raise


def with_packages(board: Board, name: str, packages: tuple[str, ...], runtimes: tuple[str, ...]) -> Board:
    """A board of another name with more packages, and of its runtimes those named."""
    userland = dataclasses.replace(
        board.userland,
        packages=(*board.userland.packages, *packages),
        runtimes=tuple(each for each in board.userland.runtimes if each.id in runtimes),
    )
    return dataclasses.replace(board, name=name, userland=userland)
