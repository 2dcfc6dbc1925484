"""Emulated boards for tests: made once a session, or once for all with ``EDGECONV_TEST_CACHE=FOLDER``."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from edgeconv.devices import _userland
from edgeconv.devices._emulated_boards import Board, find_board
from edgeconv.devices._userland import Built
from edgeconv.errors import UnavailableError


def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this session's boards lie; the same for all of its processes."""
    kept = os.environ.get("EDGECONV_TEST_CACHE")
    if kept:
        return Path(kept) / "devices"
    base = tmp_path_factory.getbasetemp()
    return (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "boards"


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
